"""The kind ``group``: how many of a group's workers are beyond a condition at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.grouping import MINUTE, T0, Pools, rule, worker_id
from workermon import errors, evaluate, fleet, models, views
from workermon.config import export
from workermon.rules import threshold


def at(slot: int) -> int:
    """Return the time of a slot."""
    return T0 + slot * MINUTE


def test_group_fires_and_resolves() -> None:
    """One alert is about the group. It names the members beyond the condition, and resolves with them."""
    pools = Pools()
    for number in range(3):
        pools.add(number)
    pools.slot(at(1), {0: 95, 1: 20, 2: 20})
    assert pools.notified() == []
    pools.slot(at(2), {0: 95, 1: 95, 2: 20})
    [alert] = pools.alerts.open()
    assert alert.last is not None
    assert alert.last.dedup_key == "group:pool=a/pool-hot"
    assert alert.last.worker is None
    assert alert.last.group == {"by": "pool", "value": "a"}
    assert alert.last.members == (worker_id(0), worker_id(1))
    assert (alert.last.kind, alert.last.severity, alert.last.at) == ("group", "critical", models.rfc3339(at(2)))
    assert "2 of 3 workers: web-0, web-1" in alert.last.summary
    pools.slot(at(3), {0: 95, 1: 20, 2: 20})
    assert pools.alerts.open() == []
    assert [status for _, status, _ in pools.notified()] == ["firing", "resolved"]


def test_members_are_not_notified() -> None:
    """The condition of a single member has no history and notifies nobody."""
    pools = Pools()
    for number in range(3):
        pools.add(number)
    pools.slot(at(1), {0: 95, 1: 95, 2: 95})
    assert {key for key, _, _ in pools.notified()} == {"group:pool=a/pool-hot"}
    assert pools.alerts.history(f"{worker_id(0)}/pool-hot") == []


FILE = """
[[rules]]
name = "pool-hot"
metric = "cpu_utilization"
above = {{ warning = 80, critical = 90 }}
{over}
"""


@pytest.mark.parametrize(
    ("over", "line", "error"),
    [
        ('over = { count = "3 of 10" }', 6, "rules[0].over.by: is missing"),
        (
            'over = { by = "pool" }',
            6,
            "rules[0].over: does not say how many workers of the group; give one of count, share, aggregate",
        ),
        ('over = { by = "pool", count = "3 of 10", share = 0.3 }', 6, "has count and share"),
        ('over = { by = "pool", count = "4 of 3" }', 6, "asks for 4 of 3 workers"),
        ('over = { by = "pool", count = 3 }', 6, 'must read "M of N", such as "3 of 10"'),
        ('over = { by = "pool", aggregate = "agv" }', 6, "'agv' is not a known aggregate; did you mean avg?"),
        ('warmup = "5m"\nover = { by = "pool", aggregate = "avg" }', 6, "is only for rules with a count or a share"),
        ('over = { by = "pool", share = 30 }', 6, "30 is not above 0 and at most 1"),
        ('over = { by = "pool", share = 0 }', 6, "0 is not above 0 and at most 1"),
        ('over = { by = "pool=a", share = 0.3 }', 6, "is not a label's name"),
        ('over = { by = "pool", cuont = "3 of 10" }', 6, "did you mean count?"),
        ('intervals = 3\nover = { by = "pool", share = 0.3 }', 6, "is not for a rule with over"),
    ],
)
def test_mistakes_in_the_file(over: str, line: int, error: str) -> None:
    """An invalid rule over groups is refused with its position and what to do."""
    with pytest.raises(errors.WorkermonError) as wrong:
        Pools().parser.parse(FILE.format(over=over), "fleet.toml")
    assert f"line {line}, column" in str(wrong.value)
    assert error in str(wrong.value)


def pools_of(size: int, *rules: models.Rule) -> Pools:
    """Return a pool of so many workers."""
    pools = Pools(*rules)
    for number in range(size):
        pools.add(number)
    return pools


def statuses(pools: Pools) -> list[str]:
    """Return the status of each notification so far."""
    return [status for _, status, _ in pools.notified()]


def test_a_slot_waits_for_every_member() -> None:
    """The group is evaluated up to the slot that all members have, in any order of arrival, by the time of the data."""
    pools = pools_of(3)
    pools.slot(at(1), dict.fromkeys(range(3), 20.0))
    pools.slot(at(2), {0: 95, 1: 95})
    assert statuses(pools) == []
    pools.slot(at(2), {2: 20})
    [alert] = pools.alerts.open()
    assert (alert.since, alert.last and alert.last.at) == (at(2), models.rfc3339(at(2)))


def test_a_silent_member_does_not_hold_the_group_for_ever() -> None:
    """After two periods and three minutes a silent member counts by its last state. Later datapoints correct that."""
    pools = pools_of(3)
    pools.slot(at(1), dict.fromkeys(range(3), 20.0))
    for slot in range(2, 7):
        pools.slot(at(slot), {0: 95, 1: 95})
        assert statuses(pools) == []
    pools.slot(at(7), {0: 95, 1: 95})
    assert statuses(pools) == ["firing"]
    pools.collected(2, at(8), {at(slot): 20 for slot in range(2, 8)})
    pools.evaluate()
    assert statuses(pools) == ["firing"]


def test_a_late_datapoint_corrects() -> None:
    """A member's late datapoint is recorded as a correction, and the present notifies."""
    pools = pools_of(3)
    pools.slot(at(1), dict.fromkeys(range(3), 20.0))
    pools.slot(at(2), {0: 95, 1: 95, 2: 20})
    pools.slot(at(3), {0: 95, 1: 95, 2: 20})
    pools.collected(1, at(4), {at(2): 20, at(3): 20})
    pools.evaluate()
    newest = pools.alerts.history("group:pool=a/pool-hot")[0]
    assert newest.transition.correction
    assert newest.transition.withdrawn
    assert statuses(pools) == ["firing", "resolved"]


