"""The listener receives events, sweeps, is active alone, and survives every failure."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pytest

from tests.support.waiting import eventually
from workermon import collect, config, errors, evaluate, health, models, notify, ports, testing
from workermon.collect.event import encode
from workermon.pipeline import listener, reconciling, stopping, subscription, sweep

NOW = time.time


def worker(number: int = 1, **changes: Any) -> models.Worker:
    """Return a worker; ``number`` makes its id."""
    instance_id = f"i-{number:017x}"
    fields = {"id": instance_id, "name": instance_id, "region": "us-east-1", "added_at": NOW(), "incarnation": "one"}
    return models.Worker(**(fields | changes))


def event(number: int = 1, **changes: Any) -> str:
    """Return an event of that worker as it is on the channel."""
    instance_id = f"i-{number:017x}"
    fields = {
        "schema": 1, "event": "worker.metrics.collected", "id": f"{instance_id}:1", "worker_id": instance_id,
        "worker_name": "render", "region": "us-east-1", "collected_at": "2026-11-23T16:00:05Z", "status": "running",
        "status_checks": {"system": "ok", "instance": "ok"},
        "metrics": {"cpu_utilization": {"value": 1.0, "unit": "percent", "at": "2026-11-23T16:00:00Z"}, "x": None},
    }  # fmt: skip
    return json.dumps(fields | changes)


class House(testing.Monitor):
    """In-memory ports and listeners over them."""

    def __init__(self) -> None:
        super().__init__()
        self._running: list[tuple[threading.Thread, stopping.Stop]] = []

    def start(self, **options: Any) -> stopping.Stop:
        """Start a listener. The event stops it."""
        new_listener = listener.Listener(
            feed=options.pop("feed", self.feed), samples=options.pop("samples", self.samples), outbox=self.outbox,
            workers=self.workers, dispatcher=self.dispatcher, liveness=self.liveness, leases=self.leases,
            now=options.pop("now", NOW), canary=dataclasses.replace(self.get(health.CanaryReception), now=NOW),
            heartbeat=health.Heartbeat(check=self.get(health.PipelineCheck), ping=lambda _: None, url=None),
            silence_expiry=dataclasses.replace(self.get(evaluate.SilenceExpiry), now=NOW),
            placement=self.get(collect.CohortPlacement), quiet_time=self.get(collect.QuietTime),
            channel_watch=dataclasses.replace(self.get(notify.ChannelWatch), now=NOW),
            queue_reading=self.get(collect.QueueReading), configurations=self.configurations,
            sweep_backlog=self.sweep_backlog,
        )  # fmt: skip
        assert not options
        stop = stopping.Stop()
        thread = threading.Thread(target=new_listener.run, args=(stop,), daemon=True)
        thread.start()
        self._running.append((thread, stop))
        return stop

    def announce(self, number: int = 1) -> None:
        """Publish the event of a pending worker. The sweep ignores it for half a minute."""
        if not self.workers.monitored([worker(number).id]):
            self.workers.add([worker(number)])
        self.samples.mark_pending([worker(number).id], NOW() + 30)
        self.publish(event(number))

    def stop(self) -> None:
        """Stop all of them, and see that they do."""
        for _, stop in self._running:
            stop.set()
        for thread, _ in self._running:
            thread.join(30)
            assert not thread.is_alive()

    def publish(self, text: str) -> None:
        """Publish a text on the channel of events."""
        self.store.publish(self.store.channel, text)

    def led(self) -> bool:
        """Return whether a listener is active and has swept."""
        return "listener" in self.liveness.beats()


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Give in-memory ports with a fast sweep, and stop the listeners over them."""
    monkeypatch.setattr(sweep, "INTERVAL", 0.2)
    new_house = House()
    yield new_house
    new_house.stop()


def test_a_worker_that_is_named_in_an_event_is_evaluated_once(house: House) -> None:
    """Each event enqueues one evaluation. Events that arrive together share one."""
    house.start()
    eventually(house.led)
    for number in range(30):
        house.announce(number)
    eventually(lambda: len(house.dispatcher.evaluated) >= 30)
    assert sorted(house.dispatcher.evaluated) == [worker(number).id for number in range(30)]


