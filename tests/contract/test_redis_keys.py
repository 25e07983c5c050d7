"""What only a real server shows: its keys, their lifetimes, and races."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
import redis

from tests.contract import builders
from tests.contract.builders import NOW, A, AlertChange, B
from tests.support.repositories import Repository, repository_on_redis
from workermon import models
from workermon.on_redis import alerts, client, keys, samples

T = TypeVar("T")

ALERT = f"{A}/cpu-high"


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    """Give a client as every process has it."""
    with contextlib.closing(client.connect(redis_url)) as connection:
        yield connection


@pytest.fixture
def repository(connection: redis.Redis) -> Repository:
    """Give the ports on the real server."""
    return repository_on_redis(connection)


def traces(redis_client: redis.Redis, worker_id: str = A) -> list[str]:
    """Return every key whose name or value names the worker, except those that outlive it."""
    alone = ("workermon:alert-history:", "workermon:outbox")
    names = [key.decode() for key in redis_client.scan_iter(count=1000)]
    texts = {name: f"{name} {content(redis_client, name)}" for name in names if not name.startswith(alone)}
    return sorted(name for name, text in texts.items() if worker_id in text)


def content(redis_client: redis.Redis, name: str) -> object:
    """Return all that a key holds."""
    readers: dict[bytes | str, Callable[[], object]] = {
        b"zset": lambda: redis_client.zrange(name, 0, -1),
        b"hash": lambda: redis_client.hgetall(name),
        b"set": lambda: redis_client.smembers(name),
        b"list": lambda: redis_client.lrange(name, 0, -1),
        b"string": lambda: redis_client.get(name),
    }
    return readers[redis_client.type(name)]()


def together(*jobs: Callable[[], T]) -> list[T]:
    """Run functions in threads that start at once, and return their results."""
    start = threading.Barrier(len(jobs))
    outcomes: dict[int, T] = {}

    def run(place: int, job: Callable[[], T]) -> None:
        start.wait()
        outcomes[place] = job()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    return [outcomes[place] for place in range(len(jobs))]


def retired_while_written(repository: Repository, incarnation: str) -> None:
    """Add a worker, and retire it while everything that writes about it runs."""
    worker = builders.worker(incarnation=incarnation)
    repository.workers.add([worker])
    builders.write(repository.samples, builders.sample(worker, (-7200, 1.0), (0, 2.0)))
    basis = repository.alerts.load([A])[A]
    repository.alerts.commit(builders.verdict(basis, AlertChange(channels=())))
    last_error = models.CollectionError(kind="denied", message="no", at=NOW)
    retired = threading.Event()

    def until_gone(write: Callable[[int], object]) -> Callable[[], None]:
        def run() -> None:
            for number in range(10_000):
                write(number)
                if retired.is_set():
                    write(number + 1)
                    return

        return run

    def collect(number: int) -> None:
        sample = builders.sample(worker, (number * 600, 1.0), after=number * 60)
        builders.write(repository.samples, sample, force=True)

    def evaluate(_number: int) -> None:
        for basis in repository.alerts.load([A]).values():
            repository.alerts.commit(builders.verdict(basis, AlertChange(version=2, channels=())))

    def retire() -> None:
        try:
            while bases := repository.alerts.load([A]):
                repository.alerts.retire(builders.verdict(bases[A], AlertChange("resolved", channels=())))
        finally:
            retired.set()

    together(
        until_gone(collect),
        until_gone(lambda number: repository.workers.found_dimensions(worker, {"m": []}, number)),
        until_gone(lambda _number: repository.samples.failed(worker, last_error)),
        until_gone(lambda _number: repository.workers.update(worker)),
        until_gone(lambda number: repository.samples.mark_pending([A], NOW + number)),
        until_gone(evaluate),
        retire,
    )


def test_no_write_brings_a_removed_worker_back(repository: Repository, redis_client: redis.Redis) -> None:
    """In many races with a removal no key, member or value of the worker remains."""
    second = builders.worker(B)
    repository.workers.add([second])
    builders.write(repository.samples, builders.sample(second, (0, 1.0)))
    for attempt in range(25):
        retired_while_written(repository, f"life {attempt}")
        assert traces(redis_client) == []
        assert repository.alerts.open() == []
    assert traces(redis_client, B)
    assert repository.workers.ids() == [B]


def test_a_removal_finds_hours_far_apart(repository: Repository, redis_client: redis.Redis) -> None:
    """Every written hour is deleted, also after a long pause or if the clock was set back."""
    worker = builders.worker()
    repository.workers.add([worker])
    for after in (600, -40 * 3600, 90 * 86_400, 89 * 86_400, 0):
        builders.write(repository.samples, builders.sample(worker, (after // 60 * 60 - 60, 1.0), after=after + 0.5))
    assert len([trace for trace in traces(redis_client) if ":ledger:" in trace]) == 5
    repository.alerts.retire(builders.verdict(repository.alerts.load([A])[A]))
    assert traces(redis_client) == []


def test_hours_that_are_over_are_not_looked_for_again(repository: Repository, redis_client: redis.Redis) -> None:
    """The recorded start of the ledger moves on with its oldest hour."""
    worker = builders.worker()
    repository.workers.add([worker])
    builders.write(repository.samples, builders.sample(worker, (0, 1.0)))
    redis_client.delete(keys.ledger(A, NOW))
    builders.write(repository.samples, builders.sample(worker, (30 * 3600, 1.0), after=30 * 3600.0))
    first = redis_client.hget(keys.worker(A), "first_hour")
    assert first is not None
    assert int(first) == NOW + 30 * 3600


def test_an_hour_lives_until_its_end_and_the_retention(connection: redis.Redis, redis_client: redis.Redis) -> None:
    """A shorter retention, set later, does not shorten the lifetime of existing hours."""
    repository = repository_on_redis(connection)
    worker = builders.worker()
    repository.workers.add([worker])

    def write(after: float, retention: int, value: float) -> int:
        sample = builders.sample(worker, (0, value), after=after)
        written = samples.RedisSamples(connection, "workermon:metrics", lambda: retention)
        assert written.write(sample, builders.condition(sample), "{}").outcome == "accepted"
        return redis_client.ttl(keys.ledger(A, NOW))

    assert write(600.0, 7200, 1.0) == pytest.approx(3600 + 7200 - 600, abs=3)
    assert write(660.0, 1800, 2.0) == pytest.approx(3600 + 7200 - 600, abs=3)
    assert write(720.0, 86_400, 3.0) == pytest.approx(3600 + 86_400 - 720, abs=3)


def test_what_outlives_its_worker_has_a_lifetime(repository: Repository, redis_client: redis.Redis) -> None:
    """History is deleted at its age. An outbox with everything delivered leaves no key."""
    repository.workers.add([builders.worker()])
    basis = repository.alerts.load([A])[A]
    repository.alerts.commit(builders.verdict(basis, AlertChange(channels=("ops", "log"))))
    repository.alerts.retire(
        builders.verdict(repository.alerts.load([A])[A], AlertChange("resolved", version=2, channels=("ops",)))
    )
    while claims := repository.outbox.claim(ALERT, NOW, 15):
        for claimed in claims:
            repository.outbox.delivered(claimed, NOW)
    remaining = {key.decode() for key in redis_client.scan_iter()} - {keys.SCHEMA}
    assert remaining == {
        keys.numbers_of(ALERT), keys.attempts(ALERT), keys.last(ALERT), keys.versions(A), keys.FENCE, keys.TIMELINE,
        keys.HISTORY_ENTRIES, keys.HISTORY_SIZE, keys.HISTORY_NUMBERS,
    }  # fmt: skip
    for name in remaining - {keys.FENCE}:
        assert redis_client.ttl(name) == pytest.approx(models.ALERT_HISTORY, abs=5)


def test_adding_at_once_lets_one_in(redis_url: str) -> None:
    """Of many concurrent adds of one worker with different set-ups, one succeeds and the others are refused."""
    connections = [client.connect(redis_url) for _ in range(6)]

    def add(number: int) -> str | int:
        worker = builders.worker(incarnation=f"of {number}", name=f"name {number}")
        try:
            repository_on_redis(connections[number]).workers.add([builders.worker(f"i-1000000{number}"), worker])
        except Exception as refused:
            return type(refused).__name__
        return number

    outcomes = together(*(lambda number=number: add(number) for number in range(6)))
    (winner,) = [outcome for outcome in outcomes if outcome != "InvalidInput"]
    repository = repository_on_redis(connections[0])
    assert repository.workers.ids() == [A, f"i-1000000{winner}"]
    assert repository.workers.get([A])[A].worker.name == f"name {winner}"
    for connection in connections:
        connection.close()


def test_of_many_commits_on_one_basis_one_is_written(repository: Repository, connection: redis.Redis) -> None:
    """The transition is recorded and notified once."""
    repository.workers.add([builders.worker()])
    for number in range(10):
        basis = repository.alerts.load([A])[A]
        verdict = builders.verdict(basis, AlertChange(version=number + 1), at=NOW + number)
        outcomes = together(*[lambda verdict=verdict: repository.alerts.commit(verdict)] * 6)
        assert sorted(outcomes) == [False] * 5 + [True]
    assert repository.outbox.backlog() == 10
    assert len(repository.alerts.history()) == 10


def test_of_many_claims_one_wins_and_order_is_kept(repository: Repository) -> None:
    """Senders that race deliver every notification once, in order."""
    repository.workers.add([builders.worker()])
    for version in range(1, 31):
        repository.alerts.commit(builders.verdict(repository.alerts.load([A])[A], AlertChange(version=version)))
    sent, fences = [], []

    def send() -> None:
        while repository.outbox.backlog():
            for claimed in repository.outbox.claim(ALERT, NOW, 15):
                sent.append(claimed.notification.version)
                fences.append(claimed.fence)
                repository.outbox.delivered(claimed, NOW)

    together(*[send] * 5)
    assert sent == list(range(1, 31))
    assert len(set(fences)) == 30


def test_what_redis_py_sends_twice_counts_once(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit, claim, delivery, configuration and add recognize their own repetition after a lost answer."""
    monkeypatch.setattr(secrets, "token_hex", lambda size: "the same call")
    worker = builders.worker()
    for _ in range(2):
        repository.workers.add([worker])
    verdict = builders.verdict(repository.alerts.load([A])[A], AlertChange())
    assert [repository.alerts.commit(verdict) for _ in range(2)] == [True, True]
    assert repository.outbox.backlog() == 1
    assert len(repository.alerts.history()) == 1
    first, second = (repository.outbox.claim(ALERT, NOW, 15) for _ in range(2))
    assert first == second != []
    assert [repository.outbox.delivered(first[0], NOW) for _ in range(2)] == [None, None]
    assert len(repository.alerts.history()[0].attempts) == 1
    configuration = repository.configurations.load().model_copy(update={"revision": 1})
    assert [repository.configurations.save(configuration) for _ in range(2)] == [True, True]


