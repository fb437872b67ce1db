"""How many images go through networks in a job: what its manifest calls images, and divides by the wall seconds.

An image counts each time that it enters a network or a network's front: real or synthetic, augmented, mirrored or as
it is; to be trained on, matched, labelled, looked at by a teacher, or tested. The way back, for gradients, does not
count again. What enters a rear alone, as the features of a teacher do, is no image. Where no network takes part, a
dataset counts the images that were prepared, and a set of chosen real images has no count.

The count follows from settings and sizes, so that it is that of a run without interruption: what a continued job
repeats is not counted twice.
"""

from elf.specs.training import FrepoRecipe, TrainingRecipe
from elf.training.frepo import steps_for


def images_trained(recipe: TrainingRecipe | FrepoRecipe, count: int, completed: int | None = None) -> int:
    """Return how many images one network is trained on.

    Parameters
    ----------
    recipe : TrainingRecipe or FrepoRecipe
    count : int
        Size of the set.
    completed : int or None
        Passes after which the training stops; None for all. FrePo's protocol counts steps and always makes all.

    Raises
    ------
    ElfError
        If FrePo's protocol has no number of steps for a set of this size.
    """
    if isinstance(recipe, FrepoRecipe):
        return steps_for(recipe, count) * min(count, recipe.batch_size)
    return count * (recipe.passes if completed is None else min(completed, recipe.passes))
