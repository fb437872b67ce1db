"""The busiest moments of a run: how much happens at once, and how often in any stretch of time."""

from collections.abc import Iterable, Sequence


def largest_at_once(intervals: Iterable[tuple[float, float, float]]) -> float:
    """Return the largest sum at any moment.

    Parameters
    ----------
    intervals : iterable of (start, end, amount)
        What begins when something else ends does not meet it.
    """
    changes = sorted(change for start, end, amount in intervals for change in ((start, amount), (end, -amount)))
    total = largest = 0.0
    for _, change in changes:
        total += change
        largest = max(largest, total)
    return largest


def busiest(moments: Sequence[float], seconds: float) -> int:
    """Return how many of the moments lie within any stretch of this length, its end left out."""
    ordered = sorted(moments)
    first = most = 0
    for last, moment in enumerate(ordered):
        while moment - ordered[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most