class Asked:
    """A port that notes which of its methods are asked for."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.names.add(name)
        return getattr(self._port, name)


def test_a_sweep_makes_one_request_and_reads_what_waits(house: House) -> None:
    """If nothing waits, the sweep reads neither fleet, samples, outbox, silences nor channels, except at the start."""
    samples, outbox, workers = Asked(house.samples), Asked(house.outbox), Asked(house.workers)
    silences, failures = Asked(house.silences), Asked(house.failures)
    house.samples, house.outbox, house.workers = samples, outbox, workers
    house.silences, house.failures = silences, failures
    house.start()
    eventually(house.led)
    ports = (samples, outbox, workers, silences, failures)
    for port in ports:
        port.names.clear()
    swept_at = house.liveness.beats()["listener"]
    eventually(lambda: house.liveness.beats()["listener"] > swept_at + 3 * sweep.INTERVAL)
    assert [port.names for port in ports] == [set()] * 5
    house.workers.add([worker()])
    eventually(lambda: "ids" in workers.names, description="a sweep that reads the fleet")


def test_events_that_come_together_are_read_together(house: House) -> None:
    """The process sleeps after the first event, then wakes up once for all that arrived."""
    gathering = subscription.Subscription(dispatcher=house.dispatcher, canary=house.get(health.CanaryReception),
                                          samples=house.samples)  # fmt: skip
    waits: list[float] = []
    house.workers.add([worker(number) for number in range(3)])
    house.samples.mark_pending([worker(number).id for number in range(3)], NOW())
    for batch in ((0, 1), (2,)):
        assert gathering.timeout() == subscription.IDLE
        for number in batch:
            gathering.receive(event(number), 100.0)
            gathering.enqueue_if_due(100.0)
            gathering.wait_for_others(waits.append)
            assert gathering.timeout() == 0
        gathering.enqueue_all()
    assert waits == [subscription.GATHERED] * 2
    assert house.dispatcher.evaluated == [worker(number).id for number in range(3)]


def test_workers_of_several_collections_are_evaluated_together(house: House) -> None:
    """Few workers of a healthy fleet are pending, so one message has room for all of them."""
    gathering = subscription.Subscription(
        dispatcher=house.dispatcher, canary=house.get(health.CanaryReception), samples=house.samples
    )
    house.workers.add([worker(number) for number in range(250)])
    house.samples.mark_pending([worker(number).id for number in (7, 107, 207)], NOW())
    for number in range(250):
        gathering.receive(event(number), 100.0)
        gathering.enqueue_if_due(100.0)
    assert house.dispatcher.evaluated == []
    gathering.enqueue_all()
    assert house.dispatcher.evaluated == [worker(number).id for number in (7, 107, 207)]


def test_an_event_is_evaluated_within_a_second(house: House) -> None:
    """Waiting for further events delays an evaluation by less than a second."""
    house.start()
    eventually(house.led)

    def announced_and_evaluated() -> bool:
        before, began = len(house.dispatcher.evaluated), time.monotonic()
        house.announce()
        eventually(lambda: len(house.dispatcher.evaluated) > before)
        return time.monotonic() - began < 1

    eventually(announced_and_evaluated, description="an evaluation within a second, unless the machine is busy")


def test_an_event_of_a_worker_that_need_not_be_evaluated_enqueues_nothing(house: House) -> None:
    """The pending mark in Redis decides, not the message: the worker may be deferred or evaluated already."""
    house.start()
    eventually(house.led)
    house.workers.add([worker(1)])
    house.publish(event(1))
    house.announce(2)
    eventually(lambda: house.dispatcher.evaluated)
    assert house.dispatcher.evaluated == [worker(2).id]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("no json", "not_json"),
        ("", "not_json"),
        ("[" * 50_000, "not_json"),
        ('"text"', "not_an_object"),
        ("[]", "not_an_object"),
        (event(schema=2), "unknown_schema"),
        (event(schema="1"), "unknown_schema"),
        (event(schema=True), "unknown_schema"),
        (event(event="worker.removed"), "unknown_event"),
        (event(worker_id="no id"), "wrong_fields"),
        (event(worker_id=["i-00000000000000001"]), "wrong_fields"),
        (event(metrics=3), "wrong_fields"),
        (event(status="on fire"), "wrong_fields"),
        (event(padding="x" * 65_536), "too_large"),
        (event(padding="ü" * 33_000).encode().decode(), "too_large"),
    ],
)
def test_an_event_that_cannot_be_used_is_counted_by_its_reason(house: House, message: Any, reason: str) -> None:
    """An invalid event triggers nothing, and the next one is handled."""
    house.start()
    eventually(house.led)
    house.publish(message)
    house.announce(2)
    eventually(lambda: house.dispatcher.evaluated == [worker(2).id])
    eventually(lambda: house.liveness.counts().get(f"event.invalid.{reason}") == 1)


def test_fields_that_were_added_later_hurt_no_listener(house: House) -> None:
    """An event of schema 1 may have unknown fields."""
    assert subscription.worker_of(event(colour="red")) == worker().id


def test_our_own_events_begin_as_the_listener_knows_them(house: House) -> None:
    """The listener reads only the worker's id of workermon's own events, and checks it."""
    at = models.Condition(status="running", collected_at=NOW())
    text = encode(worker(), at, config.DEFAULT)
    assert text.startswith(subscription.OWN_BEGIN)
    assert subscription.worker_of(text) == worker().id
    with pytest.raises(subscription.InvalidEvent, match="wrong_fields"):
        subscription.worker_of(text.replace(worker().id, "no id"))


def test_a_flood_of_bad_events_is_logged_now_and_then(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """A thousand invalid events are counted as a thousand, and logged in one line or two."""
    house.start()
    eventually(house.led)
    for _ in range(1000):
        house.publish("no json")
    eventually(lambda: house.liveness.counts().get("event.invalid.not_json") == 1000)
    assert capsys.readouterr().out.count("event.invalid") <= 2


def sample(owner: models.Worker, at: float) -> models.Sample:
    """Return a sample of a worker."""
    return models.Sample(worker=owner, collected_at=at, status="running")


def test_what_no_event_announced_is_found_by_the_sweep(house: House) -> None:
    """A sample whose event was lost is evaluated within seconds."""
    house.workers.add([worker()])
    house.samples.write(sample(worker(), NOW()), models.Condition(succeeded_at=NOW()), "an event that nobody hears")
    house.start()
    eventually(lambda: house.dispatcher.evaluated == [worker().id])


def test_a_listener_that_takes_over_catches_up_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new active listener enqueues pending workers at once, not a sweep later."""
    monkeypatch.setattr(sweep, "INTERVAL", 3600.0)
    house.workers.add([worker()])
    house.samples.write(sample(worker(), NOW()), models.Condition(succeeded_at=NOW()), "lost")
    house.start(now=lambda: NOW() + 10)
    eventually(lambda: house.dispatcher.evaluated == [worker().id])