def test_members_that_join_change_nothing() -> None:
    """A new worker counts from its addition on. A smaller share because of it resolves no alert."""
    pools = pools_of(4, rule(count=None, share=0.5))
    pools.slot(at(1), {0: 95, 1: 95, 2: 20, 3: 20})
    assert statuses(pools) == ["firing"]
    for number in range(4, 9):
        pools.add(number, added_at=at(1) + 30)
        pools.collected(number, at(2) + 30, {at(1): 20})
    pools.evaluate()
    for slot in range(2, 6):
        pools.slot(at(slot), {0: 95, 1: 95} | dict.fromkeys(range(2, 9), 20.0))
    assert statuses(pools) == ["firing"]
    assert not any(entry.transition.correction for entry in pools.alerts.history())
    pools.slot(at(6), {0: 95} | dict.fromkeys(range(1, 9), 20.0))
    assert statuses(pools) == ["firing", "resolved"]


def test_members_that_stop_no_longer_count() -> None:
    """The group does not wait for stopped members. Its alert resolves if too few others are beyond the condition."""
    pools = pools_of(4)
    pools.slot(at(1), {0: 95, 1: 95, 2: 95, 3: 20})
    pools.collected(3, at(3), status="stopped")
    pools.evaluate()
    pools.slot(at(2), {0: 95, 1: 95, 2: 95})
    pools.collected(0, at(4), status="stopped")
    pools.evaluate()
    pools.slot(at(3), {1: 95, 2: 95})
    assert statuses(pools) == ["firing"]
    pools.collected(1, at(5), status="stopped")
    pools.evaluate()
    pools.slot(at(4), {2: 95})
    assert statuses(pools) == ["firing", "resolved"]


def test_a_member_that_starts_again_counts_by_what_came_since() -> None:
    """Datapoints from before its stop do not count."""
    pools = pools_of(3)
    pools.slot(at(1), {0: 95, 1: 95, 2: 20})
    pools.collected(0, at(3), status="stopped")
    pools.evaluate()
    pools.slot(at(2), {1: 95, 2: 20})
    assert statuses(pools) == ["firing", "resolved"]
    pools.collected(0, at(4) + 1, {at(3): 20}, since=at(3))
    pools.evaluate()
    pools.slot(at(3), {1: 95, 2: 20})
    assert statuses(pools) == ["firing", "resolved"]
    pools.slot(at(4), {0: 95, 1: 95, 2: 20})
    assert statuses(pools) == ["firing", "resolved", "firing"]


