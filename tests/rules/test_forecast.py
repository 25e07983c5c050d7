"""A line over the recent history reaches a level: results for disks, however the rule is evaluated."""

from __future__ import annotations

import itertools
import json
import math
import random
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import folding
from tests.support.examples import examples
from workermon import config, errors, evaluate, models, rules, testing, views
from workermon.config import export
from workermon.models import Datapoint, Rule, RuleState
from workermon.notify import channels
from workermon.rules import Facts, Horizon, forecast, robust_line
from workermon.views import backtest, rule_cases

MINUTE, HOUR, DAY = 60, 3600, 86_400
#: A whole number of days, so that steps of every length begin here.
T0 = 19_675 * DAY
PARSER = config.Parser(channel_types=channels.CHANNEL_TYPES)

FILE = """
[[rules]]
name = "disk-full-soon"
metric = "disk_utilization"
forecast = { reaches = 98, within = "6h", over = "1d" }
severity = "warning"
"""


def rule(**keys: Any) -> Rule:
    """Return a rule of 98 within 6 h over 1 d, unless set otherwise."""
    defaults: dict[str, Any] = {"name": "full", "metric": "disk_utilization", "reaches": 98.0, "within": 6 * HOUR}
    return forecast.KIND.rule(**{**defaults, **keys})


def trace(value: Callable[[float], float], days: float, *, noise: float = 0.2, period: int = 300) -> list[Datapoint]:
    """Return a percentage as a function of hours, with noise."""
    chance = random.Random(7)
    times = range(0, int(days * DAY), period)
    return [Datapoint(T0 + at, min(100.0, max(0.0, value(at / HOUR) + chance.gauss(0, noise)))) for at in times]


def judge(
    used: Rule, state: RuleState, points: Sequence[Datapoint], horizon: int, *, period: int, **more_facts: Any
) -> tuple[RuleState, tuple[models.Transition, ...]]:
    """Evaluate datapoints up to the slot at ``horizon``. ``more_facts`` are further facts."""
    facts = {"condition": models.Condition(running_since=T0), "unit_of": lambda _: "percent", **more_facts}
    return folding.judge(used, state, points, Horizon.until(horizon, period), **facts)


def hours(used: Rule, points: Sequence[Datapoint], period: int = 300) -> list[tuple[float, str | None]]:
    """Return at which hours it fired and resolved."""
    _, transitions = judge(used, RuleState(), points, points[-1].at, period=period)
    return [((transition.at + period - T0) / HOUR, transition.after) for transition in transitions]


# --- disks ---------------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_fires_within_hours_before() -> None:
    """0.8 % an hour from 30 % reaches 98 % after 85 h: it fires six hours before, once."""
    [(fired, severity)] = hours(rule(), trace(lambda hour: 30 + 0.8 * hour, 3.5))
    assert severity == "critical"
    assert fired == pytest.approx(79, abs=0.5)


def test_one_that_fills_by_night_and_day_differently_fires_too() -> None:
    """A daily cycle of some percent does not hide that the disk fills."""
    points = trace(lambda hour: 30 + 0.8 * hour + 4 * math.sin(hour / 24 * 2 * math.pi), 3.5)
    [(fired, _)] = hours(rule(), points)
    assert 73 < fired < 82


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flat", lambda hour: 90.0),
        ("a job of a quarter of an hour each hour", lambda hour: 75 + 15 * (hour % 1 < 0.25)),
        ("a step each half day", lambda hour: 50 + 4 * (hour // 12)),
        ("emptied long before", lambda hour: 40 + hour % 24),
        ("emptying", lambda hour: 97 - 0.5 * hour),
    ],
)
def test_what_does_not_fill_is_silent(name: str, value: Callable[[float], float]) -> None:
    """A disk whose line does not reach the level does not fire."""
    assert hours(rule(), trace(value, 4, period=600), 600) == [], name


def test_a_daily_breath_is_silent_once_a_day_is_known() -> None:
    """A daily cycle may look like filling on its first day. From the second day on it does not fire."""
    changes = hours(rule(), trace(lambda hour: 70 + 20 * math.sin(hour / 24 * 2 * math.pi), 6))
    assert [at for at, _ in changes if at > 12] == []


def test_noise_alone_is_silent() -> None:
    """Widely scattered datapoints do not fire."""
    assert hours(rule(), trace(lambda _: 80.0, 3, noise=5)) == []


