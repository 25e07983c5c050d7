"""Writes TOML: tables, arrays of tables, inline tables and values, as in the config file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Table = dict[str, Any]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_UNSAFE = re.compile(r'["\\\x00-\x1f\x7f]')

#: Sections of named tables, such as ``[channels.ops]``.
_NAMED = frozenset({"channels", "accounts", "events"})


def write(document: Mapping[str, Any]) -> str:
    """Return a config file. A list is an array of tables; empty ones are first."""
    lines = [f"{key} = []" for key, value in document.items() if value == []]
    for key, value in document.items():
        if isinstance(value, list):
            for table in value:
                lines += ["", f"[[{key}]]", *_pairs(table)]
        elif key in _NAMED and value:
            for name, table in value.items():
                lines += ["", f"[{key}.{_key(name)}]", *_pairs(table)]
        else:
            lines += ["", f"[{key}]", *_pairs(value)]
    return "\n".join(lines).lstrip("\n") + "\n"


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {value_text(value)}" for key, value in table.items()]


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def value_text(value: object) -> str:
    """Return a value as in the config file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_pairs(value)) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(element) for element in value) + "]"
    return repr(value)


def _string(value: str) -> str:
    return '"' + _UNSAFE.sub(lambda match: _escaped(match[0]), value) + '"'


def _escaped(character: str) -> str:
    return f"\\{character}" if character in '"\\' else f"\\u{ord(character):04X}"
