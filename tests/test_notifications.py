"""Notifications for people and programs."""

from __future__ import annotations

import re
from typing import Any

import pytest

from workermon import models, ports, rules
from workermon.alerts import message, notification_id, subject, verdict
from workermon.models import Alert, Datapoint, Levels, Rule, Transition
from workermon.rules import threshold, wording

T0 = 1_700_000_000
WORKER = models.Worker(
    id="i-0abc0123456789def",
    name="render-07",
    region="us-east-1",
    labels={"team": "vfx"},
    added_at=T0,
    incarnation="first",
)
CPU = threshold.KIND.rule(
    name="cpu-high",
    metric="cpu_utilization",
    above=Levels(warning=80, critical=90),
    clear=Levels(warning=75, critical=85),
)
FIRED = Transition(
    at=T0,
    before=None,
    after="critical",
    value=97.5,
    threshold=90,
    count="3 of 3",
    points=(Datapoint(T0, 97.5),),
    reason="3 of 3 values above 90",
)


def notified(transition: Transition, rule: Rule = CPU, **options: Any) -> models.Notification:
    """Return the notification of a transition."""
    details: dict[str, Any] = {"version": 7, "since": T0 - 60, "created_at": T0 + 200, "unit": "percent"} | options
    details["kind"] = rules.KINDS[rule.kind]
    return message.notification(subject.of_worker(WORKER), rule, transition, message.Details(**details))


def test_as_the_contract_shows() -> None:
    """A firing alert has every field of the documented message, and exactly its summary."""
    document = models.to_json(notified(FIRED))
    identity = document.pop("id")
    assert re.fullmatch(r"[0-9a-f]{32,}", identity)
    assert document == {
        "schema": 1,
        "version": 7,
        "dedup_key": "i-0abc0123456789def/cpu-high",
        "kind": "threshold",
        "status": "firing",
        "severity": "critical",
        "rule": "cpu-high",
        "metric": "cpu_utilization",
        "value": 97.5,
        "threshold": 90.0,
        "unit": "percent",
        "since": "2023-11-14T22:12:20Z",
        "condition_since": "2023-11-14T22:12:20Z",
        "at": "2023-11-14T22:13:20Z",
        "created_at": "2023-11-14T22:16:40Z",
        "worker": {
            "id": "i-0abc0123456789def",
            "name": "render-07",
            "region": "us-east-1",
            "account": "default",
            "labels": {"team": "vfx"},
        },
        "summary": "render-07: cpu_utilization 97.5 % > 90 % for 3 of 3 datapoints",
        "reason": None,
        "scope": None,
        "points": [[1_700_000_000, 97.5]],
        "reminder": False,
        "description": None,
        "runbook": None,
        "owner": None,
        "escalation": None,
    }


def name_of(**changes: object) -> str:
    """Return the id of the same transition of another worker."""
    worker = models.worker_subject(WORKER.model_copy(update=changes))
    return notification_id.of_transition(worker, "cpu-high", "critical", T0)


def test_id_names_the_transition() -> None:
    """A replay has the same id. Another time, state, rule, worker or incarnation has another."""
    repeated = notified(FIRED).id
    assert repeated == name_of()
    assert notified(FIRED.model_copy(update={"value": 91.0, "correction": True})).id == repeated
    other_ids = {
        notified(FIRED.model_copy(update={"at": T0 + 60})).id,
        notified(FIRED.model_copy(update={"after": "warning"})).id,
        notified(FIRED, CPU.model_copy(update={"name": "cpu"})).id,
        name_of(incarnation="second"),
        name_of(id="i-0abc0123456789dee"),
    }
    assert len(other_ids) == 5
    assert repeated not in other_ids


@pytest.mark.parametrize(
    ("transition", "summary"),
    [
        ({"value": 90.001}, "cpu_utilization 90.001 % > 90 % for 3 of 3 datapoints"),
        ({"value": 90.25}, "cpu_utilization 90.25 % > 90 % for 3 of 3 datapoints"),
        ({"value": None}, "cpu_utilization absent, counted as > 90 % for 3 of 3 datapoints"),
        (
            {"before": "critical", "after": "warning", "value": 84.0, "threshold": 80.0, "count": "2 of 2"},
            "cpu_utilization 84 % ≤ 85 % for 2 of 2 datapoints, warning still: > 80 %",
        ),
        (
            {"before": "warning", "after": None, "value": 70.0, "threshold": 75.0, "count": "2 of 2"},
            "cpu_utilization 70 % ≤ 75 % for 2 of 2 datapoints",
        ),
        (
            {"before": "critical", "after": None, "value": 20.0, "count": None, "reason": "a datapoint was revised"},
            "cpu_utilization resolved: a datapoint was revised",
        ),
    ],
)
def test_summaries(transition: dict[str, object], summary: str) -> None:
    """The summary is a sentence for each kind of transition."""
    assert notified(FIRED.model_copy(update=transition)).summary == f"render-07: {summary}"


