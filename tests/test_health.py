"""Health: every part that is down is named with the reason, and an empty fleet is healthy."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from workermon import config, errors, health, models, ports, testing
from workermon.alerts import message, subject
from workermon.health import canary, fleet_statistics, parts

A, B = "i-0aaaaaaaaaaaaaaaa", "i-0bbbbbbbbbbbbbbbb"


class World(testing.Monitor):
    """A monitor in memory with every part alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.clock
        self.nodes.names = ["collect@here"]
        self.beat()

    def beat(self) -> None:
        """Give a sign of life of beat and listener."""
        self.schedule.ticked = self.now()
        self.liveness.beat("listener", self.now())
        self.liveness.beat("canary", self.now())

    def status(self) -> Any:
        """Look at every part."""
        return self.get(health.StatusCheck).status()

    def add(self, worker_id: Any, status: models.Status = "running", **fields: Any) -> Any:
        """Monitor a worker whose collection has just returned that status."""
        worker = self.add_worker(worker_id, status, **fields)
        self.collected(worker, status)
        return worker

    def collected(self, worker: Any, status: models.Status = "running") -> None:
        """Write a sample of a worker."""
        sample = models.Sample(worker=worker, collected_at=self.now(), status=status)
        self.samples.write(sample, models.Condition(status=status, collected_at=self.now()), "{}")
        basis = self.alerts.load([worker.id])[worker.id]
        assert self.alerts.commit(ports.Verdict(basis, {}, (), {}, self.now()))


def down(report: Any) -> Any:
    """Return the names of the parts that are down, after checking that the summary agrees."""
    names = [part.name for part in report.parts if not part.ok]
    assert report.ok is not bool(names)
    return names


def part(report: Any, name: Any) -> Any:
    """Return a part by its name."""
    return next(pipeline_part for pipeline_part in report.parts if pipeline_part.name == name)


@pytest.fixture
def world() -> World:
    """Give a world in which all is well."""
    return World()


def test_an_empty_fleet_is_well(world: World) -> None:
    """If all parts run and there is no worker, the status is healthy."""
    assert down(world.status()) == []
    assert world.status().workers == {"all": 0}


@pytest.mark.parametrize("age", [15.1, None])
def test_beat_and_listener_are_down_without_a_sign_of_life(world: World, age: float | None) -> None:
    """A part is down if its last sign of life is over 15 s old, or if it never gave one."""
    world.now.advance(age or 0)
    if age is None:
        world.schedule.ticked = None
        world.liveness = testing.MemoryLiveness(world.store)
    assert down(world.status()) == ["beat", "listener"]


def test_no_node_is_down(world: World) -> None:
    """If no node answers, that part is down."""
    world.nodes.names = []
    assert down(world.status()) == ["worker processes"]


def test_collection_that_is_not_even_tried_is_late(world: World) -> None:
    """A worker without a collection is late after three intervals and 30 s. A paused or terminated one never is."""
    worker = world.add(A)
    world.add(B, monitoring="paused")
    world.add("i-0cccccccccccccccc", status="terminated")
    world.schedule.delete(["i-0cccccccccccccccc"])
    world.now.advance(3 * worker.interval + fleet_statistics.GRACE)
    world.beat()
    assert down(world.status()) == []
    world.now.advance(1)
    assert down(world.status()) == ["collection"]
    assert world.status().lateness == 2 * worker.interval + fleet_statistics.GRACE + 1


def test_collection_is_down_where_it_fails_for_all(world: World) -> None:
    """An error of one worker is counted. Errors of all workers mean that collection is down, with the reason."""
    first, second = world.add(A), world.add(B)
    last_error = models.CollectionError(kind="denied", message="not authorized", at=world.now())
    world.samples.failed(first, last_error)
    assert down(world.status()) == []
    assert world.status().troubled == {"denied": 1}
    world.samples.failed(second, last_error)
    state = world.status()
    assert down(state) == ["collection"]
    assert "not authorized" in state.parts[5].reason


def test_what_waits_too_long_shows_who_is_dead(world: World) -> None:
    """Samples not evaluated and notifications not sent for a minute mean that a part is down."""
    worker = world.add(A)
    at = models.rfc3339(world.now())
    notification = models.Notification(
        id="n", version=1, dedup_key=f"{A}/r", kind="threshold", status="firing", severity="critical", rule="r",
        metric=None, value=None, threshold=None, since=at, at=at, worker=None, summary="x",
    )  # fmt: skip
    world.record(notification, "log")
    world.samples.mark_pending([worker.id], world.now())
    assert down(world.status()) == []
    assert (world.status().backlog, world.status().alerts) == (1, 1)
    world.now.advance(parts.STUCK_AFTER + 1)
    world.beat()
    assert down(world.status()) == ["evaluation", "delivery"]


