"""The contents of ``/metrics``, read in one pass over the fleet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from workermon import costs, models, ports
from workermon.health import fleet_statistics, parts

#: Called with each worker as it is read, so that a large fleet is never in memory as a whole.
Visit = Callable[[ports.WorkerSummary], None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures beside the workers themselves.

    ``alerts`` are the firing ones, ``pipeline`` is the state of the parts. ``pending`` is by channel how many
    notifications wait. ``collection_ages`` is by account and region how many seconds ago the worker that waits longest
    was collected. ``dollars`` is by account and region the price of all requested metrics, without requests that are
    billed beyond a free million a month.
    """

    alerts: tuple[models.Alert, ...]
    pipeline: parts.Pipeline
    totals: models.UsageTotals
    dollars: dict[tuple[str, str], float]
    pending: dict[str, int]
    collection_ages: dict[tuple[str, str], float]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Exposition:
    """Reads fleet, alerts, counters and signs of life."""

    workers: ports.Workers
    alerts: ports.Alerts
    outbox: ports.Outbox
    costs: ports.Costs
    configurations: ports.Configurations
    parts_check: parts.PartsCheck
    nodes: ports.Nodes
    now: ports.Clock

    def read(self, visit: Visit, patience: float = 1.0) -> Figures:
        """Pass each worker to ``visit`` and return the rest; ``patience``: seconds that nodes may take to answer."""
        fleet = fleet_statistics.FleetStatistics(self.now())
        # Nodes always have this whole time to answer, so the fleet can be read meanwhile.
        with ThreadPoolExecutor(1, thread_name_prefix="ping") as aside:
            answering = aside.submit(self.nodes.ping, patience)
            for worker in self.workers.summaries():
                visit(worker)
                fleet.add(worker)
        totals = self.costs.totals()
        return Figures(
            alerts=tuple(self.alerts.open()),
            pipeline=self.parts_check.check(fleet, answering.result(), patience),
            totals=totals,
            dollars=_dollars(totals),
            pending=self.outbox.pending(),
            collection_ages=fleet.ages,
        )


def _dollars(totals: models.UsageTotals) -> dict[tuple[str, str], float]:
    spent: dict[tuple[str, str], float] = {}
    for (scope, _), number in totals.metrics.items():
        account_region = models.account_and_region(scope)
        spent[account_region] = spent.get(account_region, 0.0) + costs.dollars(number, ())
    return spent
