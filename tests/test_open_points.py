"""The page of open points says what the configuration holds."""

import re

import pytest
import yaml
from conftest import PROJECT

ROWS = [
    [field.strip() for field in line.strip("|").split("|")]
    for line in (PROJECT / "docs" / "open_points.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| (?!---|open point)", line)
]


@pytest.mark.parametrize("row", ROWS, ids=[row[3] for row in ROWS])
def test_the_value_is_the_one_of_the_configuration(row):
    file, key, value = (field.strip("`") for field in row[2:])
    found = yaml.safe_load((PROJECT / file).read_text(encoding="utf-8"))
    for part in key.split("."):
        found = found[int(part)] if isinstance(found, list) else found[part]
    assert found == yaml.safe_load(value)


def test_all_points_are_there():
    assert len(ROWS) == 20
