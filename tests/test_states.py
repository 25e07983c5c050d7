"""A stopped worker: what is stored, when it notifies, and that nothing is lost or notified twice."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.collected import RULE, House
from tests.support.evaluating import ID, MINUTE, T0, explanation_json
from tests.support.rules import changed
from workermon import config, errors, fleet, models, ports, testing, views
from workermon.alerts import lifecycle
from workermon.rules import Facts, state, threshold

CPU = threshold.KIND.rule(name="cpu-high", metric="cpu_utilization", above=models.Levels(critical=90), notify=("ops",))
BY_USER = "Client.UserInitiatedShutdown"
BY_ITSELF = "Client.InstanceInitiatedShutdown"
BY_SPOT = "Server.SpotInstanceTermination"


@pytest.fixture
def house() -> House:
    """Return a house with one running worker that was collected once."""
    new_house = House()
    new_house.step(0)
    return new_house


# --- when it notifies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("stopping", "the instance is being stopped"),
        ("stopped", "the instance is stopped"),
        ("shutting-down", "the instance is being terminated"),
        ("terminated", "the instance is terminated"),
    ],
)
def test_a_worker_that_ran_and_does_not_any_more_notifies(house: House, status: models.Status, expected: str) -> None:
    """It notifies once, with the time of the first collection that saw it, and EC2's code."""
    assert house.step(1, status, BY_ITSELF) == [f"{ID}/down"]
    for minute in (2, 3):
        house.step(minute)
    assert house.notified_of() == [("firing", 1)]
    notification = house.last()
    assert (notification.kind, notification.severity, notification.metric, notification.value) == (
        "state",
        "critical",
        None,
        None,
    )
    assert (
        notification.summary == f"render-07: {expected}: it was shut down from its own operating system ({BY_ITSELF})"
    )
    assert notification.reason == BY_ITSELF
    assert notification.since == notification.at == models.rfc3339(T0 + MINUTE)


def test_it_is_over_when_the_instance_runs_again(house: House) -> None:
    """Pending and unknown change nothing. The alert resolves when a collection first sees the worker running."""
    house.step(1, "stopping", BY_USER)
    house.step(2, "stopped", BY_USER)
    house.step(3, "unknown")
    house.step(4, "pending")
    assert house.notified_of() == [("firing", 1)]
    house.step(5, "running")
    assert house.notified_of() == [("firing", 1), ("resolved", 5)]
    assert house.last().summary == "render-07: the instance runs again"
    house.step(6, "stopped", BY_USER)
    assert house.notified_of()[2:] == [("firing", 6)]
    assert len({entry.notification.id for entry in house.alerts.history(f"{ID}/down") if entry.notification}) == 3


def test_a_worker_that_was_never_seen_running_does_not_notify() -> None:
    """Adding a stopped instance is not a change."""
    new_house = House()
    new_house.step(0, "stopped", BY_USER)
    new_house.step(1, "terminated", BY_USER)
    assert new_house.notified_of() == []
    assert new_house.condition.changes == ()
    assert new_house.describes() == 0


def test_what_is_expected_does_not_notify() -> None:
    """A reason that the rule expects does not fire, others do. A termination after an expected stop fires."""
    new_house = House(changed(RULE, expected=(BY_USER,)))
    new_house.step(0)
    new_house.step(1, "stopped", BY_USER)
    assert new_house.notified_of() == []
    new_house.step(2, "running")
    new_house.step(3, "stopping", BY_ITSELF)
    assert new_house.notified_of() == [("firing", 3)]
    new_house.step(4, "running")
    new_house.step(5, "stopped", BY_USER)
    new_house.step(6, "terminated", BY_SPOT)
    assert new_house.notified_of() == [("firing", 3), ("resolved", 4), ("firing", 6)]


