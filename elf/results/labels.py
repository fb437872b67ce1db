"""What methods, networks, objectives and settings are called in print."""

from collections.abc import Iterable

from elf.specs.columns import BY_NAME
from elf.specs.labels import UNCHANGED
from elf.specs.objective import printed_name
from elf.specs.teacher import FULL_DATA

METHOD_LABELS = {
    "dm": "DM",
    "dsa": "DSA",
    "mtt": "MTT",
    "tesla": "TESLA",
    "frepo": "FrePo",
    "random": "Random real images",
    FULL_DATA: "Full data",
    "herding": "Herding",
    "k-center": "k-center",
    "k-means": "k-means",
}
DATASET_LABELS = {
    "cifar10": "CIFAR-10",
    "cifar10-frepo": "CIFAR-10 for FrePo",
    "cifar100": "CIFAR-100",
    "tiny-imagenet": "Tiny ImageNet",
    "cifar100-zca": "CIFAR-100 with ZCA",
    "imagenet-1k": "ImageNet-1K",
}
FAMILY_LABELS = {"convnet": "ConvNet", "resnet18": "ResNet18", "vgg11": "VGG11", "frepoconv": "FrePo-Conv"}
NORM_ORDER = ("in", "bn")
DISTANCE_LABELS = {"ce": "CE", "mae": "MAE", "mse": "MSE", "cos": "Cos"}


def method_label(name: str) -> str:
    """Return the name of a distillation method as the paper prints it."""
    return METHOD_LABELS.get(name, name)


def dataset_label(name: str) -> str:
    """Return the name of a dataset as the paper prints it."""
    return DATASET_LABELS.get(name, name)


def objective_label(name: str) -> str:
    """Return the label of a table row: ``baseline``, ``+ ELF``, ``+ ELF[front+task]``, ``+ KD, labels unchanged``."""
    if name.endswith(UNCHANGED):
        return objective_label(name.removesuffix(UNCHANGED)) + UNCHANGED
    objective, bracket, mark = name.partition("[")
    return printed_name(objective) + bracket + mark


def network_label(name: str, *, short: bool = True) -> str:
    """Return a network as the paper prints it: ``ConvNet-IN``, or in full ``ConvNet-W128-D3-IN``."""
    family, *parts = name.split("-")
    if family not in FAMILY_LABELS or not parts:
        return name
    return "-".join([FAMILY_LABELS[family], *(part.upper() for part in (parts[-1:] if short else parts))])


def network_labels(names: Iterable[str]) -> dict[str, str]:
    """Return the short label of each network, and the full one where two would share the short one."""
    names = list(dict.fromkeys(names))
    short = {name: network_label(name) for name in names}
    shared = [label for label in short.values() if list(short.values()).count(label) > 1]
    return {name: network_label(name, short=label not in shared) for name, label in short.items()}


def network_order(name: str) -> tuple:
    """Return the sorting key of the paper's column order: by family, then IN before BN."""
    family, norm = name.split("-")[0], name.split("-")[-1]
    families = list(FAMILY_LABELS)
    return (
        families.index(family) if family in families else len(families),
        NORM_ORDER.index(norm) if norm in NORM_ORDER else len(NORM_ORDER),
    )


VARIANT_LABELS = {
    "best_on_test": "selected on the test set",
    "validation": "selected on validation images",
    "mse": "MSE distance",
    "constant-memory": "constant-memory gradient",
}


PRINTED = {
    "method": method_label,
    "dataset": dataset_label,
    "network": lambda name: network_label(name, short=False),
    "variant": lambda name: VARIANT_LABELS.get(name, name),
    "distance": lambda name: DISTANCE_LABELS.get(name, name),
}
"""How names are printed, by what they are names of."""


def group_label(column: str, value) -> str:
    """Return what tells one group of a table from others of its method: ``CIFAR-100``, ``IPC 10``, ``on VGG11-IN``."""
    if column == "paper_eval_network":
        return f"on {value_label(column, value)}"
    return dataset_label(value) if column == "paper_dataset" else setting_label(column, value)


def setting_label(column: str, value) -> str:
    """Return a setting and its value for print, such as ``λ front 0.5`` or ``teacher epoch 30``."""
    return f"{BY_NAME[column].printed} {value_label(column, value)}"


def value_label(column: str, value) -> str:
    """Return the value of a key column for print."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    names = BY_NAME[column].names
    return PRINTED[names](value) if names else value


def describe(key: dict) -> str:
    """Return one line that names a cell."""
    return f"{method_label(key['method'])} {objective_label(key['objective'])} on {key['eval_network']}"


def scale_text(about: dict) -> str:
    """Return the sentences on scale and stand-ins that every caption ends with."""
    stand_ins = str(about.get("stand_ins") or "").strip().rstrip(".")
    return f"Scale: {about['scale']}." + (f" {stand_ins}." if stand_ins else "")


def signed(fraction: float) -> str:
    """Return a difference of fractions in percentage points, with its sign and two decimals."""
    text = f"{100 * fraction:+.2f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")
