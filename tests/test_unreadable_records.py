"""The alert about unreadable records: whom it notifies, and how ``why`` explains it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from workermon import config, fleet, models, testing, views
from workermon.config import export
from workermon.on_redis import client, configurations, keys, silences, unreadable_records
from workermon.testing.control import MemoryUnreadable

RECORDS = "*/*/records"
A = "i-0aaaaaaaaaaaaaaaa"


def unreadable() -> tuple[testing.Monitor, MemoryUnreadable]:
    """Return a monitor of one worker and one unreadable record."""
    monitor, records = testing.Monitor(now=1_700_000_000.0), MemoryUnreadable()
    monitor.unreadable = records
    monitor.ec2.put(models.Instance(id=A, region="us-east-1", status="running", name="a"))
    monitor.get(fleet.Adding).add([A], fleet.AddOptions(scope=models.AccountRegion(region="us-east-1"), interval=60))
    records.reasons["workermon:worker:i-1 spec"] = "it is no JSON"
    return monitor, records


def notified(monitor: testing.Monitor) -> list[str]:
    """Return the notifications about unreadable records, oldest first."""
    return [entry.notification.status for entry in reversed(monitor.alerts.history(RECORDS, 10)) if entry.notification]


def test_a_silenced_alert_notifies_when_the_silence_ends() -> None:
    """If it still fires at the silence's end, it notifies. If it never notified, its end does not."""
    monitor, records = unreadable()
    begins = monitor.clock()
    silence = models.Silence(id="s", rule="records", begins=begins, ends=begins + 600, reason="known", by="me")
    monitor.silences.add(silence)
    monitor.evaluate(A)
    assert monitor.outbox.due(begins + 100, 10) == []
    monitor.clock.advance(601)
    monitor.evaluate(A)
    assert [claimed.channel for claimed in monitor.outbox.claim(RECORDS, monitor.clock(), 5)] == ["log"]
    records.reasons.clear()
    monitor.evaluate(A)
    assert notified(monitor)[-1] == "resolved"


def test_why_says_which_records_cannot_be_read() -> None:
    """It names each, also before the alert was evaluated."""
    monitor, records = unreadable()
    explain = monitor.get(views.ExplainInstallation)
    now = "workermon:worker:i-1 spec (it is no JSON)"
    assert (explain.explain("records").state, explain.explain("records").now) == ("ok", now)
    monitor.evaluate(A)
    assert (explain.explain("records").state, explain.explain("records").now) == ("warning", now)
    records.reasons.clear()
    monitor.evaluate(A)
    explanation = explain.explain("records")
    assert (explanation.state, explanation.now) == ("ok", "every record can be read")


def test_a_stored_time_outside_the_calendar_costs_only_itself(redis_url: str) -> None:
    """A maintenance window or a silence with one, stored by an earlier version, is left out. All others are shown."""
    with contextlib.closing(client.connect(redis_url)) as connection:
        repository = configurations.RedisConfigurations(connection, config.DEFAULT)
        windows = [
            models.Maintenance(id=name, rule="cpu-high", reason="x", begins=0.0, ends=1.0)
            for name in ("file-1", "file-2")
        ]
        assert repository.save(config.DEFAULT.model_copy(update={"revision": 1, "silences": tuple(windows)}))
        raw: Any = connection.hget(keys.CONFIGURATION, "document")
        document = json.loads(raw)
        document["silences"][0]["begins"] = -62_135_647_200.0
        connection.hset(keys.CONFIGURATION, "document", json.dumps(document))
        stored_silences = silences.RedisSilences(connection)
        silence = models.Silence(id="s", rule="cpu-high", begins=0.0, ends=2e9, reason="x", by="me")
        stored_silences.add(silence)
        connection.hset(keys.SILENCES, "t", json.dumps({**json.loads(silence.model_dump_json()), "ends": 1e300}))
        read = configurations.RedisConfigurations(connection, config.DEFAULT).load()
        assert ([window.id for window in read.silences], read.complete) == (["file-2"], False)
        assert stored_silences.every() == [silence]
        assert export.text(read, []).count("[[silences]]") == 1
        named = unreadable_records.RedisUnreadable(connection).load()
        assert all("outside the calendar" in reason for reason in named.values())
        assert sorted(named) == [f"{keys.CONFIGURATION} silences.0", f"{keys.SILENCES} t"]