def test_evaluations_do_not_pile_up_if_nobody_evaluates(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a worker stays pending, the sweep enqueues it only every few seconds."""
    monkeypatch.setattr(sweep, "INTERVAL", 0.05)
    monkeypatch.setattr(sweep, "PATIENCE", 0.5)
    house.workers.add([worker()])
    house.samples.write(sample(worker(), NOW() - 10), models.Condition(succeeded_at=NOW()), "lost")
    began = time.monotonic()
    house.start(now=lambda: NOW() + 10)
    eventually(lambda: len(house.dispatcher.evaluated) >= 3)
    assert time.monotonic() - began > 0.9


def test_a_worker_whose_collection_is_overdue_is_evaluated(house: House) -> None:
    """No event arrives, so time alone triggers the evaluation. Paused workers and those in time are skipped."""
    late, paused, fresh = worker(1, added_at=1.0), worker(2, added_at=1.0, monitoring="paused"), worker(3)
    house.workers.add([late, paused, fresh])
    house.start()
    eventually(lambda: house.dispatcher.evaluated)
    assert set(house.dispatcher.evaluated) == {late.id}


def test_a_worker_with_a_recent_event_is_not_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep reads workers whose events are missing. The others were evaluated when their events arrived."""
    monkeypatch.setattr(sweep, "INTERVAL", 0.05)
    announced, silent = worker(1, interval=86_400), worker(2, interval=86_400)
    house.workers.add([announced, silent])
    read: list[str] = []
    get = house.workers.get

    def counted(ids: Sequence[str]) -> dict[str, ports.Record]:
        read.extend(ids)
        return get(ids)

    monkeypatch.setattr(house.workers, "get", counted)
    house.start()
    eventually(lambda: read.count(announced.id) >= 2)
    house.announce(1)
    eventually(lambda: house.dispatcher.evaluated == [announced.id])
    read.clear()
    eventually(lambda: read.count(silent.id) >= 3)
    assert read.count(announced.id) <= 1  # a sweep may have been under way


def test_the_fleet_is_kept_in_step_with_ec2_now_and_then(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The active listener enqueues a reconciliation every few minutes, not at its start."""
    monkeypatch.setattr(reconciling, "RECONCILIATION", 0.5)
    began = time.monotonic()
    house.start()
    eventually(lambda: house.dispatcher.reconciliations == 1)
    assert time.monotonic() - began >= 0.5
    eventually(lambda: house.dispatcher.reconciliations == 2)
    assert time.monotonic() - began >= 1.0


class Breaking(testing.MemoryFeed):
    """A feed whose connection breaks a number of times."""

    def __init__(self, house: House, times: int) -> None:
        super().__init__(house.store)
        self.breaks_left = times

    def listen(self, **options: Any) -> Generator[str | None, None, None]:
        """Listen, or break."""
        if self.breaks_left:
            self.breaks_left -= 1
            raise errors.RedisUnavailable("Redis", "gone", "wait")
        return super().listen(**options)


@pytest.mark.parametrize("times", [1, 3])
def test_a_lost_redis_is_tried_again(house: House, times: int) -> None:
    """After each broken connection the listener subscribes again."""
    house.start(feed=Breaking(house, times))
    eventually(house.led)
    house.announce()
    eventually(lambda: house.dispatcher.evaluated)


def test_even_a_fault_of_ours_does_not_end_it(house: House) -> None:
    """An unexpected exception of a sweep is logged, and the listener continues."""

    class Faulty:
        def __init__(self, samples: ports.Samples) -> None:
            self.samples, self.faults = samples, 1

        def pending(self, now: float, limit: int, age: float = 0.0) -> list[str]:
            if self.faults:
                self.faults -= 1
                raise ZeroDivisionError
            return self.samples.pending(now, limit, age)

    house.start(samples=Faulty(house.samples))
    eventually(house.led)


def test_one_of_several_leads(house: House) -> None:
    """With three listeners each event enqueues one evaluation."""
    for _ in range(3):
        house.start()
    eventually(house.led)
    for number in range(10):
        house.announce(number)
    eventually(lambda: len(house.dispatcher.evaluated) >= 10)
    assert sorted(house.dispatcher.evaluated) == [worker(number).id for number in range(10)]


def test_one_that_stops_lets_another_lead_at_once(house: House) -> None:
    """A clean stop does not wait for an event, and releases the lease."""
    stop = house.start()
    eventually(house.led)
    house.start()
    stop.set()
    first, _ = house._running[0]
    first.join(30)
    assert not first.is_alive()
    house.announce(5)

    def is_evaluated() -> bool:
        house.announce(6)
        return worker(6).id in house.dispatcher.evaluated

    eventually(is_evaluated)


def test_sweeps_come_at_multiples_of_their_interval() -> None:
    """So sweeps and beat's ticks come together. The first sweep comes at once."""
    timer = listener.Timer(float("-inf"), aligned=True)
    assert timer.due(1000.75, 2.0)
    assert timer.remaining(1000.75, 2.0) == 1.25
    assert not timer.due(1001.75, 2.0)
    assert timer.due(1002.25, 2.0)
    assert timer.remaining(1002.25, 2.0) == 1.75


def test_a_stop_ends_the_wait_for_an_event(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the listener would wait."""
    monkeypatch.setattr(sweep, "INTERVAL", 600.0)
    monkeypatch.setattr(subscription, "IDLE", 600.0)
    house.start()
    eventually(house.led)


def test_one_that_lost_its_lease_stops_leading(house: House) -> None:
    """A listener whose lease ran out enqueues nothing beside the new active one."""
    house.start()
    eventually(house.led)
    assert isinstance(house.leases, testing.MemoryLeases)
    house.leases._owners.clear()
    assert house.leases.hold("listener", "another", 60)
    house.dispatcher.evaluated.clear()

    def silent() -> bool:
        before = len(house.dispatcher.evaluated)
        house.announce()
        threading.Event().wait(0.5)
        return len(house.dispatcher.evaluated) == before

    eventually(silent)


def test_canaries_are_passed_on_and_are_no_events(house: House) -> None:
    """A canary on its channel triggers an evaluation. Other messages there, or canaries elsewhere, are counted."""
    canary = house.canary
    house.start()
    eventually(house.led, description="a leader")
    assert "canary" in house.liveness.beats()
    begin = NOW()
    canary.publish(begin, begin, 1)
    eventually(lambda: house.dispatcher.canaries == 1, description="the task that delivers the canary")
    assert canary.trace().reached["received"].sent_at == begin
    house.store.publish(ports.canary_channel(house.store.channel), "x")
    house.publish(repr(begin))
    eventually(
        lambda: house.liveness.counts().get("event.invalid.no_canary") == 1,
        description="the count of messages that are no canary",
    )
    eventually(
        lambda: house.liveness.counts().get("event.invalid.not_an_object") == 1,
        description="the count of messages that are no event",
    )
    assert (house.dispatcher.canaries, house.dispatcher.evaluated) == (1, [])


def test_the_end_of_a_silence_is_found_by_the_sweep(house: House) -> None:
    """Soon after a window's end its firing alerts are enqueued, without a collection or an event."""
    house.workers.add([worker()])
    alerts, fields = testing.MemoryAlerts(house.store), {"id": "1", "version": 1, "dedup_key": f"{worker().id}/r"}
    fields |= {"kind": "threshold", "status": "firing", "severity": "critical", "rule": "r", "summary": "it is hot"}
    fields |= dict.fromkeys(("metric", "value", "threshold")) | dict.fromkeys(("since", "at"), models.rfc3339(NOW()))
    fields["worker"] = {"id": worker().id, "name": "render", "region": "us-east-1"}
    last = models.Notification.model_validate(fields)
    alert = models.Alert(rule="r", notified_severity="critical", since=1, last=last, silenced_by="file-1")
    basis = alerts.load([worker().id])[worker().id]
    assert alerts.commit(ports.Verdict(basis, {"r": alert}, (), {}, NOW()))
    window = models.Maintenance(id="file-1", rule="r", reason="x", ends=NOW() + 1)
    configuration = models.Configuration(rules=(), channels={}, metrics={}, collect=(), silences=(window,))
    house.configurations = testing.MemoryConfigurations(house.store, configuration)
    house.start()
    eventually(house.led)
    assert house.dispatcher.evaluated == []
    eventually(lambda: house.dispatcher.evaluated == [worker().id])


def test_what_fails_for_a_minute_ends(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that fails for a minute ends, so that it is restarted with new connections."""
    monkeypatch.setattr(listener, "FAILED_FOR", 0.5)

    class Gone:
        def listen(self, **_: object) -> Iterator[str | None]:
            raise errors.RedisUnavailable("Redis", "it is a read-only replica", "wait")

    house.start(feed=Gone())
    (thread, _), *_ = house._running
    eventually(lambda: not thread.is_alive(), description="its end")


URL = "https://sqs.us-east-1.amazonaws.com/123456789012/workermon"


def configure(house: House, **queues: str) -> None:
    """Put these event queues in force."""
    configuration = house.configurations.load()
    events = {name: models.EventQueue(queue_url=url) for name, url in queues.items()}
    changed = configuration.model_copy(update={"revision": configuration.revision + 1, "event_queues": events})
    assert house.configurations.save(changed)


def ring(house: House, number: int) -> None:
    """Put an event about the worker into the queue."""
    body = {
        "id": f"e{number}", "source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification",
        "time": "2023-11-14T22:13:20Z", "detail": {"instance-id": f"i-{number:017x}", "state": "stopped"},
    }  # fmt: skip
    house.event_queues.send(models.AccountRegion(region="us-east-1"), URL, json.dumps(body))


def polling() -> list[threading.Thread]:
    """Return the threads that poll queues."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("events-")]


def test_the_queue_is_read_beside_the_listener_that_leads(house: House) -> None:
    """The active listener reads the event queue, and the next one continues. Without one it is not read."""
    configure(house, main=URL)
    ring(house, 1)
    first = house.start()
    eventually(lambda: not house.event_queues.messages[URL], description="the first message's end")
    first.set()
    eventually(lambda: not polling(), description="the thread's end")
    ring(house, 2)
    house.start()
    eventually(lambda: not house.event_queues.messages[URL], description="the second message's end")
    assert house.liveness.counts()["events.main.messages"] == 2


def test_a_queue_that_is_configured_later_is_read_and_one_that_goes_is_left(house: House) -> None:
    """The active listener follows the configuration of event queues."""
    house.start()
    eventually(house.led)
    configure(house, main=URL)
    ring(house, 1)
    eventually(lambda: not house.event_queues.messages[URL], description="the message's end")
    configure(house)
    eventually(lambda: not polling(), description="the thread's end")


def test_a_queue_that_fails_harms_nobody_else(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener stays active, the other queue is read, and the failing one is tried again."""
    configure(house, main=URL, broken="https://sqs.us-east-1.amazonaws.com/123456789012/broken")
    receive = house.event_queues.receive
    failed = threading.Event()

    def sometimes(scope: models.AccountRegion, queue_url: str, wait: int) -> list[ports.QueueMessage]:
        if queue_url.endswith("broken") and not failed.is_set():
            failed.set()
            raise RuntimeError("a fault of ours")
        return receive(scope, queue_url, wait)

    monkeypatch.setattr(house.event_queues, "receive", sometimes)
    ring(house, 1)
    house.start()
    eventually(lambda: not house.event_queues.messages[URL], description="the message's end")
    eventually(lambda: "events:broken" in house.liveness.beats(), description="the second try")
