"""The kind ``unusual``: a metric lies outside its usual range for the time of day or week.

The rule measures how far each datapoint lies from the usual value, in spreads, and compares that as any threshold. It
learns an hour once no late datapoint can change that hour. So learning is never revised, and the result for a time does
not depend on when it is evaluated.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from workermon import models
from workermon.rules import band, breaches, kind, over_distances, slots, wording
from workermon.rules.horizon import Horizon
from workermon.rules.over_distances import Distances
from workermon.rules.unusual_options import Options, UnusualSection


class UsualDetails(models.Frozen):
    """The usual range at a time, in the unit of the metric; ``low`` and ``high`` are at the rule's distance.

    ``by`` is the season it was learned by: the day or the week. ``occurrences`` is how many of them were learned.
    """

    at: str
    value: float | None
    centre: float
    spread_above: float
    spread_below: float
    low: float | None
    high: float | None
    occurrences: int
    by: band.Season
    distance: float | None


class Details(models.Frozen):
    """The rule's input; durations in seconds, times in RFC 3339. ``learned`` counts datapoints."""

    period: int
    delay: int
    asked: str | None
    horizon: str | None
    learned: int = 0
    learned_since: str | None = None
    learned_until: str | None = None
    bytes: int = 0
    usual: tuple[UsualDetails, ...] = ()
    missing: tuple[str, ...] = ()
    breaching: int = 0
    of: int = 0


