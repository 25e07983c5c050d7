"""Evaluation over in-memory ports: from samples in the ledger to alerts, their history and the outbox."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.evaluating import CPU, ID, MINUTE, QUIET, T0, Site, points
from tests.support.present import present
from tests.support.repositories import Repository, install
from tests.support.rules import changed
from workermon import models, ports
from workermon.alerts import lifecycle
from workermon.models import Count, Levels, Series
from workermon.rules import threshold

CHECK = threshold.KIND.rule(
    name="check", metric="status_check_failed", above=Levels(critical=0), breach=Count(m=2, n=2), notify=("ops",)
)


class Hook:
    """A user's own code."""

    def __init__(self, last_error: Exception | None = None) -> None:
        self.notifications: list[models.Notification] = []
        self.last_error = last_error

    def violated(self, notification: models.Notification) -> None:
        self.notifications.append(notification)
        if self.last_error:
            raise self.last_error


def test_fires_and_resolves() -> None:
    """An alert fires at its third bad datapoint and resolves at its second good one. Its channels get each once."""
    site = Site()
    site.minutes([95, 96, 97.5, 98, 40, 30, 20])
    assert site.notified() == [("firing", "critical", 2), ("resolved", "critical", 5)]
    fired, resolved = [entry.notification for entry in reversed(site.alerts.history()) if entry.notification]
    assert (fired.value, fired.threshold, len(fired.points)) == (97.5, 90, 3)
    assert (fired.version, resolved.version) == (1, 2)
    assert fired.since == resolved.since == fired.at
    assert (resolved.value, resolved.threshold, len(resolved.points)) == (30, 80, 2)
    assert set(site.store.queues) == {(f"{ID}/cpu-high", "ops")}
    assert [notification.id for notification in site.store.queues[f"{ID}/cpu-high", "ops"].waiting] == [
        fired.id,
        resolved.id,
    ]


def test_severity_changes() -> None:
    """A change of severity notifies as firing. A resolved alert has the severity of the last notification."""
    site = Site(changed(CPU, breach=Count(m=1, n=1), recover=Count(m=1, n=1)))
    site.minutes([85, 95, 85, 50])
    assert site.notified() == [
        ("firing", "warning", 0), ("firing", "critical", 1), ("firing", "warning", 2), ("resolved", "warning", 3),
    ]  # fmt: skip
    assert {entry.notification.since for entry in site.alerts.history() if entry.notification} == {models.rfc3339(T0)}


def test_returns_whom_to_deliver() -> None:
    """An evaluation returns exactly the alerts with something to deliver."""
    site = Site()
    site.collected(T0 + 600, points([95, 95]))
    assert site.evaluate() == []
    site.collected(T0 + 660, points([95, 95, 95]))
    assert site.evaluate() == [f"{ID}/cpu-high"]
    assert site.evaluate() == []


def test_episode_over_before_seen() -> None:
    """An episode that ended before its evaluation is recorded with its times, and notifies nobody."""
    site = Site()
    site.collected(T0 + 900, points([95, 95, 95, 20, 20, 20]))
    assert site.evaluate() == []
    assert site.recorded() == [("critical", 2, False, False), (None, 4, False, False)]


def test_any_grouping_records_the_same() -> None:
    """One evaluation of an hour records the same as sixty, one a minute: same times, same final state."""
    values = [95.0 if slot % 17 in (3, 4, 5, 6, 9) else 20.0 for slot in range(60)]
    sixty, single = Site(), Site()
    sixty.minutes(values)
    for slot, value in enumerate(values):
        at = T0 + MINUTE * slot
        single.collected(at + 3 * MINUTE, {at: value})
    single.evaluate()
    assert [transition[:3] for transition in single.recorded()] == [transition[:3] for transition in sixty.recorded()]
    assert len(single.recorded()) >= 6
    assert single.alert().rule_state == sixty.alert().rule_state