@pytest.mark.parametrize("how", ["removed", "paused", "relabelled"])
def test_the_alert_is_over_when_no_worker_is_left(how: str) -> None:
    """A group's alert resolves when its last worker is gone, for any reason."""
    pools = pools_of(2)
    pools.slot(at(1), {0: 95, 1: 95})
    assert statuses(pools) == ["firing"]
    for number in range(2):
        record = pools.workers.get([worker_id(number)])[worker_id(number)]
        if how == "removed":
            pools.get(fleet.Removing).remove([worker_id(number)])
            continue
        changes = {"monitoring": "paused"} if how == "paused" else {"labels": {"pool": "b"}}
        pools.workers.update(record.worker.model_copy(update=changes))
        pools.samples.mark_pending([worker_id(number)], pools.clock())
    pools.evaluate()
    assert statuses(pools) == ["firing", "resolved"]
    if how == "relabelled":
        pools.slot(at(2), {0: 95, 1: 95})
    assert [alert.last.dedup_key for alert in pools.alerts.open() if alert.last] == (
        ["group:pool=b/pool-hot"] if how == "relabelled" else []
    )


def test_the_alert_is_over_when_its_rule_is_removed() -> None:
    """It resolves with the removed rule as the reason."""
    pools = pools_of(2)
    pools.slot(at(1), {0: 95, 1: 95})
    pools.configure(rules=())
    pools.samples.mark_pending([worker_id(0), worker_id(1)], pools.clock())
    pools.evaluate()
    assert statuses(pools) == ["firing", "resolved"]


@pytest.mark.parametrize(
    "silence",
    [{"labels": {"pool": "a"}}, {"rule": "pool-hot"}, {"alert": "group:pool=a/pool-hot"}],
)
def test_a_group_is_silenced_as_any_alert(silence: dict[str, object]) -> None:
    """A silence by label, rule or dedup_key applies. When it is removed, the alert notifies."""
    pools = pools_of(3)
    pools.slot(at(1), dict.fromkeys(range(3), 20.0))
    pools.slot(at(2), {0: 95, 1: 95, 2: 20})
    pools.slot(at(3), dict.fromkeys(range(3), 20.0))
    request = models.SilenceRequest.model_validate(
        {"ends": pools.clock() + 3600, "reason": "tests", "by": "me"} | silence
    )
    added = pools.get(evaluate.Silencing).add(request)
    pools.slot(at(4), {0: 95, 1: 95, 2: 20})
    [alert] = pools.alerts.open()
    assert (alert.silenced_by, alert.channels) == (added.id, ())
    pools.get(evaluate.Unsilencing).remove(added.id)
    pools.evaluate()
    [alert] = pools.alerts.open()
    assert (alert.silenced_by, alert.channels) == (None, ("ops",))


def test_other_labels_do_not_silence_a_group() -> None:
    """A silence of another pool, or of more labels than the pool, does not match."""
    pools = pools_of(2)
    for labels in ({"pool": "b"}, {"pool": "a", "team": "vfx"}):
        request = models.SilenceRequest(labels=labels, ends=pools.clock() + 3600, reason="tests", by="me")
        pools.get(evaluate.Silencing).add(request)
    pools.slot(at(1), {0: 95, 1: 95})
    [alert] = pools.alerts.open()
    assert alert.silenced_by is None


def test_an_alert_about_a_group_is_acknowledged() -> None:
    """It is acknowledged by its dedup_key like any other."""
    pools = pools_of(2)
    pools.slot(at(1), {0: 95, 1: 95})
    pools.get(evaluate.Acknowledging).acknowledge("group:pool=a/pool-hot", "me")
    [row] = pools.get(views.AlertView).list().alerts
    assert (row.acked_by, row.group, row.members) == (
        "me",
        {"by": "pool", "value": "a"},
        (worker_id(0), worker_id(1)),
    )


def test_why_explains_a_group() -> None:
    """why gives the number and names of members beyond the condition and the evaluated time.

    Unknown groups are named.
    """
    pools = pools_of(3)
    pools.slot(at(1), {0: 95, 1: 20, 2: 20})
    explanation = pools.get(views.ExplainGroups).explain("group:pool=a", "pool-hot").model_dump(mode="json")
    [explained] = explanation["rules"]
    assert (explanation["group"], explanation["workers"]) == ({"by": "pool", "value": "a"}, 3)
    assert explained["now"] == "1 of 3 workers are at critical, critical fires at 2"
    assert (explained["holding"], explained["size"], explained["needed"]) == (1, 3, 2)
    assert explained["members"][0] == {
        "id": worker_id(0),
        "name": "web-0",
        "state": "critical",
        "known": models.rfc3339(at(2) - 1),
    }
    with pytest.raises(errors.NotFound, match="did you mean group:pool=a"):
        pools.get(views.ExplainGroups).explain("group:pool=b")
    with pytest.raises(errors.NotFound, match="did you mean pool-hot"):
        pools.get(views.ExplainGroups).explain("group:pool=a", "pool-hoot")


