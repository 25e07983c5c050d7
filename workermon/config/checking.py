"""Finds every mistake of a config file at once, for ``rules check``. Other commands stop at the first one.

The wrong part is removed and the rest is checked again, until nothing is wrong. A mistake caused only by a removed part
is not reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from workermon import errors
from workermon.config import problems

#: Maximum mistakes to report, and parts to remove. Each time the whole rest of the file is checked again.
MAX_MISTAKES, MAX_REMOVALS = 50, 200

#: Checks the rest of a file. Raises ``problems.Mistake``, or ``errors.InvalidInput`` with the path as its place.
Check = Callable[[dict[str, Any]], object]

_STEP = re.compile(r"\[(\d+)\]")
_UNKNOWN = re.compile(r"(\S+) is not a known \w+")
_UNCOLLECTED = "is not collected, so the rule could never fire"


class _DocumentPart(NamedTuple):
    """A part of the document: its container, its key or index, and its path in the file."""

    container: Any
    key: Any
    path: str


class RemainingDocument:
    """The rest of a document, and what was removed."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._removed: list[str] = []
        self._names: set[str] = set()
        #: The positions in the file of the elements of each list that has lost one.
        self._places: dict[int, list[int]] = {}

    def find(self, path: str) -> tuple[list[_DocumentPart], str]:
        """Return the existing parts on the way to a path, and the rest of the path."""
        places: list[_DocumentPart] = []
        container: Any = self.document
        remaining = path.strip("[]") if path.startswith("[") else path
        parent_path = ""
        while remaining:
            step = _STEP.match(remaining)
            if step is not None and isinstance(container, list) and int(step[1]) < len(container):
                place = int(step[1])
                parent_path += f"[{self._place(container, place)}]"
                places.append(_DocumentPart(container, place, parent_path))
                container, remaining = container[place], remaining[step.end() :].removeprefix(".")
                continue
            key = _key(container, remaining)
            if key is None:
                break
            parent_path += f"{'.' if parent_path else ''}{problems.excerpt(key)}"
            places.append(_DocumentPart(container, key, parent_path))
            container, remaining = container[key], remaining[len(problems.excerpt(key)) :].removeprefix(".")
        return places, remaining

    def original(self, path: str) -> str:
        """Return a path as in the file."""
        places, remaining = self.find(path)
        if not places or path.startswith("["):
            return path
        parent_path = places[-1].path
        return f"{parent_path}{'' if remaining.startswith('[') else '.'}{remaining}" if remaining else parent_path

    def follows(self, path: str, reason: str) -> bool:
        """Return whether something is wrong only because something else was removed."""
        unknown = _UNKNOWN.match(reason)
        if unknown is not None and unknown[1] in self._names:
            return True
        if reason.endswith(_UNCOLLECTED) and any(removed.startswith("collect.metrics") for removed in self._removed):
            return True
        places, _ = self.find(path)
        if not places:
            return False
        within = tuple(f"{places[-1].path}{separator}" for separator in ".[")
        return any(removed.startswith(within) for removed in self._removed)

    def suggestion(self, reason: str) -> str | None:
        """Suggest the nearest name for an unknown one, if that was removed."""
        unknown = _UNKNOWN.match(reason)
        return errors.did_you_mean(unknown[1], self._names) if unknown is not None else None

    def remove(self, path: str) -> bool:
        """Remove what is at a path, or the part in which it is missing; return whether there was anything."""
        places, _ = self.find(path)
        if not places:
            return False
        container, key, parent_path = places[-1]
        self._removed.append(parent_path)
        self._names |= _names(key, container[key])
        if isinstance(container, list):
            self._places.setdefault(id(container), list(range(len(container)))).pop(key)
        del container[key]
        return True

    def _place(self, container: list[Any], place: int) -> int:
        return self._places.get(id(container), range(len(container)))[place]


def every(document: dict[str, Any], source: str, text: str, check: Check) -> tuple[errors.InvalidInput, ...]:
    """Return every mistake of a document, in the order of the text; none if it is valid."""
    remains, mistakes = RemainingDocument(document), dict[tuple[str, str], errors.InvalidInput]()
    for _ in range(MAX_REMOVALS):
        try:
            check(remains.document)
            break
        except problems.Mistake as wrong:
            path, about, reason, todo, inside = wrong.path, "", wrong.reason, wrong.todo, wrong.place
        except errors.InvalidInput as wrong:
            path, _, about = wrong.subject.removeprefix(f"{source}: ").partition(": ")
            reason, todo = wrong.reason, wrong.todo
            inside = wrong.place if isinstance(wrong, problems.InvalidText) else None
        if not remains.follows(path, reason):
            todo = remains.suggestion(reason) or todo
            original = remains.original(path)
            place_text = problems.location(source, original, text, inside)
            subject = f"{place_text}: {about}" if about else place_text
            mistakes.setdefault((original, reason), errors.InvalidInput(subject, reason, todo))
        # Without its expression the other keys of a rule would be wrong, too.
        spoilt = path if inside is None else path.rpartition(".")[0]
        if len(mistakes) >= MAX_MISTAKES or not remains.remove(spoilt):
            break
    return tuple(sorted(mistakes.values(), key=_position))


def _position(mistake: errors.InvalidInput) -> tuple[int, int]:
    place = re.search(r": line (\d+), column (\d+)", mistake.subject)
    return (int(place[1]), int(place[2])) if place else (0, 0)


def _key(container: Any, remaining: str) -> str | None:
    """Return the table's key that the rest of a path begins with: the longest, because a name may contain dots."""
    if not isinstance(container, dict):
        return None
    matching = [key for key in container if re.match(re.escape(problems.excerpt(key)) + r"(?=$|[.\[])", remaining)]
    return max(matching, key=len, default=None)


def _names(key: object, value: object) -> set[str]:
    """Return the names by which other parts of a file may refer to this one."""
    names = {str(key)}
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        names.add(value["name"])
    if isinstance(value, str):
        names.add(value)
    return names
