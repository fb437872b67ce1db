"""Constants of normalisation that sets of other code can have: the project's own, and those of data sets it lacks."""

from elf.data.preprocessing import CONSTANTS

# The grey ones once for each of the channels that a grey set is repeated to. From the official code of DC, DSA and DM.
OF_OTHERS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "mnist": ((0.1307,) * 3, (0.3081,) * 3),
    "fashionmnist": ((0.2861,) * 3, (0.3530,) * 3),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}

ALL_CONSTANTS = {**CONSTANTS, **OF_OTHERS}
"""Mean and standard deviation per channel by name, in the order in which values are compared with them."""
