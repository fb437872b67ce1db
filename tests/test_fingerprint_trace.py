"""Whatever a job runs is in its fingerprint: compared with what Python itself calls while a job runs."""

import inspect
import sys
from pathlib import Path

import pytest
from test_stages import Study, study  # noqa: F401

import elf
from elf.artifacts import code
from elf.artifacts import fingerprint as module
from elf.cli import main
from elf.specs.kinds import ONLY_PARTIAL

PACKAGE = Path(elf.__file__).parent
# What starts a job, what only says which code counts, and what is declared to be read by people alone.
NOT_COUNTED = {"elf.cli", *module.PLANNING}
# Where code may lie: what lies there is counted.
ASKED_BY_FINGERPRINTS = {("elf.specs.plugins", "places")}


def called_during(command: list) -> set[tuple[str, str]]:
    """Return module and top-level name of every function of the package that a command calls."""
    codes = set()
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, _: codes.add(frame.f_code) if event == "call" else None)
    try:
        assert main([str(part) for part in command]) == 0
    finally:
        sys.setprofile(before)
    found = set()
    # The body of a class runs when its module is imported, which is no call.
    for one in (each for each in codes if each.co_flags & inspect.CO_OPTIMIZED):
        file = Path(one.co_filename)
        if PACKAGE in file.parents and file.suffix == ".py":
            name = ".".join(["elf", *file.relative_to(PACKAGE).with_suffix("").parts])
            found.add((name, one.co_qualname.partition(".")[0]))
    return {(name, what) for name, what in found if not what.startswith("<") and name not in NOT_COUNTED}


def test_everything_that_a_job_calls_is_in_its_fingerprint(study, tmp_path, monkeypatch):  # noqa: F811
    # As the workflow tells its jobs: there are no plug-ins of the user's to look for.
    monkeypatch.setenv("ELF_PLUGINS", "")
    again, asked = Study(study.config, tmp_path / "again"), []
    real = code.fingerprint

    def asking(*roots, without=()):
        asked.append((roots, without))
        return real(*roots, without=without)

    seen = 0
    for command in again.commands():
        if command[0] not in STAGES:
            assert main([str(part) for part in command]) == 0
            continue
        monkeypatch.setattr(code, "fingerprint", asking)
        asked.clear()
        called = called_during(command)
        monkeypatch.setattr(code, "fingerprint", real)
        roots, without = asked[-1] if asked else STAGES[command[0]]
        counted = {(target.module, target.name) for target in module.reached(*roots, without=without).texts}
        declared = {tuple(name.split(":")) for name in without}
        whole = {name for name, what in counted if not what}
        missing = {one for one in called - counted if one[0] not in whole} - declared - ASKED_BY_FINGERPRINTS
        below = {
            one for one in missing if one[0] in {"elf.distillation.shared.images_distilled", "elf.training.images_seen"}
        }
        if command[0] in ("collect", "table"):
            # Planned settings, as plug-ins make them, are in the digest of what these show.
            below |= {one for one in missing if one[0].startswith("elf.objectives.") and one[1] == "Settings"}
        assert missing <= below, (command[:1], sorted(missing - below))
        seen += len(called)
    assert seen > 100


STAGES = {
    **dict.fromkeys(("prepare-dataset", "distill", "train-teacher", "extract-features", "evaluate")),
    "collect": (("elf.stages.collect:main",), ()),
    "table": (("elf.stages.table:main",), ONLY_PARTIAL),
}


@pytest.fixture(autouse=True)
def _small(small_process):
    """As the tests of the stages themselves."""