def test_a_rule_that_becomes_one_over_groups_ends_its_alerts_about_workers() -> None:
    """If a rule changes between workers and groups, its alerts of the other kind resolve."""
    single = threshold.KIND.rule(
        name="pool-hot",
        metric="cpu_utilization",
        above=models.Levels(critical=90.0),
        breach=models.Count(m=1, n=1),
        recover=models.Count(m=1, n=1),
        notify=("ops",),
    )
    pools = pools_of(2, single)
    pools.slot(at(1), {0: 95, 1: 95})
    assert len(pools.alerts.open()) == 2
    pools.configure(rules=(rule(),))
    for slot in range(2, 5):
        pools.slot(at(slot), {0: 95, 1: 95})
    assert [alert.last.dedup_key for alert in pools.alerts.open() if alert.last] == ["group:pool=a/pool-hot"]
    pools.configure(rules=(single,))
    for slot in range(5, 8):
        pools.slot(at(slot), {0: 95, 1: 95})
    assert sorted(alert.last.dedup_key for alert in pools.alerts.open() if alert.last) == [
        f"{worker_id(0)}/pool-hot",
        f"{worker_id(1)}/pool-hot",
    ]


def test_another_number_counts_from_then_on() -> None:
    """A changed number corrects or withdraws no earlier transition."""
    pools = pools_of(3)
    pools.slot(at(1), {0: 95, 1: 95, 2: 20})
    pools.configure(rules=(rule(count=models.Members(m=3, n=3)),))
    for slot in range(2, 5):
        pools.slot(at(slot), {0: 95, 1: 95, 2: 20})
    assert statuses(pools) == ["firing", "resolved"]
    assert not any(entry.transition.correction for entry in pools.alerts.history())


WHEN = """
[[rules]]
name = "hot"
metric = "cpu_utilization"
above = { critical = 90 }
breach = "1 of 1"
recover = "1 of 1"
notify = []

[[rules]]
name = "pool-in-trouble"
over = { by = "pool", count = "2 of 3" }
when = "hot and not cold"
severity = "warning"

[[rules]]
name = "cold"
metric = "cpu_utilization"
below = { critical = 1 }
breach = "1 of 1"
recover = "1 of 1"
notify = []
"""


def in_force(pools: Pools, text: str) -> None:
    """Put the rules of a file in force."""
    pools.configure(rules=pools.parser.parse(text, "fleet.toml").rules)


def test_members_may_hold_a_condition_over_other_rules() -> None:
    """A member's condition can be an expression over its rules. The severity is that of the group's rule."""
    pools = pools_of(3)
    in_force(pools, WHEN)
    pools.slot(at(1), {0: 95, 1: 20, 2: 20})
    assert [key for key, _, _ in pools.notified() if key.startswith("group")] == []
    pools.slot(at(2), {0: 95, 1: 95, 2: 0})
    [alert] = [alert for alert in pools.alerts.open() if alert.membership is None and alert.rule == "pool-in-trouble"]
    assert alert.last is not None
    assert (alert.last.severity, alert.last.metric, alert.last.at) == ("warning", None, models.rfc3339(at(2)))
    assert alert.last.members == (worker_id(0), worker_id(1))
    pools.slot(at(3), {0: 95, 1: 0, 2: 95})
    assert pools.alerts.load_groups(["group:pool=a"])["group:pool=a"].alerts["pool-in-trouble"].open
    pools.slot(at(4), {0: 95, 1: 0, 2: 0})
    assert not pools.alerts.load_groups(["group:pool=a"])["group:pool=a"].alerts["pool-in-trouble"].open


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        (
            'over = { by = "pool", share = 0.3 }',
            "has no condition for a worker; add a metric",
        ),
        ('over = { by = "pool", share = 0.3 }\nwhen = "x"\nmetric = "cpu_utilization"', "is not for a rule with when"),
        ('over = { by = "pool", share = 0.3 }\nwhen = "x"\nabove = { critical = 1 }', "is not for a rule with when"),
        ('over = { by = "pool", share = 0.3 }\nwhen = "nothing"', "nothing is not a known rule"),
        ('over = { by = "pool", share = 0.3 }\nwhen = "x"', "is part of a cycle"),
        (
            'over = { by = "pool", share = 0.3 }\nmetric = "cpu_utilization"\nabove = { critical = 1 }\n'
            'severity = "warning"',
            "is only for a rule with when, because thresholds have their own",
        ),
    ],
)
def test_mistakes_about_what_a_member_holds(keys: str, error: str) -> None:
    """A rule has either a metric with thresholds, or ``when`` with a severity."""
    with pytest.raises(errors.WorkermonError, match=r"line \d+, column \d+") as wrong:
        Pools().parser.parse(f'[[rules]]\nname = "x"\n{keys}\n', "fleet.toml")
    assert error in str(wrong.value)


