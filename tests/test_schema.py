"""The version of the stored data: an older process refuses newer data, a newer one migrates older data."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.contract import builders
from tests.integration.celery_house import House, opened
from workermon import config, errors, fleet, models, ports, testing
from workermon.on_redis import client, configurations, keys, schema, setup, silences, workers

SILENCE = models.Silence(id="s", rule="r", begins=0, ends=10, reason="why", by="me")


@pytest.fixture
def connected(redis_url: str) -> Iterator[redis.Redis]:
    """Give a client like workermon's own."""
    with contextlib.closing(client.connect(redis_url)) as new_connection:
        yield new_connection


def _at(monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    monkeypatch.setattr(models, "SCHEMA", version)


def _to_two(migrated_client: redis.Redis, renew: Callable[[], None]) -> None:
    """Rename the silences of version 1, unless that was done."""
    if migrated_client.exists("workermon:silences"):
        migrated_client.rename("workermon:silences", "workermon:lease:silences-2")
    renew()


def _without_version(migrated_client: redis.Redis) -> None:
    """Fill a server as a workermon did that wrote no version."""
    silences.RedisSilences(migrated_client).add(SILENCE)
    migrated_client.delete(keys.SCHEMA)


def test_an_empty_server_gets_the_present_version(connected: redis.Redis) -> None:
    """It is written once, and stays as it is."""
    schema.RedisSchema(connected).prepare()
    assert connected.get(keys.SCHEMA) == str(models.SCHEMA).encode()
    schema.RedisSchema(connected).prepare()
    assert connected.get(keys.SCHEMA) == str(models.SCHEMA).encode()


def _add(migrated_client: redis.Redis) -> None:
    workers.RedisWorkers(migrated_client).add([builders.worker()])


def _silence(migrated_client: redis.Redis) -> None:
    silences.RedisSilences(migrated_client).add(SILENCE)


def _configure(migrated_client: redis.Redis) -> object:
    return configurations.RedisConfigurations(migrated_client, config.DEFAULT).save(
        config.DEFAULT.model_copy(update={"revision": 1})
    )


def _apply(migrated_client: redis.Redis) -> None:
    applied = setup.RedisSetup(migrated_client, "workermon:test")
    change = ports.Change(applied.version(), {}, [builders.worker()], (), (), None, builders.NOW)
    assert applied.put(change)


@pytest.mark.parametrize("write", [_add, _silence, _configure, _apply])
def test_the_first_write_brings_the_version(connected: redis.Redis, write: Callable[[redis.Redis], None]) -> None:
    """The first write to an empty server stores the version, so nothing has to be migrated."""
    write(connected)
    assert connected.get(keys.SCHEMA) == str(models.SCHEMA).encode()
    schema.RedisSchema(connected, {}).prepare()


@pytest.mark.parametrize("write", [_add, _silence, _configure, _apply])
def test_a_later_write_brings_none(connected: redis.Redis, write: Callable[[redis.Redis], None]) -> None:
    """Data from before versions has none until it is migrated."""
    connected.zadd(keys.OPEN, {"i-0aaaaaaa/r": 1})
    write(connected)
    assert connected.get(keys.SCHEMA) is None


def test_what_has_no_version_has_the_first_one(connected: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data of a workermon that wrote no version is migrated from 1 on, each step once and in order."""
    _without_version(connected)
    _at(monkeypatch, 3)
    steps: list[int] = []

    def first(migrated_client: redis.Redis, renew: Callable[[], None]) -> None:
        steps.append(1)
        _to_two(migrated_client, renew)

    def second(migrated_client: redis.Redis, _renew: Callable[[], None]) -> None:
        assert migrated_client.exists("workermon:lease:silences-2")
        steps.append(2)

    migrations = {1: first, 2: second}
    schema.RedisSchema(connected, migrations).prepare()
    assert steps == [1, 2]
    assert connected.get(keys.SCHEMA) == b"3"
    assert connected.hget("workermon:lease:silences-2", "s") is not None
    schema.RedisSchema(connected, migrations).prepare()
    assert steps == [1, 2]
    connected.expire("workermon:lease:silences-2", 60)


def test_of_many_processes_one_migrates(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other processes wait until the migration is done."""
    _at(monkeypatch, 2)
    started, go_on = threading.Event(), threading.Event()
    runs: list[int] = []

    def migration(_client: redis.Redis, _renew: Callable[[], None]) -> None:
        runs.append(1)
        started.set()
        assert go_on.wait(30)

    with contextlib.closing(client.connect(redis_url)) as migrated_client:
        migrated_client.set(keys.SCHEMA, 1)
        threads = [
            threading.Thread(target=schema.RedisSchema(migrated_client, {1: migration}).prepare, daemon=True)
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        assert started.wait(30)
        assert migrated_client.get(keys.SCHEMA) == b"1"
        assert any(thread.is_alive() for thread in threads)
        go_on.set()
        for thread in threads:
            thread.join(30)
        assert runs == [1]
        assert migrated_client.get(keys.SCHEMA) == b"2"


def test_a_migration_that_failed_is_done_again(connected: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version shows that it is not done, and the lease is released at once."""
    _without_version(connected)
    _at(monkeypatch, 2)

    def dies(migrated_client: redis.Redis, renew: Callable[[], None]) -> None:
        _to_two(migrated_client, renew)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        schema.RedisSchema(connected, {1: dies}).prepare()
    assert connected.get(keys.SCHEMA) == b"1"
    schema.RedisSchema(connected, {1: _to_two}).prepare()
    assert connected.get(keys.SCHEMA) == b"2"
    connected.expire("workermon:lease:silences-2", 60)


def test_a_migration_that_takes_too_long_is_named(connected: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that waits too long for a migration says so."""
    monkeypatch.setattr(schema, "PATIENCE", 0.3)
    _at(monkeypatch, 2)
    connected.set(keys.SCHEMA, 1)
    connected.set(keys.lease(schema.LEASE), "another", ex=60)
    with pytest.raises(errors.SchemaMismatch, match="another process migrates its data; wait until it is done"):
        schema.RedisSchema(connected, {1: _to_two}).prepare()


def test_an_older_process_refuses_what_is_newer(redis_url: str, redis_client: redis.Redis) -> None:
    """Its first command, whichever it is, fails in one line."""
    redis_client.set(keys.SCHEMA, models.SCHEMA + 1)
    with contextlib.closing(client.connect(redis_url)) as migrated_client:
        with pytest.raises(errors.SchemaMismatch) as refused:
            silences.RedisSilences(migrated_client).every()
        assert refused.value.exit_code == 4
        assert str(refused.value).partition(": ")[2] == (
            f"its data has schema {models.SCHEMA + 1}, and this version of workermon knows schema {models.SCHEMA}; "
            "upgrade workermon here, or name another server"
        )


def test_no_part_starts_on_what_is_newer(tmp_path: Path, redis_url: str, redis_client: redis.Redis) -> None:
    """Command, beat and node exit with code 4 and one line. On an empty server they store the version."""

    def refused(house: House, *arguments: str) -> None:
        completed = house.run(*arguments, within=60)
        lines = [line for line in completed.stderr.splitlines() if line.startswith("error: ")]
        assert completed.returncode == 4, completed.stderr
        assert len(lines) == 1
        assert "upgrade workermon here" in lines[0]
        assert "Traceback" not in completed.stderr

    redis_client.set(keys.SCHEMA, models.SCHEMA + 1)
    with opened(tmp_path, redis_url) as house:
        refused(house, "workermon", "list")
        refused(house, "celery", "-A", "workermon", "beat")
        refused(house, "celery", "-A", "workermon", "worker", "-P", "solo")
        refused(house, "workermon", "web")
        refused(house, "workermon", "up")


def test_a_backup_carries_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer backup is refused before anything is written. An older one is migrated."""
    monitor = testing.Monitor()
    monitor.configure()
    text = monitor.get(fleet.BackingUp).back_up()
    with monkeypatch.context() as older:
        older.setattr(models, "SCHEMA", models.SCHEMA + 1)
        newer = monitor.get(fleet.BackingUp).back_up()
    restored = testing.Monitor()
    with pytest.raises(errors.InvalidInput, match=f"is a backup of schema {models.SCHEMA + 1}"):
        restored.get(fleet.Restoring).restore(newer, "x")
    assert restored.saved_states.load() == models.SavedState()

    def migration(document: dict[str, Any]) -> dict[str, Any]:
        return {**document, "state": {**document["state"], "silences": [SILENCE.model_dump(mode="json")]}}

    migrations = {**fleet.backup.MIGRATIONS, models.SCHEMA: migration}
    monkeypatch.setattr(fleet.backup, "MIGRATIONS", migrations)
    _at(monkeypatch, models.SCHEMA + 1)
    restored.get(fleet.Restoring).restore(text, "x")
    assert restored.silences.every() == [SILENCE]


def test_a_restore_writes_the_version(connected: redis.Redis) -> None:
    """Restored data has this version at once."""
    from workermon.on_redis import saved_states

    assert saved_states.RedisSavedStates(connected).replace(models.SavedState(), 0)
    assert connected.get(keys.SCHEMA) == str(models.SCHEMA).encode()
