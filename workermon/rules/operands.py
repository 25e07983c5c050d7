"""Rules that depend on other rules: what they see of them, and the order of evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from workermon.models import Rule, RuleState, Severity, SeverityChange, Transition

#: Returns the names of the rules to be evaluated before a rule.
Before = Callable[[Rule], Iterable[str]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OperandState:
    """Another rule of the same subject, as far as its states are known; times in seconds.

    ``changes`` of its severity are complete from ``known_from`` (``None``: from the beginning) until ``known_until``
    (``None``: nothing is known yet), both included. Before the first of them it does not fire. ``not_applied`` is why
    the rule does not apply to the subject. Then it counts as not firing.
    """

    changes: tuple[SeverityChange, ...] = ()
    known_from: int | None = None
    known_until: int | None = None
    not_applied: str | None = None

    def severity(self, at: float) -> Severity | None:
        """Return the state at a time that is known."""
        return next((change.severity for change in reversed(self.changes) if change.at <= at), None)

    @property
    def last(self) -> SeverityChange | None:
        """Return the newest change; ``None`` if there was none yet."""
        return self.changes[-1] if self.changes else None


class Evaluated(NamedTuple):
    """A rule that was evaluated from one state to another, with these transitions."""

    before: RuleState
    after: RuleState
    transitions: Sequence[Transition] = ()


def state_of(evaluated: Evaluated, known_until: int | None) -> OperandState:
    """Return the other rules' view of a rule that was evaluated.

    A trail keeps only the changes of the last minutes. The transitions add those of a late evaluation.
    """
    before, after, transitions = evaluated
    if after.cursor is None and after.start is not None:  # its evaluation has ended, or starts again
        return OperandState(changes=after.trail, known_from=after.start, known_until=known_until)
    severities: dict[int, Severity | None] = {change.at: change.severity for change in before.trail}
    for transition in transitions:
        if transition.withdrawn:
            severities.pop(transition.at, None)
        else:
            severities[transition.at] = transition.after
    # The trail's changes take precedence over the transitions that led to them.
    kept_from = after.trail[0].at if after.trail else None
    changes = [
        SeverityChange(at, severity, 0)
        for at, severity in sorted(severities.items())
        if kept_from is not None and at < kept_from
    ]
    changes += after.trail
    # Rules without slots keep only their last change, others those since one lateness.
    cut = changes[0].at if changes and (before.trimmed or after.period is None) else None
    starts = [at for at in (cut, after.start) if at is not None]
    return OperandState(changes=tuple(changes), known_from=max(starts, default=None), known_until=known_until)


def in_order(rules: Iterable[Rule], before: Before) -> tuple[Rule, ...]:
    """Return the rules so that each follows those that it depends on. Otherwise their order stays.

    Rules in a cycle are returned too: the cycle is broken at some place.
    """
    by_name = {rule.name: rule for rule in rules}
    ordered: dict[str, Rule] = {}
    for rule in by_name.values():
        _visit(rule, by_name, before, ordered, set())
    return tuple(ordered.values())


def _visit(
    rule: Rule, by_name: Mapping[str, Rule], before: Before, ordered: dict[str, Rule], visiting: set[str]
) -> None:
    """Add a rule after those that it depends on. Without recursion, because a chain of rules may be long."""
    stack = [(rule, iter(tuple(before(rule))))]
    visiting.add(rule.name)
    while stack:
        current, names = stack[-1]
        name = next(names, None)
        if name is None:
            ordered.setdefault(current.name, current)
            stack.pop()
        elif name in by_name and name not in ordered and name not in visiting:
            visiting.add(name)
            stack.append((by_name[name], iter(tuple(before(by_name[name])))))


def cycle(rules: Iterable[Rule], before: Before) -> tuple[str, ...] | None:
    """Return the names on a cycle, with the first one repeated at the end; ``None`` if there is none.

    >>> both = [Rule(name="a", options={"of": ["b"]}), Rule(name="b", options={"of": ["a"]})]
    >>> cycle(both, lambda rule: rule.options["of"])
    ('a', 'b', 'a')
    """
    by_name = {rule.name: rule for rule in rules}
    visited: set[str] = set()
    for first in by_name:
        path: list[str] = []
        stack = [iter((first,))]
        while stack:
            name = next(stack[-1], None)
            if name is None:
                stack.pop()
                if path:
                    visited.add(path.pop())
            elif name in path:
                return (*path[path.index(name) :], name)
            elif name in by_name and name not in visited:
                path.append(name)
                stack.append(iter(tuple(before(by_name[name]))))
    return None
