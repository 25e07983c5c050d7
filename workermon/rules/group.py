"""The kind ``group``: enough of the workers that share a label value meet a condition at the same time.

The kind that would evaluate the condition for a single worker folds it for each member. ``group_fold`` then walks the
changes of all members. The alert is about the group; its members have no alerts of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from workermon import errors, models
from workermon.models import fields
from workermon.rules import expression, group_fold, group_series, kind, parsing, section, threshold, when, wording
from workermon.rules.horizon import BACKFILL, Horizon
from workermon.rules.when_expression import MAX_LENGTH

#: The conditions that a rule may have beside ``by``; exactly one of them.
REQUIREMENT_KEYS = ("count", "share", "aggregate")


class OverSection(fields.Section):
    """``over``: the label whose values form the groups, and how many members must meet the condition."""

    by: parsing.LabelName
    count: parsing.Members | None = None
    share: fields.Number | None = None
    aggregate: str | None = None


class GroupSection(threshold.ThresholdSection):
    """The keys of a rule over groups: ``over``, and the keys of the members' condition."""

    over: OverSection
    when: Annotated[str, Field(max_length=MAX_LENGTH)] | None = None
    severity: models.Severity | None = None


class Options(models.Frozen):
    """Groups are formed by the values of the label ``by``; ``count`` or ``share`` of a group must meet the condition.

    Or the ``aggregate`` of all members' values must. The condition has the kind ``of``, which folds it for one worker.
    """

    by: str
    of: Literal["threshold", "when"] = "threshold"
    count: models.Members | None = None
    share: float | None = None
    aggregate: str | None = None
    condition: dict[str, Any] = {}

    @property
    def needed(self) -> group_fold.Needed:
        """Return how many members must meet the condition."""
        return group_fold.Needed(None if self.count is None else self.count.m, self.share)


class MemberDetails(models.Frozen):
    """A member of a group: its level, and the time up to which it is known (RFC 3339)."""

    id: str
    name: str
    state: str
    known: str | None


class Details(models.Frozen):
    """The members of a group at its cursor: how many run, and how many of these meet the rule's lowest level."""

    holding: int
    size: int
    needed: int
    members: tuple[MemberDetails, ...]


