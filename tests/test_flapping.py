"""Flapping alerts: when they flap, and what notifies during and after it, however evaluations are grouped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.evaluating import CPU, ID, MINUTE, QUIET, T0, Site, explanation_json, points
from tests.support.examples import examples
from tests.support.rules import changed
from workermon import models, views
from workermon.models import Count, Flapping, FlapState, Levels, RuleState, SeverityChange
from workermon.rules import flapping

ONE = Count(m=1, n=1)
OPTION = Flapping(turns=6, within=3600)
#: Each datapoint turns it.
RULE = changed(CPU, breach=ONE, recover=ONE, flapping=OPTION)
#: Warnings alone.
MILD = changed(RULE, above=Levels(warning=80))

Notified = tuple[str, str, int]


def notified(site: Site) -> list[Notified]:
    """Return the outbox of the channel, as (status, severity, minute)."""
    queue = site.store.queues.get((f"{ID}/cpu-high", "ops"))
    return [
        (notification.status, notification.severity, (int(models.moment(notification.at)) - T0) // MINUTE)
        for notification in (queue.waiting if queue else ())
    ]


def last(site: Site) -> models.Notification:
    """Return the last notification."""
    return site.store.queues[f"{ID}/cpu-high", "ops"].waiting[-1]


def waves(number: int, value: float = 85.0) -> list[float]:
    """Return values that fire and resolve, a minute each, so many times in all."""
    return [value if place % 2 == 0 else 20.0 for place in range(number)]


# --- the state ---------------------------------------------------------------------------------------------------


def plain(changes: Sequence[tuple[int, bool]], option: Flapping, until: int) -> bool:
    """Return whether it flaps, by a slow and simple search over all transitions for each time."""
    flaps, before = False, None
    for place, (at, fires) in enumerate(changes):
        if before is not None and at - before >= option.within:
            flaps = False
        within = [earlier for earlier, _ in changes[: place + 1] if at - option.within < earlier <= at]
        if fires and len(within) >= option.turns:
            flaps = True
        before = at
    return flaps and before is not None and until - before < option.within


@given(
    st.lists(st.sampled_from([1, 2, 5, 19, 59, 60, 61]), min_size=1, max_size=40),
    st.integers(3, 5),
    st.just(60),
    st.integers(0, 80),
    st.data(),
)
def test_it_flaps_when_a_plain_loop_says_so(
    steps: list[int], number: int, within: int, beyond: int, data: st.DataObject
) -> None:
    """However transitions are divided into settled ones and the trail, the state is that of a plain loop."""
    option = Flapping(turns=number, within=within)
    times = [sum(steps[: place + 1]) for place in range(len(steps))]
    changes = [
        SeverityChange(at, "warning" if place % 2 == 0 else None, 1 - place % 2) for place, at in enumerate(times)
    ]
    cut = data.draw(st.integers(0, len(changes)))
    rule = RULE.model_copy(update={"flapping": option})
    rule_state = RuleState(trail=tuple(changes[cut:]), flap_state=flapping.settled(rule, FlapState(), changes[:cut]))
    until = times[-1] + beyond
    status = flapping.status_at(rule, rule_state, until)
    assert status.flaps is plain([(change.at, change.severity is not None) for change in changes], option, until)
    if status.settled_at is not None:
        assert status.settled_at == times[-1] + within <= until


def test_a_change_of_severity_does_not_count_as_flapping() -> None:
    """Warning to critical and back counts neither as firing nor as resolving."""
    severities: list[models.Severity] = ["warning", "critical"] * 10
    changes = [SeverityChange(at, severity, 1) for at, severity in enumerate(severities)]
    assert flapping.settled(RULE, None, changes) == FlapState(fires=True, recent=(0,))


# --- what is reported ------------------------------------------------------------------------------------------------


def test_it_notifies_once_and_again_when_it_is_stable() -> None:
    """Six transitions notify. The seventh notifies that it flaps. Then nothing until it is stable."""
    site = Site(MILD)
    site.minutes(waves(20))
    assert [row[2] for row in notified(site)] == [0, 1, 2, 3, 4, 5, 6]
    notification = last(site)
    assert (notification.status, notification.severity, notification.version) == ("firing", "warning", 7)
    expected_summary = (
        "render-07: cpu-high is flapping: 6 transitions within 1 h; notifies again when it has not changed for 1 h"
    )
    assert notification.summary == expected_summary
    assert (notification.value, notification.threshold) == (85, 80)
    assert site.alert().flapping
    recorded = list(reversed(site.alerts.history(f"{ID}/cpu-high")))
    assert [transition.transition.flapping for transition in recorded] == [False] * 7 + [True] * 13
    assert all(
        "not notified: the alert is flapping" in transition.transition.reason and transition.notification is None
        for transition in recorded[7:]
    )
    # The last transition, at minute 19, was to well.
    site.minutes([20] * 59, 20)
    assert len(notified(site)) == 7
    assert site.alert().open
    site.minutes([20], 79)
    assert notified(site)[7:] == [("resolved", "warning", 79)]
    assert last(site).summary == "render-07: cpu-high resolved: it has not changed for 1 h"
    assert (site.alert().flapping, site.alert().flapping_notified, site.alert().open) == (False, False, False)
    site.minutes([20, 85, 20], 80)
    assert [row[0] for row in notified(site)[8:]] == ["firing", "resolved"]


def test_what_fires_when_it_is_stable_notifies() -> None:
    """It stays open, and people are notified that it no longer flaps."""
    site = Site(MILD)
    site.minutes([*waves(9), *[85.0] * 61])
    assert notified(site)[7:] == [("firing", "warning", 68)]
    assert last(site).summary == "render-07: cpu-high warning: it has not changed for 1 h"
    assert site.alert().notified_severity == "warning"
    assert not site.alert().flapping
    assert len({notification.id for notification in site.store.queues[f"{ID}/cpu-high", "ops"].waiting}) == 8
    site.minutes([20], 70)
    assert notified(site)[8:] == [("resolved", "warning", 70)]


def test_critical_notifies_in_any_case() -> None:
    """If a flapping warning gets critical, that notifies once until it is stable."""
    site = Site(RULE)
    site.minutes([*waves(8), 95, 20, 95, 85, 95, 20])
    assert notified(site)[6:] == [("firing", "warning", 6), ("firing", "critical", 8)]
    assert last(site).summary.endswith("(it is flapping)")
    site.minutes([20] * 60, 14)
    assert notified(site)[8:] == [("resolved", "critical", 73)]


def test_slow_transitions_all_notify() -> None:
    """Transitions further apart than the option says each notify."""
    site = Site(MILD)
    values = [85.0 if slot % 26 < 13 else 20.0 for slot in range(26 * 5)]
    site.minutes(values)
    assert len(notified(site)) == 10
    assert not site.alert().flapping


def test_without_the_option_nothing_is_held_back() -> None:
    """Without the option every transition notifies."""
    site = Site(MILD.model_copy(update={"flapping": None}))
    site.minutes(waves(30))
    assert len(notified(site)) == 30
    assert site.alert().rule_state.flap_state is None


def test_a_late_evaluation_notifies_only_the_present() -> None:
    """An hour of transitions in one evaluation is one notification: it fires and flaps."""
    site = Site(MILD)
    for slot, value in enumerate(waves(41)):
        site.collected(T0 + (slot + 3) * MINUTE, {T0 + slot * MINUTE: value})
    site.evaluate()
    assert notified(site) == [("firing", "warning", 40)]
    assert "is flapping" in last(site).summary
    site.minutes([20] * 62, 41)
    assert notified(site)[1:] == [("resolved", "warning", 101)]


def test_what_flapped_unseen_says_nothing() -> None:
    """An alert that flapped and became stable before its evaluation notifies nobody."""
    site = Site(MILD)
    for slot, value in enumerate([*waves(20), *[20.0] * 60]):
        site.collected(T0 + (slot + 3) * MINUTE, {T0 + slot * MINUTE: value})
    site.evaluate()
    assert notified(site) == []
    assert not site.alert().flapping


def test_removing_the_option_notifies_the_present() -> None:
    """If the option is removed, the next evaluation notifies the present state."""
    site = Site(MILD)
    site.minutes(waves(10))
    assert len(notified(site)) == 7
    site.change(rules=(MILD.model_copy(update={"flapping": None}),))
    site.minutes([20], 10)
    assert [row[0] for row in notified(site)[7:]] == ["resolved"]
    assert "no longer holds back" in last(site).summary
    site.minutes([85, 20], 11)
    assert len(notified(site)) == 10


@pytest.mark.parametrize("end", ["rule", "pause", "stop"])
def test_what_ends_the_alert_ends_its_flapping(end: str) -> None:
    """A removed rule, a pause or a stop resolves it with the reason. Flapping begins anew."""
    site = Site(MILD, QUIET)
    site.minutes(waves(10))
    if end == "rule":
        site.change(rules=(QUIET,))
    elif end == "pause":
        site.workers.update(site.worker.model_copy(update={"monitoring": "paused"}))
    else:
        site.collected(T0 + 13 * MINUTE, status="stopped")
    site.evaluate()
    assert [row[0] for row in notified(site)[7:]] == ["resolved"]
    assert "flapping" not in last(site).summary
    alert = site.alerts.load([ID])[ID].alerts.get("cpu-high")
    assert alert is None or not (alert.flapping or alert.flapping_notified or alert.rule_state.flap_state)


def test_a_silenced_one_notifies_that_it_flaps_when_the_silence_is_over() -> None:
    """Under a silence flapping notifies nobody. At its end it notifies if the alert still fires."""
    site = Site(MILD)
    site.silences.add(models.Silence(id="s1", rule="cpu-high", begins=T0, ends=T0 + 20 * MINUTE, reason="x", by="me"))
    site.minutes([*waves(15), 85, 85])
    assert notified(site) == []
    assert site.alert().flapping
    site.minutes([85, 85], 17)
    [notification] = site.store.queues[f"{ID}/cpu-high", "ops"].waiting
    assert "is flapping" in notification.summary
    site.minutes([20] * 70, 19)
    assert [status for status, _, _ in notified(site)] == ["firing", "resolved"]


def test_no_data_can_flap() -> None:
    """The option also applies to ``no-data``, by the time that passes."""
    rule = changed(QUIET, intervals=1, notify=("ops",), flapping=Flapping(turns=3, within=3600))
    site = Site(rule)
    at: float = T0
    for _ in range(5):
        site.collected(at)
        site.evaluate()
        site.clock.now = at + 100
        site.evaluate()
        at += 120
    site.collected(at)
    site.evaluate()
    queue = site.store.queues[f"{ID}/no-data", "ops"].waiting
    assert [notification.status for notification in queue] == ["firing", "resolved", "firing"]
    assert "is flapping" in queue[-1].summary
    # It is collected all the time from then on.
    for _ in range(59):
        at += 60
        site.collected(at)
        site.evaluate()
    assert len(queue) == 3
    at += 60
    site.collected(at)
    site.evaluate()
    queue = site.store.queues[f"{ID}/no-data", "ops"].waiting
    assert [notification.status for notification in queue][3:] == ["resolved"]


# --- any grouping of evaluations ---------------------------------------------------------------------------------


def expected(values: Sequence[float | None], option: Flapping) -> list[tuple[str, int]]:
    """Return the notifications as (what, minute) if each datapoint is evaluated on arrival, by a plain loop."""
    notifications: list[tuple[str, int]] = []
    changes: list[int] = []
    fires = flaps = False
    for minute, value in enumerate(values):
        if value is not None and (value > 80) != fires:
            fires = not fires
            if flaps and minute * 60 - changes[-1] >= option.within:
                flaps = False
                notifications.append(("firing" if fires else "resolved", minute))
                changes.append(minute * 60)
                continue
            changes.append(minute * 60)
            if flaps:
                continue
            recent = [at for at in changes if at > minute * 60 - option.within]
            flaps = fires and len(recent) >= option.turns
            notifications.append(("flapping" if flaps else "firing" if fires else "resolved", minute))
        elif flaps and minute * 60 - changes[-1] >= option.within:
            flaps = False
            notifications.append(("firing" if fires else "resolved", changes[-1] // 60 + option.within // 60))
    return notifications


#: Runs of values that fire and resolve in turn, some absent: long enough for turns to be settled and for stillness.
values_of = st.lists(
    st.tuples(st.sampled_from([1, 1, 1, 1, 2, 3, 7, 11, 17]), st.sampled_from([0, 0, 0, 1, 5])), min_size=6, max_size=24
).map(
    lambda runs: [
        value
        for place, (length, absent) in enumerate(runs)
        for value in [*[20.0 if place % 2 else 85.0] * length, *[None] * absent]
    ]
)


@examples(80)
@given(values_of, st.integers(3, 4), st.sampled_from([6, 10, 20]))
def test_notifications_of_each_minute_equal_those_of_a_plain_loop(
    values: list[float | None], count: int, minutes: int
) -> None:
    """Each transition notifies until it flaps, then that it flaps, then the state when it is stable."""
    option = Flapping(turns=count, within=minutes * 60)
    site = Site(MILD.model_copy(update={"flapping": option}))
    site.minutes([20.0, *values])
    queue = site.store.queues.get((f"{ID}/cpu-high", "ops"))
    waiting = [
        (
            "flapping" if "is flapping" in notification.summary else notification.status,
            (int(models.moment(notification.at)) - T0) // MINUTE,
        )
        for notification in (queue.waiting if queue else ())
    ]
    assert waiting == expected([20.0, *values], option)


def decided_transitions(site: Site) -> set[tuple[int, str | None]]:
    """Return the transitions of the history that datapoints decided."""
    return {
        (entry.transition.at, entry.transition.after)
        for entry in site.alerts.history(f"{ID}/cpu-high", 1000)
        if entry.transition.count is not None
    }


@examples(40)
@given(values_of, st.data())
def test_any_grouping_and_order_come_to_the_same(values: list[float | None], data: st.DataObject) -> None:
    """In any grouping and with late datapoints, state and transitions are the same."""
    option = Flapping(turns=4, within=10 * 60)
    rule = MILD.model_copy(update={"flapping": option})
    steady, woken = Site(rule), Site(rule)
    steady.minutes(values)
    late = data.draw(st.sets(st.integers(0, max(0, len(values) - 1)), max_size=4))
    for slot in range(len(values)):
        at = T0 + MINUTE * slot
        arrived: Iterable[int] = [slot] if slot not in late else ()
        arrived = [*arrived, *(before for before in late if before + 5 == slot)]
        batch = points([values[number] if number in arrived else None for number in range(slot + 1)])
        woken.collected(at + 3 * MINUTE, batch)
        for _ in range(data.draw(st.integers(0, 2))):
            woken.evaluate()
    missing = points([value if slot in late else None for slot, value in enumerate(values)])
    # What is still late comes with the last collection, within the lateness allowed.
    newest = T0 + MINUTE * (len(values) + 2)
    woken.collected(newest, {at: value for at, value in missing.items() if newest - at < 14 * MINUTE})
    woken.evaluate()
    steady_alert, woken_alert = steady.alert(), woken.alert()
    assert steady_alert.rule_state == woken_alert.rule_state
    assert steady_alert.flapping is woken_alert.flapping
    if not steady_alert.flapping:
        assert steady_alert.notified_severity == woken_alert.notified_severity
    if not late:
        assert decided_transitions(steady) == decided_transitions(woken)


def test_the_state_is_kept_as_json() -> None:
    """The states of alerts and rules are read as written."""
    site = Site(MILD)
    site.minutes(waves(40))
    alert, configuration = site.alert(), site.configurations.load()
    assert alert.rule_state.flap_state
    assert alert.rule_state.flap_state.flaps
    assert models.Alert.model_validate_json(alert.model_dump_json(by_alias=True, exclude_defaults=True)) == alert
    window = models.Maintenance(id="file-1", rule="r", reason="x", schedule="0 2 * * sun", duration=60)
    routed = MILD.model_copy(update={"routes": {"critical": ("ops",)}})
    configuration = configuration.model_copy(update={"rules": (routed,), "silences": (window,)})
    assert models.Configuration.model_validate_json(configuration.model_dump_json(by_alias=True)) == configuration


# --- what is shown -----------------------------------------------------------------------------------------------


def test_why_and_alerts_say_that_it_flaps() -> None:
    """``why`` names when the alert stops flapping, and the transitions that were held back. ``alerts`` marks it."""
    site = Site(MILD)
    site.minutes(waves(9))
    [rule] = explanation_json(site)["rules"]
    until = models.rfc3339(T0 + 68 * MINUTE)
    assert rule["flapping"] == {"turns": 6, "within": 3600, "flaps": True, "counted": 6, "until": until}
    assert [(entry["flapping"], entry["notified"]) for entry in rule["history"]][:3] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    alert_view = site.get(views.AlertView)
    [alert] = alert_view.list().alerts
    assert alert.flapping is True
    site.minutes([20] * 61, 9)
    [rule] = explanation_json(site)["rules"]
    assert (rule["flapping"]["flaps"], rule["flapping"]["until"]) == (False, None)
    assert alert_view.list(views.AlertFilter(state="all")).alerts[0].flapping is False
