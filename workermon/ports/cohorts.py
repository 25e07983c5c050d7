"""Cohorts: workers of one account, region and interval that are collected together, and when in the interval."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol


class Pace(NamedTuple):
    """CPU seconds that a node takes for the collection of one cohort, noted at a time."""

    seconds: float
    at: float


class Cohorts(Protocol):
    """The cohorts of each group (``AccountRegion.key``, a slash, the interval), and what decides when they are due.

    A cohort's name is that of its group, ``#`` and its number. What is lost is learned again.
    """

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Return the numbers of the cohorts of each group that was collected, in order; none if it has no worker."""

    def learned(self, group: str) -> dict[str, Any] | None:
        """Return what is learned of a group: small JSON values by metric; ``None`` if it was never collected."""

    def all_learned(self) -> dict[str, dict[str, Any]]:
        """Return the same of every group."""

    def learn(self, group: str, values: Mapping[str, Any]) -> None:
        """Keep what is learned of a group."""

    def note_pace(self, node: str, pace: Pace) -> None:
        """Note how fast a node collects."""

    def paces(self) -> dict[str, Pace]:
        """Return what was noted last of each node."""

    def phases(self) -> dict[str, float]:
        """Return the cohorts that have a place of their own: how many seconds into each interval they are due."""

    def place(self, phases: Mapping[str, float]) -> None:
        """Give cohorts a place. Each moves with its next run: no interval has none of it, and none has two."""

    def forget(self, groups: Collection[str], cohorts: Collection[str], nodes: Collection[str]) -> None:
        """Forget what was kept of groups, cohorts and nodes that are gone."""
