"""Events that EC2 has scheduled: what is stored, and when they notify, repeat and resolve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.support.collected import RULE as DOWN
from tests.support.collected import House
from tests.support.evaluating import ID, MINUTE, T0, explanation_json
from tests.support.present import present
from tests.support.rules import changed
from workermon import cli, config, errors, fleet, models, testing, views
from workermon.cli import alerts
from workermon.cli import fleet as show
from workermon.config import difference, export
from workermon.models import DAY, ScheduledEvent
from workermon.notify import text
from workermon.rules import Facts, event

RULE = event.KIND.rule(name="scheduled", by_code=True, notify=("ops",))
HOUR = 3600
REBOOT = ScheduledEvent(
    id="instance-event-1", code="system-reboot", description="The host is updated", not_before=T0 + 7 * DAY,
    not_after=T0 + 7 * DAY + 2 * HOUR, deadline=T0 + 9 * DAY,
)  # fmt: skip
RETIRED = ScheduledEvent(
    id="instance-event-2", code="instance-retirement", description="The host is worn", not_before=T0 + 14 * DAY
)


class Site(House):
    """A house whose worker has scheduled events."""

    def __init__(self, *rules: models.Rule) -> None:
        super().__init__(*(rules or (RULE,)))

    def plan(self, minute: float, *events: ScheduledEvent) -> list[str]:
        """Have EC2 list these events, collect and evaluate."""
        self.ec2.events[ID] = events
        return self.step(minute)

    def scheduled_notifications(self) -> list[tuple[str, str, int]]:
        """Return the notifications as (status, severity, minute), oldest first."""
        return self.notified(f"{ID}/scheduled")

    @property
    def newest(self) -> models.Notification:
        """Return the last notification."""
        return self.last("scheduled")


@pytest.fixture
def site() -> Site:
    """Return a worker that nothing is scheduled for, collected once."""
    other_site = Site()
    other_site.plan(0)
    return other_site


# --- when it notifies --------------------------------------------------------------------------------------------


def test_an_event_notifies_days_ahead_in_words(site: Site) -> None:
    """It notifies once, with code, time, remaining time, EC2's description and deadline."""
    assert site.plan(1, REBOOT) == [f"{ID}/scheduled"]
    for minute in (2, 3):
        site.plan(minute, REBOOT)
    assert site.scheduled_notifications() == [("firing", "warning", 1)]
    notification = site.newest
    assert (notification.kind, notification.metric, notification.value) == ("event", None, None)
    assert notification.summary == (
        "render-07: system-reboot scheduled for 2023-11-21T22:00:00Z (in 7 days): The host is updated"
        " (it can be postponed until 2023-11-23T22:00:00Z)"
    )
    assert notification.reason == "instance-event-1 system-reboot The host is updated"
    assert notification.since == notification.at == models.rfc3339(T0 + MINUTE)


def test_another_one_that_joins_notifies_with_the_earliest_first(site: Site) -> None:
    """It is a new version of the same alert with the highest severity, since the first event."""
    site.plan(1, REBOOT)
    site.plan(2, RETIRED, REBOOT)
    assert site.scheduled_notifications() == [("firing", "warning", 1), ("firing", "critical", 2)]
    notification = site.newest
    assert notification.summary.startswith("render-07: system-reboot scheduled for 2023-11-21T22:00:00Z")
    assert notification.summary.endswith("; and 1 more: instance-retirement 2023-11-28T22:00:00Z")
    assert (notification.version, notification.since) == (2, models.rfc3339(T0 + MINUTE))
    maintenance = REBOOT.model_copy(update={"id": "instance-event-3", "code": "system-maintenance"})
    site.plan(3, RETIRED, REBOOT, maintenance)
    assert site.scheduled_notifications()[2:] == [("firing", "critical", 3)]
    assert len({entry.notification.id for entry in site.alerts.history(f"{ID}/scheduled") if entry.notification}) == 3


