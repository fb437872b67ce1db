"""What a module of ``elf/distillation`` that makes synthetic sets says of itself."""

from elf.specs.base import Spec
from elf.specs.plugins import Room


class MethodAbout(Spec):
    """What a distillation method says of itself; its settings are in its recipe, with their sources."""


METHODS = Room("distillation", "method", ("distill",), MethodAbout)
