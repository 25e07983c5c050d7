"""Inhibition: alerts are evaluated and recorded while another rule fires, and notify afterwards if they still fire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import grouping
from tests.support.evaluating import ID, MINUTE, T0, Site
from tests.support.examples import examples
from tests.support.rules import changed
from workermon import config, errors, models, testing, views
from workermon.config import export
from workermon.models import Count, Levels, Rule
from workermon.rules import threshold

ONCE = {"breach": Count(m=1, n=1), "recover": Count(m=1, n=1), "notify": ("ops",)}
HIGH = threshold.KIND.rule(name="cpu-high", metric="cpu_utilization", above=Levels(critical=90), **ONCE)
DOWN = threshold.KIND.rule(name="down", metric="status_check_failed", above=Levels(critical=0), **ONCE)
INHIBITED = changed(HIGH, inhibited_by=("down",))
ALERT = f"{ID}/cpu-high"


def site_with(*rules: Rule) -> Site:
    """Return a monitored worker whose rules notify the channel ops."""
    site = Site(*rules)
    site.change(channels={"ops": models.Channel(name="ops", type="log")})
    return site


def step(site: Site, minute: int, cpu: float, *, down: bool) -> None:
    """Collect a minute, evaluate and deliver. Both rules decide by values that are available at once."""
    at = T0 + MINUTE * minute
    site.collected(at + 3 * MINUTE, {at: cpu}, failed=down)
    site.evaluate()
    site.deliver()


def notified(site: Site, rule: str = "cpu-high") -> list[tuple[str, str | None]]:
    """Return the notifications as status and reason."""
    return [(notification.status, notification.reason) for notification in site.received if notification.rule == rule]


def test_it_is_recorded_and_notifies_nobody() -> None:
    """While the other rule fires it is open, recorded, and marked in the list and in ``why``. Nobody is notified."""
    site = site_with(INHIBITED, DOWN)  # it stands before the rule that inhibits it
    step(site, 0, 10, down=True)
    step(site, 1, 95, down=True)
    assert notified(site) == []
    assert [status for status, _ in notified(site, "down")] == ["firing"]
    assert site.alert().inhibited_by == "down"
    [row] = [row for row in site.get(views.AlertView).list().alerts if row.rule == "cpu-high"]
    assert (row.inhibited_by, row.silenced_by, row.open, row.channels) == ("down", None, True, ())
    (record,) = site.workers.get([ID]).values()
    [explanation] = site.get(views.Explanation).explain(record, "cpu-high").rules
    assert (explanation.inhibited_by, explanation.notified, explanation.state) == ("down", None, "critical")
    assert (explanation.history[0].inhibited_by, explanation.history[0].notified) == ("down", False)


def test_both_at_once() -> None:
    """If both fire in the same evaluation, the other is inhibited, whatever their order in the file."""
    for order in ((INHIBITED, DOWN), (DOWN, INHIBITED)):
        site = site_with(*order)
        step(site, 0, 95, down=True)
        assert (notified(site), site.alert().inhibited_by) == ([], "down")


def test_it_notifies_when_the_other_is_over() -> None:
    """If it still fires then, it notifies once with the reason, and once at its end."""
    site = site_with(INHIBITED, DOWN)
    for minute, (cpu, down) in enumerate([(95, True), (95, True), (95, False), (95, False), (10, False)]):
        step(site, minute, cpu, down=down)
    until = site.alert("down").rule_state.trail[-1].at
    assert notified(site) == [
        ("firing", f"it was inhibited by down until {models.rfc3339(until)}, and it still fires"),
        ("resolved", None),
    ]
    assert site.alert().inhibited_by is None


def test_what_is_over_by_then_notifies_nobody() -> None:
    """If it resolves while inhibited, neither its beginning nor its end notifies."""
    site = site_with(INHIBITED, DOWN)
    for minute, (cpu, down) in enumerate([(95, True), (95, True), (10, True), (10, True), (10, False)]):
        step(site, minute, cpu, down=down)
    assert notified(site) == []
    assert [entry.transition.inhibited_by for entry in site.alerts.history(ALERT)] == ["down", "down"]


def test_what_was_notified_goes_on() -> None:
    """An alert that notified before is not withdrawn. Its end notifies while the other rule fires."""
    site = site_with(INHIBITED, DOWN)
    for minute, (cpu, down) in enumerate([(95, False), (95, True), (10, True)]):
        step(site, minute, cpu, down=down)
    assert [status for status, _ in notified(site)] == ["firing", "resolved"]


def test_a_rule_that_is_removed_inhibits_no_more() -> None:
    """If the other rule is removed from the file, inhibited alerts notify."""
    site = site_with(INHIBITED, DOWN)
    step(site, 0, 95, down=True)
    site.change(rules=(HIGH,))
    step(site, 1, 95, down=True)
    assert [status for status, _ in notified(site)] == ["firing"]


def test_collection_of_the_account_inhibits() -> None:
    """The alert of the account and region inhibits like a rule of the worker."""
    site = site_with(changed(HIGH, inhibited_by=("collector",)))
    failing = models.CollectionError(kind="access-denied", message="no", at=T0)
    for minute in range(5):
        site.accounts.note(site.worker.scope.key, T0 + minute * MINUTE, MINUTE, failing)
    at = T0 + MINUTE
    site.collected(at + 3 * MINUTE, {at: 95.0})
    site.clock.now = T0 + 5 * MINUTE
    site.evaluate()
    assert site.alerts.load_monitor_alerts().accounts[site.worker.scope.key].alerts["collector"].open
    assert site.alert().inhibited_by == "collector"


def test_the_alert_of_the_group_inhibits_its_members() -> None:
    """While a group's alert fires, its members' alerts are only recorded. Other groups are not affected."""
    high = changed(HIGH, above=Levels(critical=98), inhibited_by=("pool-hot",))
    pools = grouping.Pools(grouping.rule(), high)
    for number in range(3):
        pools.add(number)
    pools.add(3, "b")
    pools.slot(T0 + MINUTE, {0: 95, 1: 95, 2: 20, 3: 20})
    pools.slot(T0 + 2 * MINUTE, {0: 95, 1: 95, 2: 99, 3: 99})
    alerts = {alert.last.dedup_key: alert.inhibited_by for alert in pools.alerts.open() if alert.last is not None}
    assert alerts == {
        "group:pool=a/pool-hot": None,
        f"{grouping.worker_id(2)}/cpu-high": "pool-hot",
        f"{grouping.worker_id(3)}/cpu-high": None,
    }
    pools.slot(T0 + 3 * MINUTE, {0: 20, 1: 20, 2: 99, 3: 99})
    pools.slot(T0 + 4 * MINUTE, {0: 20, 1: 20, 2: 99, 3: 99})
    [waited] = [
        alert for alert in pools.alerts.open() if alert.last and alert.last.dedup_key.startswith(grouping.worker_id(2))
    ]
    assert (waited.inhibited_by, waited.channels) == (None, ("ops",))


WORLD = st.lists(st.tuples(st.sampled_from([10.0, 95.0]), st.booleans(), st.booleans()), min_size=1, max_size=14)


@examples(60)
@given(WORLD, st.booleans())
def test_notifications_equal_those_of_a_plain_model(world: list[tuple[float, bool, bool]], first: bool) -> None:
    """Whatever rules and a silence do, an alert notifies when nothing mutes it, and at its end."""
    site = site_with(*((INHIBITED, DOWN) if first else (DOWN, INHIBITED)))
    expected, is_notified, fired = list[str](), False, False
    for minute, (cpu, down, silenced) in enumerate(world):
        site.silences.remove(["s"])
        if silenced:
            ends = T0 + 100 * MINUTE
            site.silences.add(models.Silence(id="s", rule="cpu-high", begins=T0, ends=ends, reason="x", by="y"))
        step(site, minute, cpu, down=down)
        fires = site.alert().rule_state.severity is not None
        muted = silenced or site.alert("down").rule_state.severity is not None
        if fires and not is_notified and not muted:
            expected.append("firing")
            is_notified = True
        elif fired and not fires and is_notified:
            expected.append("resolved")
            is_notified = False
        fired = fires
        alert = site.alert()
        assert bool(alert.inhibited_by or alert.silenced_by) == (fires and not is_notified)
    assert [status for status, _ in notified(site)] == expected


# --- the config file ---------------------------------------------------------------------------------------------

FILE = """
[[rules]]
name = "down"
metric = "status_check_failed"
above = { critical = 0 }