def test_an_event_at_another_time_notifies_again(site: Site) -> None:
    """Postponed or brought forward, it notifies with its new time. Another description does not notify."""
    site.plan(1, REBOOT)
    site.plan(2, REBOOT.model_copy(update={"description": "The host is updated soon"}))
    assert len(site.scheduled_notifications()) == 1
    site.plan(3, REBOOT.model_copy(update={"not_before": T0 + 8 * DAY, "not_after": None}))
    assert site.scheduled_notifications() == [("firing", "warning", 1), ("firing", "warning", 3)]
    assert "2023-11-22T22:00:00Z" in site.newest.summary


def test_one_of_several_that_is_over_wakes_nobody(site: Site) -> None:
    """The end of one event notifies only if the remaining ones are less severe."""
    second = REBOOT.model_copy(update={"id": "instance-event-3"})
    site.plan(1, REBOOT, second, RETIRED)
    site.plan(2, second, RETIRED)
    assert len(site.scheduled_notifications()) == 1
    site.plan(3, second)
    assert site.scheduled_notifications() == [("firing", "critical", 1), ("firing", "warning", 3)]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ((), "no event is ahead: EC2 no longer lists it"),
        ((REBOOT.model_copy(update={"description": "[Completed] The host is updated"}),),
         "no event is ahead: system-reboot: EC2 has marked it as completed"),
        ((REBOOT.model_copy(update={"description": "[Canceled] The host is updated"}),),
         "no event is ahead: system-reboot: EC2 has marked it as cancelled"),
    ],
)  # fmt: skip
def test_it_is_over_when_none_is_left(site: Site, last: tuple[ScheduledEvent, ...], expected: str) -> None:
    """Completed, cancelled and gone each have their word, at the first collection that sees it. It may fire again."""
    site.plan(1, REBOOT)
    site.plan(5, *last)
    site.plan(6, *last)
    assert site.scheduled_notifications() == [("firing", "warning", 1), ("resolved", "warning", 5)]
    assert site.newest.summary == f"render-07: {expected}"
    site.plan(7, REBOOT)
    assert len(site.scheduled_notifications()) == 3
    ids = [entry.notification.id for entry in site.alerts.history(f"{ID}/scheduled") if entry.notification]
    assert len(set(ids)) == 3, "the same event may come back, but an id never does"


def test_an_event_whose_end_is_past_is_over_though_ec2_lists_it(site: Site) -> None:
    """It resolves at its end, even if evaluated much later, and not before."""
    site.plan(1, REBOOT)
    site.plan(7 * 1440 + 60, REBOOT)
    assert len(site.scheduled_notifications()) == 1
    site.plan(8 * 1440, REBOOT)
    assert site.scheduled_notifications() == [("firing", "warning", 1), ("resolved", "warning", 7 * 1440 + 120)]
    assert "its end, 2023-11-22T00:00:00Z, is past" in site.newest.summary


def test_completed_events_alone_are_nothing(site: Site) -> None:
    """Completed events, which EC2 lists for a week, do not fire."""
    site.plan(1, REBOOT.model_copy(update={"description": "[Completed] done"}))
    assert site.scheduled_notifications() == []
    assert site.alerts.load([ID])[ID].alerts == {}


def test_a_rule_may_wait_until_it_is_near() -> None:
    """With ``ahead`` it notifies exactly that long before the event begins."""
    far_ahead = Site(changed(RULE, ahead=2 * DAY))
    far_ahead.plan(1, REBOOT)
    assert far_ahead.scheduled_notifications() == []
    far_ahead.plan(5 * 1440 + 7, REBOOT)
    assert far_ahead.scheduled_notifications() == [("firing", "warning", 5 * 1440)]
    far_ahead.plan(5 * 1440 + 8, REBOOT.model_copy(update={"not_before": T0 + 20 * DAY, "not_after": None}))
    assert far_ahead.newest.summary == "render-07: no event is ahead: it was postponed"


