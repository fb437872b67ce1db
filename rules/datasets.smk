# Read real images into one verified file, with a card that describes them.
rule prepare_dataset:
    input:
        real_images,
    output:
        images="<results>/datasets/{dataset}/images.safetensors",
        card="<results>/datasets/{dataset}/card.json",
    log:
        "<logs>/prepare_dataset/{dataset}.log",
    benchmark:
        "<benchmarks>/prepare_dataset/{dataset}.jsonl"
    priority: priority_of("datasets/{dataset}/images.safetensors")
    conda:
        "../envs/elf.yaml"
    threads: 1
    params:
        settings=dataset_settings,
        code=dataset_code,
        source=source_state,
        # No setting: Snakemake does not compare what comes from a function of the output.
        data_folder=lambda wildcards, output: os.fspath(data_folder()),
    shell:
        r"""
        python -m elf prepare-dataset --settings {params.settings:q} --code {params.code:q} \
            --data-folder={params.data_folder:q} --images {output.images:q} --card {output.card:q} \
            --threads {threads} >{log:q} 2>&1
        """
