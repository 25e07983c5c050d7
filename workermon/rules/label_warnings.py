"""Pure: questionable thresholds of rules for single workers, caused by their labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from workermon import models
from workermon.rules.kind import Kind


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LabelWarning:
    """A warning that a rule is questionable for some workers: what is wrong with the first of them (by name)."""

    rule: str
    workers: tuple[str, ...]
    warning: str

    @property
    def reason(self) -> str:
        """Return for whom it is questionable, and why."""
        return f"for {models.first_of(self.workers)}: {self.warning}"


def warnings_of_labels(
    configuration: models.Configuration, workers: Iterable[models.Worker], kinds: Mapping[str, Kind[Any]]
) -> list[LabelWarning]:
    """Return the rules of a configuration that are questionable for some of the workers with their labels."""
    doubts: dict[str, dict[str, str]] = {}
    for worker in workers:
        for rule in configuration.rules:
            if rule.applies_to(worker) and (rule_doubts := kinds[rule.kind].doubts(rule, worker.labels)):
                doubts.setdefault(rule.name, {})[worker.name] = "; ".join(rule_doubts)
    return [
        LabelWarning(rule=rule, workers=tuple(sorted(of_workers)), warning=of_workers[min(of_workers)])
        for rule, of_workers in doubts.items()
    ]
