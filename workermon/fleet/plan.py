"""What a config file changes: the plan, and its report for command line and API."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

from workermon import config, errors, models, ports, rules
from workermon.config import catalogue, difference
from workermon.fleet.coverage import RuleCoverage, coverage_warnings, rule_coverage
from workermon.fleet.price import MonthlyPrice, Price, PriceByCadence


class ChangeReport(models.Frozen):
    """What a config file changes of a set-up.

    ``revision`` is the one in force: the compared one, or the new one. ``workers`` is how many are monitored
    afterwards. The others are instance ids: ``taken_over`` are those of ``updated`` that belong to ``[discover]`` from
    now on, ``skipped`` those that EC2 does not have. ``changed`` are the parts of the configuration that change,
    ``rules`` those that apply afterwards, ``differences`` the changes of each changed thing, ``series`` by metric how
    many of CloudWatch's series are requested afterwards.
    """

    file: str
    revision: int
    workers: int
    added: tuple[str, ...]
    updated: tuple[str, ...]
    removed: tuple[str, ...]
    taken_over: tuple[str, ...]
    skipped: tuple[str, ...]
    changed: tuple[str, ...]
    rules: tuple[RuleCoverage, ...]
    rule_changes: difference.Names
    channels: difference.Names
    collected: difference.Names
    silences: difference.Names
    settings: difference.Names
    differences: tuple[difference.Difference, ...]
    dollars_per_month: MonthlyPrice
    dollars_by_cadence: PriceByCadence
    series: dict[str, int]
    warnings: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Return whether nothing changes."""
        return not (self.added or self.updated or self.removed or self.changed)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ApplyOptions:
    """How a config file is applied.

    ``interval`` (seconds) and ``region`` are for workers without their own; ``min_interval`` is the shortest allowed.
    ``verify`` asks EC2 about new workers and for those of ``[discover]`` (otherwise a reconciliation adds them later).
    ``missing`` says how to treat workers that EC2 does not have, ``past_silences`` the same for silences that have
    ended. ``count_series`` asks CloudWatch how many series new workers have, for the price. ``revision`` must be the
    one in force; ``None`` for any.
    """

    region: str | None
    interval: int = 60
    min_interval: int = 10
    verify: bool = True
    missing: Literal["refuse", "skip"] = "refuse"
    past_silences: Literal["refuse", "keep"] = "refuse"
    count_series: bool = True
    revision: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a config file changes: the configuration ``before`` and ``after``, and the changes of the fleet.

    ``fleet`` is the present one; ``skipped`` are workers of the file that EC2 does not have, ``taken_over`` those of
    ``updated`` that belong to ``[discover]`` from now on.
    """

    file: config.File
    before: models.Configuration
    after: models.Configuration
    fleet: tuple[ports.Record, ...]
    added: tuple[models.Worker, ...]
    updated: tuple[models.Worker, ...]
    removed: tuple[str, ...]
    taken_over: tuple[str, ...]
    skipped: tuple[str, ...]

    @property
    def changed(self) -> tuple[str, ...]:
        """Return the names of the parts of the configuration that change."""
        return tuple(
            name
            for name in models.Configuration.model_fields
            if name != "revision" and getattr(self.after, name) != getattr(self.before, name)
        )

    @property
    def is_empty(self) -> bool:
        """Return whether nothing changes."""
        return not (self.added or self.updated or self.removed or self.changed)

    def fleet_after(self) -> list[models.Worker]:
        """Return the workers that are monitored afterwards, without terminated ones."""
        present = (record.worker for record in self.fleet if record.condition.status not in models.GONE)
        workers = {worker.id: worker for worker in (*present, *self.updated, *self.added)}
        return [worker for worker in workers.values() if worker.id not in self.removed]

    def report(self, kinds: rules.Kinds, secrets: ports.Secrets, price: Price) -> ChangeReport:
        """Return the report for people and programs."""
        changes = difference.changes(self.before, self.after, kinds)
        workers = self.fleet_after()
        covered = rule_coverage(self.after, workers, kinds)
        return ChangeReport(
            file=self.file.source,
            revision=self.before.revision,
            workers=len(workers),
            added=tuple(worker.id for worker in self.added),
            updated=tuple(worker.id for worker in self.updated),
            removed=self.removed,
            taken_over=self.taken_over,
            skipped=self.skipped,
            changed=self.changed,
            rules=covered,
            rule_changes=changes.rules,
            channels=changes.channels,
            collected=changes.collected,
            silences=changes.silences,
            settings=changes.settings,
            differences=changes.differences,
            dollars_per_month=price.dollars,
            dollars_by_cadence=price.by_cadence,
            series=price.series,
            warnings=(
                *config.warnings(self.file, secrets, kinds, self.after),
                *self._unknown_silenced(),
                *self._not_collected(kinds),
                *coverage_warnings(covered, self.after, workers, None, kinds),
                *_not_counted(price),
                *_crowded(price),
                *(f"{worker_id}: EC2 does not have it, so it is left out" for worker_id in self.skipped),
            ),
        )

    def _unknown_silenced(self) -> Iterator[str]:
        """Warn of a silence for an unknown worker: it may be for a later one, or misspelt."""
        workers = [record.worker for record in self.fleet] + [*self.added, *self.updated]
        worker_names = {name for worker in workers for name in (worker.id, worker.name)}
        for place, silence in enumerate(self.file.silences or ()):
            if silence.worker is not None and silence.worker not in worker_names:
                hint = errors.did_you_mean(silence.worker, worker_names)
                yield f"silences[{place}].worker: there is no {silence.worker} yet{f'; {hint}' if hint else ''}"

    def _not_collected(self, kinds: rules.Kinds) -> Iterator[str]:
        """Warn of a rule that stays although the file ends the collection of its metric."""
        for rule in self.after.rules:
            for metric in kinds[rule.kind].metrics(rule):
                if metric in self.after.metrics and metric not in self.after.collect:
                    yield (
                        f"rule {rule.name}: {metric} is not collected, so it can never fire; add it to [collect]"
                        " metrics, or write the [[rules]] that should apply"
                    )


def _not_counted(price: Price) -> Iterator[str]:
    for scope, error in price.failed.items():
        yield f"the series in {scope} could not be counted, so each metric counts as one series a worker: {error}"


def _crowded(price: Price) -> Iterator[str]:
    for worker, metrics in price.crowded.items():
        for metric, number in metrics.items():
            yield (
                f"{worker} has {number:,} series of {metric}, but only {catalogue.MAX_SERIES} are requested:"
                " choose them with include or exclude in [[metrics]]"
            )
