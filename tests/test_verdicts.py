"""The result of an evaluation, without a store: what notifies, and what is only recorded."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from workermon import models, ports
from workermon.alerts import lifecycle
from workermon.alerts.verdict import VerdictBuilder
from workermon.models import Alert, Levels, RuleState, Severity, SeverityChange, Silence, Transition
from workermon.rules import threshold

T0 = 1_700_000_000
WORKER = models.Worker(
    id="i-0abc0123456789def", name="render-07", region="us-east-1", added_at=T0 - 3600, incarnation="first"
)
CPU = threshold.KIND.rule(
    name="cpu-high", metric="cpu_utilization", above=Levels(warning=80, critical=90), notify=("ops",)
)
SILENCE = Silence(id="s", rule="cpu-high", begins=T0, ends=T0 + 3600, reason="a test", by="somebody")
WELL = Alert(rule="cpu-high", rule_state=RuleState(cursor=T0))


def builder_for(*alerts: Alert, at: float = T0 + 600.5, active_silences: Sequence[Silence] = ()) -> VerdictBuilder:
    """Return a draft for a worker with these alerts."""
    record = ports.Record(WORKER, models.Condition(), {}, 0.0, None, 1)
    basis = ports.Basis(models.worker_subject(WORKER), record, {alert.rule: alert for alert in alerts}, version=3)
    return VerdictBuilder(basis, at, active_silences)


def state_since(severity: Severity | None, at: int = T0 + 60) -> RuleState:
    """Return the state of a rule that turned to a severity at a time."""
    return RuleState(cursor=at, trail=(SeverityChange(at, severity, 0 if severity is None else 1),))


def outcome_of(alert: Alert, rule_state: RuleState, *transitions: Transition) -> lifecycle.RuleOutcome:
    """Return an evaluation of the rule."""
    return lifecycle.RuleOutcome(rule=CPU, alert=alert, rule_state=rule_state, transitions=transitions, unit="percent")


def verdict_of(
    alert: Alert,
    rule_state: RuleState,
    *transitions: Transition,
    active_silences: Sequence[Silence] = (),
    at: float = T0 + 600.5,
) -> ports.Verdict:
    """Return the verdict of one evaluation of the rule."""
    builder = builder_for(alert, active_silences=active_silences, at=at)
    lifecycle.apply(builder, outcome_of(alert, rule_state, *transitions))
    return builder.verdict()


def fired(at: int = T0 + 60, before: Severity | None = None, after: Severity | None = "critical") -> Transition:
    """Return a transition by datapoints."""
    return Transition(at=at, before=before, after=after, value=97.5, threshold=90, count="2 of 3", reason="it is high")


FIRING = verdict_of(WELL, state_since("critical"), fired()).alerts["cpu-high"]


def test_where_nothing_turned_the_alert_stays_itself() -> None:
    """Without a transition the alert is the same object, and nothing is recorded or notified."""
    for alert in (WELL, FIRING):
        verdict = verdict_of(alert, alert.rule_state)
        assert verdict.alerts["cpu-high"] is alert
        assert (verdict.transitions, verdict.channels) == ((), {})


def test_an_evaluation_that_went_on_is_kept() -> None:
    """Without a transition nobody is notified, and the next evaluation continues from there."""
    verdict = verdict_of(FIRING, FIRING.rule_state.model_copy(update={"cursor": T0 + 120}))
    assert verdict.alerts["cpu-high"].rule_state.cursor == T0 + 120
    assert verdict.alerts["cpu-high"].last is FIRING.last
    assert (verdict.transitions, verdict.channels) == ((), {})


def test_of_several_transitions_the_one_to_the_present_notifies() -> None:
    """All transitions are recorded in order. The last one to the present severity has the notification."""
    transitions = fired(), fired(T0 + 120, "critical", None), fired(T0 + 180)
    verdict = verdict_of(WELL, state_since("critical", T0 + 180), *transitions)
    assert [(rule, transition, bool(notification)) for rule, transition, notification in verdict.transitions] == [
        ("cpu-high", transition, transition.at == T0 + 180) for transition in transitions
    ]


def test_of_a_withdrawn_transition_and_its_replacement_the_latter_notifies() -> None:
    """If a revision replaces a transition by another at the same time, the new one notifies, not the withdrawal."""
    withdrawn = Transition(at=T0 + 60, before="critical", after="warning", correction=True, reason="revised")
    verdict = verdict_of(FIRING, state_since("warning"), withdrawn, fired(after="warning"))
    assert [notification is not None for _, _, notification in verdict.transitions] == [False, True]


def test_a_difference_without_a_transition_says_why() -> None:
    """If the present differs from the notified state without a transition, one more is recorded."""
    ((_, transition, notification),) = verdict_of(FIRING, state_since("warning", T0 + 300)).transitions
    assert (transition.at, transition.before, transition.after) == (T0 + 300, "critical", "warning")
    assert transition.reason == "the rule was changed"
    assert notification is not None
    assert notification.severity == "warning"


def test_the_end_of_a_silence_notifies_the_silenced_transition() -> None:
    """A silenced transition is recorded. After the silence it notifies with a newer version."""
    silenced_verdict = verdict_of(WELL, state_since("critical"), fired(), active_silences=[SILENCE])
    ((_, transition, silenced),) = silenced_verdict.transitions
    assert (transition.silenced_by, silenced_verdict.channels) == ("s", {"cpu-high": ()})
    alert = silenced_verdict.alerts["cpu-high"]
    verdict = verdict_of(alert, alert.rule_state, at=T0 + 3600)
    ((_, _, notification),) = verdict.transitions
    assert silenced is not None
    assert notification is not None
    assert (notification.id, notification.version) == (silenced.id, silenced.version + 1)
    assert verdict.channels == {"cpu-high": ("ops",)}
    assert verdict.alerts["cpu-high"].silenced_by is None


def test_what_is_held_back_is_recorded_with_the_reason() -> None:
    """It is recorded with the reason, and the notified state does not change."""
    builder = builder_for(WELL)
    outcome = outcome_of(WELL, state_since("critical"), fired())
    lifecycle.record_only(builder, outcome, "held back: the account is in trouble")
    ((_, transition, notification),) = builder.transitions
    assert (transition.reason, notification) == ("it is high; held back: the account is in trouble", None)
    assert (builder.alerts["cpu-high"].notified_severity, builder.alerts["cpu-high"].since) == (None, T0 + 60)


def test_an_end_notifies_once() -> None:
    """The end notifies whoever was notified that it fires. Ending it again changes nothing."""
    builder = builder_for(FIRING)
    lifecycle.resolve(builder, FIRING, CPU, "the instance is stopped", T0 + 600)
    ((_, transition, notification),) = builder.transitions
    assert (transition.after, builder.channels) == (None, {"cpu-high": ("ops",)})
    assert notification is not None
    resolved = builder.alerts["cpu-high"]
    repeated = builder_for(resolved)
    lifecycle.resolve(repeated, resolved, CPU, "the instance is stopped", T0 + 660)
    assert (repeated.alerts["cpu-high"] is resolved, repeated.transitions) == (True, [])
    forgotten = builder_for(FIRING)
    lifecycle.forget(forgotten, FIRING, None, "the rule was removed", T0 + 600)
    assert (forgotten.alerts, len(forgotten.transitions)) == ({}, 1)


def test_closing_resolves_what_was_notified() -> None:
    """Closing resolves every notified alert with the reason, and deletes the state."""
    alert = FIRING.model_copy(update={"version": 7, "since": T0 - 60, "channels": ("pager",)})
    well = Alert(rule="other", rule_state=RuleState(cursor=T0), version=2)
    configuration = models.Configuration(rules=(CPU,), channels={}, metrics={}, collect=())
    verdict = lifecycle.closing(builder_for(alert, well).basis, configuration, "the worker was removed", T0 + 500.7)
    ((rule, transition, resolved),) = verdict.transitions
    assert (rule, transition.at, transition.before, transition.after) == ("cpu-high", T0 + 500, "critical", None)
    assert resolved
    assert (resolved.status, resolved.severity, resolved.version) == ("resolved", "critical", 8)
    assert (resolved.since, resolved.reason) == (models.rfc3339(T0 - 60), "the worker was removed")
    assert resolved.summary == "render-07: cpu_utilization resolved: the worker was removed"
    assert verdict.channels == {"cpu-high": ("pager",)}
    after = verdict.alerts["cpu-high"]
    assert (after.notified_severity, after.since, after.version, after.rule_state.severity) == (None, None, 8, None)
    assert verdict.alerts["other"].version == 2


@given(st.lists(st.tuples(st.sampled_from((None, "warning", "critical")), st.booleans()), max_size=12))
def test_people_know_the_present_after_each_evaluation(
    steps: list[tuple[Severity | None, bool]],
) -> None:
    """After any evaluations and silences the notified state is the present one, each version once."""
    alert, notified, versions = WELL, None, []
    for step, (severity, silent) in enumerate(steps, 1):
        at = T0 + 60 * step
        before = alert.rule_state.severity
        transitions = [fired(at, before, severity)] if before != severity else []
        rule_state = state_since(severity, at) if transitions else alert.rule_state.model_copy(update={"cursor": at})
        verdict = verdict_of(alert, rule_state, *transitions, active_silences=[SILENCE] if silent else ())
        notifications = [notification for _, _, notification in verdict.transitions if notification is not None]
        alert = verdict.alerts["cpu-high"]
        assert alert.notified_severity == severity
        if verdict.channels.get("cpu-high"):
            notified = notifications[0].severity if notifications[0].status == "firing" else None
        assert (alert.silenced_by is None) or silent
        assert len(notifications) <= 1
        versions += [notification.version for notification in notifications]
        if not silent:
            assert notified == severity
    assert versions == list(range(1, len(versions) + 1))