def test_late_datapoint_corrects() -> None:
    """A late datapoint that undoes an alert is recorded as a correction. The present state notifies."""
    site = Site(changed(CPU, missing="breach"))
    site.collected(T0, {})
    site.collected(T0 + 5 * MINUTE, points([95, 95]))
    site.evaluate()
    assert site.notified() == [("firing", "critical", 2)]
    site.collected(T0 + 5 * MINUTE + 1, points([95, 95, 20]))
    site.evaluate()
    assert site.notified() == [("firing", "critical", 2), ("resolved", "critical", 2)]
    assert site.recorded()[-1] == (None, 2, True, True)
    notification = site.alert().last
    assert notification
    assert notification.reason
    assert "came late" in notification.reason
    assert notification.summary.endswith(
        ": cpu_utilization 20 % now, 2 of 3 datapoints > 90 %: not critical after all, a datapoint came late"
    )
    assert (notification.value, notification.threshold) == (20, 90)


def test_a_correction_says_what_is_true_now() -> None:
    """The notification of a withdrawn end has the present value and threshold."""
    site = Site(changed(CPU, missing="ok"))
    site.minutes([95, 95, 95])
    assert site.notified() == [("firing", "critical", 2)]
    site.collected(T0 + 7 * MINUTE, points([95, 95, 95]))
    site.evaluate()
    assert [status for status, *_ in site.notified()] == ["firing", "resolved"]
    site.collected(T0 + 7 * MINUTE + 1, points([95, 95, 95, 96, 97]))
    site.evaluate()
    assert [status for status, *_ in site.notified()] == ["firing", "resolved", "firing"]
    notification = site.alert().last
    assert notification
    assert notification.summary.endswith(
        ": cpu_utilization 97 % now, 3 of 3 datapoints > 90 %: critical after all, a datapoint came late"
    )
    assert (notification.value, notification.threshold) == (97, 90)


def test_failure_is_not_absence() -> None:
    """Without a successful request to CloudWatch nothing is absent, however late it gets."""
    site = Site(changed(CPU, missing="breach"))
    site.collected(T0 + 5 * MINUTE, points([20, 20, 20]))
    site.clock.advance(10 * 3600)
    assert site.evaluate() == []
    assert site.recorded() == []


def test_future_datapoint() -> None:
    """A datapoint from the future does not move the evaluation past slots that are still to come."""
    site = Site()
    site.collected(T0 + 3 * MINUTE, {T0: 95, T0 + 7200: 20})
    site.evaluate()
    site.minutes([95, 95, 95])
    assert site.notified() == [("firing", "critical", 2)]


@pytest.mark.parametrize("status", ["stopping", "stopped", "shutting-down", "terminated"])
def test_not_running_resolves(status: models.Status) -> None:
    """A stopped or terminated worker's alert resolves with the reason, once."""
    site = Site()
    site.minutes([95, 95, 95])
    site.collected(T0 + 400, status=status)
    assert site.evaluate() == [f"{ID}/cpu-high"]
    site.collected(T0 + 460, status=status)
    assert site.evaluate() == []
    last = site.alert().last
    assert last
    assert (last.status, last.severity, last.at) == ("resolved", "critical", models.rfc3339(T0 + 400))
    assert last.reason
    assert ("stopped" if status.startswith("stop") else "terminated") in last.reason
    assert last.summary.endswith(last.reason)


def test_restarted_worker_begins_anew() -> None:
    """Datapoints from before a stop do not count after it."""
    site = Site(changed(CPU, missing="breach"))
    site.minutes([20, 95, 95])
    site.collected(T0 + 400, status="stopped")
    site.evaluate()
    site.collected(T0 + 800, points([20, 95, 95, 95]), status="stopped")
    site.evaluate()
    site.collected(T0 + 1800, {T0 + 1740: 95, T0 + 1680: 95})
    site.evaluate()
    assert site.recorded() == []
    site.collected(T0 + 1860, {T0 + 1800: 95})
    site.evaluate()
    assert site.notified() == [("firing", "critical", 30)]


@pytest.mark.parametrize("status", ["pending", "unknown"])
def test_not_known_is_not_well(status: models.Status) -> None:
    """If EC2 does not give a state, an alert stays unchanged."""
    site = Site()
    site.minutes([95, 95, 95])
    site.collected(T0 + 400, status=status)
    assert site.evaluate() == []
    assert site.alert().notified_severity == "critical"


