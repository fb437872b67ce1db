"""Which tests start processes is known before they run, and those that do and those that do not are all tests."""

import re
import subprocess
import sys

import conftest
import pytest


def collected(run_python, chosen: str) -> tuple[int, int]:
    """Return how many tests an expression chooses, and of how many."""
    options = ("--collect-only", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "-m", chosen)
    ended = run_python("-m", "pytest", *options)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = re.search(r"^(\d+)/(\d+) tests collected \((\d+) deselected\)", ended.stdout, re.MULTILINE)
    chosen_tests, every, others = map(int, told.groups())
    assert chosen_tests + others == every
    return chosen_tests, every


def test_fast_and_slow_tests_together_are_all(run_python):
    fast, every = collected(run_python, "not processes")
    slow, as_many = collected(run_python, "processes")
    assert every == as_many == fast + slow
    assert fast > slow > 100


def test_a_mark_follows_from_the_fixtures_alone(request):
    for item in request.session.items:
        marked = item.get_closest_marker(conftest.MARK) is not None
        assert marked == (conftest.FIXTURE in item.fixturenames), item.nodeid


def test_a_test_that_does_not_ask_cannot_start_a_process():
    with pytest.raises(AssertionError, match="it has to ask for the fixture 'other_processes'"):
        subprocess.run([sys.executable, "-c", ""], check=True)


def test_a_test_that_asks_can(run_python):
    assert run_python("-c", "print(1)").stdout == "1\n"
