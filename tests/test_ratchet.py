"""Sizes that only shrink: ``ratchet.toml`` lists each exception with its reason, and none that is not needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "workermon"
RATCHET = ROOT / "ratchet.toml"

pytestmark = pytest.mark.skipif(not RATCHET.exists(), reason="only a checkout has ratchet.toml")


def ratchet() -> dict[str, dict[str, str]]:
    """Return what the file lists."""
    return tomllib.loads(RATCHET.read_text("utf-8"))


def sources() -> dict[str, str]:
    """Return the text of each module of the package by its path."""
    return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def functions(text: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the functions and methods of a module."""
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count what a caller hands over: neither ``self`` nor what dishka injects."""
    taken = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return sum(
        each.arg not in {"self", "cls"} and "FromDishka" not in ast.dump(each.annotation or ast.Constant(value=None))
        for each in taken
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
    done = subprocess.run(
        [
            sys.executable, "-m", "ruff", "check", "--isolated", "--select", "C901", "--output-format", "json",
            "--config", f"lint.mccabe.max-complexity={limit}", "--exit-zero",
            str(PACKAGE), str(ROOT / "celeryconfig.py"),
        ],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    complex_functions = {
        f"{Path(finding['filename']).relative_to(ROOT)}:{finding['message'].split('`')[1]}"
        for finding in json.loads(done.stdout)
    }
    assert complex_functions == set(ratchet()["functions"])


def test_functions_with_many_parameters_stay_few() -> None:
    """Of a thousand lines at most 0.8 begin a function with more than five parameters."""
    limits = ratchet()["limits"]
    texts = sources().values()
    many = sum(parameters(function) > int(limits["parameters"]) for text in texts for function in functions(text))
    lines = sum(len(text.splitlines()) for text in texts)
    assert 1000 * many / lines <= float(limits["many_parameters_per_1000_lines"])


def test_every_exception_has_a_reason() -> None:
    """Each entry says why in a sentence."""
    entries = ratchet()["modules"] | ratchet()["functions"]
    assert all(len(reason.split()) >= 4 for reason in entries.values())