def test_pause_resolves() -> None:
    """Pausing resolves an alert with the reason. After resuming, only new datapoints count."""
    site = Site()
    site.minutes([95, 95, 95])
    site.workers.update(site.worker.model_copy(update={"monitoring": "paused"}))
    site.evaluate()
    assert site.notified()[-1][:2] == ("resolved", "critical")
    last = site.alert().last
    assert last
    assert last.reason == "monitoring is paused"
    site.workers.update(site.worker)
    site.minutes([95, 95], begin=3)
    assert len(site.notified()) == 2
    site.minutes([95, 95, 95, 95], begin=5)
    assert site.notified()[-1][:2] == ("firing", "critical")


def test_rule_removed() -> None:
    """If a rule is removed, its alert resolves with the reason, and its channels are notified."""
    site = Site()
    site.minutes([95, 95, 95])
    site.change(rules=(QUIET,))
    assert site.evaluate() == [f"{ID}/cpu-high"]
    assert site.notified()[-1][:2] == ("resolved", "critical")
    assert len(site.store.queues[f"{ID}/cpu-high", "ops"].waiting) == 2
    assert "cpu-high" not in site.alerts.load([ID])[ID].alerts
    site.change(rules=(CPU,))
    site.minutes([95, 95, 95], begin=3)
    assert present(site.alert().last).version == 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"rules": (CPU.model_copy(update={"labels": {"team": "vfx"}}),)},
            "the rule applies only to workers with team=vfx",
        ),
        ({"collect": ()}, "is not collected"),
    ],
)
def test_rule_no_longer_applies(changes: dict[str, object], reason: str) -> None:
    """An alert resolves with the reason if its rule no longer applies."""
    site = Site()
    site.minutes([95, 95, 95])
    site.change(**changes)
    site.evaluate()
    last = site.alerts.history()[0].notification
    assert last
    assert last.reason
    assert reason in last.reason


def test_notified_channels_are_notified_of_the_end() -> None:
    """The channels that were notified of an alert are notified of its end, even if the rule has changed."""
    site = Site()
    site.minutes([95, 95, 95])
    site.change(rules=(CPU.model_copy(update={"notify": ("other",)}),))
    site.minutes([20, 20], begin=3)
    assert [notification.status for notification in site.store.queues[f"{ID}/cpu-high", "ops"].waiting] == [
        "firing",
        "resolved",
    ]
    assert (f"{ID}/cpu-high", "other") not in site.store.queues


def test_status_check() -> None:
    """Slots of a status check follow the worker's interval. Two impaired ones fire."""
    site = Site(CHECK)
    for minute, failed in enumerate([False, True, True, None, False, False]):
        site.collected(T0 + MINUTE * minute + 5, failed=failed)
        site.evaluate()
    assert site.notified(f"{ID}/check") == [("firing", "critical", 2), ("resolved", "critical", 5)]


def test_no_data() -> None:
    """Three intervals without a successful collection fire, and the next success resolves."""
    site = Site(QUIET)
    site.collected(T0 + 30)
    site.evaluate()
    site.samples.failed(site.worker, models.CollectionError(kind="denied", message="no", at=T0 + 90))
    site.clock.now = T0 + 210
    assert site.evaluate() == []
    site.clock.now = T0 + 211
    assert site.evaluate() == [f"{ID}/no-data"]
    last = site.alert("no-data").last
    assert last
    assert (last.at, last.kind, last.reason) == (models.rfc3339(T0 + 210), "no-data", "denied: no")
    site.collected(T0 + 300)
    site.evaluate()
    assert [row[:2] for row in site.notified(f"{ID}/no-data")] == [
        ("firing", "critical"),
        ("resolved", "critical"),
    ]


def test_no_data_of_a_stopped_worker() -> None:
    """``no-data`` fires for a stopped worker, because it is still collected, but not for a terminated one."""
    cases: list[tuple[models.Status, int]] = [("stopped", 1), ("terminated", 0)]
    for status, times in cases:
        site = Site(QUIET)
        site.collected(T0, status=status)
        site.clock.now = T0 + 1000
        site.evaluate()
        assert len(site.notified(f"{ID}/no-data")) == times


