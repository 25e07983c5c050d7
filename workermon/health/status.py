"""The state of the monitor: every part of it, the fleet, and the cost of AWS."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from workermon import costs, models, ports
from workermon.config import catalogue
from workermon.health import fleet_statistics
from workermon.health.parts import AccountStatus, CanaryStatus, Part, PartsCheck


class Use(models.Frozen):
    """Requests to AWS, requested metrics, and dollars, of a day."""

    calls: int
    metrics: int
    dollars: float


class ScopeUse(Use):
    """The same of one account and region; ``by_metric`` are the requested metrics, by ``namespace/name``."""

    account: str
    region: str
    by_metric: dict[str, int]


class Bill(models.Frozen):
    """The requests to AWS and their cost: in the last 24 hours, and in a day at the rate of the last hour.

    ``budget`` is in dollars a day (UTC), ``projected`` the dollars of this day; ``stretched`` is by metric the factor
    by which its period is lengthened to stay within the budget. ``estimated``: requests have not been counted for long
    enough, so the rate's metrics and dollars are estimated from the set-up.
    """

    last_24h: Use
    rate: Use
    estimated: bool
    scopes: tuple[ScopeUse, ...]
    budget: float | None
    projected: float | None
    stretched: dict[str, int]


class CrowdedWorker(models.Frozen):
    """A worker with ``series`` series of a metric (as far as they are stored), of which ``asked`` are requested."""

    worker: str
    metric: str
    series: int
    asked: int


class Status(models.Frozen):
    """All parts, and figures: ``workers`` by monitoring and status, ``troubled`` by the kind of their last error.

    ``queues`` is how many messages wait in each, and as ``unacked`` how many the nodes hold.
    """

    ok: bool
    parts: tuple[Part, ...]
    workers: dict[str, int]
    troubled: dict[str, int]
    nodes: tuple[str, ...]
    backlog: int
    queues: dict[str, int]
    pending: int
    lateness: float
    quarantined: dict[str, str]
    unreadable: dict[str, str]
    alerts: int
    counts: dict[str, int]
    scopes: tuple[AccountStatus, ...] = ()
    bill: Bill
    crowded: tuple[CrowdedWorker, ...] = ()
    canary: CanaryStatus


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StatusCheck:
    """Reads the state of every part, and the figures of the fleet."""

    parts_check: PartsCheck
    workers: ports.Workers
    alerts: ports.Alerts
    nodes: ports.Nodes
    costs: ports.Costs
    configurations: ports.Configurations
    now: ports.Clock

    def status(self, patience: float = 1.0) -> Status:
        """Check every part. An empty fleet is ok. ``patience``: seconds that nodes may take to answer.

        Raises ``errors.RedisUnavailable`` if Redis itself does not answer: then nothing else can be known.
        """
        at, configuration = self.now(), self.configurations.load()
        fleet, hours = fleet_statistics.FleetStatistics(at), self.costs.hours(at - models.DAY)
        for worker in self.workers.summaries():
            fleet.add(worker)
        suspects = self.workers.get(self.workers.with_series(catalogue.MAX_SERIES + 1)).values()
        pipeline = self.parts_check.check(fleet, self.nodes.ping(patience), patience)
        return Status(
            ok=all(part.ok for part in pipeline.parts),
            parts=pipeline.parts,
            workers=fleet.figures,
            troubled=dict(sorted(fleet.errors.items())),
            nodes=pipeline.nodes,
            backlog=pipeline.backlog,
            queues=pipeline.queues,
            pending=pipeline.pending,
            lateness=fleet.lateness,
            quarantined=pipeline.quarantined,
            unreadable=pipeline.unreadable,
            alerts=len(self.alerts.open()),
            counts=pipeline.counts,
            scopes=pipeline.scopes,
            bill=self._bill(hours, at),
            crowded=tuple(crowded for record in suspects for crowded in _crowded(record, configuration)),
            canary=pipeline.canary,
        )

    def _bill(self, hours: Sequence[models.Hour], at: float) -> Bill:
        configuration, decision = self.configurations.load(), self.costs.budget_decision()
        estimated = bool(hours) and not costs.is_measured(hours, at)
        expected = None
        if estimated:
            running = (record for record in self.workers.every() if record.condition.status == "running")
            priced = (_priced(record, configuration) for record in running)
            expected = costs.metrics_a_day(priced, configuration, decision.period_multipliers)
        today = configuration.budget is not None and decision.budget == configuration.budget
        return Bill(
            last_24h=_use(costs.used_last_day(hours, at)),
            rate=_use(costs.daily_rate(hours, at, expected)),
            estimated=estimated,
            scopes=_scope_uses(hours, at),
            budget=configuration.budget,
            projected=decision.projected if today else None,
            stretched=dict(decision.period_multipliers) if today else {},
        )


def _crowded(record: ports.Record, configuration: models.Configuration) -> Iterator[CrowdedWorker]:
    for metric, number in catalogue.crowded(configuration, record.dimensions).items():
        yield CrowdedWorker(worker=record.worker.name, metric=metric, series=number, asked=catalogue.MAX_SERIES)


def _priced(record: ports.Record, configuration: models.Configuration) -> costs.PricedWorker:
    """Return a worker with its requested series, as far as they were looked up."""
    counts = {
        name: catalogue.series_count(metric, record.dimensions.get(metric.key))
        for name in configuration.collect
        if (metric := configuration.metrics.get(name)) is not None
    }
    series = {name: count for name, count in counts.items() if count is not None}
    condition = record.condition
    apart = {name: float(cadence.periods) for name, cadence in condition.cadence.items() if cadence.reason != "budget"}
    return costs.PricedWorker(record.worker, series, condition.learned_periods, apart)


def _scope_uses(hours: Sequence[models.Hour], at: float) -> tuple[ScopeUse, ...]:
    uses = []
    for key in sorted({scope for hour in hours for scope, _ in (*hour.calls, *hour.metrics)}):
        account, region = models.account_and_region(key)
        of_account = [costs.of_account_region(hour, key) for hour in hours]
        uses.append(
            ScopeUse(
                **_use(costs.used_last_day(of_account, at)).model_dump(),
                account=account,
                region=region,
                by_metric=costs.metrics_last_day(of_account, at),
            )
        )
    return tuple(uses)


def _use(usage: costs.Usage) -> Use:
    return Use(calls=round(usage.calls), metrics=round(usage.metrics), dollars=round(usage.dollars, 4))
