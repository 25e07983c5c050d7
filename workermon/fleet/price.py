"""The monthly cost of a change of the set-up. Asks CloudWatch for the number of series."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

from workermon import costs, errors, models, ports, rules
from workermon.config import catalogue
from workermon.rules import cadence

#: Dimension sets of each metric (by ``Metric.key``) of a worker.
_DimensionSets = Mapping[str, Sequence[models.Dimensions]]


class MonthlyPrice(models.Frozen):
    """Dollars that 30 days of GetMetricData cost, before and after the change."""

    before: float
    after: float


class PriceByCadence(models.Frozen):
    """Dollars that 30 days of GetMetricData cost after the change, by each ``cadence`` of ``[collect]``."""

    fixed: float
    adaptive: float


@dataclasses.dataclass(frozen=True, slots=True)
class Price:
    """The price of a change; ``series`` is by metric how many are requested afterwards.

    ``failed`` has by account and region why the series could not be counted there; each metric then counts as one.
    ``crowded`` has by worker and metric the number of series, if that is more than are requested.
    """

    dollars: MonthlyPrice
    by_cadence: PriceByCadence
    series: dict[str, int]
    failed: dict[str, errors.AwsError]
    crowded: dict[str, dict[str, int]]


class Change(Protocol):
    """Something with a price: a plan."""

    @property
    def before(self) -> models.Configuration:
        """Return the configuration before."""

    @property
    def after(self) -> models.Configuration:
        """Return the configuration after."""

    @property
    def fleet(self) -> Sequence[ports.Record]:
        """Return the fleet before."""

    def fleet_after(self) -> list[models.Worker]:
        """Return the workers that will be monitored."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two configurations over the same fleet."""

    before: models.Configuration
    after: models.Configuration
    fleet: Sequence[ports.Record]

    def fleet_after(self) -> list[models.Worker]:
        """Return the workers that are monitored, without terminated ones."""
        return [record.worker for record in self.fleet if record.condition.status not in models.GONE]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """Prices a change of the set-up."""

    cloudwatch: ports.CloudWatch
    kinds: rules.Kinds

    def price(self, change: Change, *, ask: bool) -> Price:
        """Return what a change costs. Without ``ask``, each metric that was not looked up counts as one series.

        So does a metric that nobody publishes yet, because an agent may start to.
        """
        before, after, fleet_after = change.before, change.after, change.fleet_after()
        records = {record.worker.id: record for record in change.fleet}
        dimensions: dict[str, dict[str, Sequence[models.Dimensions]]] = {
            worker_id: dict(record.dimensions) for worker_id, record in records.items()
        }
        failed = self._look_up(_agent_metrics(before, after), fleet_after, dimensions) if ask else {}

        def priced(worker: models.Worker, configuration: models.Configuration) -> costs.PricedWorker:
            record = records.get(worker.id)
            condition = None if record is None else record.condition
            learned = {} if condition is None else condition.learned_periods
            series, apart = _series(configuration, dimensions.get(worker.id, {})), dict[str, float]()
            if configuration.cadence == "adaptive":
                apart = self._periods_apart(worker, condition, configuration)
            return costs.PricedWorker(worker, series, learned, apart)

        present = [record.worker for record in change.fleet if record.condition.status not in models.GONE]
        was = [priced(worker, before) for worker in present]
        by_cadence = {
            setting: [priced(worker, after.model_copy(update={"cadence": setting})) for worker in fleet_after]
            for setting in ("fixed", "adaptive")
        }
        dollars = {setting: round(costs.monthly_dollars(fleet, after), 2) for setting, fleet in by_cadence.items()}
        will_be = by_cadence[after.cadence]
        return Price(
            dollars=MonthlyPrice(
                before=round(costs.monthly_dollars(was, before), 2),
                after=dollars[after.cadence],
            ),
            by_cadence=PriceByCadence(**dollars),
            series={name: sum(bill.series.get(name, 0) for bill in will_be) for name in after.collect},
            failed=failed,
            crowded={
                worker.name: crowded
                for worker in fleet_after
                if (crowded := catalogue.crowded(after, dimensions.get(worker.id, {})))
            },
        )

    def _periods_apart(
        self, worker: models.Worker, condition: models.Condition | None, configuration: models.Configuration
    ) -> dict[str, float]:
        return {
            name: cadence.expected(name, condition, cadence.rules_over(name, worker, configuration, self.kinds))
            for name in configuration.collect
        }

    def _look_up(
        self,
        metrics: Sequence[models.Metric],
        workers: Sequence[models.Worker],
        dimensions: dict[str, dict[str, Sequence[models.Dimensions]]],
    ) -> dict[str, errors.AwsError]:
        """Add the dimensions of metrics that were not looked up for a worker yet; return where that failed."""
        failed: dict[str, errors.AwsError] = {}
        by_scope: dict[models.AccountRegion, list[str]] = {}
        for worker in workers:
            by_scope.setdefault(worker.scope, []).append(worker.id)
        for scope, worker_ids in by_scope.items():
            for metric in metrics:
                unknown = [missing_id for missing_id in worker_ids if metric.key not in dimensions.get(missing_id, {})]
                if not unknown or scope.key in failed:
                    continue
                try:
                    sets_by_worker = self.cloudwatch.dimensions(scope, metric.namespace, metric.metric_name, unknown)
                except errors.AwsError as error:
                    failed[scope.key] = error
                    continue
                for worker_id in unknown:
                    dimensions.setdefault(worker_id, {})[metric.key] = sets_by_worker.get(worker_id, [])
        return failed


def _agent_metrics(*configurations: models.Configuration) -> list[models.Metric]:
    """Return each collected metric that may have several series a worker."""
    collected = (
        configuration.metrics[name]
        for configuration in configurations
        for name in configuration.collect
        if name in configuration.metrics
    )
    return list({metric.key: metric for metric in collected if metric.namespace != catalogue.EC2}.values())


def _series(configuration: models.Configuration, dimensions: _DimensionSets) -> dict[str, int]:
    """Return how many series of each metric are requested for a worker."""
    return {
        name: max(1, catalogue.series_count(metric, dimensions.get(metric.key)) or 0)
        for name in configuration.collect
        if (metric := configuration.metrics.get(name)) is not None
    }
