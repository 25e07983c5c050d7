"""A backup and its restore: nobody is notified twice, and every undelivered notification is kept."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.support.commands import REGION, A, B, Ports, fires, one_line
from workermon import errors, fleet, models, testing


def _step(monitor: testing.Monitor, minutes: int, value: float) -> None:
    for _ in range(minutes):
        monitor.clock.advance(60)
        slot = int(monitor.clock()) // 300 * 300 - 300
        monitor.cloudwatch.put(A, "CPUUtilization", [(slot, value)])
        monitor.collect()
        monitor.evaluate()
        monitor.deliver()


def _firing() -> testing.Monitor:
    """Return a monitor with an alert that fires and was delivered."""
    monitor = testing.Monitor()
    monitor.ec2.put(models.Instance(id=A, region=REGION, status="running", name="render-01"))
    monitor.configure()
    scope = models.AccountRegion(region=REGION)
    monitor.get(fleet.Adding).add([A], fleet.AddOptions(scope=scope))
    _step(monitor, 40, 97.0)
    assert [notification.status for notification in monitor.received] == ["firing"]
    return monitor


def _moved(monitor: testing.Monitor) -> testing.Monitor:
    """Return an empty monitor of the same AWS after a restore."""
    text = monitor.get(fleet.BackingUp).back_up()
    restored = testing.Monitor(now=monitor.clock())
    restored.ec2, restored.cloudwatch = monitor.ec2, monitor.cloudwatch
    restored.get(fleet.Restoring).restore(text, "x")
    return restored


def test_after_a_restore_nobody_is_notified_twice() -> None:
    """A firing alert keeps version, beginning, severity and cursor. Only its end notifies."""
    monitor = _firing()
    restored = _moved(monitor)
    assert restored.alerts.open() == monitor.alerts.open()
    assert restored.alerts.load([A])[A].version == monitor.alerts.load([A])[A].version
    assert restored.alerts.history() == monitor.alerts.history()
    _step(restored, 20, 97.0)
    assert restored.received == []
    assert restored.alerts.open()[0].since == monitor.alerts.open()[0].since
    _step(restored, 40, 10.0)
    assert [(notification.status, notification.version) for notification in restored.received] == [("resolved", 2)]


def test_what_was_not_delivered_is_sent_once() -> None:
    """A notification in the outbox is sent after the restore, with its id."""
    monitor = _firing()
    monitor.clock.advance(1)
    saved = monitor.saved_states.load()
    (sent,) = monitor.received
    waiting = models.SavedQueue(alert_id=sent.dedup_key, channel="log", notifications=(sent,))
    restored = testing.Monitor(now=monitor.clock())
    assert restored.saved_states.replace(saved.model_copy(update={"queues": (waiting,)}), monitor.clock())
    restored.deliver()
    restored.deliver()
    assert [notification.id for notification in restored.received] == [sent.id]


def test_no_secret_is_in_a_backup_and_an_external_id_comes_back_by_name() -> None:
    """The external id is looked up by the account of the configuration."""
    monitor = _firing()
    secret = models.SecretRef(env="OPS_ID")
    monitor.configure(accounts={"ops": models.Account(role_arn="arn:aws:iam::123456789012:role/w", external_id=secret)})
    worker = monitor.workers.get([A])[A].worker
    monitor.workers.update(worker.model_copy(update={"account": "ops", "external_id": "hunter2"}))
    text = monitor.get(fleet.BackingUp).back_up()
    assert "hunter2" not in text
    restored = testing.Monitor(now=monitor.clock())
    restored.secrets = lambda ref: f"value of {ref.env}"
    assert restored.get(fleet.Restoring).restore(text, "x").without_external_id == ()
    assert restored.workers.get([A])[A].worker.external_id == "value of OPS_ID"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 2}', "[" * 100_000])
def test_what_is_no_backup_is_refused(text: str) -> None:
    """It is refused in one line, and nothing is written."""
    monitor = testing.Monitor()
    with pytest.raises(errors.InvalidInput):
        monitor.get(fleet.Restoring).restore(text, "x")
    assert monitor.saved_states.load() == models.SavedState()


def test_by_the_commands(run: Callable[..., Result], ok: Callable[..., str], world: Ports, tmp_path: Path) -> None:
    """Only the owner can read the file. A server with data is refused without --force."""
    ok("add", A, B)
    fires(world, A)
    ok("silence", "--worker", B, "--for", "2h", "--reason", "new disk")
    ok("ack", f"{A}/cpu-high")
    before = world.saved_states.load()
    file = tmp_path / "x.json"
    ok("backup", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert json.loads(ok("backup", "-"))["state"] == json.loads(file.read_text("utf-8"))["state"]
    assert "--force" in one_line(run("restore", str(file)), 2)
    ok("remove", B)
    world.clock.advance(1)
    assert "workers: 2, open alerts: 1" in ok("restore", str(file), "--force")
    assert world.saved_states.load() == before
    assert world.schedule.ids() == {A, B}
    assert world.audit.entries(0)[0].action == "restore"
