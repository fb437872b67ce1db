"""Distribution matching against a plain per-class implementation, its resumption, and random real images."""

import pytest
import torch
from helpers import Killed, MemoryCheckpoint, ignore, stream
from hypothesis import given, settings
from hypothesis import strategies as st

from elf.data import augmentation
from elf.data.augmentation import STRATEGY
from elf.distillation import dm, random
from elf.distillation.shared.synthetic import RealImages, indices_by_class, real_initialisation, sample
from elf.distillation.shared.watching import Diverged
from elf.errors import ElfError
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.networks.split import initialise

SIDE, CLASSES, IPC = 16, 3, 2
DM = {
    "iterations": 5,
    "lr": 1.0,
    "momentum": 0.5,
    "batch_real": 6,
    "augmentation": STRATEGY,
    "align_corners": False,
}


def random_dataset(counts=(9, 5, 7)) -> RealImages:
    """Images whose mean depends on the class, in shuffled order."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=stream(0))]
    images = torch.randn(len(labels), 3, SIDE, SIDE, generator=stream(1)) + labels[:, None, None, None]
    return RealImages(images, labels, len(counts))


def distil(method=dm, *, dataset=None, changes=None, ipc=IPC, network="convnet-w4-d2-in", seed=0, **others):
    others.setdefault("progress", ignore)
    return method.distill(
        dataset or random_dataset(), settings=DM | (changes or {}), ipc=ipc, network=network, seed=seed, **others
    )


def positions(images: torch.Tensor, dataset: RealImages) -> list[int]:
    """Return where each image is found in the dataset; fails if it is not exactly there."""
    found = [(dataset.images == image).flatten(1).all(1).nonzero() for image in images]
    assert all(len(one) == 1 for one in found)
    return [one.item() for one in found]


# --- matching loss ---------------------------------------------------------------------------------------


def reference_loss(network, real, synthetic, draws, norm):
    """Official order of operations, class by class in float64; batch normalisation sees all classes."""

    def embed(images):
        return network.front(images).reshape(len(images), -1)

    real = [augmentation.apply(own, one, align_corners=False) for own, one in zip(real, draws, strict=True)]
    synthetic = [augmentation.apply(own, one, align_corners=False) for own, one in zip(synthetic, draws, strict=True)]
    if norm == "in":
        pairs = [(embed(one), embed(other)) for one, other in zip(real, synthetic, strict=True)]
    else:
        all_real, all_synthetic = embed(torch.cat(real)), embed(torch.cat(synthetic))
        pairs, start = [], 0
        for index, own in enumerate(real):
            pairs.append((all_real[start : start + len(own)], all_synthetic[index * IPC : (index + 1) * IPC]))
            start += len(own)
    loss = 0
    for one, other in pairs:
        loss = loss + torch.sum((torch.mean(one.detach(), dim=0) - torch.mean(other, dim=0)) ** 2)
    return loss


@pytest.mark.parametrize("norm", ["in", "bn"])
@settings(max_examples=8)
@given(seed=st.integers(0, 1000), align_seed=st.integers(0, 1000))
def test_loss_and_pixel_gradient_equal_the_per_class_reference(norm, seed, align_seed):
    name = f"convnet-w4-d2-{norm}"
    network = build_network(name, classes=CLASSES, side=SIDE, generator=stream(seed)).double().train()
    dataset = random_dataset()
    real = [dataset.images[dataset.labels == label].double() for label in range(CLASSES)]
    draws = [augmentation.draw(STRATEGY, 1, SIDE, stream(align_seed + label)) for label in range(CLASSES)]
    pixels = torch.randn(CLASSES * IPC, 3, SIDE, SIDE, generator=stream(seed), dtype=torch.float64)

    ours, reference = pixels.clone().requires_grad_(), pixels.clone().requires_grad_()
    loss = dm.matching_loss(network, real, ours.split(IPC), draws, align_corners=False)
    expected = reference_loss(network, real, reference.split(IPC), draws, norm)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    gradient = torch.autograd.grad(loss, ours)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, reference)[0], rtol=1e-8, atol=1e-12)
    assert gradient.abs().max() > 0


def test_batch_normalisation_mixes_the_classes_and_instance_normalisation_does_not():
    dataset = random_dataset()
    real = [dataset.images[dataset.labels == label] for label in range(CLASSES)]
    synthetic = torch.randn(CLASSES * IPC, 3, SIDE, SIDE, generator=stream(2)).split(IPC)
    draws = [augmentation.draw("none", 1, SIDE, stream(0))] * CLASSES
    for norm, equal in (("in", True), ("bn", False)):
        network = build_network(f"convnet-w4-d2-{norm}", classes=CLASSES, side=SIDE, generator=stream(0))
        together = dm.matching_loss(network, real, synthetic, draws, align_corners=False)
        alone = sum(
            dm.matching_loss(network, [one], [other], draws[:1], align_corners=False)
            for one, other in zip(real, synthetic, strict=True)
        )
        assert torch.isclose(together, alone, rtol=1e-4).item() is equal


def test_real_images_are_drawn_when_it_is_the_turn_of_their_class():
    dataset = random_dataset()
    drawn = []

    def real():
        for label in range(CLASSES):
            drawn.append(label)
            yield dataset.images[dataset.labels == label]

    seen = []
    network = build_network("convnet-w4-d2-in", classes=CLASSES, side=SIDE, generator=stream(0))
    network.front.register_forward_pre_hook(lambda *_: seen.append(list(drawn)))
    synthetic = torch.randn(CLASSES * IPC, 3, SIDE, SIDE, generator=stream(2)).split(IPC)
    draws = [augmentation.draw("none", 1, SIDE, stream(0))] * CLASSES
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elf.machine.device.images_per_forward", lambda device: 1)
        dm.matching_loss(network, real(), synthetic, draws, align_corners=False)
    # When images of a class enter the network, those of later classes have not been asked for.
    assert {tuple(labels) for labels in seen} == {tuple(range(label + 1)) for label in range(CLASSES)}


@pytest.mark.parametrize("norm", ["in", "bn"])
def test_loss_does_not_depend_on_the_size_of_portions(norm, monkeypatch):
    dataset = random_dataset()
    network = build_network(f"convnet-w4-d2-{norm}", classes=CLASSES, side=SIDE, generator=stream(0))
    arguments = (
        network,
        [dataset.images[dataset.labels == label] for label in range(CLASSES)],
        torch.randn(CLASSES * IPC, 3, SIDE, SIDE, generator=stream(2)).split(IPC),
        [augmentation.draw("rotate", 1, SIDE, stream(0))] * CLASSES,
    )
    whole = dm.matching_loss(*arguments, align_corners=False)
    monkeypatch.setattr("elf.machine.device.images_per_forward", lambda device: 4)
    torch.testing.assert_close(dm.matching_loss(*arguments, align_corners=False), whole)


# --- the whole of DM -------------------------------------------------------------------------------------


def test_updates_follow_sgd_with_momentum_and_fresh_networks():
    """Two updates written out by hand, with all of each class as the real batch and no augmentation."""
    dataset = random_dataset()
    changes = {"iterations": 1, "lr": 0.3, "batch_real": 100, "augmentation": "none"}
    result = distil(dataset=dataset, changes=changes)

    weights = generator(0, "distillation", "network")
    network = build_network("convnet-w4-d2-in", classes=CLASSES, side=SIDE, generator=weights)
    images = real_initialisation(dataset, IPC, generator(0, "distillation", "initial images")).images
    velocity = torch.zeros_like(images)
    real = [dataset.images[dataset.labels == label] for label in range(CLASSES)]
    draws = [augmentation.draw("none", 1, SIDE, stream(0))] * CLASSES
    for _ in range(2):
        initialise(network, weights)
        images.requires_grad_()
        loss = reference_loss(network, real, images.split(IPC), draws, "in")
        velocity = 0.5 * velocity + torch.autograd.grad(loss, images)[0]
        images = images.detach() - 0.3 * velocity
    torch.testing.assert_close(result.images, images, rtol=1e-4, atol=1e-5)


def test_iterations_names_the_last_index_and_progress_sees_every_update():
    seen = []
    distil(changes={"iterations": 4}, progress=lambda *call: seen.append(call))
    assert [call[:2] for call in seen] == [(count, 5) for count in range(1, 6)]
    assert all(not loss.requires_grad and loss.shape == () for *_, loss in seen)


@pytest.mark.parametrize("norm", ["in", "bn"])
def test_dm_brings_the_mean_embeddings_together(norm):
    """Measured with networks that distillation has never seen, from a start far from the class means."""
    dataset = random_dataset((20, 20, 20))
    network = f"convnet-w8-d2-{norm}"
    changes = {"iterations": 60, "lr": 0.5, "augmentation": "flip", "batch_real": 20}
    before = real_initialisation(dataset, 1, generator(0, "distillation", "initial images"))
    after = distil(dataset=dataset, changes=changes, ipc=1, network=network)
    real = [dataset.images[dataset.labels == label] for label in range(CLASSES)]
    draws = [augmentation.draw("none", 1, SIDE, stream(0))] * CLASSES
    losses = {"before": 0.0, "after": 0.0}
    for seed in range(5):
        unseen = build_network(network, classes=CLASSES, side=SIDE, generator=stream(1000 + seed))
        for when, images in (("before", before.images), ("after", after.images)):
            loss = dm.matching_loss(unseen, real, images.split(1), draws, align_corners=False)
            losses[when] += loss.item()
    assert losses["after"] < 0.7 * losses["before"]


def test_result_is_class_major_and_the_dataset_is_untouched():
    dataset = random_dataset()
    copied = dataset.images.clone()
    result = distil(dataset=dataset)
    assert result.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert result.images.shape == (6, 3, SIDE, SIDE) and result.images.dtype == torch.float32
    assert not result.images.requires_grad
    assert torch.equal(dataset.images, copied)


def test_seed_determines_the_result_and_global_state_does_not():
    states = []
    torch.manual_seed(0)
    first = distil(seed=3, progress=lambda *call: states.append(torch.get_rng_state()))
    assert all(torch.equal(state, states[0]) for state in states)
    torch.manual_seed(1)
    assert torch.equal(first.images, distil(seed=3).images)
    assert not torch.equal(first.images, distil(seed=4).images)


@pytest.mark.parametrize("network", ["convnet-w4-d2-in", "convnet-w4-d2-bn"])
@settings(max_examples=6)
@given(kill_after=st.lists(st.integers(1, 6), min_size=1, max_size=3), every=st.integers(1, 3))
def test_killed_and_started_again_is_bit_identical(network, kill_after, every):
    whole = distil(network=network)
    checkpoint = MemoryCheckpoint(every)
    for last in kill_after:

        def die(finished, total, loss, last=last):
            if finished == last:
                raise Killed

        try:
            resumed = distil(network=network, progress=die, checkpoint=checkpoint)
        except Killed:
            resumed = None
    if resumed is None:
        resumed = distil(network=network, checkpoint=checkpoint)
    assert torch.equal(resumed.images, whole.images)
    assert torch.equal(resumed.labels, whole.labels)


def test_checkpoint_continues_instead_of_starting_over():
    checkpoint = MemoryCheckpoint()
    distil(checkpoint=checkpoint)
    seen = []
    again = distil(checkpoint=checkpoint, progress=lambda *call: seen.append(call))
    assert seen == []
    assert torch.equal(again.images, distil().images)
    assert all(isinstance(value, torch.Tensor) for value in checkpoint.state.values())


HINT = r"dm with convnet-w4-d2-in at lr \S+: lower the lr, or look for NaN in the training images$"


@pytest.mark.parametrize("total", [3, 101])
def test_diverging_loss_names_the_first_bad_update_and_gives_back_what_was_before(total):
    """The images are finite and useless after update 1; update 2 has no loss, whenever that is noticed."""
    message = rf"^stopped after update 2 of {total}: loss nan, images not finite \(after update 1: loss \d[\d.]*\); "
    with pytest.raises(Diverged, match=message + HINT) as stopped:
        distil(changes={"lr": 1e36, "iterations": total - 1})
    assert stopped.value.update == 1
    first_alone = distil(changes={"lr": 1e36, "iterations": 0})
    assert torch.equal(stopped.value.learned["images"], first_alone.images)


def test_pixels_lost_in_the_last_update_are_an_error():
    """Pale images have large gradients behind a normalisation: the loss is finite, the step is not."""
    dataset = random_dataset()
    pale = RealImages(dataset.images * 0.001, dataset.labels, dataset.classes)
    with pytest.raises(Diverged, match=r"^stopped after update 1 of 1: loss \d[\d.]*, images not finite; " + HINT):
        distil(dataset=pale, changes={"lr": 3e38, "iterations": 0})


@pytest.mark.parametrize("seed", range(4))
def test_nan_in_a_training_image_is_found_in_the_update_that_draws_it(seed):
    """One real image of each class and update, drawn again here from the same stream."""
    dataset = random_dataset()
    start = positions(
        real_initialisation(dataset, IPC, generator(seed, "distillation", "initial images")).images, dataset
    )
    lost = next(index for index in range(len(dataset.labels)) if index not in start)
    members, batches = indices_by_class(dataset), generator(seed, "distillation", "batches")
    indices = torch.arange(len(dataset.labels))
    first = next(update for update in range(1, 61) if torch.cat([*sample(indices, members, 1, batches)]).eq(lost).any())
    dataset.images[lost] = float("nan")
    with pytest.raises(Diverged, match=f"^stopped after update {first} of 60: loss nan, images not finite") as stopped:
        distil(dataset=dataset, changes={"batch_real": 1, "iterations": 59}, seed=seed)
    assert stopped.value.update == first - 1
    assert stopped.value.learned["images"].isfinite().all()


# --- random real images ----------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), ipc=st.integers(1, 5))
def test_random_takes_distinct_real_images_of_the_right_class(seed, ipc):
    dataset = random_dataset()
    result = distil(random, dataset=dataset, ipc=ipc, network=None, seed=seed)
    found = positions(result.images, dataset)
    assert len(set(found)) == CLASSES * ipc
    assert dataset.labels[found].tolist() == result.labels.tolist() == sorted(list(range(CLASSES)) * ipc)


def test_random_reaches_every_image_and_follows_the_seed():
    dataset = random_dataset()
    sets = [distil(random, dataset=dataset, network=None, seed=seed) for seed in range(60)]
    chosen = [positions(one.images, dataset) for one in sets]
    assert set().union(*chosen) == set(range(len(dataset.labels)))
    assert len({tuple(one) for one in chosen}) > 50


def test_random_is_where_dm_starts():
    start = distil(random, network=None)
    still = distil(changes={"lr": 1e-12})
    torch.testing.assert_close(start.images, still.images)


@pytest.mark.parametrize("method", [dm, random])
def test_class_with_too_few_images_is_named(method):
    with pytest.raises(ElfError, match="class 1 has 5 training images, fewer than ipc = 6"):
        distil(method, ipc=6)
