"""Doctor: rules that cannot work."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from workermon import errors, models, ports, rules
from workermon.health.doctor.check import Check


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RuleExamination:
    """Finds rules that cannot fire, and labels that are not valid thresholds."""

    configurations: ports.Configurations
    kinds: rules.Kinds

    def examine(self, records: Sequence[ports.Record]) -> Iterator[Check]:
        """Find rules that cannot fire because of how often their metrics are published, and invalid labels."""
        members = ((record.worker, record.condition) for record in records)
        for unfirable in rules.unfirable(self.configurations.load(), members, self.kinds):
            reason = errors.printable(unfirable.reason)
            yield Check(name=f"rule {unfirable.rule}", ok=False, reason=reason, todo=unfirable.obstacle.todo)
        workers = [record.worker for record in records if record.condition.status not in models.GONE]
        for warning in rules.warnings_of_labels(self.configurations.load(), workers, self.kinds):
            reason = errors.printable(warning.reason)
            yield Check(name=f"rule {warning.rule}", ok=False, reason=reason, todo="correct the label of the worker")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LatenessExamination:
    """Finds metrics that arrive too late for their rules."""

    configurations: ports.Configurations

    def examine(self, records: Sequence[ports.Record]) -> Iterator[Check]:
        """Find metrics whose datapoints always arrive later than ``lateness``: rules cannot rely on them."""
        late: dict[str, dict[str, int]] = {}
        for record in records:
            for metric, (many, seconds) in record.condition.late.items():
                if many == models.MANY_LATE:
                    late.setdefault(metric, {})[record.worker.name] = seconds
        lateness = self.configurations.load().lateness
        for metric, seconds_of in late.items():
            names = sorted(seconds_of)
            reason = (
                f"for {errors.printable(models.first_of(names))} datapoints arrive {seconds_of[names[0]]} s"
                f" after their period, later than lateness, {lateness} s"
            )
            todo = "raise lateness in [collect], or rules see them when it is too late"
            yield Check(name=f"lateness of {metric}", ok=False, reason=reason, todo=todo)
