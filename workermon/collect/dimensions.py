"""Under which dimensions each worker's metrics are published, as CloudWatch's ListMetrics says.

Metrics of EC2 itself have the instance's id alone. Those of an agent are looked for: one batch lists a metric of the
whole region, once an hour, for all of them; who joins later, lacks the metric or fell silent is looked up by itself,
few at a time. What is found is kept with the worker, what was listed with its account and region.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from workermon import errors, logs, models, ports

log = logs.get(__name__)

#: Seconds. How long a metric's dimensions are taken for granted, and how long that there are none: an agent that was
#: just installed shows up in ListMetrics within 15 minutes.
DIMENSIONS = 3600
NO_DIMENSIONS = 300

#: Workers of one batch that are looked up one by one; more of them are listed together, with all of their region.
FEW = 5
#: So many never seen before are looked up one by one in a batch while the listing of their region is not due.
NEWCOMERS = 20
#: So many that lack a metric are looked up in each ``NO_DIMENSIONS`` seconds, over all batches of a region.
LOOKUPS = 2

#: Seconds. While one lists a region's metrics no other does; how long until it is tried again where AWS refused.
LISTING = 120
REFUSED = 300

#: Records read from the repository at once.
CHUNK = 500

EC2 = "AWS/EC2"

Dimensions = tuple[tuple[str, str], ...]


class Published(NamedTuple):
    """What was found of each worker, by its id.

    ``sets`` are the dimension sets by ``key_of`` a metric; a key that nobody looked for yet is left out, and there is
    none where nothing is published. ``wrong`` says by the metric's name why it could not be looked for, where what was
    known before does not serve.
    """

    sets: dict[str, dict[str, list[Dimensions]]]
    wrong: dict[str, dict[str, errors.AwsError]]


class _Listing(NamedTuple):
    """What is known of ListMetrics of one metric over a region.

    ``at`` is when all of it was listed last, ``spent_at`` when workers that lack it were last looked up one by one;
    ``wrong`` is why it could not be listed at ``refused_at``.
    """

    at: float = 0.0
    spent_at: float = 0.0
    refused_at: float = 0.0
    wrong: errors.AwsError | None = None

    @classmethod
    def of(cls, value: Any) -> _Listing:
        try:
            at, spent_at, refused_at, wrong = value
            return cls(float(at), float(spent_at), float(refused_at), _KINDS[wrong[0]](*wrong[1:4]) if wrong else None)
        except (TypeError, ValueError, KeyError, IndexError):
            return cls()

    def kept(self) -> list[Any]:
        why = self.wrong
        return [self.at, self.spent_at, self.refused_at, [why.kind, why.what, why.why, why.todo] if why else None]

    def news(self, at: float) -> bool:
        return at in (self.at, self.refused_at)

    def refused_lately(self, at: float) -> bool:
        return self.wrong is not None and 0 <= at - self.refused_at < REFUSED

    def why(self, at: float) -> errors.AwsError | None:
        """Return why it could not be listed, also while somebody tries again."""
        return self.wrong if 0 <= at - self.refused_at < DIMENSIONS else None

    def covers(self, worker: models.Worker) -> bool:
        """Tell whether what it does not have of a worker is not there."""
        return worker.added_at < self.at


_KINDS: dict[str, type[errors.AwsError]] = {
    each.kind: each for each in (errors.AwsError, errors.AwsThrottled, errors.AwsUnreachable, errors.AwsDenied)
}


def key_of(metric: models.Metric) -> str:
    """Name what ListMetrics was asked for, in the record of what it said."""
    return f"{metric.namespace}/{metric.metric_name}"


@dataclass
class Search:
    """One look for the dimensions of workers of one account and region."""

    scope: models.AccountRegion
    at: float
    cloudwatch: ports.CloudWatch
    workers: ports.Workers
    learned_delays: ports.LearnedDelays
    leases: ports.Leases
    #: What was learnt of this account and region so far, and what this look adds to it, for its caller to save.
    known: Mapping[str, Any]
    updates: dict[str, Any]

    def find(self, records: Sequence[ports.Record], asked: Sequence[models.Metric]) -> Published:
        """Return under what these metrics of these workers are published; raises ``errors.RedisUnavailable`` only."""
        wanted = {key_of(metric): metric for metric in asked}
        agents = {key: metric for key, metric in wanted.items() if metric.namespace != EC2}
        sets: dict[str, dict[str, list[Dimensions]]] = {}
        for record in records:
            own: list[Dimensions] = [(("InstanceId", record.worker.id),)]
            sets[record.worker.id] = {
                **{key: own for key in wanted if key not in agents},
                **{key: record.dimensions[key] for key in agents if key in record.dimensions},
            }
        wrong: dict[str, dict[str, errors.AwsError]] = {}
        if not agents:
            return Published(sets, wrong)
        listings = {key: _Listing.of(self.known.get(f"listing:{key}")) for key in agents}
        if len(records) > FEW:
            self._list_all(agents, listings, records, sets)
        looked_up = self._look_up(agents, listings, records, sets)
        for record in records:
            for name, metric in agents.items():
                self._settle(record, name, metric, listings[name], looked_up, sets, wrong)
        return Published(sets, wrong)

    def _settle(
        self,
        record: ports.Record,
        key: str,
        metric: models.Metric,
        listing: _Listing,
        looked_up: Mapping[tuple[str, str], errors.AwsError | None],
        sets: Mapping[str, dict[str, list[Dimensions]]],
        wrong: dict[str, dict[str, errors.AwsError]],
    ) -> None:
        """Tell apart, where no dimensions are known, that there are none, that AWS refused, and that nobody asked."""
        mine = sets[record.worker.id]
        if mine.get(key):
            return
        known = key in mine and record.dimensions_at > listing.refused_at
        why = looked_up.get((record.worker.id, key), None if known else listing.why(self.at))
        if why is not None:
            wrong.setdefault(record.worker.id, {})[metric.name] = why
        elif listing.covers(record.worker):
            mine.setdefault(key, [])

    def _list_all(
        self,
        agents: Mapping[str, models.Metric],
        listings: dict[str, _Listing],
        records: Sequence[ports.Record],
        sets: Mapping[str, dict[str, list[Dimensions]]],
    ) -> None:
        """List the metrics of the whole region where that is due and nobody else does; all batches profit."""
        owner = uuid.uuid4().hex
        found: dict[str, dict[str, list[Dimensions]]] = {}
        for key, metric in agents.items():
            listing = listings[key]
            if 0 <= self.at - listing.at < DIMENSIONS or listing.refused_lately(self.at):
                continue
            name = f"listing:{self.scope.key}:{self.scope.role_arn or ''}:{key}"
            if not self.leases.hold(name, owner, LISTING):
                continue
            try:
                listed = self.cloudwatch.dimensions(self.scope, metric.namespace, metric.metric_name, None)
            except errors.WorkermonError as why:
                refusal = errors.of_aws(why)
                log.warning("collect.dimensions_failed", scope=self.scope.key, metric=key, reason=str(refusal))
                listings[key] = listing._replace(refused_at=self.at, wrong=refusal)
            else:
                listings[key] = _Listing(at=self.at, spent_at=self.at)
                for worker_id, each in listed.items():
                    found.setdefault(worker_id, {})[key] = each
        self._spread(found, records, sets)
        fresh = {f"listing:{key}": listings[key].kept() for key in agents if listings[key].news(self.at)}
        # The lease is left to run out: who began before this was saved must not list it all again.
        self.learned_delays.save(self.scope, fresh)

    def _spread(
        self,
        found: Mapping[str, dict[str, list[Dimensions]]],
        records: Sequence[ports.Record],
        sets: Mapping[str, dict[str, list[Dimensions]]],
    ) -> None:
        """Hand what was listed to every worker that it is of, also those of other batches."""
        own = {record.worker.id: record for record in records}
        others = [worker_id for worker_id in found if worker_id not in own]
        for start in range(0, len(others), CHUNK):
            own |= self.workers.get(others[start : start + CHUNK])
        for worker_id, each in found.items():
            record = own.get(worker_id)
            if record is None or record.worker.scope != self.scope:
                continue
            if worker_id in sets:
                sets[worker_id].update(each)
            merged = {**record.dimensions, **each}
            if merged != record.dimensions:
                self.workers.found_dimensions(record.worker, merged, self.at)

    def _look_up(
        self,
        agents: Mapping[str, models.Metric],
        listings: dict[str, _Listing],
        records: Sequence[ports.Record],
        sets: Mapping[str, dict[str, list[Dimensions]]],
    ) -> dict[tuple[str, str], errors.AwsError | None]:
        """Ask ListMetrics for single workers: new ones, those that lack a metric.

        Return for each that was asked for, by id and key, why there was no answer, ``None`` where there was one.
        """
        outcome: dict[tuple[str, str], errors.AwsError | None] = {}
        asked_for = self._to_look_up(agents, listings, records, sets)
        fresh: dict[str, dict[str, list[Dimensions]]] = {}
        for key, worker_ids in asked_for.items():
            metric = agents[key]
            before = next((why for why in outcome.values() if why is not None), None)
            try:
                if before is not None and before.retryable:
                    raise before  # it would keep us waiting, or be throttled, for this one too
                listed = self.cloudwatch.dimensions(self.scope, metric.namespace, metric.metric_name, worker_ids)
            except errors.WorkermonError as why:
                outcome |= dict.fromkeys(((worker_id, key) for worker_id in worker_ids), errors.of_aws(why))
                log.warning("collect.dimensions_failed", scope=self.scope.key, metric=key, reason=str(why))
                continue
            for worker_id in worker_ids:
                outcome[worker_id, key] = None
                # Who fell silent is no longer listed after three hours, and may speak again as before.
                fresh.setdefault(worker_id, {})[key] = listed.get(worker_id) or sets[worker_id].get(key, [])
        for record in records:
            mine = fresh.get(record.worker.id)
            if mine is None:
                continue
            sets[record.worker.id].update(mine)
            self.workers.found_dimensions(record.worker, {**record.dimensions, **mine}, self.at)
        return outcome

    def _to_look_up(
        self,
        agents: Mapping[str, models.Metric],
        listings: dict[str, _Listing],
        records: Sequence[ports.Record],
        sets: Mapping[str, dict[str, list[Dimensions]]],
    ) -> dict[str, list[str]]:
        few = len(records) <= FEW
        wanted: dict[str, list[str]] = {}
        for key in agents:
            listing = listings[key]
            if listing.refused_lately(self.at) or not (few or listing.at):
                continue
            new, lacking, old = [], [], []
            for record in records:
                worker_id, age = record.worker.id, self.at - record.dimensions_at
                if key not in sets[worker_id] and not listing.covers(record.worker):
                    new.append(worker_id)
                elif 0 <= age < NO_DIMENSIONS:
                    continue
                elif not sets[worker_id].get(key) or _is_silent(record, agents[key].name):
                    lacking.append((record.dimensions_at, worker_id))
                elif not 0 <= age < DIMENSIONS and not 0 <= self.at - listing.at < DIMENSIONS:
                    old.append(worker_id)
            if few:
                chosen = new + [worker_id for _, worker_id in lacking] + old
            else:
                chosen = new[:NEWCOMERS]
                if lacking and not 0 <= self.at - listing.spent_at < NO_DIMENSIONS:
                    chosen += [worker_id for _, worker_id in sorted(lacking)[:LOOKUPS]]
                    listings[key] = listing._replace(spent_at=self.at)
                    self.updates[f"listing:{key}"] = listings[key].kept()
            if chosen:
                wanted[key] = chosen
        return wanted


def _is_silent(record: ports.Record, metric: str) -> bool:
    condition = record.condition
    latest, asked = condition.latest.get(metric), condition.asked.get(metric)
    if latest is None or asked is None:
        return False
    return asked - latest.at > 2 * NO_DIMENSIONS + 3 * condition.periods.get(metric, 0)
