# The whole study: from real images to tables, figures and a report.
#
#   snakemake --profile profiles/local                       everything at the scale of config/config.yaml
#   snakemake --profile slurm all_tables                     the paper on a cluster; also slurm-gpu4 and workstation
#   snakemake --profile profiles/local table05 figure3       some of it
#   snakemake --profile profiles/local --config scale=laptop another scale

from snakemake.utils import min_version

min_version("9.19")


# Reads config/config.yaml, which lies beside this file wherever Snakemake was started.
include: "rules/common.smk"


pathvars:
    results=PLAN.folder.as_posix(),
    logs=f"logs/{PLAN.settings.name}",
    benchmarks=f"timings/{PLAN.settings.name}",


wildcard_constraints:
    dataset="[^/]+",
    synthetic_set="[^/]+",
    buffer="[^/]+",
    index="[0-9]+",
    network="[^/]+",
    cell="[^/]+",
    shard="seeds[0-9]+-[0-9]+",
    epoch="[0-9]+",
    experiment="(table|figure)[0-9]+",
    table="table[0-9]+",
    figure="figure[0-9]+",


include: "rules/datasets.smk"
include: "rules/experts.smk"
include: "rules/distillation.smk"
include: "rules/teachers.smk"
include: "rules/features.smk"
include: "rules/evaluations.smk"
include: "rules/results.smk"


# Seconds each: on a cluster they run where Snakemake runs.
localrules:
    all,
    all_tables,
    all_figures,
    verdicts,
    report,
    draw_contact_sheet,
    collect_experiment,
    collect_results,
    draw_table,
    draw_figure,
    compare_with_paper,
    write_report,


rule all:
    default_target: True
    input:
        rules.all_tables.input,
        rules.all_figures.input,
        rules.verdicts.input,
        rules.report.input,


# All rules are known by now: what is said and looked at before the first job.
include: "rules/start.smk"
