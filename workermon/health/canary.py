"""The canary: a message of our own that goes once a minute through every part, so that the part that fails shows.

Beat sends it to the queue of collections; a worker process publishes it on a channel of its own; the listener hears it
and rings for an evaluation; that puts a parcel into the outbox; delivery takes it out, and it goes nowhere. At each
step it leaves its time in Redis (``ports.Canary``). As any message it may be lost: only several in a row tell.
"""

from __future__ import annotations

from typing import NamedTuple

from workermon import models, ports

#: Stages that pass it on because of a Celery message; delivery does so because of the parcel.
STAGES = ("collect", "evaluate")

#: Of those that beat has sent or a part has passed on, so many in a row may get lost.
LOST = 3

#: Seconds in which so many are lost. One that is that old says nothing of the present.
PATIENCE = LOST * models.CANARY_EVERY

#: Seconds. Beat looks each second, also when nothing is due; a standby takes over within 5.
BEAT = 15

#: What does not pass it on, where it does not come to a step.
_NOT = {
    "published": "no worker process takes it from the queue workermon.collect in time",
    "heard": "the listener does not hear it",
    "judged": "no worker process takes it from the queue workermon.evaluate in time",
    "accepted": "no worker process takes it from the outbox by the queue workermon.deliver",
}


class Finding(NamedTuple):
    """Whether canaries go round, as far as they are sent; ``reason`` is for people.

    ``round_trip`` is what the last one that was accepted took, ``age`` how long ago that was, both in seconds;
    ``stuck_after`` is the last step that they come to: ``scheduled``, ``sent``, or one of ``ports.CANARY_STEPS``.
    """

    ok: bool
    reason: str
    round_trip: float | None = None
    age: float | None = None
    stuck_after: str | None = None


def judge(sent: models.Sent | None, trace: ports.Trace, *, ticked: float | None, listens: bool, at: float) -> Finding:
    """Say how it goes; ``ticked`` is beat's last look, ``listens`` whether a listener that knows of canaries ever led.

    While beat is away nothing is expected, for that is beat's trouble. Neither is that worker processes publish before
    one of them ever did, or that a listener hears: those may be of a version that knows no canary.
    """
    last = trace.reached.get("accepted")
    trip = None if last is None else round(max(0.0, last.at - last.begun), 2)
    age = None if last is None else round(max(0.0, at - last.at), 1)
    if last is None:
        since = "none went round yet" if sent is not None and sent.times else "beat has not sent one yet"
    else:
        since = f"round trip {trip:g} s, {age:g} s ago"

    def stuck(after: str, why: str) -> Finding:
        told = "none went round yet" if last is None else f"the last one went round {age:g} s ago"
        return Finding(False, f"stuck after: {after} ({why}); {told}", trip, age, after)

    if sent is None:
        return Finding(True, since, trip, age)
    if at - sent.at > PATIENCE:
        if ticked is not None and at - ticked <= BEAT:
            return stuck("scheduled", "beat looks for what is due, and does not send it")
        return Finding(True, f"{since}; beat sends none", trip, age)
    if "published" in trace.reached and sent.times - trace.sent > LOST:
        return stuck("sent", _NOT["published"])
    came = "published"
    for step in ports.CANARY_STEPS[1:]:
        before = trace.reached.get(came)
        fresh = before is not None and at - before.at <= PATIENCE
        if fresh and trace.lost.get(step, 0) > LOST and (step != "heard" or listens):
            return stuck(came, _NOT[step])
        came = step
    return Finding(True, since, trip, age)


def look(*, canary: ports.Canary, schedule: ports.Schedule, pulse: ports.Pulse, now: ports.Clock) -> Finding:
    """Read how far they came, and judge it."""
    ticked, listens = schedule.last_tick(), "canary" in pulse.marks()
    return judge(schedule.canaries(), canary.trace(), ticked=ticked, listens=listens, at=now())


# --- passing it on -----------------------------------------------------------------------------------------------


def is_stage(identifier: object) -> bool:
    """Tell whether a message may name that."""
    return identifier in STAGES


def pass_on(
    stage: str,
    *,
    canary: ports.Canary,
    schedule: ports.Schedule,
    outbox: ports.Outbox,
    dispatcher: ports.Dispatcher,
    now: ports.Clock,
) -> None:
    """Pass it on from the stage whose queue it was in."""
    if stage == "collect":
        _publish(canary, schedule, now())
    else:
        _release(canary, outbox, dispatcher, now())


def hear(message: str, *, canary: ports.Canary, dispatcher: ports.Dispatcher, now: ports.Clock) -> bool:
    """Pass it on from the channel; ``False`` where that is not a canary."""
    at = now()
    try:
        begun = float(message)
    except ValueError:
        return False
    if not at - models.DAY < begun < at + models.DAY:
        return False
    canary.reach("heard", begun, at)
    dispatcher.canary()
    return True


def _publish(canary: ports.Canary, schedule: ports.Schedule, at: float) -> None:
    sent = schedule.canaries()
    # It set out when beat sent it, unless somebody else did.
    begun = sent.at if sent is not None and sent.times and 0 <= at - sent.at <= models.CANARY_EVERY else at
    canary.publish(begun, at, sent.times if sent is not None else 0)


def _release(canary: ports.Canary, outbox: ports.Outbox, dispatcher: ports.Dispatcher, at: float) -> None:
    heard = canary.trace().reached.get("heard")
    if heard is None:
        return  # a message that nobody heard before
    outbox.release(parcel(heard.begun), at)
    canary.reach("judged", heard.begun, at)
    dispatcher.deliver([models.CANARY])


def parcel(begun: float) -> models.Notification:
    """Return what goes into the outbox; it is a notification of nothing, and no channel ever has it."""
    set_out = models.rfc3339(begun)
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