def test_it_resolves_when_the_disk_is_cleaned() -> None:
    """After a clean-up the history starts again: the old rise is no evidence about the emptied disk."""
    changes = hours(rule(), trace(lambda hour: 20 + 3 * (hour % 24), 2))
    assert [after for _, after in changes] == ["critical", None, "critical"]
    assert [at for at, _ in changes] == pytest.approx([20, 24, 44], abs=0.6)


def test_it_resolves_when_the_disk_stops_filling() -> None:
    """After the rise ends, the flat part outweighs it when it is long enough. The alert does not flap."""
    changes = hours(rule(over=6 * HOUR), trace(lambda hour: min(94.0, 60 + 1.5 * hour), 3))
    assert [after for _, after in changes] == ["critical", None]


def test_a_little_slower_does_not_end_it() -> None:
    """It fires if the line reaches the level within six hours, and resolves if that takes more than nine."""
    for slower, after in ((0.65, ["critical"]), (0.5, ["critical", None])):

        def slowing(hour: float, slower: float = slower) -> float:
            return 60 + 1.5 * min(hour, 20) + slower * max(hour - 20, 0)

        points = trace(slowing, 1.1, noise=0)
        assert [severity for _, severity in hours(rule(over=6 * HOUR), points)] == after


def test_at_the_level_it_goes_on_firing() -> None:
    """A full disk has reached the level. It still fires, although nothing rises any more."""
    changes = hours(rule(), trace(lambda hour: min(99.0, 70 + 1 * hour), 4, noise=0.1))
    assert [after for _, after in changes] == ["critical"]


@pytest.mark.parametrize("unit", ["percent", "count"])
def test_it_may_fall_to_a_level(unit: str) -> None:
    """Free space that falls to 2 % is forecast, for percentages by the level and otherwise by the values."""
    points = tuple(trace(lambda hour: max(0.5, 60 - 1 * hour), 3))
    facts = Facts(series={"disk_free_percent": models.Series(300, points)}, unit_of=lambda _: unit)
    used = rule(metric="disk_free_percent", reaches=2.0)
    _, transitions = forecast.KIND.judge(used, RuleState(), facts, Horizon.until(points[-1].at, 300))
    assert transitions[0].at == pytest.approx(T0 + 52 * HOUR, abs=HOUR)
    assert "falls 1 % an hour: reaches 2 %" in forecast.KIND.summary(used, transitions[0], "percent", 60) or unit != (
        "percent"
    )


def test_a_direction_is_taken_as_it_is_given() -> None:
    """A direction that the file gives is used."""
    assert forecast.Options(reaches=98, within=60, direction="falling").direction_of("percent", [50]) == "falling"
    assert forecast.Options(reaches=98, within=60).direction_of("bytes", [500, 400, 20]) == "falling"
    assert forecast.Options(reaches=98, within=60).direction_of("bytes", [50, 400, 20]) == "rising"


@pytest.mark.parametrize("number", [11, 12])
def test_twelve_datapoints_are_the_fewest(number: int) -> None:
    """Eleven datapoints make no line, the twelfth does."""
    points = [Datapoint(T0 + 300 * place, 50.0 + 3 * place) for place in range(number)]
    assert len(hours(rule(), points)) == (number == 12)


# --- however it is fed -------------------------------------------------------------------------------------------

Change = tuple[int, str | None]


