# Train a teacher and keep the state at one epoch. The jobs of one teacher share the file of its training, which
# the first of them makes for all epochs that the grid asks for while the others wait. That file is no output:
# the training would run again when an epoch is added to the grid, and with it everything behind the checkpoints
# that exist. As it is, only the new checkpoint is missing, and training again gives the same states.
rule train_teacher:
    input:
        dataset="<results>/datasets/{dataset}/images.safetensors",
    output:
        checkpoint="<results>/teachers/{dataset}/{network}/epoch{epoch}.safetensors",
    log:
        "<logs>/train_teacher/{dataset}/{network}-epoch{epoch}.log",
    benchmark:
        "<benchmarks>/train_teacher/{dataset}/{network}-epoch{epoch}.jsonl"
    priority: priority_of("teachers/{dataset}/{network}/epoch{epoch}.safetensors")
    conda:
        "../envs/elf.yaml"
    threads: 1
    params:
        settings=settings_of(kinds.TRAININGS),
        code=code_of(kinds.TRAININGS),
        # Snakemake does not compare what comes from a function of the output.
        epochs=checkpoint_epochs,
        training=lambda wildcards, output: os.path.join(os.path.dirname(output.checkpoint), "training.safetensors"),
    shell:
        r"""
        python -m elf train-teacher --settings {params.settings:q} --code {params.code:q} \
            --dataset {input.dataset:q} --training {params.training:q} --epochs {params.epochs} \
            --threads {threads} >{log:q} 2>&1
        python -m elf keep-checkpoint --training {params.training:q} --epoch {wildcards.epoch:q} \
            --out {output.checkpoint:q} >>{log:q} 2>&1
        """
