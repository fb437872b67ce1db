"""Coresets against loops in NumPy: which images are chosen, and that they are real and distinct."""

import numpy as np
import pytest
import torch
from helpers import stream
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from elf.distillation import herding, k_center, k_means
from elf.distillation.shared.synthetic import RealImages
from elf.errors import ElfError
from elf.machine.randomness import generator

METHODS = [herding, k_center, k_means]
SIDE, CLASSES = 4, 3


def random_dataset(seed=0, counts=(12, 7, 9)) -> RealImages:
    """Images far from the origin, of different length, in shuffled order."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=stream(seed))]
    images = torch.randn(len(labels), 3, SIDE, SIDE, generator=stream(seed + 1))
    images *= torch.rand(len(labels), 1, 1, 1, generator=stream(seed + 2)) + 0.5
    return RealImages(images + 3 * labels[:, None, None, None] + 1, labels, len(counts))


def choose(method, dataset=None, *, ipc=3, seed=0, progress=lambda finished, total, loss: None):
    return method.distill(
        dataset or random_dataset(), settings={"starts": 2}, ipc=ipc, network=None, seed=seed, progress=progress
    )


def positions(images: torch.Tensor, dataset: RealImages) -> list[int]:
    """Return where each image is found in the dataset; fails if it is not exactly there."""
    found = [(dataset.images == image).flatten(1).all(1).nonzero() for image in images]
    assert all(len(one) == 1 for one in found)
    return [one.item() for one in found]


def vectors_of(dataset: RealImages, label: int) -> np.ndarray:
    return dataset.images[dataset.labels == label].reshape(-1, 3 * SIDE * SIDE).numpy().astype(np.float64)


def chosen_rows(method, dataset: RealImages, ipc: int, **others) -> list[list[int]]:
    """Return which images of each class were chosen, counted within the class, in the order of the set."""
    found = positions(choose(method, dataset, ipc=ipc, **others).images, dataset)
    members = [np.flatnonzero(dataset.labels.numpy() == label).tolist() for label in range(CLASSES)]
    return [
        [members[label].index(position) for position in found[label * ipc : (label + 1) * ipc]]
        for label in range(CLASSES)
    ]


@given(seed=st.integers(0, 1000), ipc=st.integers(1, 7))
def test_herding_keeps_the_mean_of_the_chosen_near_that_of_the_class(seed, ipc):
    dataset = random_dataset(seed)
    for label, chosen in enumerate(chosen_rows(herding, dataset, ipc)):
        vectors, expected = vectors_of(dataset, label), []
        for _ in range(ipc):
            distances = {
                row: np.linalg.norm(vectors[[*expected, row]].mean(axis=0) - vectors.mean(axis=0))
                for row in range(len(vectors))
                if row not in expected
            }
            expected.append(min(distances, key=distances.get))
        assert chosen == expected


@given(seed=st.integers(0, 1000), ipc=st.integers(1, 7))
def test_k_center_starts_at_the_mean_and_takes_the_farthest(seed, ipc):
    dataset = random_dataset(seed)
    for label, chosen in enumerate(chosen_rows(k_center, dataset, ipc)):
        vectors = vectors_of(dataset, label)
        expected = [int(np.argmin(np.linalg.norm(vectors - vectors.mean(axis=0), axis=1)))]
        while len(expected) < ipc:
            nearest = [min(np.linalg.norm(vector - vectors[other]) for other in expected) for vector in vectors]
            expected.append(int(np.argmax(nearest)))
        assert chosen == expected


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), ipc=st.integers(1, 7))
def test_k_means_takes_the_image_nearest_to_each_centre(seed, ipc):
    dataset = random_dataset(seed)
    states = generator(5, "distillation", "k-means")
    for label, chosen in enumerate(chosen_rows(k_means, dataset, ipc, seed=5)):
        vectors, expected = vectors_of(dataset, label), []
        state = int(torch.randint(2**31, (), generator=states))
        centred = (vectors - vectors.mean(axis=0)).astype(np.float32)
        for centre in KMeans(ipc, n_init=2, random_state=state).fit(centred).cluster_centers_:
            distances = np.linalg.norm(centred - centre, axis=1)
            expected.append(next(row for row in np.argsort(distances).tolist() if row not in expected))
        assert chosen == expected


def test_k_means_finds_separate_clusters():
    """Three heaps of each class: one image of every heap."""
    heaps = torch.arange(3).repeat(CLASSES * 5)
    labels = torch.arange(CLASSES).repeat_interleave(15)
    images = torch.randn(45, 3, SIDE, SIDE, generator=stream(0)) + 20 * heaps[:, None, None, None]
    dataset = RealImages(images, labels, CLASSES)
    found = positions(choose(k_means, dataset).images, dataset)
    assert [sorted(heaps[found[start : start + 3]].tolist()) for start in (0, 3, 6)] == [[0, 1, 2]] * 3


def test_a_centre_whose_image_is_taken_takes_the_next(monkeypatch):
    class SameCentres:
        cluster_centers_ = np.zeros((3, 1), dtype=np.float32)

        def fit(self, vectors):
            return self

    monkeypatch.setattr(k_means, "KMeans", lambda *_, **__: SameCentres())
    vectors = torch.tensor([[3.0], [-1.0], [2.0], [-4.0]])
    assert k_means.nearest_to_centres(vectors, 3, starts=1, random_state=0).tolist() == [1, 2, 0]


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=10)
@given(seed=st.integers(0, 1000), ipc=st.integers(1, 7))
def test_images_are_real_distinct_and_class_major(method, seed, ipc):
    dataset = random_dataset(seed)
    result = choose(method, dataset, ipc=ipc, seed=seed)
    found = positions(result.images, dataset)
    assert len(set(found)) == CLASSES * ipc
    assert dataset.labels[found].tolist() == result.labels.tolist() == sorted(list(range(CLASSES)) * ipc)


@pytest.mark.parametrize("method", [herding, k_center])
def test_equal_images_are_chosen_once_each(method):
    """Copies of one image are distinct images, the first of them first."""
    same = torch.ones(4, 2)
    choose_rows = {herding: herding.herd, k_center: k_center.farthest_first}[method]
    assert choose_rows(same - same.mean(0), 4).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_gives_the_same_set_and_global_state_plays_no_part(method):
    np.random.seed(0)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = choose(method, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    np.random.seed(1)
    torch.manual_seed(1)
    assert torch.equal(choose(method, seed=1).images, first.images)


def test_seed_decides_where_k_means_starts():
    assert len({str(chosen_rows(k_means, random_dataset(), 3, seed=seed)) for seed in range(8)}) > 1


@pytest.mark.parametrize("method", METHODS)
def test_progress_counts_classes(method):
    seen = []
    choose(method, progress=lambda *call: seen.append(call))
    assert seen == [(1, 3, None), (2, 3, None), (3, 3, None)]


@pytest.mark.parametrize("method", METHODS)
def test_set_holds_copies(method):
    dataset = random_dataset()
    copied = dataset.images.clone()
    choose(method, dataset).images.zero_()
    assert torch.equal(dataset.images, copied)


@pytest.mark.parametrize("method", METHODS)
def test_class_with_too_few_images_is_named(method):
    with pytest.raises(ElfError, match="class 1 has 7 training images, fewer than ipc = 8"):
        choose(method, ipc=8)
