"""How a network is trained: shared by evaluations, teachers and expert trajectories; and FrePo's own way."""

import math
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

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
    batch_norm_splits : int or None
        Into how many parts a batch is cut for the statistics of batch normalisation; the official runs have 4. None
        for a network without, whose specification has no such setting.
    precision : {"float32", "bfloat16"}
        ``bfloat16`` computes the forward pass and the loss in automatic mixed precision. Parameters, their gradients
        and their updates are float32 either way.
    memory_format : {"auto", "channels_last", "contiguous"}
        How images, maps and the weights of convolutions lie in memory; it decides on speed and, by rounding, on the
        last digits. ``auto`` is what the device is fastest with, see `elf.machine.device.layout`.
    """

    epochs: int = Field(ge=1)
    final_pass: bool
    lr: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    batch_size: int = Field(ge=1)
    lr_drop: bool
    augmentation: Literal["color_crop_cutout_flip_scale_rotate", "none"]
    batch_norm_splits: int | None = Field(default=None, ge=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    memory_format: Literal["auto", "channels_last", "contiguous"] = "auto"

    @model_serializer(mode="wrap")
    def _without_what_does_not_apply(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = dump(self)
        if values["batch_norm_splits"] is None:
            del values["batch_norm_splits"]
        return values

    @property
    def splits(self) -> int:
        """Parts of a batch that batch normalisation sees one by one; 1 also where there is none."""
        return self.batch_norm_splits or 1

    def smallest_part(self, images: int) -> int:
        """Return the fewest images that a batch normalisation sees together in a training on ``images``."""
        batches = {min(self.batch_size, images), images % self.batch_size or self.batch_size}
        # Parts are cut as by torch.chunk: all as large as the first, but for the last.
        return min(batch % part or part for batch in batches for part in [math.ceil(batch / self.splits)])

    @property
    def passes(self) -> int:
        """Number of passes over the data."""
        return self.epochs + 1 if self.final_pass else self.epochs

    @property
    def drop_after(self) -> int | None:
        """Index of the pass after which the learning rate drops; None for a constant rate."""
        return self.epochs // 2 + 1 if self.lr_drop else None

    def lr_of(self, pass_index: int) -> float:
        """Return the learning rate of a pass."""
        dropped = self.drop_after is not None and pass_index > self.drop_after
        return self.lr * 0.1 if dropped else self.lr


class FrepoRecipe(Spec):
    """Hyper-parameters of FrePo's own evaluation, with Adam and a number of steps instead of epochs.

    Attributes
    ----------
    steps : int
        Number of steps; 0 takes the one that the official script has for the size of the set.
    lr : float
        Of Adam, after a linear rise over ``warmup_steps`` and before the cosine to ``lr_final_fraction`` of it.
    warmup_steps : int
    lr_final_fraction : float
    batch_size : int
        Images a step; a smaller set is one batch.
    augmentation : str
        See `elf.data.frepo_augmentation`.
    """

    steps: int = Field(ge=0)
    lr: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    lr_final_fraction: float = Field(ge=0, le=1)
    batch_size: int = Field(ge=1)
    augmentation: Literal["flip_color_zoom_rotate_translate_cutout", "none"]

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if 0 < self.steps <= self.warmup_steps:
            raise ValueError(f"warmup_steps must be fewer than steps, found {self.warmup_steps} of {self.steps}")
        return self

    @property
    def epochs(self) -> None:
        """Not what this protocol counts."""
        return None

    @property
    def splits(self) -> int:
        """Parts of a batch that batch normalisation sees one by one: this protocol has the whole batch."""
        return 1

    @property
    def precision(self) -> str:
        """In what networks are trained: the only one of this protocol."""
        return "float32"
