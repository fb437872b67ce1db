"""Both sides of a benchmark compute the same: a ratio between different things would mean nothing."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from benchmarks import bench, cases
from benchmarks.cases import CASES, Size
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.networks.split import initialise

SMALL = {"classes": 3, "per_class": 7, "batch_real": 5, "ipc": 2, "steps": 3, "dtype": torch.float64}


def small(name: str) -> Size:
    """Return the size of a case with few images; the networks keep theirs but for narrow ConvNets."""
    network = CASES[name].size.network.replace("convnet-w128", "convnet-w4")
    return replace(CASES[name].size, network=network, **SMALL)


@pytest.fixture
def equal_networks(monkeypatch):
    """New networks of the plain side get the weights that the project draws."""

    def drawn(size: Size, stream: torch.Generator):
        ours = build_network(size.network, classes=size.classes, side=32, generator=torch.Generator())
        # The project draws weights when it builds the network, and again for every step.
        if stream.get_state().equal(generator(0, "distillation", "network").get_state()):
            initialise(ours, stream)
        ours = ours.to(size.dtype)
        initialise(ours, stream)
        network = cases.build_plainly(size.network, size.classes).to(size.dtype)
        with torch.no_grad():
            for parameter, value in zip(network.parameters(), ours.parameters(), strict=True):
                parameter.copy_(value)
        return network

    monkeypatch.setattr(cases, "_new_plain_network", drawn)


@pytest.mark.parametrize("name", CASES)
def test_both_sides_agree_to_rounding(name, equal_networks, monkeypatch):
    size = small(name)
    # Distillation builds its networks in the default type.
    build = build_network
    for module in (cases.dm, cases.dsa):
        monkeypatch.setattr(module, "build_network", lambda *args, **kwargs: build(*args, **kwargs).to(size.dtype))
    monkeypatch.setattr(
        "elf.distillation.shared.trajectories.build_network", lambda *a, **k: build(*a, **k).to(size.dtype)
    )
    units = 2
    plain, ours = CASES[name].plain(size)(units), CASES[name].ours(size)(units)
    start = cases.outcome(size.network_of_the_project()) | {"images": size.synthetic()[0]}
    for key, value in plain.items():
        # What starts in float32, as pictures do, agrees to the rounding of float32.
        torch.testing.assert_close(ours[key].double(), value.double(), rtol=1e-4, atol=1e-6)
        if key in start:
            assert not torch.allclose(start[key], value, rtol=1e-4, atol=1e-5), "nothing was learned"


def test_the_table_has_a_line_for_each_case():
    line = {"unit": "step", "goal": None} | {
        key: 1.0
        for key in (
            *("plain_seconds", "our_seconds", "ratio", "lowest_ratio", "highest_ratio", "plain_peak_bytes"),
            *("our_peak_bytes", "product_share_of_time", "product_share_of_matmul_rate"),
            *("largest_possible_ratio", "matmul_flops_per_second"),
        )
    }
    text = bench.document(pd.DataFrame([{"case": name} | line for name in CASES]), turns=3)
    assert [row.split(" | ")[0].removeprefix("| ") for row in text.splitlines() if row.startswith("| ")][1:] == [
        *("---",),
        *CASES,
    ]
