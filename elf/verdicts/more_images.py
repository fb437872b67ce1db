"""The paper's ELF cells beside its plain cells with more images: what the bytes of the features could have bought."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from elf.results.statistics import Welch, welch
from elf.results.storage import IMAGE_BITS, Storage
from elf.specs.network import feature_shape
from elf.verdicts.observations import setting_of_row, summary_of
from elf.verdicts.printed import paper_side

SAME = ("paper_dataset", "method", "paper_distill_network", "paper_eval_network")
"""What both numbers share: only the number of images and the features differ."""


@dataclass(frozen=True)
class MoreImages:
    """A printed ELF cell and the printed plain cell with the next larger number of images per class.

    Attributes
    ----------
    elf, plain : dict
        Rows of the observations. Where several tables print a cell, ELF has the highest number, plain training the
        lowest, so that a repetition cannot speak against ELF.
    test : Welch
        Plain minus ELF, in percentage points.
    storage : Storage
        Of an image and its features.
    """

    elf: dict
    plain: dict
    test: Welch
    storage: Storage

    def bytes_a_class(self, image_bits: int) -> tuple[float, float]:
        """Return the bytes of a class with features in float32, and those of the plain images."""
        plain = Storage(self.storage.side).bytes(int(self.plain["ipc"]), image_bits=image_bits)
        return self.storage.bytes(int(self.elf["ipc"]), image_bits=image_bits), plain

    def break_even_bits(self, image_bits: int) -> float:
        """Return the bits of a feature's value at which both take the same bytes."""
        return self.storage.break_even_bits(int(self.elf["ipc"]), int(self.plain["ipc"]), image_bits=image_bits)

    @property
    def smaller(self) -> dict[str, bool]:
        """Whether the plain images are also smaller, by accounting."""
        sizes = {name: self.bytes_a_class(bits) for name, bits in IMAGE_BITS.items()}
        return {name: plain < with_features for name, (with_features, plain) in sizes.items()}

    @property
    def sizes_text(self) -> str:
        """The bytes of both, by accounting, and the precision of features at which they would be equal."""
        texts = []
        for name, bits in IMAGE_BITS.items():
            with_features, plain = self.bytes_a_class(bits)
            texts.append(
                f"with images as {name} {with_features:,.0f} bytes a class against {plain:,.0f}, equal at "
                f"{self.break_even_bits(bits):.0f} bits a feature's value"
            )
        return "; ".join(texts)


def more_images_text(pairs: Sequence[MoreImages]) -> str:
    """Return how often more images are better, and how often they are smaller, too."""
    better = [pair for pair in pairs if pair.test.mean > 0]
    points = [pair.test.mean for pair in pairs]
    smaller = ", ".join(f"{sum(pair.smaller[name] for pair in better)} with images as {name}" for name in IMAGE_BITS)
    return (
        f"The larger number of images is better in {len(better)} of {len(pairs)} pairs ({min(points):+.2f} to "
        f"{max(points):+.2f} points). Counted with features in float32, it also takes fewer bytes in: {smaller}. "
        "More images cost more distillation, too."
    )


def more_images(observations: pd.DataFrame) -> list[MoreImages]:
    """Return each ELF cell, with all its terms and any distance, that has a plain cell with more images.

    Parameters
    ----------
    observations : DataFrame
        As :func:`elf.verdicts.observations.observations_of_printed` returns them, in percent.
    """
    known = observations.dropna(subset=["mean", "ipc"]).to_dict("records")
    plain = _chosen((row for row in known if row["objective"] == "task"), min)
    found = []
    for row in _chosen((row for row in known if row["objective"] == "elf"), max):
        larger = [other for other in plain if _same(row, other) and other["ipc"] > row["ipc"]]
        if larger:
            other = min(larger, key=lambda one: one["ipc"])
            test = welch(summary_of(row), summary_of(other))
            found.append(MoreImages(row, other, test, _storage(row)))
    return found


def _chosen(rows: Iterable[dict], best) -> list[dict]:
    """Return one row a setting, that with the ``best`` mean."""
    by_setting: dict[tuple, list[dict]] = {}
    for row in rows:
        by_setting.setdefault(setting_of_row(row), []).append(row)
    return [best(members, key=lambda row: row["mean"]) for members in by_setting.values()]


def _same(row: dict, other: dict) -> bool:
    return all(row[column] == other[column] for column in SAME)


def _storage(row: dict) -> Storage:
    side = paper_side(row["paper_dataset"])
    return Storage(side, feature_shape(row["paper_teacher_network"], side))
