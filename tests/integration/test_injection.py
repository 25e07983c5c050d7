"""Dependencies are made where a task runs: once a process, none in a forking parent, and others in a test."""

from __future__ import annotations

import inspect
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.celery_house import House, opened
from tests.support.waiting import eventually
from workermon import models, ports, runtime, settings, testing
from workermon.local import embedded
from workermon.on_celery.app import app
from workermon.pipeline import container, tasks

#: Loaded into every process of a node by ``-I``: notes who makes and closes what.
SPY = """
import json, os, threading
from workermon.on_aws import session
from workermon.on_redis import client

def noting(what, function):
    def noted(*args, **kwargs):
        with open(os.environ["SPY"], "a") as out:
            out.write(json.dumps([what, os.getpid()]) + "\\n")
        return function(*args, **kwargs)
    return noted

def connecting(*args, **kwargs):
    made = connect(*args, **kwargs)
    close = made.close
    def closing():
        made.close = close  # what was closed may be closed again
        noting("redis closed", close)()
    made.close = closing
    return made

session.Sessions.__init__ = noting("aws made", session.Sessions.__init__)
session.Sessions.close = noting("aws closed", session.Sessions.close)
connect = client.connect
client.connect = noting("redis made", connecting)
"""


@pytest.fixture
def house(tmp_path: Path, redis_url: str) -> Iterator[House]:
    """Give an installation whose nodes record the clients that they make."""
    (tmp_path / "spy.py").write_text(SPY)
    with opened(tmp_path, redis_url) as opened_house:
        opened_house.env |= {"PYTHONPATH": str(tmp_path), "SPY": str(tmp_path / "spied")}
        yield opened_house


def noted(house: House) -> Counter[tuple[str, int]]:
    """Return how often each process recorded each action."""
    path = Path(house.env["SPY"])
    return Counter(tuple(json.loads(line)) for line in path.read_text().splitlines()) if path.exists() else Counter()


def collected(client: redis.Redis, count: int) -> bool:
    """Wait until that many collections went by."""
    times: set[bytes | str] = set()

    def enough() -> bool:
        times.add(client.hget("workermon:pulse", "collect") or b"")
        return len(times - {b""}) >= count

    return eventually(enough, within=40)


@pytest.mark.integration
def test_each_forked_process_makes_its_own_clients_once_and_the_parent_none(
    house: House, redis_client: redis.Redis
) -> None:
    """Each child makes one set of clients and closes it at its end. The parent of the pool has none.

    The parent's only client checks the stored state, and is closed before the pool starts.
    """
    node = house.celery("worker", "-P", "prefork", "-c", "2", "-I", "spy")
    house.celery("beat")
    house.add(house.ids)
    assert collected(redis_client, 4)
    calls = noted(house)
    makers = {pid for call, pid in calls if call == "aws made"}
    assert makers
    of_parent = {call: number for (call, pid), number in calls.items() if pid == node.pid}
    assert of_parent == {"redis made": 1, "redis closed": 1}
    assert makers <= set(node.children())
    assert set(calls.values()) == {1}
    assert node.stop() == 0
    assert {pid for call, pid in noted(house) if call == "aws closed"} == makers


@pytest.mark.integration
@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_one_process_makes_one_set_of_clients_for_all_its_threads(
    house: House, redis_client: redis.Redis, pool: str
) -> None:
    """Threads share the clients of their process, which are closed at its end.

    Another client checks the stored state at the start, and is closed.
    """
    node = house.celery("worker", "-P", pool, "-I", "spy")
    house.celery("beat")
    house.add(house.ids)
    assert collected(redis_client, 4)
    calls = noted(house)
    assert calls == {("aws made", node.pid): 1, ("redis made", node.pid): 2, ("redis closed", node.pid): 1}
    assert node.stop() == 0
    assert noted(house)["aws closed", node.pid] == 1


# --- in this process, with ports in memory -----------------------------------------------------------------------

