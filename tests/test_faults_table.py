"""Each line of FAULTS.md names its tests, and each test that is named exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = [line for line in (TESTS / "FAULTS.md").read_text().splitlines() if re.match(r"\| (?!what )", line)]
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def functions_of(file: Path) -> set[str]:
    """The names of the functions of a module."""
    return {
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip() for row in ROWS])
def test_a_fault_has_its_test(row):
    """Those that the table names are there, to be collected under that very name."""
    named = NAMED.findall(row)
    assert named
    for file, name in named:
        assert name.startswith("test_")
        assert name in functions_of(TESTS / file), f"{file} has no {name}"
