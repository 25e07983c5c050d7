"""The examples in docstrings are executed, so that none shows what the code no longer does."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import workermon

PACKAGE = Path(workermon.__file__).parent

MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text("utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_show_what_it_does(name: str) -> None:
    """Each example in a docstring returns what is written below it."""
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0, f"{results.failed} of {results.attempted} examples differ; they are in the output"
    assert results.attempted > 0
