"""Pure: which silence mutes an alert now, and which silences may be requested."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workermon import errors, models
from workermon.alerts import maintenance


def muting(
    silences: Iterable[models.Silence], alert_id: str, worker: models.Worker | models.NotifiedWorker | None, now: float
) -> models.Silence | None:
    """Return the silence that mutes an alert (its ``dedup_key``) at a time; ``None`` if none does.

    If several do, it is the one that ends last. A silence mutes the alerts that match everything it names. ``worker``
    is ``None`` for an alert of an account, a channel or a group. A silence that names a worker does not mute such an
    alert; one that names a label does only if it is the group's label.
    """
    matching = [
        candidate
        for candidate in silences
        if candidate.begins <= now < candidate.ends and _covers(candidate, alert_id, worker)
    ]
    return max(matching, key=lambda silence: (silence.ends, silence.id), default=None)


def _covers(silence: models.Silence, alert_id: str, worker: models.Worker | models.NotifiedWorker | None) -> bool:
    subject_id, rule = models.alert_parts(alert_id)
    if silence.rule not in (None, rule) or silence.alert not in (None, alert_id):
        return False
    if worker is None:
        group = models.group_of(subject_id)
        return silence.worker is None and silence.labels.items() <= ({group} if group else set())
    return _names_worker(silence.worker, worker) and all(
        worker.labels.get(key) == value for key, value in silence.labels.items()
    )


def _names_worker(name: str | None, worker: models.Worker | models.NotifiedWorker) -> bool:
    """Return whether a silence's worker is this one: an id means that instance, a name any worker with that name."""
    if name is None:
        return True
    return name == (worker.id if models.INSTANCE_ID.fullmatch(name) else worker.name)


def in_force(
    silences: Iterable[models.Silence], windows: Sequence[models.Maintenance], now: float
) -> list[models.Silence]:
    """Return the silences made by commands (past ones included), and those of the config file that are open now."""
    return [*silences, *(silence for window in windows if (silence := maintenance.silence(window, now)) is not None)]


def create(silence_id: str, request: models.SilenceRequest, now: float) -> models.Silence:
    """Return a silence that begins now.

    Raises ``errors.InvalidInput`` for one that would silence everything, has already ended, has no end or ends too
    late.
    """
    if request.worker is None and request.rule is None and request.alert is None and not request.labels:
        raise errors.InvalidInput("silence", "would silence everything", "name a worker, a label, a rule or an alert")
    if request.ends is None:
        raise errors.InvalidInput("silence", "has no end", "add --for 2h, or --until a time")
    if request.ends <= now:
        reason = f"would have ended at {models.rfc3339(request.ends)}"
        raise errors.InvalidInput("silence", reason, "give a time in the future")
    if request.ends - now > models.MAX_SILENCE:
        raise errors.InvalidInput("silence", "is longer than 365 days", "choose a shorter one, or change the rule")
    return models.Silence(
        id=silence_id,
        worker=request.worker,
        labels=dict(request.labels),
        rule=request.rule,
        alert=request.alert,
        begins=now,
        ends=request.ends,
        reason=request.reason,
        by=request.by,
    )
