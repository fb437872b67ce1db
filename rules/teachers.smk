# Train a teacher until the last epoch that the grid asks for.
rule train_teacher:
    input:
        dataset="<results>/datasets/{dataset}/images.safetensors",
    output:
        training=temp("<results>/teachers/{dataset}/{network}/training.safetensors"),
    log:
        "<logs>/train_teacher/{dataset}/{network}.log",
    benchmark:
        "<benchmarks>/train_teacher/{dataset}/{network}.jsonl"
    # A teacher is the longest chain: nothing should wait for it that need not.
    priority: 10
    conda:
        "../envs/elf.yaml"
    threads: 1
    params:
        settings=settings_from(teacher_spec),
        code=code_from(code.train_teacher_code, teacher_spec),
        epochs=checkpoint_epochs,
    shell:
        r"""
        python -m elf train-teacher --settings {params.settings:q} --code {params.code:q} \
            --dataset {input.dataset:q} --training {output.training:q} --epochs {params.epochs} \
            --threads {threads} >{log:q} 2>&1
        """


# Keep one checkpoint. The training is 'ancient': when an epoch is added to the grid it runs again and gives
# the same states, so the checkpoints that exist stay, and so does what was made from them. A change of the
# recipe, the code or the dataset is seen through params and the dataset.
rule keep_checkpoint:
    input:
        training=ancient("<results>/teachers/{dataset}/{network}/training.safetensors"),
        dataset="<results>/datasets/{dataset}/images.safetensors",
    output:
        checkpoint="<results>/teachers/{dataset}/{network}/epoch{epoch}.safetensors",
    log:
        "<logs>/keep_checkpoint/{dataset}/{network}-epoch{epoch}.log",
    conda:
        "../envs/elf.yaml"
    params:
        settings=settings_from(teacher_spec),
        code=code_from(code.train_teacher_code, teacher_spec),
    shell:
        r"""
        python -m elf keep-checkpoint --training {input.training:q} --epoch {wildcards.epoch:q} \
            --out {output.checkpoint:q} >{log:q} 2>&1
        """
