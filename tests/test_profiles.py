"""The profiles: found as documented, without the settings that are known to lose work."""

import asyncio
import re
import sys
import types
from unittest.mock import MagicMock

import pytest
import snakemake_executor_plugin_slurm as executor
import yaml
from conftest import PROJECT
from snakemake_executor_plugin_slurm import ExecutorSettings

from elf.planning.priorities import GROUPED

pytest_plugins = ("workflow_copy",)

DEFAULT = ExecutorSettings.__dataclass_fields__["status_attempts"].default
CLUSTERS = ("slurm", "slurm-gpu4")
NAMES = sorted(path.name for path in (PROJECT / "profiles").iterdir())
RULES = {rule: file.read_text() for file in (PROJECT / "rules").glob("*.smk") for rule in [file.name]}


def profile(name: str) -> dict:
    return yaml.safe_load((PROJECT / "profiles" / name / "profile.yaml").read_text())


def rules_with_commands() -> set[str]:
    names = re.findall(r"^rule (\w+):\n(?:(?!^rule ).*\n)*?    shell:", "\n".join(RULES.values()), flags=re.MULTILINE)
    assert len(names) > 10
    return set(names)


def local_rules() -> set[str]:
    block = re.search(r"^localrules:\n((?:    \w+,\n)+)", (PROJECT / "Snakefile").read_text(), flags=re.MULTILINE)
    return set(re.findall(r"\w+", block[1]))


@pytest.mark.parametrize("name", [*CLUSTERS, "workstation"])
def test_a_link_lets_snakemake_find_the_profile_by_its_name(name):
    link = PROJECT / name
    assert link.is_symlink()
    assert link.readlink().as_posix() == f"profiles/{name}"


def test_no_profile_overrides_the_one_that_is_asked_for():
    assert "default" not in NAMES


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_is_asked_with_squeue_and_without_arrays(name):
    settings = profile(name)
    assert settings["slurm-status-command"] == "squeue"
    assert not [key for key in settings if "array" in key]
    assert settings["slurm-requeue"] is True


def test_retries_are_in_profiles_and_never_in_rules():
    assert not [name for name, text in RULES.items() if re.search(r"^    retries:", text, flags=re.MULTILINE)]
    assert all(profile(name)["retries"] >= 1 for name in CLUSTERS)


@pytest.mark.parametrize("name", [*CLUSTERS, "workstation"])
def test_every_rule_that_computes_on_a_gpu_asks_for_one(name):
    own = profile(name)["set-resources"]
    assert set(own) <= rules_with_commands()
    with_gpu = {rule for rule, resources in own.items() if resources.get("gpu") == 1}
    assert with_gpu == rules_with_commands() - local_rules() - {"prepare_dataset"}


@pytest.mark.parametrize("name", CLUSTERS)
def test_no_group_is_cut_down_to_less_than_a_job_asks_for(name):
    settings = profile(name)
    bounds, scopes = settings["resources"], settings["set-resource-scopes"]
    assert set(scopes) == set(bounds) == {"gpu", "mem_mb", "cpus_per_task"}
    assert set(scopes.values()) == {"local"}
    asked = [settings["default-resources"], *settings["set-resources"].values()]
    attempts = range(1, settings["retries"] + 2)
    names = {"input": type("Input", (), {"size_mb": 10**6}), "min": min}
    for resource, bound in bounds.items():
        values = [str(resources[resource]) for resources in asked if resource in resources]
        assert values
        for text in values:
            assert all(eval(text, names | {"attempt": attempt}) <= bound for attempt in attempts), text


@pytest.mark.parametrize("name", CLUSTERS)
def test_groups_are_given_a_size(name):
    settings = profile(name)
    assert set(settings["groups"].values()) == set(settings["group-components"])
    # With the work of so many evaluations the order of jobs is reckoned.
    assert settings["group-components"][settings["groups"]["evaluate"]] == GROUPED


@pytest.mark.parametrize("name", CLUSTERS)
def test_run_time_grows_with_every_attempt(name):
    settings = profile(name)
    texts = [
        r["runtime"] for r in (settings["default-resources"], *settings["set-resources"].values()) if "runtime" in r
    ]
    for text in texts:
        wildcards = type("Wildcards", (), {"dataset": "tiny-imagenet"})
        minutes = [eval(text, {"attempt": attempt, "wildcards": wildcards}) for attempt in (1, 2, 3)]
        assert minutes[0] < minutes[1] < minutes[2]


