"""A report of results made up so that every kind of verdict, status and state of a file occurs in it."""

import io
import math

from fabricated_results import ABOUT, cell, frames, spread
from PIL import Image

from elf.artifacts.lineage import CHANGED, MISSING, THERE, Artifact, TensorSize
from elf.report.content import FigureEntry, Origin, Report, Sheet, TableEntry
from elf.report.costs import Costs, cost_by_stage, cost_of, storage
from elf.results.columns import gather
from elf.results.layout import lay_out
from elf.results.tables import html, tidy_csv
from elf.verdicts.audit import audit
from elf.verdicts.claims import CLAIMS, judge
from elf.verdicts.comparison import compare
from elf.verdicts.observations import observations_of_cells, observations_of_printed
from elf.verdicts.printed import read_printed

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60"><rect width="90" height="60" fill="teal"/></svg>'
LINE = {"recipe": "dm", "key": "iterations", "value": 20000, "source": "official code", "where": "main.py"}

DIFFERENCES = {"resnet18-in": 0.0, "resnet18-bn": 12.0, "vgg11-in": 1.9, "vgg11-bn": None}
"""Measured minus printed, in percentage points; the rest is equal. None was not run."""


def png(side=12) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (180, 90, 30)).save(stream, "PNG")
    return stream.getvalue()


def entries() -> list[tuple[dict, list[float]]]:
    """Return the cells of Table 5 for DM and accuracies that are known differences away from the printed ones."""
    printed = read_printed()
    rows = printed[(printed["experiment"] == "table05") & (printed["kind"] == "accuracy") & (printed["method"] == "dm")]
    found = []
    for row in rows.to_dict("records"):
        network = row["paper_eval_network"]
        key = cell(
            network=network,
            objective=row["objective"],
            dataset="cifar10",
            distill_network=row["paper_distill_network"],
            paper_distill_network=row["paper_distill_network"],
            paper_teacher_network=row["paper_teacher_network"],
            aligned=network == row["paper_distill_network"],
            seeds=5,
        )
        difference = DIFFERENCES.get(network, 0.0)
        # With this step the population's deviation is the printed one.
        step = row["std"] / math.sqrt(2) / 100
        found.append((key, [] if difference is None else spread((row["mean"] + difference) / 100, step)))
    return found


def artifacts() -> tuple[Artifact, ...]:
    """Return a file in each role and each state."""
    measured = {"device": "cpu (test)", "wall_seconds": 90.5, "peak_memory_bytes": 3 * 2**20}

    def manifest(kind: str, name: str) -> dict:
        return {
            "kind": kind,
            "id": f"{name}-id",
            "code_id": f"{name}-code",
            "spec": {"recipe": {"lr": 0.125}, "network": "resnet18-in"},
            "inputs": {"dataset": {"kind": "dataset", "id": "dataset-id"}},
            "versions": {"python": "3.11.7"},
            "measured": measured,
        }

    there = {
        "evaluation": "evaluations/x/seeds0-4.parquet",
        "features": "features/x.safetensors",
        "teacher": "teachers/x/net/epoch30.safetensors",
        "synthetic set": "synthetic/x/images.safetensors",
    }
    return (
        *(Artifact(role, path, THERE, f"{role}-id", manifest(role, role)) for role, path in there.items()),
        Artifact("expert", "experts/x/expert0.safetensors", MISSING, "expert-zero", None),
        Artifact("dataset", "datasets/x/images.safetensors", CHANGED, "dataset-before", manifest("dataset", "dataset")),
    )


def fabricated_report(named=lambda text: text, **about) -> Report:
    """Return a report of Table 5, one figure and everything else.

    Parameters
    ----------
    named : callable
        Changes every text that a user can choose, such as titles.
    about : dict
        Changes to what the report says of the run.
    """
    said = ABOUT | {"title": named("Table 5")}
    made, results = frames(entries())
    results["shard"] = named("evaluations/x/seeds0-4.parquet")
    cells = tuple(gather(made, results))
    files, command = artifacts(), named("snakemake --profile profiles/local x --config scale=smoke")
    table = lay_out(made, results, said)
    size = TensorSize("F32", (10, 3, 32, 32), 10 * 3 * 32 * 32 * 4)
    return Report(
        about={"title": named("ELF"), "scale": named("paper scale"), "scale_name": "paper", "seeds": 5}
        | {"stand_ins": named("digits stands in for cifar10"), "comparable": True, "partial": False}
        | {"details": {named("version"): named("1")}}
        | about,
        summary=named("ELF helps & does not hurt"),
        tables=(
            TableEntry(
                "table05",
                named("Table 5: ELF"),
                html(table, links="../cells/"),
                tidy_csv(table),
                cells,
                tuple(compare("table05", cells, comparable=about.get("comparable", True), reason="scale smoke")),
                command,
            ),
        ),
        figures=(
            FigureEntry("figure4", named("Figure 4"), {"svg": SVG, "csv": b"x,mean\n1,61.25\n"}, cells[-2:], command),
            FigureEntry("figure3", named("Figure 3"), {}, cells[:1], command, named("nothing to draw")),
        ),
        sheets=(Sheet(named("cifar10/dm"), png()), Sheet(named("cifar10/mtt"), None)),
        data_cards=({"name": named("cifar10"), "counts": {"train": {named("cat"): 142}}, "names": [named("a"), "b"]},),
        recipes=({**LINE, "where": named("main.py")},),
        origins={
            one.anchor: Origin(files, {named("images"): [{**LINE, "recipe": named("dm")}]}, (command,)) for one in cells
        },
        claims={
            "printed": [judge(claim, observations_of_printed()) for claim in CLAIMS],
            "measured": [judge(claim, observations_of_cells({"table05": cells})) for claim in CLAIMS],
        },
        audit=tuple(audit()),
        costs=Costs(
            stages=cost_by_stage(files),
            tables=(cost_of(named("Table 5"), files),),
            all_tables=cost_of("All tables and figures", files),
            storage=(
                storage(named("cifar10/mtt"), {"images": size}),
                storage(named("cifar10/dm"), {"images": size}, named("net"), {"features": size}, {"weight": size}),
            ),
        ),
        downloads={"results.csv": results.to_csv(index=False).encode()},
        problems=(named("x.parquet: was made with other settings"),),
    )
