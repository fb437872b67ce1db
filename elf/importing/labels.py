"""What kind of labels an array holds, and the order that sorts images by class."""

from dataclasses import dataclass

import torch
from torch import Tensor

from elf.errors import ElfError
from elf.importing.conclusions import Conclusion
from elf.specs.labels import KINDS

SUM_TOLERANCE = 1e-3
"""How far a row of float16 probabilities may be from 1."""

POSITION = "position"
"""What the user says who knows that images without labels are sorted by class, whatever lies beside them."""

CHOICES = (*KINDS, POSITION)

SPREAD_OF_LOGITS = 4.0
"""From what difference of the largest and the smallest entry on, in most rows, rows are logits: there the softmax has a
ratio of 55. Rows near one-hot, as regression learns them, differ by 1."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels in class-major order.

    Attributes
    ----------
    values : Tensor of shape (n,) or (n, classes)
        int64 classes, or float32 rows as they were found.
    kind : str
        See `elf.specs.labels.KINDS`.
    classes : int
    order : Tensor of int64, shape (n,)
        Places at which the images of this order were found.
    conclusions : list of Conclusion
    """

    values: Tensor
    kind: str
    classes: int
    order: Tensor
    conclusions: list[Conclusion]


def understand_labels(
    found: Tensor | None,
    count: int,
    *,
    classes: int | None = None,
    grouped: tuple[int, int] | None = None,
    told: str | None = None,
) -> Labels:
    """Work out what the labels of ``count`` images are, and sort them by class.

    Parameters
    ----------
    found : Tensor or None
        Of shape (n,), (n, 1), (classes, ipc), (n, classes) or (classes, ipc, classes). None if there are no labels:
        then the images are taken to be sorted by class, if the number of classes is known.
    count : int
        Number of images n.
    classes : int, optional
        What the user or the data set says.
    grouped : (classes, ipc), optional
        The axes of the images, where they had two for this.
    told : str, optional
        The kind, if the user or a manifest says it: rows become classes by their largest entry if it is ``"hard"``.

    Raises
    ------
    ElfError
        If the labels do not fit the images, can be of several kinds, are not of the one that is told, or do not give
        each class as many images.
    """
    if found is None:
        if told not in (None, "hard", POSITION):
            raise ElfError(f"--labels {told}: there are no labels; name the file with the labels too")
        return _by_position(count, classes, grouped)
    if told == POSITION:
        raise ElfError(f"--labels {POSITION}: there are labels; leave it out, or name the images alone")
    values = _rows(found, count)
    if not torch.isfinite(values.double()).all():
        raise ElfError("the labels hold values that are not finite (NaN or infinity); get an intact copy")
    if values.dim() == 1:
        if told not in (None, "hard"):
            raise ElfError(f"--labels {told}: the labels are one number an image, which are classes; leave it out")
        hard, reason = _whole(values)
        return _hard(hard, reason, classes)
    width = values.shape[1]
    if classes is not None and width != classes:
        raise ElfError(f"the labels have {width} columns, but there are {classes} classes; name the right data set")
    if told is not None and told != "hard":
        return _rows_as_found(values.double() if not values.is_floating_point() else values, told, "as told")
    if ((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all():
        return _hard(values.argmax(1), f"{count} x {width} rows with a single 1, one-hot", width)
    if told == "hard":
        return _hard(*_largest(values), width)
    if not values.is_floating_point():
        raise ElfError(f"the labels are {count} x {width} whole numbers, but not one-hot rows; save them as classes")
    return _rows_as_found(values, *_kind_of_rows(values))


def _largest(values: Tensor) -> tuple[Tensor, str]:
    best = values.double().topk(2).values
    if (best[:, 0] == best[:, 1]).any():
        raise ElfError("--labels hard: a row has its largest entry twice, so that its class cannot be told")
    return values.argmax(1), f"the largest entry of each of {len(values)} x {values.shape[1]} rows, as told"


def _kind_of_rows(values: Tensor) -> tuple[str, str]:
    """Return what rows of numbers are, and by which rule.

    Raises
    ------
    ElfError
        If they can be of several kinds.
    """
    rows = values.double()
    sums, low, high = rows.sum(1), float(rows.min()), float(rows.max())
    spread = float((rows.amax(1) - rows.amin(1)).median())
    if low >= 0 and (sums - 1).abs().max() <= SUM_TOLERANCE:
        return "probabilities", "rows of numbers from 0 on that sum to 1"
    centred = sums.abs().max() <= SUM_TOLERANCE * max(1.0, float(rows.abs().max()))
    if centred and low >= -1 and high <= 1:
        return "regression", "rows within -1 and 1 that sum to 0, as centred labels do; --labels logits if they are not"
    if not centred and spread >= SPREAD_OF_LOGITS and (rows.amin(1) < 0).double().mean() > 0.5:
        why = f"rows with negative entries, whose largest and smallest differ by {spread:.3g} (median)"
        return "logits", f"{why}; --labels regression if they are not"
    raise ElfError(
        f"the labels are {len(rows)} x {rows.shape[1]} numbers from {low:.3g} to {high:.3g} with sums from "
        f"{float(sums.min()):.3g} to {float(sums.max()):.3g}, which are no probabilities: say --labels logits if their "
        "softmax was trained on (as DATM does), --labels regression if a squared loss was (as KIP and FrePo do), or "
        "--labels hard to keep the largest entry of each alone"
    )


def _rows(found: Tensor, count: int) -> Tensor:
    shape = tuple(found.shape)
    if found.dtype == torch.bool:
        found = found.to(torch.int64)
    if found.dim() >= 2 and shape[0] != count and shape[0] * shape[1] == count:
        found = found.reshape(count, *shape[2:])
    if found.dim() == 0 or found.dim() > 2 or found.shape[0] != count:
        raise ElfError(
            f"the labels have shape {shape}, but there are {count} images; expected ({count},) or a row each"
        )
    return found.flatten() if found.dim() == 2 and found.shape[1] == 1 else found


def _by_position(count: int, classes: int | None, grouped: tuple[int, int] | None) -> Labels:
    if grouped is not None:
        if classes is not None and grouped[0] != classes:
            raise ElfError(f"the first axis of the images has {grouped[0]} entries, but there are {classes} classes")
        classes, reason = grouped[0], "no labels; the first axis of the images is the class"
    elif classes is None:
        raise ElfError(
            f"there are {count} images without labels, and nothing says how many classes there are; name the file with "
            "the labels too, or --classes or --dataset if the images are sorted by class"
        )
    else:
        reason = f"no labels; {classes} classes are told, and images are taken to be sorted by class"
    if count % classes:
        raise ElfError(f"{count} images do not give {classes} classes as many each; name the file with the labels too")
    values = torch.arange(classes).repeat_interleave(count // classes)
    return Labels(values, "hard", classes, torch.arange(count), [Conclusion("labels", "hard, by position", reason)])


def _whole(values: Tensor) -> tuple[Tensor, str]:
    hard = values.to(torch.int64)
    if not torch.equal(hard.to(values.dtype), values):
        raise ElfError("the labels are one number an image, but not whole numbers; expected classes or a row an image")
    kind = "whole numbers stored as floats" if values.is_floating_point() else f"whole numbers ({values.dtype})"
    return hard, f"one of {len(hard)} {kind}"


def _hard(hard: Tensor, reason: str, classes: int | None) -> Labels:
    lowest, highest = int(hard.min()), int(hard.max())
    told = classes is not None
    if lowest < 0 or (told and highest >= classes):
        wrong = lowest if lowest < 0 else highest
        hint = "; labels count from 0, so subtract 1" if lowest == 1 and highest == classes else ""
        allowed = f"0 to {classes - 1}" if told else "0 and more"
        raise ElfError(f"there is a label {wrong}, allowed are {allowed}{hint}")
    if not told and lowest == 1 and highest <= len(hard) and len(set(torch.bincount(hard)[1:].tolist())) == 1:
        raise ElfError(
            f"the labels run from 1 to {highest} and none is 0; they count from 0 here, so subtract 1 from each"
        )
    if highest >= max(len(hard), classes or 0):
        raise ElfError(f"there is a label {highest} among {len(hard)} images, so some class has none; check the labels")
    classes = classes or highest + 1
    counts = torch.bincount(hard, minlength=classes)
    if classes < 2:
        raise ElfError("all labels are 0, so there is one class; at least 2 are needed, or name --classes")
    if (counts != counts[0]).any():
        few, many = int(counts.argmin()), int(counts.argmax())
        raise ElfError(
            f"the classes have different numbers of images: class {few} has {int(counts[few])}, class {many} has "
            f"{int(counts[many])}; a set has as many of each, so leave some out, or check --classes"
        )
    order = torch.argsort(hard, stable=True)
    conclusions = [Conclusion("labels", f"hard, {classes} classes of {int(counts[0])}", reason), *_sorted(order)]
    return Labels(hard[order], "hard", classes, order, conclusions)


def _rows_as_found(values: Tensor, kind: str, why: str) -> Labels:
    count, classes = values.shape
    if kind == "probabilities":
        _check_probabilities(values.double())
    largest = values.argmax(1)
    counts = torch.bincount(largest, minlength=classes)
    conclusions = [Conclusion("labels", f"{kind}, {classes} classes", f"{count} x {classes} {why}")]
    if values.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        conclusions.append(Conclusion("labels", "float32", f"found {values.dtype}; rounded to the nearest float32"))
    if (counts == counts[0]).all():
        order = torch.argsort(largest, stable=True)
        conclusions += _sorted(order)
    elif count % classes == 0:
        order = torch.arange(count)
        reason = "the largest entries do not give each class as many images, so the order says what belongs where"
        conclusions.append(Conclusion("order", "as found", reason))
    else:
        raise ElfError(f"{count} images do not give {classes} classes as many each; a set has as many of each class")
    return Labels(values[order].to(torch.float32), kind, classes, order, conclusions)


def _check_probabilities(rows: Tensor) -> None:
    if rows.min() < 0 or (rows.sum(1) - 1).abs().max() > 10 * SUM_TOLERANCE:
        raise ElfError(
            f"--labels probabilities: entries from {float(rows.min()):.3g} on and sums from "
            f"{float(rows.sum(1).min()):.3g} to {float(rows.sum(1).max()):.3g}, allowed are 0 and more that sum to 1"
        )


def _sorted(order: Tensor) -> list[Conclusion]:
    if torch.equal(order, torch.arange(len(order))):
        return []
    return [Conclusion("order", "sorted by class", "images and labels together; they were in another order")]
