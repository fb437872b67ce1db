"""Progress for whoever watches: a bar on a terminal, a few plain lines in a log file."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from torch import Tensor
from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_REDRAWS = 0.2


def reporter(label: str, total: int, *, stream: TextIO | None = None) -> Callable[[int, int, Tensor | None], None]:
    """Return a callback that shows how far a loop is.

    Parameters
    ----------
    label : str
        What is running.
    total : int
        Expected number of steps; a loop that runs another number says so in each call.
    stream : text file or None
        Where to write; None is the standard error stream. A terminal gets a bar, anything else one line at
        the first step, at the last, and at most every ten seconds between.

    Returns
    -------
    callable (finished, total, loss)
        To be called after each step with the number of finished steps, that of all steps, and the loss or
        None. The loss is read only when it is shown, because reading it makes a GPU wait.
    """
    stream = stream or sys.stderr
    return _bar(label, total, stream) if stream.isatty() else _lines(label, stream)


def _bar(label: str, total: int, stream: TextIO) -> Callable[[int, int, Tensor | None], None]:
    bar = tqdm(total=total, desc=label, file=stream, dynamic_ncols=True)
    shown_at = None

    def report(finished: int, total: int, loss: Tensor | None = None) -> None:
        nonlocal shown_at
        if shown_at is None:
            # A continued job starts late: the steps before it must not count towards the speed.
            bar.initial = finished - 1
        now = time.monotonic()
        is_last = finished == total
        if shown_at is None or is_last or now - shown_at >= SECONDS_BETWEEN_REDRAWS:
            shown_at = now
            bar.total = total
            bar.n = finished
            if loss is not None:
                bar.set_postfix_str(f"loss {float(loss):.4g}", refresh=False)
            bar.refresh()
        if is_last:
            bar.close()

    return report


def _lines(label: str, stream: TextIO) -> Callable[[int, int, Tensor | None], None]:
    started_at = time.monotonic()
    shown_at = None

    def report(finished: int, total: int, loss: Tensor | None = None) -> None:
        nonlocal shown_at
        now = time.monotonic()
        if shown_at is None or finished == total or now - shown_at >= SECONDS_BETWEEN_LINES:
            shown_at = now
            loss_text = "" if loss is None else f", loss {float(loss):.4g}"
            print(f"{label}: {finished}/{total}{loss_text}, {now - started_at:.0f} s", file=stream, flush=True)

    return report
