"""How a network is trained: shared by evaluations, teachers and expert trajectories."""

from typing import Literal

from pydantic import Field

from elf.specs.base import Spec


class TrainingRecipe(Spec):
    """Hyper-parameters of stochastic gradient descent on labelled images.

    Attributes
    ----------
    epochs : int
        Nominal number of epochs.
    final_pass : bool
        Whether one more pass follows. The official evaluation loop runs the epoch indices 0 to ``epochs``
        inclusive, so that "1000 epochs" are 1001 passes; teachers run exactly ``epochs`` passes.
    lr, momentum, weight_decay : float
        Of plain SGD (no Nesterov); the decay applies to all parameters, norms and biases included.
    batch_size : int
        Images a step; the last incomplete batch of a pass is kept.
    lr_drop : bool
        Whether the learning rate is divided by ten once, after the pass with index ``epochs // 2 + 1``.
        The optimiser is rebuilt at that moment, which resets its momentum.
    augmentation : str
        DSA strategy, or ``"none"``.
    """

    epochs: int = Field(ge=1)
    final_pass: bool
    lr: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    batch_size: int = Field(ge=1)
    lr_drop: bool
    augmentation: Literal["color_crop_cutout_flip_scale_rotate", "none"]

    @property
    def passes(self) -> int:
        """Number of passes over the data."""
        return self.epochs + 1 if self.final_pass else self.epochs

    @property
    def drop_after(self) -> int | None:
        """Index of the pass after which the learning rate drops; None for a constant rate."""
        return self.epochs // 2 + 1 if self.lr_drop else None