def test_codes_and_severity_are_the_rules(site: Site) -> None:
    """Only the rule's codes fire, with its severity. By default retirement and stop are critical."""
    stops_only = Site(changed(RULE, codes=("instance-stop",), severity="warning", by_code=False))
    stop = ScheduledEvent(id="3", code="instance-stop", not_before=T0 + DAY)
    stops_only.plan(1, REBOOT, RETIRED)
    assert stops_only.scheduled_notifications() == []
    stops_only.plan(2, REBOOT, stop)
    assert stops_only.scheduled_notifications() == [("firing", "warning", 2)]
    site.plan(1, stop)
    assert site.scheduled_notifications() == [("firing", "critical", 1)]
    assert {code for code, severity in event.CODES.items() if severity == "critical"} == {
        "instance-stop", "instance-retirement", "spot-interruption",
    }  # fmt: skip


def test_an_event_without_times_notifies_too(site: Site) -> None:
    """An unknown time is shown as unknown, and sorts last. An unknown code is a warning."""
    site.plan(1, ScheduledEvent(id="x", code="brand-new", description="odd\nthing"), RETIRED)
    assert site.newest.summary.endswith("; and 1 more: brand-new a time that EC2 does not give")
    site.plan(2, ScheduledEvent(id="x", code="brand-new", description="odd\nthing"))
    assert site.scheduled_notifications()[-1][1] == "warning"
    assert "brand-new scheduled for a time that EC2 does not give: odd\\nthing" in site.newest.summary


# --- what is no news ---------------------------------------------------------------------------------------------


