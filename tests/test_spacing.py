"""A metric that is published less often than its period: the real period is learned, and its rules fire."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from workermon import cli, evaluate, fleet, health, models, settings, testing, views
from workermon.cli.session import Session
from workermon.rules import learned_period

ID = "i-0abc0123456789def"
REGION = models.AccountRegion(region="us-east-1")
#: On a whole hour.
T0 = 1_700_002_800
MEMORY = "memory_utilization"
RULE = """
[[rules]]
name = "memory-high"
metric = "memory_utilization"
above = { critical = 90 }
breach = "3 of 3"
"""


def monitored(config: str = RULE, interval: int = 60) -> testing.Monitor:
    """Return a monitor of one instance with one rule."""
    monitor = testing.Monitor(now=float(T0))
    monitor.ec2.put(models.Instance(id=ID, region="us-east-1", status="running", name="render-07"))
    monitor.get(fleet.Application).apply(monitor.parser.parse(config, "f.toml"), fleet.ApplyOptions(region="us-east-1"))
    monitor.get(fleet.Adding).add([ID], fleet.AddOptions(scope=REGION, interval=interval))
    return monitor


def published(monitor: testing.Monitor, times: Iterable[int], value: float = 96.0) -> None:
    """Have the agent publish datapoints, each half a minute after its minute."""
    monitor.cloudwatch.put(ID, "mem_used_percent", [(at, value) for at in times], namespace="CWAgent")


def lived(monitor: testing.Monitor, minutes: int, published_at: Iterable[int] = (), value: float = 96.0) -> list[str]:
    """Advance minutes, with the agent's datapoints as they appear. Return the transitions so far, oldest first."""
    waiting = sorted(published_at)
    for _ in range(minutes):
        monitor.clock.advance(60)
        arrived = [at for at in waiting if at + 90 <= monitor.clock()]
        published(monitor, arrived, value)
        monitor.collect()
        monitor.get(evaluate.Evaluation).evaluate([ID])
    history = monitor.alerts.history(f"{ID}/memory-high", 100)
    return [entry.transition.after or "resolved" for entry in reversed(history)]


def period_of(monitor: testing.Monitor) -> int:
    """Return the length of a slot of the metric."""
    condition = monitor.workers.get([ID])[ID].condition
    return condition.learned_periods.get(MEMORY, condition.periods[MEMORY])


@pytest.mark.parametrize("phase", [0, 180, 240])
def test_a_metric_of_five_minutes_under_a_period_of_one_fires(phase: int) -> None:
    """An agent that publishes each 300 s fires "3 of 3" within the hour, once, and resolves in its time."""
    monitor = monitored()
    times = range(T0 + phase, T0 + 3600, 300)
    assert lived(monitor, 60, times) == ["critical"]
    assert period_of(monitor) == 300
    assert lived(monitor, 30, range(times[-1] + 300, T0 + 5400, 300), value=10.0) == ["critical", "resolved"]


def test_a_worker_with_a_past_fires_at_once() -> None:
    """The hour before a worker was added teaches its period with the first collection."""
    monitor = monitored()
    published(monitor, range(T0 - 3600, T0, 300))
    assert lived(monitor, 1) == ["critical"]


@pytest.mark.parametrize("missing", ["breach", "ok", "keep"])
def test_no_slot_between_two_datapoints_counts_as_absent(missing: str) -> None:
    """With datapoints every 300 s a healthy worker has no absent slot and does not alert."""
    monitor = monitored(RULE + f'missing = "{missing}"\n')
    published(monitor, range(T0 - 3600 + 240, T0, 300), 10.0)
    assert lived(monitor, 60, range(T0 + 240, T0 + 3600, 300), value=10.0) == []
    assert lived(monitor, 30, range(T0 + 3840, T0 + 5400, 300)) == ["critical"]


def test_a_denser_series_is_learned_at_once() -> None:
    """Two datapoints a minute apart restore slots of a minute, and the alert continues."""
    monitor = monitored()
    published(monitor, range(T0 - 3600, T0, 300))
    assert lived(monitor, 5, range(T0, T0 + 300, 300)) == ["critical"]
    assert period_of(monitor) == 300
    assert lived(monitor, 6, range(T0 + 300, T0 + 420, 60)) == ["critical"]
    assert period_of(monitor) == 60
    assert lived(monitor, 8, range(T0 + 420, T0 + 1140, 60), value=10.0) == ["critical", "resolved"]


