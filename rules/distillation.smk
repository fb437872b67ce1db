# Make a synthetic set.
rule distill:
    input:
        dataset="<results>/datasets/{dataset}/images.safetensors",
        experts=inputs_of(kinds.SETS, "expert .*"),
        imported=inputs_of(kinds.SETS, "imported set"),
    output:
        images="<results>/synthetic/{dataset}/{synthetic_set}/images.safetensors",
    log:
        "<logs>/distill/{dataset}/{synthetic_set}.log",
    benchmark:
        "<benchmarks>/distill/{dataset}/{synthetic_set}.jsonl"
    priority: priority_of("synthetic/{dataset}/{synthetic_set}/images.safetensors")
    conda:
        "../envs/elf.yaml"
    threads: 1
    params:
        settings=settings_of(kinds.SETS),
        code=code_of(kinds.SETS),
    shell:
        r"""
        python -m elf distill --settings {params.settings:q} --code {params.code:q} \
            --dataset {input.dataset:q} --experts {input.experts:q} --imported {input.imported:q} \
            --images {output.images:q} --threads {threads} >{log:q} 2>&1
        """


# Draw the images of a synthetic set as one picture.
rule draw_contact_sheet:
    input:
        images="<results>/synthetic/{dataset}/{synthetic_set}/images.safetensors",
        dataset="<results>/datasets/{dataset}/images.safetensors",
    output:
        picture="<results>/synthetic/{dataset}/{synthetic_set}/contact_sheet.png",
    log:
        "<logs>/draw_contact_sheet/{dataset}/{synthetic_set}.log",
    conda:
        "../envs/elf.yaml"
    params:
        code=code_id(code.code_of(kinds.SHEETS)),
    shell:
        r"""
        python -m elf contact-sheet --images {input.images:q} --dataset {input.dataset:q} \
            --picture {output.picture:q} >{log:q} 2>&1
        """
