"""Rejects keys of absurdly many parts before the file is parsed: ``tomllib`` takes minutes for ``a.a.a…``."""

from __future__ import annotations

import re

from workermon import errors

#: Parts of a key. The deepest key of a config file has five.
MAX_PARTS = 100

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_LONG_KEY = re.compile(rf"""(?<![A-Za-z0-9_.-]){_PART}(?:[ \t]*\.[ \t]*{_PART}){{{MAX_PARTS}}}""")


def check(text: str, source: str) -> None:
    """Raise ``errors.InvalidInput`` for a line with a key of more than ``MAX_PARTS`` parts.

    Words in quotes count as well, because no text in a config file has so many joined by dots.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") >= MAX_PARTS and _LONG_KEY.search(line):
            reason = f"has a key of more than {MAX_PARTS} parts"
            raise errors.InvalidInput(f"{source}: line {number}", reason, "write it flat")
