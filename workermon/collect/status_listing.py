"""Lists the statuses of a region in pages of a thousand instances, a few seconds before its workers are collected.

A collection uses a listed status unless it is old or differs from what is known; then it asks EC2 for that worker
(``statuses``). So a listing that is late, incomplete or lost costs requests and the time that they take.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from concurrent import futures

from workermon import errors, logs, models, ports

log = logs.get(__name__)

#: Seconds. A message may be delivered twice, and two groups of a region may plan listings at the same time.
MIN_APART = 5.0
#: Seconds for which a region is not listed again if the listing process dies. Longer than a listing takes.
LEASE = 120.0
#: Pages follow one another. From so many pages on, each availability zone is listed by itself, at the same time.
SPLIT_FROM, MAX_AT_ONCE = 5, 6
#: Seconds after which no further page is requested: EC2's pages may have no end. With the last page's timeouts that is
#: less than the task's soft time limit (100 s).
MAX_SECONDS = 45.0
#: Seconds after which the region is listed as a whole again, because it may have a new zone.
ZONES_KEPT = 3600.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """The listing of a region, or of one of its zones."""

    pages: int
    zones: frozenset[str]
    error: errors.WorkermonError | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StatusListing:
    """The stage that lists the statuses of an account and region."""

    ec2: ports.Ec2
    workers: ports.Workers
    listings: ports.StatusListings
    leases: ports.Leases
    now: ports.Clock

    def list_region(self, worker_ids: Sequence[str]) -> None:
        """List the account and region of the first of these workers that is monitored, unless that is done already.

        If AWS does not answer, that is logged. Raises only ``errors.RedisUnavailable``.
        """
        records = self.workers.get(worker_ids)
        scope = next((records[worker_id].worker.scope for worker_id in worker_ids if worker_id in records), None)
        if scope is None:
            return
        lease, owner = f"listing-statuses:{scope.key}", uuid.uuid4().hex
        if not self.leases.hold(lease, owner, LEASE):
            return
        try:
            self._list(scope)
        finally:
            self.leases.release(lease, owner)

    def _list(self, scope: models.AccountRegion) -> None:
        began, last = self.now(), self.listings.last(scope.key)
        if last is not None and 0 <= began - last.at < MIN_APART:
            return
        zones = zones_to_list(last, began)
        parts = self._in_parts(scope, zones, began)
        complete = all(part.error is None for part in parts)
        listing = ports.Listing(
            at=began,
            seconds=max(0.0, self.now() - began),
            pages=sum(part.pages for part in parts),
            complete=complete,
            zones=zones or (tuple(sorted(zone for part in parts for zone in part.zones)) if complete else ()),
            zones_at=last.zones_at if last is not None and zones else began,
        )
        self.listings.note(scope.key, listing)
        if error := next((part.error for part in parts if part.error is not None), None):
            log.warning("listing.failed", scope=scope.key, reason=str(error))

    def _in_parts(self, scope: models.AccountRegion, zones: Sequence[str], began: float) -> list[_Part]:
        """List the zones at the same time, or without zones the whole region."""
        if not zones:
            return [self._part(scope, None, began)]
        with futures.ThreadPoolExecutor(min(len(zones), MAX_AT_ONCE), "listing") as threads:
            return list(threads.map(lambda zone: self._part(scope, zone, began), zones))

    def _part(self, scope: models.AccountRegion, zone: str | None, began: float) -> _Part:
        pages, zones = 0, set[str]()
        requested_at = self.now()
        try:
            for statuses in self.ec2.list_statuses(scope, zone):
                self.listings.put(requested_at, statuses)
                pages += 1
                zones.update(status.zone for status in statuses if status.zone)
                requested_at = self.now()
                if requested_at - began >= MAX_SECONDS:
                    log.warning("listing.too_long", scope=scope.key, zone=zone, pages=pages)
                    break
        except errors.RedisUnavailable:
            raise
        except errors.WorkermonError as error:
            return _Part(pages, frozenset(zones), error)
        return _Part(pages, frozenset(zones))


def zones_to_list(last: ports.Listing | None, at: float) -> tuple[str, ...]:
    """Return the zones to list each by itself; none if the whole region is to be listed."""
    if last is None or not 0 <= at - last.zones_at < ZONES_KEPT or last.pages < SPLIT_FROM:
        return ()
    # Each zone takes a page, however few its instances are. A region may have twenty small ones.
    if not 2 <= len(last.zones) <= last.pages:
        return ()
    return last.zones
