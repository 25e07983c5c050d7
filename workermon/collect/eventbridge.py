"""Pure: parses messages of the event queue. AWS' field names stay in this module.

It understands EC2's state changes, Spot interruption warnings, rebalance recommendations, and events of AWS Health
about EC2 (the EventBridge reference of Amazon EC2 and AWS Health). Everything else is ignored.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from workermon import errors, models

#: Seconds from the warning of an interruption to the interruption (the EC2 user guide).
INTERRUPTED_AFTER = 120
#: Seconds since 1970: the times that an event may have, so that whatever is added to one can still be written.
TIMES = range(models.DAY * 365 * 1000)
#: Seconds after which a warning expires: the instance was interrupted by then. A recommendation has no end of its own.
OVER_AFTER = {"spot-interruption": INTERRUPTED_AFTER + 600, "rebalance-recommendation": models.DAY}

STATE_CHANGE = "EC2 Instance State-change Notification"
INTERRUPTION = "EC2 Spot Instance Interruption Warning"
REBALANCE = "EC2 Instance Rebalance Recommendation"
HEALTH = "AWS Health Event"

_RESOURCE = re.compile(r"arn:aws[a-z-]*:ec2:[a-z0-9-]*:\d*:instance/(i-[0-9a-f]+)")
_MAX_ID_LENGTH = 128


class Invalid(ValueError):
    """A message is not an EventBridge event, and never will be."""


def parse(body: str) -> models.QueueEvent | None:
    """Parse a message; ``None`` if it is about something else. Raises ``Invalid`` if it is not an event."""
    try:
        return _read(body)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        # Whatever else was raised, the message would come again and raise it again, with all that came beside it.
        raise Invalid(f"{type(error).__name__}: {error}"[:200]) from None


def _read(body: str) -> models.QueueEvent | None:
    message = json.loads(body)
    source, kind, detail = message["source"], message["detail-type"], message["detail"]
    at = models.moment(message["time"])
    if not (isinstance(source, str) and isinstance(kind, str) and isinstance(detail, dict)):
        raise Invalid("source, detail-type or detail is of another type")
    if int(at) not in TIMES:
        raise Invalid("its time is out of range")
    identity = _identity(message, body)
    if source == models.OWN_SOURCE:
        return models.QueueEvent(id=identity, at=at, test=_sent(detail, at))
    instances = tuple(dict.fromkeys(_instances(message, detail)))
    if source == "aws.ec2" and kind == STATE_CHANGE:
        starts = detail.get("state") in ("pending", "running")
        return models.QueueEvent(id=identity, at=at, instances=instances, starts=starts)
    if source == "aws.ec2" and kind in (INTERRUPTION, REBALANCE):
        return models.QueueEvent(
            id=identity, at=at, instances=instances, warning=_warning(identity, kind, detail, int(at))
        )
    if source == "aws.health" and kind == HEALTH and detail.get("service") == "EC2":
        return models.QueueEvent(id=identity, at=at, instances=instances)
    return None


def _sent(detail: Mapping[str, Any], at: float) -> float:
    """Return when ``doctor`` sent an event, ``at`` if it does not say so."""
    sent = detail.get("sent", at)
    if int(sent) not in TIMES:
        raise Invalid("the time at which it was sent is out of range")
    return float(sent)


def _identity(message: Mapping[str, Any], body: str) -> str:
    """Return EventBridge's id of an event; without one, its contents."""
    message_id = message.get("id")
    if (
        isinstance(message_id, str)
        and message_id
        and len(message_id) <= _MAX_ID_LENGTH
        and errors.printable(message_id) == message_id
    ):
        return message_id
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _instances(message: Mapping[str, Any], detail: Mapping[str, Any]) -> Iterator[str]:
    """Yield every instance that an event names."""
    instance_ids: list[object] = [detail.get("instance-id")]
    affected = detail.get("affectedEntities")
    instance_ids += (
        [entity.get("entityValue") for entity in affected if isinstance(entity, dict)]
        if isinstance(affected, list)
        else []
    )
    resources = message.get("resources")
    instance_ids += resources if isinstance(resources, list) else []
    for name in instance_ids:
        if not isinstance(name, str):
            continue
        arn = _RESOURCE.fullmatch(name)
        instance_id = arn[1] if arn else name
        if models.INSTANCE_ID.fullmatch(instance_id):
            yield instance_id


def _warning(identity: str, kind: str, detail: Mapping[str, Any], at: int) -> models.ScheduledEvent:
    if kind == INTERRUPTION:
        action = detail.get("instance-action")
        effect = action if action in ("terminate", "stop", "hibernate") else "interrupt"
        code, begin, words = "spot-interruption", at + INTERRUPTED_AFTER, f"EC2 will {effect} the Spot instance"
    else:
        code, begin = "rebalance-recommendation", at
        words = "the Spot instance is at an elevated risk of interruption"
    return models.ScheduledEvent(
        id=identity,
        code=code,
        description=words,
        not_before=begin,
        not_after=at + OVER_AFTER[code],
        seen_at=float(at),
        by_queue=True,
    )
