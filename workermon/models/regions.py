"""The names of AWS' regions."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator


@dataclasses.dataclass(frozen=True, slots=True)
class RegionNames(Collection[str]):
    """The known regions, and those that AWS may open: their names match a ``pattern`` of a partition.

    A name that matches is accepted only if each of its words occurs in a known region, so that a typo such as
    ``us-esat-1`` is still reported.
    """

    names: frozenset[str]
    patterns: tuple[str, ...] = ()

    def __contains__(self, name: object) -> bool:
        """Return whether AWS has a region with that name, or may open one."""
        if name in self.names:
            return True
        return (
            isinstance(name, str)
            and any(re.fullmatch(pattern, name) for pattern in self.patterns)
            and _words(name) <= {word for region_name in self.names for word in _words(region_name)}
        )

    def __iter__(self) -> Iterator[str]:
        """Return the known regions."""
        return iter(self.names)

    def __len__(self) -> int:
        """Return the number of known regions."""
        return len(self.names)


def _words(name: str) -> set[str]:
    return {word for word in name.split("-") if not word.isdigit()}
