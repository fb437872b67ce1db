# Functions of the rules; everything else about the grid is in elf/grid.py.

import os
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

PROJECT = Path(str(workflow.current_basedir)).parent
sys.path.insert(0, str(PROJECT))

from elf.claim import STARTED_BY, claim, runs_jobs, this_process
from elf.config import Top
from elf.config_reading import known_keys
from elf.data.sources.layouts import source_state as state_of_files
from elf.errors import ElfError
from elf.files import bring_to_present
from elf.finding_data import data_folder, missing_data, missing_report, prepared_without_images
from elf.fingerprint import code_id
from elf.slurm_watch import start_watch
from elf.stages import code
from elf.stages.plan import make_plan

# Jobs call 'python': it must be the one that runs Snakemake, also where its environment is not activated.
PYTHON_FOLDER = shlex.quote(str(Path(sys.executable).parent))
# Who says how many GPUs there are wants one for each job.
OWN_GPU = int("gpu" in workflow.resource_settings.resources)
EXPORTED = f'PATH={PYTHON_FOLDER}:"$PATH" {STARTED_BY}={this_process()} ELF_OWN_GPU={OWN_GPU}'
shell.prefix(f"set -euo pipefail; export {EXPORTED}; ")

try:
    known_keys(config, Top.model_fields, "config/config.yaml or --config", "configuration")
    if "scale" in config and not config["scale"]:
        raise ElfError("scale: is empty; name a file of config/scales/, for example --config scale=laptop")
    PLAN = make_plan(PROJECT / "config", config.get("scale"), Path("results"))
except ElfError as error:
    # A WorkflowError is printed without a traceback.
    raise WorkflowError(f"configuration error: {error}") from None

# Not in the Snakemakes that jobs of a cluster start.
if workflow.is_main_process and runs_jobs(sys.argv[1:]):
    try:
        claim(PLAN.settings.name, logger.info)
        start_watch(Path.cwd(), logger)
    except ElfError as error:
        raise WorkflowError(str(error)) from None
    for file in bring_to_present(PLAN.folder.rglob("*")):
        logger.warning(f"{file}: lies in the future; its time is set to now")

GRID = PLAN.grid


def spec_of(collection, path):
    """Return the specification of an artifact of the grid."""
    try:
        return getattr(GRID, collection)[path]
    except KeyError:
        raise WorkflowError(
            f"{PLAN.folder / path} is not part of the grid of the scale {PLAN.settings.name}; "
            "'elf settings' lists all that is"
        ) from None


def dataset_spec(wildcards):
    return spec_of("datasets", f"datasets/{wildcards.dataset}")


def synthetic_spec(wildcards):
    return spec_of("synthetic_sets", f"synthetic/{wildcards.dataset}/{wildcards.synthetic_set}")


def expert_spec(wildcards):
    return spec_of("experts", f"experts/{wildcards.dataset}/{wildcards.buffer}/expert{wildcards.index}.safetensors")


def teacher_spec(wildcards):
    return spec_of("teachers", f"teachers/{wildcards.dataset}/{wildcards.network}")


def features_spec(wildcards):
    name = f"{wildcards.network}-epoch{wildcards.epoch}.safetensors"
    return spec_of("features", f"features/{wildcards.dataset}/{wildcards.synthetic_set}/{name}")


def evaluation_spec(wildcards):
    folder = f"evaluations/{wildcards.dataset}/{wildcards.synthetic_set}/{wildcards.network}"
    return spec_of("evaluations", f"{folder}/{wildcards.cell}/{wildcards.shard}.parquet")


@cache
def priorities_of_jobs():
    """Return how early each job should start; Snakemakes that run one job on a node need not know."""
    if not workflow.is_main_process:
        return {}
    from elf.planning.priorities import priorities

    return priorities(PLAN)


def priority_of(path):
    """Return a priority function for the jobs that make a file, named by its path with wildcards."""

    def priority(wildcards):
        return priorities_of_jobs().get(path.format(**wildcards), 0)

    return priority


def settings_from(spec_of_wildcards):
    """Return a params function: all that a stage is told, as one canonical text."""

    def settings(wildcards):
        return spec_of_wildcards(wildcards).canonical()

    return settings


def code_from(code_of_spec, spec_of_wildcards):
    """Return a params function: the identifier of the code that a job depends on."""

    def code_of_wildcards(wildcards):
        return code_id(code_of_spec(spec_of_wildcards(wildcards)))

    return code_of_wildcards


