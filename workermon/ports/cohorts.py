"""Cohorts: workers of one account, region and interval that are collected together, and when in the interval."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol


class Pace(NamedTuple):
    """CPU seconds that a node takes to collect one cohort, recorded at a time."""

    seconds: float
    at: float


class Cohorts(Protocol):
    """The cohorts of each group (``AccountRegion.key``, a slash, the interval), and what decides when they are due.

    A cohort's name is that of its group, ``#`` and its number. Lost data is learned again.
    """

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Return the numbers of the cohorts of each collected group, in order; none if it has no workers."""

    def learned(self, group: str) -> dict[str, Any] | None:
        """Return the learned values of a group: small JSON values by metric; ``None`` if it was never collected."""

    def all_learned(self) -> dict[str, dict[str, Any]]:
        """Return the learned values of every group."""

    def learn(self, group: str, values: Mapping[str, Any]) -> None:
        """Store the learned values of a group."""

    def note_pace(self, node: str, pace: Pace) -> None:
        """Record how fast a node collects."""

    def paces(self) -> dict[str, Pace]:
        """Return the newest record of each node."""

    def phases(self) -> dict[str, float]:
        """Return the cohorts with a place of their own: how many seconds into each interval they are due."""

    def place(self, phases: Mapping[str, float]) -> None:
        """Store the places of cohorts. Each moves with its next run, so each interval has exactly one run."""

    def forget(self, groups: Collection[str], cohorts: Collection[str], nodes: Collection[str]) -> None:
        """Delete the data of groups, cohorts and nodes that no longer exist."""
