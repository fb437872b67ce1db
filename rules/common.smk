# Functions of the rules; everything else about the grid is in elf/study/grid.py.

import os
import re
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

PROJECT = Path(str(workflow.current_basedir)).parent
sys.path.insert(0, str(PROJECT))

from elf.guards.claim import STARTED_BY, this_process
from elf.study.config import Top
from elf.study.config_reading import known_keys
from elf.data.sources.layouts import source_state as state_of_files
from elf.errors import ElfError
from elf.study.images import data_folder, missing_data, prepared_without_images
from elf.artifacts.fingerprint import code_id
from elf.study.networks import check_networks
from elf.specs import kinds
from elf.specs.plugins import USERS, places
from elf.artifacts import code
from elf.study.plan import make_plan, scale_said

# Jobs call 'python': it must be the one that runs Snakemake, also where its environment is not activated.
PYTHON_FOLDER = shlex.quote(str(Path(sys.executable).parent))
# Who says how many GPUs there are wants one for each job.
OWN_GPU = int("gpu" in workflow.resource_settings.resources)
EXPORTED = f'PATH={PYTHON_FOLDER}:"$PATH" {STARTED_BY}={this_process()} ELF_OWN_GPU={OWN_GPU}'
# Started in another folder, jobs find the code and the configuration all the same; results are in that folder.
ELSEWHERE = not PROJECT.samefile(Path.cwd())
if ELSEWHERE:
    CONFIG = shlex.quote(str(PROJECT / "config"))
    EXPORTED += f" PYTHONSAFEPATH=1 PYTHONPATH={shlex.quote(str(PROJECT))} ELF_CONFIG={CONFIG}"
try:
    known_keys(config, Top.model_fields, "config/config.yaml or --config", "configuration")
    SCALE = scale_said(config, workflow.overwrite_configfiles)
    PLAN = make_plan(PROJECT / "config", SCALE, Path("results"), config.get("plugins"))
    if workflow.is_main_process:
        check_networks(PLAN.grid)
except ElfError as error:
    # A WorkflowError is printed without a traceback.
    raise WorkflowError(f"configuration error: {error}") from None

GRID = PLAN.grid
# Of the user's plug-ins; jobs look for them where this Snakemake did.
shell.prefix(f"set -euo pipefail; export {EXPORTED} ELF_PLUGINS={shlex.quote(str(places().get(USERS, '')))}; ")


def spec_of(kind):
    """Return a function that gives the specification of an artifact from the wildcards of its rule."""
    known = {kind.path(spec): spec for spec in getattr(GRID, kind.collection).values()}

    def spec_of_wildcards(wildcards):
        path = kind.at(**wildcards)
        if path not in known:
            raise WorkflowError(
                f"{PLAN.folder / path} is not part of the grid of the scale {PLAN.settings.name}; "
                "'elf settings' lists all that is"
            )
        return known[path]

    return spec_of_wildcards


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


def settings_of(kind):
    """Return a params function: all that a stage is told, as one canonical text."""
    spec_of_wildcards = spec_of(kind)

    def settings(wildcards):
        return spec_of_wildcards(wildcards).canonical()

    return settings


def code_of(kind):
    """Return a params function: the identifier of the code that a job depends on."""
    spec_of_wildcards = spec_of(kind)

    def code_of_wildcards(wildcards):
        return code_id(code.code_of(kind, spec_of_wildcards(wildcards)))

    return code_of_wildcards


dataset_spec = spec_of(kinds.DATASETS)


def kept_dataset(wildcards):
    """Return the manifest of a prepared dataset whose images are gone: it is not made anew, so it stays as it is."""
    return prepared_without_images(dataset_spec(wildcards), data_folder(), PLAN.folder)


def real_images(wildcards):
    """Return no file, because the images have none of a known name; stop a run if they are needed and missing."""
    problem = missing_data(dataset_spec(wildcards), data_folder())
    # Where targets name what is missing, it was said before.
    if problem and workflow.is_main_process and not workflow.dryrun and not kept_dataset(wildcards):
        raise WorkflowError(f"images are missing: {wildcards.dataset}: {problem}")
    return []


def dataset_settings(wildcards):
    spec, kept = dataset_spec(wildcards), kept_dataset(wildcards)
    if kept:
        spec = spec.model_copy(update={key: kept["spec"][key] for key in ("source", "location")})
    return spec.canonical()


def dataset_code(wildcards):
    kept = kept_dataset(wildcards)
    return kept["code_id"] if kept else code_id(code.code_of(kinds.DATASETS, dataset_spec(wildcards)))


def source_state(wildcards):
    """Return names and sizes of the files of a dataset."""
    spec, kept = dataset_spec(wildcards), kept_dataset(wildcards)
    if kept:
        return kept["spec"].get("source_state", [])
    return state_of_files(spec.source, data_folder() / (spec.location or ""))


def checkpoint_epochs(wildcards, output):
    return sorted(GRID.checkpoints[f"teachers/{wildcards.dataset}/{wildcards.network}"])


def inputs_of(kind, role):
    """Return an input function: the files of the roles that a pattern matches; often none."""
    spec_of_wildcards = spec_of(kind)

    def files(wildcards):
        spec = spec_of_wildcards(wildcards)
        made = [f"{PLAN.folder}/{file}" for name, file in kind.inputs(spec).items() if re.fullmatch(role, name)]
        return made + [file for name, file in kind.given(spec).items() if re.fullmatch(role, name)]

    return files


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


# Kinds of drawings, by what the configuration calls them.
DRAWN = {"table": kinds.TABLES, "figure": kinds.FIGURES}


def drawing(name):
    """Return the files of a table or figure."""
    kind = PLAN.settings.experiments[name].kind
    return [f"{PLAN.folder}/{file}" for file in DRAWN[kind].made_with(DRAWN[kind].at(**{kind: name}))]


def drawings(kind, *endings):
    """Return the files of all tables or figures of the scale, or those with some endings."""
    names = [name for name in GRID.cells if PLAN.settings.experiments[name].kind == kind]
    return [file for name in names for file in drawing(name) if not endings or file.endswith(endings)]


# Files by table or figure.
DRAWINGS = {name: drawing(name) for name in GRID.cells}


def shown_by(kind):
    """Return the project's own files that are inputs of a rule: templates, the numbers that the paper prints."""
    files = [file for pattern in kind.shows for file in sorted(PROJECT.glob(pattern))]
    # As they are named from where the workflow runs.
    return [(file if ELSEWHERE else file.relative_to(PROJECT)).as_posix() for file in files]


def table_digest(wildcards):
    return PLAN.experiment_digest(wildcards.table)


def figure_digest(wildcards):
    return PLAN.experiment_digest(wildcards.figure)


def figure_code(wildcards):
    return code_id(code.code_of(kinds.FIGURES, wildcards.figure))
