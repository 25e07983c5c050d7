"""The canary: a message of our own that passes every part once a minute, so that a failing part is noticed.

Beat sends it to the queue of collections. A worker process publishes it on a channel of its own. The listener receives
it and enqueues an evaluation. That puts a notification into the outbox, and delivery takes it out and sends it nowhere.
Each step stores its time in Redis (``ports.Canary``). A single lost canary is normal: only several in a row count.
"""

from __future__ import annotations

import dataclasses

from workermon import models, ports

#: Stages that pass it on because a Celery message names them; delivery does so because of its notification.
STAGES = ("collect", "evaluate")

#: Canaries in a row that may get lost.
TOLERATED_LOSSES = 3

#: Seconds in which that many are lost. An older canary says nothing about the present.
PATIENCE = TOLERATED_LOSSES * models.CANARY_EVERY

#: Seconds. Beat ticks each 2 s, also when nothing is due; a standby takes over within 6.
MAX_BEAT_AGE = 15

#: Why a canary does not reach a step.
_CAUSES = {
    "published": "no worker process takes it from the queue workermon.collect in time",
    "received": "the listener does not receive it",
    "evaluated": "no worker process takes it from the queue workermon.evaluate in time",
    "accepted": "no worker process takes it from the outbox by the queue workermon.deliver",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """Whether canaries complete their round, as far as they are sent; ``reason`` is for people.

    ``round_trip`` is how long the last round took, ``age`` how long ago it ended, both in seconds; ``stuck_after`` is
    the last step that canaries reach: ``scheduled``, ``sent``, or one of ``ports.CANARY_STEPS``.
    """

    ok: bool
    reason: str
    round_trip: float | None = None
    age: float | None = None
    stuck_after: str | None = None


def judge(sent: models.Sent | None, trace: ports.Trace, *, ticked: float | None, listens: bool, at: float) -> Finding:
    """Return whether canaries complete their round; ``ticked`` is beat's last tick.

    While beat is away nothing is expected: beat's own part reports that. Nothing is expected of worker processes before
    one of them ever published a canary, nor of a listener that never led since it knows of canaries (``listens``): they
    may have a version without canaries.
    """
    last = trace.reached.get("accepted")
    trip = None if last is None else round(max(0.0, last.at - last.sent_at), 2)
    age = None if last is None else round(max(0.0, at - last.at), 1)
    if last is None:
        summary = "no round completed yet" if sent is not None and sent.times else "beat has not sent one yet"
    else:
        summary = f"round trip {trip:g} s, {age:g} s ago"

    def stuck(after: str, cause: str) -> Finding:
        before = "no round completed yet" if last is None else f"last round completed {age:g} s ago"
        return Finding(False, f"stuck after: {after} ({cause}); {before}", trip, age, after)

    if sent is None:
        return Finding(True, summary, trip, age)
    if at - sent.at > PATIENCE:
        if ticked is not None and at - ticked <= MAX_BEAT_AGE:
            return stuck("scheduled", "beat ticks, but does not send it")
        return Finding(True, f"{summary}; beat sends none", trip, age)
    if "published" in trace.reached and sent.times - trace.sent > TOLERATED_LOSSES:
        return stuck("sent", _CAUSES["published"])
    reached = "published"
    for step in ports.CANARY_STEPS[1:]:
        before = trace.reached.get(reached)
        fresh = before is not None and at - before.at <= PATIENCE
        if fresh and trace.lost.get(step, 0) > TOLERATED_LOSSES and (step != "received" or listens):
            return stuck(reached, _CAUSES[step])
        reached = step
    return Finding(True, summary, trip, age)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CanaryCheck:
    """Reads how far canaries got."""

    trace: ports.Canary
    beat_status: ports.BeatStatus
    liveness: ports.Liveness
    now: ports.Clock

    def check(self) -> Finding:
        """Return whether canaries complete their round."""
        ticked, listens = self.beat_status.last_tick(), "canary" in self.liveness.beats()
        return judge(self.beat_status.canaries(), self.trace.trace(), ticked=ticked, listens=listens, at=self.now())


# --- passing it on -----------------------------------------------------------------------------------------------


def is_canary_stage(identifier: object) -> bool:
    """Return whether a message may name that."""
    return identifier in STAGES


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CanaryRelay:
    """Passes a canary on from one queue to the next."""

    trace: ports.Canary
    beat_status: ports.BeatStatus
    outbox: ports.Outbox
    dispatcher: ports.Dispatcher
    now: ports.Clock

    def pass_on(self, stage: str) -> None:
        """Pass it on from the stage of its queue, one of ``STAGES``."""
        if stage == "collect":
            self._publish()
        else:
            self._release()

    def _publish(self) -> None:
        at, sent = self.now(), self.beat_status.canaries()
        # It began when beat sent it, unless something else sent it.
        sent_at = sent.at if sent is not None and sent.times and 0 <= at - sent.at <= models.CANARY_EVERY else at
        self.trace.publish(sent_at, at, sent.times if sent is not None else 0)

    def _release(self) -> None:
        at, received = self.now(), self.trace.trace().reached.get("received")
        if received is None:
            return  # a message that no listener enqueued
        self.outbox.release(notification(received.sent_at), at)
        self.trace.reach("evaluated", received.sent_at, at)
        self.dispatcher.deliver([models.CANARY])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CanaryReception:
    """Takes a canary from the channel, and passes it on."""

    trace: ports.Canary
    dispatcher: ports.Dispatcher
    now: ports.Clock

    def receive(self, message: str) -> bool:
        """Pass it on from the channel; ``False`` if the message is not a canary."""
        at = self.now()
        try:
            sent_at = float(message)
        except ValueError:
            return False
        if not at - models.DAY < sent_at < at + models.DAY:
            return False
        self.trace.reach("received", sent_at, at)
        self.dispatcher.canary()
        return True


def notification(sent_at: float) -> models.Notification:
    """Return a canary's notification for the outbox. It is about nothing, and no channel ever gets it."""
    set_out = models.rfc3339(sent_at)
    return models.Notification(
        id=f"canary-{set_out}",
        version=1,
        dedup_key=models.CANARY,
        kind="collector",
        status="resolved",
        severity="warning",
        rule="canary",
        metric=None,
        value=None,
        threshold=None,
        since=set_out,
        at=set_out,
        worker=None,
        summary="nothing is wrong",
    )