class Unusual(over_distances.OverDistances[Options]):
    """A metric lies outside its usual range for the time of day or week."""

    name = "unusual"
    section_type = UnusualSection
    options_type = Options

    # --- the config file ---------------------------------------------------------------------------------------------

    def parse(self, raw_rule: UnusualSection) -> tuple[Options, models.Severity]:
        """Return distance, season and side."""
        return self._parsed(raw_rule, raw_rule.unusual)

    def export(self, rule: models.Rule) -> dict[str, object]:
        """Return the keys of a rule."""
        options = self.options(rule)
        return self._exported(rule, {"beyond": options.beyond, "season": options.season, "side": options.side})

    # --- evaluation --------------------------------------------------------------------------------------------------

    def needed_from(
        self, rule: models.Rule, rule_state: models.RuleState, horizon: Horizon, facts: kind.Facts
    ) -> int | None:
        """Return the time from which datapoints are needed: by the fold, or by learning if an hour is due."""
        needed = slots.needed_from(rule_state, self._limits(rule)(horizon.period), _walk(rule, facts, horizon))
        learned = self._band(rule, rule_state, horizon.period)
        if learned.until is None:
            return 0  # all of the ledger
        late = _late(self._limits(rule)(horizon.period), _walk(rule, facts, horizon))
        if band.due(learned.until, learned.width, late) > (horizon.requested_at or 0):
            return needed
        begin = rule_state.start if needed is None else needed
        return learned.until if begin is None else min(begin, learned.until)

    def judge(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Judgement:
        """Compare each slot after the cursor with the usual range at that time, and learn the hours that are over."""
        if horizon is None or horizon.newest is None:
            return rule_state, ()
        limits, walk = self._limits(rule)(horizon.period), _walk(rule, facts, horizon)
        learned = self._band(rule, rule_state, horizon.period)
        needed = slots.needed_from(rule_state, limits, walk)
        begin = needed if needed is not None else rule_state.start or 0
        distances = self._fold_distances(rule, learned, facts, _Span(begin, rule_state.cursor, walk))
        state, transitions = slots.judge(rule, limits, rule_state, dataclasses.replace(walk, points=distances.points))
        if learned.changed:
            state = state.model_copy(update={"band": learned.text()})
        elif state is not rule_state:
            state = state.model_copy(update={"band": rule_state.band})
        return state, tuple(self._with_details(rule, transition, distances, walk.unit) for transition in transitions)

    def _band(self, rule: models.Rule, rule_state: models.RuleState, period: int) -> band.Band:
        """Return what was learned. If a clock was ahead at that time, learning continues at the cursor."""
        width = band.width_of(period)
        learned = band.Band.read(rule_state.band, self.options(rule).season, width, rule.metric or "")
        if learned.until is not None and rule_state.cursor is not None and learned.until > rule_state.cursor + width:
            learned.until = rule_state.cursor // width * width
        return learned

    def _fold_distances(
        self, rule: models.Rule, learned: band.Band, facts: kind.Facts, span: _Span
    ) -> Distances[band.Usual]:
        """Return the distance of each slot in a span. Before each slot the band learns the hours that have ended."""
        options, walk = self.options(rule), span.walk
        points = [point for point in facts.points(rule.metric) if math.isfinite(point.value)]
        times = [point.at for point in points]
        distances: Distances[band.Usual] = Distances()
        last = walk.horizon // walk.period
        if points:
            last = max(last, points[-1].at // walk.period)
        learning = _Learning(learned, points, times, _late(self._limits(rule)(walk.period), walk), walk.period)
        for point in points[bisect.bisect_left(times, span.begin) :]:
            learning.until(point.at // walk.period * walk.period)
            distances.add(options, point, learned.usual(point.at))
        learning.until(max(last * walk.period, span.cursor or 0))
        return distances

    def _with_details(
        self, rule: models.Rule, transition: models.Transition, distances: Distances[band.Usual], unit: str
    ) -> models.Transition:
        """Return a transition in the unit of the metric, with the usual range at that time."""
        options = self.options(rule)
        transition, decided = over_distances.in_the_metric(transition, distances, functools.partial(_edge, options))
        if decided is None:
            reason = f"{transition.count} values unusual, an absent one counts (missing = {options.missing})"
        else:
            point, usual = decided
            if usual is None:
                return transition
            reason = f"{_compared(options, point.value, usual, unit)}{over_distances.late(transition)}"
        return transition.model_copy(update={"reason": reason})

    # --- wording -----------------------------------------------------------------------------------------------------

    def described(self, rule: models.Rule, unit: str) -> tuple[str, ...]:
        """Return distance, season, side and counts in words."""
        options = self.options(rule)
        side = options.side_in_words
        return (
            f"more than {options.beyond:g} spreads {side} what is usual at the same time of the {options.season}",
            *options.described(rule.severity, "spreads"),
        )

    def explain(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Explanation:
        """Explain what is usual at the cursor, and how far the slots there lie from it."""
        assert horizon is not None
        learned = self._band(rule, rule_state, horizon.period)
        details = Details(
            period=horizon.period,
            delay=horizon.delay,
            asked=wording.time(horizon.requested_at),
            horizon=wording.time(horizon.newest),
            learned=learned.datapoints,
            learned_since=wording.time(learned.since),
            learned_until=wording.time(learned.until if learned.since is not None else None),
            bytes=len(rule_state.band or ""),
        )
        if horizon.requested_at is None:
            return kind.Explanation(wording.NEVER_REQUESTED, details)
        if rule_state.cursor is None or rule_state.period != horizon.period:
            return kind.Explanation(wording.NEVER_EVALUATED, details)
        options, unit = self.options(rule), facts.unit_of(rule.metric or "")
        distances: Distances[band.Usual] = Distances()
        for point in facts.points(rule.metric):
            if math.isfinite(point.value):
                distances.add(options, point, learned.usual(point.at))
        walk = dataclasses.replace(_walk(rule, facts, horizon), points=distances.points)
        view = slots.view(rule, self._limits(rule)(walk.period), rule_state, walk)
        assert view is not None
        level = view.levels[0]
        last_compared = distances.newest_compared(view)
        details = details.model_copy(
            update={
                "usual": tuple(_details(options, point, usual) for point, usual in last_compared if usual is not None),
                **over_distances.counted(view),
            }
        )
        at = rule_state.cursor
        present = learned.usual(at)
        lines = tuple(_lines(learned, last_compared, unit, (at, present)))
        if present is None:
            since = "nothing yet" if learned.since is None else f"datapoints since {models.rfc3339(learned.since)}"
            now = (
                f"learning: {learned.occurrences(at)} of {band.MIN_OCCURRENCES} days are known of this time of day"
                f" ({since}); does not fire until then"
            )
            return kind.Explanation(now, details, lines)
        counts = f"{level.breaching} of {view.counted} values more than {options.beyond:g} spreads from what is usual"
        ends = f"{level.cleared} of {view.recovering} values are usual again, {rule.severity} ends at {options.recover}"
        fires = wording.fires_at(rule.severity, options.breach, options.lasts, horizon.period)
        now = ends if level.latched else f"{counts}, {fires}"
        return kind.Explanation(now, details, lines)

    def curve(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, times: Sequence[int]
    ) -> kind.Curve | None:
        """Return the usual range over time, as learned so far; nothing where too little is known."""
        if rule_state.period is None:
            return None
        options, learned = self.options(rule), self._band(rule, rule_state, rule_state.period)
        usual_at = ((at, usual) for at in times if (usual := learned.usual(at)) is not None)
        points = tuple(kind.CurvePoint(at, *_edges(options, usual)) for at, usual in usual_at)
        return kind.Curve(rule.severity, points) if points else None


class _Span(NamedTuple):
    """The span to evaluate: from ``begin`` on, after the state's ``cursor``; the walk has no values yet."""

    begin: int
    cursor: int | None
    walk: slots.Walk


@dataclasses.dataclass(slots=True)
class _Learning:
    """Teaches a band the datapoints hour by hour, each hour once it can no longer change."""

    band: band.Band
    points: Sequence[models.Datapoint]
    times: Sequence[int]
    late: int
    period: int

    def until(self, at: int) -> None:
        """Learn every hour that is over by a slot."""
        learned = self.band
        if learned.until is None:
            if not self.times:
                return
            learned.until = self.times[0] // learned.width * learned.width
        while band.due(learned.until, learned.width, self.late) <= at:
            begin = bisect.bisect_left(self.times, learned.until)
            if begin == len(self.times):
                # Nothing more is known: hours without datapoints are not learned.
                learned.skip((at - self.late) // learned.width * learned.width)
                return
            end = bisect.bisect_left(self.times, learned.until + learned.width)
            if begin == end:
                ahead = self.times[begin] // learned.width * learned.width
                learned.skip(min(ahead, (at - self.late) // learned.width * learned.width))
                continue
            values = [point.value for point in self.points[begin:end]]
            learned.learn(learned.until, values, learned.width / self.period)


def _walk(rule: models.Rule, facts: kind.Facts, horizon: Horizon) -> slots.Walk:
    running_since = facts.condition.running_since
    return slots.Walk(
        metric=rule.metric,
        points=(),
        period=horizon.period,
        horizon=horizon.newest or 0,
        expected_from=math.ceil((horizon.requested_at or 0.0) if running_since is None else running_since),
        changed_from=facts.changed_from,
        lateness=facts.lateness,
        unit=facts.unit_of(rule.metric or ""),
    )


def _late(limits: breaches.Limits, walk: slots.Walk) -> int:
    """Return the seconds after an hour in which the fold may still compare its slots, and learning must wait."""
    return walk.lateness + (limits.lookback + 1) * walk.period


def _edge(options: Options, usual: band.Usual, value: float | None) -> float:
    """Return the edge of the band that a value is compared with: of its side, or of the only one."""
    low = options.side == "below" or (options.side == "both" and value is not None and value < usual.centre)
    return usual.centre - options.beyond * usual.below if low else usual.centre + options.beyond * usual.above


def _compared(options: Options, value: float, usual: band.Usual, unit: str) -> str:
    """Describe a value beside the usual range, such as "97 %, usual at this time of the day: 20 % to 60 %"."""
    low, high = _edges(options, usual)
    texts = [wording.quantity(edge, unit) for edge in (low, high) if edge is not None]
    edges = " to ".join(texts) if len(texts) == 2 else f"{'at most' if low is None else 'at least'} {texts[0]}"
    return f"{wording.quantity(value, unit)}, usual at this time of the {usual.by}: {edges}"


def _edges(options: Options, usual: band.Usual) -> tuple[float | None, float | None]:
    return (
        None if options.side == "above" else usual.centre - options.beyond * usual.below,
        None if options.side == "below" else usual.centre + options.beyond * usual.above,
    )


def _details(options: Options, point: models.Datapoint, usual: band.Usual) -> UsualDetails:
    low, high = _edges(options, usual)
    return UsualDetails(
        at=models.rfc3339(point.at),
        value=point.value,
        centre=usual.centre,
        spread_above=usual.above,
        spread_below=usual.below,
        low=low,
        high=high,
        occurrences=usual.occurrences,
        by=usual.by,
        distance=round(usual.distance(point.value), 2),
    )


def _lines(
    learned: band.Band,
    compared: Sequence[over_distances.Compared[band.Usual]],
    unit: str,
    present: tuple[int, band.Usual | None],
) -> Iterator[tuple[str, str]]:
    """Yield band, datapoints and how much was learned, for ``why``."""
    at, usual = present
    if usual is not None:
        yield (
            "usual",
            f"centre {wording.quantity(usual.centre, unit)}, spread {wording.quantity(usual.above, unit)} above and"
            f" {wording.quantity(usual.below, unit)} below, of {usual.occurrences} {usual.by}s",
        )
    yield over_distances.points_line(compared, unit)
    if learned.since is not None and learned.until is not None:
        span = f"{models.rfc3339(learned.since)} to {models.rfc3339(learned.until)}"
        yield "learned", f"{learned.datapoints} datapoints, {span}"
    yield "evaluated", f"up to {models.rfc3339(at)}"


KIND = Unusual()