def test_no_data_after_a_pause() -> None:
    """The time of a pause does not count as silence."""
    site = Site(QUIET)
    site.collected(T0)
    site.evaluate()
    site.workers.update(site.worker.model_copy(update={"monitoring": "paused"}))
    site.clock.now = T0 + 5000
    site.evaluate()
    site.workers.update(site.worker)
    site.clock.now = T0 + 9000
    assert site.evaluate() == []
    site.clock.now = T0 + 9181
    assert site.evaluate() == [f"{ID}/no-data"]


def test_period_change_keeps_the_alert() -> None:
    """An alert stays open over a change of the metric's period and resolves by the new datapoints."""
    site = Site()
    for slot in range(3):
        site.collected(T0 + 300 * slot + 420, {T0 + 300 * slot: 95}, period=300)
        site.evaluate()
    assert site.notified() == [("firing", "critical", 10)]
    site.minutes([20] * 3, begin=15)
    assert site.notified() == [("firing", "critical", 10), ("resolved", "critical", 16)]


def test_new_rule_on_an_old_worker() -> None:
    """A new rule evaluates at most the last hour."""
    site = Site(CHECK)
    at = T0 + 40 * 3600
    site.collected(at, {T0 + 38 * 3600 + MINUTE * slot: 95 for slot in range(118)})
    site.evaluate()
    site.change(rules=(CHECK, CPU))
    site.evaluate()
    ((severity, minute, _, is_notified),) = site.recorded()
    assert (severity, is_notified) == ("critical", True)
    assert 38 * 60 < minute < 39 * 60 + 5


def test_mark_is_cleared() -> None:
    """An evaluation clears the pending mark, also without a transition, unless a new sample was written."""
    site = Site()
    site.collected(T0 + 180, points([20]))
    assert site.samples.pending(T0 + 1000, 10) == [ID]
    site.evaluate()
    assert site.samples.pending(T0 + 1000, 10) == []


class Racing:
    """Alerts whose basis changes ``times`` times between load and commit."""

    def __init__(self, alerts: ports.Alerts, times: int) -> None:
        self._alerts, self.times = alerts, times
        self.history, self.open, self.retire = alerts.history, alerts.open, alerts.retire
        self.recorded, self.timeline = alerts.recorded, alerts.timeline
        self.load_monitor_alerts, self.load_channel = alerts.load_monitor_alerts, alerts.load_channel
        self.load_groups, self.group_ids = alerts.load_groups, alerts.group_ids

    def load(self, worker_ids: Sequence[str]) -> dict[str, ports.Basis[ports.Record]]:
        return self._alerts.load(worker_ids)

    def commit_many(self, verdicts: Sequence[ports.Verdict]) -> list[bool]:
        return [self.commit(verdict) for verdict in verdicts]

    def commit(self, verdict: ports.Verdict) -> bool:
        if self.times:
            self.times -= 1
            # Another evaluator was faster, with the same verdict.
            assert self._alerts.commit(verdict)
        return self._alerts.commit(verdict)


@pytest.mark.parametrize("times", [1, 2, 4])
def test_lost_race(times: int) -> None:
    """After a lost race the evaluation runs again, and each transition notifies once."""
    site = Site()
    site.collected(T0 + 360, points([95, 95, 95]))
    site.alerts = Racing(site.alerts, times)
    site.evaluate()
    assert site.notified() == [("firing", "critical", 2)]


def test_lost_every_race() -> None:
    """An evaluation that loses every race gives up, and its workers stay pending."""
    site = Site()
    site.collected(T0 + 360, points([95, 95, 95]))

    class Never(Racing):
        def commit(self, verdict: ports.Verdict) -> bool:
            return False

    site.alerts = Never(site.alerts, 0)
    assert site.evaluate() == []
    assert site.samples.pending(T0 + 1000, 10) == [ID]


