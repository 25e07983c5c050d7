"""Unchanged texts are not parsed again. Every reader gets what was written."""

from __future__ import annotations

import contextlib
import itertools

import pytest
import redis

from tests.contract import builders
from tests.contract.builders import A
from tests.support.repositories import repository_on_redis
from workermon import models
from workermon.on_redis import client, keys, parse_cache, workers


def test_a_text_is_parsed_once_until_it_changes() -> None:
    """Each record has its own text. An unreadable one is tried each time."""
    parsed: list[bytes] = []

    def parse(text: bytes) -> int:
        parsed.append(text)
        return int(text)

    texts = parse_cache.ParseCache(parse)
    assert [texts.parse("a", b"1"), texts.parse("b", b"1"), texts.parse("a", b"1"), texts.parse("a", b"2")] == [
        1,
        1,
        1,
        2,
    ]
    assert parsed == [b"1", b"1", b"2"]
    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal"):
            texts.parse("a", b"x")
    assert texts.parse("a", b"2") == 2
    assert parsed == [b"1", b"1", b"2", b"x", b"x"]


def test_no_more_texts_are_kept_than_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest record is dropped first."""
    monkeypatch.setattr(parse_cache, "MAX_TEXTS", 2)
    numbers = itertools.count(1)
    texts = parse_cache.ParseCache(lambda _: next(numbers))
    for name in ("a", "b"):
        texts.parse(name, b"")
    texts.keep("a", b"new", 0)
    texts.parse("c", b"")
    assert texts.parse("a", b"new") == 0
    assert texts.parse("c", b"") == 3
    assert texts.parse("b", b"") == 4


@pytest.mark.parametrize("last_error", [None, models.CollectionError(kind="aws", message="m", at=1.0, since=1.0)])
def test_a_written_condition_is_read_as_another_process_reads_it(
    redis_url: str,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    last_error: models.CollectionError | None,
) -> None:
    """Whether the reader wrote it or not, the record is the same, and changes by others are seen."""
    with contextlib.closing(client.connect(redis_url)) as connected:
        repository = repository_on_redis(connected)
        worker = builders.worker()
        repository.workers.add([worker])
        sample = builders.sample(worker, (0, 1.0), checks=models.Checks(system="ok", instance="impaired"))
        condition = builders.condition(
            sample,
            latest={"m": models.Datapoint(60, 1.5)},
            cadence={"m": models.Cadence(5, "far")},
            spacing={"m": (60, 120)},
            late={"m": (1, 2)},
            last_error=last_error,
        )
        repository.samples.write_many([(sample, condition, "{}")])
        record = repository.workers.get([A])[A]
        assert record.condition == condition
        monkeypatch.setattr(workers, "_CONDITIONS", parse_cache.ParseCache(models.Condition.model_validate_json))
        assert repository.workers.get([A])[A] == record
        redis_client.hset(keys.worker(A), "condition", '{"status": "stopped"}')
        assert repository.workers.get([A])[A].condition.status == "stopped"
