"""Independent streams of random numbers, named by what they are for."""

import hashlib

import torch


def generator(seed: int, *purpose: str) -> torch.Generator:
    """Return a CPU generator for one purpose of one seed.

    Streams of different purposes are independent, so that drawing more for one (say augmentation) never
    shifts another (say weight initialisation): two objectives trained with the same seed start from the
    same weights and see the same batches, which makes them comparable seed by seed.

    Parameters
    ----------
    seed : int
        Seed of the run, for example the index of the evaluation network.
    *purpose : str
        What the numbers are for, for example ``"evaluation", "initialisation"``.

    Returns
    -------
    torch.Generator
        On the CPU for every device, so that CPU and CUDA runs draw the same numbers.
    """
    text = "\n".join([str(seed), *purpose]).encode()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
