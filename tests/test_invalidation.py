"""After an edit exactly that is stale which the edit can change: whole sets of planned jobs, written down here."""

import ast
import os
import time

import pytest

pytest_plugins = ("workflow_copy",)

SCALE_FILE = "config/scales/tiny.yaml"

DM = "dm-convnet-w2-d3-in-ipc10-seed0"
RANDOM = "random-ipc10-seed0"
DSA, MTT = "dsa-convnet-w2-d3-in-ipc10-seed0", "mtt-convnet-w2-d3-in-ipc10-seed0"
TESLA, FREPO = "tesla-convnet-w2-d3-in-ipc10-seed0", "frepo-frepoconv-w2-bn-ipc10-seed0"
HERDING, K_CENTER, K_MEANS = "herding-ipc10-seed0", "k-center-ipc10-seed0", "k-means-ipc10-seed0"
OTHERS = (DSA, MTT, TESLA, FREPO, HERDING, K_CENTER, K_MEANS)
WIDE_TEACHER = "convnet-w8-d3-in"
NARROW_TEACHER = "convnet-w2-d3-in"
WIDEST_TEACHER, WIDER_VGG = "convnet-w16-d3-in", "vgg11-w2-bn"
CONVNET, CONVNET_BN, RESNET, VGG = "convnet-w2-d3-in", "convnet-w2-d3-bn", "resnet18-w1-in", "vgg11-w1-bn"


def elf(front=1, rear=1, epoch=1, teacher=WIDE_TEACHER):
    return f"elf-ce-front{front}-rear{rear}-{teacher}-epoch{epoch}-lr0.01"


TASK = "task-lr0.01"
FREPO_PROTOCOL = "frepo-lr0.0003"
KD = f"kd-temperature4-weight1-{NARROW_TEACHER}-epoch1-lr0.01"
# Synthetic sets of Table 1, evaluation network, cell.
OF_OTHERS = {(name, CONVNET, FREPO_PROTOCOL if name == FREPO else TASK) for name in OTHERS}
EVALUATIONS = {
    (DM, CONVNET, TASK),
    (RANDOM, CONVNET, TASK),
    (DM, RESNET, TASK),
    (RANDOM, RESNET, TASK),
    (DM, VGG, TASK),
    (RANDOM, VGG, TASK),
    (DM, RESNET, elf()),
    (RANDOM, RESNET, elf()),
    (DM, VGG, elf()),
    (RANDOM, VGG, elf()),
    (DM, CONVNET_BN, KD),
    (DM, RESNET, elf(front=0)),
    (DM, RESNET, elf(rear=0)),
    (DM, RESNET, elf(epoch=2)),
    *OF_OTHERS,
}
# Synthetic set, teacher, epoch.
FEATURES = {(DM, WIDE_TEACHER, 1), (DM, WIDE_TEACHER, 2), (RANDOM, WIDE_TEACHER, 1), (DM, NARROW_TEACHER, 1)}
# The last two are those of networks on all real images, which Table 5 shows.
CHECKPOINTS = {(WIDE_TEACHER, 1), (WIDE_TEACHER, 2), (NARROW_TEACHER, 1), (NARROW_TEACHER, 3), (VGG, 3)}

PREPARE = {"prepare_dataset datasets/digits/images.safetensors"}
TABLE1, TABLE5 = {"draw_table tables/table01.md"}, {"draw_table tables/table05.md"}
FIGURE3, FIGURE4 = {"draw_figure figures/figure3.pdf"}, {"draw_figure figures/figure4.pdf"}
DRAWINGS = {"table01": TABLE1, "table05": TABLE5, "figure3": FIGURE3, "figure4": FIGURE4}
REPORT = {"write_report report/index.html"}
VERDICTS = {"compare_with_paper verdicts/comparison.csv"}


def results(*experiments):
    """What follows from evaluations that these tables and figures show."""
    collected = {f"collect_experiment collected/{name}.parquet" for name in experiments}
    drawings = set().union(*map(DRAWINGS.get, experiments))
    return {"collect_results results.parquet"} | collected | drawings | VERDICTS | REPORT


ALL_RESULTS = results(*DRAWINGS)


def distill(*sets):
    return {f"distill synthetic/digits/{name}/images.safetensors" for name in sets}


def contact_sheets(*sets):
    return {f"draw_contact_sheet synthetic/digits/{name}/contact_sheet.png" for name in sets}


def train(checkpoints):
    return {f"train_teacher teachers/digits/{name}/epoch{epoch}.safetensors" for name, epoch in checkpoints}


def features(which):
    return {f"extract_features features/digits/{name}/{net}-epoch{epoch}.safetensors" for name, net, epoch in which}


def train_experts(*indices):
    return {f"train_expert experts/digits/{CONVNET}/expert{index}.safetensors" for index in indices}