def test_the_file_comes_back_from_an_export() -> None:
    """An exported file gives the same rules."""
    pools = Pools()
    every = (
        WHEN
        + """
[[rules]]
name = "a-third"
metric = "cpu_utilization"
above = { warning = 70, critical = 90 }
breach = "2 of 3"
over = { by = "pool", share = 0.3 }
flapping = "6 in 1h"
labels = { team = "vfx" }
"""
    )
    in_force(pools, every)
    configuration = pools.configurations.load()
    exported = export.text(configuration, [])
    assert pools.parser.parse(exported, "export.toml").rules == configuration.rules


def test_an_alert_about_a_group_inhibits_those_of_its_members() -> None:
    """Members' alerts are recorded, and notify if they still fire when the group's alert is over.

    Other pools are not affected.
    """
    pools = Pools()
    in_force(
        pools,
        """
[[rules]]
name = "hot"
metric = "cpu_utilization"
above = { critical = 90 }
breach = "2 of 2"
recover = "1 of 1"
inhibited_by = ["pool-hot"]
notify = ["log"]

[[rules]]
name = "pool-hot"
metric = "cpu_utilization"
above = { critical = 90 }
breach = "1 of 1"
recover = "1 of 1"
over = { by = "pool", count = "2 of 3" }
""",
    )
    for number in range(3):
        pools.add(number)
    pools.add(3, "b")
    pools.slot(at(1), {0: 95, 1: 95, 2: 20, 3: 95})
    pools.slot(at(2), {0: 95, 1: 95, 2: 20, 3: 95})
    by_key = {alert.last.dedup_key: alert for alert in pools.alerts.open() if alert.last}
    assert by_key[f"{worker_id(0)}/hot"].inhibited_by == "pool-hot"
    assert by_key[f"{worker_id(0)}/hot"].channels == ()
    assert by_key[f"{worker_id(3)}/hot"].inhibited_by is None
    pools.slot(at(3), {0: 95, 1: 20, 2: 20, 3: 95})
    pools.slot(at(4), {0: 95, 1: 20, 2: 20, 3: 95})
    [alert] = [alert for alert in pools.alerts.open() if alert.last and alert.last.dedup_key == f"{worker_id(0)}/hot"]
    assert (alert.inhibited_by, alert.channels) == (None, ("log",))


def aggregate(name: str, above: float) -> models.Rule:
    """Return a rule over an aggregate of a pool's values."""
    condition = {"above": {"critical": above}, "breach": {"m": 2, "n": 2}, "recover": {"m": 1, "n": 1}}
    return rule(count=None, aggregate=name, condition=condition)


@pytest.mark.parametrize(("name", "value"), [("avg", 50.0), ("sum", 200.0), ("max", 90.0), ("p95", 90.0)])
def test_the_values_of_a_group_are_aggregated(name: str, value: float) -> None:
    """Values are aggregated slot by slot over every running worker, and compared like one worker's values."""
    pools = pools_of(4, aggregate(name, value - 0.5))
    values = {0: 20.0, 1: 30.0, 2: 60.0, 3: 90.0}
    pools.slot(at(1), values)
    assert statuses(pools) == []
    pools.slot(at(2), values)
    [alert] = pools.alerts.open()
    assert alert.last is not None
    assert (alert.last.value, alert.last.unit, alert.last.at) == (value, "percent", models.rfc3339(at(2)))
    assert alert.last.members == tuple(worker_id(number) for number in range(4))
    assert [point.value for point in alert.last.points] == [value, value]
    assert alert.last.summary.startswith(f"group pool=a: {name} of 4 workers: cpu_utilization {value:g} % >")
    [explained] = pools.get(views.ExplainGroups).explain("group:pool=a").model_dump(mode="json")["rules"]
    assert explained["now"].startswith(f"{name} of 4 workers: 0 of 1 values at or below")
    assert [point["value"] for point in explained["points"]][-1] == value
    pools.slot(at(3), {0: 20.0, 1: 20.0, 2: 20.0, 3: 20.0})
    assert statuses(pools) == ["firing", "resolved"]


