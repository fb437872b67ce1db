"""Squared distance between logits and learned targets, in the protocol of the paper: for KIP's and FrePo's sets."""

from elf.objectives.frepo import loss, lowest
from elf.specs.labels import SQUARED

LABEL = "squared loss"
TAKES = SQUARED

__all__ = ["loss", "lowest"]
