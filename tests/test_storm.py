"""A short storm: faults at random moments on a real SLURM; tests/storm.py goes on for as long as one likes."""

pytest_plugins = ("slurm_copy",)


def test_a_short_storm_leaves_the_results_of_calm_weather(cluster, run_python):
    command = ["tests/storm.py", "--rounds", "6", "--seed", "3", "--scale", "tiny", "--target", "figure4"]
    ended = run_python(*command)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "workflows, all equal" in ended.stdout
