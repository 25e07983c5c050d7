"""Pure: the cost of workermon's requests to AWS, and what it requests less often to stay within a budget.

The prices are those of the AWS pricing page of CloudWatch for us-east-1, section "APIs": GetMetricData $0.01 for 1,000
metrics requested, never in the free tier, up to five statistics of one metric billed as one; ListMetrics,
GetMetricStatistics and the like $0.01 for 1,000 requests beyond the first million of a month and account. EC2's
Describe calls are free. A wider time window costs nothing more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from workermon import models

#: Dollars.
PER_METRIC = 0.01 / 1000
PER_REQUEST = 0.01 / 1000

#: Requests a day of each account that are free: a million a month.
FREE_REQUESTS = 1_000_000 / 30

#: Operations of CloudWatch that are billed by the request.
REQUESTS = frozenset({"ListMetrics", "GetMetricStatistics"})

#: AWS' own limits for each account and region. EC2's Describe calls have a bucket of 100 that refills by 20 a second.
# CloudWatch documents only rates, so each of its buckets holds one second.
LIMITS: dict[str, models.Limit] = {
    "Describe": models.Limit(bucket=100, rate=20),
    "ListMetrics": models.Limit(bucket=25, rate=25),
    "GetMetricData": models.Limit(bucket=50, rate=50),
}

#: By how much a period may be multiplied, in order.
MULTIPLIERS = (2, 4, 8, 15)

#: From the least important metric to the most important one; ``None`` is a user's own metrics. Status checks are free.
IMPORTANCE: tuple[str | None, ...] = (
    "network_out",
    "network_in",
    "disk_write_bytes",
    "disk_read_bytes",
    "cpu_credit_balance",
    "disk_utilization",
    None,
    "memory_utilization",
    "cpu_utilization",
)

#: Share of the budget. Periods become shorter again only if the day stays below it, so that they do not oscillate.
RELAX_BELOW = 0.9

#: Seconds. A rate is that of the last hour, or of the counted part of it, but at least of five minutes.
LOOK_BACK, MIN_LOOK_BACK = 3600, 300

#: Seconds. Before that the first run and the wait for the second one dominate the rate.
MEASURED_AFTER = 600

HOUR = 3600

#: Days in a month, for prices.
MONTH_DAYS = 30


class Usage(NamedTuple):
    """The figures of a day: ``calls`` are requests, ``metrics`` the requested metrics."""

    calls: float
    metrics: float
    dollars: float


class Spending(NamedTuple):
    """The cost of a day (UTC) so far, and its present rate.

    ``spent`` is in dollars, ``seconds_left`` is that of the day. ``full`` are metrics requested a second, by name, with
    all multipliers at 1; ``other_dollars`` are dollars a second that no multiplier changes. ``period_multipliers`` are
    those in force.
    """

    spent: float
    seconds_left: float
    full: Mapping[str, float]
    other_dollars: float
    period_multipliers: Mapping[str, int]


@dataclasses.dataclass(frozen=True, slots=True)
class PricedWorker:
    """A worker with the facts that decide its price.

    By metric the number of its series (default 1), its learned period, and how many periods probably lie between two
    requests because of adaptive cadence (default 1).
    """

    worker: models.Worker
    series: Mapping[str, int] = dataclasses.field(default_factory=dict)
    learned_periods: Mapping[str, int] = dataclasses.field(default_factory=dict)
    periods_apart: Mapping[str, float] = dataclasses.field(default_factory=dict)


def metrics_a_day(
    workers: Iterable[PricedWorker],
    configuration: models.Configuration,
    period_multipliers: Mapping[str, int] | None = None,
) -> float:
    """Return how many metrics GetMetricData requests in a day for a fleet that runs all the time.

    Each series is requested once a period, or once an interval if that is longer.
    """
    multipliers = period_multipliers or {}
    per_second = 0.0
    for priced in workers:
        worker = priced.worker
        if worker.monitoring == "paused":
            continue
        for name in configuration.collect:
            if (metric := configuration.metrics.get(name)) is None:
                continue
            period = max(metric.period_for(detailed=worker.detailed), priced.learned_periods.get(name, 0))
            apart = max(multipliers.get(name, 1), priced.periods_apart.get(name, 1.0))
            per_second += priced.series.get(name, 1) / (apart * max(period, worker.interval))
    return per_second * models.DAY


def monthly_dollars(workers: Iterable[PricedWorker], configuration: models.Configuration) -> float:
    """Return the cost of GetMetricData for 30 days in dollars, never above the budget."""
    spent = dollars(metrics_a_day(workers, configuration) * MONTH_DAYS, ())
    return spent if configuration.budget is None else min(spent, configuration.budget * MONTH_DAYS)


def limit_of(api: str, configuration: models.Configuration) -> models.Limit:
    """Return the limit of an operation: as configured, else AWS' own; unknown ones have that of Describe calls.

    >>> bare = models.Configuration(rules=(), channels={}, metrics={}, collect=())
    >>> limit_of("DescribeInstanceStatus", bare).rate
    20.0
    """
    family = "Describe" if api not in LIMITS else api
    return configuration.limits.get(family) or LIMITS[family]


def dollars(metrics: float, requests: Iterable[float], days: float = 1.0) -> float:
    """Return the price of metrics requested with GetMetricData, and of the requests of each account, over some days.

    >>> round(dollars(100 * 5 * 1440, ()), 2)  # 100 instances, 5 metrics, each minute of a day
    7.2
    >>> dollars(0, [30_000]), round(dollars(0, [133_333.34]), 2)
    (0.0, 1.0)
    """
    beyond = sum(max(0.0, number - FREE_REQUESTS * days) for number in requests)
    return metrics * PER_METRIC + beyond * PER_REQUEST


def used_last_day(hours: Sequence[models.Hour], now: float) -> Usage:
    """Return the figures of the last 24 hours. The oldest hour counts by the part of it that is within them."""
    return _usage(hours, now - models.DAY, now)[0]


def daily_rate(hours: Sequence[models.Hour], now: float, expected: float | None = None) -> Usage:
    """Return the figures of a day at the rate of the last hour.

    If requests have not been counted for long, ``expected`` is used for the metrics of a day. Billed requests are left
    out then, because the first minutes look up what later ones do not.
    """
    usage, seconds = _usage(hours, now - LOOK_BACK, now)
    times = models.DAY / seconds
    if expected is not None:
        return Usage(usage.calls * times, expected, dollars(expected, ()))
    requests = _requests(hours, now - LOOK_BACK, now)
    metrics = usage.metrics * times
    return Usage(usage.calls * times, metrics, dollars(metrics, [number * times for number in requests.values()]))


def is_measured(hours: Sequence[models.Hour], now: float) -> bool:
    """Return whether requests have been counted for long enough for a meaningful rate."""
    return bool(hours) and now - min(hour.counted_since for hour in hours) >= MEASURED_AFTER


def of_account_region(hour: models.Hour, scope: str) -> models.Hour:
    """Return one account and region's part of an hour; ``scope`` is its key."""

    def of_region(counts: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
        return {key: number for key, number in counts.items() if key[0] == scope}

    return hour.model_copy(
        update={"calls": of_region(hour.calls), "metrics": of_region(hour.metrics), "full": of_region(hour.full)}
    )


def metrics_last_day(hours: Sequence[models.Hour], now: float) -> dict[str, int]:
    """Return how often each metric was requested in the last 24 hours, by ``namespace/name``."""
    numbers: dict[str, float] = {}
    for hour, share in _shares(hours, now - models.DAY, now):
        for (_, metric), number in hour.metrics.items():
            numbers[metric] = numbers.get(metric, 0.0) + number * share
    return {metric: round(numbers[metric]) for metric in sorted(numbers)}


def needed_since(at: float) -> float:
    """Return from when on the hours are needed for the state of a day at a time."""
    return min(at // models.DAY * models.DAY, at - LOOK_BACK)


def spending_today(
    configuration: models.Configuration, hours: Sequence[models.Hour], now: float, period_multipliers: Mapping[str, int]
) -> Spending:
    """Return the state of the day at ``now``; ``hours`` are those since ``needed_since(now)``."""
    midnight = now // models.DAY * models.DAY
    today, _ = _usage(hours, midnight, now)
    _, seconds = _usage(hours, now - LOOK_BACK, now)
    names = _our_names(configuration)
    full: dict[str, float] = {}
    other_dollars = 0.0
    for hour, share in _shares(hours, now - LOOK_BACK, now):
        for (_, metric), number in (hour.full or hour.metrics).items():
            if name := names.get(metric):
                full[name] = full.get(name, 0.0) + number * share / seconds
            else:
                other_dollars += number * share / seconds * PER_METRIC
    return Spending(today.dollars, midnight + models.DAY - now, full, other_dollars, dict(period_multipliers))


def projected_dollars(state: Spending, period_multipliers: Mapping[str, int]) -> float:
    """Return the cost of the whole day if these multipliers apply for the rest of it."""
    metrics = sum(number / period_multipliers.get(name, 1) for name, number in state.full.items())
    return state.spent + (metrics * PER_METRIC + state.other_dollars) * state.seconds_left


def decide_multipliers(configuration: models.Configuration, state: Spending) -> dict[str, int]:
    """Return the multiplier of each metric's period, so that the day stays within the budget.

    The least important metric goes through all multipliers before the next one gets any. Metrics at their own period
    are left out. If even the last step costs too much, it is still returned.
    """
    budget = configuration.budget
    if budget is None:
        return {}
    ladder = list(_saving_steps(configuration))
    present = next((place for place, step in enumerate(ladder) if step == dict(state.period_multipliers)), 0)
    for place, step in enumerate(ladder):
        allowed = budget if place >= present else budget * RELAX_BELOW
        if projected_dollars(state, step) <= allowed:
            return step
    return ladder[-1]


def decide(
    configuration: models.Configuration, hours: Sequence[models.Hour], at: float, before: models.BudgetDecision
) -> models.BudgetDecision:
    """Return the budget's decision at a time; ``hours`` are those since ``needed_since(at)``."""
    state = spending_today(configuration, hours, at, before.period_multipliers)
    multipliers = decide_multipliers(configuration, state)
    return models.BudgetDecision(
        at=at,
        period_multipliers=multipliers,
        weights=weights(configuration, multipliers),
        projected=round(projected_dollars(state, multipliers), 4),
        budget=configuration.budget,
        since=at if multipliers != before.period_multipliers else before.since,
    )


def weights(configuration: models.Configuration, period_multipliers: Mapping[str, int]) -> dict[str, int]:
    """Return multipliers by CloudWatch's ``namespace/name``."""
    return {
        metric: period_multipliers[name]
        for metric, name in _our_names(configuration).items()
        if name in period_multipliers
    }


def by_importance(configuration: models.Configuration) -> list[str]:
    """Return the requested metrics, the least important one first."""
    custom_metrics = [name for name in configuration.collect if name not in IMPORTANCE]
    ranked: list[str] = []
    for name in IMPORTANCE:
        if name is None:
            ranked += custom_metrics
        elif name in configuration.collect:
            ranked.append(name)
    return ranked


def _saving_steps(configuration: models.Configuration) -> Iterable[dict[str, int]]:
    step: dict[str, int] = {}
    yield step
    for name in by_importance(configuration):
        for multiplier in MULTIPLIERS:
            step = {**step, name: multiplier}
            yield step


def _our_names(configuration: models.Configuration) -> dict[str, str]:
    """Return our name for each CloudWatch metric. If several share one, the most important counts."""
    catalogue = configuration.metrics
    return {catalogue[name].key: name for name in by_importance(configuration) if name in catalogue}


def _shares(hours: Sequence[models.Hour], since: float, until: float) -> Iterable[tuple[models.Hour, float]]:
    """Yield each hour with the part of it that lies within a span."""
    for hour in hours:
        began, until_hour = max(hour.start, hour.counted_since), min(hour.start + HOUR, until)
        within = min(until_hour, until) - max(began, since)
        if until_hour <= since or began > until:
            continue
        yield hour, min(1.0, within / (until_hour - began)) if until_hour > began else 1.0


def _usage(hours: Sequence[models.Hour], since: float, until: float) -> tuple[Usage, float]:
    """Return the figures of a span, and for how many seconds of it requests were counted."""
    calls = metrics = 0.0
    began = until
    for hour, share in _shares(hours, since, until):
        calls += share * sum(hour.calls.values())
        metrics += share * sum(hour.metrics.values())
        began = min(began, max(hour.counted_since, hour.start, since))
    days = (until - since) / models.DAY
    used = dollars(metrics, _requests(hours, since, until).values(), days)
    return Usage(calls, metrics, used), max(until - began, MIN_LOOK_BACK)


def _requests(hours: Sequence[models.Hour], since: float, until: float) -> dict[str, float]:
    """Return the billed requests, by account."""
    numbers: dict[str, float] = {}
    for hour, share in _shares(hours, since, until):
        for (scope, operation), number in hour.calls.items():
            if operation in REQUESTS:
                account, _ = models.account_and_region(scope)
                numbers[account] = numbers.get(account, 0.0) + number * share
    return numbers
