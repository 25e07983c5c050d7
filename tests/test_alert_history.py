"""The history of alerts: limited by age and bytes, read in pages, and migrated from its earlier form."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis

from tests.contract import builders
from tests.contract.builders import NOW, A, AlertChange, B
from tests.support.repositories import Repository, install, repository_in_memory, repository_on_redis
from workermon import models, ports, testing, views
from workermon.on_redis import client, history, keys, schema

ALERT = f"{A}/cpu-high"
EVERYTHING = views.AlertFilter(state="all")


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    """Give a client as every process has it."""
    with contextlib.closing(client.connect(redis_url)) as new_connection:
        yield new_connection


def judge(repository: Repository, *changes: AlertChange, worker_id: str = A, at: float = NOW) -> None:
    """Commit a verdict."""
    basis = repository.alerts.load([worker_id])[worker_id]
    assert repository.alerts.commit(builders.verdict(basis, *changes, at=at))


def fire(repository: Repository, number: int, worker_id: str = A, step: int = 60) -> None:
    """Let an alert fire and end so many times, a step of seconds apart."""
    for episode in range(number):
        since = NOW + 2 * step * episode
        for place, status in enumerate(("firing", "resolved")):
            change = AlertChange(status, version=2 * episode + place + 1, at=since + step * place, since=since)
            judge(repository, change, worker_id=worker_id, at=change.at)


def view(repository: Repository) -> views.AlertView:
    """Return the view over a repository."""
    monitor = testing.Monitor(now=NOW + models.DAY)
    install(monitor, repository)
    return monitor.get(views.AlertView)


def pages(of: views.AlertView, limit: int, chosen: views.AlertFilter = EVERYTHING) -> list[views.AlertRow]:
    """Return all rows, read a page after the other."""
    read_rows: list[views.AlertRow] = []
    after = None
    while True:
        rows, after = of.pages.page(chosen, limit=limit, after=after)
        read_rows += rows
        assert len(rows) == limit or after is None
        if after is None:
            return read_rows


def test_pages_are_the_list(repository: Repository) -> None:
    """Of alerts that fire, that are over, that share a time, whatever the size of a page."""
    repository.workers.add([builders.worker(), builders.worker(B)])
    fire(repository, 25)
    fire(repository, 10, B, step=150)
    for worker_id, version in ((A, 51), (B, 21)):
        change = AlertChange(version=version, at=NOW + 9000, since=NOW + 9000)
        judge(repository, change, worker_id=worker_id, at=NOW + 9000)
    claims = repository.outbox.claim(ALERT, NOW + 9000, 15)
    repository.outbox.delivered(claims[0], NOW + 9000.0)
    expected = list(view(repository).list(EVERYTHING).alerts)
    assert len(expected) == 37
    assert [row.open for row in expected] == [True] * 2 + [False] * 35
    assert sum(len(row.deliveries or ()) for row in expected) == 1
    assert expected == sorted(expected, key=views.alert_position)
    for limit in (1, 2, 7, 36, 37, 100):
        assert pages(view(repository), limit) == expected
    late = views.AlertFilter(state="all", since=NOW + 1200, worker=B)
    assert pages(view(repository), 2, late) == [
        row for row in expected if row.worker is not None and row.worker.id == B and (row.open or row.at >= _text(1200))
    ]


def _text(after: int) -> str:
    return models.rfc3339(NOW + after)


class _Counting:
    """Alerts that count how many transitions were read of them."""

    def __init__(self, alerts: ports.Alerts) -> None:
        self._alerts, self.read = alerts, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._alerts, name)

    def timeline(self, *times: float) -> Iterator[ports.Recorded]:
        """Count the reads of the whole timeline."""
        for record in self._alerts.timeline(*times):
            self.read += 1
            yield record

    def recorded(self, alert_id: str, number: int | None = None) -> Iterator[ports.Recorded]:
        """Count the reads of one alert."""
        for record in self._alerts.recorded(alert_id, number):
            self.read += 1
            yield record


def test_a_page_reads_no_more_than_it_needs() -> None:
    """Of thousands of transitions a page of ten takes some dozens, wherever it begins."""
    repository = repository_in_memory()
    repository.workers.add([builders.worker()])
    fire(repository, 1500)
    counting: Any = _Counting(repository.alerts)
    of = view(repository._replace(alerts=counting))
    _, after = of.pages.page(EVERYTHING, limit=10, after=None)
    first, counting.read = counting.read, 0
    assert len(of.pages.page(EVERYTHING, limit=10, after=after).rows) == 10
    assert after is not None
    middle = (1, -float(NOW + 90_000), "", "")
    following, counting.read = counting.read, 0
    assert len(of.pages.page(EVERYTHING, limit=10, after=middle).rows) == 10
    assert max(first, following, counting.read) < 60
    assert len(of.list(EVERYTHING).alerts) == 1500, "there is no cap"


def test_an_episode_goes_on_where_a_page_ends(repository: Repository) -> None:
    """A change of severity is never a row of its own, even across pages. A long episode has all its attempts."""
    repository.workers.add([builders.worker(), builders.worker(B)])
    judge(repository, AlertChange(version=1, at=NOW, since=NOW), at=NOW)
    repository.outbox.delivered(repository.outbox.claim(ALERT, NOW, 15)[0], NOW + 1.0)
    judge(repository, AlertChange(version=2, at=NOW + 60, since=NOW), at=NOW + 60)
    fire(repository, 40, B)
    judge(repository, AlertChange("resolved", version=3, at=NOW + 9000, since=NOW), at=NOW + 9000)
    rows = pages(view(repository), 3)
    assert len(rows) == 41
    assert [row.version for row in rows if row.dedup_key == ALERT] == [3]
    assert [delivery.notification for delivery in rows[0].deliveries or ()] == [f"{ALERT}#1"]


def test_the_history_is_bounded_in_bytes(connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest transitions go first, whichever alert they are of, and nothing of them is left."""
    repository = repository_on_redis(connection)
    repository.workers.add([builders.worker(), builders.worker(B)])
    fire(repository, 20, B)
    fire(repository, 20)
    stored_bytes = int(connection.get(keys.HISTORY_SIZE) or 0)
    entries: Any = connection.hgetall(keys.HISTORY_ENTRIES)
    assert stored_bytes == sum(map(len, entries.values()))
    monkeypatch.setattr(keys, "HISTORY_BYTES", stored_bytes // 2)
    later = NOW + models.DAY
    judge(repository, AlertChange(version=41, at=later, since=later), at=later)
    remaining: Any = connection.hgetall(keys.HISTORY_ENTRIES)
    assert (
        stored_bytes // 2 - 2000
        < sum(map(len, remaining.values()))
        == int(connection.get(keys.HISTORY_SIZE) or 0)
        <= stored_bytes // 2
    )
    newest = repository.alerts.history(limit=1000)
    assert len(newest) == len(remaining) == connection.zcard(keys.TIMELINE)
    numbers = [member for name in (A, B) for member in connection.zrange(keys.numbers_of(f"{name}/cpu-high"), 0, -1)]
    assert sorted(numbers) == sorted(remaining)
    assert min(entry.transition.at for entry in newest) > NOW + 600


def test_a_shorter_setting_takes_effect_with_the_next_transition(connection: redis.Redis) -> None:
    """Older transitions are deleted, and the keys live as long as the setting says."""
    from workermon.on_redis import alerts

    repository = repository_on_redis(connection)
    repository.workers.add([builders.worker()])
    fire(repository, 3, step=models.DAY)
    short = alerts.RedisAlerts(connection, "workermon:metrics", lambda: 2 * models.DAY)
    at = NOW + 5 * models.DAY
    basis = short.load([A])[A]
    assert short.commit(builders.verdict(basis, AlertChange(version=7, at=at, since=at), at=at))
    assert [entry.transition.at for entry in short.history()] == [at, at, NOW + 4 * models.DAY, NOW + 3 * models.DAY]
    for name in (keys.TIMELINE, keys.HISTORY_ENTRIES, keys.numbers_of(ALERT), keys.last(ALERT)):
        assert 0 < connection.ttl(name) <= 2 * models.DAY


def test_many_verdicts_ask_once_how_long_the_history_is_kept(connection: redis.Redis) -> None:
    """The answer is a round trip to Redis, and a verdict for each of 100 workers would make it a hundred times."""
    from workermon.on_redis import alerts

    calls: list[int] = []

    def lifetime() -> int:
        calls.append(len(calls))
        return models.DAY

    repository_on_redis(connection).workers.add([builders.worker(A), builders.worker(B)])
    repository = alerts.RedisAlerts(connection, "workermon:metrics", lifetime)
    bases = repository.load([A, B])
    assert (
        repository.commit_many([builders.verdict(basis, AlertChange(version=1)) for basis in bases.values()])
        == [True] * 2
    )
    assert len(calls) == 1


def _as_schema_1(connection: redis.Redis, entries: Sequence[tuple[float, models.HistoryEntry]]) -> None:
    """Write entries, newest first, as version 1 kept them: with the text of an entry that it wrote."""
    for at, entry in entries:
        alert_id = f"{entry.subject}/{entry.rule}"
        connection.rpush(f"workermon:alert-history:of:{alert_id}", f"{at!r} {entry.model_dump_json(by_alias=True)}")
        connection.zadd("workermon:alert-history:index", {alert_id: at}, gt=True)
        connection.expire(f"workermon:alert-history:of:{alert_id}", 1000)
    connection.expire("workermon:alert-history:index", 1000)


def _place(entry: models.HistoryEntry) -> tuple[float, str]:
    return -entry.at, entry.subject


def test_the_history_of_schema_1_is_migrated(connection: redis.Redis) -> None:
    """Nothing is lost, no old key is left, and a second migration changes nothing."""
    repository = repository_on_redis(connection)
    repository.workers.add([builders.worker(), builders.worker(B)])
    fire(repository, 70)
    fire(repository, 30, B)
    expected = repository.alerts.history(limit=1000)
    rows = view(repository).list(EVERYTHING)
    _as_schema_1(connection, [(float(entry.transition.at), entry) for entry in expected])
    for name in (keys.TIMELINE, keys.HISTORY_ENTRIES, keys.HISTORY_SIZE, keys.HISTORY_NUMBERS,
                 keys.numbers_of(ALERT), keys.numbers_of(f"{B}/cpu-high")):  # fmt: skip
        connection.delete(name)
    assert repository.alerts.history() == []
    for _ in range(2):
        connection.delete(keys.SCHEMA)  # that version wrote none
        schema.RedisSchema(connection).prepare()
        migrated = repository.alerts.history(limit=1000)
        assert sorted(migrated, key=_place) == sorted(expected, key=_place), "but for the order within a second"
        assert repository.alerts.history(ALERT, 1000) == [entry for entry in expected if entry.subject == A]
        assert view(repository).list(EVERYTHING) == rows
        assert not connection.exists("workermon:alert-history:index", f"workermon:alert-history:of:{ALERT}")
    assert connection.get(keys.HISTORY_NUMBERS) == b"200"
    assert int(connection.get(keys.HISTORY_SIZE) or 0) == sum(
        len(history.text(float(entry.transition.at), entry)) for entry in expected
    )
    judge(repository, AlertChange(version=141, at=NOW + 20_000, since=NOW + 20_000), at=NOW + 20_000)
    assert len(repository.alerts.history(ALERT, 1000)) == 141


def test_what_a_transition_takes(connection: redis.Redis) -> None:
    """A transition takes at most one and a half times its text, as docs/reference/redis-keys.md says."""
    repository = repository_on_redis(connection)
    repository.workers.add([builders.worker()])

    def memory() -> int:
        return int(connection.info("memory")["used_memory_dataset"])

    fire(repository, 10)
    before, text = memory(), int(connection.get(keys.HISTORY_SIZE) or 0)
    for number in range(11, 511):
        since = NOW + 120 * number
        for place, status in enumerate(("firing", "resolved")):
            change = AlertChange(status, version=2 * number + place, at=since + 60 * place, since=since, channels=())
            judge(repository, change, at=change.at)
    written = int(connection.get(keys.HISTORY_SIZE) or 0) - text
    print(f"{written / 1000:.0f} bytes of text, {(memory() - before) / 1000:.0f} all in")
    assert memory() - before < 1.5 * written
