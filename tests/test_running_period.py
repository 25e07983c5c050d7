"""CloudWatch also returns the running period. An incomplete period never counts as a complete one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from workermon import evaluate, fleet, models, ports, testing

ID = "i-0abc0123456789def"
REGION = models.AccountRegion(region="us-east-1")
#: The begin of a period of five minutes.
T0 = 1_700_000_100


class Summing(testing.MemoryCloudWatch):
    """CloudWatch over samples: ``value`` is the amount of each second, and it sums those so far."""

    def __init__(self, clock: testing.ManualClock, value: Callable[[int], float], step: int) -> None:
        super().__init__()
        self.clock, self.value, self.step = clock, value, step

    def fetch(self, scope: models.AccountRegion, queries: Sequence[models.Query], until: float) -> ports.Answer:
        """Return the sum of each period as far as it has passed, with the running one."""
        return ports.Answer({place: self._sums(query, until) for place, query in enumerate(queries)}, {})

    def dimensions(
        self, scope: models.AccountRegion, namespace: str, metric_name: str, instance_ids: Sequence[str] | None
    ) -> dict[str, list[tuple[tuple[str, str], ...]]]:
        """Return EC2's own dimensions."""
        return {ID: [(("InstanceId", ID),)]}

    def _sums(self, query: models.Query, until: float) -> models.Series:
        end, points = min(until, self.clock()), []
        for begin in range(query.since // query.period * query.period, int(end), query.period):
            samples = range(begin, min(begin + query.period, int(end)), self.step)
            if samples:
                points.append(models.Datapoint(begin, sum(map(self.value, samples))))
        return models.Series(query.period, tuple(points))


def monitored(config: str, value: Callable[[int], float], step: int, interval: int) -> testing.Monitor:
    """Return a monitor of one instance with detailed monitoring."""
    monitor = testing.Monitor(now=float(T0))
    monitor.ec2.put(models.Instance(id=ID, region="us-east-1", status="running", name="render-07", detailed=True))
    monitor.cloudwatch = Summing(monitor.clock, value, step)
    application = monitor.get(fleet.Application)
    application.apply(monitor.parser.parse(config, "f.toml"), fleet.ApplyOptions(region="us-east-1"))
    monitor.get(fleet.Adding).add([ID], fleet.AddOptions(scope=REGION, interval=interval))
    return monitor


def watched(monitor: testing.Monitor, interval: int, seconds: int) -> list[str]:
    """Collect and evaluate at each interval. Return the recorded transitions, oldest first."""
    for _ in range(seconds // interval):
        monitor.clock.advance(interval)
        monitor.collect()
        monitor.get(evaluate.Evaluation).evaluate([ID])
    history = monitor.alerts.history(f"{ID}/net", 100)
    return [entry.transition.after or "resolved" for entry in reversed(history)]


SUM = """
[[metrics]]
name = "network_in"
namespace = "AWS/EC2"
metric_name = "NetworkIn"
statistic = "Sum"
unit = "bytes"
period = "{period}"
[[rules]]
name = "net"
metric = "network_in"
{rule}
notify = ["log"]
[channels.log]
type = "log"
[collect]
metrics = ["network_in"]
"""


@pytest.mark.parametrize("offset", [0, 7, 59])
def test_a_part_of_a_sum_is_not_the_sum(offset: int) -> None:
    """Five million bytes in five minutes are never below three million, however early in the period it is collected."""
    rule = "below = { critical = 3000000 }\nbreach = '1 of 1'\nrecover = '1 of 1'"
    monitor = monitored(SUM.format(period="300s", rule=rule), lambda _: 1_000_000 / 60, 1, 60)
    monitor.clock.advance(offset)
    assert watched(monitor, 60, 3600) == []


def test_an_alert_stays_though_the_running_period_is_small() -> None:
    """Three minutes of 600 and one of 240 in turn: above 500 it fires once, and never resolves."""
    rule = "above = { critical = 500 }\nbreach = '3 of 3'\nrecover = '2 of 2'"

    def value(at: int) -> float:
        return 40.0 if at // 60 % 4 == 3 else 100.0

    monitor = monitored(SUM.format(period="60s", rule=rule), value, 10, 30)
    assert watched(monitor, 30, 3600) == ["critical"]


def test_the_ledger_holds_whole_periods_only() -> None:
    """Stored, shown and published values are of periods that had ended at the request."""
    rule = "above = { critical = 9e9 }"
    monitor = monitored(SUM.format(period="300s", rule=rule), lambda _: 1.0, 1, 60)
    watched(monitor, 60, 1800)
    record = monitor.workers.get([ID])[ID]
    assert record.condition.latest["network_in"].value == 300.0
    series = monitor.samples.read([(ID, "network_in", 300)], T0 - 3600, T0 + 3600)[ID, "network_in"]
    assert {point.value for point in series.points} == {300.0}
