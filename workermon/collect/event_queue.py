"""The event queue: the workers that it names are collected at once, and its warnings are stored.

A message may be lost, late, duplicated or wrong without harm: the next collection finds everything it reports. The
exceptions are the two warnings about Spot instances. They are written before their message is deleted.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import threading
from collections.abc import Iterable, Sequence

from workermon import errors, failpoints, logs, models, ports
from workermon.collect import eventbridge

log = logs.get(__name__)

#: Seconds that SQS holds a request open if there is no message.
WAIT = 20
#: Seconds. How often a queue that is read counts as collected. The alert about it fires after three of them.
INTERVAL = 20
#: Seconds between two reconciliations triggered by instances that are not monitored.
RECONCILED_EVERY = 10.0
#: Remembered ids of events.
MAX_SEEN_EVENTS = 20_000


class SeenEvents:
    """The ids of the newest ``MAX_SEEN_EVENTS`` events that this process has handled. Thread-safe.

    It also knows whether an instance asks for a reconciliation, and when the last one was requested.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._reconciled = float("-inf")
        self._wants_reconciliation = False

    def is_new(self, event_id: str) -> bool:
        """Return whether this process has not yet handled an event."""
        with self._lock:
            return event_id not in self._ids

    def add(self, event_ids: Iterable[str]) -> None:
        """Remember them."""
        with self._lock:
            self._ids.update(dict.fromkeys(event_ids))
            while len(self._ids) > MAX_SEEN_EVENTS:
                self._ids.popitem(last=False)

    def want_reconciliation(self, is_wanted: bool) -> None:
        """Note that an instance asks for a reconciliation, or that none is needed any more."""
        with self._lock:
            self._wants_reconciliation = is_wanted

    def is_reconciliation_due(self, at: float) -> bool:
        """Return whether one is asked for and the last is long enough ago; if so, it counts as done now."""
        with self._lock:
            if not self._wants_reconciliation or 0 <= at - self._reconciled < RECONCILED_EVERY:
                return False
            self._wants_reconciliation, self._reconciled = False, at
            return True

    def until_reconciliation(self, at: float, wait: int) -> int:
        """Return how many seconds to wait for messages: ``wait``, or less if a reconciliation is due before."""
        with self._lock:
            if not self._wants_reconciliation:
                return wait
            return min(wait, math.ceil(max(0.0, self._reconciled + RECONCILED_EVERY - at)))


class _Read:
    """The messages of one answer: ``events`` by id, all ``receipts``, and the number of each outcome."""

    def __init__(self) -> None:
        self.events: dict[str, models.QueueEvent] = {}
        self.receipts: list[str] = []
        self.counts: collections.Counter[str] = collections.Counter()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QueueReading:
    """The stage that reads an event queue."""

    queues: ports.EventQueues
    workers: ports.Workers
    dispatcher: ports.Dispatcher
    configurations: ports.Configurations
    accounts: ports.Accounts
    liveness: ports.Liveness
    secrets: ports.Secrets
    seen_events: SeenEvents
    now: ports.Clock

    def read(self, name: str, *, region: str | None = None, wait: int = WAIT) -> int | None:
        """Wait for messages of a queue and handle them; return how many there were.

        ``region`` is for an address that names none. ``None``: the queue is no longer configured, or cannot be read.
        The latter is recorded for the alert about it.
        """
        configuration = self.configurations.load()
        queue = configuration.event_queues.get(name)
        if queue is None:
            return None
        key = models.queue_key(name, queue.region or region or "unknown")
        try:
            scope = _scope(name, queue, configuration, self.secrets, region)
            wait = self.seen_events.until_reconciliation(self.now(), wait)
            messages = self.queues.receive(scope, queue.queue_url, wait)
            self._handle(name, messages)
            self.queues.delete(scope, queue.queue_url, [message.receipt for message in messages])
        except errors.RedisUnavailable:
            raise
        except errors.WorkermonError as raised:
            aws_error = errors.of_aws(raised)
            log.warning("event_queue.failed", queue=name, reason=str(aws_error))
            self.accounts.note(
                key,
                self.now(),
                INTERVAL,
                models.CollectionError(kind=aws_error.kind, message=str(aws_error), at=self.now()),
            )
            return None
        self.accounts.note(key, self.now(), INTERVAL, None)
        self.liveness.beat(f"events:{name}", self.now())
        return len(messages)

    def _handle(self, name: str, messages: Sequence[ports.QueueMessage]) -> None:
        """Handle messages. Handling one twice does no harm."""
        read = self._parsed(name, messages)
        named_ids = list(dict.fromkeys(worker_id for event in read.events.values() for worker_id in event.instances))
        monitored = self.workers.monitored(named_ids)
        warned = self._warn(read.events.values(), monitored)
        requested = [worker_id for worker_id in named_ids if worker_id in monitored]
        self.workers.request_collection(requested, self.now())
        self.dispatcher.evaluate(warned)
        self.dispatcher.collect(requested)
        failpoints.reach("queue.enqueued")
        self._reconcile(read.events.values(), monitored)
        for event in read.events.values():
            if event.test is not None:
                self.liveness.beat(f"events:{name}:test", event.test)
        read.counts["requested"] += len(requested)
        read.counts["warned"] += len(warned)
        read.counts["unknown"] += len(named_ids) - len(requested)
        for outcome, number in read.counts.items():
            if number:
                self.liveness.count(f"events.{name}.{outcome}", number)
        self.seen_events.add(read.events)

    def _parsed(self, name: str, messages: Sequence[ports.QueueMessage]) -> _Read:
        read = _Read()
        for message in messages:
            read.counts["messages"] += 1
            try:
                event = eventbridge.parse(message.body)
            except eventbridge.Invalid as error:
                # SQS would deliver it again and again.
                log.warning("event_queue.invalid", queue=name, reason=errors.printable(str(error)))
                read.counts["invalid"] += 1
                continue
            if event is None:
                read.counts["ignored"] += 1
            elif event.id in read.events or not self.seen_events.is_new(event.id):
                read.counts["repeated"] += 1
            else:
                read.events[event.id] = event
        return read

    def _warn(self, events: Iterable[models.QueueEvent], monitored: set[str]) -> list[str]:
        """Store the warnings about instances. Return the instances for which a warning is new."""
        warned: dict[str, None] = {}
        for event in events:
            if event.warning is None:
                continue
            for worker_id in monitored.intersection(event.instances):
                if self.workers.warn(worker_id, event.warning, self.now()):
                    failpoints.reach("queue.warned")
                    warned[worker_id] = None
        return list(warned)

    def _reconcile(self, events: Iterable[models.QueueEvent], monitored: set[str]) -> None:
        """Make ``[discover]`` look for instances that started and are not monitored.

        If others start soon after, it looks again ``RECONCILED_EVERY`` seconds later.
        """
        if self.configurations.load().discover is None:
            self.seen_events.want_reconciliation(False)
            return
        if any(event.starts and not monitored.issuperset(event.instances) for event in events):
            self.seen_events.want_reconciliation(True)
        if self.seen_events.is_reconciliation_due(self.now()):
            self.dispatcher.reconcile()


def _scope(
    name: str, queue: models.EventQueue, configuration: models.Configuration, secrets: ports.Secrets, region: str | None
) -> models.AccountRegion:
    region_name = queue.region or region
    if region_name is None:
        raise errors.AwsError(
            f"event queue {name}", "its address names no region, and none is configured", "set AWS_REGION"
        )
    return configuration.account_region(region_name, queue.account, secrets)
