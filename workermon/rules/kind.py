"""The interface of a kind of rule. A kind is one file of this package and one row in ``KINDS``.

Config, evaluation, explanation, backtest, export and notifications go through this interface only.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypedDict, TypeVar, Unpack

from workermon import models
from workermon.models import fields
from workermon.rules import expression, section, units, wording
from workermon.rules.horizon import Horizon, of_expression, of_metric
from workermon.rules.operands import Evaluated, OperandState, state_of
from workermon.rules.peers import PeerGroup

Options = TypeVar("Options", bound=models.Frozen)


def _count(metric: str) -> str:  # noqa: ARG001 - the default unit, for every metric
    return "count"


def _average(metric: str) -> str:  # noqa: ARG001 - the default statistic, for every metric
    return "Average"


class MoreFacts(TypedDict, total=False):
    """The fields of ``Facts`` that do not follow from a worker and its condition."""

    series: Mapping[str, models.Series]
    changed_from: int | None
    lateness: int
    at: float
    monitoring_since: float | None
    unit_of: Callable[[str], str]
    statistic_of: Callable[[str], str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The input of a worker's rules; times and durations in seconds.

    ``series`` are the datapoints of the rules' metrics, by metric; none lies after the horizon's ``requested_at``.
    ``changed_from`` is the earliest datapoint written since the last evaluation. Only kinds that go ``by_clock`` may
    use ``at``, the time of the evaluation, and ``monitoring_since``, the start of the monitor itself (``None``:
    unknown). ``unit_of`` returns the unit of a metric, ``statistic_of`` its statistic. ``states`` are those of the
    other rules that the rule depends on, by name. ``peers`` are the workers that it compares this one with.
    """

    interval: int = 60
    added_at: float = 0.0
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    condition: models.Condition = dataclasses.field(default_factory=models.Condition)
    series: Mapping[str, models.Series] = dataclasses.field(default_factory=dict)
    changed_from: int | None = None
    lateness: int = models.LATENESS
    at: float = 0.0
    monitoring_since: float | None = None
    unit_of: Callable[[str], str] = _count
    statistic_of: Callable[[str], str] = _average
    states: Mapping[str, OperandState] = dataclasses.field(default_factory=dict)
    peers: PeerGroup = dataclasses.field(default_factory=PeerGroup)

    @classmethod
    def about(cls, worker: models.Worker, condition: models.Condition, **more_facts: Unpack[MoreFacts]) -> Facts:
        """Return the facts about a worker."""
        return cls(
            interval=worker.interval, added_at=worker.added_at, labels=worker.labels, condition=condition, **more_facts
        )

    @classmethod
    def recorded(cls, metric: str, series: models.Series, begin: int, unit_of: Callable[[str], str] = _count) -> Facts:
        """Return the facts of recorded datapoints, for a worker that has run since ``begin``."""
        condition = models.Condition(status="running", running_since=begin)
        return cls(series={metric: series}, condition=condition, unit_of=unit_of)

    def points(self, metric: str | None) -> tuple[models.Datapoint, ...]:
        """Return the datapoints of a metric, none if there is no series."""
        series = self.series.get(metric or "")
        return () if series is None else series.points


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """The present state of a rule: ``now`` in a sentence, ``details`` for JSON, ``lines`` as label and text."""

    now: str
    details: models.Frozen
    lines: tuple[tuple[str, str], ...] = ()


class Obstacle(NamedTuple):
    """Why a rule cannot fire, and what to do about it."""

    reason: str
    todo: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.todo}"


@dataclasses.dataclass(frozen=True, slots=True)
class DrawnThreshold:
    """A threshold as a chart draws it; ``side`` is where it breaches, ``clear`` the value at which it clears."""

    severity: models.Severity
    side: Literal["above", "below"]
    threshold: float
    clear: float


class CurvePoint(NamedTuple):
    """A rule's expected range at a time: from ``low`` to ``high``; ``None`` if that side has no limit."""

    at: int
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Curve:
    """A rule's expected values over time, for a chart; a line where ``low`` is ``high``.

    The points are in order. Times without knowledge have no point.
    """

    severity: models.Severity
    points: tuple[CurvePoint, ...]


#: The new state of a rule, and the transitions that led there, in order of time.
Judgement = tuple[models.RuleState, tuple[models.Transition, ...]]


Value = TypeVar("Value")

#: Larger than the number of rules in any configuration.
_MAX_CACHED = 2000


