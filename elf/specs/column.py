"""What the table of columns of results, `elf.specs.columns`, says of each, and what it is read from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from elf.specs.evaluation import EvaluationSpec, Objective
from elf.specs.labels import kind_of_recipe
from elf.specs.synthetic import SyntheticSpec
from elf.specs.teacher import FULL_DATA, TeacherSpec
from elf.specs.training import FrepoRecipe, TrainingRecipe


@dataclass(frozen=True, kw_only=True)
class Images:
    """The images that networks are trained on, as far as results tell them apart: `elf.specs.synthetic.SyntheticSpec`.

    All real images have a method alone.
    """

    method: str = FULL_DATA
    variant: str | None = None
    network: str | None = None
    ipc: int | None = None
    seed: int | None = None
    label_kind: str = "hard"

    @classmethod
    def recorded(cls, spec: Mapping[str, Any]) -> Self:
        """Return what the manifest of a synthetic set says."""
        own = {key: spec[key] for key in ("method", "variant", "network", "ipc", "seed")}
        labels = spec.get("labels") or kind_of_recipe(spec.get("module"), spec.get("recipe"))
        return cls(**own, label_kind=labels)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a number is measured by: a row of results, or the seeds of a cell.

    Attributes
    ----------
    evaluation : EvaluationSpec
        A training on all real images counts as one, with the loss of the task.
    images : SyntheticSpec or Images
    scale, source, shard : str or None
        Of a row: its scale, how the images of its dataset were stored, and the file that it is from.
    paper_dataset, paper_distill_network, paper_eval_network, paper_teacher_network : str or None
        Of a cell: what the paper has in these places.
    aligned : bool
        Of a cell: whether the network is the one that the set was distilled with.
    """

    evaluation: EvaluationSpec
    images: SyntheticSpec | Images
    scale: str | None = None
    source: str | None = None
    shard: str | None = None
    paper_dataset: str | None = None
    paper_distill_network: str | None = None
    paper_eval_network: str | None = None
    paper_teacher_network: str | None = None
    aligned: bool = False

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        return self.evaluation.objective

    @property
    def recipe(self) -> TrainingRecipe | FrepoRecipe:
        """How networks are trained."""
        return self.evaluation.recipe

    @classmethod
    def on_all_images(cls, teacher: TeacherSpec, **others: Any) -> Self:
        """Return a training on all real images."""
        evaluation = EvaluationSpec(
            dataset=teacher.dataset,
            synthetic_set=FULL_DATA,
            network=teacher.network,
            objective=Objective(name="task"),
            recipe=teacher.recipe,
            seeds=(teacher.seed,),
        )
        return cls(evaluation=evaluation, images=Images(), **others)


SET, VARIANT, PLACE, TRAINING = "set", "variant", "place", "training"
"""Roles of columns that identify a cell: on which images, on which variant of them, for which place of a table, and how
a network is trained. Cells that agree in the first two are evaluations of the same images."""
PAPER, SHOWN = "paper", "shown"
"""Roles of columns that only cells have: what else the paper calls a run, by which no two cells differ; and what is
shown with a cell."""
ROW, ORIGIN, SPENT = "row", "origin", "spent"
"""Roles of columns that only rows have: what tells them apart or was measured; what the number was made from, and what
it took, which results of other people need not say."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    name : str
    stored : type or None
        Of its values in results files; None for a column of cells alone.
    of : function of a Run to value, or None
        What rows and cells have in it; None for what stands in an evaluation shard, see `elf.specs.shard`.
    role : str
        What it is for, see above.
    label : str
        In print; its name if nothing else is said.
    names : str
        What its values are names of, and are printed as: dataset, method, network, variant, distance; empty
        for others.
    section : str
        In which line `elf explain` shows it; in none if it is empty.
    words : str
        Formats of the words by which readers ask for a cell with this value; names are made of the first.
    checkpoint : function of a manifest to value, or None
        Of a column of shards: what the last state of a training on all real images has in its place.
    is_optional : bool
        Whether results may lack it.
    earlier, unsaid : value or None
        What it is read as where it is missing: from our own results, which are older than the column, and from other
        people's.
    """

    name: str
    stored: type | None = None
    of: Callable[[Run], Any] | None = None
    role: str = ROW
    label: str = ""
    names: str = ""
    section: str = ""
    words: str = ""
    checkpoint: Callable[[Mapping[str, Any]], Any] | None = None
    is_optional: bool = False
    earlier: Any = None
    unsaid: Any = None

    @property
    def printed(self) -> str:
        """What it is called in print."""
        return self.label or self.name.replace("_", " ")

    @property
    def is_of_cells(self) -> bool:
        """Whether cells have it."""
        return self.role in (SET, VARIANT, PLACE, TRAINING, PAPER, SHOWN)
