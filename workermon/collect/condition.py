"""Pure: what is known of a worker after a collection, from what was known before and what the collection brought."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from workermon import errors, models
from workermon.collect.fetched import Fetched
from workermon.collect.run import Run
from workermon.rules import event, state

Value = TypeVar("Value")


def sample_of(run: Run, worker: models.Worker, status: models.InstanceStatus, fetched: Fetched) -> models.Sample:
    """Return what the collection brought of a worker."""
    sample = models.Sample(
        worker=worker,
        collected_at=run.at,
        status=status.status,
        checks=status.checks,
        asked={**fetched.asked, models.STATUS_CHECK_FAILED: run.at},
    )
    # CloudWatch's datapoints are validated already: to do it again would cost a tenth of a collection.
    checks = sample.ledger_series(run.configuration.retention)
    return sample.model_copy(update={"series": {**fetched.series, **checks}})


def after(
    run: Run, before: models.Condition, sample: models.Sample, status: models.InstanceStatus, fetched: Fetched
) -> models.Condition:
    """Return the condition of a worker after a collection."""
    names = {*run.configuration.collect, *models.CHECK_METRICS}
    expected = {name: at for name, at in before.expected.items() if name in names and name not in fetched.expected}
    expected |= {name: at for name, at in fetched.expected.items() if at is not None}
    running = sample.status == "running"
    since = before.running_since if before.status == "running" else None
    events, events_at = event.merge_listed(before, status.events, run.at)
    return models.Condition(
        status=sample.status,
        checks=sample.checks,
        impairments=status.impairments,
        slot=sample.slot,
        collected_at=run.at,
        succeeded_at=before.succeeded_at if fetched.failed else run.at,
        running_since=(run.at if since is None else since) if running else None,
        latest=_latest(before, sample, names),
        periods={
            **{name: period for name, period in before.periods.items() if name in names},
            **fetched.periods,
            models.STATUS_CHECK_FAILED: sample.worker.interval,
        },
        asked={**{name: at for name, at in before.asked.items() if name in names}, **sample.asked},
        expected=expected,
        delays={**{name: delay for name, delay in before.delays.items() if name in names}, **fetched.delays},
        late={name: late for name, late in {**before.late, **fetched.late}.items() if name in names and late[0]},
        spacing=_values_still_collected({**before.spacing, **fetched.spacing}, names),
        learned_periods=_values_still_collected({**before.learned_periods, **fetched.learned_periods}, names),
        cadence=_values_still_collected({**before.cadence, **fetched.cadence}, names),
        unseen_since=_values_still_collected({**before.unseen_since, **fetched.unseen_since}, names),
        full_at=fetched.full_at,
        last_error=_metrics_error(fetched.failures, run.at, before.last_error),
        changes=state.append_change(before, sample.status, run.at, status.reason),
        events=events,
        events_at=events_at,
    )


def collection_error(
    why: errors.AwsError, message: str, at: float, before: models.CollectionError | None
) -> models.CollectionError:
    """Return the error to keep for a worker: ``since`` is when the same message was first kept without a break."""
    continues = before is not None and before.message == message
    since = before.since if before is not None and continues and before.since is not None else at
    return models.CollectionError(kind=why.kind, message=message, at=at, since=since)


def _values_still_collected(by_metric: Mapping[str, Value | None], names: set[str]) -> dict[str, Value]:
    """Return what is known of metrics that are still collected."""
    return {name: value for name, value in by_metric.items() if name in names and value}


def _latest(before: models.Condition, sample: models.Sample, names: set[str]) -> dict[str, models.Datapoint]:
    latest = {name: point for name, point in before.latest.items() if name in names}
    for name, series in sample.series.items():
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
    why = next(iter(failed.values()))
    return collection_error(why, f"{', '.join(sorted(failed))}: {why}", at, before)
