"""Expert trajectories: how they are trained and kept, and the buffer that reads them back."""

import json
import re
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import safetensors
import torch
from conftest import PROJECT
from helpers import Killed, MemoryCheckpoint, ignore
from hypothesis import given, settings
from hypothesis import strategies as st

from elf.artifacts import experts as experts_module
from elf.artifacts.code import train_expert_code
from elf.artifacts.experts import ExpertBuffer
from elf.artifacts.fingerprint import code_id
from elf.artifacts.manifest import describe, read_manifest
from elf.artifacts.tensors import read_tensors, write_tensors
from elf.cli import main
from elf.data.augmentation import augment
from elf.distillation import mtt, tesla
from elf.distillation.shared.synthetic import RealImages, hold_out
from elf.errors import ElfError
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.networks.flat import FlatNetwork, flatten
from elf.running import inputs as stage_inputs
from elf.specs.dataset import DatasetSpec
from elf.specs.expert import ExpertRecipe, ExpertSpec, snapshots
from elf.stages.train_expert import train_expert
from elf.study.config_reading import load_settings
from elf.study.grid import build_grid

pytestmark = pytest.mark.usefixtures("small_process")

NETWORK, CLASSES, SIDE = "convnet-w4-d2-in", 3, 16


def spec_of(**changes) -> ExpertSpec:
    names = ExpertRecipe.model_fields
    recipe = {
        **{"epochs": 6, "final_pass": False, "lr": 0.05, "momentum": 0.0, "weight_decay": 0.0, "batch_size": 5},
        **{"lr_drop": False, "augmentation": "color_crop_cutout_flip_scale_rotate", "storage": "float32"},
    } | {key: changes.pop(key) for key in list(changes) if key in names and key != "epochs"}
    return ExpertSpec(
        **{"dataset": "some", "network": NETWORK, "index": 0, "epochs": (0, 1, 3), "recipe": ExpertRecipe(**recipe)}
        | changes
    )


def images_and_labels(count: int = 12):
    source = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, SIDE, SIDE, generator=source), torch.arange(count) % CLASSES


def train_it(spec: ExpertSpec, checkpoint=None) -> dict[int, torch.Tensor]:
    return train_expert(spec, *images_and_labels(), CLASSES, checkpoint)


def write_expert(path: Path, spec: ExpertSpec, kept=None, dataset: str = "a dataset", kind="expert trajectory") -> Path:
    kept = kept or {epoch: torch.full((4,), epoch + spec.index / 8) for epoch in spec.epochs}
    manifest = describe(
        kind,
        spec.model_dump(mode="json") | {"classes": CLASSES, "side": SIDE},
        inputs={"dataset": {"kind": "dataset", "id": dataset}},
        code="{}",
        measured={},
    )
    write_tensors(path, {f"epoch{epoch}": tensor for epoch, tensor in kept.items()}, manifest)
    return path


# --- what is read ----------------------------------------------------------------------------------------


@given(starts=st.integers(1, 60), epochs=st.integers(1, 60))
def test_snapshots_are_the_starts_and_their_targets(starts, epochs):
    wanted = snapshots(starts, epochs)
    expected = set()
    for start in range(starts):
        expected |= {start, start + epochs}
    assert set(wanted) == expected and list(wanted) == sorted(expected)
    assert wanted[-1] == starts - 1 + epochs


def test_snapshots_of_the_example_in_the_fact_sheet():
    assert snapshots(40, 2) == tuple(range(42))
    assert snapshots(2, 10) == (0, 1, 10, 11)


# --- hold out --------------------------------------------------------------------------------------------


@given(labels=st.lists(st.integers(0, 2), min_size=3, max_size=20), per_class=st.integers(0, 3))
def test_last_images_of_each_class_are_held_out(labels, per_class):
    labels = [0, 1, 2, *labels]
    dataset = RealImages(torch.arange(len(labels)).float().view(-1, 1, 1, 1), torch.tensor(labels), 3)
    if per_class and min(labels.count(label) for label in range(3)) <= per_class:
        with pytest.raises(ElfError, match=f"{per_class} cannot be held out"):
            hold_out(dataset, per_class)
        return
    kept, held = hold_out(dataset, per_class)
    last = set()
    for label in range(3):
        own = [position for position, other in enumerate(labels) if other == label]
        last |= set(own[len(own) - per_class :])
    assert held.images.flatten().tolist() == sorted(last)
    assert kept.images.flatten().tolist() == [p for p in range(len(labels)) if p not in last]
    for part in (kept, held):
        assert part.labels.tolist() == [labels[int(p)] for p in part.images.flatten()] and part.classes == 3