def test_each_step_is_one_script(repository: Repository, connection: redis.Redis, redis_client: redis.Redis) -> None:
    """A sample is one call of the server. So are the reading and the writing of an evaluation."""
    worker = builders.worker()
    repository.workers.add([worker])

    def calls(of: Callable[[], object]) -> int:
        """Count the commands that came from a client, not from a script."""
        redis_client.config_resetstat()
        of()
        stats = redis_client.info("commandstats")
        return sum(int(stats.get(name, {}).get("calls", 0)) for name in ("cmdstat_evalsha", "cmdstat_eval"))

    def write() -> None:
        builders.write(repository.samples, builders.sample(worker, (0, 1.0)), force=True)

    def judge() -> None:
        repository.alerts.commit(builders.verdict(repository.alerts.load([A])[A], AlertChange(notified=False)))

    for step, expected in ((write, 1), (judge, 2)):
        step()
        assert calls(step) == expected


def test_a_commit_that_only_moves_on_writes_one_hash(repository: Repository, redis_client: redis.Redis) -> None:
    """Without a transition nothing is recorded, published or queued."""
    worker = builders.worker()
    repository.workers.add([worker])
    basis = repository.alerts.load([A])[A]
    repository.alerts.commit(builders.verdict(basis, AlertChange()))
    basis = repository.alerts.load([A])[A]
    redis_client.config_resetstat()
    repository.alerts.commit(builders.verdict(basis))
    stats = redis_client.info("commandstats")
    written = {name.removeprefix("cmdstat_") for name in stats} & {
        "hset", "lpush", "rpush", "zadd", "set", "sadd", "expire", "publish", "ltrim",
    }  # fmt: skip
    assert written == {"hset"}
    assert stats["cmdstat_hset"]["calls"] == 1


def test_a_reader_never_sees_half_a_commit(repository: Repository, redis_url: str) -> None:
    """In every basis that is read during commits, state and version match."""
    repository.workers.add([builders.worker()])
    finished = threading.Event()

    def write() -> None:
        for version in range(1, 101):
            repository.alerts.commit(builders.verdict(repository.alerts.load([A])[A], AlertChange(version=version)))
        finished.set()

    def read() -> str:
        with contextlib.closing(client.connect(redis_url)) as second_client:
            reader = alerts.RedisAlerts(second_client, "workermon:metrics")
            while not finished.is_set():
                basis = reader.load([A])[A]
                version = basis.alerts["cpu-high"].version if basis.alerts else 0
                assert version == basis.version == basis.last_versions.get("cpu-high", 0)
        return "whole"

    assert together(write, read, read)[1:] == ["whole", "whole"]
