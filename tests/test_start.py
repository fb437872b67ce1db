"""What is said and refused before the first job of a run, and what is understood of the command line."""

import os
import sys
from contextlib import chdir
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import PROJECT
from hypothesis import given
from hypothesis import strategies as st
from snakemake.cli import get_argument_parser, parse_args
from snakemake.settings.types import ConfigSettings
from snakemake.utils import update_config

from elf.cli import main
from elf.errors import ElfError
from elf.guards import starting
from elf.guards.command_line import Started, started, started_by, with_targets
from elf.guards.scales_here import CLAIMS, scale_meant
from elf.running import opening
from elf.running.start import check_target
from elf.study.near_misses import nearest
from elf.study.plan import Plan, arguments_of_scale, make_plan, scale_said

ON_GPUS = ("slurm", "slurm-gpu4", "workstation")


@pytest.fixture(scope="module")
def paper() -> Plan:
    return make_plan(PROJECT / "config", "paper", Path("results"))


def parsed(*words: str):
    """Return what Snakemake's own parser makes of a command line in the project's folder."""
    with chdir(PROJECT):
        return parse_args(list(words))[1]


def scale_of(*words: str) -> str | None:
    """Return the scale that the Snakefile is told."""
    from snakemake.cli import parse_config

    arguments = parsed(*words)
    with chdir(PROJECT):
        settings = ConfigSettings(config=parse_config(arguments.config or []), configfiles=arguments.configfile or ())
    config = {}
    update_config(config, settings.overwrite_config)
    return scale_said(config, settings.configfiles)


@pytest.mark.parametrize("profile", ON_GPUS)
@pytest.mark.parametrize("name", ["{}", "profiles/{}"])
def test_a_profile_for_gpus_runs_the_paper_unless_another_scale_is_asked_for(profile, name):
    words = ("--profile", name.format(profile), "all_tables")
    assert scale_of(*words) == "paper"
    assert scale_of(*words, "--config", "scale=laptop") == "laptop"
    # Any --config replaces that of a profile as a whole.
    assert scale_of(*words, "--config", "another_key=1") == "paper"


def test_elsewhere_the_scale_is_that_of_the_configuration():
    assert scale_of("--profile", "profiles/local", "all_tables") is None
    assert scale_of("all_tables", "--cores", "1") is None


def test_a_configuration_file_that_replaces_that_of_a_profile_has_to_say_the_scale(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("{}")
    words = ("--profile", "slurm", "--configfile", str(file))
    with pytest.raises(ElfError, match=r"own\.yaml says none.*--config scale=NAME"):
        scale_of(*words)
    assert scale_of(*words, "--config", "scale=smoke") == "smoke"
    file.write_text("scale: laptop")
    assert scale_of(*words) == "laptop"


def test_targets_executor_and_partitions_are_those_of_the_command_line():
    how = started_by(parsed("--profile", "slurm", "all_tables", "figure4", "--dry-run"))
    assert how == Started(("all_tables", "figure4"), "slurm", True, ("gpu", "cpu"))
    how = started_by(parsed("--profile", "slurm", "--default-resources", "slurm_partition=long,short"))
    assert how == Started((), "slurm", False, ("long", "short", "cpu"))
    how = started_by(parsed("--profile", "profiles/local"))
    assert how == Started((), "local", False, ())


def test_what_is_computed_or_of_another_cluster_is_no_partition():
    computed = "slurm_partition='a' if threads > 1 else 'b'"
    how = started_by(parsed("--cores", "1", "--default-resources", computed))
    assert how.partitions == ()
    how = started_by(parsed("--cores", "1", "--default-resources", "slurm_partition=a", "clusters=other"))
    assert how.partitions == ()


def test_without_a_command_line_nothing_is_known():
    assert started() == Started()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--profile", "slurm", "all_tables"], ["--profile", "slurm", "NEW", "table01"]),
        (
            ["all_tables", "--cores", "1", "--config", "scale=x"],
            ["NEW", "table01", "--cores", "1", "--config", "scale=x"],
        ),
        # The value of an option, not a target.
        (["a", "b", "--cores", "1", "-R", "a"], ["NEW", "table01", "--cores", "1", "-R", "a"]),
        (["--cores", "1", "--", "a"], ["--cores", "1", "NEW", "table01"]),
        (["-n"], ["NEW", "table01", "-n"]),
    ],
)
def test_a_command_line_is_given_for_other_targets(words, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/snakemake/__main__.py"])
    parse = get_argument_parser().parse_args
    shown = with_targets(["NEW", "table01"], words, parse).split()
    assert shown == [sys.executable, "-m", "snakemake", *expected]
    assert set(parse(shown[3:]).targets) == {"NEW", "table01"}


NAMES = [*(f"table{n:02d}" for n in range(1, 13)), "figure1", "figure3", "figure4", "all_tables", "all_figures"]
NAMES += ["verdicts", "report"]


@given(st.sampled_from([1, 5, 10, 12]), st.sampled_from(["table{}", "Table {}", "tab{:03d}", "TABLE_{}", "tab.{}"]))
def test_a_table_is_told_by_its_number(number, form):
    assert nearest(form.format(number), NAMES) == f"table{number:02d}"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *(("fig4", "figure4"), ("figure03", "figure3"), ("tables", "all_tables"), ("all_table", "all_tables")),
        *(("verdict", "verdicts"), ("repotr", "report"), ("table13", None), ("figure2", None), ("xyz", None)),
    ],
)
def test_what_is_nearly_right_is_offered(written, meant):
    assert nearest(written, NAMES) == meant