# --- training --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["in", "bn"])
def test_expert_equals_a_plain_loop(norm):
    name = f"convnet-w4-d2-{norm}"
    found = train_it(spec_of(network=name, index=3))

    network = build_network(name, classes=CLASSES, side=SIDE, generator=generator(3, "expert", "initialisation"))
    order, draws = generator(3, "expert", "order"), generator(3, "expert", "augmentation")
    images, labels = images_and_labels()
    expected = {0: torch.cat([p.detach().flatten() for p in network.parameters()])}
    for epoch in range(1, 4):
        for batch in torch.randperm(12, generator=order).split(5):
            augmented = augment(images[batch], spec_of().recipe.augmentation, draws)
            loss = torch.nn.functional.cross_entropy(network(augmented), labels[batch])
            gradients = torch.autograd.grad(loss, list(network.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                    parameter -= 0.05 * gradient
        expected[epoch] = torch.cat([p.detach().flatten() for p in network.parameters()])
    assert list(found) == [0, 1, 3]
    for epoch, snapshot in found.items():
        torch.testing.assert_close(snapshot, expected[epoch])


def test_snapshots_differ_and_hold_parameters_alone():
    kept = train_it(spec_of(network="convnet-w4-d2-bn"))
    network = build_network("convnet-w4-d2-bn", classes=CLASSES, side=SIDE, generator=torch.Generator())
    assert all(len(snapshot) == sum(p.numel() for p in network.parameters()) for snapshot in kept.values())
    assert all(not torch.equal(one, other) for one, other in pairwise(kept.values()))


def test_snapshot_is_what_a_student_continues_from():
    """The flat vector in a functional network gives the logits of the network itself."""
    spec = spec_of()
    network = build_network(NETWORK, classes=CLASSES, side=SIDE, generator=generator(0, "expert", "initialisation"))
    images, _ = images_and_labels()
    torch.testing.assert_close(FlatNetwork(network)(train_it(spec)[0], images), network(images))


def test_experts_differ_and_later_epochs_change_nothing():
    short, long = train_it(spec_of(epochs=(1,))), train_it(spec_of(epochs=(0, 1, 4)))
    assert torch.equal(short[1], long[1])
    assert not torch.equal(short[1], train_it(spec_of(epochs=(1,), index=1))[1])


def test_bfloat16_is_the_rounded_trajectory():
    exact, rounded = train_it(spec_of()), train_it(spec_of(storage="bfloat16"))
    for epoch in exact:
        assert rounded[epoch].dtype == torch.bfloat16
        assert torch.equal(rounded[epoch], exact[epoch].bfloat16())


def test_more_epochs_than_the_recipe_has_are_refused():
    with pytest.raises(ElfError, match="epochs: found 7, allowed are 0 to 6"):
        train_it(spec_of(epochs=(0, 7)))


@settings(max_examples=8)
@given(kills=st.lists(st.integers(1, 4), min_size=1, max_size=3), every=st.integers(1, 2))
def test_killed_and_started_again_is_bit_identical(kills, every):
    spec = spec_of(epochs=(0, 1, 2, 4), storage="bfloat16")
    whole = train_it(spec)

    class Dying(MemoryCheckpoint):
        """Saves as often as asked, and kills the job after some passes."""

        passes_left = 0

        def save_if_due(self, make_state):
            super().save_if_due(make_state)
            self.passes_left -= 1
            if self.passes_left == 0:
                raise Killed

    checkpoint = Dying(every)
    for checkpoint.passes_left in [*kills, 100]:
        try:
            resumed = train_it(spec, checkpoint)
        except Killed:
            continue
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[epoch], whole[epoch]) for epoch in whole)


# --- the command -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    spec = DatasetSpec(
        name="digits", source="digits", side=32, normalisation="digits", train_per_class=6, test_per_class=2
    )
    files = ["--images", f"{folder}/images.safetensors", "--card", f"{folder}/card.json"]
    assert main(["prepare-dataset", "--settings", spec.canonical(), "--data-folder", "absent", *files]) == 0
    return folder / "images.safetensors"


