"""Python's syntax, for tests that look at the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator


def statements(text: str) -> Iterator[ast.stmt]:
    """Yield every statement of a module, without looking into expressions: that takes a third of the time."""
    blocks: list[ast.AST] = [ast.parse(text)]
    while blocks:
        for node in ast.iter_child_nodes(blocks.pop()):
            if isinstance(node, ast.stmt):
                yield node
            if isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
                blocks.append(node)
