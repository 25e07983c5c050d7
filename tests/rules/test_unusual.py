"""The kind ``unusual``: what its band learns and forgets, however the rule is evaluated."""

from __future__ import annotations

import functools
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
from workermon import config, errors, evaluate, models, testing, views
from workermon.config import export
from workermon.models import Count, Datapoint, Rule, RuleState
from workermon.notify import channels
from workermon.rules import KINDS, Facts, Horizon, band, unusual, unusual_options
from workermon.views import backtest, rule_cases

MINUTE, HOUR, DAY, WEEK = 60, 3600, 86_400, 7 * 86_400
#: A whole number of weeks.
T0 = 2_811 * WEEK
PARSER = config.Parser(channel_types=channels.CHANNEL_TYPES)

FILE = """
[[rules]]
name = "odd"
metric = "cpu_utilization"
unusual = { beyond = 4, season = "week", side = "above" }
severity = "warning"
breach = "2 of 3"
clear = 3
"""


def rule(**keys: Any) -> Rule:
    """Return a rule beyond 4 spreads of the day, unless set otherwise."""
    return unusual.KIND.rule(**{"name": "odd", "metric": "cpu_utilization", "beyond": 4.0, **keys})


def trace(value: Callable[[float], float], days: float, *, noise: float = 1.0, period: int = 300) -> list[Datapoint]:
    """Return a metric as a function of hours, with noise."""
    chance = random.Random(3)
    times = range(0, int(days * DAY), period)
    return [Datapoint(T0 + at, value(at / HOUR) + chance.gauss(0, noise)) for at in times]


def between(begin: float, end: float, value: float, hour: float) -> float:
    """Return a value between two hours, the usual course of a day before and after."""
    return value if begin <= hour < end else daily(hour)


def judge(
    used: Rule, state: RuleState, points: Sequence[Datapoint], horizon: int, *, period: int, **more_facts: Any
) -> tuple[RuleState, tuple[models.Transition, ...]]:
    """Evaluate datapoints up to the slot at ``horizon``. ``more_facts`` are further facts."""
    facts = {"condition": models.Condition(running_since=T0), "unit_of": lambda _: "percent", **more_facts}
    return folding.judge(used, state, points, Horizon.until(horizon, period), **facts)


def hours(used: Rule, points: Sequence[Datapoint], period: int = 300) -> list[tuple[float, str | None]]:
    """Return at which hours it fired and resolved."""
    _, transitions = judge(used, RuleState(), points, points[-1].at, period=period)
    return [((transition.at - T0) / HOUR, transition.after) for transition in transitions]


def daily(hour: float) -> float:
    """Return a load that is high by day and low by night."""
    return 60.0 if 8 <= hour % 24 < 20 else 20.0


# --- what it says --------------------------------------------------------------------------------------------------


def test_a_load_of_the_day_is_unusual_by_night() -> None:
    """60 % is usual at noon and an alert at three in the night, for as long as it lasts."""
    points = trace(lambda hour: 60.0 if 123 <= hour < 124 else daily(hour), 7)
    changes = hours(rule(), points)
    assert [after for _, after in changes] == ["critical", None]
    assert [at for at, _ in changes] == pytest.approx([123, 124], abs=0.25)


def test_a_quiet_night_at_noon_is_unusual_too_and_each_side_can_be_left_out() -> None:
    """A load of 20 % at noon is unusually low. A rule about high values ignores it."""
    points = trace(lambda hour: 20.0 if 132 <= hour < 133 else daily(hour), 7)
    assert [after for _, after in hours(rule(), points)] == ["critical", None]
    assert [after for _, after in hours(rule(side="below"), points)] == ["critical", None]
    assert hours(rule(side="above"), points) == []


def test_a_rule_may_say_for_how_long() -> None:
    """All slots of a quarter of an hour have to be unusual: two of five minutes are not enough, three are."""
    for minutes, fires in ((10, False), (15, True)):
        end = 123 + minutes / 60
        points = trace(functools.partial(between, 123, end, 60.0), 6)
        assert bool(hours(rule(lasts=900), points)) is fires
    text = FILE.replace('breach = "2 of 3"', 'for = "15m"')
    [used] = configuration(text).rules
    assert unusual.KIND.options(used).lasts == 900
    assert configuration(export.text(configuration(text), ())).rules == (used,)
    assert "for 15 min" in unusual.KIND.described(used, "percent")


