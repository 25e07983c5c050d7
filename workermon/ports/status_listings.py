"""The statuses of whole regions, listed shortly before their workers are collected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from workermon.models import InstanceStatus


class ListedStatus(NamedTuple):
    """An instance's status, and when it was requested."""

    at: float
    status: InstanceStatus


class Listing(NamedTuple):
    """The last listing of an account and region: when it began, how many seconds and pages it took.

    ``complete``: EC2 answered every request. ``zones`` are the availability zones of its instances, learned at
    ``zones_at``; none after a failure.
    """

    at: float
    seconds: float
    pages: int
    complete: bool
    zones: tuple[str, ...]
    zones_at: float


class StatusListings(Protocol):
    """Listed statuses, and how the listings went. Lost ones are requested again."""

    def put(self, at: float, statuses: Sequence[InstanceStatus]) -> None:
        """Store the statuses of those instances that are monitored, until they are removed."""

    def get(self, worker_ids: Sequence[str]) -> dict[str, ListedStatus]:
        """Return what is stored of these workers, however old, without unreadable ones."""

    def note(self, scope: str, listing: Listing) -> None:
        """Store how the last listing of an account and region (``AccountRegion.key``) went, for an hour."""

    def last(self, scope: str) -> Listing | None:
        """Return how the last listing went, if that is known."""
