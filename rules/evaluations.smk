# Train networks on a synthetic set, one for each seed of the shard, and test them on real images.
rule evaluate:
    input:
        images="<results>/synthetic/{dataset}/{synthetic_set}/images.safetensors",
        dataset="<results>/datasets/{dataset}/images.safetensors",
        features=inputs_of(kinds.EVALUATIONS, "features"),
    output:
        shard="<results>/evaluations/{dataset}/{synthetic_set}/{network}/{cell}/{shard}.parquet",
    log:
        "<logs>/evaluate/{dataset}/{synthetic_set}/{network}/{cell}/{shard}.log",
    benchmark:
        "<benchmarks>/evaluate/{dataset}/{synthetic_set}/{network}/{cell}/{shard}.jsonl"
    priority: priority_of("evaluations/{dataset}/{synthetic_set}/{network}/{cell}/{shard}.parquet")
    conda:
        "../envs/elf.yaml"
    threads: 1
    params:
        settings=settings_of(kinds.EVALUATIONS),
        code=code_of(kinds.EVALUATIONS),
    shell:
        r"""
        python -m elf evaluate --settings {params.settings:q} --code {params.code:q} \
            --images {input.images:q} --dataset {input.dataset:q} --features {input.features:q} \
            --shard {output.shard:q} --threads {threads} >{log:q} 2>&1
        """