def test_a_slot_of_an_aggregate_waits_for_every_member() -> None:
    """Half of a group does not decide for the group. A stopped member is not waited for."""
    pools = pools_of(3, aggregate("avg", 50.0))
    pools.slot(at(1), dict.fromkeys(range(3), 60.0))
    pools.slot(at(2), {0: 99, 1: 99})
    assert statuses(pools) == []
    pools.slot(at(2), {2: -90})
    assert statuses(pools) == []
    pools.collected(2, at(4), status="stopped")
    pools.evaluate()
    for slot in range(3, 5):
        pools.slot(at(slot), {0: 99, 1: 99})
    [alert] = pools.alerts.open()
    assert alert.last is not None
    assert (alert.last.at, alert.last.members) == (models.rfc3339(at(4)), (worker_id(0), worker_id(1)))


def test_a_late_datapoint_corrects_an_aggregate() -> None:
    """The slots that it may have changed are evaluated again."""
    pools = pools_of(2, aggregate("avg", 50.0))
    for slot in range(1, 4):
        pools.slot(at(slot), {0: 60, 1: 60})
    assert statuses(pools) == ["firing"]
    pools.collected(1, at(4), {at(slot): 0 for slot in range(1, 4)})
    pools.evaluate()
    assert statuses(pools) == ["firing", "resolved"]
    assert pools.alerts.history("group:pool=a/pool-hot")[0].transition.correction


def test_members_write_their_states_anew_after_a_restore() -> None:
    """A backup has no members' states. After a restore the group's alert continues, and nobody is notified twice."""
    pools = pools_of(3)
    pools.slot(at(1), {0: 95, 1: 95, 2: 20})
    text = pools.get(fleet.BackingUp).back_up()
    pools.get(fleet.Restoring).restore(text, "backup.json", force=True)
    assert pools.alerts.load_groups(["group:pool=a"])["group:pool=a"].record.members == {}
    pools.slot(at(2), {0: 95, 1: 95, 2: 20})
    assert len(pools.alerts.load_groups(["group:pool=a"])["group:pool=a"].record.members["pool-hot"]) == 3
    pools.slot(at(3), dict.fromkeys(range(3), 20.0))
    assert statuses(pools) == ["firing", "resolved"]


@pytest.mark.parametrize("rule_keys", [{"share": 0.5}, {"aggregate": "avg"}])
def test_a_new_rule_waits_for_a_member_that_never_says_anything_no_longer_than_for_one_that_falls_silent(
    rule_keys: dict[str, Any],
) -> None:
    """One of two members is hot, the other is never collected.

    After two periods and three minutes the hot one counts.
    """
    pools = Pools(rule(count=None, **rule_keys))
    pools.add(1)
    pools.add(2)
    for slot in range(1, 7):
        pools.slot(T0 + slot * MINUTE, {1: 97.0})
        assert pools.notified() == []
    pools.slot(T0 + 7 * MINUTE, {1: 97.0})
    [(dedup_key, status, _)] = pools.notified()
    assert (dedup_key, status) == ("group:pool=a/pool-hot", "firing")


@pytest.mark.parametrize("idle", ["paused", "stopped", "in another pool"])
def test_a_new_rule_waits_for_nobody_who_does_not_count(idle: str) -> None:
    """A new rule does not wait for members that are paused or stopped, or for workers of other pools."""
    pools = Pools(rule(count=None, share=0.5))
    pools.add(1)
    pools.add(2, "b" if idle == "in another pool" else "a", monitoring="paused" if idle == "paused" else "active")
    if idle == "stopped":
        pools.collected(2, T0, status="stopped")
    pools.slot(T0 + MINUTE, {1: 97.0})
    assert [status for _, status, _ in pools.notified()] == ["firing"]
