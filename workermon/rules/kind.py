"""What every kind of rule says of itself. A kind is one file of this package and one row in ``KINDS``.

Config, evaluation, explanation, backtest, export and notifications go through this interface only.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from workermon import models
from workermon.models import fields
from workermon.rules import expression, section, units, wording
from workermon.rules.horizon import Horizon, of_expression, of_metric
from workermon.rules.operands import Evaluated, OperandState, state_of
from workermon.rules.peers import PeerGroup

Options = TypeVar("Options", bound=models.Frozen)


def _count(metric: str) -> str:  # noqa: ARG001 - the unit of every metric of which none is known
    return "count"


def _average(metric: str) -> str:  # noqa: ARG001 - the statistic of every metric of which none is known
    return "Average"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a worker when its rules are evaluated; times and durations in seconds.

    ``series`` are the datapoints of the metrics that the rules asked for, by metric; none lies after the horizon's
    ``asked``. ``changed_from`` is the earliest datapoint written since the last evaluation. Only kinds that go
    ``by_clock`` may look at ``at``, the time of the evaluation, and ``monitoring_since``, since when the monitor itself
    runs (``None``: unknown). ``unit_of`` returns the unit of a metric, ``statistic_of`` its statistic. ``states`` are
    those of the other rules that the rule looks at, by name. ``peers`` are the workers that it compares this one with.
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
    def about(cls, worker: models.Worker, condition: models.Condition, **others: Any) -> Facts:
        """Return what is known of a worker, and ``others`` by their names."""
        return cls(
            interval=worker.interval, added_at=worker.added_at, labels=worker.labels, condition=condition, **others
        )

    @classmethod
    def recorded(cls, metric: str, series: models.Series, begin: int, unit_of: Callable[[str], str] = _count) -> Facts:
        """Return recorded datapoints of a metric, of a worker that runs since ``begin``."""
        condition = models.Condition(status="running", running_since=begin)
        return cls(series={metric: series}, condition=condition, unit_of=unit_of)

    def points(self, metric: str | None) -> tuple[models.Datapoint, ...]:
        """Return the datapoints of a metric, none if there is no series."""
        series = self.series.get(metric or "")
        return () if series is None else series.points


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """The present state of a rule: ``now`` in a sentence, ``details`` as JSON has them, ``lines`` as label and text."""

    now: str
    details: models.Frozen
    lines: tuple[tuple[str, str], ...] = ()


class Obstacle(NamedTuple):
    """Why a rule cannot fire, and what to do about it."""

    why: str
    todo: str

    def __str__(self) -> str:
        return f"{self.why}; {self.todo}"


@dataclasses.dataclass(frozen=True, slots=True)
class Drawn:
    """A threshold as a chart draws it; ``side`` is where it breaches, ``clear`` the value at which it clears."""

    severity: models.Severity
    side: Literal["above", "below"]
    threshold: float
    clear: float


class CurvePoint(NamedTuple):
    """What a rule expects at a time: from ``low`` to ``high``; ``None`` on a side where nothing is unexpected."""

    at: int
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Curve:
    """What a chart draws of a rule that expects something else at each time; a line where ``low`` is ``high``.

    The points are in order. Where nothing is known, there is none.
    """

    severity: models.Severity
    points: tuple[CurvePoint, ...]


Judgement = tuple[models.RuleState, tuple[models.Transition, ...]]


Value = TypeVar("Value")

#: More rules than any configuration has.
_MAX_REMEMBERED = 2000


class ByRule(Generic[Value]):
    """Remembers what is computed from a rule, by the rule's identity: a rule is evaluated thousands of times."""

    def __init__(self, compute: Callable[[models.Rule], Value]) -> None:
        self._compute = compute
        self._known: dict[int, tuple[models.Rule, Value]] = {}

    def __call__(self, rule: models.Rule) -> Value:
        """Return the value of a rule."""
        cached = self._known.get(id(rule))
        if cached is None or cached[0] is not rule:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            cached = self._known[id(rule)] = rule, self._compute(rule)
        return cached[1]