def plain(used: Rule, points: dict[int, Datapoint], last: int, period: int) -> list[Change]:
    """Evaluate by plain loops that share nothing with the kind: a line at the end of each step, by the definition."""
    options = forecast.KIND.options(used)
    step = max(options.over // 288 // period, 1) * period
    changes: list[Change] = []
    firing = False
    end = T0
    while end + step <= last * period + period:
        end += step
        history = [points[slot] for slot in sorted(points) if end - options.over <= points[slot].at < end]
        if not history or history[-1].at < end - step:
            continue
        seconds_left, firm = plain_left(history, options.reaches)
        if seconds_left is not None and firm and seconds_left <= options.within:
            now = True
        else:
            now = firing and seconds_left is not None and seconds_left <= 1.5 * options.within
        if now != firing:
            changes.append((history[-1].at, "critical" if now else None))
            firing = now
    return changes


def medians(points: Sequence[Datapoint]) -> list[tuple[float, float]]:
    """Return at most 64 points, the medians of as many neighbours each."""
    size = math.ceil(len(points) / 64)
    parts = [points[at : at + size] for at in range(0, len(points), size)]
    return [
        (statistics.median(point.at for point in part), statistics.median(point.value for point in part))
        for part in parts
    ]


def plain_left(history: list[Datapoint], level: float) -> tuple[float | None, bool]:
    """Return the seconds until a rising line reaches the level, and whether it is firm."""
    if len(history) < 12:
        return None, False
    rough = medians(history)
    heights = [height for _, height in rough]
    span = max(heights) - min(heights)
    size = math.ceil(len(history) / 64)
    for place in reversed(range(1, len(heights))):
        fell = max(heights[max(0, place - 2) : place]) - heights[place] > span / 2
        before = heights[max(0, place - 8) : place - 1] or heights[:1]
        if fell and heights[place] < min(before) - span / 4:
            history = history[place * size :]
            break
    if statistics.median(entry.value for entry in history[-3:]) >= level:
        return 0, True
    if len(history) < 12:
        return None, False
    fitted = medians(history)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(fitted, 2)]
    slope = statistics.median(slopes)
    if slope <= 0:
        return None, False
    offsets = [height - slope * at for at, height in fitted]
    spread = 1.4826 * statistics.median(abs(value - statistics.median(offsets)) for value in offsets)
    agreeing = (sum(slope > 0 for slope in slopes) + sum(slope == 0 for slope in slopes) / 2) / len(slopes)
    length = fitted[-1][0] - fitted[0][0]
    seconds_left = max((level - (statistics.median(offsets[-5:]) + slope * history[-1].at)) / slope, 0)
    number = len(fitted)
    chance = (2 * (2 * number + 5) / (9 * number * (number - 1))) ** 0.5
    return seconds_left, agreeing >= max(
        0.75, 0.5 + 3.5 * chance / 2
    ) and slope * length >= 4 * spread and seconds_left <= 4 * length


VALUES = st.one_of(st.none(), st.sampled_from([0.0, 0.5, 1.0, -1.0, 6.0, -30.0]))
SHAPES = st.sampled_from([(HOUR, HOUR), (4 * HOUR, 2 * HOUR), (10 * HOUR, 12 * HOUR)])


@st.composite
def series(draw: st.DrawFn) -> list[float | None]:
    """Draw values that mostly rise, in a stretch with gaps, falls and jumps."""
    value, rise, values = draw(st.sampled_from([40.0, 80.0, 92.0])), draw(st.sampled_from([0.0, 0.5, 1.0])), []
    for change in draw(st.lists(VALUES, min_size=1, max_size=60)):
        value = min(max(value + rise + (change or 0.0), 0.0), 100.0)
        values.append(None if change is None else value)
    return values