NOW = 1_800_000_000.0
NOWHERE: Any = "redis://:hush@127.0.0.1:1/1"


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, redis_server: embedded.Server) -> None:
    """Let this process' Celery application find its settings: the session's server, as in every other test."""
    monkeypatch.setenv("WORKERMON_REDIS_URL", redis_server.url)


@pytest.fixture
def memory(configured: None) -> Iterator[testing.Monitor]:
    """Give the tasks of this process ports in memory."""
    monitor = testing.Monitor(now=NOW)
    opened = runtime.open(settings.Settings(redis_url=NOWHERE), monitor.overrides())
    container.use(opened)
    yield monitor
    container.close()
    opened.close()


def worker(number: int = 1, **changes: Any) -> models.Worker:
    """Return a worker; ``number`` makes its id."""
    instance_id = f"i-{number:017x}"
    fields = {"id": instance_id, "name": instance_id, "region": "us-east-1", "added_at": NOW, "incarnation": "one"}
    return models.Worker(**(fields | changes))


def test_the_ports_in_memory_take_the_place_of_the_real_ones(memory: testing.Monitor) -> None:
    """A task that is called with identifiers collects from an in-memory EC2 into an in-memory ledger."""
    memory.ec2.put(models.Instance(id=worker().id, region="us-east-1", status="running"))
    memory.workers.add([worker()])
    tasks.collect([worker().id])
    assert memory.workers.get([worker().id])[worker().id].condition.status == "running"
    assert [json.loads(text)["worker_id"] for _, text in memory.store.published] == [worker().id]
    assert memory.liveness.beats() == {"collect": NOW}


def test_what_is_injected_is_no_parameter_of_the_message(configured: None) -> None:
    """A task's signature shows its identifiers, and nothing else can be put into a message."""
    parameters = {
        name: list(inspect.signature(app.tasks[f"workermon.{name}"].run).parameters)
        for name in ("collect", "evaluate", "deliver", "list_statuses", "reconcile")
    }
    assert parameters == {
        "collect": ["worker_ids"], "evaluate": ["worker_ids"], "deliver": ["alert_ids"],
        "list_statuses": ["worker_ids"], "reconcile": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "counted"),
    [
        (((), {}), 1),
        (((3,), {}), 1),
        ((("i-00000000000000001",), {}), 1),
        (((["i-00000000000000001"], "more"), {}), 1),
        (((), {"worker_ids": ["i-00000000000000001"], "ec2": "mine"}), 1),
        (((["i-1", 3, None, {"a": []}, "i-00000000000000001\n"],), {}), 5),
        ((([],), {}), 0),
    ],
    ids=str,
)
def test_what_holds_no_identifiers_is_counted_and_goes_no_further(
    memory: testing.Monitor, arguments: tuple[tuple[Any, ...], dict[str, Any]], counted: int
) -> None:
    """A message without identifiers reaches no stage. It is counted."""
    tasks.collect(*arguments[0], **arguments[1])
    assert memory.liveness.counts() == ({"message.invalid": counted} if counted else {})
    assert memory.liveness.beats() == {}


def test_sound_identifiers_beside_broken_ones_are_worked_on(memory: testing.Monitor) -> None:
    """Valid identifiers in a batch are handled, whatever the others are."""
    memory.ec2.put(models.Instance(id=worker().id, region="us-east-1", status="running"))
    memory.workers.add([worker()])
    tasks.collect(["broken", worker().id, worker().id])
    assert memory.workers.get([worker().id])[worker().id].condition.status == "running"
    assert memory.liveness.counts() == {"message.invalid": 1}


def test_unknown_workers_are_counted(memory: testing.Monitor) -> None:
    """A message about workers that are not monitored is counted and changes nothing."""
    tasks.collect([worker(5).id])
    tasks.evaluate([worker(5).id, worker(6).id])
    assert memory.liveness.counts() == {"message.unknown_worker": 3}


