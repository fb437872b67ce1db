# Train one expert and keep its snapshots. Every expert is a job: they run side by side, and a lost one is one job.
rule train_expert:
    input:
        dataset="<results>/datasets/{dataset}/images.safetensors",
    output:
        expert="<results>/experts/{dataset}/{buffer}/expert{index}.safetensors",
    log:
        "<logs>/train_expert/{dataset}/{buffer}/expert{index}.log",
    benchmark:
        "<benchmarks>/train_expert/{dataset}/{buffer}/expert{index}.jsonl"
    priority: priority_of("experts/{dataset}/{buffer}/expert{index}.safetensors")
    conda:
        "../envs/elf.yaml"
    threads: 1
    params:
        settings=settings_of(kinds.EXPERTS),
        code=code_of(kinds.EXPERTS),
    shell:
        r"""
        python -m elf train-expert --settings {params.settings:q} --code {params.code:q} \
            --dataset {input.dataset:q} --expert {output.expert:q} --threads {threads} >{log:q} 2>&1
        """
