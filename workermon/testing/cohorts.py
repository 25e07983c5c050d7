"""Cohorts in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from workermon import ports


class MemoryCohorts:
    """``ports.Cohorts`` in memory. ``numbers`` are the cohorts of each group, for tests to set."""

    def __init__(self) -> None:
        self.numbers: dict[str, tuple[int, ...]] = {}
        self._learned: dict[str, dict[str, Any]] = {}
        self._paces: dict[str, ports.Pace] = {}
        self._phases: dict[str, float] = {}

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Return the numbers of each group's cohorts."""
        return {group: tuple(sorted(self.numbers.get(group, ()))) for group in self._learned}

    def learned(self, group: str) -> dict[str, Any] | None:
        """Return the learned times of a group."""
        return self._learned.get(group)

    def all_learned(self) -> dict[str, dict[str, Any]]:
        """Return the learned times of every group."""
        return dict(self._learned)

    def learn(self, group: str, values: Mapping[str, Any]) -> None:
        """Store the learned times of a group."""
        self._learned[group] = dict(values)

    def note_pace(self, node: str, pace: ports.Pace) -> None:
        """Record how fast a node collects."""
        self._paces[node] = pace

    def paces(self) -> dict[str, ports.Pace]:
        """Return the newest record of each node."""
        return dict(self._paces)

    def phases(self) -> dict[str, float]:
        """Return the cohorts with a place of their own."""
        return dict(self._phases)

    def place(self, phases: Mapping[str, float]) -> None:
        """Store the places of cohorts."""
        self._phases.update(phases)

    def forget(self, groups: Collection[str], cohorts: Collection[str], nodes: Collection[str]) -> None:
        """Delete what belongs to groups and cohorts that no longer exist."""
        for records, obsolete in ((self._learned, groups), (self._phases, cohorts), (self._paces, nodes)):
            for name in obsolete:
                records.pop(name, None)