def command(spec: ExpertSpec, dataset: Path, expert: Path) -> list[str]:
    told = ["--settings", spec.canonical(), "--code", code_id(train_expert_code(spec)), "--threads", "1"]
    return ["train-expert", *told, "--dataset", str(dataset), "--expert", str(expert)]


def test_command_writes_the_trajectory_of_the_training_images_alone(dataset, tmp_path, monkeypatch):
    read, originally = [], stage_inputs.map_tensors

    def spy(path, kind, names):
        read.extend(names)
        return originally(path, kind, names)

    monkeypatch.setattr(stage_inputs, "map_tensors", spy)
    spec = spec_of(dataset="digits", network="convnet-w4-d3-in", held_out_per_class=2)
    path = tmp_path / "expert0.safetensors"
    assert main(command(spec, dataset, path)) == 0
    assert "train_images" in read and not [name for name in read if name.startswith("test")]
    assert list(tmp_path.iterdir()) == [path]

    tensors, manifest = read_tensors(path, "expert trajectory")
    assert set(tensors) == {"epoch0", "epoch1", "epoch3"}
    assert manifest["spec"] == json.loads(spec.canonical()) | {"classes": 10, "side": 32}
    assert {role: source["kind"] for role, source in manifest["inputs"].items()} == {"dataset": "dataset"}
    split = stage_inputs.read_split(dataset, "train", torch.device("cpu"))
    kept, _ = hold_out(RealImages(split.images, split.labels, 10), 2)
    assert len(kept.labels) == 40
    expected = train_expert(spec, kept.images, kept.labels, 10)
    for epoch, snapshot in expected.items():
        torch.testing.assert_close(tensors[f"epoch{epoch}"], snapshot)


@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_a_set_is_distilled_from_the_files(dataset, tmp_path, storage):
    paths = []
    for index in range(2):
        spec = spec_of(dataset="digits", network="convnet-w4-d3-in", epochs=(0, 1, 2), index=index, storage=storage)
        paths.append(tmp_path / f"expert{index}.safetensors")
        assert main(command(spec, dataset, paths[-1])) == 0
    buffer = ExpertBuffer(paths)
    split = stage_inputs.read_split(dataset, "train", torch.device("cpu"))
    recipes = load_settings(PROJECT / "config", "smoke").recipes
    small = {"iterations": 1, "synthetic_steps": 2, "expert_epochs": 1, "max_start_epoch": 2, "experts": 2}
    for method, name in ((mtt, "mtt"), (tesla, "tesla")):
        result = method.distill(
            RealImages(split.images, split.labels, 10),
            settings={key: entry.value for key, entry in recipes[name].values.items()} | small,
            ipc=1,
            network="convnet-w4-d3-in",
            seed=0,
            experts=buffer,
            progress=ignore,
        )
        assert result.images.isfinite().all() and result.extra["step_size"] != 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "cifar10"}, "is a dataset of name 'digits', but the settings of this job say 'cifar10'"),
        ({"held_out_per_class": 6}, "class 0 has 6 training images, of which 6 cannot be held out"),
        ({"lr": 1e30}, "experts/digits/convnet-w4-d3-in/expert0.safetensors: training diverged"),
    ],
)
def test_what_is_wrong_is_one_line(dataset, tmp_path, capsys, changes, message):
    spec = spec_of(**{"dataset": "digits", "network": "convnet-w4-d3-in"} | changes)
    assert main(command(spec, dataset, tmp_path / "expert0.safetensors")) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]


# --- the buffer ------------------------------------------------------------------------------------------


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    return [write_expert(tmp_path / f"expert{index}.safetensors", spec_of(index=index)) for index in range(3)]


def test_buffer_gives_snapshots_and_lineage(paths):
    buffer = ExpertBuffer(paths)
    assert len(buffer) == 3 and buffer.epochs == (0, 1, 3)
    for index, path in enumerate(paths):
        assert buffer.ids[index] == read_manifest(path)["id"] == buffer.manifests[index]["id"]
        for epoch in (0, 1, 3):
            assert torch.equal(buffer.snapshot(index, epoch, "cpu"), torch.full((4,), epoch + index / 8))


def test_bfloat16_snapshots_are_read_as_float32(tmp_path):
    exact = {epoch: torch.randn(1000) for epoch in (0, 1, 3)}
    kept = {epoch: tensor.bfloat16() for epoch, tensor in exact.items()}
    path = write_expert(tmp_path / "expert0.safetensors", spec_of(storage="bfloat16"), kept)
    read = ExpertBuffer([path]).snapshot(0, 1)
    assert read.dtype == torch.float32 and torch.equal(read, exact[1].bfloat16().float())
    assert path.stat().st_size < 1000 * 2 * 3 + 4000


