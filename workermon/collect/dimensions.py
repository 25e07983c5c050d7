"""The dimensions under which each worker's metrics are published, from CloudWatch's ListMetrics.

EC2's own metrics have the instance's id alone. Metrics of an agent have to be looked up. Once an hour one batch lists a
metric of the whole region, for all batches. Workers that join later, lack the metric or lose it are looked up one
by one if they are few. If they are many, as when a fleet's agents get a new configuration, the region is listed again.
The dimensions are stored with the worker, the listings with their account and region.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from workermon import errors, logs, models, ports
from workermon.collect.region_listing import DIMENSIONS_KEPT, LISTING_LEASE, Listing, listing_key
from workermon.config import catalogue
from workermon.rules import horizon

log = logs.get(__name__)

#: Seconds for which a metric counts as absent. A newly installed agent shows up in ListMetrics within 15 minutes.
ABSENCE_KEPT = 300

#: Workers. A batch up to this size is looked up worker by worker; for a larger one the whole region is listed. The
#: region is also listed if more than this recently joined or lost the metric.
SMALL_BATCH = 5
#: New workers that a larger batch looks up one by one as long as its region need not be listed.
MAX_NEW_LOOKUPS = 20
#: Workers that have lacked a metric for long and are looked up every ``ABSENCE_KEPT`` seconds, over all batches of a
#: region.
MAX_LOOKUPS = 2

#: Seconds for which workers without a metric count as having recently joined or lost it. ListMetrics takes up to 15
#: minutes to show a new series, and a machine some minutes to start its agent.
RECENT = 1200

#: Records in one read from the repository.
CHUNK = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """The search results of each worker, by id.

    ``sets`` has the dimension sets by a metric's key. An empty entry means that nothing is published; a metric that was
    not looked up yet has no entry. ``failures`` has, by the metric's name, why it could not be looked up, if earlier
    results are of no use.
    """

    sets: dict[str, dict[str, list[models.Dimensions]]]
    failures: dict[str, dict[str, errors.AwsError]]


@dataclasses.dataclass(slots=True, kw_only=True)
class Search:
    """One search for the dimensions of workers of one account and region, at a time; made for one ``find``.

    ``learned`` is what is known of this account and region. The search adds to ``updates``, and the caller saves it.
    """

    scope: models.AccountRegion
    at: float
    cloudwatch: ports.CloudWatch
    workers: ports.Workers
    learned_delays: ports.LearnedDelays
    leases: ports.Leases
    learned: Mapping[str, Any]
    updates: dict[str, Any]
    _records: Sequence[ports.Record] = ()
    _by_id: dict[str, ports.Record] = dataclasses.field(default_factory=dict)
    #: Metrics of agents by key: the workers to search each for, and its other names, if any.
    _agents: dict[str, models.Metric] = dataclasses.field(default_factory=dict)
    _searched: dict[str, list[ports.Record]] = dataclasses.field(default_factory=dict)
    _names: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    #: The listing of each metric, and by worker the dimension sets found so far.
    _listings: dict[str, Listing] = dataclasses.field(default_factory=dict)
    _sets: dict[str, dict[str, list[models.Dimensions]]] = dataclasses.field(default_factory=dict)
    #: By key: the workers that may be looked up, according to present knowledge.
    _candidates_by_key: dict[str, _Candidates] = dataclasses.field(default_factory=dict)

    def find(self, records: Sequence[ports.Record], metrics: Sequence[models.Metric]) -> Published:
        """Return the dimensions of these workers' metrics. Raises only ``errors.RedisUnavailable``."""
        by_key = {variant.key: variant for metric in metrics for variant in metric.variants}
        for metric in metrics:
            names = tuple(variant.key for variant in metric.variants)
            self._names |= dict.fromkeys(names, names)
        self._records = records
        self._by_id = {record.worker.id: record for record in records}
        self._agents = {key: metric for key, metric in by_key.items() if metric.namespace != catalogue.EC2}
        own_keys = [key for key in by_key if key not in self._agents]
        for record in records:
            own_sets: list[models.Dimensions] = [(("InstanceId", record.worker.id),)]
            sets = self._sets[record.worker.id] = dict.fromkeys(own_keys, own_sets)
            sets.update([(key, record.dimensions[key]) for key in self._agents if key in record.dimensions])
        failures: dict[str, dict[str, errors.AwsError]] = {}
        if self._agents:
            self._listings = {key: Listing.of(self.learned.get(listing_key(key))) for key in self._agents}
            self._searched = {
                key: [record for record in records if self._must_search(record, key)] for key in self._agents
            }
            self._list_region()
            looked_up = self._look_up()
            for key, metric in self._agents.items():
                for record in self._searched[key]:
                    error = self._settle(record, key, looked_up)
                    if error is not None and not self._is_published(record, key):
                        failures.setdefault(record.worker.id, {})[metric.name] = error
            self._look_for_foreign()
        return Published(self._sets, failures)

    def _look_for_foreign(self) -> None:
        """Once an hour, if a worker never had a metric, check whether it is published without an instance."""
        for key, metric in self._agents.items():
            stored = models.ForeignSeries.from_learned(self.learned, key)
            if 0 <= self.at - stored.at < DIMENSIONS_KEPT or not any(
                self._sets[record.worker.id].get(key) == [] and metric.name not in record.condition.latest
                for record in self._searched[key]
            ):
                continue
            if not self.leases.hold(f"foreign:{self.scope.key}:{key}", uuid.uuid4().hex, LISTING_LEASE):
                continue
            try:
                sets = self.cloudwatch.foreign_dimensions(self.scope, metric.namespace, metric.metric_name)
            except errors.WorkermonError as error:
                log.warning("collect.dimensions_failed", scope=self.scope.key, metric=key, reason=str(error))
                sets = []
            series_found = models.ForeignSeries.among(sets, self.at)
            self.updates[models.foreign_key(key)] = series_found.model_dump(mode="json")

    def _must_search(self, record: ports.Record, key: str) -> bool:
        """Return whether to search a worker's metric under a name: another name only if the first one is absent."""
        sets, first = self._sets[record.worker.id], self._names[key][0]
        if key == first or sets.get(key):
            return True
        return not sets.get(first) and (first in sets or self._listings[first].covers(record.worker))

    def _is_published(self, record: ports.Record, key: str) -> bool:
        """Return whether a worker's metric is published under any of its names."""
        sets = self._sets[record.worker.id]
        return bool(sets.get(key)) or any(sets.get(name) for name in self._names[key])

    def _settle(
        self, record: ports.Record, key: str, looked_up: Mapping[tuple[str, str], errors.AwsError | None]
    ) -> errors.AwsError | None:
        """If no dimensions are known, there are three cases: there are none, AWS refused, or nobody looked them up yet.

        Return why AWS refused.
        """
        sets = self._sets[record.worker.id]
        if sets.get(key):
            return None
        listing = self._listings[key]
        is_settled = key in sets and record.dimensions_at > listing.refused_at
        error = looked_up.get((record.worker.id, key), None if is_settled else listing.error_at(self.at))
        if error is None and listing.covers(record.worker):
            sets.setdefault(key, [])
        return error

    def _list_region(self) -> None:
        """List the metrics of the whole region, if that is due and no other process does it. All batches profit."""
        owner = uuid.uuid4().hex
        by_worker: dict[str, dict[str, list[models.Dimensions]]] = {}
        for key, metric in self._agents.items():
            listing = self._listings[key]
            if len(self._searched[key]) <= SMALL_BATCH or listing.was_refused(self.at) or not self._is_due(key):
                continue
            name = f"listing:{self.scope.key}:{self.scope.role_arn or ''}:{key}"
            if not self.leases.hold(name, owner, LISTING_LEASE):
                continue
            try:
                sets_by_worker = self.cloudwatch.dimensions(self.scope, metric.namespace, metric.metric_name, None)
            except errors.WorkermonError as error:
                refusal = errors.of_aws(error)
                log.warning("collect.dimensions_failed", scope=self.scope.key, metric=key, reason=str(refusal))
                self._listings[key] = listing._replace(refused_at=self.at, failure=refusal)
            else:
                self._listings[key] = Listing(at=self.at, spent_at=self.at)
                for worker_id, sets in sets_by_worker.items():
                    by_worker.setdefault(worker_id, {})[key] = catalogue.stored(metric, sets)
        self._spread(by_worker)
        fresh = {
            listing_key(key): listing.to_json() for key, listing in self._listings.items() if listing.is_from(self.at)
        }
        if fresh:
            self._candidates_by_key.clear()
        # The lease is not released: a process that began before this was saved must not list everything again.
        self.learned_delays.save(self.scope, fresh)

    def _is_due(self, key: str) -> bool:
        """Return whether to list the region: once an hour, or if many joined or lost the metric at once."""
        listing = self._listings[key]
        if not listing.is_fresh(self.at):
            return True
        candidates = self._candidates(key)
        return len(candidates.new) + len(candidates.recent) > SMALL_BATCH and listing.may_be_repeated(self.at)

    def _spread(self, sets_by_worker: Mapping[str, dict[str, list[models.Dimensions]]]) -> None:
        """Store the listing with every worker that it contains, also with those of other batches."""
        records = {record.worker.id: record for record in self._records}
        unknown_ids = [worker_id for worker_id in sets_by_worker if worker_id not in records]
        for start in range(0, len(unknown_ids), CHUNK):
            records |= self.workers.get(unknown_ids[start : start + CHUNK])
        for worker_id, sets in sets_by_worker.items():
            record = records.get(worker_id)
            if record is None or record.worker.scope != self.scope:
                continue
            if worker_id in self._sets:
                self._sets[worker_id].update(sets)
            if any(record.dimensions.get(key) != of_key for key, of_key in sets.items()):
                self.workers.found_dimensions(record.worker, sets, self.at)

    def _look_up(self) -> dict[tuple[str, str], errors.AwsError | None]:
        """Ask ListMetrics for single workers: new ones, and those that lack a metric.

        Return for each of them, by id and key, why there was no answer; ``None`` if there was one.
        """
        looked_up: dict[tuple[str, str], errors.AwsError | None] = {}
        fresh: dict[str, dict[str, list[models.Dimensions]]] = {}
        for key, worker_ids in self._to_look_up().items():
            metric = self._agents[key]
            before = next((error for error in looked_up.values() if error is not None), None)
            try:
                if before is not None and before.retryable:
                    raise before  # AWS would make this one wait, or throttle it, too
                sets_by_worker = self.cloudwatch.dimensions(
                    self.scope, metric.namespace, metric.metric_name, worker_ids
                )
            except errors.WorkermonError as error:
                looked_up |= dict.fromkeys(((worker_id, key) for worker_id in worker_ids), errors.of_aws(error))
                log.warning("collect.dimensions_failed", scope=self.scope.key, metric=key, reason=str(error))
                continue
            for worker_id in worker_ids:
                looked_up[worker_id, key] = None
                # ListMetrics drops a silent metric after three hours. It may be published again as before.
                known_sets = self._sets[worker_id].get(key, [])
                fresh.setdefault(worker_id, {})[key] = catalogue.stored(
                    metric, sets_by_worker.get(worker_id) or known_sets
                )
        for record in self._records:
            fresh_sets = fresh.get(record.worker.id)
            if fresh_sets is None:
                continue
            self._sets[record.worker.id].update(fresh_sets)
            # Looking for another name alone must not delay the next search for the first.
            at = self.at if any(key == self._names[key][0] for key in fresh_sets) else record.dimensions_at
            self.workers.found_dimensions(record.worker, fresh_sets, at)
        return looked_up

    def _to_look_up(self) -> dict[str, list[str]]:
        """Return the ids of the workers to look up, by the metric's key."""
        missing = {
            key: self._chosen(key)
            for key, listing in self._listings.items()
            if not listing.was_refused(self.at) and (len(self._searched[key]) <= SMALL_BATCH or listing.at)
        }
        return {key: worker_ids for key, worker_ids in missing.items() if worker_ids}

    def _chosen(self, key: str) -> list[str]:
        listing, candidates = self._listings[key], self._candidates(key)
        due = [worker_id for worker_id in candidates.recent if self._may_be_asked(worker_id)]
        lacking = [worker_id for worker_id in candidates.lacking if self._may_be_asked(worker_id)]
        if len(self._records) <= SMALL_BATCH:
            return [*candidates.new, *due, *lacking, *candidates.old]
        chosen = candidates.new[:MAX_NEW_LOOKUPS]
        if len(candidates.recent) <= SMALL_BATCH:
            chosen += due
        if lacking and not 0 <= self.at - listing.spent_at < ABSENCE_KEPT:
            chosen += lacking[:MAX_LOOKUPS]
            self._listings[key] = listing._replace(spent_at=self.at)
            self.updates[listing_key(key)] = self._listings[key].to_json()
        return chosen

    def _may_be_asked(self, worker_id: str) -> bool:
        return not 0 <= self.at - self._by_id[worker_id].dimensions_at < ABSENCE_KEPT

    def _candidates(self, key: str) -> _Candidates:
        candidates = self._candidates_by_key.get(key)
        if candidates is None:
            candidates = self._candidates_by_key[key] = self._find_candidates(key)
        return candidates

    def _find_candidates(self, key: str) -> _Candidates:
        listing, metric = self._listings[key], self._agents[key].name
        candidates = _Candidates([], [], [], [])
        for record in sorted(self._searched[key], key=lambda record: record.dimensions_at):
            worker_id, own_sets = record.worker.id, self._sets[record.worker.id]
            lacking_since = _lacking_since(record, metric, has_dimensions=self._is_published(record, key))
            if key not in own_sets and not listing.covers(record.worker):
                candidates.new.append(worker_id)
            elif lacking_since is not None:
                (candidates.recent if self.at - lacking_since < RECENT else candidates.lacking).append(worker_id)
            elif not 0 <= self.at - record.dimensions_at < DIMENSIONS_KEPT and not listing.is_fresh(self.at):
                candidates.old.append(worker_id)
        return candidates


class _Candidates(NamedTuple):
    """The ids of workers to look up. Within each group those looked up longest ago are first.

    ``new``: not looked up yet. ``recent``: joined or lost the metric recently. ``lacking``: long ago. ``old``: their
    dimensions have to be confirmed.
    """

    new: list[str]
    recent: list[str]
    lacking: list[str]
    old: list[str]


def _lacking_since(record: ports.Record, metric: str, *, has_dimensions: bool) -> float | None:
    """Return since when a worker lacks a metric, if it does: it lost it, or never published it while it ran."""
    condition = record.condition
    latest, requested_at = condition.latest.get(metric), condition.requested_at.get(metric)
    if latest is None or requested_at is None:
        # A worker that was never seen stopped may have run long before its first collection.
        started_at = condition.running_since or 0.0 if condition.changes else 0.0
        return None if has_dimensions else max(record.worker.added_at, started_at)
    absent_from = horizon.absent_from(metric, condition)
    if absent_from is not None and requested_at > absent_from:
        return absent_from
    return None if has_dimensions else requested_at
