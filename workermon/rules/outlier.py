"""The kind ``outlier``: a worker's metric lies far from the metric of the workers that share a label value with it.

The rule compares each datapoint's distance from the median of its group in that slot, in scaled MADs, as any threshold.
Datapoints of other workers may arrive later than the worker's own. So each evaluation repeats the slots of one
lateness, and never goes beyond the time up to which the whole group is known.
"""

from __future__ import annotations

import dataclasses
import functools
import math

from workermon import models
from workermon.rules import expression, kind, over_distances, peers, section, slots, wording
from workermon.rules.horizon import Horizon
from workermon.rules.outlier_options import Options, OutlierSection
from workermon.rules.over_distances import Distances


class DistanceDetails(models.Frozen):
    """A slot: the value of the worker, and the median of its group; null if the group was too small.

    ``mad`` is scaled, and ``distance`` is in its units.
    """

    at: str
    value: float
    median: float | None
    mad: float | None
    distance: float | None
    group_size: int


class Details(models.Frozen):
    """The rule's input; durations in seconds, times in RFC 3339. ``known`` is up to when the whole group is."""

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


class Outlier(over_distances.OverDistances[Options]):
    """A worker's metric lies far from that of its group."""

    name = "outlier"
    section_type = OutlierSection
    options_type = Options

    # --- the config file ---------------------------------------------------------------------------------------------

    def parse(self, raw_rule: OutlierSection) -> tuple[Options, models.Severity]:
        """Return group, distance and side."""
        if expression.of(raw_rule.metric) is not None:
            raise section.Mistake("metric", "is an expression, but outlier needs one metric", "write one metric")
        return self._parsed(raw_rule, raw_rule.outlier)

    def export(self, rule: models.Rule) -> dict[str, object]:
        """Return the keys of a rule."""
        options = self.options(rule)
        return self._exported(rule, {"by": options.by, "beyond": options.beyond, "side": options.side})

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
        known_until, points = facts.peers.known_until(), facts.points(rule.metric)
        if known_until is None:
            return None
        newest = max(horizon.newest or 0, points[-1].at if points else 0) // horizon.period
        return min((known_until + 1) // horizon.period - 1, newest) * horizon.period

    def _distances(self, rule: models.Rule, facts: kind.Facts, period: int, last: int) -> Distances[peers.GroupMedian]:
        """Return how far each datapoint lies up to the last slot. In too small a group nothing is an outlier."""
        options, medians = self.options(rule), facts.peers.medians(period)
        distances: Distances[peers.GroupMedian] = Distances()
        for point in facts.points(rule.metric):
            if not math.isfinite(point.value) or point.at >= last + period:
                continue
            distances.add(options, point, medians.get(point.at // period))
        return distances

    def _described(
        self,
        rule: models.Rule,
        facts: kind.Facts,
        transition: models.Transition,
        distances: Distances[peers.GroupMedian],
    ) -> models.Transition:
        """Return a transition in the unit of the metric, with the median of the group at that time."""
        options, unit = self.options(rule), facts.unit_of(rule.metric or "")
        transition, decided = over_distances.in_the_metric(transition, distances, functools.partial(_edge, options))
        if decided is None:
            count = transition.count
            reason = f"{count} values are outliers, an absent one counts (missing = {options.missing})"
        else:
            point, group_median = decided
            compared = _compared(point.value, group_median, facts.peers, unit)
            reason = f"{compared}{over_distances.late(transition)}"
        return transition.model_copy(update={"reason": reason})

    # --- wording -----------------------------------------------------------------------------------------------------

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
            known=wording.time(group.known_until()),
            group={"by": group.by, "value": group.value} if group.by else None,
            group_size=0 if cursor is None else group.size(cursor // period, period),
        )
        if horizon.requested_at is None:
            return kind.Explanation(wording.NEVER_REQUESTED, details)
        if cursor is None or rule_state.period != period:
            return kind.Explanation(wording.NEVER_EVALUATED, details)
        distances = self._distances(rule, facts, period, cursor)
        walk = dataclasses.replace(_walk(rule, facts, horizon, rule_state), points=distances.points, horizon=cursor)
        view = slots.view(rule, self._limits(rule)(period), rule_state, walk)
        assert view is not None
        last_compared = distances.newest_compared(view)
        level = view.levels[0]
        details = details.model_copy(
            update={
                "distances": tuple(
                    _details(point, group_median, group, period) for point, group_median in last_compared
                ),
                **over_distances.counted(view),
            }
        )
        unit = facts.unit_of(rule.metric or "")
        group_median = group.medians(period).get(cursor // period)
        lines = (
            ("group", _in_words(group_median, group, details.group_size, unit)),
            over_distances.points_line(last_compared, unit),
            ("evaluated", f"up to {models.rfc3339(cursor)}, when the datapoints of the whole group were there"),
        )
        if group_median is None:
            few = f"{details.group_size} workers of {_group_name(group)} have a value at {models.rfc3339(cursor)}"
            return kind.Explanation(f"{few}, {peers.MIN_WORKERS} are needed to tell an outlier", details, lines)
        counts = f"{level.breaching} of {view.counted} values more than {options.beyond:g} scaled MADs from the median"
        cleared_text = f"{level.cleared} of {view.recovering} values are near the median again"
        ends = f"{cleared_text}, {rule.severity} ends at {options.recover}"
        fires = wording.fires_at(rule.severity, options.breach, options.lasts, period)
        now = ends if level.latched else f"{counts}, {fires}"
        return kind.Explanation(now, details, lines)


def _walk(rule: models.Rule, facts: kind.Facts, horizon: Horizon, rule_state: models.RuleState) -> slots.Walk:
    """Return the slots to compare, without values: one lateness again, because datapoints of others may be new."""
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


def _group_name(group: peers.PeerGroup) -> str:
    return f"{group.by}={group.value}"


def _edge(options: Options, group_median: peers.GroupMedian, value: float | None) -> float:
    """Return the value beyond which a worker is an outlier: on its side, or on the rule's only side."""
    low = options.side == "below" or (options.side == "both" and value is not None and value < group_median.median)
    return group_median.median + (-1 if low else 1) * options.beyond * group_median.mad


def _compared(value: float, group_median: peers.GroupMedian | None, group: peers.PeerGroup, unit: str) -> str:
    """Describe a value, such as "97.5 %, 6.2 scaled MADs above the median 31 % of 8 workers in pool=a"."""
    text = wording.quantity(value, unit)
    if group_median is None:
        return f"{text}, and fewer than {peers.MIN_WORKERS} workers in {_group_name(group)} have a value"
    distance = group_median.distance(value)
    side = "above" if distance >= 0 else "below"
    median = wording.quantity(group_median.median, unit)
    workers = f"{group_median.size} workers in {_group_name(group)}"
    return f"{text}, {abs(distance):.1f} scaled MADs {side} the median {median} of {workers}"


def _details(
    point: models.Datapoint, group_median: peers.GroupMedian | None, group: peers.PeerGroup, period: int
) -> DistanceDetails:
    return DistanceDetails(
        at=models.rfc3339(point.at),
        value=point.value,
        median=None if group_median is None else group_median.median,
        mad=None if group_median is None else group_median.mad,
        distance=None if group_median is None else round(group_median.distance(point.value), 2),
        group_size=group.size(point.at // period, period) if group_median is None else group_median.size,
    )


def _in_words(group_median: peers.GroupMedian | None, group: peers.PeerGroup, size: int, unit: str) -> str:
    if group_median is None:
        return f"{size} workers of {_group_name(group)}, fewer than {peers.MIN_WORKERS}"
    median, mad = (wording.quantity(value, unit) for value in (group_median.median, group_median.mad))
    return f"median {median}, scaled MAD {mad}, of {group_median.size} workers in {_group_name(group)}"


KIND = Outlier()
