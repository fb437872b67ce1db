"""DM and DSA may normalise real images with other constants than the dataset, as their official code does."""

import io

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import PROJECT
from PIL import Image

from elf.cli import main
from elf.data.pictures import contact_sheet
from elf.data.preprocessing import normalisation
from elf.distillation import dm
from elf.distillation.shared.synthetic import RealImages
from elf.specs.dataset import DatasetSpec
from elf.specs.synthetic import SyntheticSpec
from elf.stages.export import read_for_export
from elf.study.config_reading import load_settings
from elf.study.grid import build_grid

pytestmark = pytest.mark.usefixtures("small_process")

RECIPE = {
    **{"iterations": 2, "lr": 1.0, "momentum": 0.5, "batch_real": 8, "align_corners": False},
    "augmentation": "color_crop_cutout_flip_scale_rotate",
}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Prepared digits: normalised with constants of their own, and whitened."""
    files = {}
    for name in ("digits", "zca"):
        folder = tmp_path_factory.mktemp(name)
        spec = DatasetSpec(name="digits", source="digits", side=16, normalisation=name, train_per_class=20)
        files[name] = folder / "images.safetensors"
        outputs = ["--images", str(files[name]), "--card", str(folder / "card.json")]
        assert main(["prepare-dataset", "--settings", spec.canonical(), "--data-folder", "absent", *outputs]) == 0
    return files


def made(dataset, folder, **changes):
    """Distil with DM and return the file of the set."""
    spec = SyntheticSpec(
        dataset="digits",
        method="dm",
        module="dm",
        network="convnet-w4-d2-in",
        ipc=2,
        seed=0,
        recipe=RECIPE | {"selection": "final"} | changes,
    )
    file = folder / "images.safetensors"
    status = main(["distill", "--settings", spec.canonical(), "--dataset", str(dataset), "--images", str(file)])
    return file if status == 0 else None


@pytest.mark.parametrize(("changes", "used"), [({}, "digits"), ({"constants": "cifar100-dc"}, "cifar100-dc")])
def test_the_set_is_what_the_method_makes_of_images_in_that_space(datasets, tmp_path, changes, used):
    file = made(datasets["digits"], tmp_path, **changes)
    stored = safetensors.torch.load_file(datasets["digits"])
    real = RealImages(normalisation(used).transform(stored["train_images"]), stored["train_labels"], 10)
    expected = dm.distill(real, settings=RECIPE, ipc=2, network="convnet-w4-d2-in", seed=0, progress=lambda *_: None)
    found = safetensors.torch.load_file(file)["images"]
    assert torch.equal(found, expected.images)

    picture = tmp_path / "picture.png"
    files = ["--images", str(file), "--dataset", str(datasets["digits"]), "--picture", str(picture)]
    assert main(["contact-sheet", *files]) == 0
    buffer = io.BytesIO()
    pixels = found * torch.tensor(normalisation(used).std).view(3, 1, 1)
    pixels = pixels.float() + torch.tensor(normalisation(used).mean).view(3, 1, 1)
    contact_sheet(pixels, expected.labels, tuple("0123456789"), buffer)
    drawn, wanted = (np.asarray(Image.open(image)).astype(int) for image in (picture, buffer))
    assert np.abs(drawn - wanted).max() <= 1

    exported = read_for_export(file, datasets["digits"])
    assert exported.preprocessing == normalisation(used) and exported.spec()["constants"] == used


def test_constants_cannot_replace_a_whitening(datasets, tmp_path, capsys):
    assert made(datasets["zca"], tmp_path, constants="cifar100-dc") is None
    assert "is whitened, which the constants 'cifar100-dc' of the recipe would replace" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["dm", "dsa"])
def test_they_are_those_of_the_official_code_for_cifar100_alone(method, tmp_path):
    grid = build_grid(load_settings(PROJECT / "config", "paper"), tmp_path)
    found = {
        (spec.dataset, spec.recipe.get("constants"), spec.variant)
        for spec in grid.synthetic_sets.values()
        if spec.method == method
    }
    assert ("cifar100", "cifar100-dc", None) in found
    assert {constants for dataset, constants, _ in found if dataset != "cifar100"} == {None}
    smoke = build_grid(load_settings(PROJECT / "config", "smoke"), tmp_path)
    assert not any("constants" in spec.recipe for spec in smoke.synthetic_sets.values())