def test_an_evaluation_enqueues_alerts_with_transitions(memory: testing.Monitor) -> None:
    """An evaluation enqueues a delivery for each alert with a transition."""
    memory.workers.add([worker()])
    points = tuple(models.Datapoint(int(NOW) - 3600 + 300 * number, 97.0) for number in range(12))
    sample = models.Sample(
        worker=worker(), collected_at=NOW, status="running",
        series={"cpu_utilization": models.Series(300, points)}, requested_at={"cpu_utilization": NOW},
    )  # fmt: skip
    condition = models.Condition(
        status="running", collected_at=NOW, succeeded_at=NOW, running_since=NOW - 3600,
        periods={"cpu_utilization": 300}, requested_at={"cpu_utilization": NOW},
    )  # fmt: skip
    memory.samples.write(sample, condition, "{}")
    tasks.evaluate([worker().id])
    assert memory.dispatcher.delivered
    assert all(alert_id.startswith(f"{worker().id}/") for alert_id in memory.dispatcher.delivered)


def test_a_reconciliation_puts_back_what_is_missing(memory: testing.Monitor) -> None:
    """The task without identifiers writes a missing entry of a worker."""
    memory.ec2.put(models.Instance(id=worker().id, region="us-east-1", status="running"))
    memory.workers.add([worker()])
    tasks.reconcile()
    assert memory.schedule.ids() == {worker().id}


def test_reconciliations_take_one_thread(memory: testing.Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are requested while EC2 does not answer return at once, and are made up for by one more."""
    memory.ec2.put(models.Instance(id=worker().id, region="us-east-1", status="running"))
    memory.workers.add([worker()])
    asks, may_answer, describe = threading.Semaphore(0), threading.Event(), memory.ec2.describe

    def hanging(scope: models.AccountRegion, worker_ids: Sequence[str]) -> dict[str, models.Instance]:
        asks.release()
        assert may_answer.wait(60)
        return describe(scope, worker_ids)

    monkeypatch.setattr(memory.ec2, "describe", hanging)
    with ThreadPoolExecutor(1, initializer=app.set_current) as pool:
        first = pool.submit(tasks.reconcile)
        assert asks.acquire(timeout=60)
        for _ in range(3):
            tasks.reconcile()
        may_answer.set()
        first.result(60)
    assert asks.acquire(blocking=False)
    assert not asks.acquire(blocking=False)


def test_a_lost_redis_fails_the_task_in_one_line(
    memory: testing.Monitor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is logged. The task is not retried, because the next interval or the sweep repeats it."""
    container.close()
    lost = runtime.open(settings.Settings(redis_url=NOWHERE))
    container.use(lost)
    with pytest.raises(Exception, match=r"127\.0\.0\.1:1"):
        tasks.collect([worker().id])
    assert "hush" not in capsys.readouterr().out
    lost.close()


class Hook:
    """A user's code for violations."""

    def violated(self, notification: models.Notification) -> None:
        """Do nothing."""


def test_hooks_for_violations_come_from_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class or an object that an installed package names is loaded. A failing one stops nothing."""

    class Point:
        def __init__(self, name: str, target: Any) -> None:
            self.name, self.target = name, target

        def load(self) -> Any:
            if isinstance(self.target, Exception):
                raise self.target
            return self.target

    points = [Point("b", Hook), Point("a", ImportError("no")), Point("c", Hook())]
    monkeypatch.setattr(runtime, "entry_points", lambda group: points if group == "workermon.violations" else [])
    with runtime.open(settings.Settings()) as opened:
        hooks = opened.get(Sequence[ports.Violations])
    assert [type(hook) for hook in hooks] == [Hook, Hook]


def test_opening_a_container_connects_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container can be opened without Redis, AWS and settings."""
    for name in ("WORKERMON_REDIS_URL", "WORKERMON_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)

    def opened_and_closed() -> bool:
        began = time.monotonic()
        runtime.open().close()
        return time.monotonic() - began < 1

    eventually(opened_and_closed, description="a container opened within a second, unless the machine is busy")