def test_a_schedule_that_differs_from_the_fleet_shows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, stray and broken entries are named with their repair. Other applications' entries are ignored."""
    world.add(A)
    world.schedule.broken["backup"] = "no JSON"
    schedule = world.schedule
    monkeypatch.setattr(
        schedule, "ids", lambda: {*schedule.entries, *(k for k in schedule.broken if k.startswith("i-"))}
    )
    assert down(world.status()) == []
    world.schedule.delete([A])
    assert "1 without an entry: run 'workermon reconcile'" in world.status().parts[4].reason
    world.schedule.broken[A] = "no JSON"
    assert "1 with an entry that cannot be read" in world.status().parts[4].reason
    world.schedule.entries[B] = (60, 0.0)
    assert "1 with an entry but no worker" in world.status().parts[4].reason
    assert down(world.status()) == ["schedule"]


def test_redis_out_of_reach_is_an_error(world: World) -> None:
    """If Redis does not answer, nothing else can be known, and the error says so."""

    class Gone(testing.MemoryWorkers):
        def every(self, chunk: int = 500) -> NoReturn:
            raise errors.RedisUnavailable("Redis", "no answer", "start it")

    world.workers = Gone(world.store)
    with pytest.raises(errors.RedisUnavailable):
        world.status()


def test_a_failing_account_is_shown(world: World) -> None:
    """It shows kind, time and reason of the error. An account without workers is not shown."""
    world.add(A)
    world.add(B, account="lab")
    last_error = models.CollectionError(kind="throttled", message="EC2: slow down", at=world.now())
    world.accounts.note("lab/us-east-1", world.now(), 60, last_error)
    world.accounts.note("gone/us-east-1", world.now(), 60, last_error)
    world.limiter.throttled("lab/us-east-1", "GetMetricData")
    world.limiter.silent("lab/us-east-1", "ListMetrics")
    first, second = world.status().scopes
    assert (first.account, first.region, first.state, first.reason) == ("default", "us-east-1", "unknown", None)
    assert (second.account, second.state, second.reason) == ("lab", "throttled", "EC2: slow down")
    assert second.since == models.rfc3339(world.now())
    assert second.slowed == {"GetMetricData": 0.5, "ListMetrics": 0.0}
    world.accounts.note("lab/us-east-1", world.now() + 60, 60, None)
    world.accounts.note("default/us-east-1", world.now() + 60, 60, None)
    assert [scope.state for scope in world.status().scopes] == ["ok", "ok"]


def test_the_bill_shows_the_day_and_the_present_rate(world: World) -> None:
    """Calls, metrics asked and dollars, of all and of each account and region."""
    start = world.now() // 3600 * 3600
    for minute in range(60):
        world.costs.note(start + 60 * minute, "default/us-east-1", "GetMetricData", {"AWS/EC2/CPUUtilization": 100})
        world.costs.note(start + 60 * minute, "lab/eu-west-1", "DescribeInstanceStatus", {})
    world.now.now = start + 3600
    bill = world.status().bill
    assert (bill.last_24h.calls, bill.last_24h.metrics, bill.last_24h.dollars) == (120, 6000, 0.06)
    assert (bill.rate.calls, bill.rate.metrics, bill.rate.dollars) == (2880, 144_000, 1.44)
    billed, free = bill.scopes
    assert (billed.account, billed.region, billed.dollars) == ("default", "us-east-1", 0.06)
    assert billed.by_metric == {"AWS/EC2/CPUUtilization": 6000}
    assert (free.account, free.calls, free.dollars, free.by_metric) == ("lab", 60, 0.0, {})
    assert (bill.budget, bill.projected, bill.stretched) == (None, None, {})


