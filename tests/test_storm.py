"""A short storm: faults at random moments on a real SLURM; tests/storm.py goes on for as long as one likes."""

import subprocess
import sys

from conftest import PROJECT

pytest_plugins = ("slurm_copy",)


def test_a_short_storm_leaves_the_results_of_calm_weather(cluster):
    command = ["tests/storm.py", "--rounds", "6", "--seed", "3", "--scale", "tiny", "--target", "figure4"]
    ended = subprocess.run([sys.executable, *command], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "workflows, all equal" in ended.stdout
