"""Names of networks: round trip, scaling, closed-form feature shapes, teachers that fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf.errors import ElfError
from elf.specs.network import NetworkName, feature_shape, matching_teacher, parse

widths = st.integers(1, 2048)
norms = st.sampled_from(["in", "bn"])
names = st.one_of(
    st.builds(NetworkName, st.just("convnet"), widths, st.integers(1, 9), norms),
    st.builds(NetworkName, st.sampled_from(["resnet18", "vgg11"]), widths, st.none(), norms),
    st.builds(NetworkName, st.just("frepoconv"), widths, st.none(), st.sampled_from(["bn", "none"])),
    st.builds(lambda model: NetworkName("torchvision", model=model), st.from_regex("[a-z0-9_]+", fullmatch=True)),
)


@given(names)
def test_parsing_undoes_writing(name):
    assert parse(str(name)) == name


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("convnet-w128-d3-in", ("convnet", 128, 3, "in", None)),
        ("resnet18-bn", ("resnet18", 64, None, "bn", None)),
        ("resnet18-w8-bn", ("resnet18", 8, None, "bn", None)),
        ("vgg11-in", ("vgg11", 64, None, "in", None)),
        ("frepoconv-w128-bn", ("frepoconv", 128, None, "bn", None)),
        ("frepoconv-w64-none", ("frepoconv", 64, None, "none", None)),
        ("torchvision:mobilenet_v2", ("torchvision", None, None, None, "mobilenet_v2")),
    ],
)
def test_parts_of_names(text, parts):
    assert parse(text) == NetworkName(*parts)
    assert str(parse(text)) == text


def test_standard_width_has_one_name():
    assert str(parse("resnet18-w64-bn")) == "resnet18-bn"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "convnet",
        "convnet-w128-in",
        "convnet-w0-d3-in",
        "convnet-w128-d03-in",
        "convnet-w128-d3-ln",
        "ConvNet-w128-d3-in",
        "resnet18",
        "resnet18-d3-in",
        "resnet34-in",
        "vgg11-w-in",
        "frepoconv-bn",
        "frepoconv-w128-in",
        "frepoconv-w128-d3-bn",
        "convnet-w128-d3-none",
        "vgg11-in\n",
        "torchvision:",
        "torchvision:../x",
    ],
)
def test_unknown_names_say_what_is_allowed(text):
    with pytest.raises(ElfError) as caught:
        parse(text)
    message = str(caught.value)
    assert repr(text) in message and "\n" not in message
    assert all(example in message for example in ["convnet-w128-d3-in", "resnet18-bn", "torchvision:mobilenet_v2"])


def test_scaling_multiplies_the_width_only():
    assert str(parse("convnet-w128-d3-bn").scaled(0.125)) == "convnet-w16-d3-bn"
    assert str(parse("resnet18-bn").scaled(0.125)) == "resnet18-w8-bn"
    assert str(parse("vgg11-w8-in").scaled(8)) == "vgg11-in"
    assert str(parse("frepoconv-w128-none").scaled(0.0625)) == "frepoconv-w8-none"
    assert parse("convnet-w192-d3-in").scaled(1 / 3).width == 64
    assert parse("torchvision:resnet18").scaled(1) == parse("torchvision:resnet18")


@pytest.mark.parametrize(
    ("text", "multiplier"),
    [
        ("convnet-w12-d3-in", 0.125),
        ("resnet18-in", 1e-12),
        ("vgg11-in", 0),
        ("vgg11-in", -1),
        ("vgg11-in", float("nan")),
        ("torchvision:resnet18", 0.5),
    ],
)
def test_scaling_refuses_what_is_no_width(text, multiplier):
    with pytest.raises(ElfError, match=r"width multiplier .*" + text):
        parse(text).scaled(multiplier)


@pytest.mark.parametrize(
    ("text", "side", "shape", "teacher"),
    [
        ("convnet-w128-d3-in", 32, (128, 4, 4), "convnet-w128-d3-in"),
        ("convnet-w128-d3-bn", 32, (128, 4, 4), "convnet-w128-d3-in"),
        ("convnet-w512-d3-in", 32, (512, 4, 4), "convnet-w512-d3-in"),
        ("convnet-w128-d4-in", 32, (128, 2, 2), "convnet-w128-d4-in"),
        ("resnet18-bn", 32, (512, 4, 4), "convnet-w512-d3-in"),
        ("vgg11-in", 32, (512, 4, 4), "convnet-w512-d3-in"),
        ("convnet-w128-d4-bn", 64, (128, 4, 4), "convnet-w128-d4-in"),
        ("resnet18-in", 64, (256, 4, 4), "convnet-w256-d4-in"),
        ("vgg11-bn", 64, (512, 4, 4), "convnet-w512-d4-in"),
        ("resnet18-w8-bn", 32, (64, 4, 4), "convnet-w64-d3-in"),
        ("vgg11-w8-in", 64, (64, 4, 4), "convnet-w64-d4-in"),
        ("vgg11-in", 224, (512, 14, 14), "convnet-w512-d4-in"),
        ("frepoconv-w128-bn", 32, (512, 4, 4), "convnet-w512-d3-in"),
        ("frepoconv-w128-none", 64, (512, 8, 8), "convnet-w512-d3-in"),
    ],
)
def test_feature_shapes_and_teachers(text, side, shape, teacher):
    """Section "split points and feature tensors" of the method sheet, and two scaled widths."""
    assert feature_shape(text, side) == shape
    assert feature_shape(parse(text), side) == shape
    assert matching_teacher(text, side) == teacher
    assert feature_shape(teacher, side) == shape


def test_torchvision_has_no_closed_form():
    assert feature_shape("torchvision:mobilenet_v2", 32) is None
    assert matching_teacher("torchvision:mobilenet_v2", 32) is None


@pytest.mark.parametrize(
    ("text", "side"), [("convnet-w8-d6-in", 32), ("vgg11-in", 28), ("resnet18-in", 4), ("frepoconv-w8-bn", 7)]
)
def test_images_too_small(text, side):
    with pytest.raises(ElfError, match=rf"{text} needs .* found side {side}"):
        feature_shape(text, side)


def test_no_teacher_fits_an_odd_map():
    with pytest.raises(ElfError, match="no ConvNet fits resnet18-in on images of side 33"):
        matching_teacher("resnet18-in", 33)


def test_names_need_no_torch(run_python):
    code = "import sys, elf.specs.network; sys.exit('torch' in sys.modules)"
    assert run_python("-c", code).returncode == 0