def shard_of(name, network, cell, seeds="seeds0-1"):
    return f"evaluations/digits/{name}/{network}/{cell}/{seeds}.parquet"


def evaluate(which, seeds="seeds0-1"):
    return {f"evaluate {shard_of(*evaluation, seeds)}" for evaluation in which}


OF_DM = {e for e in EVALUATIONS if e[0] == DM}
OF_RANDOM = {e for e in EVALUATIONS if e[0] == RANDOM}
WITH_TEACHER = {e for e in EVALUATIONS if e[2] not in (TASK, FREPO_PROTOCOL)}
WITH_ELF = WITH_TEACHER - {(DM, CONVNET_BN, KD)}
ON_VGG = {e for e in EVALUATIONS if e[1] == VGG}
ON_CONVNET = {e for e in EVALUATIONS if e[1] == CONVNET}

# What DM and teachers are shown in.
OF_ELF = results("table05", "figure3", "figure4")


def after_other(*sets):
    """What follows from synthetic sets of Table 1."""
    evaluations = evaluate(e for e in OF_OTHERS if e[0] in sets)
    return distill(*sets) | contact_sheets(*sets) | evaluations | results("table01")


AFTER_DM = distill(DM) | contact_sheets(DM) | features(f for f in FEATURES if f[0] == DM) | evaluate(OF_DM) | OF_ELF
AFTER_TEACHERS = train(CHECKPOINTS) | features(FEATURES) | evaluate(WITH_TEACHER) | OF_ELF
AFTER_EXPERTS = train_experts(0, 1) | after_other(MTT, TESLA)
AFTER_NEW_EPOCH = (
    train({(WIDE_TEACHER, 3)})
    | features({(DM, WIDE_TEACHER, 3)})
    | evaluate({(DM, RESNET, elf(epoch=3))})
    | results("figure4")
)
EVERYTHING = (
    PREPARE
    | AFTER_DM
    | distill(RANDOM)
    | contact_sheets(RANDOM)
    | AFTER_TEACHERS
    | AFTER_EXPERTS
    | after_other(*OTHERS)
    | evaluate(EVALUATIONS)
)


def code(module, name):
    """An edit inside a function: one statement more."""

    def change(workflow):
        path = workflow.folder / module
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (node,) = (n for n in ast.parse("".join(lines)).body if getattr(n, "name", None) == name)
        last = node.body[-1]
        lines.insert(last.lineno - 1, " " * last.col_offset + "ADDED_BY_A_TEST = 1\n")
        path.write_text("".join(lines), encoding="utf-8")

    return change


def text(file, old, new):
    return lambda workflow: workflow.edit(file, old, new)


def without(*paths):
    """Files that someone deletes."""
    return lambda workflow: [(workflow.results / path).unlink() for path in paths]


# Snakemake makes a lost file again only when something that is missing or stale needs it.
def drawn(experiment):
    (drawing,) = DRAWINGS[experiment]
    return "results.parquet", f"collected/{experiment}.parquet", drawing.split()[1]


