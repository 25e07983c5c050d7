"""The kinds of rules: pure, one file and one row in ``KINDS`` each. They share ``horizon`` and ``slots``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from workermon import models
from workermon.rules import event, forecast, group, no_data, outlier, state, threshold, unusual, when
from workermon.rules.expression_facts import with_values
from workermon.rules.horizon import BACKFILL, DELAY, Horizon, absent_from, checks_asked, delay_of, of_metric, reach_back
from workermon.rules.kind import DrawnThreshold, Explanation, Facts, Judgement, Kind, Obstacle
from workermon.rules.label_warnings import warnings_of_labels
from workermon.rules.operands import Evaluated, OperandState, cycle, in_order
from workermon.rules.peer_horizon import peer
from workermon.rules.peers import Peer, PeerGroup
from workermon.rules.section import Mistake
from workermon.rules.unfirable import UnfirableRule, unfirable
from workermon.rules.when_expression import WhenExpression

Kinds: TypeAlias = Mapping[str, Kind[Any]]

#: Every kind of rule by its name, which is ``Rule.kind``.
KINDS: Kinds = {
    kind.name: kind
    for kind in (
        threshold.KIND,
        no_data.KIND,
        state.KIND,
        event.KIND,
        group.KIND,
        forecast.KIND,
        unusual.KIND,
        outlier.KIND,
        when.KIND,
    )
}


def group_member_rule(rule: models.Rule) -> models.Rule:
    """Return the condition of a rule over groups as a rule of its own, for each member."""
    return group.KIND.member_rule(rule)


def kind_of(raw_rule: Mapping[str, object], kinds: Kinds = KINDS) -> Kind[Any]:
    """Return the kind that the keys of a [[rules]] belong to. If no other kind has them, it is a threshold."""
    return next((kind for kind in kinds.values() if kind.claims(raw_rule)), kinds[threshold.KIND.name])


def looks_at(kinds: Kinds = KINDS) -> Callable[[models.Rule], tuple[str, ...]]:
    """Return a function that returns the names of the rules to be evaluated before a rule."""
    return lambda rule: (*kinds[rule.kind].operands(rule), *rule.inhibited_by)


def needed_metrics(rule: models.Rule, rules: Sequence[models.Rule], kinds: Kinds = KINDS) -> tuple[str, ...]:
    """Return the metrics whose datapoints decide a rule: its own, and those of the rules that it depends on."""
    kind = kinds[rule.kind]
    operand_rules = [operand_rule for operand_rule in rules if operand_rule.name in kind.operands(rule)]
    needed = (metric for operand_rule in operand_rules for metric in needed_metrics(operand_rule, rules, kinds))
    return tuple(dict.fromkeys((*kind.metrics(rule), *needed)))


def compares_workers(rule: models.Rule, rules: Sequence[models.Rule], kinds: Kinds = KINDS) -> bool:
    """Return whether other workers decide a worker's rule: it, or a rule that it depends on, compares workers."""
    kind = kinds[rule.kind]
    operand_rules = (operand_rule for operand_rule in rules if operand_rule.name in kind.operands(rule))
    return kind.compares_by(rule) is not None or any(
        compares_workers(operand_rule, rules, kinds) for operand_rule in operand_rules
    )


def any_must_resolve(
    rules: Iterable[models.Rule],
    kinds: Kinds,
    worker: models.Worker,
    condition: models.Condition,
    alerts: Mapping[str, models.Alert],
) -> bool:
    """Return whether a rule has yet to notify of an instance's termination. Then the worker must not be deleted."""
    return any(
        kinds[rule.kind].must_resolve(rule, worker, condition, alerts.get(rule.name) or models.Alert(rule=rule.name))
        for rule in rules
    )


__all__ = [
    "BACKFILL",
    "DELAY",
    "KINDS",
    "DrawnThreshold",
    "Evaluated",
    "Explanation",
    "Facts",
    "Horizon",
    "Judgement",
    "Kind",
    "Kinds",
    "Mistake",
    "Obstacle",
    "OperandState",
    "Peer",
    "PeerGroup",
    "UnfirableRule",
    "WhenExpression",
    "absent_from",
    "any_must_resolve",
    "checks_asked",
    "compares_workers",
    "cycle",
    "delay_of",
    "group_member_rule",
    "in_order",
    "kind_of",
    "looks_at",
    "needed_metrics",
    "of_metric",
    "peer",
    "reach_back",
    "unfirable",
    "warnings_of_labels",
    "with_values",
]
