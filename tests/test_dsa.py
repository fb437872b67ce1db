"""DSA against gradients written out in float64, its schedule step by step, and its resumption."""

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import Killed, MemoryCheckpoint, stream
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad

from elf.data import augmentation
from elf.data.augmentation import STRATEGY
from elf.distillation import dsa
from elf.distillation.shared.loop import Selection
from elf.distillation.shared.synthetic import RealImages, real_initialisation
from elf.distillation.shared.watching import Diverged
from elf.errors import ElfError
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.networks.split import SplitNetwork, initialise

SIDE, CLASSES, IPC = 16, 3, 2
DSA = {
    "iterations": 1,
    "outer_loop": 2,
    "inner_loop": 1,
    "lr": 0.1,
    "momentum": 0.5,
    "lr_network": 0.01,
    "batch_real": 5,
    "batch_inner": 4,
    "bn_real": 3,
    "distance": "ours",
    "augmentation": STRATEGY,
    "align_corners": False,
}
NETWORKS = ["convnet-w4-d2-in", "convnet-w4-d2-bn"]


def random_dataset(counts=(9, 5, 7)) -> RealImages:
    """Images whose mean depends on the class, in shuffled order."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=stream(0))]
    images = torch.randn(len(labels), 3, SIDE, SIDE, generator=stream(1)) + labels[:, None, None, None]
    return RealImages(images, labels, len(counts))


def distil(*, dataset=None, changes=None, ipc=IPC, network=NETWORKS[0], seed=0, **others):
    others.setdefault("progress", lambda finished, total, loss: None)
    return dsa.distill(
        dataset or random_dataset(), settings=DSA | (changes or {}), ipc=ipc, network=network, seed=seed, **others
    )


# --- matching loss ---------------------------------------------------------------------------------------


def reference_distance(real: dict, synthetic: dict, distance: str):
    """Row by row and in the order of the formula."""
    total = 0.0
    if distance == "mse":
        one = torch.cat([tensor.reshape(-1) for tensor in real.values()])
        other = torch.cat([tensor.reshape(-1) for tensor in synthetic.values()])
        return ((one - other) ** 2).sum()
    for name, tensor in real.items():
        if tensor.dim() == 1:
            continue
        for one, other in zip(tensor, synthetic[name], strict=True):
            one, other = one.reshape(-1), other.reshape(-1)
            total = total + 1 - one.dot(other) / (one.norm() * other.norm() + 0.000001)
    return total


def reference_loss(network, parameters, real, pixels, draws, distance):
    """Loss as a function of all pixels at once, with the weights as an argument of the network."""

    def task(weights, images, label):
        logits = functional_call(network, weights, (images,))
        return -logits.log_softmax(1)[:, label].mean()

    total = 0.0
    for label, draw in enumerate(draws):
        own = augmentation.apply(pixels[label * IPC : (label + 1) * IPC], draw, align_corners=False)
        target = grad(task)(parameters, augmentation.apply(real[label], draw, align_corners=False), label)
        total = total + reference_distance(target, grad(task)(parameters, own, label), distance)
    return total


def matching_case(name, seed, augmentation_seed=0):
    """A network in float64 with weights and statistics that are not those of the start, and images for it."""
    network = build_network(name, classes=CLASSES, side=SIDE, generator=stream(seed)).double()
    dataset = random_dataset()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=stream(seed), dtype=torch.float64)
    if name.endswith("bn"):
        dsa.fix_statistics(network, dataset.images.double())
    real = [dataset.images[dataset.labels == label].double() for label in range(CLASSES)]
    pixels = torch.randn(CLASSES * IPC, 3, SIDE, SIDE, generator=stream(seed), dtype=torch.float64)
    draws = [augmentation.draw(STRATEGY, 1, SIDE, stream(augmentation_seed + label)) for label in range(CLASSES)]
    return network, real, pixels, draws


@pytest.mark.parametrize("distance", ["ours", "mse"])
@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=6)
@given(seed=st.integers(0, 1000), augmentation_seed=st.integers(0, 1000))
def test_loss_and_pixel_gradient_equal_the_reference(name, distance, seed, augmentation_seed):
    network, real, pixels, draws = matching_case(name, seed, augmentation_seed)
    loss, gradient = dsa.matching_loss(network, real, pixels.split(IPC), draws, distance=distance, align_corners=False)
    parameters = {key: tensor.detach() for key, tensor in network.named_parameters()}
    arguments = (network, parameters, real, pixels, draws, distance)
    torch.testing.assert_close(loss, reference_loss(*arguments), rtol=1e-10, atol=0)
    expected = grad(reference_loss, argnums=3)(*arguments)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-12)
    assert gradient.abs().max() > 0 and not loss.requires_grad and not gradient.requires_grad


@pytest.mark.parametrize("distance", ["ours", "mse"])
@pytest.mark.parametrize("name", NETWORKS)
def test_pixel_gradient_equals_finite_differences(name, distance):
    network, real, pixels, draws = matching_case(name, 3)

    def loss(pixels):
        return dsa.matching_loss(network, real, pixels.split(IPC), draws, distance=distance, align_corners=False)

    _, gradient = loss(pixels)
    step = 1e-6
    for index in [(0, 0, 8, 8), (3, 1, 5, 7), (5, 2, 10, 4)]:
        higher, lower = pixels.clone(), pixels.clone()
        higher[index] += step
        lower[index] -= step
        slope = (loss(higher)[0] - loss(lower)[0]) / (2 * step)
        torch.testing.assert_close(gradient[index], slope, rtol=1e-4, atol=1e-7)


def test_distances_of_a_gradient_written_out():
    """Rows (3, 4) and (0, 5): cosine 0.8; parallel rows: 0; an empty row: 1; vectors count for mse alone."""
    real = [torch.tensor([[3.0, 4.0], [1.0, 1.0]]), torch.zeros(1, 1, 1, 2), torch.tensor([1.0, 2.0])]
    synthetic = [torch.tensor([[0.0, 5.0], [2.0, 2.0]]), torch.ones(1, 1, 1, 2), torch.tensor([4.0, -2.0])]
    assert dsa.matching_distance(real, synthetic, "ours").item() == pytest.approx(0.2 + 0 + 1, abs=1e-6)
    assert dsa.matching_distance(real, synthetic, "mse").item() == 9 + 1 + 1 + 1 + 1 + 1 + 9 + 16


def test_product_of_norms_is_kept_from_zero_as_in_the_official_code():
    """The cosine of tiny gradients is damped: 1e-8 / (1e-8 + 1e-6)."""
    tiny = [torch.full((1, 1), 1e-4)]
    assert dsa.matching_distance(tiny, tiny, "ours").item() == pytest.approx(1 - 1 / 101)


def test_batch_normalisation_looks_once_and_then_stays():
    """Momentum 0.1 from the start at mean 0 and variance 1, with the unbiased variance, as PyTorch defines it."""
    network = build_network("convnet-w4-d2-bn", classes=CLASSES, side=SIDE, generator=stream(0)).eval()
    images = torch.randn(6, 3, SIDE, SIDE, generator=stream(1))
    dsa.fix_statistics(network, images)
    first = network.front[0]
    seen = first[0](images).detach()
    torch.testing.assert_close(first[1].running_mean, 0.1 * seen.mean((0, 2, 3)))
    torch.testing.assert_close(first[1].running_var, 0.9 + 0.1 * seen.var((0, 2, 3)))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 2 and not any(norm.training for norm in norms)
    assert all(module.training for module in network.modules() if module not in norms)
    before = copy.deepcopy(network.state_dict())
    draws = [augmentation.draw("none", 1, SIDE, stream(0))]
    dsa.matching_loss(network, [images], [images[:2]], draws, distance="ours", align_corners=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    dsa.fix_statistics(network, images)
    assert all(norm.num_batches_tracked == 2 for norm in norms)


# --- the whole of DSA ------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["ours", "mse"])
@pytest.mark.parametrize("name", NETWORKS)
def test_outer_and_inner_loops_written_out(name, distance):
    """Two iterations of two matching steps; real batches hold all images, so that their order does not matter."""
    dataset = random_dataset()
    changes = {"batch_real": 100, "bn_real": 100, "distance": distance, "lr_network": 0.1, "inner_loop": 5}
    result = distil(dataset=dataset, changes=changes, network=name)

    streams = {what: generator(0, "distillation", what) for what in dsa.STREAMS}
    network = build_network(name, classes=CLASSES, side=SIDE, generator=streams["network"])
    start = real_initialisation(dataset, IPC, generator(0, "distillation", "initial images"))
    pixels = nn.Parameter(start.images.clone())
    pixels_optimiser = torch.optim.SGD([pixels], lr=0.1, momentum=0.5)
    real = [dataset.images[dataset.labels == label] for label in range(CLASSES)]
    for _ in range(2):
        initialise(network, streams["network"])
        network_optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
        for outer_step in range(2):
            network.train()
            if name.endswith("bn"):
                network(torch.cat(real))
                for module in network.modules():
                    module.train("BatchNorm" not in type(module).__name__)
            draws = [augmentation.draw(STRATEGY, 1, SIDE, streams["augmentation"]) for _ in range(CLASSES)]
            parameters = {key: tensor.detach() for key, tensor in network.named_parameters()}
            pixels_optimiser.zero_grad()
            reference_loss(network, parameters, real, pixels, draws, distance).backward()
            pixels_optimiser.step()
            if outer_step == 1:
                break
            network.train()
            for _ in range(5):
                for batch in torch.randperm(CLASSES * IPC, generator=streams["inner order"]).split(4):
                    chosen = pixels.detach()[batch]
                    chosen = augmentation.augment(chosen, STRATEGY, streams["inner augmentation"], align_corners=False)
                    network_optimiser.zero_grad()
                    F.cross_entropy(network(chosen), start.labels[batch]).backward()
                    network_optimiser.step()
    torch.testing.assert_close(result.images, pixels.detach(), rtol=1e-4, atol=1e-5)
    assert (result.images - start.images).abs().max() > 1e-3


def test_progress_counts_matching_steps():
    seen = []
    distil(changes={"iterations": 2, "outer_loop": 3}, progress=lambda *call: seen.append(call))
    assert [call[:2] for call in seen] == [(count, 9) for count in range(1, 10)]
    assert all(not loss.requires_grad and loss.shape == () for *_, loss in seen)


def test_one_matching_step_an_iteration_trains_no_network(monkeypatch):
    monkeypatch.setattr("elf.distillation.dsa.train", None)
    result = distil(changes={"iterations": 3, "outer_loop": 1})
    assert result.images.isfinite().all()
    with pytest.raises(
        Diverged, match=r"stopped after update 2 of 4: loss nan, images not finite \(after update 1: loss \d"
    ):
        distil(changes={"iterations": 3, "outer_loop": 1, "lr": 1e36})


@pytest.mark.parametrize("align_corners", [False, True])
def test_matching_and_inner_training_sample_on_the_same_grid(align_corners, monkeypatch):
    seen = []

    def spy(images, draw, *, align_corners):
        seen.append(align_corners)
        return images

    monkeypatch.setattr("elf.data.augmentation.apply", spy)
    distil(changes={"align_corners": align_corners})
    inner_batches = 2
    assert seen == [align_corners] * 2 * (2 * 2 * CLASSES + inner_batches)


def test_result_is_class_major_and_the_dataset_is_untouched():
    dataset = random_dataset()
    copied = dataset.images.clone()
    result = distil(dataset=dataset)
    assert result.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert result.images.shape == (6, 3, SIDE, SIDE) and result.images.dtype == torch.float32
    assert not result.images.requires_grad and result.selection is None
    assert torch.equal(dataset.images, copied)


def with_dropout(name, *, classes, side, generator):
    """A network that draws while it is matched, as VGG11 at 64x64 does."""
    front = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(0.5))
    network = SplitNetwork(front, nn.Sequential(nn.Flatten(), nn.Linear(4 * (side - 2) ** 2, classes)))
    initialise(network, generator)
    return network


@pytest.mark.parametrize("dropout", [False, True])
def test_seed_determines_the_result_and_global_state_does_not(dropout, monkeypatch):
    if dropout:
        monkeypatch.setattr("elf.distillation.dsa.build_network", with_dropout)
    states = []
    torch.manual_seed(0)
    first = distil(seed=3, progress=lambda *call: states.append(torch.get_rng_state()))
    assert all(torch.equal(state, states[0]) for state in states)
    torch.manual_seed(1)
    assert torch.equal(first.images, distil(seed=3).images)
    assert not torch.equal(first.images, distil(seed=4).images)


@pytest.mark.parametrize("network", NETWORKS)
@settings(max_examples=4)
@given(kill_after=st.lists(st.integers(1, 6), min_size=1, max_size=3), every=st.integers(1, 3))
def test_killed_and_started_again_is_bit_identical(network, kill_after, every):
    changes = {"outer_loop": 3, "batch_inner": 2}
    whole = distil(network=network, changes=changes)
    checkpoint = MemoryCheckpoint(every)
    for last in kill_after:

        def die(finished, total, loss, last=last):
            if finished == last:
                raise Killed

        try:
            resumed = distil(network=network, changes=changes, progress=die, checkpoint=checkpoint)
        except Killed:
            resumed = None
    if resumed is None:
        resumed = distil(network=network, changes=changes, checkpoint=checkpoint)
    assert torch.equal(resumed.images, whole.images)
    assert torch.equal(resumed.labels, whole.labels)


def test_checkpoint_in_the_middle_of_an_iteration_continues_there():
    checkpoint = MemoryCheckpoint(every=3)
    distil(checkpoint=checkpoint, network="convnet-w4-d2-bn")
    assert checkpoint.state["finished"] == 3 and checkpoint.state["network.front.0.1.num_batches_tracked"] == 1 + 2
    seen = []
    distil(checkpoint=checkpoint, network="convnet-w4-d2-bn", progress=lambda *call: seen.append(call[0]))
    assert seen == [4]


# --- guards and selection --------------------------------------------------------------------------------


def test_nan_in_a_training_image_is_found_in_the_first_update():
    dataset = random_dataset()
    dataset.images[4] = float("nan")
    with pytest.raises(
        ElfError, match=r"stopped after update 1 of 4: loss nan, inner loss nan, images not finite; dsa"
    ):
        distil(dataset=dataset, changes={"batch_real": 100})


def test_huge_lr_names_the_update_and_gives_back_the_last_finite_images():
    """Looked at once, at the end, it finds what looking after every update finds."""
    changes = {"lr": 3e19, "iterations": 9}
    checkpoint = MemoryCheckpoint()
    with pytest.raises(Diverged) as every_update:
        distil(changes=changes, checkpoint=checkpoint)
    with pytest.raises(Diverged) as at_the_end:
        distil(changes=changes)
    assert str(at_the_end.value) == str(every_update.value)
    assert at_the_end.value.update == checkpoint.state["finished"] >= 1
    assert f"stopped after update {at_the_end.value.update + 1} of 20" in str(at_the_end.value)
    assert torch.equal(at_the_end.value.learned["images"], checkpoint.state["images"])
    assert at_the_end.value.learned["images"].isfinite().all()


def test_inner_training_that_diverges_is_named_with_its_update():
    message = (
        r"update 1 of 4: loss \d[\d.]*, inner loss nan; dsa with convnet-w4-d2-in at lr 0\.1 and lr_network 1e\+30"
    )
    with pytest.raises(Diverged, match=message) as stopped:
        distil(changes={"lr_network": 1e30, "inner_loop": 3}, checkpoint=MemoryCheckpoint())
    start = real_initialisation(random_dataset(), IPC, generator(0, "distillation", "initial images"))
    assert torch.equal(stopped.value.learned["images"], start.images)


def test_selection_counts_iterations_and_keeps_the_best_candidate():
    candidates, scores = [], iter([0.3, 0.9, 0.5])

    def score(candidate):
        candidates.append(candidate.images.clone())
        return next(scores)

    result = distil(changes={"iterations": 6}, selection=Selection("validation", 2, score))
    assert result.selection == {"rule": "validation", "update": 8, "scores": [(4, 0.3), (8, 0.9), (12, 0.5)]}
    assert torch.equal(result.images, candidates[1])
    assert torch.equal(result.images, distil(changes={"iterations": 3}).images)


def test_class_with_too_few_images_is_named():
    with pytest.raises(ElfError, match="class 1 has 5 training images, fewer than ipc = 6"):
        distil(ipc=6)