# Edit, what it is done to, the jobs that become stale.
EDITS = {
    "the plot of one figure": (code("elf/results/figure4.py", "render"), FIGURE4 | REPORT),
    "what all plots share": (code("elf/results/plotting.py", "render"), FIGURE3 | FIGURE4 | REPORT),
    "the contact sheet": (code("elf/data/pictures.py", "contact_sheet"), contact_sheets(DM, RANDOM, *OTHERS) | REPORT),
    "the statistics": (
        code("elf/results/statistics.py", "summarise_seeds"),
        TABLE1 | TABLE5 | FIGURE3 | FIGURE4 | VERDICTS | REPORT,
    ),
    "the DM module": (code("elf/distillation/dm.py", "distill"), AFTER_DM),
    "the DSA module": (code("elf/distillation/dsa.py", "distill"), after_other(DSA)),
    "the MTT module": (code("elf/distillation/mtt.py", "distill"), after_other(MTT)),
    "the TESLA module": (code("elf/distillation/tesla.py", "distill"), after_other(TESLA)),
    "the FrePo module": (code("elf/distillation/frepo.py", "distill"), after_other(FREPO)),
    "a coreset": (code("elf/distillation/herding.py", "distill"), after_other(HERDING)),
    "what trains experts": (code("elf/stages/train_expert.py", "main"), AFTER_EXPERTS),
    "the selection, which no set uses": (code("elf/distillation/shared/selection.py", "selection_for"), set()),
    "the ELF objective": (code("elf/objectives/elf.py", "loss"), evaluate(WITH_ELF) | OF_ELF),
    "the kd objective": (code("elf/objectives/kd.py", "loss"), evaluate({(DM, CONVNET_BN, KD)}) | results("table05")),
    "a family of evaluation networks": (
        code("elf/networks/vgg.py", "build"),
        evaluate(ON_VGG) | train({(VGG, 3)}) | results("table05"),
    ),
    "the family that also distils and teaches": (
        code("elf/networks/convnet.py", "build"),
        (AFTER_DM | AFTER_TEACHERS | AFTER_EXPERTS | after_other(DSA) | evaluate(ON_CONVNET)) - train({(VGG, 3)}),
    ),
    "the training protocol": (
        code("elf/training/protocol.py", "train"),
        # DSA trains its networks with it.
        AFTER_TEACHERS | AFTER_EXPERTS | after_other(DSA) | evaluate(EVALUATIONS),
    ),
    "the augmentation": (
        code("elf/data/augmentation.py", "apply"),
        AFTER_DM | AFTER_TEACHERS | AFTER_EXPERTS | after_other(DSA) | evaluate(EVALUATIONS),
    ),
    "the source of the images": (code("elf/data/sources/digits.py", "read"), EVERYTHING),
    "the learning rate of DM": (text("config/recipes/dm.yaml", "value: 1.0\n", "value: 2.0\n"), AFTER_DM),
    "the weight decay of evaluations": (
        text("config/recipes/evaluation.yaml", "value: 0.0005", "value: 0.001"),
        evaluate(e for e in EVALUATIONS if e[2] != FREPO_PROTOCOL) | ALL_RESULTS,
    ),
    "the pieces that batch norms see": (
        text("config/recipes/evaluation.yaml", "value: 4\n", "value: 2\n"),
        # Networks without batch norms have no such setting.
        evaluate(ON_VGG | {(DM, CONVNET_BN, KD)}) | results("table05"),
    ),
    "the protocol of FrePo": (
        code("elf/training/frepo.py", "train"),
        evaluate({(FREPO, CONVNET, FREPO_PROTOCOL)}) | results("table01"),
    ),
    "the learning rate of teachers": (
        text("config/recipes/teacher.yaml", "value: 0.01\n", "value: 0.02\n"),
        AFTER_TEACHERS,
    ),
    "the learning rate of experts": (
        text("config/recipes/expert.yaml", "value: 0.01\n", "value: 0.02\n"),
        AFTER_EXPERTS,
    ),
    "how candidates would be compared": (
        text("config/recipes/mtt.yaml", "  selection_every:\n    value: 100\n", "  selection_every:\n    value: 50\n"),
        REPORT,
    ),
    "one expert more": (text(SCALE_FILE, "experts: 2}", "experts: 3}"), train_experts(2) | after_other(MTT)),
    "the title of a table": (
        text("config/experiments/table05.yaml", "title: ", "title: New "),
        TABLE5 | VERDICTS | REPORT,
    ),
    "the template of tables": (
        text("elf/results/templates/table.html.j2", "<table>", "<table >"),
        TABLE1 | TABLE5 | REPORT,
    ),
    "the template of the report": (text("elf/results/templates/report.html.j2", "</body>", "<hr></body>"), REPORT),
    "one seed more": (
        text(SCALE_FILE, "seeds: 2\n", "seeds: 3\n"),
        evaluate(EVALUATIONS, "seeds2-2") | ALL_RESULTS,
    ),
    "one epoch more of a teacher": (text(SCALE_FILE, "[1, 2]", "[1, 2, 3]"), AFTER_NEW_EPOCH),
    "the width of one network": (
        text(SCALE_FILE, "[resnet18-in, vgg11-bn], teacher_epoch", "[resnet18-in, vgg11-w128-bn], teacher_epoch"),
        # A wider rear needs a wider teacher, and with it new features.
        train({(WIDEST_TEACHER, 1)})
        | features({(DM, WIDEST_TEACHER, 1), (RANDOM, WIDEST_TEACHER, 1)})
        | evaluate((name, WIDER_VGG, elf(teacher=WIDEST_TEACHER)) for name in (DM, RANDOM))
        | results("table05"),
    ),
    "a lost synthetic set": (
        without(f"synthetic/digits/{RANDOM}/images.safetensors", shard_of(RANDOM, RESNET, TASK), *drawn("table05")),
        distill(RANDOM)
        | contact_sheets(RANDOM)
        | features({(RANDOM, WIDE_TEACHER, 1)})
        | evaluate(OF_RANDOM)
        | results("table05"),
    ),
    "a lost expert and what was made from it": (
        without(
            f"experts/digits/{CONVNET}/expert1.safetensors",
            f"synthetic/digits/{MTT}/images.safetensors",
            shard_of(MTT, CONVNET, TASK),
            *drawn("table01"),
        ),
        train_experts(1) | after_other(MTT),
    ),
    "lost features": (
        without(
            f"features/digits/{DM}/{WIDE_TEACHER}-epoch2.safetensors",
            shard_of(DM, RESNET, elf(epoch=2)),
            *drawn("figure4"),
        ),
        features({(DM, WIDE_TEACHER, 2)}) | evaluate({(DM, RESNET, elf(epoch=2))}) | results("figure4"),
    ),
    "a lost checkpoint": (
        without(
            f"teachers/digits/{WIDE_TEACHER}/epoch2.safetensors",
            f"features/digits/{DM}/{WIDE_TEACHER}-epoch2.safetensors",
            shard_of(DM, RESNET, elf(epoch=2)),
            *drawn("figure4"),
        ),
        train({(WIDE_TEACHER, 2)})
        | features({(DM, WIDE_TEACHER, 2)})
        | evaluate({(DM, RESNET, elf(epoch=2))})
        | results("figure4"),
    ),
    "a file in the middle that nothing needs any more": (
        without(f"synthetic/digits/{RANDOM}/images.safetensors", f"teachers/digits/{WIDE_TEACHER}/epoch2.safetensors"),
        set(),
    ),
    "a lost table": (without("tables/table05.csv"), TABLE5),
    "a lost figure": (without("figures/figure3.svg"), FIGURE3 | REPORT),
    "a lost card": (without("datasets/digits/card.json"), set()),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_makes_stale_what_it_can_change(workflow, edit):
    """As Snakemake has it, and as ``elf plan`` has it without asking Snakemake."""
    change, stale = EDITS[edit]
    change(workflow)
    assert workflow.planned() == stale
    assert workflow.planned_by_elf() == stale


def test_what_cannot_change_results_makes_nothing_stale(workflow, tmp_path):
    """Comments, docstrings, formatting, other code, other settings, the order of keys, times, the data folder."""
    workflow.edit(
        "elf/distillation/dm.py",
        "    device = dataset.images.device\n",
        "    # Where?\n    device = (\n        dataset.images.device\n    )\n",
    )
    workflow.edit("elf/training/protocol.py", '"""Train a network in place', '"""Train the network in place')
    workflow.edit("elf/training/protocol.py", '"""The training protocol', '"""How to train: the training protocol')
    workflow.append("elf/objectives/elf.py", "\n\n# The end.\n")
    # A definition that nobody uses, also in modules that everybody does.
    for other in (
        "data/sources/parquet.py",
        "networks/torchvision_models.py",
        "cli.py",
        "stages/show.py",
        "training/protocol.py",
    ):
        workflow.append(f"elf/{other}", "\nADDED_BY_A_TEST = 1\n")
    code("elf/data/sources/parquet.py", "read")(workflow)
    code("elf/distillation/shared/images_distilled.py", "images_distilled")(workflow)
    # A module under another name.
    (workflow.folder / "elf/training/adam.py").rename(workflow.folder / "elf/optimiser.py")
    for file in workflow.folder.glob("elf/**/*.py"):
        text = file.read_text(encoding="utf-8")
        file.write_text(
            text.replace("from elf.training import adam\n", "from elf import optimiser as adam\n"), encoding="utf-8"
        )
    methods = "methods: [dm, dsa, mtt, tesla, frepo, random, herding, k-center, k-means]\n"
    experiments = "experiments: [table01, table05, figure3, figure4]\n"
    workflow.edit(SCALE_FILE, methods + experiments, "")
    workflow.append(SCALE_FILE, experiments + methods)
    workflow.append("config/datasets.yaml", "\nother: {source: digits, side: 16, normalisation: digits}\n")
    # One time for all: Snakemake goes by times where a file is too large for its checksums.
    now = time.time()
    for file in workflow.folder.rglob("*"):
        if file.is_file() and ".snakemake" not in file.parts:
            os.utime(file, (now, now))
    assert workflow.planned(ELF_DATA_DIR=str(tmp_path)) == set()
    assert workflow.planned_by_elf(ELF_DATA_DIR=str(tmp_path)) == set()


def test_an_added_epoch_leaves_what_exists_untouched(workflow):
    """Really run: the teacher is trained once more, and gives the same states as before."""
    before = workflow.content_ids()
    times = {path: (workflow.results / path).stat().st_mtime_ns for path in before}
    workflow.edit(SCALE_FILE, "[1, 2]", "[1, 2, 3]")
    ended = workflow.run()
    assert ended.status == 0, ended.output
    assert ended.jobs == AFTER_NEW_EPOCH
    after = workflow.content_ids()
    # The training holds an epoch more; it is no output, and nothing was made from it again.
    training = f"teachers/digits/{WIDE_TEACHER}/training.safetensors"
    expected = {"results.parquet", "collected/figure4.parquet", "report/downloads/results.parquet", training}
    unchanged = set(before) - expected
    assert {path: after[path] for path in unchanged} == {path: before[path] for path in unchanged}
    remade = {path for path in before if (workflow.results / path).stat().st_mtime_ns != times[path]}
    assert remade == expected
    assert workflow.planned() == workflow.planned_by_elf() == set()