class Kind(abc.ABC, Generic[Options]):
    """A kind of rule. A new kind overrides what differs from these defaults, which suit a rule over one metric."""

    #: The name of the kind in ``Rule.kind`` and in JSON.
    name: ClassVar[str]
    #: The name that stands in the place of a metric in the file and in ``why``; ``None``: a real metric does.
    pseudo_metric: ClassVar[str | None] = None
    #: A rule of the kind is not complete without ``metric``, or takes none; ``None``: the kind decides for each rule.
    needs_metric: ClassVar[bool | None] = True
    #: The [[rules]] section with the keys of the kind.
    section_type: ClassVar[type[section.RuleSection]]
    #: What a rule of the kind consists of, in ``Rule.options``.
    options_type: type[Options]
    #: The rule is evaluated against the present time, not against the time of its last datapoint.
    by_clock: ClassVar[bool] = False
    #: The rule fires if collection fails. It waits while the collection of the whole account and region fails, and
    #: alerts about that collection go to its channels.
    about_collection: ClassVar[bool] = False
    #: Statuses of the instance in which a firing alert resolves and nothing is evaluated.
    ends_with: ClassVar[frozenset[models.Status]] = models.STOPPED | models.GONE
    #: The reason of a notification about a state that no transition of this evaluation led to.
    late_reason: ClassVar[str] = "the rule was changed"

    def __init__(self) -> None:
        self._options: ByRule[Options] = ByRule(lambda rule: self.options_type.model_validate(rule.options))

    # --- the config file ---------------------------------------------------------------------------------------------

    def claims(self, raw_rule: Mapping[str, object]) -> bool:
        """Return whether the keys of a [[rules]] ask for this kind."""
        return self.pseudo_metric is not None and raw_rule.get("metric") == self.pseudo_metric

    @abc.abstractmethod
    def parse(self, raw_rule: Any) -> tuple[Options, models.Severity]:
        """Return what a [[rules]] asks for; ``given`` is a ``section_type``.

        Raises ``section.Mistake`` for what its keys may not say together.
        """

    @property
    def asked_by(self) -> str:
        """Return how the file asks for this kind, for an error."""
        return f"metric = {self.pseudo_metric!r}" if self.pseudo_metric is not None else f"a {self.name} rule"

    @property
    def keys(self) -> frozenset[str]:
        """Return the keys that it takes, beside those of every rule."""
        return frozenset(fields.keys(self.section_type)) - frozenset(fields.keys(section.RuleSection))

    def misplaced(self, key: str) -> str:
        """Return what to do about a key of another kind."""
        if key == "cases":
            return "remove them; there are no values to try it on"
        return f"remove it; it takes {', '.join(sorted(self.keys))}"

    def warnings(self, rule: models.Rule) -> tuple[str, ...]:
        """Return what is valid in a rule but may not be meant, for ``rules check``."""
        return ()

    @abc.abstractmethod
    def export(self, rule: models.Rule) -> dict[str, object]:
        """Return the keys of the kind as the file has them."""

    # --- how often its metrics are asked for -------------------------------------------------------------------------

    def cadence(self, rule: models.Rule, values: Sequence[float]) -> models.CadenceReason:
        """Return why a metric that it looks at is to be asked for each period; ``far``: it may wait for some.

        ``values`` are the newest ones of the metric, in order.
        """
        return "watched"

    # --- how often it is evaluated -----------------------------------------------------------------------------------

    def steady_range(self, rule: models.Rule) -> tuple[float, float] | None:
        """Return from where to where the values of its metrics leave a steady rule as it is.

        ``None``: each sample has to be evaluated as it comes.
        """
        return None

    def is_steady(self, rule: models.Rule, rule_state: models.RuleState) -> bool:
        """Return whether only a value out of ``steady_range``, or news of EC2, can lead to a transition."""
        return False

    # --- what it needs -----------------------------------------------------------------------------------------------

    def metrics(self, rule: models.Rule) -> tuple[str, ...]:
        """Return the metrics whose datapoints it looks at."""
        return expression.operands(rule.metric)

    def operands(self, rule: models.Rule) -> tuple[str, ...]:
        """Return the names of the other rules whose states it looks at."""
        return ()

    def operand_place(self, rule: models.Rule, name: str) -> tuple[str, int | None]:
        """Return the key of the file that names another rule, and the place in the text that is its value."""
        return "", None

    def unit(self, rule: models.Rule, configuration: models.Configuration) -> str:
        """Return the unit of the values that it compares."""
        return units.of_rule(rule, configuration.unit_of)

    def horizon(
        self, rule: models.Rule, worker: models.Worker, condition: models.Condition, configuration: models.Configuration
    ) -> Horizon | None:
        """Return how far the rule can be evaluated over datapoints; ``None``: it needs none."""
        if rule.metric is None:
            return None
        of = expression.of(rule.metric)
        if of is None:
            return of_metric(rule.metric, worker, condition, configuration)
        operands = {name: of_metric(name, worker, condition, configuration) for name in of.operands}
        return of_expression(operands, of.longest_window)

    def group_by(self, rule: models.Rule) -> str | None:
        """Return the label whose values make the groups that a rule is over; ``None``: it is about single workers."""
        return None

    def compares_by(self, rule: models.Rule) -> str | None:
        """Return the label whose value a worker shares with those that it is compared with; ``None``: with nobody."""
        return None

    def least_members(self, rule: models.Rule) -> int:
        """Return how many workers a group has to have for the rule to fire."""
        return 1

    def needs_members(self, rule: models.Rule) -> bool:
        """Return whether a rule over groups needs the datapoints of all members."""
        return False

    def needed_from(
        self, rule: models.Rule, rule_state: models.RuleState, horizon: Horizon, facts: Facts
    ) -> int | None:
        """Return from what time on ``judge`` needs datapoints; ``None`` if it has not begun. ``facts`` has none yet."""
        return None

    def step(self, rule: models.Rule, period: int) -> int:
        """Return the seconds from one evaluation of a metric with a period to the next, by the time of the data."""
        return period

    def looks_back(self, rule: models.Rule) -> tuple[tuple[str, int], ...]:
        """Return the keys that say how far back datapoints are needed, and the seconds: the ledger has to keep them."""
        return ()

    def for_worker(self, rule: models.Rule, labels: Mapping[str, str]) -> models.Rule:
        """Return the rule as it is for a worker with these labels: the same object unless something is from a label."""
        return rule

    def doubts(self, rule: models.Rule, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return what is doubtful about a rule for a worker with these labels."""
        return ()

    def not_applied(self, rule: models.Rule, worker: models.Worker, configuration: models.Configuration) -> str | None:
        """Return why a rule does not apply to a worker, ``None`` if it does."""
        if not rule.applies_to(worker):
            required_labels = ", ".join(f"{key}={value}" for key, value in rule.labels.items())
            return f"the rule is for workers with {required_labels} only"
        for metric in self.metrics(rule):
            if metric in models.CHECK_METRICS:
                continue
            if metric not in configuration.collect or metric not in configuration.metrics:
                return f"{metric} is not collected"
        return None

    def waits(self, rule: models.Rule, condition: models.Condition) -> bool:
        """Return whether there is nothing to evaluate yet that the rule is about; it begins when there is."""
        return False

    def cannot_fire(
        self, rule: models.Rule, worker: models.Worker, condition: models.Condition, configuration: models.Configuration
    ) -> Obstacle | None:
        """Return why a rule that applies to a worker cannot fire whatever the values are; ``None`` if it can."""
        return None

    # --- evaluation --------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def judge(
        self, rule: models.Rule, rule_state: models.RuleState, facts: Facts, horizon: Horizon | None
    ) -> Judgement:
        """Fold the facts after the state's cursor; return the new state and the transitions, in order of time.

        It is pure: no I/O, no clock. The same state object comes back if nothing is new.
        """

    def clamped(self, rule_state: models.RuleState, now: float) -> models.RuleState:
        """Return a state as it is to be gone on with now; the same object unless a clock that was ahead wrote it."""
        return rule_state.clamped(now)

    def paused(self, rule_state: models.RuleState, condition: models.Condition) -> models.RuleState:
        """Return the state to keep while monitoring is paused; ``rule_state`` begins anew at the pause."""
        return rule_state

    def evaluated_until(self, rule_state: models.RuleState, at: float) -> int | None:
        """Return the time up to which a rule is evaluated when that is asked at a time."""
        return int(at) if self.by_clock else rule_state.cursor

    def known_until(self, rule_state: models.RuleState, facts: Facts) -> int | None:
        """Return the time up to which the states of a rule are known, that second included; ``None``: not yet at all.

        A rule by the clock changes in a second that is over only. In the slot at the cursor nothing changes any more.
        """
        if self.by_clock:
            return math.ceil(facts.at) - 1
        return None if rule_state.cursor is None else rule_state.cursor + max((rule_state.period or 1) - 1, 0)

    def operand_state(self, evaluated: Evaluated, facts: Facts) -> OperandState:
        """Return what other rules see of one that applies; one that ended with the instance does not fire again."""
        if facts.condition.status in self.ends_with:
            collected_at = facts.condition.collected_at
            return state_of(evaluated, math.floor(facts.at if collected_at is None else collected_at))
        return state_of(evaluated, self.known_until(evaluated.after, facts))

    def owes_end(
        self, rule: models.Rule, worker: models.Worker, condition: models.Condition, alert: models.Alert
    ) -> bool:
        """Return whether the end of the instance is yet to be notified: then it must not be cleared away."""
        return False

    # --- wording -----------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def summary(self, rule: models.Rule, transition: models.Transition, unit: str, interval: int) -> str:
        """Return what a notification says of a transition, after the worker's name.

        ``unit`` is the metric's, ``interval`` the worker's in seconds.
        """

    def subject(self, rule: models.Rule) -> str:
        """Return how words name what a rule compares: the metric, or the rule if that is an expression."""
        return rule.metric if rule.metric is not None and expression.of(rule.metric) is None else rule.name

    def reason(self, transition: models.Transition, last_error: models.CollectionError | None) -> str | None:
        """Return the reason that a notification gives; ``last_error`` is why collections of the worker fail."""
        return transition.cause

    def later(self, summary: str) -> str:
        """Return a summary for somebody who reads it later than it was written."""
        return summary

    @abc.abstractmethod
    def conditions(self, rule: models.Rule) -> dict[str, object]:
        """Return what a rule asks for, as the JSON of ``why`` has it."""

    @abc.abstractmethod
    def described(self, rule: models.Rule, unit: str) -> tuple[str, ...]:
        """Return what a rule asks for, in words for ``why``; ``unit`` is that of the values that it compares."""

    def in_words(self, rule: models.Rule, unit: str) -> tuple[str, ...]:
        """Return what a rule asks for, as ``described`` does, and what every kind of rule may ask for besides."""
        warmup = () if rule.warmup is None else (f"warm-up {wording.duration(rule.warmup)}",)
        escalation = (
            f"escalates after {wording.duration(step.after)} to {', '.join(step.notify)}" for step in rule.escalate
        )
        return (*self.described(rule, unit), *warmup, *escalation)

    def explained_over(self, rule: models.Rule, rule_state: models.RuleState) -> tuple[int, int] | None:
        """Return from when until when ``explain`` needs datapoints; ``None``: it needs none."""
        return None

    @abc.abstractmethod
    def explain(
        self, rule: models.Rule, rule_state: models.RuleState, facts: Facts, horizon: Horizon | None
    ) -> Explanation:
        """Explain the present state of a rule."""

    def drawn(self, rule: models.Rule) -> tuple[Drawn, ...]:
        """Return the thresholds that a chart of the metric draws; none if there are none to draw."""
        return ()

    def curve_over(self, rule: models.Rule, rule_state: models.RuleState) -> tuple[int, int] | None:
        """Return the first and the last time of the datapoints that ``curve`` needs; ``None``: it needs none."""
        return None

    def curve(
        self, rule: models.Rule, rule_state: models.RuleState, facts: Facts, times: Sequence[int]
    ) -> Curve | None:
        """Return what a worker's chart draws besides thresholds, at times in order, as it is known by now."""
        return None

    # --- backtest ----------------------------------------------------------------------------------------------------

    def peak(self, rule: models.Rule, values: list[float]) -> float | None:
        """Return the value furthest beyond the threshold, of those while it fired; ``None`` if there are none."""
        return max(values, default=None)

    # --- rules of the kind -------------------------------------------------------------------------------------------

    def rule(self, name: str, **keys: Any) -> models.Rule:
        """Return a rule of this kind; ``keys`` are fields of ``models.Rule`` and of the options."""
        common = {key: keys.pop(key) for key in tuple(keys) if key in models.Rule.model_fields}
        options = self.options_type(**keys).model_dump(mode="json", exclude_defaults=True)
        return models.Rule(name=name, kind=self.name, options=options, **common)

    def options(self, rule: models.Rule) -> Options:
        """Return what a rule of this kind asks for."""
        return self._options(rule)
