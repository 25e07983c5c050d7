"""What docstrings and comments refer to by a dotted name exists, so that a rename reaches them too."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import workermon

PACKAGE = Path(workermon.__file__).parent

#: A class in a module of ours or in a class, such as ``ports.Outbox``.
REFERENCE = re.compile(r"``((?:\w+\.)*\w+)\.([A-Z]\w*[a-z]\w*)(?:\.\w+)*(?:\(\))?``")


def _names(tree: ast.Module) -> set[str]:
    """Return what a module defines or imports."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return names


def test_every_class_that_a_docstring_names_exists() -> None:
    """``module.Class`` in a docstring or comment is a class of a module or package with that name."""
    texts = {path: path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    names: dict[str, set[str]] = defaultdict(set)
    for path, text in texts.items():
        names[path.parent.name if path.stem == "__init__" else path.stem] |= _names(ast.parse(text))
    dangling = [
        f"{path.relative_to(PACKAGE)}: {module}.{name}"
        for path, text in texts.items()
        for module, name in REFERENCE.findall(text)
        if (owner := module.rpartition(".")[2]) in names and name not in names[owner]
    ]
    assert not dangling
