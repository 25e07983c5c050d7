"""The names of AWS' regions."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator


@dataclasses.dataclass(frozen=True, slots=True)
class RegionNames(Collection[str]):
    """The regions that are known by name, and those that AWS may open: they fit a ``pattern`` of a partition.

    A name that fits is taken only if each of its words is one of a known region's, so that a slip such as
    ``us-esat-1`` is still told.
    """

    names: frozenset[str]
    patterns: tuple[str, ...] = ()

    def __contains__(self, name: object) -> bool:
        """Return whether AWS has a region of that name, or may have one."""
        if name in self.names:
            return True
        return (
            isinstance(name, str)
            and any(re.fullmatch(pattern, name) for pattern in self.patterns)
            and _words(name) <= {word for region_name in self.names for word in _words(region_name)}
        )

    def __iter__(self) -> Iterator[str]:
        """Return those that are known by name."""
        return iter(self.names)

    def __len__(self) -> int:
        """Return how many are known by name."""
        return len(self.names)


def _words(name: str) -> set[str]:
    return {word for word in name.split("-") if not word.isdigit()}