def test_two_days_are_learned_before_it_says_anything() -> None:
    """On the second day nothing fires. From the third on the same value does."""
    for day, fires in ((1, False), (2, True)):
        begin = day * 24 + 3
        points = trace(functools.partial(between, begin, begin + 1, 90.0), 4)
        assert bool(hours(rule(), points)) is fires


def test_an_hour_of_the_week_has_its_own_band_once_it_is_known() -> None:
    """A weekly job is unusual the first times, by the band of the day, and usual once two weeks have had it."""
    points = trace(lambda hour: 90.0 if hour % 168 >= 165 else 20.0, 35)
    fired = [at for at, after in hours(rule(season="week", beyond=6.0), points) if after]
    assert [int(at // 168) for at in fired] == [0, 1]
    assert {int(at // 168) for at, after in hours(rule(beyond=6.0), points) if after} == {0, 1, 2, 3, 4}


def test_an_anomaly_teaches_nothing_at_once() -> None:
    """A whole odd day leaves the band as it was: the next odd day fires as well."""
    points = trace(lambda hour: 90.0 if 120 <= hour < 144 or 150 <= hour < 152 else daily(hour), 8)
    fired = [at for at, after in hours(rule(), points) if after]
    assert any(120 <= at < 121 for at in fired)
    assert any(150 <= at < 151 for at in fired)
    assert all(120 <= at < 152 for at in fired)


def test_a_new_normal_is_learned_within_days() -> None:
    """A load that stays higher stops being unusual after three of its days."""
    points = trace(lambda hour: daily(hour) + (30 if hour >= 168 else 0), 14)
    changes = hours(rule(), points)
    assert changes[0][0] == pytest.approx(168, abs=0.1)
    assert changes[-1][1] is None
    assert changes[-1][0] < 168 + 3.2 * 24


def test_a_job_at_the_same_time_each_day_is_usual() -> None:
    """A short daily peak at four is usual. The same peak at nine is not."""
    points = trace(lambda hour: 95.0 if 4.2 <= hour % 24 < 4.3 or 153.2 <= hour < 153.3 else 10.0, 8, noise=0.3)
    fired = [at for at, after in hours(rule(), points) if after]
    assert [at for at in fired if at > 48] == pytest.approx([153.25], abs=0.1)


def test_a_constant_metric_divides_by_no_zero() -> None:
    """Of a metric that never moves a change is unusual, a hundredth of it is not."""
    points = [Datapoint(T0 + 300 * place, 50.0) for place in range(4 * 288)]
    assert hours(rule(), [*points[:-2], *(point._replace(value=50.5) for point in points[-2:])]) == []
    assert len(hours(rule(), [*points[:-2], *(point._replace(value=60.0) for point in points[-2:])])) == 1
    zeros = [point._replace(value=0.0) for point in points]
    assert len(hours(rule(), [*zeros[:-1], zeros[-1]._replace(value=1.0)])) == 1


def test_the_state_is_bounded() -> None:
    """However long it learns, the band of a day takes no more than 1.3 kB, that of a week no more than 6 kB."""
    chance = random.Random(1)
    points = [Datapoint(T0 + 900 * place, chance.lognormvariate(3, 2)) for place in range(35 * 96)]
    for season, most in (("day", 1_300), ("week", 6_000)):
        state, _ = judge(rule(season=season), RuleState(), points, points[-1].at, period=900)
        assert len(state.band or "") < most
        half, _ = judge(rule(season=season), RuleState(), points[: 21 * 96], points[21 * 96 - 1].at, period=900)
        assert len(state.band or "") < 1.1 * len(half.band or "")


def test_a_band_survives_a_pause_and_a_stop() -> None:
    """A pause resolves the alert and keeps the band."""
    points = trace(daily, 4)
    state, _ = judge(rule(), RuleState(), points, points[-1].at, period=300)
    paused = RuleState(start=T0 + 4 * DAY + HOUR, band=state.band)
    later = trace(lambda hour: 95.0 if hour >= 99 else daily(hour), 4.2)[4 * 288 :]
    _, transitions = judge(rule(), paused, later, later[-1].at, period=300)
    assert [(transition.at - T0) / HOUR for transition in transitions] == [99]


def test_another_metric_or_season_begins_anew() -> None:
    """The band of another metric, season or length of an hour, or a text that cannot be read, is not used."""
    learned = band.Band("day", HOUR, "a")
    learned.learn(T0, [1.0, 2.0, 3.0], 3)
    text = learned.text()
    assert band.Band.read(text, "day", HOUR, "a").datapoints == 3
    changes: list[tuple[band.Season, int, str]] = [("week", HOUR, "a"), ("day", 2 * HOUR, "a"), ("day", HOUR, "b")]
    for season, width, metric in changes:
        assert band.Band.read(text, season, width, metric).until is None
    for unreadable in (None, "", "!", text[:20], "AAAA"):
        assert band.Band.read(unreadable, "day", HOUR, "a").until is None


# --- however it is fed -------------------------------------------------------------------------------------------

Change = tuple[int, str | None]


class PlainBand:
    """Keeps every datapoint, and computes the band from its definition at each call."""

    def __init__(self, points: Sequence[Datapoint], period: int, late: int) -> None:
        self.width = {300: HOUR, 900: HOUR, 1800: 2 * HOUR}[period]
        self.hours: dict[int, list[float]] = {}
        for at, value in points:
            self.hours.setdefault(at // self.width, []).append(value)
        self.spreads: dict[tuple[int, int], float] = {}
        self.expected, self.late = self.width // period, late
        self.parts = {
            hour: [band._rounded(part) for part in (max(values), statistics.median(values), min(values))]
            for hour, values in self.hours.items()
        }

    def learned_by(self, hour: int, at: int) -> bool:
        """Tell whether an hour counts by a slot."""
        return len(self.hours[hour]) >= 0.25 * self.expected and (hour + 1) * self.width + self.late <= at

    def last(self, hour: int, learned: Sequence[int], most: int, season: int) -> list[int]:
        """Return the last occurrences of a time among hours that are known."""
        return [past for past in learned if (hour - past) * self.width % season == 0][-most:]

    def part(self, place: int, hours: Sequence[int]) -> float:
        """Return the median of the highest (0), the middle (1) or the lowest (2) of hours."""
        return statistics.median(self.parts[hour][place] for hour in hours)

    def spread(self, learned: Sequence[int], place: int) -> float:
        """Return the spread that all hours of the day have in common, above (0) or below (2)."""
        if (learned[-1], place) not in self.spreads:
            self.spreads[learned[-1], place] = self._spread(learned, place)
        return self.spreads[learned[-1], place]

    def _spread(self, learned: Sequence[int], place: int) -> float:
        sign = 1 if place == 0 else -1
        within, days = [], []
        for time in range(DAY // self.width):
            occurrences = self.last(time, learned, 5, DAY)
            within += [sign * (self.parts[past][place] - self.parts[past][1]) for past in occurrences]
            days += [sign * (self.parts[past][place] - self.part(1, occurrences)) for past in occurrences]
        within.sort()
        days.sort()
        usual = max(within[min(len(within) - 1, int(0.95 * len(within)))], days[int(0.75 * len(days))]) / 3
        of_noise = statistics.NormalDist().inv_cdf(0.5 ** (1 / self.expected))
        return band._rounded(max(usual, statistics.median(within) / of_noise))

    def distance(self, at: int, value: float, season: str) -> float:
        """Return how many spreads a value lies from the usual value, 0 if that is unknown."""
        learned = sorted(hour for hour in self.hours if self.learned_by(hour, at))
        hour = at // self.width
        occurrences = self.last(hour, learned, 3, WEEK) if season == "week" else []
        occurrences = occurrences if len(occurrences) >= 2 else self.last(hour, learned, 5, DAY)
        if len(occurrences) < 2:
            return 0.0
        by_then = [
            hour for hour in learned if hour <= occurrences[-1]
        ]  # what was known when this hour was learned last
        centre = self.part(1, occurrences)
        place = 0 if value >= centre else 2
        beside = max(abs(self.part(place, occurrences) - centre), 0.02 * abs(centre), 1e-9) / 3
        apart = abs(self.parts[occurrences[0]][1] - self.parts[occurrences[1]][1]) / 2 if len(occurrences) == 2 else 0.0
        return max(-1e6, min(1e6, (value - centre) / max(beside, self.spread(by_then, place), apart)))


def plain(used: Rule, points: dict[int, Datapoint], last: int, period: int, lateness: int) -> list[Change]:
    """Evaluate a whole series by a plain loop that shares nothing with the fold."""
    options = unusual.KIND.options(used)
    lookback = 2 * max(options.breach.n, options.recover.n)
    usual = PlainBand([points[slot] for slot in sorted(points)], period, lateness + (lookback + 1) * period)
    clear = options.beyond if options.clear is None else options.clear
    distances = {
        slot: usual.distance(slot * period, point.value, options.season) for slot, point in sorted(points.items())
    }
    compared = {
        slot: abs(distance) if options.side == "both" else distance if options.side == "above" else -distance
        for slot, distance in distances.items()
    }
    changes: list[Change] = []
    firing = False
    for slot in range(min((*points, -(-T0 // period))), last + 1):
        if slot not in points and options.missing == "keep":
            continue

        def counted(n: int, slot: int = slot) -> list[float | None]:
            last_values = [
                compared.get(slot - back)
                for back in range(2 * n)
                if slot - back in compared or (options.missing != "keep" and (slot - back) * period >= T0)
            ]
            return last_values[:n]

        bad = sum(
            options.missing == "breach" if value is None else value > options.beyond
            for value in counted(options.breach.n)
        )
        good = sum(
            options.missing != "breach" if value is None else value <= clear for value in counted(options.recover.n)
        )
        now = bad >= options.breach.m or (firing and good < options.recover.m)
        if now != firing:
            changes.append((points[slot].at if slot in points else slot * period, "critical" if now else None))
            firing = now
    return changes


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Draw a rule of any shape that the configuration takes."""

    def count() -> Count:
        n = draw(st.integers(1, 3))
        return Count(m=draw(st.integers(1, n)), n=n)

    return rule(
        season=draw(st.sampled_from(["day", "week"])),
        side=draw(st.sampled_from(["above", "below", "both"])),
        clear=draw(st.sampled_from([None, 2.0])),
        breach=count(),
        recover=count(),
        missing=draw(st.sampled_from(["breach", "ok", "keep"])),
    )


VALUES = st.sampled_from([None, 10.0, 10.0, 10.0, 10.5, 11.0, 12.0, 30.0, 2.0])


@given(rules(), st.sampled_from([900, 1800]), st.data())
@examples(40)
def test_late_lost_and_grouped(used: Rule, period: int, data: st.DataObject) -> None:
    """Lost, grouped or late evaluations and revised datapoints give the results of a plain loop."""
    chance = random.Random(data.draw(st.integers(0, 10**6)))
    pattern = data.draw(st.lists(VALUES, min_size=8, max_size=30))
    days = data.draw(st.sampled_from([4, 15]) if period == 1800 else st.just(3))
    number = days * DAY // period
    values = [pattern[(place * 7) % len(pattern)] if chance.random() < 0.4 else 10.0 for place in range(number)]
    lateness = data.draw(st.sampled_from([900, 3600, 7200]))
    reach = lateness // period
    arrivals: list[list[tuple[int, float]]] = [[] for _ in range(number + reach)]
    for slot, value in enumerate(values):
        if value is not None:
            arrivals[slot + (chance.randint(0, reach) if chance.random() < 0.2 else 0)].append((slot, value))
            if chance.random() < 0.02:
                arrivals[slot + reach].append((slot, chance.choice([10.0, 40.0])))
    datapoints: dict[int, Datapoint] = {}
    state, recorded, pending = RuleState(), list[models.Transition](), list[int]()
    for now, arrived in enumerate(arrivals):
        for slot, value in arrived:
            datapoints[slot] = Datapoint(T0 + period * slot, value)
            pending.append(datapoints[slot].at)
        if now < len(arrivals) - 1 and chance.random() < 0.6:
            continue
        changed_from, pending = min(pending, default=None), []
        requested_at = T0 + period * min(now, number - 1)
        facts = Facts(changed_from=changed_from, lateness=lateness)
        need = unusual.KIND.needed_from(used, state, Horizon.until(requested_at, period), facts)
        points = [datapoints[slot] for slot in sorted(datapoints) if need is None or datapoints[slot].at >= need]
        state, new_transitions = judge(
            used, state, points, requested_at, period=period, changed_from=changed_from, lateness=lateness
        )
        recorded += new_transitions
    final = [datapoints[slot] for slot in sorted(datapoints)]
    last = T0 // period + number - 1
    at_once, transitions = judge(used, RuleState(), final, last * period, period=period, lateness=lateness)
    assert state == at_once
    changes = plain(used, {point.at // period: point for point in final}, last, period, lateness)
    assert [(transition.at, transition.after) for transition in transitions] == changes
    standing: list[Change] = []
    for transition in recorded:
        if transition.correction and (transition.at, transition.before) in standing:
            standing.remove((transition.at, transition.before))
        else:
            standing.append((transition.at, transition.after))
    assert sorted(standing, key=lambda change: change[0]) == changes


def test_a_backtest_equals_a_plain_loop() -> None:
    """A replay of a fortnight with odd hours gives the episodes of the plain loop, with their peaks."""
    points = trace(lambda hour: 95.0 if 100 <= hour < 102 or 250 <= hour < 250.5 else daily(hour), 12, period=900)
    used = rule(breach=Count(m=2, n=2))
    by_slot = {point.at // 900: point for point in points}
    changes = plain(used, by_slot, points[-1].at // 900, 900, models.LATENESS)
    episodes = backtest.episodes(used, [models.Series(900, tuple(points))], unusual.KIND, unit="percent")
    assert len(episodes) >= 2
    assert [at for episode in episodes for at in (episode.begin, episode.end) if at is not None] == [
        at for at, _ in changes
    ]
    assert all((episode.peak or 0) > 90 for episode in episodes)


# --- the file ------------------------------------------------------------------------------------------------------


def configuration(text: str = FILE) -> models.Configuration:
    """Return the configuration of a file."""
    return config.to_configuration(PARSER.parse(text, "f.toml"), config.DEFAULT)


def test_a_file_asks_for_it_and_export_gives_it_back() -> None:
    """The parser reads its keys, JSON keeps them, and an exported file gives the same rule."""
    parsed = configuration()
    [used] = parsed.rules
    assert (used.kind, used.severity) == ("unusual", "warning")
    assert unusual.KIND.options(used) == unusual_options.Options(
        beyond=4, season="week", side="above", breach=Count(m=2, n=3), clear=3
    )
    assert models.Configuration.model_validate_json(parsed.model_dump_json()).rules == parsed.rules
    assert configuration(export.text(parsed, ())).rules == parsed.rules


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("beyond", "beyund", "line 5, column 13: rules[0].unusual.beyund: is not a known key; did you mean beyond?"),
        ("beyond = 4", "beyond = 0", "line 5, column 13: rules[0].unusual.beyond: should be greater than 0"),
        ('"week"', '"weak"', "line 5, column 25: rules[0].unusual.season: 'weak' is none of day, week"),
        ('"above"', '"up"', "line 5, column 42: rules[0].unusual.side: 'up' is none of above, below, both"),
        ("clear = 3", "clear = 5", "line 8, column 1: rules[0].clear: 5 is more than beyond, 4"),
        ("clear", "above", "rules[0].above: is not for unusual = …; remove it"),
        ("unusual", "unusuall", "line 5, column 1: rules[0].unusuall: is not a known key; did you mean unusual?"),
        ("cpu_utilization", "cpu_utilisation", "did you mean cpu_utilization?"),
        ('"2 of 3"', '"3 of 2"', "rules[0].breach: asks for 3 of 2 slots"),
        ("breach", 'for = "1h"\nbreach', "rules[0].for: cannot be combined with breach"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, error: str) -> None:
    """An error has line, column, the reason and the nearest valid word."""
    with pytest.raises(errors.InvalidInput) as refused:
        configuration(FILE.replace(old, new, 1))
    assert error in str(refused.value)


def test_its_cases_are_tried() -> None:
    """A case of the file learns from its own values: three days of hours, and an unusual one."""
    values = ", ".join(["20", "21", "20", "22"] * 18 + ["20", "90"])
    case = f'\n[[rules.cases]]\nname = "odd"\nperiod = 3600\nvalues = [{values}]\n'
    text = FILE.replace("2 of 3", "1 of 1") + case + 'turns = [{ at = 74, to = "warning" }]\n'
    assert rule_cases.test(PARSER.parse(text, "f.toml"), configuration(text), KINDS).passed


# --- through the monitor -----------------------------------------------------------------------------------------


def test_it_is_evaluated_notified_and_explained() -> None:
    """While it learns, it does not fire and why shows the progress. Then an unusual hour fires and resolves."""
    text = FILE.replace('season = "week", side = "above"', 'season = "day"') + '\n[collect]\nretention = "7d"\n'
    monitor = testing.Monitor(configuration(text), T0)
    worker = monitor.add_worker("i-0abc0123456789def", name="render-07", interval=300)
    odd = range(3 * 288, 3 * 288 + 12)
    values = [90.0 if place in odd else 20.0 + place % 3 for place in range(3 * 288 + 30)]
    monitor.cloudwatch.put(worker.id, "CPUUtilization", [(T0 + 300 * n, value) for n, value in enumerate(values)])

    def explained() -> dict[str, Any]:
        (record,) = monitor.workers.get([worker.id]).values()
        [rule_document] = monitor.get(views.Explanation).explain(record, "cpu_utilization").to_json()["rules"]
        document: dict[str, Any] = rule_document
        return document

    explanations: list[dict[str, Any]] = []
    for step in range(3 * 288 + 36):
        monitor.clock.advance(300)
        if step % 7 and step < 3 * 288 - 12:
            continue
        monitor.collect()
        monitor.get(evaluate.Evaluation).evaluate([worker.id])
        monitor.deliver()
        explanations.append(explained())
    fired, resolved = [notification for notification in monitor.received if notification.rule == "odd"]
    assert (fired.kind, fired.status, fired.severity, fired.value) == ("unusual", "firing", "warning", 90)
    assert fired.summary.startswith("render-07: cpu_utilization 90 %, usual at this time of the day: ")
    assert (resolved.status, resolved.value) == ("resolved", 21)
    learning = explanations[30]
    assert learning["now"].startswith("learning: 0 of 2 days are known of this time of day (datapoints since ")
    firing = next(document for document in explanations if document["state"] == "warning")
    assert (firing["breaching"], firing["of"]) == (2, 3)
    at = firing["usual"][-1]
    assert at["centre"] == 21
    assert at["low"] < 20
    assert 22 < at["high"] < 30
    assert (at["occurrences"], at["by"], at["value"]) == (3, "day", 90)
    assert firing["learned"] > 800
    assert 0 < firing["bytes"] < 1300


def test_the_band_is_drawn_over_the_whole_span() -> None:
    """The chart draws the band at each time, on the rule's sides. Before it has learned there is none."""
    points, facts = trace(daily, 4.5), Facts()
    times = [point.at for point in points]
    assert unusual.KIND.curve(rule(), RuleState(), facts, times) is None
    for side, low, high in (("both", True, True), ("above", False, True), ("below", True, False)):
        state, _ = judge(rule(side=side), RuleState(), points, points[-1].at, period=300)
        curve = unusual.KIND.curve(rule(side=side), state, facts, times)
        assert curve is not None
        assert [point.at for point in curve.points] == times
        assert {(point.low is not None, point.high is not None) for point in curve.points} == {(low, high)}
        inside = [
            (point.low is None or point.low < shifted.value) and (point.high is None or shifted.value < point.high)
            for point, shifted in zip(curve.points, points, strict=True)
        ]
        assert sum(inside) > 0.98 * len(inside)
        assert unusual.KIND.drawn(rule(side=side)) == ()


def test_a_clock_that_was_ahead_stops_no_learning() -> None:
    """If the band was learned up to a future time, learning continues from the present."""
    points = trace(daily, 4)
    ahead = [point._replace(at=point.at + 30 * DAY) for point in points[-12:]]
    state, _ = judge(rule(), RuleState(), [*points, *ahead], ahead[-1].at, period=300)
    now = points[-1].at + 300
    present = unusual.KIND.clamped(state, now)
    later = trace(daily, 7)[4 * 288 :]
    for place in range(0, len(later), 6):
        observed = [*points, *later[: place + 6]]
        present, _ = judge(rule(), present, observed, observed[-1].at, period=300)
    learned = band.Band.read(present.band, "day", HOUR, "cpu_utilization")
    assert learned.until is not None
    assert T0 + 6.8 * DAY < learned.until <= T0 + 7 * DAY


def test_nothing_is_said_of_what_is_not_a_number() -> None:
    """A value that is not finite is absent, and is not learned."""
    points = [
        observed._replace(value=math.nan) if place % 5 == 0 else observed
        for place, observed in enumerate(trace(daily, 4))
    ]
    assert hours(rule(), points) == []
