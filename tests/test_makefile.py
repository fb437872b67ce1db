"""Installing with another PyTorch than that of the lock file."""

import shutil

import pytest
from conftest import PROJECT


@pytest.fixture
def make(run, tmp_path):
    """Function that says what ``make`` would do in a folder that was installed with the lock file's PyTorch."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(PROJECT / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "installed").write_text("\n", encoding="utf-8")
    return lambda *arguments: run("make", "--dry-run", "install", *arguments, cwd=tmp_path)


def test_another_pytorch_is_another_installation(make, tmp_path):
    assert "pip" not in make().stdout
    assert "awk" in make("TORCH=mine").stdout
    (tmp_path / ".venv" / "installed").write_text("mine\n", encoding="utf-8")
    assert "pip" not in make().stdout and "pip" not in make("TORCH=mine").stdout


def test_an_unknown_choice_is_refused(make):
    answer = make("TORCH=cpu")
    assert answer.returncode and "TORCH=cpu is unknown" in answer.stderr
