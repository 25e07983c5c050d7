"""Pure: which samples need not be evaluated at once.

If all rules of a worker are steady and its new datapoints lie within the thresholds, an evaluation changes nothing, and
a later one has the same result. So such a worker is evaluated only at each ``SLOTS``-th slot. Unusual samples are
evaluated as they arrive. So is the first worker of each batch, which triggers the evaluation of its account.
"""

from __future__ import annotations

import dataclasses
import math
import zlib

from workermon import models
from workermon.collect.account_run import Run
from workermon.collect.fetched import Fetched

#: One of so many slots is always evaluated. Each worker has its own, so that evaluations spread.
SLOTS = 15
#: Seconds. Maximum deferral of an evaluation; with a longer interval nothing is deferred.
MAX_DEFERRED = 900

#: For each metric, the least and the greatest value that change no steady rule.
_Ranges = dict[str, tuple[float, float]]


@dataclasses.dataclass(frozen=True, slots=True)
class Deferral:
    """Decides for the workers of one run. Workers with the same labels have the same rules."""

    run: Run
    _ranges_by_labels: dict[tuple[tuple[str, str], ...], _Ranges | None] = dataclasses.field(default_factory=dict)

    def revision(
        self, before: models.Condition, after: models.Condition, sample: models.Sample, fetched: Fetched
    ) -> int | None:
        """Return the configuration's revision by which a worker must be steady for its sample to wait.

        ``None``: the sample is evaluated at once.
        """
        worker = sample.worker
        if self.run.force or worker.interval * SLOTS > MAX_DEFERRED or is_due(worker.id, sample.slot):
            return None
        if fetched.failures or not _is_uneventful(before, after):
            return None
        ranges = self._ranges(worker)
        if ranges is None or not _is_within(sample, ranges):
            return None
        return self.run.configuration.revision

    def _ranges(self, worker: models.Worker) -> _Ranges | None:
        """Return the ranges of the rules that apply to a worker; ``None`` if one of them needs each sample."""
        key = tuple(sorted(worker.labels.items()))
        if key not in self._ranges_by_labels:
            self._ranges_by_labels[key] = _ranges(worker, self.run)
        return self._ranges_by_labels[key]


def is_due(worker_id: str, slot: int) -> bool:
    """Return whether a worker is always evaluated at this slot."""
    return (slot + zlib.crc32(worker_id.encode())) % SLOTS == 0


def _ranges(worker: models.Worker, run: Run) -> _Ranges | None:
    ranges: _Ranges = {}
    if not run.configuration.complete:
        return None
    for configured in run.configuration.rules:
        kind = run.kinds.get(configured.kind)
        if kind is None:
            return None
        if kind.not_applied(configured, worker, run.configuration) is not None:
            continue
        rule = kind.for_worker(configured, worker.labels)
        steady = kind.steady_range(rule)
        if steady is None:
            return None
        for metric in kind.metrics(rule):
            least, greatest = ranges.get(metric, (-math.inf, math.inf))
            ranges[metric] = max(least, steady[0]), min(greatest, steady[1])
    return ranges


def _is_within(sample: models.Sample, ranges: _Ranges) -> bool:
    for metric, series in (*sample.series.items(), *sample.check_series.items()):
        if metric in ranges:
            least, greatest = ranges[metric]
            for _, value in series.points:
                # Not the other way round: a NaN is within no range.
                if not least <= value <= greatest:
                    return False
    return True


def _is_uneventful(before: models.Condition, after: models.Condition) -> bool:
    """Return whether a running worker is unchanged except for new datapoints."""
    return (
        before.status == after.status == "running"
        and _outcomes(before.checks) == _outcomes(after.checks)
        and before.impairments == after.impairments
        and before.last_error is None
        and after.last_error is None
        and not before.events
        and not after.events
        and before.changes == after.changes
        and before.running_since == after.running_since
    )


def _outcomes(checks: models.Checks | None) -> tuple[models.Check | None, ...] | None:
    """Return what two conditions are compared by: comparing models takes ten times as long."""
    return None if checks is None else checks.outcomes