@pytest.mark.parametrize("gap", [120, 300, 900, 3600])
def test_a_temporary_gap_teaches_nothing(gap: int) -> None:
    """A gap in a series that comes each minute, however long, leaves its slots a minute long."""
    monitor = monitored()
    times = [*range(T0 - 3600, T0 + 300, 60), *range(T0 + 300 + gap, T0 + 300 + gap + 600, 60)]
    for _ in range((gap + 1200) // 60):
        lived(monitor, 1, times, value=10.0)
        assert period_of(monitor) == 60


def taught(times: Iterable[int], period: int = 60) -> int:
    """Return the learned period after datapoints that arrive one by one."""
    spaces: tuple[int, ...] = ()
    learned = period
    for at in times:
        spaces = learned_period.newest(spaces, [at], period)
        learned = learned_period.learned(spaces, period, learned)
    return learned


@pytest.mark.parametrize(
    ("gaps", "learned"),
    [
        ([300, 300], 60),
        ([300, 300, 300], 300),
        ([300, 240, 360, 300], 300),
        ([300, 300, 900], 60),
        ([900, 120, 400, 2000], 60),
        ([120, 120, 120], 120),
        ([3600, 3600, 3600], 3600),
        ([7200, 7200, 7200], 60),
        ([300, 300, 300, 60], 60),
        ([300, 300, 300, 600, 600], 300),
        ([300, 300, 300, 600, 600, 600], 600),
        ([600, 600, 600, 300], 300),
        ([300, 300, 300, 240, 360, 240], 300),
    ],
)
def test_three_gaps_alike_teach_and_one_short_gap_unteaches(gaps: list[int], learned: int) -> None:
    """A longer period, up to an hour, takes three equal gaps. A shorter one takes a single gap."""
    times = [T0]
    for gap in gaps:
        times.append(times[-1] + gap)
    assert taught(times) == learned


def test_the_slots_are_evaluated_alike_when_replayed() -> None:
    """The learned period is stored with the worker, so one evaluation equals many."""
    step_by_step, at_once = monitored(), monitored()
    lived(step_by_step, 60, range(T0, T0 + 3600, 300))
    for _ in range(60):
        at_once.clock.advance(60)
        published(at_once, [at for at in range(T0, T0 + 3600, 300) if at + 90 <= at_once.clock()])
        at_once.collect()
    at_once.get(evaluate.Evaluation).evaluate([ID])
    transitions = [monitor.alerts.history(f"{ID}/memory-high", 10)[0].transition for monitor in (step_by_step, at_once)]
    assert [transition.after for transition in transitions] == ["critical", "critical"]


@pytest.mark.parametrize("missing", ["keep", "ok"])
def test_a_rule_that_cannot_fire_says_so(missing: str, tmp_path: Path) -> None:
    """A period of two hours is not learned. why, doctor and rules check say that the rule cannot fire."""
    config = RULE + f'missing = "{missing}"\n'
    monitor = monitored(config, interval=600)
    for at in range(T0, T0 + 4 * 7200, 7200):
        published(monitor, [at])
        monitor.clock.now = at + 600.0
        monitor.collect()
        monitor.evaluate()
    record = monitor.workers.get([ID])[ID]
    [rule] = monitor.get(views.Explanation).explain(record, MEMORY).rules
    assert rule.cannot_fire is not None
    assert rule.cannot_fire in rule.now
    assert "memory_utilization is published each 2 h at best" in rule.cannot_fire
    checks = monitor.get(health.Doctor).examine("us-east-1").checks
    [rule_check] = [check for check in checks if check.name == "rule memory-high"]
    assert not rule_check.ok
    assert "cannot fire for render-07: memory_utilization is published each 2 h" in rule_check.reason
    file = tmp_path / "f.toml"
    file.write_text(config)
    cli_session = Session(settings.Settings(_env_file=None), cast(Any, Overridden(monitor)))
    result = CliRunner().invoke(cli.cli, ["rules", "check", str(file)], obj=cli_session)
    assert result.exit_code == 0
    assert "rule memory-high: cannot fire for render-07: memory_utilization is published each 2 h" in result.stderr


@pytest.mark.parametrize("changed", ['breach = "1 of 1"', 'missing = "breach"'])
def test_a_rule_that_can_fire_is_not_named(changed: str) -> None:
    """A rule that one datapoint or absent slots can fire is not reported."""
    monitor = monitored(RULE.replace('breach = "3 of 3"', changed), interval=600)
    for at in range(T0, T0 + 4 * 7200, 7200):
        published(monitor, [at])
        monitor.clock.now = at + 600.0
        monitor.collect()
    assert views.unfirable_rules(monitor.configurations.load(), monitor.workers.every()) == []


class Overridden:
    """The container of a command over a monitor in memory."""

    def __init__(self, monitor: testing.Monitor) -> None:
        self.monitor = monitor

    def get(self, kind: type[Any]) -> Any:
        """Return a stage or a port."""
        return self.monitor.get(kind)