class Group(kind.Kind[Options]):
    """Enough of the workers that share a label value meet a condition at the same time."""

    name = "group"
    needs_metric = None
    section_type = GroupSection
    options_type = Options

    def __init__(self) -> None:
        super().__init__()
        self._members: kind.ByRule[models.Rule] = kind.ByRule(self._of_member)
        #: The rule for the workers whose labels change a member's rule, by that rule's identity.
        self._of_labels: kind.ByRule[dict[int, tuple[models.Rule, models.Rule]]] = kind.ByRule(lambda _: {})

    # --- the config file ---------------------------------------------------------------------------------------------

    @property
    def chosen_by(self) -> str:
        """Return how the file asks for this kind."""
        return "a rule with over"

    def claims(self, raw_rule: Any) -> bool:
        """Return whether a section of [[rules]] is about groups."""
        return "over" in raw_rule

    def parse(self, raw_rule: GroupSection) -> tuple[Options, models.Severity]:
        """Return the conditions for the group and for each member."""
        over = raw_rule.over
        requirements = [key for key in REQUIREMENT_KEYS if getattr(over, key) is not None]
        if len(requirements) != 1:
            reason = (
                f"has {' and '.join(requirements)}" if requirements else "does not say how many workers of the group"
            )
            raise section.Mistake("over", reason, f"give one of {', '.join(REQUIREMENT_KEYS)}")
        if over.share is not None and not 0 < over.share <= 1:
            raise section.Mistake("over.share", f"{over.share:g} is not above 0 and at most 1", "write 0.3 for 30 %")
        if over.aggregate is not None:
            _check_aggregate(over.aggregate, raw_rule)
        kind_of_member: Literal["threshold", "when"] = "threshold" if raw_rule.when is None else "when"
        condition, severity = _condition(raw_rule)
        options = condition.model_dump(mode="json", exclude_defaults=True)
        return Options(
            by=over.by,
            of=kind_of_member,
            count=over.count,
            share=over.share,
            aggregate=over.aggregate,
            condition=options,
        ), severity

    @property
    def keys(self) -> frozenset[str]:
        """Return the keys that it takes."""
        return super().keys | threshold.KIND.keys

    def export(self, rule: models.Rule) -> dict[str, object]:
        """Return the keys of a rule."""
        options = self.options(rule)
        over: dict[str, object] = {"by": options.by}
        if options.count is not None:
            over["count"] = str(options.count)
        if options.share is not None:
            over["share"] = options.share
        if options.aggregate is not None:
            over["aggregate"] = options.aggregate
        return {"over": over, **self._kind(rule).export(self.member_rule(rule))}

    # --- each member -------------------------------------------------------------------------------------------------

    def member_rule(self, rule: models.Rule) -> models.Rule:
        """Return the rule that is folded for each member."""
        return self._members(rule)

    def _of_member(self, rule: models.Rule) -> models.Rule:
        options = self.options(rule)
        flapping = None if options.aggregate is None else rule.flapping
        return rule.model_copy(update={"kind": options.of, "options": options.condition, "flapping": flapping})

    def _kind(self, rule: models.Rule) -> kind.Kind[Any]:
        """Return the kind that folds the condition of a member."""
        return _KINDS[self.options(rule).of]

    def for_worker(self, rule: models.Rule, labels: Mapping[str, str]) -> models.Rule:
        """Return the rule with the thresholds that a member has from its labels."""
        common = self.member_rule(rule)
        member = self._kind(rule).for_worker(common, labels)
        if member is common:
            return rule
        cached = self._of_labels(rule)
        if cached.get(id(member), (None,))[0] is not member:
            if len(cached) >= threshold.MAX_CACHED:
                cached.clear()
            options = {**rule.options, "condition": member.options}
            cached[id(member)] = member, rule.model_copy(update={"options": options})
        return cached[id(member)][1]

    def doubts(self, rule: models.Rule, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return what is questionable about the thresholds that a member has from its labels."""
        return self._kind(rule).doubts(self.member_rule(rule), labels)

    def looks_back(self, rule: models.Rule) -> tuple[tuple[str, int], ...]:
        """Return how long a member must meet the condition."""
        return self._kind(rule).looks_back(self.member_rule(rule))

    def group_by(self, rule: models.Rule) -> str | None:
        """Return the label whose values make the groups."""
        return self.options(rule).by

    def least_members(self, rule: models.Rule) -> int:
        """Return how many members must meet the condition; 1 if the rule asks for a share."""
        return self.options(rule).needed.number or 1

    def metrics(self, rule: models.Rule) -> tuple[str, ...]:
        """Return the metrics that the condition of a member needs."""
        return self._kind(rule).metrics(self.member_rule(rule))

    def unit(self, rule: models.Rule, configuration: models.Configuration) -> str:
        """Return the unit of the values that a member's condition compares."""
        return self._kind(rule).unit(self.member_rule(rule), configuration)

    def horizon(
        self, rule: models.Rule, worker: models.Worker, condition: models.Condition, configuration: models.Configuration
    ) -> Horizon | None:
        """Return how far a member can be evaluated."""
        return self._kind(rule).horizon(self.member_rule(rule), worker, condition, configuration)

    def needed_from(
        self, rule: models.Rule, rule_state: models.RuleState, horizon: Horizon, facts: kind.Facts
    ) -> int | None:
        """Return the time from which a member's fold needs datapoints."""
        if self.needs_members(rule):
            return None
        return self._kind(rule).needed_from(self.member_rule(rule), rule_state, horizon, facts)

    def operands(self, rule: models.Rule) -> tuple[str, ...]:
        """Return the names of the other rules in the members' condition."""
        return self._kind(rule).operands(self.member_rule(rule))

    def operand_place(self, rule: models.Rule, name: str) -> tuple[str, int | None]:
        """Return the key that names a rule, and where in its text."""
        return self._kind(rule).operand_place(self.member_rule(rule), name)

    def waits(self, rule: models.Rule, condition: models.Condition) -> bool:
        """Return whether a member has nothing to evaluate yet."""
        return self._kind(rule).waits(self.member_rule(rule), condition)

    def not_applied(self, rule: models.Rule, worker: models.Worker, configuration: models.Configuration) -> str | None:
        """Return why a worker belongs to no group of the rule; ``None`` if it belongs to one."""
        by = self.options(rule).by
        if by not in worker.labels:
            return f"it has no label {by}, by whose values the rule makes groups"
        return self._kind(rule).not_applied(self.member_rule(rule), worker, configuration)

    def cannot_fire(
        self, rule: models.Rule, worker: models.Worker, condition: models.Condition, configuration: models.Configuration
    ) -> kind.Obstacle | None:
        """Return why a member can never meet the condition."""
        return self._kind(rule).cannot_fire(self.member_rule(rule), worker, condition, configuration)

    def clamped(self, rule_state: models.RuleState, now: float) -> models.RuleState:
        """Return the state from which a member's evaluation continues."""
        return threshold.KIND.clamped(rule_state, now)

    def judge(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Judgement:
        """Fold the condition of one member. For an aggregate, note how far its datapoints are known."""
        if self.needs_members(rule):
            return _with_newest(rule, rule_state, facts, horizon), ()
        return self._kind(rule).judge(self.member_rule(rule), rule_state, facts, horizon)

    # --- the group ---------------------------------------------------------------------------------------------------

    def needs_members(self, rule: models.Rule) -> bool:
        """Return whether the values of all members are aggregated."""
        return self.options(rule).aggregate is not None

    def needs_everybody(self, rule: models.Rule) -> bool:
        """Return whether some members have not reported yet: a part of a group may not show the whole."""
        return self.options(rule).count is None

    def group_needs(self, rule: models.Rule, rule_state: models.RuleState, group: group_fold.Group) -> int | None:
        """Return the time from which the group needs its members' datapoints; ``None`` if it needs none."""
        slots = _slots(rule_state, group) if self.needs_members(rule) else None
        if slots is None:
            return None
        horizon, facts = self._of_series(rule, group, slots)
        needed = threshold.KIND.needed_from(self.member_rule(rule), rule_state, horizon, facts)
        return max(slots.begin, slots.last - BACKFILL) if needed is None else needed

    def group_unit(self, rule: models.Rule, configuration: models.Configuration) -> str:
        """Return the unit of a group's value: the aggregate's, or a number of workers."""
        return self.unit(rule, configuration) if self.needs_members(rule) else "count"

    def judge_group(self, rule: models.Rule, rule_state: models.RuleState, group: group_fold.Group) -> kind.Judgement:
        """Walk the members' changes after the cursor, or the slots of their aggregate."""
        options = self.options(rule)
        if options.aggregate is None:
            return group_fold.judge(rule, options.needed, rule_state, group)
        slots = _slots(rule_state, group)
        if slots is None:
            return rule_state, ()
        if rule_state.cursor is None and rule_state.start is None:
            rule_state = models.RuleState(start=max(slots.begin, slots.last - BACKFILL))
        horizon, facts = self._of_series(rule, group, slots)
        state, transitions = threshold.KIND.judge(self.member_rule(rule), rule_state, facts, horizon)
        return state, tuple(_with_members(transition, group, options.aggregate) for transition in transitions)

    def _of_series(
        self, rule: models.Rule, group: group_fold.Group, slots: group_series.Grid
    ) -> tuple[Horizon, kind.Facts]:
        """Return the aggregate of a group as if it were a metric of one worker."""
        aggregate = self.options(rule).aggregate
        assert aggregate is not None
        aggregated = models.Series(slots.period, group_series.points(group, aggregate, slots))
        facts = kind.Facts(
            series={rule.metric or "": aggregated},
            condition=models.Condition(status="running", running_since=slots.begin),
            changed_from=group.changed_from,
            lateness=group.lateness,
            unit_of=group.unit_of,
        )
        return Horizon.until(slots.last, slots.period), facts

    def explain_group(
        self, rule: models.Rule, rule_state: models.RuleState, group: group_fold.Group
    ) -> kind.Explanation:
        """Explain the state of a group at its cursor."""
        at, aggregate = rule_state.cursor, self.options(rule).aggregate
        slots = group_series.grid(group)
        if at is not None and aggregate is not None and slots is not None:
            slots = slots.reaching(at)
            horizon, facts = self._of_series(rule, group, slots)
            explanation = threshold.KIND.explain(self.member_rule(rule), rule_state, facts, horizon)
            running = sum(group_series.counts(member, at) for member in group.members.values())
            return kind.Explanation(
                f"{aggregate} of {running} workers: {explanation.now}", explanation.details, explanation.lines
            )
        if at is None:
            empty = Details(holding=0, size=0, needed=0, members=())
            return kind.Explanation("the group was not evaluated yet", empty)
        members = group_fold.counted(group.members, rule_state)
        levels, ranks = group_fold.member_levels(members, at), self._ranks(rule)
        holding, size = levels.holding(min(ranks)), len(levels.levels)
        needed = self.options(rule).needed
        described_members = tuple(
            MemberDetails(
                id=worker_id,
                name=members[worker_id].name,
                state=("ok", *models.SEVERITIES)[level],
                known=wording.time(members[worker_id].known_until),
            )
            for worker_id, level in sorted(levels.levels.items(), key=lambda item: (-item[1], item[0]))
        )
        parts = [
            f"{len(levels.holding(rank))} of {size} workers are at {severity},"
            f" {wording.fires_at(severity, needed.of(size))}"
            for rank, severity in ranks.items()
        ]
        details = Details(holding=len(holding), size=size, needed=needed.of(size), members=described_members)
        lines = (
            ("members", group_fold.names(members, holding) or "none holds it"),
            ("evaluated", f"up to {models.rfc3339(at)}, when every member that counts was known"),
        )
        return kind.Explanation("; ".join(parts) if size else "no worker of the group runs", details, lines)

    def _ranks(self, rule: models.Rule) -> dict[int, models.Severity]:
        """Return the severities that the condition can have, by the level of a member that holds it."""
        if self.options(rule).of == "when":
            return {models.MEMBER_LEVELS[rule.severity]: rule.severity}
        options = threshold.KIND.options(self.member_rule(rule))
        return {
            models.MEMBER_LEVELS[severity]: severity for severity in models.SEVERITIES if severity in options.severities
        }

    # --- wording -----------------------------------------------------------------------------------------------------

    def summary(self, rule: models.Rule, transition: models.Transition, unit: str, interval: int) -> str:
        """Return which members meet the condition and how many they are, or the aggregate of their values."""
        options = self.options(rule)
        if options.aggregate is not None:
            text = threshold.KIND.summary(self.member_rule(rule), transition, unit, interval)
            return f"{options.aggregate} of {len(transition.members or ())} workers: {text}"
        return f"{rule.name} {transition.after or 'resolved'}: {transition.reason}"

    def reason(self, transition: models.Transition, last_error: models.CollectionError | None) -> str | None:
        """Return why an alert ended or was withdrawn, if no member decided it."""
        return transition.reason or None if transition.withdrawn or transition.count is None else transition.cause

    def conditions(self, rule: models.Rule) -> dict[str, object]:
        """Return the conditions for the group and for each member."""
        return {"over": self.export(rule)["over"], **self._kind(rule).conditions(self.member_rule(rule))}

    def described(self, rule: models.Rule, unit: str) -> tuple[str, ...]:
        """Return the conditions in words."""
        options = self.options(rule)
        requirements = ((key, getattr(options, key)) for key in REQUIREMENT_KEYS)
        requirement = " ".join(f"{key} {value}" for key, value in requirements if value is not None)
        return (f"over {options.by}, {requirement}", *self._kind(rule).described(self.member_rule(rule), unit))

    def explained_span(self, rule: models.Rule, rule_state: models.RuleState) -> tuple[int, int] | None:
        """Return the time span of the slots that decide about a member at its cursor."""
        return self._kind(rule).explained_span(self.member_rule(rule), rule_state)

    def explain(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Explanation:
        """Explain the state of one member."""
        explanation = self._kind(rule).explain(self.member_rule(rule), rule_state, facts, horizon)
        value = facts.labels.get(self.options(rule).by, "")
        return kind.Explanation(
            f"{explanation.now}; the alert is that of group {self.options(rule).by}={value}",
            explanation.details,
            explanation.lines,
        )

    def peak(self, rule: models.Rule, values: list[float]) -> float | None:
        """Return the highest number of members that met the condition at once."""
        return max((value for value in values if math.isfinite(value)), default=None)


def _condition(raw_rule: GroupSection) -> tuple[models.Frozen, models.Severity]:
    """Return the condition of each member: a threshold, or an expression over other rules."""
    if raw_rule.when is None:
        if raw_rule.metric is None:
            raise section.Mistake("", "has no condition for a worker", "add a metric and above, or when")
        if raw_rule.severity is not None:
            raise section.Mistake(
                "severity", "is only for a rule with when, because thresholds have their own", "remove it"
            )
        return threshold.KIND.parse(raw_rule)
    for key in ("metric", "unit", "warmup", *sorted(threshold.KIND.keys - when.KIND.keys)):
        if key in raw_rule.model_fields_set:
            raise section.Mistake(key, "is not for a rule with when", "remove it")
    severity = raw_rule.severity or "critical"
    return when.KIND.parse(when.WhenSection(name=raw_rule.name, when=raw_rule.when, severity=severity))


def _check_aggregate(aggregate: str, raw_rule: GroupSection) -> None:
    """Reject an unknown aggregate, and an aggregate over a condition without values."""
    if aggregate not in group_series.AGGREGATES:
        reason = f"{errors.printable(aggregate)[:64]!r} is not a known aggregate"
        raise section.Mistake("over.aggregate", reason, errors.nearest(aggregate, group_series.AGGREGATES))
    if raw_rule.when is not None:
        raise section.Mistake("when", "has no values to aggregate", "give a metric, or use count or share")
    if expression.of(raw_rule.metric) is not None:
        raise section.Mistake("metric", "is an expression, and expressions have no aggregate", "write one metric")
    if raw_rule.warmup is not None:
        raise section.Mistake("warmup", "is only for rules with a count or a share", "remove it")


def _slots(rule_state: models.RuleState, group: group_fold.Group) -> group_series.Grid | None:
    """Return the slots to evaluate; ``None`` if there is nothing new.

    Evaluated slots stay evaluated, even if a new or returned member is not known up to there.
    """
    slots, cursor = group_series.grid(group), rule_state.cursor
    if slots is None or cursor is None:
        return slots
    if slots.last <= cursor and group.changed_from is None:
        return None
    return slots.reaching(cursor)


def _with_newest(
    rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
) -> models.RuleState:
    """Return up to when a member's datapoints are known; the same object if that has not changed."""
    if horizon is None or horizon.newest is None:
        return rule_state
    points = facts.points(rule.metric)
    newest = max(horizon.newest, points[-1].at if points else 0) // horizon.period * horizon.period
    if (rule_state.period, rule_state.metric) == (horizon.period, rule.metric) and newest <= (rule_state.cursor or 0):
        return rule_state
    return models.RuleState(cursor=newest, metric=rule.metric, period=horizon.period, start=rule_state.start)


def _with_members(transition: models.Transition, group: group_fold.Group, aggregate: str) -> models.Transition:
    """Return a transition of an aggregate, with the members behind it."""
    members = tuple(
        sorted(
            worker_id
            for worker_id, group_member in group.members.items()
            if group_series.counts(group_member, transition.at)
        )
    )
    reason = f"{aggregate} of {len(members)} workers: {transition.reason}"
    return transition.model_copy(update={"members": members, "reason": reason})


_KINDS: dict[str, kind.Kind[Any]] = {member_kind.name: member_kind for member_kind in (threshold.KIND, when.KIND)}

KIND = Group()
