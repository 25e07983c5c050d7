"""A summary of the fleet on a real server: unreadable records are left out alone."""

from __future__ import annotations

import contextlib

import pytest

from tests.contract import builders
from tests.contract.builders import A, B
from workermon import ports
from workermon.on_redis import client, keys, workers


@pytest.mark.parametrize(
    ("field", "text", "remaining"),
    [
        ("spec", b"\xff{", [B]),
        ("spec", b"[]", [B]),
        ("spec", b'{"id": 1}', [B]),
        ("spec", b"a\x1eb\x1fc", [B]),
        ("spec", builders.worker().model_dump_json().replace('"interval":60', '"interval":0').encode(), [B]),
        ("condition", b"\xff{", [A, B]),
        ("condition", b"[1]", [A, B]),
        ("condition", b'{"status": "running\\" 1", "collected_at": 1.5}', [A, B]),
        ("condition", b'{"latest": {"cpu_utilization": ["x", []]}}', [A, B]),
        ("condition", b"\x1e\x1e", [A, B]),
        ("last_error", b"{", [A, B]),
    ],
)
def test_garbage_stops_no_other(redis_url: str, field: str, text: bytes, remaining: list[str]) -> None:
    """A worker with an unreadable set-up is left out. One with an unreadable condition has no condition."""
    with contextlib.closing(client.connect(redis_url)) as connection:
        repository = workers.RedisWorkers(connection)
        repository.add([builders.worker(), builders.worker(B)])
        connection.hset(keys.worker(A), field, text)
        summaries = list(repository.summaries())
        assert [summary.id for summary in summaries] == remaining
        assert summaries == [ports.WorkerSummary.of(record) for record in repository.every()]
        assert list(connection.hkeys(keys.UNREADABLE)) != []


def test_a_fleet_is_read_in_order(redis_url: str) -> None:
    """A fleet of more than one chunk is read completely and in order."""
    ids = [f"i-{number:017x}" for number in range(1201)]
    with contextlib.closing(client.connect(redis_url)) as connection:
        repository = workers.RedisWorkers(connection)
        repository.add([builders.worker(worker_id) for worker_id in ids])
        assert [summary.id for summary in repository.summaries()] == ids