def test_a_snapshot_is_a_copy(paths):
    buffer = ExpertBuffer(paths)
    buffer.snapshot(0, 1).zero_()
    assert torch.equal(buffer.snapshot(0, 1), torch.ones(4))


def test_epochs_are_those_that_all_experts_have(paths):
    write_expert(paths[1], spec_of(index=1, epochs=(0, 1, 2)))
    assert ExpertBuffer(paths).epochs == (0, 1)


def test_missing_epoch_says_which_there_are(paths):
    with pytest.raises(ElfError, match=r"expert1.*no snapshot of epoch 2; found the epochs 0, 1, 3"):
        ExpertBuffer(paths).snapshot(1, 2)


def test_opening_reads_each_manifest_once_and_no_tensor(paths, monkeypatch):
    calls = {"manifests": 0, "files": 0, "checksums": 0}

    def counting(name, function):
        def call(*arguments, **more):
            calls[name] += 1
            return function(*arguments, **more)

        return call

    monkeypatch.setattr(experts_module, "read_manifest", counting("manifests", read_manifest))
    monkeypatch.setattr(experts_module.safetensors, "safe_open", counting("files", safetensors.safe_open))
    monkeypatch.setattr(experts_module, "tensor_checksum", counting("checksums", experts_module.tensor_checksum))
    buffer = ExpertBuffer(paths)
    assert calls == {"manifests": 3, "files": 3, "checksums": 0}
    for _ in range(3):
        buffer.snapshot(2, 0), buffer.snapshot(2, 1)
    assert calls == {"manifests": 3, "files": 4, "checksums": 2}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the maps of the process from /proc")
def test_file_is_mapped_and_only_the_snapshot_becomes_resident(tmp_path):
    size, epochs = 2**20, tuple(range(16))
    kept = {epoch: torch.full((size,), float(epoch)) for epoch in epochs}
    path = write_expert(tmp_path / "expert0.safetensors", spec_of(epochs=epochs), kept)
    buffer = ExpertBuffer([path])
    buffer.snapshot(0, 7)
    kilobytes, current = 0, ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            current = line
        elif line.startswith("Rss:") and str(path) in current:
            kilobytes += int(line.split()[1])
    assert 4096 <= kilobytes < 3 * 4096


def test_damage_is_noticed_at_the_snapshot_that_has_it(paths):
    content = bytearray(paths[0].read_bytes())
    header = int.from_bytes(content[:8], "little")
    offsets = json.loads(content[8 : 8 + header])["epoch1"]["data_offsets"]
    content[8 + header + offsets[0]] ^= 1
    paths[0].write_bytes(content)
    buffer = ExpertBuffer(paths)
    assert torch.equal(buffer.snapshot(0, 0), torch.zeros(4))
    for _ in range(2):
        with pytest.raises(ElfError, match=r"expert0.*damaged or was altered.*epoch1"):
            buffer.snapshot(0, 1)


def test_truncated_or_foreign_files_are_refused(paths, tmp_path):
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[:-3])
    with pytest.raises(ElfError, match=r"expert1.*damaged"):
        ExpertBuffer(paths)
    paths[1].write_bytes(whole)
    other = write_expert(tmp_path / "teacher.safetensors", spec_of(), kind="teacher checkpoint")
    with pytest.raises(ElfError, match="is a teacher checkpoint, expected a expert trajectory"):
        ExpertBuffer([*paths, other])
    with pytest.raises(ElfError, match=r"expert9.*there is no such file"):
        ExpertBuffer([*paths, tmp_path / "expert9.safetensors"])
    with pytest.raises(ElfError, match="one expert at least"):
        ExpertBuffer([])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "convnet-w8-d2-in"}, "of network 'convnet-w8-d2-in', but .*expert0.* of 'convnet-w4-d2-in'"),
        ({"dataset": "other"}, "of dataset 'other', but"),
        ({"held_out_per_class": 5}, "of held_out_per_class 5, but"),
        ({"index": 1}, "is expert 1, as .*expert1"),
    ],
)
def test_experts_that_do_not_belong_together_are_refused(paths, changes, message):
    write_expert(paths[2], spec_of(**{"index": 2} | changes))
    with pytest.raises(ElfError, match=f"expert2.*{message}"):
        ExpertBuffer(paths)


