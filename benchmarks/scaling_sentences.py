"""The sentences of docs/scaling.md that hold numbers, from the frames of docs/results/scaling/*.csv."""

import textwrap

import numpy as np
from scaling_tables import RULES, SPEEDS, Frames, graph_medians, profile_runs, shortened

from elf.status.text import hours, space

CARDS = (40, 80, 141)
"""Gigabytes of GPUs by their data sheets: A100, A100 and H100, H200."""
CHECKPOINT_SECONDS = 300
WIDTH = 120


def answer(frames: Frames) -> str:
    """Say what the tables show."""
    sums = frames["kinds"].sum(numeric_only=True)
    slow, assumed, fast = (hours(3600 * sums[f"hours {speed}"]) for speed in SPEEDS)
    enough = frames["sensitivity"]["enough_devices"]
    simulated_enough = frames["sensitivity"]["enough_in_the_simulation"].iloc[0]
    simulated = profile_runs(frames, "assumed")["hours"][RULES]
    gain = 100 * (1 - simulated[64] / simulated[16])
    spent = {row["part"]: hours(3600 * row["hours"]) for row in frames["parts"].to_dict("records")}
    jobs = frames["longest_jobs"]
    top = jobs[jobs["speed"] == "assumed"].head(3)
    each, share = [hours(3600 * value) for value in top["hours"]], 100 * top["hours"].sum() / sums["hours assumed"]
    return _listed(
        f"""The {sums["jobs"]:,.0f} jobs take {assumed} GPU hours at the assumed speeds, {fast} at three times these
        speeds and {slow} at a third of them.""",
        f"""Of these hours, {spent["operations"]} are operations, {spent["calls of layers"]} calls of layers, however
        small, {spent["numbers of images"]} reading and augmenting images, and {spent["starts"]} starts. So the rate of
        operations is what has to be measured first.""",
        f"""With {enough.iloc[0]} GPUs, list scheduling is within 10 % of the longest chain of jobs that wait for each
        other; with the order that Snakemake has them in, {simulated_enough} GPUs are. From 16 to 64 GPUs the simulated
        time falls by {gain:.0f} %. That follows from proportions between jobs, and holds at all speeds that are off by
        the same factor.""",
        f"""If the speed of one stage alone is off by a factor of three, the first of these numbers lies between
        {enough.min()} and {enough.max()}.""",
        f"""Three jobs decide: {", ".join(map(shortened, top["job"]))}. They take {", ".join(each)} hours, {share:.0f} %
        of all.""",
    )


def ask(frames: Frames) -> str:
    """Say what a cluster has to offer."""
    memory, sums = frames["unrolled"]["gigabytes"], frames["kinds"].sum(numeric_only=True)
    runs, settings = frames["runs"], frames["settings"].iloc[0]
    fitting = ", ".join(f"{(memory < size).sum()} in {size} GB" for size in CARDS)
    enough = frames["sensitivity"]["enough_devices"]
    rate = runs["checkpoint_bytes_per_second"].max()
    of_size = runs.groupby("evaluations_per_group")["submissions"].first()
    files = frames["folders"].set_index("folder")["files"]["all"]
    return _listed(
        f"""**GPUs:** {enough.iloc[0]} to {enough.max()}; further ones do not shorten the longest chain.""",
        f"""**Memory of a GPU:** of the {len(memory)} sets that unroll a student, {fitting} are expected to fit. The
        largest needs {memory.max():.0f} GB.""",
        f"""**Disk:** {space(sums["bytes"])}, nearly all of it experts ([experts.md](experts.md): bfloat16 takes half),
        and some {round(files, -2):,} files, on a file system that all nodes share.""",
        f"""**Writing:** with 64 GPUs, checkpoints of at most {space(rate * CHECKPOINT_SECONDS)} every five minutes,
        {space(rate)}/s on average.""",
        f"""**Submissions:** {of_size[settings["evaluations_per_group"]]:,.0f} in all, {of_size[1]:,.0f} without
        groups; at most {runs["submissions_in_the_busiest_minute"].max()} in a minute, and {settings["in_flight"]} in
        the queue at a time.""",
    )


def graph_notes(frames: Frames) -> str:
    """Say what the growth of the graph means for the process that submits, and for the jobs."""
    found = graph_medians(frames)
    run, one = found.loc["dry run"], found.loc["dry run of one evaluation"]
    planning = found.loc["make_plan"]["cpu_seconds"]
    least, most = run.index[0], run.index[-1]
    starting = 2 * one["cpu_seconds"][most] * most / 3600
    slope = np.polyfit(run.index, run["peak_bytes"], 1)[0]
    of = frames["graph"].iloc[0]
    repeats = frames["graph"].groupby(["what", "jobs"]).size().min()
    return _listed(
        f"""Measured on {of["where"]} that others shared, Snakemake {of["snakemake"]}, Python {of["python"]}; medians of
        {repeats} runs. Wall seconds depend on the others, CPU seconds on the machine; what they are to the smallest
        graph stands in brackets.""",
        f"""A dry run of {most:,} jobs takes {run["cpu_seconds"][most]:.0f} CPU seconds and
        {space(run["peak_bytes"][most])}, and {space(1000 * slope)} more with each thousand jobs. Reading `config/` and
        deriving the grid (`make_plan`) is {planning[most]:.1f} s of that.""",
        f"""A SLURM job starts Snakemake twice, and each start derives the whole grid:
        {one["cpu_seconds"][most]:.1f} CPU seconds with {most:,} jobs, {one["cpu_seconds"][least]:.1f} with {least:,}.
        Submitted one by one, the jobs of the largest graph would hold GPUs for {starting:.0f} hours while they start.
        Groups divide that.""",
    )


def _listed(*sentences: str) -> str:
    lines = (" ".join(sentence.split()) for sentence in sentences)
    options = {"break_long_words": False, "break_on_hyphens": False, "initial_indent": "- ", "subsequent_indent": "  "}
    return "\n".join(textwrap.fill(line, WIDTH, **options) for line in lines)
