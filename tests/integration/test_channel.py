"""The channel as seen by a subscriber that has only the event's schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import redis

from tests.integration.celery_house import ROOT, House, opened
from tests.support.waiting import eventually

SCHEMA = json.loads((ROOT / "docs" / "reference" / "event.schema.json").read_text("utf-8"))


@pytest.fixture
def house(redis_url: str, tmp_path: Path) -> Iterator[House]:
    """Give an installation with three instances."""
    with opened(tmp_path, redis_url, workers=3) as opened_house:
        yield opened_house


def next_event(channel: redis.client.PubSub) -> dict[str, Any]:
    """Return the next event."""
    message = eventually(
        lambda: channel.get_message(ignore_subscribe_messages=True, timeout=0.2), within=60, description="an event"
    )
    event: dict[str, Any] = json.loads(message["data"])
    return event


@pytest.mark.integration
def test_each_event_keeps_to_the_schema(house: House, redis_client: redis.Redis) -> None:
    """Running, stopped and impaired workers each publish one valid event per collection."""
    running, stopped, impaired = house.ids
    house.simulation.set_state(stopped, "stopped")
    house.simulation.set_checks(impaired, "ok", "impaired")
    with redis_client.pubsub() as channel:
        channel.subscribe("workermon:metrics")
        assert channel.get_message(timeout=30)["type"] == "subscribe"
        house.add(house.ids, interval="60s")
        events = {event["worker_id"]: event for event in (next_event(channel) for _ in range(3))}
        assert channel.get_message(ignore_subscribe_messages=True, timeout=0.2) is None

    assert events.keys() == set(house.ids)
    for event in events.values():
        jsonschema.validate(event, SCHEMA, cls=jsonschema.Draft202012Validator)
        assert event["id"].startswith(f"{event['worker_id']}:")
    assert events[running]["metrics"]["cpu_utilization"]["unit"] == "percent"
    assert events[running]["metrics"]["status_check_failed"]["value"] == 0
    assert events[stopped]["status"] == "stopped"
    assert set(events[stopped]["metrics"].values()) == {None}
    assert events[impaired]["metrics"]["status_check_failed"]["value"] == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("schema", 2), ("status", "gone"), ("collected_at", "yesterday"), ("metrics", {"cpu_utilization": 0})],
)
def test_the_schema_can_refuse(field: str, value: object) -> None:
    """The schema refuses an invalid event, so the other test can fail."""
    sound = {
        "schema": 1,
        "event": "worker.metrics.collected",
        "id": "i-0abc0123456789def:29398201",
        "worker_id": "i-0abc0123456789def",
        "worker_name": "render-07",
        "region": "us-east-1",
        "collected_at": "2026-11-23T16:00:05.123Z",
        "status": "running",
        "status_checks": {"system": "ok", "instance": "ok"},
        "metrics": {"cpu_utilization": None},
    }
    jsonschema.validate(sound, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**sound, field: value}, SCHEMA)
