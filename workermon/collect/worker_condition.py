"""Pure: a worker's condition after a collection, from the condition before it and the collection's answers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, TypeVar

from workermon import errors, models
from workermon.collect.account_run import Run
from workermon.collect.fetched import Fetched
from workermon.rules import event, state

Value = TypeVar("Value")


@functools.lru_cache(maxsize=64)
def _collected(metrics: tuple[str, ...]) -> frozenset[str]:
    """Return the names of all collected metrics, and of the status checks."""
    return frozenset((*metrics, *models.CHECK_METRICS))


def sample_of(run: Run, worker: models.Worker, status: models.InstanceStatus, fetched: Fetched) -> models.Sample:
    """Return the sample of a worker from this collection."""
    return models.Sample(
        worker=worker,
        collected_at=run.at,
        status=status.status,
        checks=status.checks,
        series=fetched.series,
        requested_at={**fetched.requested_at, models.STATUS_CHECK_FAILED: run.at},
    )


class Conditions:
    """Makes the conditions of the workers of one batch after their collection."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._names = _collected(run.configuration.collect)
        self._by_situation: dict[tuple[int, tuple[str, ...]], dict[str, Any]] = {}

    def after(
        self, before: models.Condition, sample: models.Sample, status: models.InstanceStatus, fetched: Fetched
    ) -> models.Condition:
        """Return the condition of a worker after a collection. ``fetched`` has to live as long as the batch."""
        at, names = self._run.at, self._names
        running = sample.status == "running"
        since = before.running_since if before.status == "running" else None
        events, events_at = event.merge_listed(before, status.events, at)
        # Workers in the same situation share what follows from an answer, and the dictionary itself tells which do.
        situation = id(fetched.expected), tuple(sample.requested_at)
        if situation not in self._by_situation:
            self._by_situation[situation] = self._merged(before, sample, fetched)
        # Its parts are validated already. Validating them again would cost more than everything else.
        return before.model_copy(
            update={
                **self._by_situation[situation],
                "status": sample.status,
                "checks": sample.checks,
                "impairments": status.impairments,
                "slot": sample.slot,
                "collected_at": at,
                "succeeded_at": before.succeeded_at if fetched.failed else at,
                "running_since": (at if since is None else since) if running else None,
                "latest": _latest(before, sample, names),
                "delays": _collected_only(_updated(before.delays, fetched.delays), names),
                "cadence": _known_only(_updated(before.cadence, fetched.cadence), names),
                "unseen_since": _known_only(_updated(before.unseen_since, fetched.unseen_since), names),
                "full_at": fetched.full_at,
                "last_error": _metrics_error(fetched.failures, at, before.last_error),
                "changes": state.append_change(before, sample.status, at, status.reason),
                "events": events,
                "events_at": events_at,
            }
        )

    def _merged(self, before: models.Condition, sample: models.Sample, fetched: Fetched) -> dict[str, Any]:
        """Return what is known by metric, as far as it depends on the situation alone (``planning.Situation``)."""
        names = self._names
        periods = {**before.periods, **fetched.periods, models.STATUS_CHECK_FAILED: sample.worker.interval}
        late = {**before.late, **fetched.late}
        return {
            "periods": _collected_only(periods, names),
            "requested_at": _collected_only({**before.requested_at, **sample.requested_at}, names),
            "expected": _known_only({**before.expected, **fetched.expected}, names),
            "late": _collected_only({name: times for name, times in late.items() if times[0]}, names),
            "spacing": _known_only({**before.spacing, **fetched.spacing}, names),
            "learned_periods": _known_only({**before.learned_periods, **fetched.learned_periods}, names),
        }


def collection_error(
    error: errors.AwsError, message: str, at: float, before: models.CollectionError | None
) -> models.CollectionError:
    """Return the error to store for a worker: ``since`` is when the same message first appeared without a break."""
    continues = before is not None and before.message == message
    since = before.since if before is not None and continues and before.since is not None else at
    return models.CollectionError(kind=error.kind, message=message, at=at, since=since)


def _updated(before: Mapping[str, Value], new: Mapping[str, Value]) -> Mapping[str, Value]:
    """Return what is known by metric. Usually all of it is new, and the workers of a batch share it."""
    return new if before.keys() <= new.keys() else {**before, **new}


def _collected_only(by_metric: Mapping[str, Value], names: frozenset[str]) -> Mapping[str, Value]:
    """Return what is known of metrics that are still collected (nearly always all of them)."""
    if by_metric.keys() <= names:
        return by_metric
    return {name: value for name, value in by_metric.items() if name in names}


def _known_only(by_metric: Mapping[str, Value | None], names: frozenset[str]) -> dict[str, Value]:
    """Return what is known of metrics that are still collected, without those whose value was cleared."""
    return {name: value for name, value in by_metric.items() if name in names and value}


def _latest(before: models.Condition, sample: models.Sample, names: frozenset[str]) -> dict[str, models.Datapoint]:
    latest = dict(_collected_only(before.latest, names))
    for name, series in (*sample.series.items(), *sample.check_series.items()):
        newest = series.points[-1] if series.points else None
        if newest is not None and (name not in latest or newest.at >= latest[name].at):
            latest[name] = newest
    return latest


def _metrics_error(
    failed: Mapping[str, errors.AwsError], at: float, before: models.CollectionError | None
) -> models.CollectionError | None:
    """Return the error of a collection in which some metrics failed; ``None`` if none did."""
    if not failed:
        return None
    error = next(iter(failed.values()))
    return collection_error(error, f"{', '.join(sorted(failed))}: {error}", at, before)
