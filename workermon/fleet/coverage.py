"""How many workers each rule applies to, and a warning for each that applies to none."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from pydantic import Field

from workermon import config, models, rules


class RuleCoverage(models.Frozen):
    """How many workers a rule applies to.

    ``groups`` is how many groups they form, for a rule over groups or one that compares workers.
    """

    name: str
    workers: int
    groups: int | None = Field(default=None, exclude_if=lambda value: value is None)
    #: The number of workers in the largest group.
    largest: int = Field(default=0, exclude=True)


@dataclasses.dataclass(frozen=True, slots=True)
class CheckedCoverage:
    """How many workers each rule of a file applies to; no rules if the workers are not known."""

    rules: tuple[RuleCoverage, ...] = ()
    warnings: tuple[str, ...] = ()


def check_coverage(
    file: config.File,
    configuration: models.Configuration,
    monitored: Iterable[models.Worker],
    kinds: rules.Kinds = rules.KINDS,
) -> CheckedCoverage:
    """Return the coverage of a file's rules over its own workers and the monitored ones.

    Workers that ``[discover]`` may add are not counted, but there is no warning about rules that apply to them.
    """
    stay = [worker for worker in monitored if file.workers is None or worker.origin != "file"]
    checked_workers = [_of_file(section) for section in file.workers or ()]
    workers = list({worker.id: worker for worker in (*stay, *checked_workers)}.values())
    if not workers:
        return CheckedCoverage()
    covered = rule_coverage(configuration, workers, kinds)
    warnings = coverage_warnings(covered, configuration, workers, configuration.discover, kinds)
    return CheckedCoverage(covered, tuple(warnings))


def _of_file(section: config.WorkerSection) -> models.Worker:
    return models.Worker(
        id=section.id,
        name=section.name or section.id,
        region=section.region or "",
        labels=section.labels,
        added_at=0,
        incarnation="",
    )


def rule_coverage(
    configuration: models.Configuration, workers: Sequence[models.Worker], kinds: rules.Kinds
) -> tuple[RuleCoverage, ...]:
    """Return how many of these workers each rule of a configuration applies to."""
    return tuple(_covered(rule, kinds[rule.kind], configuration, workers) for rule in configuration.rules)


def _covered(
    rule: models.Rule, kind: rules.Kind[Any], configuration: models.Configuration, workers: Iterable[models.Worker]
) -> RuleCoverage:
    """Return how many of these workers a rule applies to, and the groups that they form."""
    applies = [worker for worker in workers if kind.not_applied(rule, worker, configuration) is None]
    by = _label(rule, kind)
    if by is None:
        return RuleCoverage(name=rule.name, workers=len(applies))
    sizes = Counter(worker.labels[by] for worker in applies)
    return RuleCoverage(name=rule.name, workers=len(applies), groups=len(sizes), largest=max(sizes.values(), default=0))


def _label(rule: models.Rule, kind: rules.Kind[Any]) -> str | None:
    """Return the label whose values form groups; ``None`` if a rule is only about single workers."""
    by = kind.group_by(rule)
    return kind.compares_by(rule) if by is None else by


def coverage_warnings(
    covered: Sequence[RuleCoverage],
    configuration: models.Configuration,
    workers: Collection[models.Worker],
    discover: models.Discover | None,
    kinds: rules.Kinds,
) -> Iterator[str]:
    """Warn of each rule that applies to no worker or too few, unless its metric is not collected.

    Also warn of questionable labels. ``discover`` may add further workers; ``None``: there are none.
    """
    if covered and not workers:
        yield "no worker is monitored, so no rule applies to any"
        return
    by_name = {rule.name: rule for rule in configuration.rules}
    for coverage in covered:
        rule = by_name[coverage.name]
        kind = kinds[rule.kind]
        by = _label(rule, kind)
        if discover is not None and discover.may_give(rule.labels) and (by is None or discover.may_group(by)):
            continue
        if coverage.workers:
            yield from _too_small(coverage, kind.least_members(rule))
        elif all(name in configuration.collect or name not in configuration.metrics for name in kind.metrics(rule)):
            yield f"rule {rule.name}: applies to no worker{_nobody_has(rule, by, workers)}"
    for warning in rules.warnings_of_labels(configuration, workers, kinds):
        yield f"rule {warning.rule}: {warning.reason}"


def _too_small(covered: RuleCoverage, least: int) -> Iterator[str]:
    if covered.groups is not None and covered.largest < least:
        needed = f"no group has {least} workers, as many as it takes to fire"
        yield f"rule {covered.name}: {needed}; the largest has {covered.largest}"


def _nobody_has(rule: models.Rule, by: str | None, workers: Iterable[models.Worker]) -> str:
    if by is not None and not any(by in worker.labels for worker in workers):
        return f"; none has a label {by}, by whose values it makes groups"
    required_labels = ", ".join(f"{key}={value}" for key, value in rule.labels.items())
    return f"; none has {required_labels}" if required_labels else ""
