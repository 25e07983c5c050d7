"""Sizes that only shrink: ``ratchet.toml`` lists each exception with its reason, and no unneeded one."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.syntax import statements
from workermon import collect, evaluate, fleet, health, notify, runtime, views

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "workermon"
RATCHET = ROOT / "ratchet.toml"

pytestmark = pytest.mark.skipif(not RATCHET.exists(), reason="only a checkout has ratchet.toml")


def ratchet() -> dict[str, dict[str, str]]:
    """Return the exceptions that the file lists."""
    return tomllib.loads(RATCHET.read_text("utf-8"))


def sources() -> dict[str, str]:
    """Return the text of each module of the package by its path."""
    return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def functions(text: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the functions and methods of a module."""
    return [node for node in statements(text) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def has_many_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef, limit: int) -> bool:
    """Return whether a caller passes more arguments than that. ``self`` and injected parameters do not count."""
    named_parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return (
        len(named_parameters)
        > limit
        < sum(
            parameter.arg not in {"self", "cls"}
            and "FromDishka" not in ast.dump(parameter.annotation or ast.Constant(value=None))
            for parameter in named_parameters
        )
    )


def test_long_modules_have_a_reason() -> None:
    """A module above 500 lines is listed with its reason, and nothing else is."""
    limit = ratchet()["limits"]["module_lines"]
    long = {path for path, text in sources().items() if len(text.splitlines()) > int(limit)}
    assert long == set(ratchet()["modules"])


@pytest.mark.integration
def test_complex_functions_have_a_reason() -> None:
    """A function above complexity 10, as ruff counts it, is listed with its reason, and nothing else is."""
    limit = ratchet()["limits"]["complexity"]
    completed = subprocess.run(
        [
            sys.executable, "-m", "ruff", "check", "--isolated", "--select", "C901", "--output-format", "json",
            "--config", f"lint.mccabe.max-complexity={limit}", "--exit-zero",
            str(PACKAGE), str(ROOT / "celeryconfig.py"),
        ],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    complex_functions = {
        f"{Path(finding['filename']).relative_to(ROOT)}:{finding['message'].split('`')[1]}"
        for finding in json.loads(completed.stdout)
    }
    assert complex_functions == set(ratchet()["functions"])


def test_functions_with_many_parameters_stay_few() -> None:
    """There are at most 0.8 functions with more than five parameters in a thousand lines."""
    limits = ratchet()["limits"]
    texts = sources().values()
    limit = int(limits["parameters"])
    many = sum(has_many_parameters(function, limit) for text in texts for function in functions(text))
    lines = sum(len(text.splitlines()) for text in texts)
    assert 1000 * many / lines <= float(limits["many_parameters_per_1000_lines"])


def stages() -> Iterator[type]:
    """Yield the classes that the composition root makes by their fields, and other dataclasses with ports."""
    made_by_recipe = {recipe.source for recipe in runtime.Stages().factories if inspect.isclass(recipe.source)}
    yield from made_by_recipe
    for room in (fleet, collect, evaluate, notify, views, health):
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            for kind in vars(importlib.import_module(module.name)).values():
                if (
                    inspect.isclass(kind)
                    and kind.__module__ == module.name
                    and kind not in made_by_recipe
                    and holds_port(kind)
                ):
                    yield kind


def holds_port(kind: type) -> bool:
    """Return whether a class is a dataclass with a Protocol of ``ports`` among its fields."""
    if not dataclasses.is_dataclass(kind):
        return False
    hints = typing.get_type_hints(kind)
    return any(_is_port(hints[field.name]) for field in dataclasses.fields(kind))


def _is_port(hint: object) -> bool:
    return getattr(hint, "_is_protocol", False) and getattr(hint, "__module__", "").startswith("workermon.ports")


def public_methods(kind: type) -> list[str]:
    """Return the names of the public methods. Properties and fields do not count."""
    methods = [name for name, _ in inspect.getmembers_static(kind, inspect.isroutine)]
    return [name for name in methods if not name.startswith("_")]


def is_stage(kind: type) -> bool:
    """Return whether a class is a frozen dataclass with slots and one public method."""
    parameters: typing.Any = getattr(kind, "__dataclass_params__", None)
    frozen = parameters is not None and parameters.frozen and "__slots__" in vars(kind)
    return frozen and len(public_methods(kind)) == 1


def test_a_stage_is_frozen_and_has_one_public_method() -> None:
    """A class with ports is a frozen dataclass with one public method, or is listed with its reason."""
    unlike_stages = {f"{kind.__module__}:{kind.__name__}" for kind in stages() if not is_stage(kind)}
    assert unlike_stages == set(ratchet()["stages"])


def test_no_port_of_a_stage_is_optional() -> None:
    """A port without work is an implementation that does nothing, never ``None``."""
    optional = {
        f"{kind.__module__}:{kind.__name__}.{field.name}"
        for kind in stages()
        for field in dataclasses.fields(typing.cast("typing.Any", kind))
        if any(map(_is_port, types := typing.get_args(typing.get_type_hints(kind)[field.name]))) and type(None) in types
    }
    assert optional == set()


def test_every_type_error_that_is_ignored_has_a_reason() -> None:
    """Each ignored finding of a checker has its code and, after it, the reason."""
    ignored = re.compile(r"# type: " + r"ignore(?!\[[a-z-]+(, [a-z-]+)*\]  # \S+ \S)")
    without = [
        f"{path.relative_to(ROOT)}:{number}"
        for room in ("workermon", "tests", "benchmarks", "docs", "celeryconfig.py")
        for path in ([ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py")))
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if ignored.search(line)
    ]
    assert without == []


def test_every_exception_has_a_reason() -> None:
    """Each entry gives its reason in a sentence."""
    entries = ratchet()["modules"] | ratchet()["functions"] | ratchet()["stages"]
    assert all(len(reason.split()) >= 4 for reason in entries.values())
