"""A clock that was wrong for a moment: what it wrote is pulled back, and nothing goes unseen afterwards."""

from __future__ import annotations

import pytest

from workermon import collect, config, evaluate, fleet, models, notify, rules, testing
from workermon.pipeline import sweep

ID = "i-0abc0123456789def"
HERE = models.AccountRegion(region="us-east-1")
FAILING = models.Checks(system="impaired", instance="ok")
#: Two minutes to three days, in both directions.
JUMPS = (120, 1800, 7200, 3 * models.DAY, -120, -1800, -7200, -3 * models.DAY)


@pytest.fixture
def monitor() -> testing.Monitor:
    """Give a monitor of one instance that was well for a quarter of an hour."""
    made = testing.Monitor(now=1_700_000_040.0)
    made.ec2.put(models.Instance(id=ID, region="us-east-1", status="running", name="render-07", detailed=True))
    made.get(fleet.Members).add([ID], fleet.AddOptions(scope=HERE, interval=60))
    minutes(made, *[40.0] * 15)
    return made


def run(monitor: testing.Monitor) -> None:
    """Collect, evaluate and deliver."""
    monitor.get(collect.Collection).collect([ID])
    monitor.get(notify.Delivery).deliver(monitor.get(evaluate.Evaluation).evaluate([ID]))


def minutes(monitor: testing.Monitor, *cpu: float) -> None:
    """Let that many minutes pass with these loads; each is collected, evaluated and delivered as it comes."""
    for value in cpu:
        at = int(monitor.clock()) // 60 * 60
        monitor.cloudwatch.put(ID, "CPUUtilization", [(at, value)])
        monitor.clock.advance(60)
        run(monitor)


def jump(monitor: testing.Monitor, seconds: int) -> None:
    """Have the clock wrong by that much for 40 s, while three rounds run, then right."""
    monitor.clock.advance(seconds)
    for _ in range(3):
        run(monitor)
        monitor.clock.advance(40 / 3)
    monitor.clock.advance(-seconds)


def told(monitor: testing.Monitor) -> list[tuple[str, str]]:
    """Return rule and status of each notification."""
    return [(one.rule, one.status) for one in monitor.received]


@pytest.mark.parametrize("seconds", JUMPS)
def test_trouble_after_a_wrong_clock_pages(monitor: testing.Monitor, seconds: int) -> None:
    """A failing check and a high load page within some minutes after the clock is right again, and once."""
    jump(monitor, seconds)
    monitor.received.clear()
    monitor.ec2.put(
        models.Instance(id=ID, region="us-east-1", status="running", name="render-07", detailed=True), FAILING
    )
    minutes(monitor, *[97.5] * 6)
    assert sorted(told(monitor)) == [("cpu-high", "firing"), ("status-check-failed", "firing")]
    critical = next(one for one in monitor.received if one.rule == "cpu-high")
    assert models.moment(critical.at) <= monitor.clock()


@pytest.mark.parametrize("seconds", JUMPS)
def test_trouble_that_lasts_over_a_wrong_clock_stays(monitor: testing.Monitor, seconds: int) -> None:
    """What fired before goes on to fire, says nothing new, and resolves when it is over."""
    minutes(monitor, *[97.5] * 6)
    assert told(monitor) == [("cpu-high", "firing")]
    jump(monitor, seconds)
    minutes(monitor, *[97.5] * 3)
    assert [one for one in told(monitor) if one[0] == "cpu-high"] == [("cpu-high", "firing")]
    minutes(monitor, *[40.0] * 5)
    assert [one for one in told(monitor) if one[0] == "cpu-high"] == [("cpu-high", "firing"), ("cpu-high", "resolved")]
    assert monitor.alerts.open() == []


@pytest.mark.parametrize("seconds", JUMPS)
def test_nothing_stored_leads_the_present_afterwards(monitor: testing.Monitor, seconds: int) -> None:
    """After one round with the right clock no time of worker, alert or mark leads by more than the bound."""
    jump(monitor, seconds)
    minutes(monitor, 40.0)
    record, latest = monitor.workers.get([ID])[ID], monitor.clock() + models.MAX_LEAD
    condition = record.condition
    times = [condition.collected_at, condition.succeeded_at, condition.running_since, *condition.asked.values()]
    times += [record.worker.added_at, record.dimensions_at]
    for alert in monitor.alerts.load([ID])[ID].alerts.values():
        state = alert.rule_state
        times += [state.cursor, state.start, alert.since, *(change.at for change in state.trail)]
    assert max(at for at in times if at is not None) <= latest


@pytest.mark.parametrize("seconds", [1800, 7200, models.DAY])
def test_the_sweep_finds_what_was_marked_by_a_clock_ahead(monitor: testing.Monitor, seconds: int) -> None:
    """A mark or a notification that was written ahead of time waits for nobody."""
    monitor.samples.mark_pending([ID], monitor.clock() + seconds)
    assert monitor.samples.pending(monitor.clock() - 3, 10) == [ID]
    finder = sweep.Sweep(
        samples=monitor.samples,
        outbox=monitor.outbox,
        workers=monitor.workers,
        dispatcher=monitor.dispatcher,
        now=monitor.clock,
    )
    finder.sweep(0.0, {ID: 0.0})
    assert monitor.dispatcher.evaluated == [ID]


def test_silence_of_a_worker_is_seen_after_a_wrong_clock(monitor: testing.Monitor) -> None:
    """If no collection succeeds after the clock was ahead, ``no-data`` fires as always."""
    monitor.pulse.mark("listener", monitor.clock())
    jump(monitor, 7200)
    monitor.pulse.mark("listener", monitor.clock())
    monitor.received.clear()
    for _ in range(60):
        monitor.pulse.mark("listener", monitor.clock())
        monitor.clock.advance(5)
        monitor.get(notify.Delivery).deliver(monitor.get(evaluate.Evaluation).evaluate([ID]))
    assert ("no-data", "firing") in told(monitor)


def test_a_state_without_a_time_ahead_is_the_same_object() -> None:
    """Nothing is made anew where nothing leads."""
    rule = config.DEFAULT.rules[0]
    state = models.RuleState(cursor=600, trail=(models.SeverityChange(540, "critical", 2),), period=60, metric="x")
    kind = rules.KINDS[rule.kind]
    assert kind.as_of(state, 600) is state
    assert kind.as_of(state, 600 - models.MAX_LEAD) is state
    assert kind.as_of(state, 400).cursor == 360
