# Extract what a teacher gives for each clean synthetic image.
rule extract_features:
    input:
        images="<results>/synthetic/{dataset}/{synthetic_set}/images.safetensors",
        teacher="<results>/teachers/{dataset}/{network}/epoch{epoch}.safetensors",
    output:
        features="<results>/features/{dataset}/{synthetic_set}/{network}-epoch{epoch}.safetensors",
    log:
        "<logs>/extract_features/{dataset}/{synthetic_set}/{network}-epoch{epoch}.log",
    benchmark:
        "<benchmarks>/extract_features/{dataset}/{synthetic_set}/{network}-epoch{epoch}.jsonl"
    priority: priority_of("features/{dataset}/{synthetic_set}/{network}-epoch{epoch}.safetensors")
    conda:
        "../envs/elf.yaml"
    threads: 1
    params:
        settings=settings_of(kinds.FEATURES),
        code=code_of(kinds.FEATURES),
    shell:
        r"""
        python -m elf extract-features --settings {params.settings:q} --code {params.code:q} \
            --images {input.images:q} --teacher {input.teacher:q} --features {output.features:q} \
            --threads {threads} >{log:q} 2>&1
        """