def test_configuration_read_must_match(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are never evaluated by rules of another revision than the basis."""
    site = Site()
    site.collected(T0 + 360, points([95, 95, 95]))
    old = site.configurations.load()
    site.change(rules=(QUIET,))
    new, answers = site.configurations.load(), [old]
    monkeypatch.setattr(site.configurations, "load", lambda: answers.pop() if answers else new)
    assert site.evaluate() == []
    assert site.recorded() == []
    assert site.samples.pending(T0 + 1000, 10) == []


def test_hook() -> None:
    """A user's hook is called for each notification. Its exceptions stop neither others nor alerts."""
    site = Site()
    broken, sound = Hook(RuntimeError("mine")), Hook()
    site.violations = [broken, sound]
    site.minutes([95, 95, 95, 20, 20])
    assert (
        [notification.status for notification in sound.notifications]
        == [notification.status for notification in broken.notifications]
        == ["firing", "resolved"]
    )


def test_one_broken_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the evaluation of one worker fails, the others are evaluated. The failed one stays pending."""
    site = Site()
    other_id = "i-0abc0123456789dee"
    site.add(other_id)
    site.collected(T0 + 360, points([95, 95, 95]))
    site.collected(T0 + 360, points([95, 95, 95]), worker=site.workers.get([other_id])[other_id].worker)
    monkeypatch.setitem(site.store.ledger[ID, "cpu_utilization", 60], T0, None)
    assert site.evaluate(ID, other_id) == [f"{other_id}/cpu-high"]
    assert site.samples.pending(T0 + 1000, 10) == [ID]


def test_unknown_worker() -> None:
    """An unknown worker is skipped."""
    assert Site().evaluate("i-0000000000000dead"[:19]) == []


def test_reads_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All series of all workers are read in one call, and only as far back as the evaluation needs."""
    site = Site()
    site.minutes([20] * 100)
    reads: list[tuple[int, float]] = []
    read = site.samples.read

    def counted(
        series_keys: Sequence[tuple[str, str, int]], since: float, until: float
    ) -> dict[tuple[str, str], Series]:
        read_series = read(series_keys, since, until)
        reads.append((len(series_keys), max(len(series.points) for series in read_series.values())))
        return read_series

    monkeypatch.setattr(site.samples, "read", counted)
    site.minutes([20], begin=100)
    assert reads == [(1, 7)]


def test_version_and_id_over_a_new_life() -> None:
    """A worker that was removed and added again has new ids, and its versions continue."""
    site = Site()
    site.minutes([95, 95, 95])
    basis = site.alerts.load([ID])[ID]
    assert site.alerts.retire(lifecycle.closing(basis, site.configurations.load(), "removed", T0 + 400))
    site.worker = site.add(ID, incarnation="another")
    site.minutes([95, 95, 95])
    notifications = [
        entry.notification for entry in reversed(site.alerts.history(f"{ID}/cpu-high")) if entry.notification
    ]
    assert [row.version for row in notifications] == [1, 2, 3]
    assert len({row.id for row in notifications}) == 3


def test_on_every_store(repository: Repository) -> None:
    """Over each implementation of the ports: fired, corrected, resolved, delivered, each once and in order."""
    site = Site()
    configuration = site.configurations.load().model_copy(
        update={"revision": 1, "channels": {"ops": models.Channel(name="ops", type="webhook")}}
    )
    assert repository.configurations.save(configuration)
    repository.workers.add([site.worker])
    repository.liveness.beat("listener", T0)
    install(site, repository)
    site.minutes([85, 95, 95, 95, 95, None, 20, 20])
    site.collected(T0 + 12 * MINUTE, {T0 + 5 * MINUTE: 20})
    site.evaluate()
    assert site.recorded() == [
        ("warning", 2, False, True), ("critical", 3, False, True), (None, 7, False, True),
        ("critical", 7, True, False), (None, 6, True, False),
    ]  # fmt: skip
    assert site.evaluate() == []
    assert site.alert().rule_state.severity is None
    assert repository.samples.pending(T0 + 10_000, 10) == []
    notified: list[tuple[str, int]] = []

    class Receiver:
        def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
            notified.extend((notification.status, notification.version) for notification in notifications)

    site.notifiers = {"webhook": Receiver()}
    site.deliver(f"{ID}/cpu-high")
    assert notified == [("firing", 1), ("firing", 2), ("resolved", 3)]
    assert repository.outbox.backlog() == 0
