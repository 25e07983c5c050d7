"""The alert about unreadable records: whom it notifies, and how ``why`` explains it."""

from __future__ import annotations

from workermon import fleet, models, testing, views
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