def kept_dataset(wildcards):
    """Return the manifest of a prepared dataset whose images are gone: it is not made anew, so it stays as it is."""
    return prepared_without_images(dataset_spec(wildcards), data_folder(), PLAN.folder)


def real_images(wildcards):
    """Return no file, because the images have none of a known name; stop if they are needed and missing."""
    spec = dataset_spec(wildcards)
    if missing_data(spec, data_folder()) and not kept_dataset(wildcards):
        raise WorkflowError(missing_report(GRID, PLAN.settings, data_folder(), PLAN.folder))
    return []


def dataset_settings(wildcards):
    spec, kept = dataset_spec(wildcards), kept_dataset(wildcards)
    if kept:
        spec = spec.model_copy(update={key: kept["spec"][key] for key in ("source", "location")})
    return spec.canonical()


def dataset_code(wildcards):
    kept = kept_dataset(wildcards)
    return kept["code_id"] if kept else code_id(code.prepare_dataset_code(dataset_spec(wildcards)))


def source_state(wildcards):
    """Return names and sizes of the files of a dataset."""
    spec, kept = dataset_spec(wildcards), kept_dataset(wildcards)
    if kept:
        return kept["spec"].get("source_state", [])
    return state_of_files(spec.source, data_folder() / (spec.location or ""))


def checkpoint_epochs(wildcards, output):
    teacher_spec(wildcards)
    return sorted(GRID.checkpoints[f"teachers/{wildcards.dataset}/{wildcards.network}"])


def expert_files(wildcards):
    """Return the trajectories that a synthetic set is made from; most methods use none."""
    return [f"{PLAN.folder}/{path}" for path in GRID.experts_of(synthetic_spec(wildcards))]


def imported_file(wildcards):
    """Return the file of a set that was made elsewhere."""
    spec = synthetic_spec(wildcards)
    return spec.recipe["file"] if spec.module == "imported" else []


def features_file(wildcards):
    """Return the features that an evaluation uses; the baseline uses none."""
    spec = evaluation_spec(wildcards)
    if not spec.objective.needs_teacher:
        return []
    name = f"{spec.teacher_network}-epoch{spec.teacher_epoch}.safetensors"
    return f"{PLAN.folder}/features/{spec.dataset}/{spec.synthetic_set}/{name}"


def shards(wildcards):
    """Return the evaluations of one experiment, or of all, with the last checkpoints of full-data trainings."""
    grid = PLAN.collected(wildcards.get("experiment"))
    return [f"{PLAN.folder}/{path}" for path in (*grid.evaluations, *grid.full_data)]


def synthetic_files(name):
    def files(wildcards):
        return [f"{PLAN.folder}/{path}/{name}" for path in PLAN.collected(wildcards.get("experiment")).synthetic_sets]

    return files


def dataset_files(name):
    def files(wildcards):
        return [f"{PLAN.folder}/{path}/{name}" for path in PLAN.collected(wildcards.get("experiment")).datasets]

    return files


def results_digest(wildcards):
    return PLAN.results_digest(wildcards.experiment)


TABLE_ENDINGS = ["md", "tex", "csv", "html"]
FIGURE_ENDINGS = ["pdf", "png", "svg", "csv"]


def drawing(name, endings):
    kind = PLAN.settings.experiments[name].kind
    return [f"{PLAN.folder}/{kind}s/{name}.{ending}" for ending in endings]


def drawings(kind, endings):
    """Return the files of all tables or figures of the scale."""
    names = [name for name in GRID.cells if PLAN.settings.experiments[name].kind == kind]
    return [file for name in names for file in drawing(name, endings)]


# Files by table or figure.
ENDINGS = {"table": TABLE_ENDINGS, "figure": FIGURE_ENDINGS}
DRAWINGS = {name: drawing(name, ENDINGS[PLAN.settings.experiments[name].kind]) for name in GRID.cells}

# The numbers that the paper prints.
PRINTED = [path.relative_to(PROJECT).as_posix() for path in sorted(PROJECT.glob("elf/results/paper/*.csv"))]

# How the report is written, besides its code.
TEMPLATES = sorted(PROJECT.glob("elf/results/templates/*.j2"))
REPORT_TEMPLATES = [path.relative_to(PROJECT).as_posix() for path in TEMPLATES]


def table_digest(wildcards):
    return PLAN.experiment_digest(wildcards.table)


def figure_digest(wildcards):
    return PLAN.experiment_digest(wildcards.figure)


def figure_code(wildcards):
    return code_id(code.figure_code(wildcards.figure))