def test_below() -> None:
    """A rule below reads the other way round."""
    rule = threshold.KIND.rule(name="credits", metric="cpu_credit_balance", below=Levels(critical=50))
    fired = FIRED.model_copy(update={"value": 12.0, "threshold": 50.0})
    assert notified(fired, rule, unit="credits").summary.endswith(
        "cpu_credit_balance 12 credits < 50 credits for 3 of 3 datapoints"
    )
    clear = fired.model_copy(update={"before": "critical", "after": None, "value": 51.5, "count": "2 of 2"})
    assert notified(clear, rule, unit="credits").summary.endswith("51.5 credits ≥ 50 credits for 2 of 2 datapoints")


def test_status_checks() -> None:
    """A status check has words, not 1 > 0."""
    rule = threshold.KIND.rule(name="status", metric="status_check_failed", above=Levels(critical=0))
    fired = FIRED.model_copy(update={"value": 1.0, "threshold": 0.0, "count": "2 of 2"})
    assert notified(fired, rule, unit="count").summary == (
        "render-07: status_check_failed: EC2 status check impaired for 2 of 2 checks"
    )


def test_what_a_kind_says_of_the_present() -> None:
    """A kind describes its own state and reason. An error of AWS is one line."""
    rule = Rule(name="no-data", kind="no-data")
    transition = Transition(at=T0, before=None, after="critical", reason="…")
    last_error = models.CollectionError(kind="denied", message="not\nallowed", at=T0)
    no_data = notified(transition, rule, interval=60, last_error=last_error)
    assert no_data.summary == "render-07: no successful collection for 3 intervals (180 s)"
    assert (no_data.kind, no_data.metric, no_data.reason) == ("no-data", None, r"denied: not\nallowed")


SUBJECTS = {
    "lab/eu-west-1": subject.of_account(models.AccountState(key="lab/eu-west-1", at=T0, interval=60)),
    "*/*": subject.INSTALLATION,
    "channel:ops": subject.of_channel("ops"),
}


@pytest.mark.parametrize(
    ("name", "scope", "summary"),
    [
        ("lab/eu-west-1", {"account": "lab", "region": "eu-west-1"}, "account lab in eu-west-1: it fails"),
        ("*/*", {"account": "*", "region": "*"}, "budget: it fails"),
        ("channel:ops", {"account": "*", "region": "*", "channel": "ops"}, "channel ops: it fails"),
    ],
)
def test_what_is_about_no_worker(name: str, scope: dict[str, str], summary: str) -> None:
    """An alert of an account, of the installation or of a channel has a scope in the place of a worker."""
    rule = Rule(name="budget", kind="collector")
    fired = Transition(at=T0, before=None, after="warning", reason="it fails", cause="AWS said no")
    details = message.Details(version=1, since=T0, created_at=T0)
    built = message.notification(SUBJECTS[name], rule, fired, details)
    assert (built.kind, built.worker, built.scope) == ("collector", None, scope)
    assert (built.dedup_key, built.summary, built.reason) == (f"{name}/budget", summary, "AWS said no")


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.0, "percent", "0 %"),
        (90.0, "percent", "90 %"),
        (99.999, "percent", "100 %"),
        (0.0004, "percent", "0.0004 %"),
        (999.0, "bytes", "999 B"),
        (1_530_000.0, "bytes", "1.53 MB"),
        (-2_000.0, "bytes", "-2 kB"),
        (3e15, "bytes", "3 PB"),
        (1.0, "count", "1"),
        (41.2, "credits", "41.2 credits"),
    ],
)
def test_quantities(value: float, unit: str, expected: str) -> None:
    """A value is written with its unit as people read it."""
    assert wording.quantity(value, unit) == expected


def next_version(*alerts: Alert, last_versions: dict[str, int] | None = None) -> int:
    """Return the version of the next notification of an alert."""
    record = ports.Record(WORKER, models.Condition(), {}, 0.0, None, 1)
    by_rule = {alert.rule: alert for alert in alerts}
    basis = ports.Basis(models.worker_subject(WORKER), record, by_rule, 3, 0, last_versions or {})
    return verdict.VerdictBuilder(basis, T0).next_version("cpu-high")


def test_version_outlives_removal() -> None:
    """A worker that is added again continues the versions of its earlier incarnation."""
    assert next_version(last_versions={"cpu-high": 9}) == 10
    assert next_version(Alert(rule="cpu-high", version=12), last_versions={"cpu-high": 9}) == 13
    assert next_version() == 1