def test_a_failed_call_is_no_absence(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """If EC2 does not answer, nothing resolves, nor if only DescribeInstances knows the worker."""
    site.plan(1, REBOOT)
    site.ec2.error = errors.AwsThrottled("EC2", "too much", "wait")
    site.ec2.events[ID] = ()
    site.step(2)
    site.ec2.error = None
    with monkeypatch.context() as patched:
        patched.setattr(site.ec2, "statuses", lambda scope, ids: {})
        site.step(3)
    assert site.condition.status == "running"
    assert site.scheduled_notifications() == [("firing", "warning", 1)]
    site.step(4)
    assert site.scheduled_notifications() == [("firing", "warning", 1), ("resolved", "warning", 4)]


def test_a_stopped_worker_still_has_its_events_and_a_terminated_one_none(site: Site) -> None:
    """Events of a stopped instance notify. A termination resolves them with the reason."""
    site.step(1, "stopped", "Client.UserInitiatedShutdown")
    site.plan(2, RETIRED)
    assert site.scheduled_notifications() == [("firing", "critical", 2)]
    site.step(3, "terminated", "Client.UserInitiatedShutdown")
    assert site.newest.reason == "the instance is terminated"
    assert site.alerts.open() == []


def test_pause_removal_and_silence_hold_here_too(site: Site) -> None:
    """A pause resolves the alert, resuming fires it again, a silence mutes it, removal resolves it."""
    site.plan(1, REBOOT)
    site.pause()
    site.evaluate()
    assert site.newest.reason == "monitoring is paused"
    site.pause(paused=False)
    site.plan(3, REBOOT)
    assert [status for status, _, _ in site.scheduled_notifications()] == ["firing", "resolved", "firing"]
    site.silences.add(models.Silence(id="s", rule="scheduled", begins=T0, ends=T0 + 600, reason="known", by="me"))
    site.plan(4, REBOOT, RETIRED)
    assert site.alerts.history(f"{ID}/scheduled")[0].transition.silenced_by == "s"
    site.plan(11, REBOOT, RETIRED)
    assert "; the silence s" in (site.newest.reason or "")
    site.get(fleet.Removing).remove([ID])
    assert site.newest.reason == "removed"
    assert site.alerts.open() == []


def test_a_replay_has_the_same_id() -> None:
    """An evaluation repeated after a rollback, at another time of day, notifies with the same id."""
    ids = []
    for late in (0, 900):
        other_site = Site()
        other_site.plan(0)
        other_site.ec2.events[ID] = (REBOOT,)
        other_site.look(1)
        other_site.clock.advance(late)
        other_site.evaluate()
        ids.append((other_site.newest.id, other_site.newest.at))
    assert ids[0] == ids[1]


@st.composite
def courses(draw: st.DrawFn) -> list[tuple[ScheduledEvent, ...]]:
    """Give EC2's lists of events, collection by collection."""
    scheduled_events = st.builds(
        ScheduledEvent,
        id=st.sampled_from("abc"),
        code=st.sampled_from(sorted(event.CODES)),
        description=st.sampled_from(["", "[Completed] x", "[Canceled] x"]),
        not_before=st.sampled_from([T0 + 2 * MINUTE, T0 + DAY]),
        not_after=st.sampled_from([None, T0 + 3 * MINUTE]),
    )
    return draw(st.lists(st.lists(scheduled_events, max_size=3).map(tuple), min_size=1, max_size=6))


@given(course=courses(), looks=st.lists(st.booleans(), min_size=6, max_size=6))
def test_the_present_does_not_depend_on_who_looked(course: list[tuple[ScheduledEvent, ...]], looks: list[bool]) -> None:
    """However evaluations are grouped, the result is that of the last answer alone, in order of time."""
    condition, rule_state = models.Condition(), models.RuleState()
    times: list[int] = []
    for minute, events_of_ec2 in enumerate(course):
        at = T0 + minute * MINUTE
        events, events_at = event.merge_listed(condition, events_of_ec2, at)
        condition = models.Condition(collected_at=at, events=events, events_at=events_at)
        if looks[minute] or minute == len(course) - 1:
            rule_state, transitions = event.KIND.judge(RULE, rule_state, Facts(condition=condition), None)
            times += [transition.at for transition in transitions]
            assert len(transitions) <= 1
            assert event.KIND.judge(RULE, rule_state, Facts(condition=condition), None) == (rule_state, ())
    last = present(condition.collected_at)
    ahead = [
        scheduled for scheduled in {event.key(scheduled): scheduled for scheduled in course[-1]}.values()
        if not scheduled.description and (scheduled.not_after is None or scheduled.not_after > last)
    ]  # fmt: skip
    worst = {"instance-stop", "instance-retirement", "spot-interruption"} & {scheduled.code for scheduled in ahead}
    assert rule_state.severity == ("critical" if worst else "warning" if ahead else None)
    assert times == sorted(times)
    assert all(at <= last for at in times)


# --- why, show, the file -----------------------------------------------------------------------------------------


def explain(site: Site) -> Any:
    """Explain the rule."""
    return explanation_json(site, "event")["rules"][0]


def test_why_lists_what_is_scheduled_and_why_it_is_not_notified(site: Site) -> None:
    """Each case has its state: no event, a notified event, a past event."""
    assert explain(site)["now"] == "EC2 has scheduled nothing"
    site.plan(1, REBOOT, RETIRED.model_copy(update={"description": "[Completed] x"}))
    explanation = explain(site)
    assert explanation["severity"] == "by code"
    assert [(row["code"], row["not_notified"]) for row in explanation["events"]] == [
        ("system-reboot", None), ("instance-retirement", "EC2 has marked it as completed"),
    ]  # fmt: skip
    assert explanation["now"].startswith("system-reboot scheduled for")
    site.change(rules=(changed(RULE, ahead=DAY),))
    site.evaluate()
    assert explain(site)["now"] == (
        "not notified: system-reboot 2023-11-21T22:00:00Z: it notifies from 2023-11-20T22:00:00Z on"
    )
    assert site.newest.status == "resolved"


def detail(site: Site) -> views.WorkerDetail:
    """Return the worker's part of ``show``."""
    return site.get(views.WorkerView).show(site.workers.get([ID])[ID])


def test_show_lists_what_is_scheduled(site: Site) -> None:
    """Each event has its times and its state."""
    site.plan(1, REBOOT)
    assert detail(site).to_json()["events"] == [
        {"id": "instance-event-1", "code": "system-reboot", "description": "The host is updated",
         "not_before": "2023-11-21T22:00:00Z", "not_after": "2023-11-22T00:00:00Z",
         "deadline": "2023-11-23T22:00:00Z", "state": "ahead"},
    ]  # fmt: skip


FILE = '[[rules]]\nname = "plans"\nmetric = "event"\n'


@pytest.mark.parametrize(
    ("lines", "changes"),
    [
        ("", {"by_code": True}),
        ('ahead = "14d"\n', {"by_code": True, "ahead": 14 * DAY}),
        ('codes = ["instance-stop", "instance-stop"]\nseverity = "warning"\n',
         {"codes": ("instance-stop",), "severity": "warning"}),
        ('severity = "critical"\nlabels = { a = "b" }\n', {"labels": {"a": "b"}}),
    ],
)  # fmt: skip
def test_the_file_says_all_of_it_and_export_gives_it_back(lines: str, changes: dict[str, Any]) -> None:
    """Event and state rules are the same after an export, and differences are shown."""
    configuration = config.to_configuration(testing.parse(FILE + lines, "f"), config.DEFAULT)
    assert configuration.rules == (event.KIND.rule("plans", **changes),)
    state = f'{FILE}{lines}[[rules]]\nname = "down"\nmetric = "state"\nexpected = ["Server.ScheduledStop"]\n'
    changed_configuration = config.to_configuration(testing.parse(state, "f"), configuration)
    reparsed = config.to_configuration(testing.parse(export.text(changed_configuration, ()), "g"), config.DEFAULT)
    assert reparsed.rules == changed_configuration.rules
    assert difference.changes(configuration, changed_configuration).rules == difference.Names(
        added=("down",), changed=(), removed=()
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('codes = ["instance-retirment"]', "line 4, column 10: rules[0].codes[0]: instance-retirment is"
         " not a code of EC2; did you mean instance-retirement?"),
        ("codes = []", "rules[0].codes: is empty; leave it out for all"),
        ('ahead = "14 days"', "line 4, column 1: rules[0].ahead: '14 days' is not a duration"),
        ('ahead = "1s"', "rules[0].ahead: must be at least 1m and at most 365d"),
        ('ahed = "1d"', "rules[0].ahed: is not a known key; did you mean ahead?"),
        ("breach = \"1 of 1\"", "rules[0].breach: is not for metric = 'event'; remove it; it takes ahead, codes"),
        ('states = ["stopped"]', "rules[0].states: is not for metric = 'event'"),
        ('flapping = "5 in 1h"', "rules[0].flapping: is not for metric = 'event'"),
        ('[[rules.cases]]\nname = "a"\nvalues = [1]', "is not for metric = 'event'; remove them; there are no values"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_file_is_named_by_its_place(line: str, expected: str) -> None:
    """The error has source, line, column, field and the nearest valid word."""
    with pytest.raises(errors.InvalidInput) as wrong:
        testing.parse(FILE + line + "\n", "f")
    assert expected in str(wrong.value)


def test_the_schema_knows_the_keys() -> None:
    """The schema has the keys, so editors can complete them."""
    properties = testing.parser().schema()["$defs"]["RuleSection"]["properties"]
    assert {"states", "expected", "codes", "ahead"} <= set(properties)
    assert properties["states"]["items"]["enum"] == ["stopped", "terminated"]


def test_the_defaults_are_without_these_rules() -> None:
    """The default rules have none of these kinds."""
    assert {rule.kind for rule in config.DEFAULT.rules} == {"threshold", "no-data"}


def test_what_is_repeated_does_not_say_how_long_it_was_until_then(site: Site) -> None:
    """A reminder, and a notification at a silence's end, have the time, not the remaining days."""
    site.plan(1, REBOOT)
    assert "(in 7 days)" in text.title(site.newest)
    reminder = site.newest.model_copy(update={"reminder": True})
    assert "in 7 days" not in text.plain(reminder)
    assert "2023-11-21T22:00:00Z: The host is updated" in text.plain(reminder)
    site.silences.add(models.Silence(id="s", rule="scheduled", begins=T0, ends=T0 + 600, reason="known", by="me"))
    site.plan(2, REBOOT, RETIRED)
    site.plan(3 * 1440, REBOOT, RETIRED)
    assert "scheduled for 2023-11-21T22:00:00Z: The host is updated" in site.newest.summary


def test_the_commands_print_it(site: Site) -> None:
    """``why`` and ``show`` have lines about scheduled events and the reason of a stop."""
    site.change(rules=(RULE, DOWN))
    site.plan(1, REBOOT, RETIRED.model_copy(update={"description": "[Completed] x"}))
    site.step(2, "stopped", "Client.UserInitiatedShutdown")
    record, explanation = site.workers.get([ID])[ID], site.get(views.Explanation)
    lines = "\n".join(alerts._worker_lines(explanation.explain(record, "event")))
    assert "  event     system-reboot 2023-11-21T22:00:00Z The host is updated\n" in lines
    assert (
        "instance-retirement 2023-11-28T22:00:00Z [Completed] x; not notified: EC2 has marked it as completed" in lines
    )
    lines = "\n".join(alerts._worker_lines(explanation.explain(record, "state")))
    assert "  rule      states stopped terminated, severity critical; notifies ops" in lines
    assert "  seen      2023-11-14T22:02:00Z stopped, Client.UserInitiatedShutdown" in lines
    lines_of_show = dict(show._lines(detail(site), site.clock()))
    assert lines_of_show["status"] == "stopped since 2023-11-14T22:02:00Z: Client.UserInitiatedShutdown"
    assert lines_of_show["scheduled"] == "instance-retirement 2023-11-28T22:00:00Z [Completed] x"


def test_cases_and_backtests_of_such_a_rule_are_refused_in_a_line(tmp_path: Path) -> None:
    """``rules test`` and ``backtest`` say with a position that such a rule has no values."""
    file = tmp_path / "f.toml"
    file.write_text(FILE + '[[rules.cases]]\nname = "a"\nvalues = [1]\n', "utf-8")
    result = CliRunner().invoke(cli.cli, ["rules", "test", str(file)])
    assert result.exit_code == 2
    assert "rules[0].cases: is not for metric = 'event'; remove them; there are no values" in result.stderr
    file.write_text(FILE, "utf-8")
    assert CliRunner().invoke(cli.cli, ["rules", "check", str(file)]).exit_code == 0
    (tmp_path / "t.csv").write_text("timestamp,value\n60,1\n120,2\n", "utf-8")
    result = CliRunner().invoke(cli.cli, ["rules", "backtest", str(file), "--csv", str(tmp_path / "t.csv")])
    assert result.exit_code == 2
    assert "no rule is about a metric" in result.stderr


def test_apply_export_and_apply_again_change_nothing(ok: Any, tmp_path: Path) -> None:
    """``plan`` names both rules as new, and the export equals the rules in force."""
    file = tmp_path / "f.toml"
    file.write_text(FILE + 'ahead = "14d"\n[[rules]]\nname = "down"\nmetric = "state"\nstates = ["stopped"]\n', "utf-8")
    planned = ok("plan", str(file))
    assert "plans" in planned
    assert "down" in planned
    assert json.loads(ok("apply", str(file), "--json"))["changed"] == ["rules"]
    exported = ok("export")
    assert 'metric = "event"' in exported
    file.write_text(exported, "utf-8")
    assert json.loads(ok("apply", str(file), "--json"))["changed"] == []
    assert ok("export") == exported
