"""The tables of docs/scaling.md, from the frames of docs/results/scaling/*.csv."""

import numpy as np
import pandas as pd

from elf.status.text import hours, space

SPEEDS = ("three times lower", "assumed", "three times higher")
RULES, KINDS, SECONDS = ORDERS = ("priorities of the rules", "experts and teachers first", "chain of seconds")
SHOWN = 16
"""GPUs of the table about groups."""
MATTERS = 0.03
"""Change of all hours together from which a stage is shown."""

Frames = dict[str, pd.DataFrame]


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown; all columns but the first are aligned to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def profile_runs(frames: Frames, speed: str) -> pd.DataFrame:
    """Return the runs with the groups of the profile, by number of devices, with both orders in their columns."""
    runs, size = frames["runs"], frames["settings"]["evaluations_per_group"].item()
    own = runs[(runs["speed"] == speed) & (runs["evaluations_per_group"] == size)]
    return own.pivot(index="devices", columns="order")


def wall_time(frames: Frames) -> str:
    found = {speed: profile_runs(frames, speed)["hours"][RULES] for speed in SPEEDS}
    days = [
        [str(devices), *(f"{hours(3600 * of[devices])} ({of[devices] / 24:.1f})" for of in found.values())]
        for devices in found["assumed"].index
    ]
    chain = [chain_hours(frames, speed) for speed in SPEEDS]
    rows = [*days, ["any number", *(f"{hours(3600 * value)} ({value / 24:.1f})" for value in chain)]]
    return table(["GPUs", *(f"speeds {speed}: hours (days)" for speed in SPEEDS)], rows)


def chain_hours(frames: Frames, speed: str) -> float:
    """Return the hours of the longest chain of jobs, with nothing that a cluster adds."""
    return profile_runs(frames, speed)["chain_hours"][RULES].iloc[0]


def saturation(frames: Frames) -> str:
    found = profile_runs(frames, "assumed")
    rows = []
    for devices in found.index:
        of = {name: found[name][RULES][devices] for name in found.columns.levels[0] if name != "speed"}
        shared = of["device_hours"] / devices
        first = "GPUs" if shared > of["chain_hours"] else "longest chain"
        rows.append(
            [
                str(devices),
                hours(3600 * shared),
                hours(3600 * of["chain_hours"]),
                hours(3600 * of["hours"]),
                f"{100 * of['busy']:.0f} %",
                f"{of['submissions_in_the_busiest_minute']:.0f}",
                f"{100 * of['submitting_share']:.2g} %",
                f"{space(of['checkpoint_bytes_per_second'])}/s",
                f"**{first}**",
            ]
        )
    head = [
        "GPUs",
        "hours of all jobs / GPUs",
        "longest chain",
        "simulated",
        "GPUs busy",
        "submissions, busiest minute",
    ]
    return table([*head, "submitting process busy", "checkpoints at most", "what binds"], rows)


def longest(frames: Frames) -> str:
    jobs = frames["longest_jobs"].pivot(index="job", columns="speed", values="hours").sort_values("assumed")[::-1]
    memory = frames["unrolled"].set_index("job")["gigabytes"]
    rows = [
        [
            shortened(job),
            *map(hours, 3600 * jobs.loc[job, list(SPEEDS)]),
            f"{memory[job]:.0f} GB" if job in memory else "",
        ]
        for job in jobs.index
    ]
    return table(["job", *(f"hours, speeds {speed}" for speed in SPEEDS), "memory of the unroll"], rows)


def shortened(job: str) -> str:
    """Return what tells a job from others."""
    for ending in ("/images.safetensors", "/training.safetensors"):
        job = job.removesuffix(ending)
    return f"`{job}`"


def unrolled(frames: Frames) -> str:
    rows = [
        [shortened(row["job"]), str(row["steps"]), str(row["images_a_step"]), f"{row['gigabytes']:.0f}"]
        for row in frames["unrolled"].to_dict("records")
    ]
    return table(["set", "steps", "images a step", "GB"], rows)


def groups(frames: Frames) -> str:
    runs = frames["runs"]
    own = runs[(runs["speed"] == "assumed") & (runs["devices"] == SHOWN)]
    rows = []
    for size, of in own.groupby("evaluations_per_group"):
        by_order = of.set_index("order")
        values = [hours(3600 * by_order["hours"][order]) for order in ORDERS]
        starting = hours(3600 * by_order["hours_starting"][RULES])
        waiting = by_order["hours_waiting_for_a_teacher"][RULES]
        cells = [str(size), f"{by_order['submissions'][RULES]:,}", *values, starting]
        rows.append([*cells, hours(3600 * waiting) if waiting else "0"])
    head = ["evaluations a submission", "submissions", *(f"hours, {order}" for order in ORDERS)]
    return table([*head, "GPU hours starting jobs", "GPU hours waiting for a teacher"], rows)


def orders(frames: Frames) -> str:
    found = profile_runs(frames, "assumed")
    columns = [*(found["hours"][order] for order in ORDERS), found["list_scheduling_hours"][RULES]]
    rows = [[str(devices), *(hours(3600 * column[devices]) for column in columns)] for devices in found.index]
    return table(["GPUs", *(f"hours, {order}" for order in ORDERS), "list scheduling of `elf plan`"], rows)