def test_a_rule_may_be_about_one_of_them() -> None:
    """``stopping`` counts for stopped and ``shutting-down`` for terminated, each for nothing else."""
    new_house = House(
        changed(RULE, name="gone", states=("terminated",), severity="warning"),
        changed(RULE, name="off", states=("stopped",)),
    )
    new_house.step(0)
    new_house.step(1, "stopping", BY_USER)
    new_house.step(2, "shutting-down", BY_USER)
    new_house.step(3, "terminated", BY_USER)
    assert new_house.notified_of("off") == [("firing", 1)]
    assert new_house.notified_of("gone") == [("firing", 2)]
    assert new_house.last("gone").severity == "warning"


def test_labels_silences_and_the_end_of_a_rule_hold_here_too(house: House) -> None:
    """Workers without the labels do not fire, silences apply, and a removed rule resolves its alert."""
    house.change(rules=(RULE.model_copy(update={"labels": {"team": "vfx"}}),))
    house.step(1, "stopped", BY_USER)
    assert house.notified_of() == []
    house.silences.add(models.Silence(id="s", rule="down", begins=T0, ends=T0 + 200, reason="at work", by="me"))
    house.change(rules=(RULE,))
    house.evaluate()
    [entry] = house.alerts.history(f"{ID}/down")
    assert entry.transition.silenced_by == "s"
    house.step(5)
    notification = house.last()
    assert (notification.reason or "").startswith("Client.UserInitiatedShutdown; the silence s")
    house.change(rules=(CPU,))
    house.evaluate()
    assert house.last().reason == "the rule down was removed"
    assert house.alerts.open() == []


# --- EC2's reason ------------------------------------------------------------------------------------------------


def test_the_reason_is_asked_for_once_and_only_of_what_changed(house: House) -> None:
    """A batch with changes takes one more call, for changed workers only. No reason is requested twice."""
    other_id = "i-0000000000000002b"
    house.ec2.put(models.Instance(id=other_id, region="us-east-1", status="running"))
    house.add(other_id)
    house.step(1)
    assert house.describes() == 0
    house.step(2, "stopping", BY_USER)
    assert [ids for operation, _, ids in house.ec2.calls if operation == "describe"] == [(ID,)]
    house.step(3, "stopped", BY_USER)
    house.step(4)
    assert house.describes() == 1


def test_a_reason_that_nobody_gives_stops_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """If DescribeInstances fails, the collection succeeds and the alert fires. It is requested again for a while."""
    inner = house.ec2.describe
    refused: list[Any] = []

    def refuse(scope: models.AccountRegion, ids: Any) -> Any:
        refused.append(ids)
        raise errors.AwsDenied("EC2", "not allowed", "allow it")

    monkeypatch.setattr(house.ec2, "describe", refuse)
    report_ = house.look(1, "stopped", BY_USER)
    assert (report_.failed, report_.collected) == ({}, (ID,))
    house.evaluate()
    assert house.last().summary.endswith("the instance is stopped: EC2 gave no reason")
    assert house.last().reason is None
    house.step(2)
    assert len(refused) == 2
    monkeypatch.setattr(house.ec2, "describe", inner)
    house.step(3)
    assert [change.reason.code for change in house.condition.changes if change.reason] == [BY_USER]
    assert house.notified_of() == [("firing", 1)]
    calls = house.describes()
    house.step(20)
    assert house.describes() == calls


def test_a_reason_that_comes_late_and_is_expected_withdraws_the_alert() -> None:
    """An alert without a reason resolves, as a correction, when EC2 gives a reason that the rule expects."""
    new_house = House(changed(RULE, expected=(BY_USER,)))
    new_house.step(0)
    new_house.step(1, "stopped")
    assert new_house.notified_of() == [("firing", 1)]
    new_house.step(2, "stopped", BY_USER)
    assert new_house.notified_of() == [("firing", 1), ("resolved", 1)]
    assert new_house.last().summary == f"render-07: {BY_USER} is expected"
    assert new_house.alerts.history(f"{ID}/down")[0].transition.correction


