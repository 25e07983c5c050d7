"""The report of what a config file changes and costs, for command line and API."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from workermon import config, errors, models, ports, rules
from workermon.config import catalogue, difference
from workermon.fleet.coverage import RuleCoverage, coverage_warnings, rule_coverage
from workermon.fleet.plan import ApplyOptions, Plan
from workermon.fleet.price import MonthlyPrice, Price, PriceByCadence, Pricing


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
class ChangeReporting:
    """Describes what a plan changes and costs, for people and programs."""

    pricing: Pricing
    secrets: ports.Secrets
    kinds: rules.Kinds

    def report(self, plan: Plan, options: ApplyOptions) -> ChangeReport:
        """Return the report of a plan. CloudWatch is asked for the price if the options say so."""
        price = self.pricing.price(plan, ask=options.verify and options.count_series)
        return _report(plan, self.kinds, self.secrets, price)


def _report(plan: Plan, kinds: rules.Kinds, secrets: ports.Secrets, price: Price) -> ChangeReport:
    changes = difference.changes(plan.before, plan.after, kinds)
    workers = plan.fleet_after()
    covered = rule_coverage(plan.after, workers, kinds)
    return ChangeReport(
        file=plan.file.source,
        revision=plan.before.revision,
        workers=len(workers),
        added=tuple(worker.id for worker in plan.added),
        updated=tuple(worker.id for worker in plan.updated),
        removed=plan.removed,
        taken_over=plan.taken_over,
        skipped=plan.skipped,
        changed=plan.changed,
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
            *config.warnings(plan.file, secrets, kinds, plan.after),
            *_unknown_silenced(plan),
            *_not_collected(plan, kinds),
            *coverage_warnings(covered, plan.after, workers, None, kinds),
            *_not_counted(price),
            *_crowded(price),
            *(f"{worker_id}: EC2 does not have it, so it is left out" for worker_id in plan.skipped),
        ),
    )


def _unknown_silenced(plan: Plan) -> Iterator[str]:
    """Warn of a silence for an unknown worker: it may be for a later one, or misspelt."""
    workers = [record.worker for record in plan.fleet] + [*plan.added, *plan.updated]
    worker_names = {name for worker in workers for name in (worker.id, worker.name)}
    for place, silence in enumerate(plan.file.silences or ()):
        if silence.worker is not None and silence.worker not in worker_names:
            hint = errors.did_you_mean(silence.worker, worker_names)
            yield f"silences[{place}].worker: there is no {silence.worker} yet{f'; {hint}' if hint else ''}"


def _not_collected(plan: Plan, kinds: rules.Kinds) -> Iterator[str]:
    """Warn of a rule that stays although the file ends the collection of its metric."""
    for rule in plan.after.rules:
        for metric in kinds[rule.kind].metrics(rule):
            if metric in plan.after.metrics and metric not in plan.after.collect:
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