def sensitivity(frames: Frames) -> str:
    """Draw the stages that matter for the sum of hours."""
    found = frames["sensitivity"]
    total = found["device_hours"].iloc[0]
    rows = []
    for row in found[(found["device_hours"] / total - 1).abs().gt(MATTERS) | (found["times"] == 1)].to_dict("records"):
        slower = {1.0: "", 3.0: "three times faster"}.get(round(row["times"], 3), "three times slower")
        values = [hours(3600 * row["device_hours"]), hours(3600 * row["chain_hours"])]
        values += [str(row["enough_devices"]), str(row["enough_in_the_simulation"])]
        rows.append([f"{row['stage']} {slower}".strip(), *values, shortened(row["longest_job"])])
    head = ["what differs", "GPU hours", "longest chain (h)", "GPUs worth having", "with the rules' priorities"]
    return table([*head, "longest job of the chain"], rows)


def kinds(frames: Frames) -> str:
    found = frames["kinds"]
    rows = [
        [
            row["kind"],
            f"{row['jobs']:,}",
            *(hours(3600 * row[f"hours {speed}"]) if row[f"hours {speed}"] else "" for speed in SPEEDS),
            space(row["bytes"]) if row["bytes"] else "",
            space(row["largest_checkpoint_bytes"]) if row["largest_checkpoint_bytes"] else "",
            space(row["checkpoint_bytes_in_all"]) if row["checkpoint_bytes_in_all"] else "",
        ]
        for row in found.to_dict("records")
    ]
    total = found.sum(numeric_only=True)
    together = ["together", f"{total['jobs']:,.0f}", *(hours(3600 * total[f"hours {speed}"]) for speed in SPEEDS)]
    rows.append([*together, space(total["bytes"]), "", space(total["checkpoint_bytes_in_all"])])
    head = ["", "jobs", *(f"hours, speeds {speed}" for speed in SPEEDS)]
    return table([*head, "disk", "largest checkpoint", "checkpoints written in all"], rows)


def folders(frames: Frames) -> str:
    found = frames["folders"].set_index("folder")["files"]
    experts = found[[folder for folder in found.index if "/experts/" in folder]]
    rows = [
        ["all folders", f"{found['all']:,}"],
        ["`.snakemake/metadata`", f"{found['.snakemake/metadata']:,}"],
        ["each folder of experts, of their logs, of their timings, at most", str(experts.max())],
    ]
    return table(["", "files"], rows)


def limits(frames: Frames) -> str:
    jobs = frames["longest_jobs"]
    columns = [name for name in jobs.columns if name.startswith("jobs_of_")]
    rows = []
    for job in jobs[jobs["speed"] == "assumed"].head(5)["job"]:
        cells = []
        for name in columns:
            of = jobs[jobs["job"] == job].set_index("speed")[name]
            cells.append(f"{of['assumed']:.0f} ({of[SPEEDS[2]]:.0f} to {of[SPEEDS[0]]:.0f})")
        rows.append([shortened(job), *cells])
    return table(["SLURM jobs under a limit of", *(f"{name.split('_')[2]} hours" for name in columns)], rows)


def graph_medians(frames: Frames) -> pd.DataFrame:
    """Return the medians of what was measured, by what and by number of jobs."""
    measured = ["wall_seconds", "cpu_seconds", "peak_bytes"]
    return frames["graph"].groupby(["what", "jobs"])[measured].median()


def exponent(values: pd.Series) -> float:
    """Return by which power of the number of jobs something grows: the slope of its logarithm, by least squares."""
    return float(np.polyfit(np.log(values.index), np.log(values), 1)[0])


def graph(frames: Frames) -> str:
    """Draw medians, in brackets what they are to the smallest graph, and the powers with which they grow."""
    found = graph_medians(frames)
    columns = {
        "dry run, wall (s)": (found.loc["dry run"]["wall_seconds"], "{:.1f}".format),
        "CPU (s)": (found.loc["dry run"]["cpu_seconds"], "{:.1f}".format),
        "peak memory": (found.loc["dry run"]["peak_bytes"], space),
        "of it `make_plan`, CPU (s)": (found.loc["make_plan"]["cpu_seconds"], "{:.2f}".format),
        "dry run of one evaluation, CPU (s)": (found.loc["dry run of one evaluation"]["cpu_seconds"], "{:.1f}".format),
        "its peak memory": (found.loc["dry run of one evaluation"]["peak_bytes"], space),
        "`elf plan`, CPU (s)": (found.loc["elf plan"]["cpu_seconds"], "{:.1f}".format),
    }
    sizes = found.loc["dry run"].index
    rows = [
        [f"{jobs:,}", *(f"{text(of[jobs])} ({of[jobs] / of.iloc[0]:.1f})" for of, text in columns.values())]
        for jobs in sizes
    ]
    rows.append(["grows with the power", *(f"{exponent(of):.2f}" for of, _ in columns.values())])
    rows.append(["from the third to the last", *(f"{exponent(of.iloc[-2:]):.2f}" for of, _ in columns.values())])
    return table(["jobs", *columns], rows)
