"""DSA operators against naive per-pixel loops, their ranges, gradients and independence of global state."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import stream
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from elf.data import augmentation
from elf.data.augmentation import CATEGORIES, STRATEGY, Draw
from elf.errors import ElfError


def random_images(seed: int, count: int = 3, side: int = 8, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=stream(seed), dtype=dtype)


def naive_color(image, brightness, saturation, contrast):
    side = image.shape[1]
    image = image + brightness
    out = np.empty_like(image)
    for y in range(side):
        for x in range(side):
            grey = sum(image[c, y, x] for c in range(3)) / 3
            for c in range(3):
                out[c, y, x] = (image[c, y, x] - grey) * saturation + grey
    mean = out.sum() / out.size
    return (out - mean) * contrast + mean


def naive_crop(image, down, right):
    side = image.shape[1]
    limit = int(0.125 * side + 0.5)
    padded = np.zeros((3, side + 2 * limit, side + 2 * limit))
    padded[:, limit : limit + side, limit : limit + side] = image
    return padded[:, limit + down : limit + down + side, limit + right : limit + right + side]


def naive_cutout(image, row, column):
    side = image.shape[1]
    square = int(0.5 * side + 0.5)
    out = image.copy()
    for dy in range(square):
        for dx in range(square):
            y = min(max(row - square // 2 + dy, 0), side - 1)
            x = min(max(column - square // 2 + dx, 0), side - 1)
            out[:, y, x] = 0
    return out


def naive_flip(image, mirrored):
    return np.stack([[line[::-1] for line in channel] for channel in image]) if mirrored else image


def naive_warp(image, matrix, align_corners):
    """Bilinear sampling at matrix @ (x, y), coordinates in [-1, 1], zero outside; one pixel at a time."""
    side = image.shape[1]
    out = np.zeros_like(image)
    for i in range(side):
        for j in range(side):
            if align_corners:
                x, y = 2 * j / (side - 1) - 1, 2 * i / (side - 1) - 1
            else:
                x, y = (2 * j + 1) / side - 1, (2 * i + 1) / side - 1
            x, y = matrix[0][0] * x + matrix[0][1] * y, matrix[1][0] * x + matrix[1][1] * y
            if align_corners:
                column, row = (x + 1) * (side - 1) / 2, (y + 1) * (side - 1) / 2
            else:
                column, row = ((x + 1) * side - 1) / 2, ((y + 1) * side - 1) / 2
            for source_row in (math.floor(row), math.floor(row) + 1):
                for source_column in (math.floor(column), math.floor(column) + 1):
                    if 0 <= source_row < side and 0 <= source_column < side:
                        weight = (1 - abs(row - source_row)) * (1 - abs(column - source_column))
                        out[:, i, j] += weight * image[:, source_row, source_column]
    return out


def naive(image, category, parameters, align_corners):
    match category:
        case "color":
            return naive_color(image, **parameters)
        case "crop":
            return naive_crop(image, **parameters)
        case "cutout":
            return naive_cutout(image, **parameters)
        case "flip":
            return naive_flip(image, **parameters)
        case "scale":
            return naive_warp(image, [[parameters["x"], 0], [0, parameters["y"]]], align_corners)
        case "rotate":
            angle = parameters["angle"]
            matrix = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
            return naive_warp(image, matrix, align_corners)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("category", CATEGORIES)
@given(seed=st.integers(0, 2**20), side=st.sampled_from([6, 8, 9]), siamese=st.booleans())
def test_operator_equals_naive_loop(category, align_corners, seed, side, siamese):
    images = random_images(seed, side=side)
    drawn = augmentation.draw(category, 1 if siamese else 3, side, stream(seed + 1))
    result = augmentation.apply(images, drawn, align_corners=align_corners)
    assert drawn.category == category
    assert result.shape == images.shape
    for index, image in enumerate(images.numpy()):
        own = {name: value[0 if siamese else index].item() for name, value in drawn.parameters.items()}
        # Angles are float32, so that their cosine is, too.
        np.testing.assert_allclose(result[index].numpy(), naive(image, category, own, align_corners), atol=2e-5)


@pytest.mark.parametrize(
    ("category", "parameters"),
    [
        ("crop", {"down": [-1, 1, 0], "right": [1, -1, 0]}),
        ("cutout", {"row": [0, 8, 4], "column": [8, 0, 3]}),
        ("flip", {"mirrored": [True, False, True]}),
    ],
)
def test_extreme_parameters_equal_naive_loop_exactly(category, parameters):
    images = random_images(0)
    drawn = Draw(category, {name: torch.tensor(values) for name, values in parameters.items()})
    result = augmentation.apply(images, drawn, align_corners=True)
    for index, image in enumerate(images.numpy()):
        own = {name: values[index] for name, values in parameters.items()}
        np.testing.assert_array_equal(result[index].numpy(), naive(image, category, own, True))


def test_scale_above_one_shrinks_the_content():
    images = torch.ones(1, 3, 12, 12)
    shrunk = Draw("scale", {"x": torch.tensor([1.2]), "y": torch.tensor([1 / 1.2])})
    result = augmentation.apply(images, shrunk, align_corners=False)[0, 0]
    assert (result[:, 0] < 0.5).all() and (result[:, -1] < 0.5).all()
    assert torch.allclose(result[:, 1:-1], torch.ones(12, 10))


def test_grid_conventions_agree_up_to_rounding():
    """Scaling and rotating about the centre of a square moves every pixel alike in both conventions."""
    images = random_images(0)
    for category in ("scale", "rotate"):
        drawn = augmentation.draw(category, 3, 8, stream(5))
        both = [augmentation.apply(images, drawn, align_corners=flag) for flag in (False, True)]
        torch.testing.assert_close(both[0], both[1], atol=1e-12, rtol=0)
        assert (both[0] - images).abs().max() > 0.1


@pytest.mark.parametrize("category", CATEGORIES)
def test_siamese_draw_treats_batches_of_any_size_alike(category):
    images = random_images(1, count=7, dtype=torch.float32)
    for seed in range(5):
        drawn = augmentation.draw(category, 1, 8, stream(seed))
        whole = augmentation.apply(images, drawn, align_corners=False)
        for size in (1, 2, 7):
            assert torch.equal(augmentation.apply(images[:size], drawn, align_corners=False), whole[:size])


@pytest.mark.parametrize("category", CATEGORIES)
def test_per_image_parameters_belong_to_their_image(category):
    images = random_images(1, count=5, dtype=torch.float32)
    drawn = augmentation.draw(category, 5, 8, stream(2))
    whole = augmentation.apply(images, drawn, align_corners=True)
    for index in range(5):
        own = Draw(category, {name: value[index : index + 1] for name, value in drawn.parameters.items()})
        alone = augmentation.apply(images[index : index + 1], own, align_corners=True)
        torch.testing.assert_close(alone, whole[index : index + 1])


def test_categories_are_uniform_and_one_a_call():
    generator = stream(0)
    drawn = [augmentation.draw(STRATEGY, 2, 32, generator).category for _ in range(3000)]
    assert chisquare([drawn.count(category) for category in CATEGORIES]).pvalue > 0.01
    assert set(drawn) == {"color", "crop", "cutout", "flip", "scale", "rotate"}


@pytest.mark.parametrize(
    ("category", "name", "low", "high"),
    [
        ("color", "brightness", -0.5, 0.5),
        ("color", "saturation", 0, 2),
        ("color", "contrast", 0.5, 1.5),
        ("scale", "x", 1 / 1.2, 1.2),
        ("scale", "y", 1 / 1.2, 1.2),
        ("rotate", "angle", -15 * math.pi / 180, 15 * math.pi / 180),
    ],
)
def test_continuous_parameters_are_uniform_in_their_range(category, name, low, high):
    values = augmentation.draw(category, 5000, 32, stream(3)).parameters[name].numpy()
    assert kstest(values, "uniform", args=(low, high - low)).pvalue > 0.01


@pytest.mark.parametrize(
    ("category", "name", "side", "low", "high"),
    [
        ("crop", "down", 32, -4, 4),
        ("crop", "right", 64, -8, 8),
        ("cutout", "row", 32, 0, 32),
        ("cutout", "column", 64, 0, 64),
        ("cutout", "row", 9, 0, 8),
        ("flip", "mirrored", 32, 0, 1),
    ],
)
def test_discrete_parameters_are_uniform_in_their_range(category, name, side, low, high):
    values = augmentation.draw(category, 8000, side, stream(4)).parameters[name].long().numpy()
    assert (values.min(), values.max()) == (low, high)
    assert chisquare(np.bincount(values - low)).pvalue > 0.01


def test_parameters_of_one_category_are_independent():
    for category in ("color", "crop", "cutout", "scale"):
        parameters = augmentation.draw(category, 4000, 32, stream(5)).parameters
        correlations = np.corrcoef(np.stack([value.numpy() for value in parameters.values()]))
        assert np.abs(correlations - np.eye(len(parameters))).max() < 0.06


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("category", CATEGORIES)
def test_gradient_with_respect_to_pixels(category, align_corners):
    images = random_images(6, count=2, side=6).requires_grad_()
    drawn = augmentation.draw(category, 2, 6, stream(7))
    assert torch.autograd.gradcheck(
        lambda pixels: augmentation.apply(pixels, drawn, align_corners=align_corners), (images,)
    )


@pytest.mark.parametrize("align_corners", [True, False])
def test_the_gradient_whose_sums_have_an_order_is_that_of_grid_sample(align_corners):
    images, weights = random_images(0, 6, 7).requires_grad_(), random_images(1, 6, 7)
    # Some places lie outside, and some of those far away.
    grid = 1.5 * torch.randn(6, 7, 7, 2, generator=stream(2), dtype=torch.float64)
    ours = augmentation._Sampled.apply(images, grid, align_corners)
    others = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=align_corners)
    assert torch.equal(ours, others)
    gradients = [torch.autograd.grad((result * weights).sum(), images)[0] for result in (ours, others)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)


def test_none_is_the_identity():
    images = random_images(8)
    assert torch.equal(augmentation.augment(images, "none", stream(0)), images)


def test_augment_draws_per_image_and_repeats_with_the_generator():
    images = random_images(9, count=1, dtype=torch.float32).expand(6, -1, -1, -1)
    for seed in range(12):
        first = augmentation.augment(images, "color_scale_rotate", stream(seed))
        assert torch.equal(first, augmentation.augment(images, "color_scale_rotate", stream(seed)))
        assert len(torch.unique(first.flatten(1), dim=0)) == 6


def test_align_corners_is_the_default_of_augment():
    images = random_images(9)
    drawn = augmentation.draw("rotate", 3, 8, stream(1))
    expected = augmentation.apply(images, drawn, align_corners=True)
    assert torch.equal(augmentation.augment(images, "rotate", stream(1)), expected)


def test_global_random_state_is_neither_used_nor_changed():
    images = random_images(10)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = [augmentation.augment(images, category, stream(1)) for category in CATEGORIES]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    second = [augmentation.augment(images, category, stream(1)) for category in CATEGORIES]
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_unknown_category_is_named():
    with pytest.raises(ElfError, match=r"'color_zoom'.*'zoom'.*cutout"):
        augmentation.draw("color_zoom", 1, 32, stream(0))


def test_draw_of_another_batch_size_is_refused():
    drawn = augmentation.draw("flip", 4, 8, stream(0))
    with pytest.raises(ValueError, match="4 values of 'mirrored' for a batch of 3"):
        augmentation.apply(random_images(0), drawn, align_corners=True)