def test_the_reason_of_another_state_is_not_taken(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reason is ignored if DescribeInstances reports another state than the status call."""
    inner = house.ec2.describe

    def describe(scope: models.AccountRegion, ids: Any) -> dict[str, models.Instance]:
        running = {"status": "running", "reason": models.StateReason(code=BY_SPOT)}
        return {worker_id: reason.model_copy(update=running) for worker_id, reason in inner(scope, ids).items()}

    monkeypatch.setattr(house.ec2, "describe", describe)
    house.step(1, "stopped")
    assert house.condition.changes[-1].reason is None


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (models.StateReason(code="Server.ScheduledStop", message="Server.ScheduledStop: Stopped"),
         "the instance is stopped: EC2 stopped it for a scheduled retirement (Server.ScheduledStop)"),
        (models.StateReason(code="Server.Odd", message="Server.Odd: an \x1b[31modd thing"),
         "the instance is stopped: an \\x1b[31modd thing (Server.Odd)"),
        (models.StateReason(code="Server.Odd"), "the instance is stopped: Server.Odd"),
        (None, "the instance is stopped: EC2 gave no reason"),
    ],
)  # fmt: skip
def test_what_people_read_is_in_words(reason: models.StateReason | None, words: str) -> None:
    """A documented code has its meaning, another one EC2's text. Neither can control a terminal."""
    assert state.describe_status("stopped", reason) == words


def test_an_instance_that_ec2_does_not_know_any_more_notifies_so(house: House) -> None:
    """It counts as terminated, and that EC2 lacks it is the reason."""
    house.ec2.forget(ID)
    house.step(1)
    assert house.last().summary == "render-07: the instance is terminated: unknown to EC2"
    assert house.notified_of() == [("firing", 1)]


# --- pause, removal, termination ---------------------------------------------------------------------------------


def test_a_paused_worker_does_not_notify_nor_does_what_happened_meanwhile(house: House) -> None:
    """A stop during a pause does not fire, whenever it is evaluated. A later stop does."""
    house.step(1)
    house.pause()
    house.evaluate()
    house.step(2, "stopped", BY_USER)  # refreshed by hand
    assert house.notified_of() == []
    house.pause(paused=False)
    house.step(3)
    house.step(4)
    assert house.notified_of() == []
    house.step(5, "running")
    house.step(6, "stopped", BY_USER)
    assert house.notified_of() == [("firing", 6)]


def test_a_pause_ends_the_alert_and_the_end_of_the_pause_does_not_bring_it_back(house: House) -> None:
    """Pausing resolves it with the reason. After resuming, the same stop does not fire again."""
    house.step(1, "stopped", BY_USER)
    house.pause()
    house.evaluate()
    assert house.last().reason == "monitoring is paused"
    house.pause(paused=False)
    house.step(3)
    assert [status for status, _ in house.notified_of()] == ["firing", "resolved"]


def test_a_pause_of_a_running_worker_that_is_seen_running_afterwards_loses_nothing(house: House) -> None:
    """If one collection after the pause saw the worker run, the next stop fires."""
    house.pause()
    house.evaluate()
    house.pause(paused=False)
    house.look(3)  # nobody judges between the two
    house.step(4, "stopped", BY_USER)
    assert house.notified_of() == [("firing", 4)]


def test_a_terminated_worker_ends_the_other_alerts_and_begins_this_one() -> None:
    """One evaluation resolves its other alerts and fires this one, which stays open. Its entry is deleted."""
    new_house = House(RULE, CPU, models.Rule(name="no-data", kind="no-data"))
    new_house.worker = new_house.workers.get([ID])[ID].worker
    for minute in range(6):
        new_house.cloudwatch.put(ID, "CPUUtilization", [(T0 + slot * MINUTE, 95.0) for slot in range(minute)])
        new_house.step(minute)
    assert {alert.rule for alert in new_house.alerts.open()} == {"cpu-high"}
    new_house.look(7, "terminated", BY_SPOT)
    assert new_house.schedule.ids() == set()
    alert_ids = new_house.evaluate()
    assert sorted(alert_ids) == [f"{ID}/cpu-high", f"{ID}/down"]
    assert [alert.rule for alert in new_house.alerts.open()] == ["down"]
    assert new_house.samples.pending(math.inf, 10) == []
    new_house.clock.advance(3600)
    assert new_house.evaluate() == []
    assert [alert.rule for alert in new_house.alerts.open()] == ["down"]


def test_a_crash_before_the_evaluation_leaves_the_mark(house: House) -> None:
    """The sweep finds a terminated worker that was not evaluated, however late, and notifies with the first time."""
    house.look(1, "terminated", BY_SPOT)
    house.clock.advance(7 * 3600)
    assert house.samples.pending(house.clock(), 10) == [ID]
    assert house.evaluate(*house.samples.pending(house.clock(), 10)) == [f"{ID}/down"]
    assert house.notified_of() == [("firing", 1)]


def removal(house: House, how: str) -> None:
    """Have the worker leave the fleet."""
    if how == "remove":
        house.get(fleet.Removing).remove([ID])
    else:
        reconcile(house)


def reconcile(house: House) -> fleet.Reconciled:
    """Run a reconciliation."""
    return house.get(fleet.Reconciliation).reconcile(region="us-east-1")


@pytest.mark.parametrize(("how", "reason"), [("remove", "removed"), ("reconcile", "terminated")])
def test_the_alert_of_a_terminated_worker_ends_when_the_worker_leaves(house: House, how: str, reason: str) -> None:
    """Removal by command and by reconciliation both resolve it, and the reason names which."""
    house.step(1, "terminated", BY_SPOT)
    removal(house, how)
    assert house.workers.ids() == []
    assert house.notified_of() == [("firing", 1), ("resolved", 1)]
    assert house.last().reason == reason
    assert house.alerts.open() == []


def test_a_reconciliation_that_sees_the_end_first_leaves_it_to_the_evaluation(house: House) -> None:
    """A terminated worker is not retired before a collection has seen the end and it is evaluated."""
    house.clock.now = T0 + 30
    house.ec2.become(ID, "terminated", BY_SPOT)
    assert reconcile(house).repairs == ()
    house.look(1)
    assert reconcile(house).repairs == ()
    assert house.workers.ids() == [ID]
    house.evaluate()
    assert house.notified_of() == [("firing", 1)]
    assert [repair.action for repair in reconcile(house).repairs] == ["retire"]
    assert house.notified_of() == [("firing", 1), ("resolved", 1)]


def test_discovery_leaves_it_to_the_evaluation_too(house: House) -> None:
    """A terminated worker that lost its tags is removed after its alert was recorded."""
    worker = house.workers.get([ID])[ID].worker
    assert house.workers.update(worker.model_copy(update={"origin": "discover"}))
    house.change(discover=models.Discover(regions=("us-east-1",), tags={"Role": "render"}))
    house.ec2.become(ID, "terminated", BY_SPOT)
    assert reconcile(house).repairs == ()
    house.step(1)
    reconcile(house)
    assert house.workers.ids() == []
    assert house.notified_of() == [("firing", 1), ("resolved", 1)]


DISCOVER = '[discover]\nregions = ["us-east-1"]\ntags = { Role = "render" }\n'


@pytest.mark.parametrize("status", ["terminated", "running"])
def test_a_file_that_is_applied_does_not_remove_a_worker_that_has_to_notify(
    house: House, status: models.Status
) -> None:
    """A terminated worker is removed after its evaluation. One that only lost its tags is removed at once."""
    worker = house.workers.get([ID])[ID].worker
    assert house.workers.update(worker.model_copy(update={"origin": "discover"}))
    house.ec2.become(ID, status, BY_SPOT)
    house.change(channels={"ops": models.Channel(name="ops", type="log")})
    file = testing.parse(DISCOVER, "f")
    plan = house.get(fleet.Preview).preview(file, fleet.ApplyOptions(region="us-east-1"))
    assert plan.removed == (() if status == "terminated" else (ID,))


@pytest.mark.parametrize("case", ["paused", "no rule", "expected", "never ran"])
def test_a_worker_with_nothing_to_notify_is_retired_at_once(case: str) -> None:
    """If no alert can follow, the reconciliation retires a terminated worker at once."""
    new_house = House(*{"no rule": (CPU,), "expected": (changed(RULE, expected=(BY_SPOT,)),)}.get(case, ()))
    new_house.step(0, "stopped" if case == "never ran" else None)
    if case == "paused":
        new_house.pause()
    if case == "expected":
        new_house.step(1, "terminated", BY_SPOT)
    new_house.ec2.become(ID, "terminated", BY_SPOT)
    assert [repair.action for repair in reconcile(new_house).repairs] == ["retire"]


# --- that it does not matter who looks when ----------------------------------------------------------------------


def test_a_stop_that_was_over_before_it_was_seen_is_recorded_and_notifies_nobody(house: House) -> None:
    """It notifies nobody, and the history has both transitions with their times."""
    house.look(1, "stopped", BY_USER)
    house.look(2, "running")
    assert house.evaluate() == []
    entries = [
        (entry.transition.at, entry.transition.after, entry.notification)
        for entry in house.alerts.history(f"{ID}/down")
    ]
    assert entries == [(T0 + 120, None, None), (T0 + 60, "critical", None)]
    house.step(3)
    assert len(house.alerts.history(f"{ID}/down")) == 2


STATUSES: list[models.Status] = ["running", "stopping", "stopped", "shutting-down", "terminated", "pending", "unknown"]


@given(
    course=st.lists(st.sampled_from(STATUSES), min_size=1, max_size=9),
    looks=st.lists(st.booleans(), min_size=9, max_size=9),
)
def test_the_transitions_are_those_of_a_plain_loop_in_any_grouping(
    course: list[models.Status], looks: list[bool]
) -> None:
    """Any grouping of evaluations records the transitions and times of a plain loop over the statuses."""
    condition, rule_state, state_changes = models.Condition(), models.RuleState(), []
    for minute, status in enumerate(course):
        at = T0 + minute * MINUTE
        changes = state.append_change(condition, status, at, None)
        condition = models.Condition(
            status=status, collected_at=at, changes=changes,
            running_since=None if status != "running" else condition.running_since or at,
        )  # fmt: skip
        if looks[minute] or minute == len(course) - 1:
            rule_state, transitions = state.KIND.judge(RULE, rule_state, Facts(condition=condition), None)
            assert rule_state.severity == (transitions[-1].after if transitions else rule_state.severity)
            state_changes += [(transition.at, transition.after) for transition in transitions]
            assert state.KIND.judge(RULE, rule_state, Facts(condition=condition), None) == (rule_state, ())
    expected: list[tuple[int, models.Severity | None]] = []
    ran, down = False, False
    for minute, status in enumerate(course):
        if status == "running":
            if down:
                expected.append((T0 + minute * MINUTE, None))
            ran, down = True, False
        elif status in state.DOWN and ran and not down:
            expected.append((T0 + minute * MINUTE, "critical"))
            down = True
    assert state_changes == expected


def test_what_a_running_worker_remembers_goes_after_an_hour(house: House) -> None:
    """A running worker's changes are dropped. A stopped worker's changes are kept for late evaluations."""
    remembered = [len(house.condition.changes)]
    house.step(1, "stopped", BY_USER)
    house.step(2, "running")
    remembered.append(len(house.condition.changes))
    house.step(2 + 61)
    remembered.append(len(house.condition.changes))
    assert remembered == [0, 3, 0]
    assert house.notified_of() == [("firing", 1), ("resolved", 2)]


def test_what_is_remembered_is_bounded(house: House) -> None:
    """A worker that starts and stops all the time keeps a dozen changes, its last run among them."""
    for minute in range(1, 30):
        house.look(minute, "stopped" if minute % 2 else "running", BY_USER)
    assert len(house.condition.changes) <= state.MAX_CHANGES
    house.evaluate()
    assert house.notified_of() == [("firing", 29)]


def test_who_saw_it_run_before_it_stopped_and_wrote_later_does_not_end_the_alert(house: House) -> None:
    """A collection older than the stop resolves nothing. The next one that sees it running does."""
    before = house.condition
    house.step(1, "stopped", BY_USER)
    sample = models.Sample(worker=house.worker, collected_at=T0 + 50, status="running")
    late = before.model_copy(update={"collected_at": T0 + 50})
    house.samples.write(sample, late, "{}", force=True)
    house.evaluate()
    assert house.notified_of() == [("firing", 1)]
    house.step(2)
    assert house.notified_of() == [("firing", 1)]
    house.step(3, "running")
    assert house.notified_of() == [("firing", 1), ("resolved", 3)]


def test_a_name_that_was_another_kind_of_rule_begins_anew() -> None:
    """An alert of an earlier threshold rule of this name resolves. Then this rule's alerts fire."""
    new_house = House(CPU.model_copy(update={"name": "down"}))
    for minute in range(6):
        new_house.cloudwatch.put(ID, "CPUUtilization", [(T0 + slot * MINUTE, 95.0) for slot in range(minute)])
        new_house.step(minute)
    assert [status for status, _ in new_house.notified_of()] == ["firing"]
    new_house.change(rules=(RULE,))
    new_house.evaluate()
    assert [status for status, _ in new_house.notified_of()] == ["firing", "resolved"]
    new_house.step(7, "stopped", BY_USER)
    assert new_house.notified_of()[2:] == [("firing", 7)]


def test_a_changed_rule_holds_for_what_fires() -> None:
    """Another severity notifies. A state no longer covered resolves, and fires again when covered again."""
    new_house = House()
    new_house.step(0)
    new_house.step(1, "stopped", BY_USER)
    new_house.change(rules=(RULE.model_copy(update={"severity": "warning"}),))
    new_house.evaluate()
    assert (new_house.last().status, new_house.last().severity) == ("firing", "warning")
    new_house.change(rules=(changed(RULE, states=("terminated",)),))
    new_house.evaluate()
    assert new_house.last().status == "resolved"
    new_house.change(rules=(RULE,))
    new_house.evaluate()
    assert new_house.last().status == "firing"
    versions = [entry.notification.version for entry in new_house.alerts.history(f"{ID}/down") if entry.notification]
    assert versions == [4, 3, 2, 1]


# --- why, show, the file -----------------------------------------------------------------------------------------


def explain(house: House) -> Any:
    """Explain the rule."""
    return explanation_json(house, "state")["rules"][0]


def test_why_shows_what_was_seen_and_the_state_of_the_rule(house: House) -> None:
    """why gives the reason for each case: running, stopped, stopped as expected, paused."""
    assert explain(house)["now"] == "the instance runs"
    house.step(1, "stopped", BY_USER)
    explanation = explain(house)
    assert (explanation["state"], explanation["notified"], explanation["since"]) == (
        "critical",
        "critical",
        models.rfc3339(T0 + MINUTE),
    )
    assert explanation["now"] == f"the instance is stopped: somebody stopped or terminated it through EC2 ({BY_USER})"
    assert [(change["status"], change["reason"] and change["reason"]["code"]) for change in explanation["changes"]] == [
        ("running", None), ("stopped", BY_USER),
    ]  # fmt: skip
    assert explanation["history"][0]["reason"] == explanation["now"]
    house.change(rules=(changed(RULE, expected=(BY_USER,)),))
    house.evaluate()
    assert explain(house)["now"].endswith("that is expected")
    house.pause()
    assert explain(house)["now"] == "monitoring is paused"


def test_show_has_ec2s_reason(house: House) -> None:
    """A stopped worker shows reason and time; a running one has none."""

    def status_reason() -> Any:
        record = house.workers.get([ID])[ID]
        return house.get(views.WorkerView).show(record).to_json()["status_reason"]

    assert status_reason() is None
    house.step(1, "stopped", BY_USER)
    assert status_reason() == {"code": BY_USER, "message": "", "since": models.rfc3339(T0 + MINUTE)}


FILE = '[[rules]]\nname = "down"\nmetric = "state"\n'


def test_the_file_says_all_of_it() -> None:
    """By default a rule covers both states, is critical, and expects no reason. The file can set each."""
    [rule] = testing.parse(FILE, "f").rules or ()
    assert rule == models.Rule(name="down", kind="state", notify=("log",))
    text = FILE + f'states = ["terminated"]\nexpected = ["{BY_USER}"]\nseverity = "warning"\nlabels = {{ a = "b" }}\n'
    [rule] = testing.parse(text, "f").rules or ()
    options = state.KIND.options(rule)
    assert (options.states, options.expected, rule.severity) == (("terminated",), (BY_USER,), "warning")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('states = ["stoped"]', "line 4, column 11: rules[0].states[0]: 'stoped' is none of stopped, terminated"),
        ("states = []", "line 4, column 1: rules[0].states: is empty"),
        ("above = { critical = 1 }", "line 4, column 1: rules[0].above: is not for metric = 'state'"),
        (
            "intervals = 3",
            "rules[0].intervals: is not for metric = 'state'; remove it; it takes expected, severity, st",
        ),
        (
            'expected = ["stopped"]',
            "line 4, column 13: rules[0].expected[0]: stopped is not a code of EC2; use one of: Client.",
        ),
        ('expected = ["UserInitiatedShutdown"]', f"is not a code of EC2; did you mean {BY_USER}?"),
        ('expeced = ["x"]', "line 4, column 1: rules[0].expeced: is not a known key; did you mean expected?"),
        ('severity = "bad"', "rules[0].severity: 'bad' is none of warning, critical"),
        ('[[rules.cases]]\nname = "a"\nvalues = [1]', "is not for metric = 'state'; remove them; there are no values"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_by_its_place(line: str, expected: str) -> None:
    """An error names source, line, column, field and the nearest valid word."""
    with pytest.raises(errors.InvalidInput) as wrong:
        testing.parse(FILE + line + "\n", "f")
    assert expected in str(wrong.value)


def test_a_metric_that_is_nearly_one_of_these_is_pointed_to_it() -> None:
    """``stat`` is not a metric, and the nearest name is suggested. Your own metric cannot have their names."""
    file = testing.parse('[[rules]]\nname = "a"\nmetric = "stat"\nabove = { critical = 1 }\n', "f")
    with pytest.raises(errors.InvalidInput, match="did you mean state"):
        config.to_configuration(file, config.DEFAULT)
    with pytest.raises(errors.InvalidInput, match="does not come from CloudWatch"):
        testing.parse('[[metrics]]\nname = "event"\nnamespace = "A"\nmetric_name = "B"\n', "f")
    with pytest.raises(errors.InvalidInput, match="is only for metric = 'state'"):
        testing.parse('[[rules]]\nname="a"\nmetric="cpu_utilization"\nabove={critical=1}\nstates=["stopped"]\n', "f")


def test_a_code_that_ec2_does_not_document_is_taken_with_a_warning() -> None:
    """An undocumented code is accepted with a warning, because EC2 may have more. A typing error gets a hint."""
    file = testing.parse(FILE + 'expected = ["Client.UserInitiatedShutdwon", "Server.Brandnew"]\n', "f")
    first, second = config.warnings(file, lambda ref: "")
    assert f"did you mean {BY_USER}?" in first
    assert "it counts as written" in second


def test_the_notification_of_the_end_keeps_its_kind(house: House) -> None:
    """An end without an evaluation keeps the alert's kind and names the worker."""
    house.step(1, "stopped", BY_USER)
    basis: ports.Basis[ports.Record] = house.alerts.load([ID])[ID]
    verdict = lifecycle.closing(basis, house.configurations.load(), "removed", T0 + 600)
    [(_, _, notification)] = verdict.transitions
    assert notification is not None
    assert (notification.kind, notification.status, notification.summary) == (
        "state",
        "resolved",
        "render-07: down resolved: removed",
    )
