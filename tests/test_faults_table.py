"""Each line of FAULTS.md names its tests, and each test that is named exists and is not skipped.

scripts/check runs this, too.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = [line for line in (TESTS / "FAULTS.md").read_text().splitlines() if re.match(r"\| (?!what )", line)]
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
SKIPPING = re.compile(r"\b(skip|skipif|xfail|importorskip)\b")


@cache
def module(file: Path) -> ast.Module:
    """A module of the tests, as it is written."""
    return ast.parse(file.read_text())


def functions_of(file: Path) -> dict[str, str]:
    """The functions of a module, by name: their decorators and what they do."""
    return {
        node.name: ast.unparse(node)
        for node in module(file).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def marks_of(file: Path) -> str:
    """What marks all tests of a module, or imports what may be missing."""
    return "\n".join(
        ast.unparse(node) for node in module(file).body if isinstance(node, ast.Assign | ast.Expr)
    )


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip() for row in ROWS])
def test_a_fault_has_its_test(row):
    """Those that the table names are there, to be collected under that very name and run wherever they can."""
    named = NAMED.findall(row)
    assert named
    for file, name in named:
        assert name.startswith("test_")
        assert (TESTS / file).name.startswith("test_")
        functions = functions_of(TESTS / file)
        assert name in functions, f"{file} has no {name}"
        assert not SKIPPING.search(functions[name]), f"{file}::{name} is skipped"
        assert not SKIPPING.search(marks_of(TESTS / file)), f"{file} is skipped"