@given(series(), SHAPES, st.sampled_from([60, 300]), st.data())
@examples(150)
def test_late_lost_and_grouped(
    values: list[float | None], shape: tuple[int, int], period: int, data: st.DataObject
) -> None:
    """Lost, grouped or late evaluations and revised datapoints give the results of a plain loop."""
    used, lateness = rule(over=shape[0], within=shape[1]), data.draw(st.sampled_from([300, 900, 3600]))
    reach = lateness // period
    arrivals = sorted(
        (slot + data.draw(st.integers(0, reach)), slot, value) for slot, value in enumerate(values) if value is not None
    )
    for slot in data.draw(st.lists(st.integers(0, len(values) - 1), max_size=3)):
        if values[slot] is not None:
            arrivals.append((slot + reach, slot, data.draw(st.sampled_from([10.0, 97.0]))))
    datapoints: dict[int, Datapoint] = {}
    state, recorded, pending = RuleState(), list[models.Transition](), list[int]()
    end = max([len(values) - 1, *(arrival[0] for arrival in arrivals)])
    for now in range(end + 1):
        for _, slot, value in (arrival for arrival in arrivals if arrival[0] == now):
            datapoints[slot] = Datapoint(T0 + period * slot, value)
            pending.append(datapoints[slot].at)
        if now < end and data.draw(st.booleans()):
            continue
        changed_from, pending = min(pending, default=None), []
        requested_at = T0 + period * min(now, len(values) - 1)
        facts = Facts(changed_from=changed_from, lateness=lateness)
        need = forecast.KIND.needed_from(used, state, Horizon.until(requested_at, period), facts)
        points = [datapoints[slot] for slot in sorted(datapoints) if need is None or datapoints[slot].at >= need]
        state, new_transitions = judge(
            used, state, points, requested_at, period=period, changed_from=changed_from, lateness=lateness
        )
        recorded += new_transitions
    final = [datapoints[slot] for slot in sorted(datapoints)]
    last = T0 // period + len(values) - 1
    at_once, transitions = judge(used, RuleState(), final, last * period, period=period, lateness=lateness)
    assert state == at_once
    by_slot = {point.at // period: point for point in final}
    changes = plain(used, by_slot, last, period)
    assert [(transition.at, transition.after) for transition in transitions] == changes
    standing: list[Change] = []
    for transition in recorded:
        if transition.correction and (transition.at, transition.before) in standing:
            standing.remove((transition.at, transition.before))
        else:
            standing.append((transition.at, transition.after))
    assert sorted(standing, key=lambda change: change[0]) == changes


@pytest.mark.parametrize("metric", ["disk_utilization"])
def test_a_backtest_equals_a_plain_loop(metric: str) -> None:
    """A replay of filling, clean-ups and cycles gives the episodes of the plain loop."""
    points = trace(lambda hour: 20 + 3 * (hour % 25) + 4 * math.sin(hour / 24 * 2 * math.pi), 4, period=900)
    used = rule(metric=metric)
    changes = plain(used, {point.at // 900: point for point in points}, points[-1].at // 900, 900)
    episodes = backtest.episodes(used, [models.Series(900, tuple(points))], forecast.KIND, unit="percent")
    assert len(episodes) >= 3
    assert [at for episode in episodes for at in (episode.begin, episode.end) if at is not None] == [
        at for at, _ in changes
    ]
    assert episodes[0].peak == max(
        point.value for point in points if episodes[0].begin <= point.at < (episodes[0].end or 0)
    )


def test_a_long_history_is_read_only_when_a_step_is_due() -> None:
    """Between two steps it reads no history. At the end of a step it reads all of it."""
    used = rule()
    points = trace(lambda _: 50.0, 1.2, period=60)
    cut = points[-1].at // 300 * 300 - 60
    state, _ = judge(used, RuleState(), [point for point in points if point.at <= cut], cut, period=60)
    assert state.cursor == cut - 240
    for newest, long in ((cut + 60, False), (cut + 240, False), (cut + 300, True)):
        need = forecast.KIND.needed_from(used, state, Horizon.until(newest, 60), Facts())
        assert need is not None
        assert (need <= newest - DAY + 60) is long


# --- the file ------------------------------------------------------------------------------------------------------


def configuration(text: str = FILE) -> models.Configuration:
    """Return the configuration of a file."""
    return config.to_configuration(PARSER.parse(text, "f.toml"), config.DEFAULT)


def test_a_file_asks_for_it_and_export_gives_it_back() -> None:
    """The parser reads its keys, JSON keeps them, and an exported file gives the same rule."""
    parsed = configuration()
    [used] = parsed.rules
    assert (used.kind, used.severity) == ("forecast", "warning")
    assert forecast.KIND.options(used) == forecast.Options(reaches=98, within=6 * HOUR, over=DAY)
    assert models.Configuration.model_validate_json(parsed.model_dump_json()).rules == parsed.rules
    falling = configuration(FILE.replace("98,", '2, direction = "falling",'))
    for parsed_rule in (parsed, falling):
        assert configuration(export.text(parsed_rule, ())).rules == parsed_rule.rules


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("reaches", "reach", "line 5, column 14: rules[0].forecast.reach: is not a known key; did you mean reaches?"),
        ('"6h"', '"6 hours"', "line 5, column 28: rules[0].forecast.within: '6 hours' is not a duration"),
        ('"1d"', '"1h"', "line 5, column 28: rules[0].forecast.within: 6h is more than 4 times over, 1h"),
        ('"1d"', '"60d"', "line 5, column 43: rules[0].forecast.over: must be at least 1m and at most 31d"),
        ('"1d"', '"1d", direction = "up"', "rules[0].forecast.direction: 'up' is none of rising, falling"),
        ("reaches = 98,", "", "line 5, column 1: rules[0].forecast.reaches: is missing"),
        ("severity", "severty", "line 6, column 1: rules[0].severty: is not a known key; did you mean severity?"),
        ("severity", 'breach = "2 of 3"\nseverity', "rules[0].breach: is not for forecast = …; remove it"),
        ("forecast", "forecst", "line 5, column 1: rules[0].forecst: is not a known key; did you mean forecast?"),
        ("disk_utilization", "disk_utilisation", "did you mean disk_utilization?"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, error: str) -> None:
    """An error has line, column, the reason and the nearest valid word."""
    with pytest.raises(errors.InvalidInput) as refused:
        configuration(FILE.replace(old, new, 1))
    assert error in str(refused.value)


def test_a_history_longer_than_the_ledger_keeps_is_warned_of() -> None:
    """The file is valid, and a warning names the retention that the rule needs."""
    text = FILE.replace('"1d"', '"3d"')

    def warned(text: str) -> list[str]:
        return config.warnings(PARSER.parse(text, "f.toml"), lambda _: "")

    [warning] = warned(text)
    assert 'raise it: [collect] retention = "3d"' in warning
    assert warned(text + '[collect]\nretention = "3d"\n') == []


def test_its_cases_are_tried() -> None:
    """A case of the file is evaluated by the line, in the unit of the metric."""
    text = """
[[rules.cases]]
name = "fills"
period = 300
values = [50, 53, 56, 59, 62, 65, 68, 71, 74, 77, 80, 83]
turns = [{ at = 12, to = "warning" }]
"""
    file = PARSER.parse(FILE + text, "f.toml")
    assert rule_cases.test(file, configuration(FILE + text), rules.KINDS).passed


def test_too_few_datapoints_by_its_own_history() -> None:
    """If the history holds fewer than twelve datapoints of the metric, why says that the rule cannot fire."""
    used = rule(metric="cpu_utilization", over=HOUR // 2, within=HOUR)
    worker = models.Worker(id="i-0abc0123456789def", name="a", region="us-east-1", added_at=T0, incarnation="x")
    obstacle = forecast.KIND.cannot_fire(used, worker, models.Condition(), config.DEFAULT)
    assert obstacle is not None
    assert str(obstacle) == ("30 min of cpu_utilization at 5 min are 6 datapoints, 12 are needed; choose a longer over")
    assert forecast.KIND.cannot_fire(rule(), worker, models.Condition(), config.DEFAULT) is None


# --- through the monitor -----------------------------------------------------------------------------------------


def test_it_is_evaluated_notified_and_explained() -> None:
    """A filling disk notifies with the forecast, why shows the line, and a clean-up resolves it."""
    monitor = testing.Monitor(configuration(FILE.replace("disk_utilization", "cpu_utilization")), T0)
    worker = monitor.add_worker("i-0abc0123456789def", name="render-07", interval=300)
    values = [85 + 0.1 * place for place in range(70)] + [20.0] * 6
    monitor.cloudwatch.put(worker.id, "CPUUtilization", [(T0 + 300 * n, value) for n, value in enumerate(values)])
    explained: list[dict[str, Any]] = []
    for _ in range(80):
        monitor.clock.advance(300)
        monitor.collect()
        monitor.get(evaluate.Evaluation).evaluate([worker.id])
        monitor.deliver()
        (record,) = monitor.workers.get([worker.id]).values()
        [rule_document] = monitor.get(views.Explanation).explain(record, "cpu_utilization").to_json()["rules"]
        explained.append(json.loads(json.dumps(rule_document)))
    fired, resolved = [notification for notification in monitor.received if notification.rule == "disk-full-soon"]
    assert (fired.kind, fired.status, fired.severity, fired.threshold) == ("forecast", "firing", "warning", 98)
    assert fired.summary.startswith("render-07: cpu_utilization 9")
    assert "rises 1.2 % an hour: reaches 98 % in about" in fired.summary
    assert resolved.status == "resolved"
    assert resolved.value == 20
    few = next(explanation for explanation in explained if (explanation["line"] or {}).get("state") == "few")
    assert "12 are needed" in few["now"]
    firing = next(explanation for explanation in explained if explanation["state"] == "warning")
    assert firing["line"]["slope"] == pytest.approx(1.2)
    assert firing["line"]["left"] == pytest.approx((98 - firing["line"]["value"]) / 1.2 * 3600, abs=400)
    assert firing["forecast"] == {"reaches": 98, "within": 6 * HOUR, "over": DAY, "direction": None}


def test_the_level_is_drawn() -> None:
    """A chart of the metric draws the level and the side from which it is reached."""
    assert [(drawn_line.side, drawn_line.threshold) for drawn_line in forecast.KIND.drawn(rule())] == [("above", 98)]
    assert [(drawn_line.side, drawn_line.threshold) for drawn_line in forecast.KIND.drawn(rule(reaches=2.0))] == [
        ("below", 2)
    ]


@pytest.mark.parametrize(("level", "ahead"), [(98.0, 4 * HOUR), (88.0, 5100)])
def test_the_line_is_drawn_until_it_reaches_the_level(level: float, ahead: int) -> None:
    """The chart draws the line over the history and on to the level, at most as far as the rule looks ahead."""
    drawn_rule = rule(reaches=level, within=4 * HOUR)
    points = trace(lambda hour: 50 + 1.5 * hour, 1, noise=0.0)
    state, _ = judge(drawn_rule, RuleState(), points, points[-1].at, period=300)
    facts = Facts.recorded("disk_utilization", models.Series(300, tuple(points)), T0)
    assert forecast.KIND.curve_over(drawn_rule, RuleState()) is None
    assert forecast.KIND.curve(drawn_rule, RuleState(), facts, ()) is None
    assert forecast.KIND.curve_over(drawn_rule, state) is not None
    curve = forecast.KIND.curve(drawn_rule, state, facts, ())
    assert curve is not None
    for point in curve.points:
        assert point.low == point.high == pytest.approx(50 + 1.5 * (point.at - T0) / HOUR, abs=0.01)
    first, present, last = curve.points
    assert first.at < present.at == points[-1].at
    assert last.at - present.at == pytest.approx(ahead, abs=60)
    flat = tuple(point._replace(value=50.0) for point in points)
    level_out = Facts.recorded("disk_utilization", models.Series(300, flat), T0)
    assert forecast.KIND.curve(drawn_rule, state, level_out, ()) is None


def test_the_cost_of_a_line_is_bounded() -> None:
    """However many datapoints there are, no more than the points of a line are compared."""
    points = [Datapoint(T0 + place, float(place)) for place in range(10_000)]
    assert len(robust_line.averaged(points)) <= robust_line.MAX_POINTS


def test_it_takes_an_expression() -> None:
    """A forecast over an expression works: free space computed from used space falls to 2 %."""
    text = FILE.replace('"disk_utilization"', '"100 - cpu_utilization"').replace("98,", "2,")
    monitor = testing.Monitor(configuration(text), T0)
    worker = monitor.add_worker("i-0abc0123456789def", name="render-07", interval=300)
    values = [(T0 + 300 * n, 80 + 0.1 * n) for n in range(180)]
    monitor.cloudwatch.put(worker.id, "CPUUtilization", values)
    for _ in range(140):
        monitor.clock.advance(300)
        monitor.collect()
        monitor.get(evaluate.Evaluation).evaluate([worker.id])
        monitor.deliver()
    [fired] = [notification for notification in monitor.received if notification.rule == "disk-full-soon"]
    assert "disk-full-soon" in fired.summary
    assert "falls 1.2 % an hour: reaches 2 % in about" in fired.summary
    (record,) = monitor.workers.get([worker.id]).values()
    [rule_document] = monitor.get(views.Explanation).explain(record, rule_name="disk-full-soon").to_json()["rules"]
    assert rule_document["line"]["direction"] == "falling"
    assert rule_document["state"] == "warning"


def test_several_steps_at_once_are_taken_one_by_one() -> None:
    """Each step within the horizon is evaluated, so no transition waits for a later evaluation."""
    used = rule(over=DAY, within=6 * HOUR)
    points = trace(lambda hour: 20 + 3 * (hour % 24), 1.2, period=60)
    _, transitions = judge(used, RuleState(), points, points[-1].at, period=60)
    assert len(transitions) == 2
    step = forecast.KIND.step(used, 60)
    end = transitions[0].at // step * step + step
    facts = Facts(
        series={
            used.metric or "": models.Series(60, tuple(point for point in points if point.at <= transitions[0].at))
        },
        unit_of=lambda _: "percent",
    )
    _, first = forecast.KIND.judge(used, RuleState(), facts, Horizon(60, 0, end))
    assert [transition.at for transition in first] == [transitions[0].at]
