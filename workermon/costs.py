"""Pure: from what was asked of AWS to dollars, and what a budget gives up first.

The prices are those of the AWS pricing page of CloudWatch for us-east-1, section "APIs": GetMetricData $0.01 for 1,000
metrics requested, never in the free tier, up to five statistics of one metric billed as one; ListMetrics,
GetMetricStatistics and the like $0.01 for 1,000 requests beyond the first million of a month and account. EC2's
Describe calls are free. A wider time window costs nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from workermon import models

#: Dollars.
PER_METRIC = 0.01 / 1000
PER_REQUEST = 0.01 / 1000

#: Requests a day that the free million of a month comes to, for each account.
FREE_REQUESTS = 1_000_000 / 30

#: Operations of CloudWatch that are billed by the request.
REQUESTS = frozenset({"ListMetrics", "GetMetricStatistics"})

#: What is known of AWS' own limits for each account and region. The Describe calls of EC2 refill 20 a second into a
#: bucket of 100; CloudWatch names rates only, so its buckets hold a second.
LIMITS: dict[str, models.Limit] = {
    "Describe": models.Limit(bucket=100, rate=20),
    "ListMetrics": models.Limit(bucket=25, rate=25),
    "GetMetricData": models.Limit(bucket=50, rate=50),
}

#: By how much a period may be stretched, in order.
FACTORS = (2, 4, 8, 15)

#: What is given up first comes first; metrics of a user's own stand where ``None`` is. Status checks are free.
ORDER: tuple[str | None, ...] = (
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

#: Of the budget. Periods get shorter again only where that stays below this, lest they go to and fro.
RELAXED = 0.9

#: Seconds. The shortest time from which a rate is told, and the one that it looks back.
SHORTEST, LOOK_BACK = 300, 3600

HOUR = 3600

#: Of a month, as it is priced.
DAYS = 30


class Usage(NamedTuple):
    """Requests, metrics asked and dollars of a day."""

    calls: float
    metrics: float
    dollars: float


class Spending(NamedTuple):
    """Where a day (UTC) stands: dollars ``spent``, seconds ``left``, and what is being spent.

    ``full`` are metrics asked a second where no period is stretched, by name; ``others`` dollars a second of what no
    period changes; ``factors`` those in force.
    """

    spent: float
    left: float
    full: Mapping[str, float]
    others: float
    period_multipliers: Mapping[str, int]


def month(workers: Iterable[tuple[models.Worker, Mapping[str, int]]], configuration: models.Configuration) -> float:
    """Return the dollars that 30 days of GetMetricData cost for a fleet that runs all the time.

    Beside each worker stands how many series each of its metrics has, 1 where it is not known yet. Each metric is
    asked for once a period, or once an interval where that is longer; no more than the budget is spent.
    """
    asked = 0.0
    for worker, series in workers:
        if worker.monitoring == "paused":
            continue
        for name in configuration.collect:
            if (entry := configuration.metrics.get(name)) is not None:
                period = entry.period_for(detailed=worker.detailed)
                asked += max(1, series.get(name, 1)) / max(period, worker.interval)
    spent = dollars(asked * DAYS * models.DAY, ())
    return spent if configuration.budget is None else min(spent, configuration.budget * DAYS)


def months(
    before: models.Configuration,
    after: models.Configuration,
    fleet: Mapping[str, tuple[models.Worker, Mapping[str, int]]],
    changed: Iterable[models.Worker],
    removed: Iterable[str],
) -> tuple[float, float]:
    """Return the dollars of CloudWatch's 30 days before and after a change of the set-up; see ``month``.

    ``fleet`` is by worker id, each worker with the number of series of its metrics. ``changed`` are the workers as they
    are added or updated, ``removed`` ids.
    """
    then = dict(fleet)
    for worker in changed:
        then[worker.id] = (worker, fleet[worker.id][1] if worker.id in fleet else {})
    for worker_id in removed:
        then.pop(worker_id, None)
    return month(fleet.values(), before), month(then.values(), after)


def limit_of(api: str, configuration: models.Configuration) -> models.Limit:
    """Return how fast an operation may be asked: as configured, else as AWS says; what is unknown as a Describe.

    >>> bare = models.Configuration(rules=(), channels={}, metrics={}, collect=())
    >>> limit_of("DescribeInstanceStatus", bare).rate
    20.0
    """
    family = "Describe" if api not in LIMITS else api
    return configuration.limits.get(family) or LIMITS[family]


def dollars(metrics: float, requests: Iterable[float], days: float = 1.0) -> float:
    """Price metrics asked by GetMetricData, and requests of each account, over some days.

    >>> round(dollars(100 * 5 * 1440, ()), 2)  # 100 instances, 5 metrics, each minute of a day
    7.2
    >>> dollars(0, [30_000]), round(dollars(0, [133_333.34]), 2)
    (0.0, 1.0)
    """
    beyond = sum(max(0.0, each - FREE_REQUESTS * days) for each in requests)
    return metrics * PER_METRIC + beyond * PER_REQUEST


def day(hours: Sequence[models.Hour], now: float) -> Usage:
    """Return what the last 24 hours brought; an hour that is only in part within them counts in part."""
    return _usage(hours, now - models.DAY, now)[0]


def pace(hours: Sequence[models.Hour], now: float) -> Usage:
    """Return what a day would bring at the rate of the last hour."""
    usage, seconds = _usage(hours, now - LOOK_BACK, now)
    times = models.DAY / seconds
    requests = _requests(hours, now - LOOK_BACK, now)
    metrics = usage.metrics * times
    return Usage(usage.calls * times, metrics, dollars(metrics, [each * times for each in requests.values()]))


def of_scope(hour: models.Hour, scope: str) -> models.Hour:
    """Return what of an hour is of one account and region, by its key."""

    def own(counts: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
        return {key: number for key, number in counts.items() if key[0] == scope}

    return hour.model_copy(update={"calls": own(hour.calls), "metrics": own(hour.metrics), "full": own(hour.full)})


def metrics_of_day(hours: Sequence[models.Hour], now: float) -> dict[str, int]:
    """Return the metrics asked in the last 24 hours by ``namespace/name``."""
    found: dict[str, float] = {}
    for hour, share in _shares(hours, now - models.DAY, now):
        for (_, metric), number in hour.metrics.items():
            found[metric] = found.get(metric, 0.0) + number * share
    return {metric: round(found[metric]) for metric in sorted(found)}


def spending(
    configuration: models.Configuration, hours: Sequence[models.Hour], now: float, period_multipliers: Mapping[str, int]
) -> Spending:
    """Return where the day stands, from the hours of it and the one before."""
    midnight = now // models.DAY * models.DAY
    today, _ = _usage(hours, midnight, now)
    _, seconds = _usage(hours, now - LOOK_BACK, now)
    names = _names(configuration)
    full: dict[str, float] = {}
    others = 0.0
    for hour, share in _shares(hours, now - LOOK_BACK, now):
        for (_, metric), number in (hour.full or hour.metrics).items():
            if name := names.get(metric):
                full[name] = full.get(name, 0.0) + number * share / seconds
            else:
                others += number * share / seconds * PER_METRIC
    return Spending(today.dollars, midnight + models.DAY - now, full, others, dict(period_multipliers))


def projected(state: Spending, period_multipliers: Mapping[str, int]) -> float:
    """Return the dollars of the whole day, where these factors hold for the rest of it."""
    rate = (
        sum(number / period_multipliers.get(name, 1) for name, number in state.full.items()) * PER_METRIC + state.others
    )
    return state.spent + rate * state.left


def budget_decision(configuration: models.Configuration, state: Spending) -> dict[str, int]:
    """Return by metric how many times its period it is asked at, so that the day stays within the budget.

    The least important metric goes through all its factors before the next one is touched. Metrics at their own
    period are left out; where even the last step is too dear, that is the answer all the same.
    """
    budget = configuration.budget
    if budget is None:
        return {}
    ladder = list(_ladder(configuration))
    present = next((place for place, step in enumerate(ladder) if step == dict(state.period_multipliers)), 0)
    for place, step in enumerate(ladder):
        allowed = budget if place >= present else budget * RELAXED
        if projected(state, step) <= allowed:
            return step
    return ladder[-1]


def weights(configuration: models.Configuration, period_multipliers: Mapping[str, int]) -> dict[str, int]:
    """Return factors by CloudWatch's ``namespace/name``."""
    return {
        metric: period_multipliers[name] for metric, name in _names(configuration).items() if name in period_multipliers
    }


