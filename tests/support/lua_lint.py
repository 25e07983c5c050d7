"""A linter for the Lua scripts: ``python -m tests.support.lua_lint``, which ``make check`` runs.

PyPI has a parser for Lua but no linter. Redis itself finds a wrong syntax only when a script is loaded, and a global
variable (which a script may not set, and which is ``nil`` when misspelt) only when that line runs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from luaparser import ast, astnodes

ROOT: Final = Path(__file__).parents[2]
#: What a script has besides its own names, of what Redis gives it.
GIVEN: Final = frozenset(
    {"KEYS", "ARGV", "redis", "cjson", "cmsgpack", "string", "table", "math"}
    | {"ipairs", "pairs", "unpack", "tonumber", "tostring", "type", "next", "select", "error", "assert", "pcall"}
)
#: Characters.
LONGEST_LINE: Final = 120


class _Scope:
    """The locals of a block, with the line of their declaration until they are used."""

    def __init__(self, outer: _Scope | None = None) -> None:
        self.outer = outer
        self.unused: dict[str, int] = {}
        self.names: set[str] = set()

    def declare(self, name: str, line: int) -> None:
        self.names.add(name)
        if not name.startswith("_"):
            self.unused[name] = line

    def use(self, name: str) -> bool:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.names:
                scope.unused.pop(name, None)
                return True
            scope = scope.outer
        return False


class _Linter:
    """Reads one script, and collects its errors as (line, text)."""

    def __init__(self, known_globals: Iterable[str]) -> None:
        self.known_globals = frozenset(known_globals)
        self.faults: list[tuple[int, str]] = []

    def block(self, statements: list[Any], outer: _Scope | None, declared: Iterable[Any] = (), line: int = 0) -> None:
        """Walk a block, in which the names of a loop or a function of that line are declared."""
        scope = _Scope(outer)
        for name in declared:
            if isinstance(name, astnodes.Name):
                scope.declare(name.id, line)
        for statement in statements:
            self.visit(statement, scope)
        self.faults += [(line, _unused(name)) for name, line in scope.unused.items()]

    def visit(self, node: Any, scope: _Scope) -> None:
        visitor = getattr(self, f"_{type(node).__name__.lower()}", None)
        if visitor is not None:
            visitor(node, scope)
            return
        for child in _children(node):
            self.visit(child, scope)

    def _name(self, node: Any, scope: _Scope) -> None:
        if not scope.use(node.id) and node.id not in self.known_globals:
            self.faults.append((node.line or 0, f"{node.id} is not defined"))

    def _index(self, node: Any, scope: _Scope) -> None:
        self.visit(node.value, scope)
        if node.notation is not astnodes.IndexNotation.DOT:
            self.visit(node.idx, scope)

    def _field(self, node: Any, scope: _Scope) -> None:
        if node.between_brackets:
            self.visit(node.key, scope)
        self.visit(node.value, scope)

    def _localassign(self, node: Any, scope: _Scope) -> None:
        for value in node.values:
            self.visit(value, scope)
        for name in node.targets:
            scope.declare(name.id, node.line or 0)

    def _assign(self, node: Any, scope: _Scope) -> None:
        for value in node.values:
            self.visit(value, scope)
        for target in node.targets:
            if isinstance(target, astnodes.Name):
                self._target(target, scope, node.line or 0)
            else:
                self.visit(target, scope)

    def _target(self, name: Any, scope: _Scope, line: int) -> None:
        owner: _Scope | None = scope
        while owner is not None and name.id not in owner.names:
            owner = owner.outer
        if owner is None:
            self.faults.append((line, f"{name.id} is set and is not a local"))

    def _localfunction(self, node: Any, scope: _Scope) -> None:
        scope.declare(node.name.id, node.line or 0)
        self.block(node.body.body, scope, node.args, node.line or 0)

    def _function(self, node: Any, scope: _Scope) -> None:
        self.faults.append((node.line or 0, "a function is not local"))
        self.block(node.body.body, scope, node.args, node.line or 0)

    def _anonymousfunction(self, node: Any, scope: _Scope) -> None:
        self.block(node.body.body, scope, node.args, node.line or 0)

    def _fornum(self, node: Any, scope: _Scope) -> None:
        for bound in (node.start, node.stop, node.step):
            if isinstance(bound, astnodes.Node):
                self.visit(bound, scope)
        self.block(node.body.body, scope, [node.target], node.line or 0)

    def _forin(self, node: Any, scope: _Scope) -> None:
        for value in node.iter:
            self.visit(value, scope)
        self.block(node.body.body, scope, node.targets, node.line or 0)

    def _repeat(self, node: Any, scope: _Scope) -> None:
        self.block([*node.body.body, node.test], scope)

    def _block(self, node: Any, scope: _Scope) -> None:
        self.block(node.body, scope)


def _children(node: Any) -> Iterator[Any]:
    for name, value in vars(node).items():
        if name.startswith("_") or name == "comments":
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, astnodes.Node):
                yield child


def lint(text: str, shared: Iterable[str] = ()) -> list[tuple[int, str]]:
    """Return the errors of a script as (line, text). ``shared`` are the names that other files declare for it."""
    faults = [
        (number, f"{len(line)} characters" if len(line) > LONGEST_LINE else "space at the end")
        for number, line in enumerate(text.split("\n"), 1)
        if len(line) > LONGEST_LINE or line != line.rstrip()
    ]
    try:
        tree = ast.parse(text)
    except Exception as why:  # the parser's own kinds, and what its runtime raises
        return [*faults, (0, f"it cannot be read: {why}")]
    linter = _Linter({*GIVEN, *shared})
    linter.block(tree.body.body, None)
    return sorted(faults + linter.faults)


def lint_folder(folder: Path) -> list[str]:
    """Return the errors of all scripts of a folder as ``file:line: text``. All may use its ``shared`` functions."""
    shared_files = sorted((folder / "shared").glob("*.lua"))
    shared = {
        name for path in shared_files for name in re.findall(r"^local function (\w+)", path.read_text("utf-8"), re.M)
    }
    return [
        f"{path.relative_to(ROOT)}:{line}: {fault}"
        for path in [*shared_files, *sorted(folder.glob("*.lua"))]
        for line, fault in lint(path.read_text("utf-8"), shared)
        if path not in shared_files or fault not in {_unused(name) for name in shared}
    ]


def _unused(name: str) -> str:
    return f"local {name} is never used"


def main() -> int:
    """Print the errors of all scripts. Return 1 if there are any."""
    folders = sorted({path.parent for path in (ROOT / "workermon").glob("*/scripts/*.lua")})
    faults = [fault for folder in folders for fault in lint_folder(folder)]
    print("\n".join(faults) or f"{sum(1 for _ in (ROOT / 'workermon').rglob('*.lua'))} Lua files have no fault")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
