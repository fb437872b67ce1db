"""Images in memory, normalisation and ZCA whitening."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from elf.data.images import Dataset, LabelledImages, indices_by_class, subset
from elf.data.preprocessing import CONSTANTS, WHITENED, ZCA, Normalisation, fit, fit_zca, from_tensors, normalisation
from elf.errors import ElfError


def random_images(count: int, side: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def correlated_images(count: int, side: int) -> torch.Tensor:
    """Smooth images with a wide range of eigenvalues, as photographs have."""
    noise = random_images(count, side).double()
    smooth = noise.cumsum(2).cumsum(3)
    return (255 * smooth / smooth.max()).round().to(torch.uint8)


def covariance(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(0)
    return centred.T @ centred / (len(rows) - 1)


class TestLabelledImages:
    @pytest.mark.parametrize(
        ("images", "labels"),
        [
            (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64)),
            (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)),
            (torch.zeros(2, 3, 4, 5, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)),
            (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int32)),
            (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
            (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 1, dtype=torch.int64)),
        ],
    )
    def test_wrong_shapes_and_types_are_refused(self, images, labels):
        with pytest.raises(ValueError, match="expected"):
            LabelledImages(images, labels)

    @pytest.mark.parametrize(
        ("names", "train_labels", "test_labels", "message"),
        [
            (("only",), [0, 0], [0], "at least 2"),
            (("a", "a"), [0, 1], [0], "'a' occurs twice"),
            (("a", "b", "c"), [0, 2], [0], r"1 of 3 classes have no training image \(b\)"),
            (("a", "b"), [0, 1], [2], "test split has label 2, allowed are 0 to 1"),
            (("a", "b"), [0, 1], [-1], "test split has label -1"),
            (("a", "b"), [0, 1], [], "test split has no images"),
        ],
    )
    def test_datasets_that_make_no_sense_are_refused(self, names, train_labels, test_labels, message):
        train, test = (
            LabelledImages(random_images(len(labels), 4), torch.tensor(labels, dtype=torch.int64))
            for labels in (train_labels, test_labels)
        )
        with pytest.raises(ElfError, match=message):
            Dataset("pets", names, train, test)

    @given(st.lists(st.integers(0, 4), max_size=40))
    def test_indices_by_class_against_a_loop(self, labels):
        expected = [[place for place, label in enumerate(labels) if label == wanted] for wanted in range(5)]
        found = indices_by_class(torch.tensor(labels, dtype=torch.int64), 5)
        assert [indices.tolist() for indices in found] == expected

    @given(st.permutations([0] * 5 + [1] * 7 + [2] * 3), st.integers(1, 3))
    def test_subset_keeps_the_first_of_each_class_in_order(self, labels, per_class):
        images = LabelledImages(random_images(15, 4), torch.tensor(labels))
        places = [place for place, label in enumerate(labels) if labels[:place].count(label) < per_class]
        kept = subset(images, per_class)
        assert torch.equal(kept.images, images.images[places])
        assert torch.equal(kept.labels, images.labels[places])

    def test_subset_of_a_class_with_fewer_images_is_an_error(self):
        images = LabelledImages(random_images(5, 4), torch.tensor([0, 1, 0, 1, 0]))
        assert subset(images, None) is images
        with pytest.raises(ElfError, match=r"cats, train: class 1 has 2 images, but 3 per class .* at most 2"):
            subset(images, 3, what="cats, train")
        with pytest.raises(ElfError, match="1 and more"):
            subset(images, 0)


class TestNormalisation:
    @pytest.mark.parametrize("name", CONSTANTS)
    def test_against_float64_and_back(self, name):
        images = random_images(7, 5)
        mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in CONSTANTS[name])
        constants = normalisation(name)
        normalised = constants.transform(images)
        assert normalised.dtype == torch.float32
        np.testing.assert_allclose(normalised.numpy(), (images.numpy() / 255 - mean) / std, atol=1e-5)
        np.testing.assert_allclose(constants.inverse(normalised).numpy(), images.numpy() / 255, atol=1e-6)

    def test_inverse_does_not_clip(self):
        assert Normalisation(*CONSTANTS["digits"]).inverse(torch.full((1, 3, 2, 2), 3.0)).unique().item() == 2.0

    def test_stored_and_read_back_exactly(self):
        constants = normalisation("cifar")
        assert from_tensors(constants.to_tensors()) == constants

    def test_unknown_names_and_tensors(self):
        with pytest.raises(ElfError, match="'mnist' is unknown; allowed are cifar, "):
            normalisation("mnist")
        with pytest.raises(ElfError, match="found tensors images, mean"):
            from_tensors({"images": torch.zeros(1), "mean": torch.zeros(3)})

    def test_floats_are_refused(self):
        with pytest.raises(ValueError, match=r"torch\.uint8"):
            normalisation("cifar").transform(torch.zeros(1, 3, 4, 4))


class TestZCA:
    @pytest.mark.parametrize(("count", "side"), [(400, 4), (100, 8), (1500, 5)])
    def test_against_numpy_in_float64(self, count, side):
        images = correlated_images(count, side)
        rows = images.numpy().reshape(count, -1) / 255
        # By singular values of the data, where the project uses eigenvalues of the covariance.
        _, singular, directions = np.linalg.svd(rows - rows.mean(0), full_matrices=True)
        eigenvalues = np.zeros(rows.shape[1])
        eigenvalues[: len(singular)] = singular**2 / (count - 1)
        matrix = directions.T @ np.diag((eigenvalues + 0.1) ** -0.5) @ directions
        zca = fit_zca(images)
        np.testing.assert_allclose(zca.matrix.numpy(), matrix, atol=1e-6)
        np.testing.assert_allclose(zca.inverse_matrix.numpy(), np.linalg.inv(matrix), atol=1e-6)
        whitened = zca.transform(images)
        assert whitened.shape == images.shape and whitened.dtype == torch.float32
        expected = ((rows - rows.mean(0)) @ matrix).reshape(images.shape)
        np.testing.assert_allclose(whitened.numpy(), expected, atol=1e-5)

    def test_whitened_covariance_has_the_closed_form(self):
        images = correlated_images(600, 4)
        before = np.linalg.eigvalsh(covariance(images.numpy().reshape(600, -1) / 255))
        after = np.linalg.eigvalsh(covariance(fit_zca(images).transform(images).double().numpy().reshape(600, -1)))
        np.testing.assert_allclose(after, before / (before + 0.1), atol=1e-5)

    @given(count=st.integers(2, 30), side=st.integers(1, 6), seed=st.integers(0, 9))
    def test_invertible_on_images_it_was_not_fitted_on(self, count, side, seed):
        zca, others = fit_zca(random_images(count, side, seed)), random_images(5, side, seed + 100)
        back = zca.inverse(zca.transform(others))
        np.testing.assert_allclose(back.numpy(), others.numpy() / 255, atol=1e-4)

    def test_stored_and_read_back_exactly(self):
        images = correlated_images(50, 4)
        zca = fit_zca(images)
        again = from_tensors(zca.to_tensors())
        assert isinstance(again, ZCA)
        assert torch.equal(again.transform(images), zca.transform(images))
        assert torch.equal(again.inverse(images), zca.inverse(images))

    @pytest.mark.parametrize(("count", "side"), [(400, 4), (100, 8)])
    def test_the_whitening_of_frepo_against_numpy(self, count, side):
        """Standardised pixels, explicitly; with fewer images than values what has no rank is left alone."""
        images = correlated_images(count, side)
        mean, std = (np.repeat(values, side * side) for values in CONSTANTS["frepo-cifar10"])
        rows = (images.numpy().reshape(count, -1) / 255 - mean) / std
        centred = rows - rows.mean(0)
        size = rows.shape[1]
        covariance_matrix = centred.T @ centred / count
        vectors, singular, _ = np.linalg.svd(
            covariance_matrix + 0.1 * np.trace(covariance_matrix) / size * np.eye(size)
        )
        powers = singular**-0.5
        powers[count - 1 :] = 1
        matrix = vectors @ np.diag(powers) @ vectors.T
        zca = fit("frepo-cifar10-zca", images)
        np.testing.assert_allclose(zca.transform(images).numpy().reshape(count, -1), centred @ matrix, atol=2e-5)
        others = random_images(5, side, seed=1)
        expected = ((others.numpy().reshape(5, -1) / 255 - mean) / std - rows.mean(0)) @ matrix
        np.testing.assert_allclose(zca.transform(others).numpy().reshape(5, -1), expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(zca.inverse(zca.transform(others)).numpy(), others.numpy() / 255, atol=1e-4)

    def test_covariance_whitened_as_in_frepo_has_the_closed_form(self):
        images = correlated_images(600, 4)
        std = np.repeat(CONSTANTS["frepo-cifar100"][1], 16)
        before = np.linalg.eigvalsh(np.cov(images.numpy().reshape(600, -1) / 255 / std, rowvar=False, ddof=0))
        whitened = fit("frepo-cifar100-zca", images).transform(images).double().numpy().reshape(600, -1)
        after = np.linalg.eigvalsh(np.cov(whitened, rowvar=False, ddof=0))
        np.testing.assert_allclose(after, before / (before + 0.1 * before.mean()), atol=1e-5)

    def test_names_of_whitenings(self):
        images = correlated_images(50, 4)
        assert all(isinstance(fit(name, images), ZCA) and name.endswith("zca") for name in WHITENED)
        assert {constants for constants in WHITENED.values() if constants} <= CONSTANTS.keys()
        assert torch.equal(fit("zca", images).matrix, fit_zca(images).matrix)
        assert fit("cifar", images) == normalisation("cifar")
        with pytest.raises(ElfError, match="'whitened' is unknown"):
            fit("whitened", images)

    def test_one_image_is_too_few(self):
        with pytest.raises(ElfError, match="at least 2"):
            fit_zca(random_images(1, 4))
