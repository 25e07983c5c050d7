"""The warm-up of a rule: datapoints shortly after a worker's start do not count."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.commands import Ports
from tests.support.evaluating import CPU, ID, MINUTE, T0, Site, explanation_json, points
from tests.support.rules import changed
from workermon import config, errors, models, rules, testing
from workermon.config import difference, export
from workermon.models import Count, Datapoint, RuleState
from workermon.rules import KINDS, Facts, Horizon, threshold
from workermon.views import backtest, rule_cases

#: Ten minutes of warm-up, 3 of 3 above 90 from then on.
WARM = changed(CPU, warmup=10 * MINUTE)


def explain(site: Site) -> Any:
    """Explain the only rule of a site."""
    return explanation_json(site)["rules"][0]


def test_what_happens_during_the_warm_up_counts_as_nothing() -> None:
    """A worker that is hot from its start fires with the third slot after its warm-up, not before."""
    site = Site(WARM)
    # The first collection, at minute 3, saw it running: the warm-up lasts until minute 13.
    site.minutes([95] * 15)
    assert site.notified() == []
    site.minutes([95], 15)
    assert site.notified() == [("firing", "critical", 15)]
    [row] = (entry.notification for entry in site.alerts.history())
    assert row is not None
    assert row.condition_since == models.rfc3339(T0 + 13 * MINUTE)


def test_without_a_warm_up_the_first_three_slots_fire() -> None:
    """The same worker fires at once by a rule without a warm-up."""
    site = Site()
    site.minutes([95] * 3)
    assert site.notified() == [("firing", "critical", 2)]


def test_absent_slots_of_the_warm_up_are_no_breach() -> None:
    """A rule that takes absent slots for a breach does so from the end of the warm-up on."""
    site = Site(changed(WARM, missing="breach", breach=Count(m=3, n=3)))
    site.minutes([None] * 20)
    assert site.notified() == [("firing", "critical", 15)]


def test_status_checks_warm_up_too() -> None:
    """A status check that fails while the instance boots is nothing."""
    rule = threshold.KIND.rule(
        name="impaired", metric="status_check_failed", above=models.Levels(critical=0), breach=Count(m=2, n=2),
        warmup=5 * MINUTE, notify=("ops",),
    )  # fmt: skip
    site = Site(rule)
    for minute in range(12):
        site.collected(T0 + minute * MINUTE, {}, failed=True)
        site.evaluate()
    # It runs since minute 0: slots 5 and 6 count.
    assert [minute for _, _, minute in site.notified(f"{ID}/impaired")] == [6]


def test_an_alert_from_before_a_restart_goes_on() -> None:
    """Slots of the warm-up neither resolve nor worsen an alert. The slots after it do."""
    site = Site(WARM)
    site.minutes([50] * 13 + [95] * 3)
    assert site.notified() == [("firing", "critical", 15)]
    # EC2 shows it as pending once; from minute 20 on it runs again, and warms up until minute 30.
    site.collected(T0 + 19 * MINUTE, {}, status="pending")
    site.evaluate()
    for slot in range(17, 33):
        at = T0 + slot * MINUTE
        site.collected(at + 3 * MINUTE, {at: 20.0})
        site.evaluate()
    assert site.notified() == [("firing", "critical", 15), ("resolved", "critical", 31)]


def test_a_stopped_worker_warms_up_when_it_runs_again() -> None:
    """A stop resolves the alert. After the start the rule is evaluated when the warm-up is over."""
    site = Site(WARM)
    site.minutes([50] * 13 + [95] * 3)
    site.collected(T0 + 19 * MINUTE, {}, status="stopped")
    site.evaluate()
    for slot in range(17, 36):
        at = T0 + slot * MINUTE
        site.collected(at + 3 * MINUTE, {at: 95.0})
        site.evaluate()
    assert [(status, minute) for status, _, minute in site.notified()] == [
        ("firing", 15),
        ("resolved", 19),
        ("firing", 32),
    ]


def test_a_late_datapoint_from_before_the_warm_up_corrects_nothing() -> None:
    """Decisions from before a restart stay, whatever arrives late."""
    site = Site(WARM)
    site.minutes([50] * 13 + [95, None, 95])
    site.collected(T0 + 19 * MINUTE, {}, status="pending")
    site.collected(T0 + 20 * MINUTE, points([95], 14))
    site.evaluate()
    assert site.recorded() == []


def test_why_says_until_when_it_warms_up() -> None:
    """``why`` names the end in text and JSON until a slot after the warm-up is evaluated."""
    site = Site(WARM)
    site.minutes([95] * 5)
    rule = explain(site)
    until = models.rfc3339(T0 + 13 * MINUTE)
    assert rule["now"].startswith(f"warming up until {until}; ")
    assert (rule["warmup"], rule["warming_until"]) == (600, until)
    site.minutes([95] * 9, 5)
    rule = explain(site)
    assert (rule["warming_until"], rule["now"].partition(";")[0]) == (
        None,
        "1 of 1 values above 80 %, warning fires at 3 of 3",
    )


values = st.lists(st.none() | st.sampled_from([20.0, 70.0, 95.0]), min_size=1, max_size=40)


@given(values, st.integers(0, 30), st.integers(1, 15), st.data())
def test_however_it_is_fed_it_is_the_fold_without_those_slots(
    given_values: Sequence[float | None], running_since: int, warmup: int, data: st.DataObject
) -> None:
    """In any grouping, with late datapoints, the state is that of the values without those of the warm-up."""
    end = running_since + warmup
    series = [Datapoint(T0 + MINUTE * slot, value) for slot, value in enumerate(given_values) if value is not None]
    late = data.draw(st.sets(st.integers(0, len(given_values) - 1)))
    rule = changed(CPU, warmup=warmup * MINUTE, missing=data.draw(st.sampled_from(["keep", "ok", "breach"])))
    plain = changed(rule, warmup=None)

    def fold(
        used: models.Rule, state: RuleState, upto: int, available: list[Datapoint], since: int, **more_facts: Any
    ) -> RuleState:
        facts = Facts(
            series={"cpu_utilization": models.Series(MINUTE, tuple(available))},
            condition=models.Condition(status="running", running_since=T0 + since * MINUTE),
            lateness=3600,
            **more_facts,
        )
        return threshold.KIND.judge(used, state, facts, Horizon.until(T0 + upto * MINUTE, MINUTE))[0]

    last = len(given_values) - 1
    after_warmup = [point for point in series if (point.at - T0) // MINUTE >= end]
    expected = fold(plain, RuleState(), last, after_warmup, end)
    state = RuleState()
    for upto in sorted({*data.draw(st.sets(st.integers(0, last))), last}):
        available = [point for point in series if point.at <= T0 + upto * MINUTE]
        state = fold(rule, state, upto, [p for p in available if (p.at - T0) // MINUTE not in late], running_since)
    # What came late is found by one more evaluation.
    state = fold(rule, state, last, series, running_since, changed_from=T0)
    assert (state.trail, state.severity) == (expected.trail, expected.severity)


FILE = '[[rules]]\nname = "cpu-high"\nmetric = "cpu_utilization"\nabove = { critical = 90 }\nwarmup = "15m"\n'


def test_the_file_round_trips_and_a_plan_shows_the_change() -> None:
    """Export writes the warm-up as in the file. plan shows a changed one as a change of the rule."""
    file = testing.parse(FILE)
    assert file.rules is not None
    [rule] = file.rules
    assert (rule.warmup, export.rule_table(rule, KINDS)["warmup"]) == (900, "15m")
    before, after = (
        models.Configuration(rules=(changed(rule, warmup=seconds),), channels={}, metrics={}, collect=())
        for seconds in (900, 600)
    )
    [change_of_rule] = difference.changes(before, after).differences
    assert [str(change) for change in change_of_rule.changes] == ['warmup "15m" → "10m"']


@pytest.mark.parametrize(
    ("duration", "reason"),
    [
        ('"25h"', "must be at least 1s and at most 1d"),
        ('"0s"', "must be at least 1s"),
        ('"soon"', "'soon' is not a duration such as 30s, 5m or 24h"),
    ],
)
def test_a_wrong_warm_up_is_refused(duration: str, reason: str) -> None:
    """An invalid or too long warm-up is refused at its position."""
    with pytest.raises(errors.InvalidInput) as caught:
        testing.parse(FILE.replace('"15m"', duration), "f.toml")
    assert (caught.value.subject, caught.value.reason) == ("f.toml: line 5, column 1: rules[0].warmup", reason)


@pytest.mark.parametrize("metric", ["no-data", "state", "event"])
def test_rules_that_are_not_about_datapoints_take_none(metric: str) -> None:
    """Whether a worker is collected, runs, or is to be stopped has nothing to do with how long it runs."""
    with pytest.raises(errors.InvalidInput, match=f"is for rules over datapoints, not for metric = '{metric}'"):
        testing.parse(f'[[rules]]\nname = "r"\nmetric = "{metric}"\nwarmup = "5m"\n')


def test_rules_and_why_say_it_in_words(world: Ports, ok: Callable[..., str], tmp_path: Path) -> None:
    """The rule in words names its warm-up."""
    (tmp_path / "f.toml").write_text(FILE)
    ok("apply", str(tmp_path / "f.toml"))
    ok("add", "i-0aaaaaaaaaaaaaaaa")
    assert "warm-up 15 min" in ok("why", "i-0aaaaaaaaaaaaaaaa", "cpu_utilization")
    [rule] = json.loads(ok("why", "i-0aaaaaaaaaaaaaaaa", "cpu_utilization", "--json"))["rules"]
    assert rule["warmup"] == 900


def test_a_case_may_say_when_the_worker_started() -> None:
    """A case without ``started`` has no warm-up. Otherwise the warm-up begins in the slot of that value."""
    case = (
        '[[rules.cases]]\nname = "{}"\nvalues = [95, 95, 95, 95, 95, 95]\n{}turns = [{{ at = {}, to = "critical" }}]\n'
    )
    text = FILE.replace('"15m"', '"2m"') + case.format("a", "", 3) + case.format("b", "started = 2\n", 6)
    file = testing.parse(text)
    results = rule_cases.test(file, config.to_configuration(file, config.DEFAULT), rules.KINDS)
    assert [result.got for result in results.cases] == [result.expected for result in results.cases]
    with pytest.raises(errors.InvalidInput, match="there are 6 values only"):
        testing.parse(text.replace("started = 2", "started = 7"), "f.toml")


def episodes(
    values: Sequence[float], *started: int, begin: int = 0, rule: models.Rule = WARM
) -> list[tuple[float, float | None]]:
    """Replay values a minute apart. Return the first and last minute of each episode."""
    points = tuple(Datapoint(T0 + MINUTE * slot, value) for slot, value in enumerate(values, begin))
    recording = backtest.Recording(started=tuple(float(T0 + MINUTE * minute) for minute in started))
    replayed = backtest.episodes(rule, [models.Series(MINUTE, points)], KINDS[rule.kind], recording=recording)
    return [
        ((episode.begin - T0) // MINUTE, None if episode.end is None else (episode.end - T0) // MINUTE)
        for episode in replayed
    ]


def test_a_backtest_knows_each_start() -> None:
    """Each recorded start begins a warm-up. Slots between two starts are evaluated as they were then."""
    hot = [95.0] * 60
    assert episodes(hot) == [(2, None)], "of a trace nobody knows when the worker started"
    assert episodes(hot, 0) == [(12, None)]
    assert episodes(hot, -20) == [(2, None)], "that warm-up was over"
    assert episodes(hot, -5) == [(7, None)]
    busy = [95.0] * 4 + [50.0] * 16 + [95.0] * 15 + [50.0] * 10
    # It boots at minute 20: minutes 20 to 29 count as nothing, 30 to 34 do.
    assert episodes(busy, 20) == [(2, 5), (32, 36)]
    assert episodes(busy, 20, rule=changed(WARM, warmup=None)) == [(2, 5), (22, 36)]


def test_the_ledger_says_when_a_worker_started() -> None:
    """A backtest over the ledger uses the recorded start."""
    condition = models.Condition(
        status="running",
        running_since=500.5,
        changes=(
            models.StatusChange(at=100, status="running", seen_until=300),
            models.StatusChange(at=400, status="stopped", seen_until=450),
            models.StatusChange(at=500.5, status="running"),
        ),
    )
    assert backtest.started(condition) == (100, 500.5)
    assert backtest.started(models.Condition(status="running", running_since=7)) == (7,)
    assert backtest.started(models.Condition()) == ()
