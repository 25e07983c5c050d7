"""How many workers each rule applies to, and a warning for each that applies to none."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence

from workermon import config, models, rules


class RuleCoverage(models.Frozen):
    """How many workers a rule applies to."""

    name: str
    workers: int


@dataclasses.dataclass(frozen=True, slots=True)
class CheckedCoverage:
    """How many workers each rule of a file applies to; no rules if it is not known which workers there are."""

    rules: tuple[RuleCoverage, ...] = ()
    warnings: tuple[str, ...] = ()


def check_coverage(
    file: config.File,
    configuration: models.Configuration,
    monitored: Iterable[models.Worker],
    kinds: rules.Kinds = rules.KINDS,
) -> CheckedCoverage:
    """Return the coverage of a file's rules over its own workers and those that are monitored already.

    Workers that ``[discover]`` may bring are not counted, but a rule that applies to them is not warned of.
    """
    stay = [worker for worker in monitored if file.workers is None or worker.origin != "file"]
    named = [_of_file(section) for section in file.workers or ()]
    workers = list({worker.id: worker for worker in (*stay, *named)}.values())
    if not workers:
        return CheckedCoverage()
    covered = rule_coverage(configuration, workers, kinds)
    warnings = coverage_warnings(covered, configuration, workers, configuration.discover)
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
    return tuple(
        RuleCoverage(
            name=rule.name,
            workers=sum(kinds[rule.kind].not_applied(rule, worker, configuration) is None for worker in workers),
        )
        for rule in configuration.rules
    )


def coverage_warnings(
    covered: Sequence[RuleCoverage],
    configuration: models.Configuration,
    workers: Collection[models.Worker],
    discover: models.Discover | None = None,
) -> Iterator[str]:
    """Warn of each rule that applies to no worker, but for those whose metric is not collected, and of doubtful labels.

    ``discover`` may bring workers beside them; ``None``: none come.
    """
    if covered and not workers:
        yield "no worker is monitored, so no rule applies to any"
        return
    by_name = {rule.name: rule for rule in configuration.rules}
    for rule in covered:
        metrics, labels = rules.KINDS[by_name[rule.name].kind].metrics(by_name[rule.name]), by_name[rule.name].labels
        if rule.workers or any(each in configuration.metrics and each not in configuration.collect for each in metrics):
            continue
        if discover is not None and discover.may_give(labels):
            continue
        wanted = ", ".join(f"{key}={value}" for key, value in labels.items())
        yield f"rule {rule.name}: applies to no worker{f'; none has {wanted}' if wanted else ''}"
    for doubt in rules.doubtful(configuration, workers, rules.KINDS):
        yield f"rule {doubt.rule}: {doubt.reason}"
