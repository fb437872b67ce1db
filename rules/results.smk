# Collect the evaluations of one table or figure, a row a seed, so that it does not wait for those of others.
rule collect_experiment:
    input:
        shards=shards,
        synthetic_sets=synthetic_files("images.safetensors"),
        datasets=dataset_files("images.safetensors"),
    output:
        results="<results>/collected/{experiment}.parquet",
    log:
        "<logs>/collect_experiment/{experiment}.log",
    conda:
        "../envs/elf.yaml"
    params:
        scale=PLAN.settings.name,
        digest=results_digest,
        code=code_id(code.code_of(kinds.OF_EXPERIMENTS)),
    shell:
        r"""
        python -m elf collect --scale {params.scale:q} --digest {params.digest:q} \
            --experiment {wildcards.experiment:q} --results {output.results:q} >{log:q} 2>&1
        """


# Collect all evaluations, a row a seed.
rule collect_results:
    input:
        shards=shards,
        synthetic_sets=synthetic_files("images.safetensors"),
        datasets=dataset_files("images.safetensors"),
    output:
        results="<results>/results.parquet",
    log:
        "<logs>/collect_results.log",
    conda:
        "../envs/elf.yaml"
    params:
        scale=PLAN.settings.name,
        digest=PLAN.results_digest(),
        code=code_id(code.code_of(kinds.RESULTS)),
    shell:
        r"""
        python -m elf collect --scale {params.scale:q} --digest {params.digest:q} \
            --results {output.results:q} >{log:q} 2>&1
        """


# Draw a table in four formats.
rule draw_table:
    input:
        results="<results>/collected/{table}.parquet",
        template=shown_by(kinds.TABLES),
    output:
        markdown="<results>/tables/{table}.md",
        latex="<results>/tables/{table}.tex",
        data="<results>/tables/{table}.csv",
        html="<results>/tables/{table}.html",
    log:
        "<logs>/draw_table/{table}.log",
    conda:
        "../envs/elf.yaml"
    params:
        scale=PLAN.settings.name,
        folder=lambda wildcards, output: os.path.dirname(output.markdown),
        digest=table_digest,
        code=code_id(code.code_of(kinds.TABLES)),
    shell:
        r"""
        python -m elf table {wildcards.table:q} --scale {params.scale:q} --digest {params.digest:q} \
            --results {input.results:q} --folder {params.folder:q} >{log:q} 2>&1
        """


# Draw a figure in three formats, with its data.
rule draw_figure:
    input:
        results="<results>/collected/{figure}.parquet",
    output:
        pdf="<results>/figures/{figure}.pdf",
        png="<results>/figures/{figure}.png",
        svg="<results>/figures/{figure}.svg",
        data="<results>/figures/{figure}.csv",
    log:
        "<logs>/draw_figure/{figure}.log",
    conda:
        "../envs/elf.yaml"
    params:
        scale=PLAN.settings.name,
        folder=lambda wildcards, output: os.path.dirname(output.pdf),
        digest=figure_digest,
        code=figure_code,
    shell:
        r"""
        python -m elf figure {wildcards.figure:q} --scale {params.scale:q} --digest {params.digest:q} \
            --results {input.results:q} --folder {params.folder:q} >{log:q} 2>&1
        """


# Say of each number of the paper whether it was reproduced, of each claim whether it holds, and check the paper itself.
rule compare_with_paper:
    input:
        results="<results>/results.parquet",
        printed=shown_by(kinds.VERDICTS),
    output:
        cells="<results>/verdicts/comparison.csv",
        comparison="<results>/verdicts/comparison.md",
        claims="<results>/verdicts/claims.md",
        audit="<results>/verdicts/audit.md",
    log:
        "<logs>/compare_with_paper.log",
    conda:
        "../envs/elf.yaml"
    params:
        scale=PLAN.settings.name,
        folder=lambda wildcards, output: os.path.dirname(output.claims),
        digest=PLAN.drawings_digest,
        code=code_id(code.code_of(kinds.VERDICTS)),
    shell:
        r"""
        python -m elf verdicts --scale {params.scale:q} --digest {params.digest:q} \
            --results {input.results:q} --folder {params.folder:q} >{log:q} 2>&1
        """


# Write everything into a folder of pages that open offline; the first page comes last.
rule write_report:
    input:
        results="<results>/results.parquet",
        figures=drawings("figure", "svg", "csv"),
        cards=dataset_files("card.json"),
        pictures=synthetic_files("contact_sheet.png"),
        shown=shown_by(kinds.REPORT),
    output:
        page="<results>/report/index.html",
    log:
        "<logs>/write_report.log",
    conda:
        "../envs/elf.yaml"
    params:
        scale=PLAN.settings.name,
        folder=lambda wildcards, output: os.path.dirname(output.page),
        digest=PLAN.report_digest,
        code=code_id(code.code_of(kinds.REPORT)),
    shell:
        r"""
        python -m elf report --scale {params.scale:q} --digest {params.digest:q} \
            --folder {params.folder:q} >{log:q} 2>&1
        """


rule all_tables:
    input:
        drawings("table"),


rule all_figures:
    input:
        drawings("figure"),
        synthetic_files("contact_sheet.png"),


rule verdicts:
    input:
        rules.compare_with_paper.output,


rule report:
    input:
        rules.write_report.output,


# A target for each table and figure of the scale.
for name, files in DRAWINGS.items():

    rule:
        name:
            name
        input:
            files,
        localrule: True