def order(configuration: models.Configuration) -> list[str]:
    """Return the metrics asked for, what is given up first at the front."""
    own = [name for name in configuration.collect if name not in ORDER]
    ranked: list[str] = []
    for name in ORDER:
        if name is None:
            ranked += own
        elif name in configuration.collect:
            ranked.append(name)
    return ranked


def _ladder(configuration: models.Configuration) -> Iterable[dict[str, int]]:
    step: dict[str, int] = {}
    yield step
    for name in order(configuration):
        for factor in FACTORS:
            step = {**step, name: factor}
            yield step


def _names(configuration: models.Configuration) -> dict[str, str]:
    """Return our name of each metric of CloudWatch; of several that share one, that which is given up last."""
    catalogue = configuration.metrics
    return {
        f"{catalogue[name].namespace}/{catalogue[name].metric_name}": name
        for name in order(configuration)
        if name in catalogue
    }


def _shares(hours: Sequence[models.Hour], since: float, until: float) -> Iterable[tuple[models.Hour, float]]:
    """Yield each hour with the part of it that lies within a span."""
    for hour in hours:
        begun, ended = max(hour.start, hour.begun), min(hour.start + HOUR, until)
        within = min(ended, until) - max(begun, since)
        if ended <= since or begun > until:
            continue
        yield hour, min(1.0, within / (ended - begun)) if ended > begun else 1.0


def _usage(hours: Sequence[models.Hour], since: float, until: float) -> tuple[Usage, float]:
    """Return what a span brought, and for how many seconds of it anything was counted."""
    calls = metrics = 0.0
    begun = until
    for hour, share in _shares(hours, since, until):
        calls += share * sum(hour.calls.values())
        metrics += share * sum(hour.metrics.values())
        begun = min(begun, max(hour.begun, hour.start, since))
    days = (until - since) / models.DAY
    used = dollars(metrics, _requests(hours, since, until).values(), days)
    return Usage(calls, metrics, used), max(until - begun, SHORTEST)


def _requests(hours: Sequence[models.Hour], since: float, until: float) -> dict[str, float]:
    """Return the requests that are billed as such, by account."""
    found: dict[str, float] = {}
    for hour, share in _shares(hours, since, until):
        for (scope, operation), number in hour.calls.items():
            if operation in REQUESTS:
                account = scope.rpartition("/")[0]
                found[account] = found.get(account, 0.0) + number * share
    return found
