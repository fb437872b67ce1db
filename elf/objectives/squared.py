"""Squared distance between logits and learned targets, in the protocol of the paper: for sets such as KIP's and FrePo's."""

from elf.objectives.frepo import loss, lowest

__all__ = ["loss", "lowest"]