def test_a_target_is_a_rule_or_a_path(paper):
    rules = {"all_tables", "table05"}
    for target in ("table05", "all_tables", "results/paper/tables/table05.md", "results/paper/datasets/x/card.json"):
        check_target(paper, target, rules)
    for target in ("table5", "results/paper/tables/table5.md"):
        with pytest.raises(ElfError, match=r"did you mean table05\? allowed: table01, "):
            check_target(paper, target, rules)


def test_the_first_lines_say_scale_data_and_jobs(paper):
    scale, data, jobs = opening.opening(paper, ["table05"], None)
    assert scale.startswith("Scale: paper, ") and scale.endswith("results/paper")
    assert data == "Data: cifar10"
    # As many as Snakemake plans; see the dry run of tests/test_profiles.py.
    assert jobs.startswith("Jobs: 156 for table05, ")
    *_, days = opening.opening(paper, [], 2)
    assert "No GPU is seen here: this will take " in days and "on 2 CPU cores" in days
    smoke = make_plan(PROJECT / "config", "smoke", Path("results"))
    assert len(opening.opening(smoke, [], 2)) == 3
    assert len(opening.opening(paper, None, 2)) == 1


def test_a_gpu_that_may_not_be_used_is_not_seen(monkeypatch):
    monkeypatch.setattr(opening, "Path", lambda name: SimpleNamespace(glob=lambda pattern: ["nvidia0"]))
    monkeypatch.setattr(opening.importlib.metadata, "version", lambda name: "2.9.0")
    for variable in ("ELF_DEVICE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    assert opening.sees_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not opening.sees_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("ELF_DEVICE", "cpu")
    assert not opening.sees_gpu()
    monkeypatch.delenv("ELF_DEVICE")
    monkeypatch.setattr(opening.importlib.metadata, "version", lambda name: "2.9.0+cpu")
    assert not opening.sees_gpu()


def test_an_interpreter_with_a_space_is_refused_on_a_cluster_only(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", "/opt/my project/.venv/bin/python")
    starting.check_start(Started(), [tmp_path / "results"])
    with pytest.raises(ElfError, match=r"my project/\.venv/bin/python'.*has a space"):
        starting.check_start(Started(executor="slurm"), [])
    with pytest.raises(ElfError, match="has a space"):
        starting.check_start(Started(executor="cluster-generic"), [])


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "results").touch()
    with pytest.raises(ElfError, match=f"^{tmp_path}/results/smoke/.*: cannot be written: "):
        starting.check_start(Started(), [tmp_path / "results" / "smoke"])


@pytest.fixture
def programs(tmp_path, monkeypatch, other_processes):
    """A folder with the programs of a SLURM that has two partitions."""
    (tmp_path / "sinfo").write_text("#!/bin/sh\nprintf 'cpu\\ngpu\\n'\n")
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    for name in ("sinfo", "sbatch"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    return tmp_path


def test_a_partition_that_is_not_there_is_refused(programs):
    starting.check_start(Started(executor="slurm", partitions=("gpu", "cpu")), [])
    with pytest.raises(ElfError, match="no partition 'long', but cpu, gpu; set those of your cluster"):
        starting.check_start(Started(executor="slurm", partitions=("gpu", "long")), [])
    # A controller that does not answer is no reason not to start.
    (programs / "sinfo").write_text("#!/bin/sh\nexit 1\n")
    starting.check_start(Started(executor="slurm", partitions=("long",)), [])


def test_a_machine_without_slurm_is_refused(programs, monkeypatch):
    monkeypatch.setenv("PATH", str(programs / "nothing"))
    with pytest.raises(ElfError, match="no 'sbatch' on this machine"):
        starting.check_start(Started(executor="slurm"), [])


SCALES = ["laptop", "paper", "smoke"]


@pytest.fixture
def folder(tmp_path):
    """A function that leaves results and the claim of an ended run."""

    def leave(scale: str, claimed: int | None = None, results: bool = True) -> None:
        if results:
            (tmp_path / "results" / scale / "datasets").mkdir(parents=True)
        if claimed is not None:
            file = tmp_path / CLAIMS / f"{scale}.claim"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
            os.utime(file, (claimed, claimed))

    said = []
    leave.meant = lambda: (scale_meant(SCALES, "smoke", tmp_path / "results", said.append), said)
    return leave


def test_nothing_is_said_of_the_default_alone(folder):
    assert folder.meant() == ("smoke", [])
    folder("smoke", 1000)
    assert folder.meant() == ("smoke", [])


def test_the_scale_that_was_run_last_is_meant(folder):
    folder("smoke", 1000)
    folder("paper", 3000, results=False)
    folder("laptop", 2000)
    assert folder.meant() == (
        "paper",
        ["scale paper: run last here; there are results of laptop, smoke, too (--scale)"],
    )


def test_results_without_a_run_are_found(folder):
    folder("laptop")
    assert folder.meant() == ("laptop", ["scale laptop: the only one with results here"])


def test_of_several_results_without_a_run_none_is_preferred(folder):
    folder("laptop")
    folder("paper")
    line = "scale smoke: that of config.yaml; there are results of laptop, paper, too (--scale)"
    assert folder.meant() == ("smoke", [line])


def test_commands_show_the_scale_that_was_run_last_and_find_the_configuration_from_anywhere(
    folder, tmp_path, monkeypatch, capsys
):
    folder("laptop", 1000)
    folder("smoke", 500)
    monkeypatch.chdir(tmp_path)
    assert main(["settings"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "scale laptop: run last here; there are results of smoke, too (--scale)\n"
    assert "datasets/cifar10" in printed.out
    assert main(["settings", "--scale", "smoke"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and "datasets/digits" in printed.out


def test_the_configuration_is_that_of_the_folder_or_the_one_that_is_named(tmp_path, monkeypatch):
    def used() -> Path:
        return arguments_of_scale("plan", "test").parse_args([]).config

    monkeypatch.delenv("ELF_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    assert used() == PROJECT / "config"
    (tmp_path / "config").mkdir()
    assert used() == PROJECT / "config"
    (tmp_path / "config" / "config.yaml").touch()
    assert used() == Path("config")
    monkeypatch.setenv("ELF_CONFIG", "/elsewhere/config")
    assert used() == Path("/elsewhere/config")