class ByRule(Generic[Value]):
    """Caches a value computed from a rule, by the rule's identity: a rule is evaluated thousands of times."""

    def __init__(self, compute: Callable[[models.Rule], Value]) -> None:
        self._compute = compute
        self._cached: dict[int, tuple[models.Rule, Value]] = {}

    def __call__(self, rule: models.Rule) -> Value:
        """Return the value of a rule."""
        cached = self._cached.get(id(rule))
        if cached is None or cached[0] is not rule:
            if len(self._cached) >= _MAX_CACHED:
                self._cached.clear()
            cached = self._cached[id(rule)] = rule, self._compute(rule)
        return cached[1]


class Kind(abc.ABC, Generic[Options]):
    """A kind of rule. A new kind overrides what differs from these defaults, which suit a rule over one metric."""

    #: The name of the kind in ``Rule.kind`` and in JSON.
    name: ClassVar[str]
    #: The name in place of a metric in the file and in ``why``; ``None`` if the rule has a real metric.
    pseudo_metric: ClassVar[str | None] = None
    #: Whether a rule of the kind needs ``metric`` or must not have it; ``None``: the kind decides for each rule.
    needs_metric: ClassVar[bool | None] = True
    #: The [[rules]] section with the keys of the kind.
    section_type: ClassVar[type[section.RuleSection]]
    #: The type of ``Rule.options`` for this kind.
    options_type: type[Options]
    #: The rule is evaluated against the present time, not against the time of its last datapoint.
    by_clock: ClassVar[bool] = False
    #: The rule fires if collection fails. It waits while the collection of the whole account and region fails. Alerts
    #: about that collection go to its channels.
    about_collection: ClassVar[bool] = False
    #: Statuses of the instance in which a firing alert resolves and nothing is evaluated.
    ends_with: ClassVar[frozenset[models.Status]] = models.STOPPED | models.GONE
    #: The reason in a notification about a state that no transition of this evaluation led to.
    late_reason: ClassVar[str] = "the rule was changed"

    def __init__(self) -> None:
        self._options: ByRule[Options] = ByRule(lambda rule: self.options_type.model_validate(rule.options))

    # --- the config file ---------------------------------------------------------------------------------------------

    def claims(self, raw_rule: Mapping[str, object]) -> bool:
        """Return whether the keys of a [[rules]] belong to this kind."""
        return self.pseudo_metric is not None and raw_rule.get("metric") == self.pseudo_metric

    @abc.abstractmethod
    def parse(self, raw_rule: Any) -> tuple[Options, models.Severity]:
        """Return the options of a [[rules]]; ``raw_rule`` is a ``section_type``.

        Raises ``section.Mistake`` for keys that contradict each other.
        """

    @property
    def chosen_by(self) -> str:
        """Return the keys by which the file chooses this kind, for an error."""
        return f"metric = {self.pseudo_metric!r}" if self.pseudo_metric is not None else f"a {self.name} rule"

    @property
    def keys(self) -> frozenset[str]:
        """Return its keys, beside those of every rule."""
        return frozenset(fields.keys(self.section_type)) - frozenset(fields.keys(section.RuleSection))

    def advice_on_key(self, key: str) -> str:
        """Return what to do about a key of another kind."""
        if key == "cases":
            return "remove them; there are no values to try it on"
        return f"remove it; it takes {', '.join(sorted(self.keys))}"

    def warnings(self, rule: models.Rule) -> tuple[str, ...]:
        """Return what is valid in a rule but probably not intended, for ``rules check``."""
        return ()

    @abc.abstractmethod
    def export(self, rule: models.Rule) -> dict[str, object]:
        """Return the keys of the kind as in the file."""

    # --- how often its metrics are asked for -------------------------------------------------------------------------

    def cadence(self, rule: models.Rule, values: Sequence[float]) -> models.CadenceReason:
        """Return why a metric of the rule is to be requested each period; ``far`` if it may wait for some periods.

        ``values`` are the newest ones of the metric, in order.
        """
        return "watched"

    # --- how often it is evaluated -----------------------------------------------------------------------------------

    def steady_range(self, rule: models.Rule) -> tuple[float, float] | None:
        """Return the range of its metrics' values that leaves a steady rule unchanged.

        ``None``: each sample has to be evaluated on arrival.
        """
        return None

    def is_steady(self, rule: models.Rule, rule_state: models.RuleState) -> bool:
        """Return whether only a value outside ``steady_range``, or a change from EC2, can lead to a transition."""
        return False

    # --- what it needs -----------------------------------------------------------------------------------------------

    def metrics(self, rule: models.Rule) -> tuple[str, ...]:
        """Return the metrics whose datapoints it needs."""
        return expression.operands(rule.metric)

    def operands(self, rule: models.Rule) -> tuple[str, ...]:
        """Return the names of the other rules whose states it needs."""
        return ()

    def operand_place(self, rule: models.Rule, name: str) -> tuple[str, int | None]:
        """Return the file's key that names another rule, and the position in its text."""
        return "", None

    def unit(self, rule: models.Rule, configuration: models.Configuration) -> str:
        """Return the unit of the values that it compares."""
        return units.of_rule(rule, configuration.unit_of)

    def horizon(
        self, rule: models.Rule, worker: models.Worker, condition: models.Condition, configuration: models.Configuration
    ) -> Horizon | None:
        """Return how far the rule can be evaluated over datapoints; ``None`` if it needs none."""
        if rule.metric is None:
            return None
        of = expression.of(rule.metric)
        if of is None:
            return of_metric(rule.metric, worker, condition, configuration)
        operands = {name: of_metric(name, worker, condition, configuration) for name in of.operands}
        return of_expression(operands, of.longest_window)

    def group_by(self, rule: models.Rule) -> str | None:
        """Return the label whose values form a rule's groups; ``None`` if it is about single workers."""
        return None

    def compares_by(self, rule: models.Rule) -> str | None:
        """Return the label that a worker shares with those that it is compared with; ``None`` without a comparison."""
        return None

    def least_members(self, rule: models.Rule) -> int:
        """Return how many workers a group needs for the rule to fire."""
        return 1

    def needs_members(self, rule: models.Rule) -> bool:
        """Return whether a rule over groups needs the datapoints of all members."""
        return False

    def needed_from(
        self, rule: models.Rule, rule_state: models.RuleState, horizon: Horizon, facts: Facts
    ) -> int | None:
        """Return the time from which ``judge`` needs datapoints; ``None`` if not begun. ``facts`` has none yet."""
        return None

    def step(self, rule: models.Rule, period: int) -> int:
        """Return the seconds of data time from one evaluation of a metric with a period to the next."""
        return period

    def looks_back(self, rule: models.Rule) -> tuple[tuple[str, int], ...]:
        """Return how far back datapoints are needed, and the keys that say so: the ledger has to keep them."""
        return ()

    def for_worker(self, rule: models.Rule, labels: Mapping[str, str]) -> models.Rule:
        """Return the rule for a worker with these labels: the same object unless something comes from a label."""
        return rule

    def doubts(self, rule: models.Rule, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return what is questionable about a rule for a worker with these labels."""
        return ()

    def not_applied(self, rule: models.Rule, worker: models.Worker, configuration: models.Configuration) -> str | None:
        """Return why a rule does not apply to a worker; ``None`` if it does."""
        if not rule.applies_to(worker):
            required_labels = ", ".join(f"{key}={value}" for key, value in rule.labels.items())
            return f"the rule applies only to workers with {required_labels}"
        for metric in self.metrics(rule):
            if metric in models.CHECK_METRICS:
                continue
            if metric not in configuration.collect or metric not in configuration.metrics:
                return f"{metric} is not collected"
        return None

    def waits(self, rule: models.Rule, condition: models.Condition) -> bool:
        """Return whether there is nothing to evaluate yet. The rule begins when there is."""
        return False

    def cannot_fire(
        self, rule: models.Rule, worker: models.Worker, condition: models.Condition, configuration: models.Configuration
    ) -> Obstacle | None:
        """Return why a rule that applies to a worker cannot fire, whatever its values; ``None`` if it can."""
        return None

    # --- evaluation --------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def judge(
        self, rule: models.Rule, rule_state: models.RuleState, facts: Facts, horizon: Horizon | None
    ) -> Judgement:
        """Fold the facts after the state's cursor; return the new state and the transitions, in order of time.

        It is pure: no I/O, no clock. If nothing is new, the same state object is returned.
        """

    def clamped(self, rule_state: models.RuleState, now: float) -> models.RuleState:
        """Return the state to continue with now; the same object unless a clock that was ahead wrote it."""
        return rule_state.clamped(now)

    def paused(self, rule_state: models.RuleState, condition: models.Condition) -> models.RuleState:
        """Return the state to keep while monitoring is paused; ``rule_state`` is the new beginning at the pause."""
        return rule_state

    def evaluated_until(self, rule_state: models.RuleState, at: float) -> int | None:
        """Return the time up to which a rule can be evaluated at a given time."""
        return int(at) if self.by_clock else rule_state.cursor

    def known_until(self, rule_state: models.RuleState, facts: Facts) -> int | None:
        """Return the time up to which a rule's states are known, that second included; ``None`` if nothing is known.

        A rule by the clock changes only in seconds that are over. In the slot at the cursor nothing changes any more.
        """
        if self.by_clock:
            return math.ceil(facts.at) - 1
        return None if rule_state.cursor is None else rule_state.cursor + max((rule_state.period or 1) - 1, 0)

    def operand_state(self, evaluated: Evaluated, facts: Facts) -> OperandState:
        """Return how other rules see a rule that applies. One that ended with the instance does not fire again."""
        if facts.condition.status in self.ends_with:
            collected_at = facts.condition.collected_at
            return state_of(evaluated, math.floor(facts.at if collected_at is None else collected_at))
        return state_of(evaluated, self.known_until(evaluated.after, facts))

    def must_resolve(
        self, rule: models.Rule, worker: models.Worker, condition: models.Condition, alert: models.Alert
    ) -> bool:
        """Return whether the termination has yet to be notified. Then the worker must not be deleted."""
        return False

    # --- wording -----------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def summary(self, rule: models.Rule, transition: models.Transition, unit: str, interval: int) -> str:
        """Return a notification's text about a transition, after the worker's name.

        ``unit`` is the metric's, ``interval`` the worker's in seconds.
        """

    def subject(self, rule: models.Rule) -> str:
        """Return the name for what a rule compares: the metric, or the rule's name if that is an expression."""
        return rule.metric if rule.metric is not None and expression.of(rule.metric) is None else rule.name

    def reason(self, transition: models.Transition, last_error: models.CollectionError | None) -> str | None:
        """Return the reason in a notification; ``last_error`` is why collections of the worker fail."""
        return transition.cause

    def later(self, summary: str) -> str:
        """Return a summary for a reader who sees it later than it was written."""
        return summary

    @abc.abstractmethod
    def conditions(self, rule: models.Rule) -> dict[str, object]:
        """Return a rule's condition for the JSON of ``why``."""

    @abc.abstractmethod
    def described(self, rule: models.Rule, unit: str) -> tuple[str, ...]:
        """Return a rule's condition in words for ``why``; ``unit`` is that of the values that it compares."""

    def in_words(self, rule: models.Rule, unit: str) -> tuple[str, ...]:
        """Return a rule's condition as ``described`` does, and the options that every kind of rule has."""
        warmup = () if rule.warmup is None else (f"warm-up {wording.duration(rule.warmup)}",)
        escalation = (
            f"escalates after {wording.duration(step.after)} to {', '.join(step.notify)}" for step in rule.escalate
        )
        return (*self.described(rule, unit), *warmup, *escalation)

    def explained_span(self, rule: models.Rule, rule_state: models.RuleState) -> tuple[int, int] | None:
        """Return the span in which ``explain`` needs datapoints; ``None`` if it needs none."""
        return None

    @abc.abstractmethod
    def explain(
        self, rule: models.Rule, rule_state: models.RuleState, facts: Facts, horizon: Horizon | None
    ) -> Explanation:
        """Explain the present state of a rule."""

    def drawn(self, rule: models.Rule) -> tuple[DrawnThreshold, ...]:
        """Return the thresholds for a chart of the metric; none if there are none to draw."""
        return ()

    def curve_over(self, rule: models.Rule, rule_state: models.RuleState) -> tuple[int, int] | None:
        """Return the span of the datapoints that ``curve`` needs; ``None`` if it needs none."""
        return None

    def curve(
        self, rule: models.Rule, rule_state: models.RuleState, facts: Facts, times: Sequence[int]
    ) -> Curve | None:
        """Return what a worker's chart shows beside thresholds, at times in order, as known by now."""
        return None

    # --- backtest ----------------------------------------------------------------------------------------------------

    def peak(self, rule: models.Rule, values: list[float]) -> float | None:
        """Return the value furthest beyond the threshold while it fired; ``None`` if there are none."""
        return max(values, default=None)

    # --- rules of the kind -------------------------------------------------------------------------------------------

    def rule(self, name: str, **keys: Any) -> models.Rule:
        """Return a rule of this kind; ``keys`` are fields of ``models.Rule`` and of the options."""
        common = {key: keys.pop(key) for key in tuple(keys) if key in models.Rule.model_fields}
        options = self.options_type(**keys).model_dump(mode="json", exclude_defaults=True)
        return models.Rule(name=name, kind=self.name, options=options, **common)

    def options(self, rule: models.Rule) -> Options:
        """Return the options of a rule of this kind."""
        return self._options(rule)
