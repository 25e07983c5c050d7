"""``[[rules]]``: parses a section by its kind of rule.

``workermon.rules`` has the table of kinds and their keys; it is passed to the parser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pydantic

from workermon import errors, models, rules
from workermon.config import problems
from workermon.models import fields
from workermon.rules import expression, section


class ParsedRule(NamedTuple):
    """A rule, and its unparsed cases: the values that they need are known once all rules are parsed."""

    rule: models.Rule
    cases: tuple[section.CaseSection, ...]


def read(place: int, raw_rule: Mapping[str, Any], kinds: rules.Kinds) -> ParsedRule:
    """Return the rule that a section describes. Raises ``problems.Mistake`` if it cannot work."""
    path, kind = f"rules[{place}]", rules.kind_of(raw_rule, kinds)
    _check_keys(path, raw_rule, kind, kinds)
    try:
        keys = kind.section_type.model_validate(raw_rule)
    except pydantic.ValidationError as wrong:
        raise problems.first(wrong, kind.section_type, (), within=("rules", place)) from None
    _check_metric(path, keys, kind, kinds)
    try:
        _check_expression(keys)
        options, severity = kind.parse(keys)
    except rules.Mistake as wrong:
        path_of_key = f"{path}.{wrong.key}" if wrong.key else path
        raise problems.Mistake(path_of_key, wrong.reason, wrong.todo, wrong.place) from None
    rule = models.Rule(
        name=keys.name,
        kind=kind.name,
        metric=keys.metric if kind.pseudo_metric is None else None,
        unit=keys.unit,
        severity=severity,
        options=options.model_dump(mode="json", exclude_defaults=True),
        labels=keys.labels,
        flapping=getattr(keys, "flapping", None),
        escalate=_escalate(path, keys.escalate),
        inhibited_by=tuple(dict.fromkeys(keys.inhibited_by)),
        **{name: getattr(keys, name) for name in (*models.ANNOTATIONS, "warmup")},
        **_notified(keys),
    )
    if rule.warmup is not None and not kind.metrics(rule):
        raise problems.Mistake(f"{path}.warmup", f"is for rules over datapoints, not for {kind.chosen_by}", "remove it")
    return ParsedRule(rule, getattr(keys, "cases", ()))


def schema(kinds: rules.Kinds) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the JSON schema of a section with the keys of all kinds, and the definitions that it refers to."""
    merged = section.RuleSection.model_json_schema()
    definitions: dict[str, Any] = merged.pop("$defs", {})
    for kind in kinds.values():
        kind_schema = kind.section_type.model_json_schema()
        definitions |= kind_schema.get("$defs", {})
        for name, property_ in kind_schema["properties"].items():
            merged_property = merged["properties"].setdefault(name, property_)
            if merged_property != property_:  # kinds with different forms of the same key
                merged["properties"][name] = {"anyOf": [merged_property, property_]}
    return merged, definitions


def _check_keys(path: str, raw_rule: Mapping[str, Any], kind: rules.Kind[Any], kinds: rules.Kinds) -> None:
    """Reject a key that no kind has, or that only other kinds have."""
    allowed_keys = fields.keys(kind.section_type)
    for key in raw_rule:
        if key in allowed_keys:
            continue
        other_kinds = [other_kind for other_kind in kinds.values() if key in fields.keys(other_kind.section_type)]
        if not other_kinds:
            every = (
                allowed_keys
                if kind.claims(raw_rule)
                else {name for rule_kind in kinds.values() for name in rule_kind.keys}
            )
            todo = errors.did_you_mean(key, {*allowed_keys, *every}) or errors.nearest(key, allowed_keys)
            raise problems.Mistake(f"{path}.{problems.excerpt(key)}", "is not a known key", todo)
        if not kind.claims(raw_rule):  # a threshold, because no other kind claims it
            nouns = " or ".join(dict.fromkeys(other_kind.chosen_by for other_kind in other_kinds))
            raise problems.Mistake(f"{path}.{key}", f"is only for {nouns}", "remove it")
        raise problems.Mistake(f"{path}.{key}", f"is not for {kind.chosen_by}", kind.advice_on_key(key))


def _check_expression(keys: section.RuleSection) -> None:
    """Reject an invalid expression, and a unit if there is one already. Raises ``rules.Mistake``."""
    if expression.of(keys.metric) is None and keys.unit is not None:
        raise rules.Mistake("unit", "is for an expression; a metric has its own", "remove it, or set it in [[metrics]]")


def _check_metric(path: str, keys: section.RuleSection, kind: rules.Kind[Any], kinds: rules.Kinds) -> None:
    """Reject a missing metric, and a metric of a rule that takes none."""
    if kind.needs_metric and keys.metric is None:
        alternatives = [
            f"or {other_kind.chosen_by}" for other_kind in kinds.values() if other_kind.needs_metric is False
        ]
        raise problems.Mistake(
            f"{path}.metric", "is missing", " ".join(('write metric = "cpu_utilization"', *alternatives))
        )
    if kind.needs_metric is False and keys.metric is not None:
        raise problems.Mistake(f"{path}.metric", f"is not for {kind.chosen_by}", "remove it")


def _escalate(path: str, sections: Sequence[section.EscalationSection]) -> tuple[models.EscalationStep, ...]:
    """Return the steps of an escalation. They must be in order of time, and name no channel twice."""
    place_by_channel: dict[str, str] = {}
    for place, step in enumerate(sections):
        if place and step.after <= sections[place - 1].after:
            reason = f"comes no later than the step before it, {fields.written(sections[place - 1].after)}"
            raise problems.Mistake(f"{path}.escalate[{place}].after", reason, "list the steps in order of time")
        for number, name in enumerate(step.notify):
            place_path = f"escalate[{place}].notify[{number}]"
            if name in place_by_channel:
                raise problems.Mistake(
                    f"{path}.{place_path}", f"{name} is {place_by_channel[name]} already", "name each channel once"
                )
            place_by_channel[name] = place_path
    return tuple(models.EscalationStep(after=step.after, notify=step.notify) for step in sections)


def _notified(keys: section.RuleSection) -> dict[str, Any]:
    """Return a rule's channels: all of them, and the severities of each if the file names them."""
    routes: Any = keys.notify
    if isinstance(routes, dict):
        return {"notify": tuple(dict.fromkeys(name for names in routes.values() for name in names)), "routes": routes}
    return {"notify": tuple(dict.fromkeys(routes))}
