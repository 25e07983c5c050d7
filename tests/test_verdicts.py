"""What becomes of a judgement, without a store: who is told what, and what is recorded alone."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from workermon import models, ports
from workermon.alerts import lifecycle
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


def draft(*alerts: Alert, at: float = T0 + 600.5, active_silences: Sequence[Silence] = ()) -> lifecycle.VerdictBuilder:
    """Return a draft for a worker with these alerts."""
    record = ports.Record(WORKER, models.Condition(), {}, 0.0, None, 1)
    basis = ports.Basis(models.worker_subject(WORKER), record, {alert.rule: alert for alert in alerts}, version=3)
    return lifecycle.VerdictBuilder(basis, at, active_silences)


def explain_state(severity: Severity | None, at: int = T0 + 60) -> RuleState:
    """Return the state of a rule that turned to a severity at a time."""
    return RuleState(cursor=at, trail=(SeverityChange(at, severity, 0 if severity is None else 1),))


def judged(alert: Alert, rule_state: RuleState, *transitions: Transition) -> lifecycle.Judgement:
    """Return a judgement of the rule."""
    return lifecycle.Judgement(rule=CPU, alert=alert, rule_state=rule_state, transitions=transitions, unit="percent")


def told(
    alert: Alert,
    rule_state: RuleState,
    *transitions: Transition,
    active_silences: Sequence[Silence] = (),
    at: float = T0 + 600.5,
) -> ports.Verdict:
    """Return the verdict on one judgement of the rule."""
    made = draft(alert, active_silences=active_silences, at=at)
    lifecycle.apply(made, judged(alert, rule_state, *transitions))
    return made.verdict()


def fired(at: int = T0 + 60, before: Severity | None = None, after: Severity | None = "critical") -> Transition:
    """Return a turn by datapoints."""
    return Transition(at=at, before=before, after=after, value=97.5, threshold=90, count="2 of 3", reason="it is high")


FIRING = told(WELL, explain_state("critical"), fired()).alerts["cpu-high"]


def test_where_nothing_turned_the_alert_stays_itself() -> None:
    """A judgement that found nothing new leaves the very same alert, and nothing is recorded or told."""
    for alert in (WELL, FIRING):
        verdict = told(alert, alert.rule_state)
        assert verdict.alerts["cpu-high"] is alert
        assert (verdict.transitions, verdict.channels) == ((), {})


def test_a_judgement_that_went_on_is_kept() -> None:
    """Where the same goes on people hear nothing, and the next judgement begins where this one ended."""
    verdict = told(FIRING, FIRING.rule_state.model_copy(update={"cursor": T0 + 120}))
    assert verdict.alerts["cpu-high"].rule_state.cursor == T0 + 120
    assert verdict.alerts["cpu-high"].last is FIRING.last
    assert (verdict.transitions, verdict.channels) == ((), {})


def test_of_several_turns_the_one_that_led_to_the_present_is_told() -> None:
    """All turns are recorded in their order, and the last one to the present severity carries the notification."""
    turns = fired(), fired(T0 + 120, "critical", None), fired(T0 + 180)
    verdict = told(WELL, explain_state("critical", T0 + 180), *turns)
    assert [(rule, turn, bool(said)) for rule, turn, said in verdict.transitions] == [
        ("cpu-high", turn, turn.at == T0 + 180) for turn in turns
    ]


def test_of_a_turn_withdrawn_and_one_in_its_place_the_latter_is_told() -> None:
    """A turn that a revised past put in the place of another, at the same time, is told; the withdrawal is not."""
    withdrawn = Transition(at=T0 + 60, before="critical", after="warning", correction=True, reason="revised")
    verdict = told(FIRING, explain_state("warning"), withdrawn, fired(after="warning"))
    assert [said is not None for _, _, said in verdict.transitions] == [False, True]


def test_a_difference_without_a_turn_says_why() -> None:
    """Where the present differs from what people know though nothing turned, one more transition is recorded."""
    ((_, turn, said),) = told(FIRING, explain_state("warning", T0 + 300)).transitions
    assert (turn.at, turn.before, turn.after) == (T0 + 300, "critical", "warning")
    assert turn.reason == "the rule was changed"
    assert said is not None
    assert said.severity == "warning"


def test_the_end_of_a_silence_tells_the_turn_that_nobody_heard_of() -> None:
    """Under a silence it is recorded for nobody; after it the same turn, by its id, is told as a newer version."""
    active_silences = told(WELL, explain_state("critical"), fired(), active_silences=[SILENCE])
    ((_, turn, unheard),) = active_silences.transitions
    assert (turn.silenced_by, active_silences.channels) == ("s", {"cpu-high": ()})
    alert = active_silences.alerts["cpu-high"]
    verdict = told(alert, alert.rule_state, at=T0 + 3600)
    ((_, _, said),) = verdict.transitions
    assert unheard is not None
    assert said is not None
    assert (said.id, said.version) == (unheard.id, unheard.version + 1)
    assert verdict.channels == {"cpu-high": ("ops",)}
    assert verdict.alerts["cpu-high"].silenced_by is None


def test_what_is_held_back_is_recorded_with_the_reason() -> None:
    """What is held back is recorded, says so, and people know of it as little as before."""
    made = draft(WELL)
    judgement = judged(WELL, explain_state("critical"), fired())
    lifecycle.record_only(made, judgement, "held back: the account is in trouble")
    ((_, turn, said),) = made.transitions
    assert (turn.reason, said) == ("it is high; held back: the account is in trouble", None)
    assert (made.alerts["cpu-high"].notified_severity, made.alerts["cpu-high"].since) == (None, T0 + 60)


def test_an_end_is_told_once() -> None:
    """Who heard that it fires hears that it ended; ending it again changes nothing; what is forgotten is not kept."""
    made = draft(FIRING)
    lifecycle.resolve(made, FIRING, CPU, "the instance is stopped", T0 + 600)
    ((_, turn, said),) = made.transitions
    assert (turn.after, made.channels) == (None, {"cpu-high": ("ops",)})
    assert said is not None
    ended = made.alerts["cpu-high"]
    again = draft(ended)
    lifecycle.resolve(again, ended, CPU, "the instance is stopped", T0 + 660)
    assert (again.alerts["cpu-high"] is ended, again.transitions) == (True, [])
    gone = draft(FIRING)
    lifecycle.forget(gone, FIRING, None, "the rule was removed", T0 + 600)
    assert (gone.alerts, len(gone.transitions)) == ({}, 1)


def test_closing_resolves_what_was_told() -> None:
    """Closing resolves every open alert with the reason, to those who were told, and forgets the state."""
    alert = FIRING.model_copy(update={"version": 7, "since": T0 - 60, "channels": ("pager",)})
    well = Alert(rule="other", rule_state=RuleState(cursor=T0), version=2)
    configuration = models.Configuration(rules=(CPU,), channels={}, metrics={}, collect=())
    verdict = lifecycle.closing(draft(alert, well).basis, configuration, "the worker was removed", T0 + 500.7)
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
def test_people_know_the_present_after_each_judgement(
    steps: list[tuple[Severity | None, bool]],
) -> None:
    """After any judgements, whatever was silenced, people know the present, and of each version there was one."""
    alert, known, versions = WELL, None, []
    for step, (severity, silent) in enumerate(steps, 1):
        at = T0 + 60 * step
        before = alert.rule_state.severity
        turns = [fired(at, before, severity)] if before != severity else []
        rule_state = explain_state(severity, at) if turns else alert.rule_state.model_copy(update={"cursor": at})
        verdict = told(alert, rule_state, *turns, active_silences=[SILENCE] if silent else ())
        said = [one for _, _, one in verdict.transitions if one is not None]
        alert = verdict.alerts["cpu-high"]
        assert alert.notified_severity == severity
        if verdict.channels.get("cpu-high"):
            known = said[0].severity if said[0].status == "firing" else None
        assert (alert.silenced_by is None) or silent
        assert len(said) <= 1
        versions += [one.version for one in said]
        if not silent:
            assert known == severity
    assert versions == list(range(1, len(versions) + 1))