@pytest.mark.parametrize("seconds", [10, 70, 590])
def test_the_rate_of_the_first_minutes_is_what_is_set_up(world: World, seconds: int) -> None:
    """In the first ten minutes the rate is computed from the set-up, because few runs say little."""
    worker = world.add(A)
    kind = ("fstype", "ext4")
    sets: list[models.Dimensions] = [(("InstanceId", A), ("path", f"/{mount}"), kind) for mount in range(3)]
    world.workers.found_dimensions(worker, {"CWAgent/disk_used_percent": sets, "CWAgent/mem_used_percent": []}, 1.0)
    start = world.now()
    for minute in range(seconds // 60 + 1):
        queries = {"AWS/EC2/CPUUtilization": 1, "CWAgent/disk_used_percent": 3}
        world.costs.note(start + 60 * minute, "default/us-east-1", "GetMetricData", queries)
        world.costs.note(start + 60 * minute, "default/us-east-1", "ListMetrics", {})
    world.now.now = start + seconds
    bill = world.status().bill
    # Three of EC2's metrics each 5 minutes, three filesystems each minute, no memory.
    expected = 3 * 288 + 3 * 1440
    assert (bill.estimated, bill.rate.metrics, bill.rate.dollars) == (True, expected, round(expected / 100_000, 4))
    world.now.now = start + 600
    assert world.status().bill.estimated is False


def test_what_a_budget_gives_up_shows(world: World) -> None:
    """Longer periods are shown while their budget is in force."""
    budget_decision = models.BudgetDecision(
        at=world.now(), period_multipliers={"network_out": 4}, projected=4.9, budget=5.0
    )
    world.costs.decide(budget_decision, models.BudgetDecision())
    assert world.status().bill.stretched == {}
    world.configurations.save(config.DEFAULT.model_copy(update={"revision": 1, "budget": 5.0}))
    bill = world.status().bill
    assert (bill.budget, bill.projected, bill.stretched) == (5.0, 4.9, {"network_out": 4})


def test_messages_that_nobody_takes_show(world: World) -> None:
    """A stage with queued messages and no activity for a minute and a half is down. Others are not."""
    world.nodes.waiting = {"workermon.collect": 2, "workermon.evaluate": 0, "workermon.deliver": 0, "unacked": 1}
    state = world.status()
    assert down(state) == ["queues"]
    assert "2 messages for collect, which last worked never" in part(state, "queues").reason
    assert state.queues == world.nodes.waiting
    world.liveness.beat("collect", world.now())
    world.now.advance(parts.UNTOUCHED_AFTER)
    world.beat()
    assert down(world.status()) == []
    world.now.advance(1)
    world.beat()
    assert "last worked 91 s ago" in part(world.status(), "queues").reason
    world.canary.publish(world.now(), world.now(), 1)
    assert down(world.status()) == []
    world.now.advance(parts.UNTOUCHED_AFTER + 1)
    world.beat()
    assert down(world.status()) == ["queues"]
    world.nodes.waiting["workermon.collect"] = 0
    assert down(world.status()) == []


def test_a_channel_that_takes_nothing_shows(world: World) -> None:
    """A notification that failed for a minute is shown with channel, attempts and last error."""
    worker = world.add(A)
    transition = models.Transition(at=int(world.now()), before=None, after="critical", value=95.0)
    details = message.Details(version=1, since=world.now(), created_at=world.now(), unit="percent")
    notification = message.notification(subject.of_worker(worker), config.DEFAULT.rules[0], transition, details)
    world.record(notification, "ops")
    assert next(part for part in world.status().parts if part.name == "delivery").reason == "1 notification waits"
    for _ in range(2):
        (claimed,) = world.outbox.claim(f"{A}/cpu-high", world.now(), 15)
        world.outbox.failed(claimed, world.now(), "secret OPS_SECRET: not set", world.now() + 30)
        assert down(world.status()) == []
        world.now.advance(30)
        world.beat()
    state = world.status()
    assert down(state) == ["delivery"]
    reason = next(part for part in state.parts if part.name == "delivery").reason
    assert reason == f"channel ops does not accept {A}/cpu-high after 2 attempts: secret OPS_SECRET: not set"


def test_one_is_not_many(world: World) -> None:
    """One entry is written in the singular."""
    world.add(A)
    assert next(part for part in world.status().parts if part.name == "schedule").reason == "1 entry"


def test_an_accepted_canary_is_shown(world: World) -> None:
    """The last canary's duration and time are shown. Before the first one nothing is wrong."""
    assert part(world.status(), "canary").reason == "beat has not sent one yet"
    assert world.status().canary == parts.CanaryStatus(ok=True, round_trip=None, age=None, stuck_after=None)
    world.schedule.sent = models.Sent(world.now(), 1)
    world.canary.publish(world.now(), world.now(), 1)
    for step in ("received", "evaluated", "accepted"):
        world.canary.reach(step, world.now(), world.now() + 0.4)
    world.now.advance(12.4)
    world.beat()
    state = world.status()
    assert (part(state, "canary").reason, part(state, "canary").age) == ("round trip 0.4 s, 12 s ago", 12.0)
    assert state.canary == parts.CanaryStatus(ok=True, round_trip=0.4, age=12.0, stuck_after=None)
    assert models.to_json(state)["canary"] == {"ok": True, "round_trip": 0.4, "age": 12.0, "stuck_after": None}


def test_a_canary_that_is_stuck_is_a_part_that_is_down(world: World) -> None:
    """If several canaries in a row are lost, the part that does not pass them on is named and down."""
    for number in range(1, 5):
        world.now.advance(60)
        world.beat()
        assert down(world.status()) == []
        world.schedule.sent = models.Sent(world.now(), number)
        world.canary.publish(world.now(), world.now(), number)
    state = world.status()
    assert down(state) == ["canary"]
    assert "stuck after: published (the listener does not receive it)" in part(state, "canary").reason
    assert state.canary.stuck_after == "published"


def test_the_canarys_notification_is_none_that_waits(world: World) -> None:
    """The canary's notification is not counted and does not affect the state of delivery."""
    assert world.outbox.release(canary.notification(world.now()), world.now())
    world.now.advance(600)
    world.beat()
    state = world.status()
    assert (state.backlog, down(state)) == (0, [])
    assert part(state, "delivery").reason == "nothing waits"
