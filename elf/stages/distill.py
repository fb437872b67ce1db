"""Distil a dataset: make a few synthetic images per class with one of the methods."""

import importlib
import logging
from pathlib import Path

from elf.artifacts.code import distill_code
from elf.artifacts.experts import ExpertBuffer
from elf.artifacts.manifest import Manifest, describe
from elf.artifacts.tensors import write_tensors
from elf.distillation.shared.images_distilled import images_distilled
from elf.distillation.shared.selection import selection_for
from elf.distillation.shared.synthetic import RealImages, hold_out
from elf.distillation.shared.watching import Diverged
from elf.errors import ElfError
from elf.importing.using import read_imported
from elf.machine.progress import reporter
from elf.objectives.labels import label_kind
from elf.running.inputs import DATASET, Split, check_made_from, check_settings, read_split
from elf.running.job import Job, arguments_of, parse_spec
from elf.specs.method import METHODS
from elf.specs.synthetic import SyntheticSpec

log = logging.getLogger(__name__)


def main(argv: list[str]) -> None:
    """Run the stage from the command line."""
    parser = arguments_of("distill", __doc__, dataset="input: prepared dataset", images="output")
    parser.add_argument(
        "--experts", type=Path, nargs="*", default=[], metavar="FILE", help="input: trajectories, for mtt and tesla"
    )
    parser.add_argument(
        "--imported", type=Path, nargs="?", metavar="FILE", help="input: a set made elsewhere ('elf import')"
    )
    arguments = parser.parse_args(argv)
    spec = parse_spec(SyntheticSpec, arguments.settings)
    job = Job(arguments, distill_code(spec))
    train = read_split(arguments.dataset, "train", job.device, spec.recipe.get("constants", DATASET))
    check_settings(arguments.dataset, train.manifest, name=spec.dataset)
    inputs = {"dataset": train.manifest}
    given, made_from = _given(spec, arguments, train, job)
    inputs |= made_from
    real = RealImages(train.images, train.labels, train.classes)
    scored_on = 0
    if spec.recipe.get("selection", "final") != "final":
        real, given["selection"], scored_on = _selection(spec, arguments, real, job)
    checkpoint = job.checkpoint(arguments.images, spec.canonical(), *(manifest["id"] for manifest in inputs.values()))
    images = images_distilled(spec, real, scored_on)
    # Found by name, so that a set depends on the code of its own method alone.
    method = importlib.import_module(METHODS.module(spec.module))
    lost = arguments.images.with_name(f"last-finite-{arguments.images.name}")
    try:
        synthetic = method.distill(
            real,
            settings=spec.recipe,
            ipc=spec.ipc,
            network=spec.network,
            seed=spec.seed,
            progress=reporter(f"distill {spec.dataset}/{spec.name}", total=1),
            checkpoint=checkpoint,
            **given,
        )
    except Diverged as error:
        manifest = describe(
            "diverged synthetic set",
            spec.model_dump(mode="json") | {"update": error.update},
            inputs=inputs,
            code=job.code,
            measured=job.measured(),
        )
        write_tensors(lost, error.learned, manifest)
        raise ElfError(f"{spec.dataset}/{spec.name}: {error}; the last finite state is kept in {lost}") from error
    except ElfError as error:
        raise ElfError(f"{spec.dataset}/{spec.name}: {error}") from error
    # Said only where there is something to say, so that sets with hard labels stay what they are.
    labels = {} if spec.label_kind == "hard" else {"labels": spec.label_kind}
    if (spec.label_kind == "hard") != (synthetic.labels.dim() == 1):
        raise ElfError(f"{spec.dataset}/{spec.name}: labels of shape {tuple(synthetic.labels.shape)} are not hard")
    manifest = describe(
        "synthetic set",
        spec.model_dump(mode="json") | {"extra": synthetic.extra, "selected": synthetic.selection} | labels,
        inputs=inputs,
        code=job.code,
        measured=job.measured(images),
    )
    write_tensors(arguments.images, {"images": synthetic.images, "labels": synthetic.labels}, manifest)
    checkpoint.remove()
    lost.unlink(missing_ok=True)


def _given(spec: SyntheticSpec, arguments, train: Split, job: Job) -> tuple[dict, dict[str, Manifest]]:
    """Return what a method takes besides the real images, and the manifests of the files it came from."""
    if "experts" in spec.recipe:
        count = int(spec.recipe["experts"])
        if len(arguments.experts) != count:
            raise ElfError(f"--experts: found {len(arguments.experts)} files, the recipe says {count}")
        experts = ExpertBuffer(arguments.experts)
        for path, manifest in zip(arguments.experts, experts.manifests, strict=True):
            wanted = {"dataset": spec.dataset, "network": spec.network, "held_out_per_class": spec.held_out_per_class}
            check_settings(path, manifest, **wanted)
            # Imported experts cannot name the state of the dataset that they were trained on.
            if manifest["inputs"]["dataset"]["id"] is not None:
                check_made_from(path, manifest, "dataset", train.manifest)
        return {"experts": experts}, {f"expert {index}": manifest for index, manifest in enumerate(experts.manifests)}
    if spec.module == "imported":
        if arguments.imported is None:
            raise ElfError(f"--imported: {spec.method} is a set made elsewhere; name its file")
        normalisation = train.manifest["spec"]["normalisation"]
        synthetic, manifest = read_imported(arguments.imported, train.preprocessing, normalisation, job.device)
        if manifest["id"] != spec.recipe["id"]:
            raise ElfError(
                f"{arguments.imported}: holds another set ({manifest['id']}) than the recipe of {spec.method} says "
                f"({spec.recipe['id']}); import it again with --force, which also writes the recipe"
            )
        kind = label_kind(arguments.imported, manifest, synthetic.labels)
        if kind != spec.label_kind:
            raise ElfError(
                f"{arguments.imported}: its labels are {kind}, the recipe of {spec.method} says {spec.label_kind}; "
                "import it again with --force, which also writes the recipe"
            )
        return {"imported": synthetic}, {"imported set": manifest}
    return {}, {}


def _selection(spec: SyntheticSpec, arguments, real: RealImages, job: Job):
    """Return the images that the method may see, how its candidates are compared on others, and on how many."""
    if spec.held_out_per_class:
        real, held_out = hold_out(real, spec.held_out_per_class)
    else:
        log.warning("the synthetic set is selected by accuracy on the test set, which makes it optimistic")
        constants = spec.recipe.get("constants", DATASET)
        test = read_split(arguments.dataset, "test", job.device, constants)
        held_out = RealImages(test.images, test.labels, test.classes)
    chosen_by = selection_for(spec.module, spec.network, spec.recipe, held_out, spec.seed)
    return real, chosen_by, len(held_out.images)
