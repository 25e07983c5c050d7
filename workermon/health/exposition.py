"""All that ``/metrics`` shows, read in one pass over the fleet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from workermon import costs, models, ports
from workermon.health import status

#: Takes each worker as it is read, so that a large fleet is never in memory as a whole.
Visit = Callable[[ports.Glance, models.Configuration], None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is known beside the workers themselves.

    ``alerts`` are those that fire. ``pending`` is by channel how many notifications wait. ``collection_ages`` is by
    account and region how many seconds ago the worker that waits longest was collected. ``dollars`` is by account and
    region the price of all metrics asked for; requests that are billed beyond a free million a month are left out.
    """

    alerts: tuple[models.Alert, ...]
    status: status.Status
    totals: models.UsageTotals
    dollars: dict[tuple[str, str], float]
    pending: dict[str, int]
    collection_ages: dict[tuple[str, str], float]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Exposition:
    """Reads fleet, alerts, counts and signs of life."""

    workers: ports.Workers
    alerts: ports.Alerts
    outbox: ports.Outbox
    costs: ports.Costs
    configurations: ports.Configurations
    check: status.StatusCheck
    now: ports.Clock

    def read(self, visit: Visit, patience: float = 1.0) -> Figures:
        """Hand each worker to ``visit`` and return the rest; ``patience``: seconds that nodes may take to answer."""
        configuration = self.configurations.load()
        fleet: list[status.WorkerSigns] = []
        # Nodes are given their whole time to answer, in which the fleet can be read.
        with ThreadPoolExecutor(1, thread_name_prefix="ping") as aside:
            answering = aside.submit(self.check.nodes.ping, patience)
            for worker in self.workers.glances():
                visit(worker, configuration)
                fleet.append(status.WorkerSigns.of(worker))
        totals = self.costs.totals()
        return Figures(
            alerts=tuple(self.alerts.open()),
            status=self.check.status_of(fleet, patience, answering.result()),
            totals=totals,
            dollars=_dollars(totals),
            pending=self.outbox.pending(),
            collection_ages=_collection_ages(fleet, self.now()),
        )


def _dollars(totals: models.UsageTotals) -> dict[tuple[str, str], float]:
    spent: dict[tuple[str, str], float] = {}
    for (scope, _), number in totals.metrics.items():
        where = models.account_and_region(scope)
        spent[where] = spent.get(where, 0.0) + costs.dollars(number, ())
    return spent


def _collection_ages(fleet: Iterable[status.WorkerSigns], at: float) -> dict[tuple[str, str], float]:
    oldest: dict[tuple[str, str], float] = {}
    for worker in fleet:
        if worker.is_watched:
            where = models.account_and_region(worker.scope)
            since = worker.added_at if worker.collected_at is None else worker.collected_at
            oldest[where] = min(oldest.get(where, since), since)
    return {where: max(0.0, round(at - since, 3)) for where, since in oldest.items()}
