"""Pure: which rules cannot fire for which workers, whatever their values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from workermon import models
from workermon.rules.kind import Kind, Obstacle


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UnfirableRule:
    """A rule that cannot fire for some workers, and the reason for the first of them (by name)."""

    rule: str
    workers: tuple[str, ...]
    obstacle: Obstacle

    @property
    def reason(self) -> str:
        """Return for whom it cannot fire, and why."""
        return f"cannot fire for {models.first_of(self.workers)}: {self.obstacle.reason}"


def unfirable(
    configuration: models.Configuration,
    members: Iterable[tuple[models.Worker, models.Condition]],
    kinds: Mapping[str, Kind[Any]],
) -> list[UnfirableRule]:
    """Return the rules of a configuration that cannot fire for some of the workers that they apply to."""
    obstacles: dict[str, dict[str, Obstacle]] = {}
    for worker, condition in members:
        if worker.monitoring == "paused" or condition.status != "running":
            continue
        for rule in configuration.rules:
            kind = kinds[rule.kind]
            if kind.not_applied(rule, worker, configuration) is None:
                obstacle = kind.cannot_fire(rule, worker, condition, configuration)
                if obstacle is not None:
                    obstacles.setdefault(rule.name, {})[worker.name] = obstacle
    return [
        UnfirableRule(rule=rule, workers=tuple(sorted(of_workers)), obstacle=of_workers[min(of_workers)])
        for rule, of_workers in obstacles.items()
    ]