def test_experts_of_another_state_of_the_dataset_are_refused(paths):
    write_expert(paths[2], spec_of(index=2), dataset="an edited dataset")
    with pytest.raises(ElfError, match=r"expert2.*trained on another dataset"):
        ExpertBuffer(paths)


def test_buffer_can_move_to_another_folder(paths, tmp_path):
    moved = shutil.move(paths[0], tmp_path / "copied expert.safetensors")
    assert ExpertBuffer([moved]).snapshot(0, 3).tolist() == [3.0] * 4


# --- the table of sizes ----------------------------------------------------------------------------------

# Gigabytes of all snapshots in float32, as they are known for the official code.
KNOWN_SIZES = {
    "CIFAR-10, ConvNet-W128-D3-IN": 6.5,
    "CIFAR-100, ConvNet-W128-D3-IN": 10.3,
    "CIFAR-100, ConvNet-W512-D3-IN": 113,
    "Tiny ImageNet, ConvNet-W128-D4-IN": 17.5,
    "ImageNet-1K at 64x64, ConvNet-W128-D4-IN": 25.5,
}
NETWORKS = {
    "CIFAR-10, ConvNet-W128-D3-IN": ("convnet-w128-d3-in", 10, 32, "cifar10"),
    "CIFAR-10, ConvNet-W128-D3-BN": ("convnet-w128-d3-bn", 10, 32, "cifar10"),
    "CIFAR-100, ConvNet-W128-D3-IN": ("convnet-w128-d3-in", 100, 32, "cifar100"),
    "CIFAR-100, ConvNet-W128-D3-BN": ("convnet-w128-d3-bn", 100, 32, "cifar100"),
    "CIFAR-100, ConvNet-W512-D3-IN": ("convnet-w512-d3-in", 100, 32, "cifar100"),
    "CIFAR-100 whitened, ConvNet-W512-D3-IN": ("convnet-w512-d3-in", 100, 32, "cifar100-zca"),
    "Tiny ImageNet, ConvNet-W128-D4-IN": ("convnet-w128-d4-in", 200, 64, "tiny-imagenet"),
    "ImageNet-1K at 64x64, ConvNet-W128-D4-IN": ("convnet-w128-d4-in", 1000, 64, "imagenet-1k"),
}


def gigabytes(experts: int, snapshots: int, parameters: int, bytes_each: int) -> float:
    return experts * snapshots * parameters * bytes_each / 1e9


def test_sizes_in_the_document_follow_from_networks_and_recipes(tmp_path):
    page = (PROJECT / "docs" / "experts.md").read_text()
    rows = {
        cells[0]: cells[1:]
        for line in page.splitlines()
        if line.startswith("|") and (cells := [cell.strip() for cell in line.strip("|").split("|")])
    }
    grid = build_grid(load_settings(PROJECT / "config", "paper"), tmp_path)
    assert set(NETWORKS) | {"together"} < set(rows)
    sums = [0.0, 0.0, 0.0]
    for buffer, (name, classes, side, dataset) in NETWORKS.items():
        built = build_network(name, classes=classes, side=side, generator=torch.Generator())
        parameters = len(flatten(built))
        experts = [spec for spec in grid.experts.values() if (spec.dataset, spec.network) == (dataset, name)]
        count = len(experts)
        (read,) = {spec.epochs for spec in experts}
        full = gigabytes(count, 51, parameters, 4)
        assert full == pytest.approx(KNOWN_SIZES.get(buffer, full), abs=0.5 if full > 100 else 0.05)
        sizes = [full, *(gigabytes(count, len(read), parameters, size) for size in (4, 2))]
        expected = [f"{count}", f"{parameters:,}", f"{len(read)}", *(f"{size:.1f}" for size in sizes)]
        assert rows[buffer][1:] == expected
        sums = [total + size for total, size in zip(sums, sizes, strict=True)]
    assert rows["together"][1:] == ["750", "", "", *(f"{total:.1f}" for total in sums)]


def test_memory_in_the_document_is_what_was_measured():
    measured = (PROJECT / "docs" / "results" / "unroll_memory" / "memory.md").read_text()
    assert measured.strip() in (PROJECT / "docs" / "experts.md").read_text()