@pytest.mark.parametrize("name", [*CLUSTERS, "workstation"])
def test_a_dry_run_with_the_profile_needs_neither_cluster_nor_gpu(fresh, name):
    copy = fresh
    (copy.folder / name).unlink(missing_ok=True)
    (copy.folder / name).symlink_to(f"profiles/{name}")
    command = [*copy.command("all_tables", "--dry-run")[:5], "--profile", name, "--config", "scale=tiny"]
    ended = copy.call(command)
    assert ended.status == 0, ended.output
    assert re.search(r"^evaluate +\d+$", ended.output, flags=re.MULTILINE)
    # Nobody claims what is only looked at.
    assert not list((copy.folder / ".snakemake").glob("elf/*.claim"))


def test_the_documented_command_plans_the_paper_and_no_other_key_changes_that(fresh, tmp_path):
    copy = fresh
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "table05", "--dry-run", "--quiet", "rules"]
    ended = copy.call(command)
    assert ended.status == 0, ended.output
    first = [line for line in ended.output.splitlines() if not line.startswith("Using profile")][:3]
    total = re.search(r"^total +(\d+)$", ended.output, flags=re.MULTILINE)[1]
    assert first[0].startswith("Scale: paper, ")
    assert first[1:] == ["Data: cifar10", f"Jobs: {total} for table05, less those whose results are there and current"]
    # Planned from another folder, it is the same.
    elsewhere = tmp_path / "else where"
    project = str(copy.folder)
    command[5:5] = ["--snakefile", f"{project}/Snakefile", "--directory", str(elsewhere)]
    assert f"Jobs: {total} for table05" in copy.call(command).output
    assert elsewhere.is_dir() and not (elsewhere / "results").exists()
    refused = copy.call([*command, "--config", "another_key=1"])
    assert refused.status == 1 and "unknown 'another_key'" in refused.output


@pytest.mark.parametrize("name", CLUSTERS)
@pytest.mark.parametrize("failures", [4, 7, 1000])
def test_jobs_are_not_forgotten_while_the_controller_is_away(name, failures, monkeypatch):
    """What Snakemake's executor does not give back after looking is never looked at again: it would wait for ever."""
    attempts = profile(name)["slurm-status-attempts"]
    assert jobs_kept(monkeypatch, failures, attempts)


def test_by_default_jobs_are_forgotten_after_five_failures(monkeypatch):
    """Why the profiles say something; once this fails, they need not."""
    assert jobs_kept(monkeypatch, 4, DEFAULT)
    assert not jobs_kept(monkeypatch, 5, DEFAULT)


def jobs_kept(monkeypatch, failures: int, attempts: int) -> bool:
    """Return whether a running job is still looked at after squeue has failed so often in a row."""
    answers = iter([(None, None)] * failures + [({"1": "RUNNING"}, 0.1)])

    async def answer(command, logger):
        return next(answers)

    monkeypatch.setattr(executor, "query_job_status", answer)
    monkeypatch.setattr(executor, "get_min_job_age", lambda: 7200)
    monkeypatch.setattr(executor, "is_query_tool_available", lambda name: False)
    settings = types.SimpleNamespace(status_attempts=attempts, init_seconds_before_status_checks=10)
    this = MagicMock(
        workflow=types.SimpleNamespace(executor_settings=settings),
        get_status_command=lambda: "squeue",
        run_uuid="12345678-abcd-1234-abcd-123456789012",
        **{"_status_query_failures": 0, "_status_query_calls": 0, "_status_query_total_seconds": 0.0},
        **{"_status_query_min_seconds": None, "_status_query_max_seconds": 0.0, "_status_query_cycle_rows": []},
        next_seconds_between_status_checks=10,
    )
    job = types.SimpleNamespace(external_jobid="1", aux={})

    async def look() -> list:
        return [kept async for kept in executor.Executor.check_active_jobs(this, [job])]

    return asyncio.run(look()) == [job]
