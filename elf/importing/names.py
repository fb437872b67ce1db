"""What the name of a file says about the values in it, where the code behind such names leaves no choice."""

import re
from dataclasses import dataclass

from elf.data.preprocessing import WHITENED
from elf.errors import ElfError
from elf.importing.finding import RESULT_NAME

FAMILY_OF_DC = ("DC", "DSA", "DM")
"""Methods whose code never whitens, and normalises each data set with constants of its own."""
CONSTANTS_OF_DC = {
    "mnist": "mnist",
    "fashionmnist": "fashionmnist",
    "svhn": "svhn",
    "cifar10": "cifar",
    "cifar100": "cifar100-dc",
    "tinyimagenet": "imagenet",
}
PIXELS = re.compile(r"(.*[_.-])?images?_zca([_.-].*)?", re.IGNORECASE)
"""Files that the code of MTT, TESLA and FTD writes beside whitened images: the same without whitening, not clipped."""
COLOURED = re.compile("cifar|svhn|imagenet|stl|celeb|imagenette|imagewoof", re.IGNORECASE)


@dataclass(frozen=True)
class Said:
    """What a name says.

    Attributes
    ----------
    space : str or None
        ``"unit"`` or ``"normalised"``: decides where the values do not contradict; None if it says nothing.
    constants : str or None
        What normalised images of that name are normalised with.
    reason : str
    """

    space: str | None
    constants: str | None
    reason: str


def result_name(stem: str) -> re.Match | None:
    """Take ``res_<METHOD>_<DATASET>_<NET>_<IPC>ipc`` apart, also behind a prefix such as ``modelpool_``."""
    starts = [match.start() for match in re.finditer(r"(?<![A-Za-z0-9])res_", stem)]
    return next((match for start in starts if (match := RESULT_NAME.fullmatch(stem, start))), None)


def said_by_name(stem: str, dataset: str | None = None, normalisation: str | None = None) -> Said | None:
    """Return what the name of a file says, or else the data set.

    Parameters
    ----------
    stem : str
        Of the file with the images.
    dataset, normalisation : str, optional
        Of the data set, if it is known.
    """
    if PIXELS.fullmatch(stem):
        return Said("unit", None, "files of such names hold what was whitened as pixels again, not clipped")
    result = result_name(stem)
    if result:
        named = re.sub("[^a-z0-9]", "", result["dataset"].lower())
        family = re.split("[_-]", result["method"].upper())[-1] in FAMILY_OF_DC
        whitened = "zca" in named or "frepo" in named or "whit" in named
        space = "normalised" if family and not whitened else None
        files = f"files named res_{result['method']}_{result['dataset']}_..."
        constants = _constants(named, family)
        if constants is not None:
            return Said(space, constants, f"which the code behind {files} uses")
        if space is not None:
            return Said(space, None, f"the code behind {files} never whitens; nothing tells its constants")
    if normalisation is not None and normalisation not in WHITENED:
        return Said(None, normalisation, f"which {dataset or 'the data set'} uses; the values do not tell them")
    return None


def _constants(dataset: str, family: bool) -> str | None:
    if dataset == "cifar10":
        return "cifar"
    if "imagenet" in dataset:
        return "imagenet"
    return CONSTANTS_OF_DC.get(dataset) if family else None


def refuse_grey_in_colour(stem: str, dataset: str | None) -> None:
    """Raise an error if images of one channel are said to belong to a data set of colours."""
    result = result_name(stem)
    for name in (dataset, result["dataset"] if result else None):
        if name is not None and COLOURED.search(name):
            raise ElfError(
                f"the images have one channel, but {name} has colours; name the data set that they belong to"
            )
