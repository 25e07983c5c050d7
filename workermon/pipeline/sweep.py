"""The sweep: finds in Redis what no message announced, because messages can be lost.

It runs beside the listener and not in beat, so that it outlives beat.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from workermon import failpoints, logs, models, ports

log = logs.get(__name__)

#: Seconds between two sweeps.
INTERVAL: Final = 2.0
#: Seconds. A sample of that age that is still not evaluated was not announced, or its evaluator died.
UNANNOUNCED_AFTER: Final = 3.0
#: Seconds for which a sweep does not enqueue the same again, so that messages do not pile up if evaluators are slow.
PATIENCE: Final = 5.0
#: Identifiers found by one sweep.
MAX_FOUND: Final = 2000
#: Seconds in which the whole fleet is checked once for overdue collections.
ROUND_SECONDS: Final = 30.0
#: Minimum number of workers that each sweep checks: a fleet of some hundreds is checked each time.
MIN_SHARE: Final = 500
#: Intervals without a success after which time alone may make a worker's alerts fire.
OVERDUE: Final = 1.5


class Sweep:
    """Enqueues what is overdue.

    ``at`` is of a monotonic clock; ``received`` is when each worker's last event arrived, by the same clock.
    """

    def __init__(
        self,
        *,
        samples: ports.Samples,
        outbox: ports.Outbox,
        workers: ports.Workers,
        dispatcher: ports.Dispatcher,
        now: ports.Clock,
    ) -> None:
        self._samples, self._outbox, self._workers = samples, outbox, workers
        self._dispatcher, self._now = dispatcher, now
        self._enqueued: dict[str, float] = {}
        self._intervals: dict[str, int] = {}
        self._fleet: Iterator[str] = iter(())
        self._share = 0

    def forget(self) -> None:
        """Forget what was enqueued before this process became active."""
        self._enqueued.clear()

    def sweep(
        self, at: float, received: dict[str, float], backlog: ports.BacklogCounts, alert_ids: Sequence[str] = ()
    ) -> None:
        """Enqueue workers that nobody evaluated, that are silent or have an alert to escalate, and waiting alerts.

        Skips what is absent according to ``backlog``. ``alert_ids`` are further alerts that a delivery has to review.
        """
        now = self._now()
        self._enqueued = {identifier: when for identifier, when in self._enqueued.items() if at - when < PATIENCE}
        pending = self._not_enqueued(
            self._samples.pending(now, MAX_FOUND, UNANNOUNCED_AFTER) if backlog.pending else []
        )
        overdue = self._not_enqueued(
            [
                *(self._overdue(now, at, received) if backlog.workers else []),
                *(self._unacknowledged(now) if backlog.escalations else []),
            ]
        )
        self._dispatcher.evaluate(list(dict.fromkeys([*pending, *overdue])))
        undelivered = self._not_enqueued(
            [*(self._outbox.due(now, MAX_FOUND) if backlog.undelivered else []), *alert_ids]
        )
        if undelivered:
            failpoints.reach("listener.swept")
        self._dispatcher.deliver(undelivered)
        self._enqueued.update(dict.fromkeys([*pending, *overdue, *undelivered], at))
        if pending:
            log.debug("sweep.found", workers=len(pending))

    def _unacknowledged(self, now: float) -> list[str]:
        """Return the workers with an alert that is due to escalate."""
        subjects = (
            models.alert_parts(alert_id).subject_id for alert_id in self._outbox.due_escalations(now, MAX_FOUND)
        )
        return list(dict.fromkeys(subjects))

    def _not_enqueued(self, identifiers: Sequence[str]) -> list[str]:
        return [identifier for identifier in identifiers if identifier not in self._enqueued]

    def _overdue(self, now: float, at: float, received: dict[str, float]) -> list[str]:
        """Check a share of the fleet; return the workers that time alone brings closer to ``no-data``."""
        records = [record.clamped(now) for record in self._share_of_fleet(at, received)]
        self._intervals.update((record.worker.id, record.worker.interval) for record in records)
        return [
            record.worker.id
            for record in records
            if record.worker.monitoring == "active"
            and now - max(record.condition.succeeded_at or 0.0, record.worker.added_at)
            > OVERDUE * record.worker.interval
        ]

    def _share_of_fleet(self, at: float, received: dict[str, float]) -> Sequence[ports.Record]:
        worker_ids = list(itertools.islice(self._fleet, self._share))
        if len(worker_ids) < self._share or not self._share:
            self._start_round(received)
        # A worker whose event has just arrived was enqueued for it. Only the others are read, so a healthy fleet costs
        # almost nothing.
        return list(
            self._workers.get(
                [worker_id for worker_id in worker_ids if self._is_silent(worker_id, at, received)]
            ).values()
        )

    def _start_round(self, received: dict[str, float]) -> None:
        fleet = self._workers.ids()
        self._fleet = iter(fleet)
        self._share = max(MIN_SHARE, int(len(fleet) * INTERVAL / ROUND_SECONDS) + 1)
        for times in (received, self._intervals):
            for worker_id in times.keys() - set(fleet):
                del times[worker_id]

    def _is_silent(self, worker_id: str, at: float, received: Mapping[str, float]) -> bool:
        patience = OVERDUE * self._intervals.get(worker_id, 0)
        return at - received.get(worker_id, -math.inf) > patience
