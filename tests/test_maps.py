"""The docstring of each package is a map of it: a module that is added or goes has its row changed there.

scripts/check runs this, too.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
PACKAGES = sorted(
    file.parent.relative_to(TOP)
    for folder in ("imagefs", "scripts")
    for file in (TOP / folder).rglob("__init__.py")
)


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_a_package_names_its_modules(package: Path) -> None:
    """Each is in the docstring, and each row of that is about one that exists."""
    source = (TOP / package / "__init__.py").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    modules = {file.stem for file in (TOP / package).glob("*.py")}
    subpackages = {file.parent.name for file in (TOP / package).glob("*/__init__.py")}
    named = set(re.findall(r"``(\w+)``", docstring))
    assert (modules | subpackages) - {"__init__", "__main__"} <= named
    assert set(re.findall(r"^``(\w+)`` ", docstring, re.MULTILINE)) <= modules | subpackages
