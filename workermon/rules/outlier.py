"""The kind ``outlier``: a worker's metric lies far from the metric of the workers that share a label value with it.

The rule compares each datapoint's distance from the median of its group in that slot, in scaled MADs, as any threshold.
Datapoints of other workers may arrive later than the worker's own. So each evaluation repeats the slots of one
lateness, and never goes beyond the time up to which the whole group is known.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from workermon import models
from workermon.models import fields
from workermon.rules import expression, kind, over_slots, peers, section, slots, wording
from workermon.rules.horizon import Horizon
from workermon.rules.outlier_options import Options, OutlierSection

#: Datapoints of the window that ``why`` lists.
_SHOWN = 12


class DistanceDetails(models.Frozen):
    """A slot: the value of the worker, and the middle of its group; null where the group was too small.

    ``mad`` is scaled, and ``distance`` counts it.
    """

    at: str
    value: float
    median: float | None
    mad: float | None
    distance: float | None
    group_size: int


class Details(models.Frozen):
    """What the rule looked at; durations in seconds, times in RFC 3339. ``known`` is up to when all the group is."""

    period: int
    delay: int
    asked: str | None
    horizon: str | None
    known: str | None
    group: dict[str, str] | None
    group_size: int
    distances: tuple[DistanceDetails, ...] = ()
    missing: tuple[str, ...] = ()
    breaching: int = 0
    of: int = 0


class _Distances(NamedTuple):
    """The values that the fold compares, each with its datapoint and the median of the group then."""

    points: list[models.Datapoint]
    by_time: dict[int, tuple[models.Datapoint, peers.Middle | None]]


class Outlier(over_slots.OverSlots[Options]):
    """A worker's metric lies far from that of its group."""

    name = "outlier"
    section_type = OutlierSection
    options_type = Options

    def __init__(self) -> None:
        super().__init__()
        self._limits: kind.ByRule[Callable[[int], slots.Limits]] = kind.ByRule(
            lambda rule: functools.cache(functools.partial(self.options(rule).limits, rule.severity))
        )

    # --- the config file ---------------------------------------------------------------------------------------------

    def claims(self, raw_rule: Mapping[str, object]) -> bool:
        """Return whether it asks for outliers."""
        return "outlier" in raw_rule

    @property
    def asked_by(self) -> str:
        """Return how the file asks for it."""
        return "outlier = …"

    def parse(self, raw_rule: OutlierSection) -> tuple[Options, models.Severity]:
        """Return group, distance and side."""
        if expression.of(raw_rule.metric) is not None:
            raise section.Mistake("metric", "is an expression, but outlier needs one metric", "write one metric")
        if raw_rule.clear is not None and raw_rule.clear > raw_rule.outlier.beyond:
            why = f"{raw_rule.clear:g} is more than beyond, {raw_rule.outlier.beyond:g}, so the alert would flap"
            raise section.Mistake("clear", why, f"choose {raw_rule.outlier.beyond:g} or less")
        if raw_rule.lasts is not None and "breach" in raw_rule.model_fields_set:
            raise section.Mistake("for", "cannot be combined with breach", "keep one of the two")
        return Options(
            **raw_rule.outlier.model_dump(),
            breach=raw_rule.breach,
            lasts=raw_rule.lasts,
            clear=raw_rule.clear,
            recover=raw_rule.recover,
            missing=raw_rule.missing,
        ), raw_rule.severity

    def export(self, rule: models.Rule) -> dict[str, object]:
        """Return the keys of a rule."""
        options = self.options(rule)
        clear = {} if options.clear is None else {"clear": options.clear}
        return {
            "outlier": {"by": options.by, "beyond": options.beyond, "side": options.side},
            "severity": rule.severity,
            **clear,
            **({"breach": str(options.breach)} if options.lasts is None else {"for": fields.written(options.lasts)}),
            "recover": str(options.recover),
            "missing": options.missing,
        }

    def looks_back(self, rule: models.Rule) -> tuple[tuple[str, int], ...]:
        """Return how long values must lie far away."""
        lasts = self.options(rule).lasts
        return () if lasts is None else (("for", lasts),)

    # --- which workers -----------------------------------------------------------------------------------------------

    def compares_by(self, rule: models.Rule) -> str | None:
        """Return the label that workers share with those that they are compared with."""
        return self.options(rule).by

    def least_members(self, rule: models.Rule) -> int:
        """Return the smallest number of workers whose median is used."""
        return peers.MIN_WORKERS

    def not_applied(self, rule: models.Rule, worker: models.Worker, configuration: models.Configuration) -> str | None:
        """Return why a worker cannot be compared; ``None`` if it can."""
        by = self.options(rule).by
        if by not in worker.labels:
            return f"it has no label {by}, by whose values the rule makes groups"
        return super().not_applied(rule, worker, configuration)

    # --- evaluation --------------------------------------------------------------------------------------------------

    def needed_from(
        self, rule: models.Rule, rule_state: models.RuleState, horizon: Horizon, facts: kind.Facts
    ) -> int | None:
        """Return the time from which the fold needs datapoints of the worker and of its group."""
        walk = _walk(rule, facts, horizon, rule_state)
        return slots.needed_from(rule_state, self._limits(rule)(horizon.period), walk)

    def judge(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Judgement:
        """Compare each slot after the cursor, and those that datapoints of others may have changed."""
        if horizon is None or horizon.newest is None:
            return rule_state, ()
        last = self._last(rule, facts, horizon)
        if last is None or last < (-1 if rule_state.cursor is None else rule_state.cursor):
            return rule_state, ()
        distances = self._distances(rule, facts, horizon.period, last)
        walk = dataclasses.replace(_walk(rule, facts, horizon, rule_state), points=distances.points, horizon=last)
        state, transitions = slots.judge(rule, self._limits(rule)(horizon.period), rule_state, walk)
        if state == rule_state and not transitions:
            return rule_state, ()
        described = (self._described(rule, facts, transition, distances) for transition in transitions)
        return state, tuple(described)

    def _last(self, rule: models.Rule, facts: kind.Facts, horizon: Horizon) -> int | None:
        """Return the newest slot for which the whole group's datapoints have arrived; ``None`` without one."""
        known_until, points = facts.peers.known(), facts.points(rule.metric)
        if known_until is None:
            return None
        newest = max(horizon.newest or 0, points[-1].at if points else 0) // horizon.period
        return min((known_until + 1) // horizon.period - 1, newest) * horizon.period

    def _distances(self, rule: models.Rule, facts: kind.Facts, period: int, last: int) -> _Distances:
        """Return how far each datapoint lies up to the last slot. In too small a group nothing is an outlier."""
        options, middles, distances = self.options(rule), facts.peers.middles(period), _Distances([], {})
        for point in facts.points(rule.metric):
            if not math.isfinite(point.value) or point.at >= last + period:
                continue
            middle = middles.get(point.at // period)
            distance = 0.0 if middle is None else options.compared(middle.distance(point.value))
            distances.points.append(models.Datapoint(point.at, distance))
            distances.by_time[point.at] = point, middle
        return distances

    def _described(
        self, rule: models.Rule, facts: kind.Facts, transition: models.Transition, distances: _Distances
    ) -> models.Transition:
        """Return a transition in the unit of the metric, with the median of the group at that time."""
        options, group, unit = self.options(rule), facts.peers, facts.unit_of(rule.metric or "")
        times = [point.at for point in transition.points]
        at = times[-1] if transition.withdrawn and times else transition.at
        point, middle = distances.by_time.get(at, (None, None))
        update: dict[str, object] = {
            "value": None if point is None else point.value,
            "points": tuple(distances.by_time[at][0] for at in times if at in distances.by_time),
            "threshold": None if middle is None else _edge(options, middle, point and point.value),
        }
        if transition.present is not None:
            update["present"] = distances.by_time.get(transition.present.at, (None, None))[0]
        if point is None:
            count = transition.count
            update["reason"] = f"{count} values are outliers, an absent one counts (missing = {options.missing})"
        else:
            late = "; a datapoint came late or was revised" if transition.correction else ""
            update["reason"] = f"{_compared(point.value, middle, group, unit)}{late}"
        return transition.model_copy(update=update)

    # --- wording -----------------------------------------------------------------------------------------------------

    def summary(self, rule: models.Rule, transition: models.Transition, unit: str, interval: int) -> str:
        """Return the value and the median of the group at that time."""
        return wording.by_reason(self.subject(rule), transition)

    def described(self, rule: models.Rule, unit: str) -> tuple[str, ...]:
        """Return group, distance, side and counts in words."""
        options = self.options(rule)
        side = options.side_in_words
        return (
            f"more than {options.beyond:g} scaled MADs {side} the median of the workers with the same {options.by}",
            *options.described(rule.severity, "scaled MADs"),
        )

    def explain(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Explanation:
        """Explain how far the slots at the cursor lie from the median of the group then."""
        assert horizon is not None
        options, group, period = self.options(rule), facts.peers, horizon.period
        cursor = rule_state.cursor
        details = Details(
            period=period,
            delay=horizon.delay,
            asked=wording.time(horizon.requested_at),
            horizon=wording.time(horizon.newest),
            known=wording.time(group.known()),
            group={"by": group.by, "value": group.value} if group.by else None,
            group_size=0 if cursor is None else group.size(cursor // period, period),
        )
        if horizon.requested_at is None:
            return kind.Explanation("no request to CloudWatch has succeeded yet", details)
        if cursor is None or rule_state.period != period:
            return kind.Explanation("no slot was evaluated yet", details)
        distances = self._distances(rule, facts, period, cursor)
        walk = dataclasses.replace(_walk(rule, facts, horizon, rule_state), points=distances.points, horizon=cursor)
        view = slots.view(rule, self._limits(rule)(period), rule_state, walk)
        assert view is not None
        last_compared = [distances.by_time[point.at] for point in view.points][-_SHOWN:]
        level = view.levels[0]
        details = details.model_copy(
            update={
                "distances": tuple(_details(point, middle, group, period) for point, middle in last_compared),
                "missing": tuple(models.rfc3339(at) for at in view.absent),
                "breaching": level.breaching,
                "of": view.counted,
            }
        )
        unit = facts.unit_of(rule.metric or "")
        texts = []
        for point, comparison in last_compared:
            distance = "" if comparison is None else f" ({comparison.distance(point.value):+.1f})"
            texts.append(f"{wording.time_of_day(point.at)} {wording.quantity(point.value, unit)}{distance}")
        middle = group.middles(period).get(cursor // period)
        lines = (
            ("group", _in_words(middle, group, details.group_size, unit)),
            ("points", "  ".join(texts) or "none"),
            ("evaluated", f"up to {models.rfc3339(cursor)}, when the datapoints of the whole group were there"),
        )
        if middle is None:
            few = f"{details.group_size} workers of {_named(group)} have a value at {models.rfc3339(cursor)}"
            return kind.Explanation(f"{few}, {peers.MIN_WORKERS} are needed to tell an outlier", details, lines)
        counts = f"{level.breaching} of {view.counted} values more than {options.beyond:g} scaled MADs from the median"
        near = f"{level.cleared} of {view.recovering} values are near the median again"
        ends = f"{near}, {rule.severity} ends at {options.recover}"
        fires = wording.fires_at(rule.severity, options.breach, options.lasts, period)
        now = ends if level.latched else f"{counts}, {fires}"
        return kind.Explanation(now, details, lines)

    # --- backtest ----------------------------------------------------------------------------------------------------

    def peak(self, rule: models.Rule, values: list[float]) -> float | None:
        """Return the highest value, or the lowest where only low ones are outliers."""
        return (min if self.options(rule).side == "below" else max)(values, default=None)


def _walk(rule: models.Rule, facts: kind.Facts, horizon: Horizon, rule_state: models.RuleState) -> slots.Walk:
    """Return the slots that are compared, without values: one lateness again, as datapoints of others may be new."""
    running_since = facts.condition.running_since
    return slots.Walk(
        metric=rule.metric,
        points=(),
        period=horizon.period,
        horizon=horizon.newest or 0,
        expected_from=math.ceil((horizon.requested_at or 0.0) if running_since is None else running_since),
        changed_from=rule_state.cursor - facts.lateness if rule_state.cursor is not None and facts.lateness else None,
        lateness=facts.lateness,
        unit=facts.unit_of(rule.metric or ""),
    )


def _named(group: peers.PeerGroup) -> str:
    return f"{group.by}={group.value}"


def _edge(options: Options, middle: peers.Middle, value: float | None) -> float:
    """Return the value beyond which a worker is an outlier: on its side, or on the rule's only side."""
    low = options.side == "below" or (options.side == "both" and value is not None and value < middle.median)
    return middle.median + (-1 if low else 1) * options.beyond * middle.mad


def _compared(value: float, middle: peers.Middle | None, group: peers.PeerGroup, unit: str) -> str:
    """Say how a value lies, such as "97.5 %, 6.2 scaled MADs above the median 31 % of 8 workers in pool=a"."""
    text = wording.quantity(value, unit)
    if middle is None:
        return f"{text}, and fewer than {peers.MIN_WORKERS} workers in {_named(group)} have a value"
    distance = middle.distance(value)
    side = "above" if distance >= 0 else "below"
    median = wording.quantity(middle.median, unit)
    workers = f"{middle.size} workers in {_named(group)}"
    return f"{text}, {abs(distance):.1f} scaled MADs {side} the median {median} of {workers}"


def _details(
    point: models.Datapoint, middle: peers.Middle | None, group: peers.PeerGroup, period: int
) -> DistanceDetails:
    return DistanceDetails(
        at=models.rfc3339(point.at),
        value=point.value,
        median=None if middle is None else middle.median,
        mad=None if middle is None else middle.mad,
        distance=None if middle is None else round(middle.distance(point.value), 2),
        group_size=group.size(point.at // period, period) if middle is None else middle.size,
    )


def _in_words(middle: peers.Middle | None, group: peers.PeerGroup, size: int, unit: str) -> str:
    if middle is None:
        return f"{size} workers of {_named(group)}, fewer than {peers.MIN_WORKERS}"
    median, mad = (wording.quantity(value, unit) for value in (middle.median, middle.mad))
    return f"median {median}, scaled MAD {mad}, of {middle.size} workers in {_named(group)}"


KIND = Outlier()
