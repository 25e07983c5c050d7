"""Handles the messages of the channel: gathers the workers that they name, and enqueues them."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Final

import pydantic
from pydantic_core import SchemaValidator, core_schema

from workermon import failpoints, health, logs, models, ports

log = logs.get(__name__)

#: Seconds. Events arrive by the hundred. After the first one the process sleeps this long, and then reads all of them:
#: waking up for each would cost far more than reading it.
GATHERED: Final = 0.1
#: At most so many workers are looked up together, and the first one waits at most so many seconds. In a healthy fleet
#: few of them are to be evaluated, and one message has room for those of several collections.
BATCH: Final = 1000
MAX_GATHERED: Final = 0.3
#: Seconds to wait for an event at most; the next sweep comes no later. Each wait wakes the process.
IDLE: Final = 2.0
#: Bytes. Our events have about one KiB.
MAX_EVENT_SIZE: Final = 64 * 1024
#: The beginning of our own events. Of them only the worker's id is used and checked: an evaluation reads the rest from
#: the ledger. For others each fault has its own name.
OWN_BEGIN: Final = '{"schema":1,"event":"worker.metrics.collected",'
_WORKER_ID: Final = SchemaValidator(
    core_schema.typed_dict_schema(
        {
            "worker_id": core_schema.typed_dict_field(
                core_schema.str_schema(pattern=f"^(?:{models.INSTANCE_ID.pattern})$")
            )
        },
        extra_behavior="ignore",
    )
)
#: Seconds between two log lines about the same fault of events.
LOG_INTERVAL: Final = 10.0


class InvalidEvent(Exception):
    """An event cannot be used. Its message is the reason in a word or two, for counting."""


def worker_of(message: str) -> str:
    """Return the id of the worker that an event is about. Raises ``InvalidEvent`` with the reason."""
    if len(message) > MAX_EVENT_SIZE or len(message.encode("utf-8", "surrogatepass")) > MAX_EVENT_SIZE:
        raise InvalidEvent("too_large")
    if message.startswith(OWN_BEGIN):
        with contextlib.suppress(pydantic.ValidationError, UnicodeEncodeError):
            named: dict[str, str] = _WORKER_ID.validate_json(message)
            return named["worker_id"]
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):
        raise InvalidEvent("not_json") from None
    if not isinstance(event, dict):
        raise InvalidEvent("not_an_object")
    if type(event.get("schema")) is not int or event["schema"] != 1:
        raise InvalidEvent("unknown_schema")
    if event.get("event") != "worker.metrics.collected":
        raise InvalidEvent("unknown_event")
    try:
        return models.Event.model_validate(event).worker_id
    except pydantic.ValidationError:
        raise InvalidEvent("wrong_fields") from None


class Subscription:
    """Handles the messages of the channel; times are of a monotonic clock."""

    def __init__(self, *, dispatcher: ports.Dispatcher, canary: health.CanaryReception, samples: ports.Samples) -> None:
        self._dispatcher, self._canary, self._samples = dispatcher, canary, samples
        self._gathered: dict[str, None] = {}
        self._gathering_since = 0.0
        self._has_read_all = True
        self._invalid: Counter[str] = Counter()
        self._logged: dict[str, float] = {}
        #: When each worker's last event arrived.
        self.received_at: dict[str, float] = {}

    def forget(self) -> None:
        """Drop what arrived before this process became active."""
        self._gathered.clear()
        self._has_read_all = True
        self.received_at.clear()

    def timeout(self) -> float:
        """Return how many seconds to wait for the next message."""
        return IDLE if self._has_read_all else 0.0

    def handle(self, message: str | None, at: float, wait: Callable[[float], object]) -> bool:
        """Handle an event, or ``None`` when all have been read. ``wait`` takes seconds.

        Return whether it is time to do what is due: not while there are more events of this moment.
        """
        if message is None:
            self.enqueue_all()
            return True
        self.receive(message, at)
        self.wait_for_others(wait)
        return self.enqueue_if_due(at)

    def wait_for_others(self, wait: Callable[[float], object]) -> None:
        """After the first message, wait for those that arrive with it; ``wait`` takes seconds."""
        if self._has_read_all:
            self._has_read_all = False
            wait(GATHERED)

    def receive(self, message: str, at: float) -> None:
        """Handle an event. One that cannot be used is counted."""
        try:
            worker_id = worker_of(message)
        except InvalidEvent as error:
            self._refuse(message, str(error), at)
            return
        if not self._gathered:
            self._gathering_since = at
        self._gathered[worker_id] = None
        self.received_at[worker_id] = at
        failpoints.reach("listener.received")

    def receive_canary(self, message: str, at: float) -> None:
        """Handle a message of the canary's channel."""
        if not self._canary.receive(message):
            self._refuse(message, "no_canary", at)

    def enqueue_if_due(self, at: float) -> bool:
        """Enqueue an evaluation once enough workers are gathered, or the first has waited long enough.

        Return whether that is so, also if no worker is gathered.
        """
        is_due = len(self._gathered) >= BATCH or at - self._gathering_since >= MAX_GATHERED
        if is_due:
            self.enqueue()
        return is_due

    def enqueue_all(self) -> None:
        """Enqueue an evaluation of all gathered workers: every message was read."""
        self._has_read_all = True
        self.enqueue()

    def enqueue(self) -> None:
        """Enqueue an evaluation of the gathered workers that are pending. Others may wait, or are done."""
        if self._gathered:
            self._dispatcher.evaluate(self._samples.marked(list(self._gathered)))
            failpoints.reach("listener.enqueued")
            self._gathered.clear()

    def take_invalid(self) -> dict[str, int]:
        """Return how many events could not be used since the last call, by reason."""
        counts = dict(self._invalid)
        self._invalid.clear()
        return counts

    def _refuse(self, message: str, reason: str, at: float) -> None:
        self._invalid[reason] += 1
        if at - self._logged.get(reason, float("-inf")) >= LOG_INTERVAL:
            self._logged[reason] = at
            log.warning("event.invalid", reason=reason, number=self._invalid[reason], begins=message[:80])
