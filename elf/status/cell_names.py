"""Names by which readers ask for a number: words, in any order, that only one cell of a table or figure has."""

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from elf.specs.column import Column
from elf.specs.columns import COLUMNS

WHAT = ("method", "eval_network", "objective", "dataset", "ipc")
HOW = ("distance", "teacher_epoch", "lambda_front", "lambda_rear", "distill_network", "teacher_network")
RATHER = (*WHAT, *HOW, "synthetic_variant", "training_variant", "variant", "lr")
"""The columns whose words names are made of before all others."""

ALSO = {"task": "baseline"}
"""Words that are known by another one, too."""


def words_of(columns: Mapping) -> dict[str, tuple[str, ...]]:
    """Return the words of a cell by kind; the first of a kind is the one that names are made of.

    Parameters
    ----------
    columns : mapping
        As `elf.study.cells.Cell.columns`: of method, networks, data, objective and its settings. Networks and
        datasets are known by the paper's name and by that of the scale.
    """
    kept = {}
    for column in sorted((column for column in COLUMNS if column.words), key=_rank):
        values = [columns[name] for name in (f"paper_{column.name}", column.name) if name in columns]
        given = [value for value in values if value is not None and value is not False]
        words = [form.format(value) for form in column.words.split() for value in given]
        kept[column.printed] = tuple(dict.fromkeys(word.lower() for word in (*words, *map(ALSO.get, words)) if word))
    return {kind: own for kind, own in kept.items() if own}


def _rank(column: Column) -> int:
    return RATHER.index(column.name) if column.name in RATHER else len(RATHER)


class Names:
    """The cells of a table or figure by their words.

    Parameters
    ----------
    cells : sequence of dict
        The words of each cell, from :func:`words_of`.
    """

    def __init__(self, cells: Sequence[Mapping[str, tuple[str, ...]]]) -> None:
        self._cells = cells
        self._having: dict[str, set[int]] = {}
        self._evaluating: dict[str, set[int]] = {}
        for index, words in enumerate(cells):
            for word in (word for own in words.values() for word in own):
                self._having.setdefault(word, set()).add(index)
            for word in words.get("network", ()):
                self._evaluating.setdefault(word, set()).add(index)

    def matching(self, words: Collection[str]) -> list[int]:
        """Return the places of the cells that have all words.

        A network that is named alone may be the one that is evaluated or the one behind the images: cells where it is
        the former come before all others.
        """
        words = [word.lower() for word in words]
        found = set.intersection(set(range(len(self._cells))), *(self._having.get(word, set()) for word in words))
        counts = {index: sum(index in self._evaluating.get(word, ()) for word in words) for index in found}
        most = max(counts.values(), default=0)
        return sorted(index for index in found if counts[index] == most)

    def unknown(self, words: Collection[str]) -> list[str]:
        """Return the words that no cell has."""
        return [word for word in words if word.lower() not in self._having]

    def known(self, among: Collection[int] | None = None) -> dict[str, list[str]]:
        """Return all words by kind, of all cells or of some; without networks' names that say which they are."""
        kinds: dict[str, dict[str, None]] = {}
        for index in range(len(self._cells)) if among is None else among:
            for kind, own in self._cells[index].items():
                kinds.setdefault(kind, {}).update(dict.fromkeys(own[:1]))
        return {kind: list(own) for kind, own in kinds.items()}

    def shortest(self, index: int) -> str:
        """Return the fewest words that name a cell and no other, with ``/`` between them; all of them if none do."""
        own = {kind: words[0] for kind, words in self._cells[index].items()}
        telling = [word for word in own.values() if len(self._having[word]) < len(self._cells)] or list(own.values())
        for size in range(1, len(telling) + 1):
            for words in combinations(telling, size):
                if self.matching(words) == [index]:
                    return "/".join(words)
        return "/".join(own.values())
