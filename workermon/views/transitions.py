"""The recorded transitions of an alert, and what all explanations show about one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workermon import errors, models
from workermon.alerts.silences import muting
from workermon.alerts.subject import Subject
from workermon.views.document import Document, Time


class Point(Document):
    """A datapoint."""

    at: Time
    value: float


class Delivery(Document):
    """One attempt to deliver; ``error`` is null if the channel accepted it, ``host`` is the machine that sent it."""

    channel: str
    at: Time
    error: str | None
    host: str | None


class RecordedTransition(Document):
    """A recorded transition, with the reason recorded then; ``before`` and ``after`` are a severity or ``ok``.

    ``correction``: only the past changed. ``flapping``: nobody was notified, because the alert was flapping.
    ``notified``: a notification was made; ``notification`` is its id.
    """

    at: Time
    before: str
    after: str
    reason: str
    value: float | None
    threshold: float | None
    count: str | None
    points: tuple[Point, ...]
    correction: bool
    flapping: bool
    notified: bool
    silenced_by: str | None
    inhibited_by: str | None
    notification: str | None
    deliveries: tuple[Delivery, ...]


class ActiveSilence(Document):
    """A silence that applies to an alert."""

    id: str
    ends: Time
    reason: str
    by: str


class CollectionFailure(Document):
    """Why the newest collection failed; ``kind`` is an ``AwsError.kind``."""

    kind: str
    message: str


def failure(error: models.CollectionError | None) -> CollectionFailure | None:
    """Return why the newest collection failed, with its text made printable."""
    return None if error is None else CollectionFailure(kind=error.kind, message=errors.printable(error.message))


def active(in_force: Sequence[models.Silence], subject: Subject, rule: str, at: float) -> tuple[ActiveSilence, ...]:
    """Return the silences that mute the alert of a rule about a subject."""
    return tuple(
        ActiveSilence(id=silence.id, ends=silence.ends, reason=silence.reason, by=silence.by)
        for silence in in_force
        if muting([silence], subject.alert_id(rule), subject.worker, at)
    )


def recorded_transitions(entries: Iterable[models.HistoryEntry]) -> tuple[RecordedTransition, ...]:
    """Return the recorded transitions, newest first, each with the attempts to deliver its notification."""
    return tuple(_recorded_transition(entry.transition, entry) for entry in entries)


def _recorded_transition(transition: models.Transition, entry: models.HistoryEntry) -> RecordedTransition:
    muted = transition.muted
    return RecordedTransition(
        at=transition.at,
        before=transition.before or "ok",
        after=transition.after or "ok",
        reason=transition.reason,
        value=transition.value,
        threshold=transition.threshold,
        count=transition.count,
        points=tuple(Point(at=at, value=value) for at, value in transition.points),
        correction=transition.correction,
        flapping=transition.flapping,
        notified=entry.notification is not None and not muted,
        silenced_by=transition.silenced_by,
        inhibited_by=transition.inhibited_by,
        notification=None if entry.notification is None else entry.notification.id,
        # The notification at the end of a silence has the id of the silenced transition, so its attempts are shown
        # there. The same is true for a rule that inhibited it.
        deliveries=()
        if muted
        else tuple(
            Delivery(
                channel=attempt.channel,
                at=attempt.at,
                error=None if attempt.error is None else errors.printable(attempt.error),
                host=attempt.host,
            )
            for attempt in entry.attempts
        ),
    )