[[rules]]
name = "cpu-high"
metric = "cpu_utilization"
above = { critical = 90 }
inhibited_by = ["down", "collector"]
"""


def configured(text: str = FILE) -> models.Configuration:
    """Return the configuration of a file."""
    return config.to_configuration(testing.parser().parse(text, "f.toml"), config.DEFAULT)


def test_a_file_says_it() -> None:
    """The key is read and exported, and also accepts rules of the account."""
    configuration = configured()
    assert configuration.rules[1].inhibited_by == ("down", "collector")
    assert configured(export.text(configuration, ())).rules == configuration.rules


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (
            '"collector"]',
            '"dow"]',
            "line 11, column 25: rules[1].inhibited_by[1]: dow is not a known rule; did you mean down?",
        ),
        ('"down", "collector"', '"cpu-high"', "is part of a cycle: cpu-high -> cpu-high"),
        (
            "above = { critical = 0 }",
            'above = { critical = 0 }\ninhibited_by = ["cpu-high"]',
            "line 6, column 17: rules[0].inhibited_by[0]: is part of a cycle: down -> cpu-high -> down",
        ),
        (
            "above = { critical = 90 }\n",
            'above = { critical = 90 }\nover = { by = "pool", share = 0.5 }\n[[rules]]\nname="x"\nwhen = "cpu-high"\n',
            "rules[2].when: cpu-high is a rule over groups, and only rules of one worker can be used here",
        ),
        (
            'metric = "status_check_failed"\nabove = { critical = 0 }',
            'when = "cpu-high"',
            "rules[0].when: is part of a cycle: down -> cpu-high -> down",
        ),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, error: str) -> None:
    """An unknown rule and a cycle, through ``when`` too, are named by their place."""
    with pytest.raises(errors.InvalidInput) as refused:
        configured(FILE.replace(old, new, 1))
    assert error in str(refused.value)
