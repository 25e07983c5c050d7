"""The in-memory monitor that workermon ships for tests."""

from __future__ import annotations

import dataclasses

import pytest

from tests.support.notifications import notification
from workermon import collect, models, runtime, testing

ID = "i-0abc0123456789def"


def recipes() -> list[type]:
    """Return whatever the composition root makes of ports and of nothing else."""
    sources = {
        factory.provides.type_hint: factory.source
        for factory in (*runtime.Recipes().factories, *runtime.Stages().factories)
    }
    return [
        kind
        for kind, source in sources.items()
        if source is kind and isinstance(kind, type) and dataclasses.is_dataclass(kind)
    ]


@pytest.mark.parametrize("kind", recipes())
def test_every_stage_and_view_can_be_made_in_memory(kind: type) -> None:
    """The in-memory monitor makes every stage and view that the composition root makes."""
    assert isinstance(testing.Monitor().get(kind), kind)


def test_what_is_no_stage_is_refused() -> None:
    """Asking for another type is an error that says so."""
    with pytest.raises(LookupError, match="neither a port nor made of ports"):
        testing.Monitor().get(int)


def test_a_port_that_was_replaced_reaches_the_stage() -> None:
    """A test may replace a port at any time."""
    monitor = testing.Monitor()
    monitor.workers = testing.MemoryWorkers(testing.MemoryStore())
    assert monitor.get(collect.Collection).workers is monitor.workers


def test_the_way_from_a_worker_to_its_event_takes_no_server() -> None:
    """A worker is added and collected, and its event published, all in this process and on the test's clock."""
    monitor = testing.Monitor(now=1_700_000_040.0)
    monitor.add_worker(ID)
    monitor.cloudwatch.put(ID, "CPUUtilization", [(1_700_000_040, 97.0)])
    monitor.clock.advance(300)
    assert monitor.collect().collected == (ID,)
    [(channel, event)] = monitor.store.published
    assert channel == "workermon:metrics"
    assert models.Event.model_validate_json(event).worker_id == ID


def test_a_container_over_its_ports_runs_in_memory() -> None:
    """A container over a monitor's ports gives tasks and commands the stages over those ports."""
    monitor = testing.Monitor()
    with runtime.open(overrides=monitor.overrides()) as container:
        assert container.get(collect.Collection).workers is monitor.workers


def test_a_configuration_is_changed_in_place() -> None:
    """A test can change a part of the configuration, which then has the next revision."""
    monitor = testing.Monitor()
    monitor.configure(retention=7200)
    assert (monitor.configurations.load().retention, monitor.configurations.load().revision) == (7200, 1)


def test_a_worker_is_added_with_its_instance() -> None:
    """EC2 knows it, it is scheduled unless it is paused, and it has what the test says of it."""
    monitor = testing.Monitor()
    worker = monitor.add_worker(ID, "stopped", name="render-07", account="lab", labels={"team": "vfx"})
    assert monitor.workers.get([ID])[ID].worker == worker
    assert (worker.name, worker.labels, worker.added_at) == ("render-07", {"team": "vfx"}, monitor.clock())
    monitor.add_worker("i-0bbbbbbbbbbbbbbbb", monitoring="paused")
    assert monitor.schedule.ids() == {ID}
    assert monitor.collect().collected == (ID,)
    assert monitor.workers.get([ID])[ID].condition.status == "stopped"


def test_a_notification_is_recorded_as_an_evaluation_does() -> None:
    """Its alert fires and is delivered. The notification that it resolves ends it. The history has both."""
    monitor = testing.Monitor()
    monitor.add_worker(ID)
    for version, status in enumerate(("firing", "resolved"), start=1):
        sent = notification(version, status=status)
        monitor.record(sent, "log")
        assert [alert.last for alert in monitor.alerts.open()] == ([sent] if status == "firing" else [])
        monitor.deliver()
        assert monitor.received[-1] == sent
    recorded = [entry.notification for entry in monitor.alerts.history(f"{ID}/cpu-high")]
    assert recorded == monitor.received[::-1]


def test_time_passes_while_the_monitor_is_alive() -> None:
    """Its listener and its collection beat as they do in a pipeline that works, up to the end of that time."""
    monitor = testing.Monitor()
    begin = monitor.clock()
    monitor.beat_for(25)
    assert monitor.clock() == begin + 25
    assert {part: at for part, at in monitor.liveness.beats().items() if part in {"listener", "collect"}} == {
        "listener": begin + 25, "collect": begin + 25
    }  # fmt: skip
