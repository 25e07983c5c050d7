"""The listener: hears the channel of samples and has the workers judged that are named there.

Every node may carry it (those with ``-Q workermon.collect`` alone do not); one of them leads, by a lease, and another
takes over within 5 s of its death. The channel may lose events, so each few seconds a sweep looks in Redis for what no
event announced: samples that nobody judged, notifications that wait, workers whose collection is overdue. The sweep is
here and not in beat, so that it outlives beat.

It is a thread of a node with threads, of a solo or a green one; beside forks it is a process of its own, for a fork
copies the locks that a thread holds: ``python -m workermon.pipeline.listener``.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import pydantic
from celery import bootsteps
from celery.concurrency import prefork
from dishka import Container
from dishka.integrations.celery import CONTAINER_NAME

from workermon import errors, failpoints, logs, models, ports, runtime, settings
from workermon.evaluate import silence_expiry
from workermon.health import canary as chirping
from workermon.health import heartbeat
from workermon.on_celery import dispatcher
from workermon.on_celery.app import app

log = logs.get(__name__)

LEASE_NAME: Final = "listener"
#: Seconds. Another takes over that long after the last renewal, at most a second later.
LEASE: Final = 3.0
RENEWED: Final = 1.0
#: Seconds between two sweeps.
SWEPT: Final = 2.0
#: Seconds. What was written that long ago and is not judged was not announced, or its judge died.
PENDING: Final = 3.0
#: Seconds. What a sweep rang for it leaves alone that long, so that rings do not pile up where evaluators are behind.
RUNG: Final = 5.0
#: Seconds and identifiers. What arrives together is judged together.
GATHERED: Final = 0.2
BATCH: Final = 100
#: Seconds between two looks around while no event comes and none waits to be judged; each look wakes the process.
QUIET: Final = 0.5
#: Identifiers found by one sweep.
FOUND: Final = 2000
#: Seconds. The whole fleet is looked over once in that time for overdue collections.
ROUND: Final = 30.0
#: Seconds. How often the fleet is kept in step with EC2 and its tags; beginning later than one's lead, for 'up' does
#: it at its start.
RECONCILED: Final = 300.0
#: Seconds. How often the dead-man's switch is requested.
BEATEN: Final = 15.0
#: Intervals without a success after which time alone may decide about a worker.
OVERDUE: Final = 1.5
#: Bytes. Our events have about one KiB.
LARGEST: Final = 64 * 1024
#: Seconds between two log lines about the same fault of events.
LOGGED: Final = 10.0
#: Seconds, as it grows, before Redis is tried again.
PATIENCE: Final = (0.2, 0.5, 1.0, 2.0)


class Invalid(Exception):
    """An event cannot be used; its message is the reason in a word or two, for counting."""


def named(message: str) -> str:
    """Return the worker that an event is about; raises ``Invalid`` with the reason."""
    if len(message) > LARGEST or len(message.encode("utf-8", "surrogatepass")) > LARGEST:
        raise Invalid("too_large")
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):
        raise Invalid("not_json") from None
    if not isinstance(event, dict):
        raise Invalid("not_an_object")
    if type(event.get("schema")) is not int or event["schema"] != 1:
        raise Invalid("unknown_schema")
    if event.get("event") != "worker.metrics.collected":
        raise Invalid("unknown_event")
    try:
        return models.Event.model_validate(event).worker_id
    except pydantic.ValidationError:
        raise Invalid("wrong_fields") from None


class Relay:
    """Who listens, leads and sweeps, until it is told to stop; it has no thread of its own."""

    def __init__(
        self,
        *,
        feed: ports.Feed,
        samples: ports.Samples,
        outbox: ports.Outbox,
        workers: ports.Workers,
        dispatcher: ports.Dispatcher,
        pulse: ports.Pulse,
        leases: ports.Leases,
        now: ports.Clock,
        reconcile: Callable[[], None] = lambda: None,
        beat: Callable[[], None] = lambda: None,
        canary: ports.Canary | None = None,
        unmute: Callable[[], None] = lambda: None,
    ) -> None:
        self._feed, self._samples, self._outbox, self._workers = feed, samples, outbox, workers
        self._bell, self._pulse, self._leases, self._now = dispatcher, pulse, leases, now
        self._reconcile, self._beat, self._canary = reconcile, beat, canary
        self._unmute = unmute
        self._owner = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._heard: dict[str, None] = {}
        self._heard_first = 0.0
        self._rung: dict[str, float] = {}
        self._invalid: Counter[str] = Counter()
        self._logged: dict[str, float] = {}
        self._last_heard: dict[str, float] = {}
        self._intervals: dict[str, int] = {}
        self._fleet: Iterator[str] = iter(())
        self._share = 0

    @classmethod
    def of(cls, container: Container) -> Relay:
        """Make one with a container's ports."""
        get: Any = container.get
        return cls(
            feed=get(ports.Feed),
            samples=get(ports.Samples),
            outbox=get(ports.Outbox),
            workers=get(ports.Workers),
            dispatcher=get(ports.Dispatcher),
            pulse=get(ports.Pulse),
            leases=get(ports.Leases),
            now=get(ports.Clock),
            reconcile=dispatcher.CeleryDispatcher(app).reconcile,
            beat=_heart(container),
            canary=get(ports.Canary),
            unmute=_muting(container),
        )

    def run(self, stop: threading.Event) -> None:
        """Lead whenever nobody else does, until ``stop``; whatever fails is tried again."""
        failures = 0
        while not stop.is_set():
            try:
                if self._leases.hold(LEASE_NAME, self._owner, LEASE):
                    log.info("listener.leads")
                    self._lead(stop)
                failures = 0
                pause = RENEWED
            except Exception as why:
                # It must not die: nobody else would judge. Most often Redis is away for a while.
                pause = PATIENCE[min(failures, len(PATIENCE) - 1)]
                failures += 1
                expected = isinstance(why, errors.WorkermonError)
                log.warning("listener.failed", reason=str(why) or repr(why), again_in=pause, exc_info=not expected)
            stop.wait(pause)
        try:
            self._leases.release(LEASE_NAME, self._owner)
        except errors.WorkermonError as why:
            log.warning("listener.lease_left", reason=str(why))

    def _lead(self, stop: threading.Event) -> None:
        self._heard.clear()
        self._last_heard.clear()
        self._rung.clear()
        renewed = reconciled = beaten = time.monotonic()
        swept = float("-inf")
        canary = None if self._canary is None else self._hear_canary
        for message in self._feed.listen(alerts=False, timeout=self._quiet, canary=canary):
            at = time.monotonic()
            if message is not None:
                self._hear(message, at)
            if stop.is_set():
                self._ring_heard()
                return
            if self._heard and (len(self._heard) >= BATCH or at - self._heard_first >= GATHERED):
                self._ring_heard()
            if at - renewed >= RENEWED:
                if not self._leases.hold(LEASE_NAME, self._owner, LEASE):
                    log.warning("listener.lost_lease")
                    return
                renewed = at
            # The first time as soon as the subscription stands: from then on nothing is missed.
            if at - swept >= SWEPT:
                if canary is not None and math.isinf(swept):
                    self._pulse.mark("canary", self._now())
                self._sweep()
                swept = at
            if at - reconciled >= RECONCILED:
                self._reconcile()
                reconciled = at
            if at - beaten >= BEATEN:
                self._beat()
                beaten = at

    def _quiet(self) -> float:
        return GATHERED / 2 if self._heard else QUIET

    # --- events --------------------------------------------------------------------------------------------------

    def _hear(self, message: str, at: float) -> None:
        try:
            worker_id = named(message)
        except Invalid as why:
            self._refuse(message, str(why), at)
            return
        if not self._heard:
            self._heard_first = at
        self._heard[worker_id] = None
        self._last_heard[worker_id] = at
        failpoints.reach("listener.heard")

    def _refuse(self, message: str, why: str, at: float) -> None:
        self._invalid[why] += 1
        if at - self._logged.get(why, float("-inf")) >= LOGGED:
            self._logged[why] = at
            log.warning("event.invalid", reason=why, number=self._invalid[why], begins=message[:80])

    def _hear_canary(self, message: str) -> None:
        assert self._canary is not None
        if not chirping.hear(message, canary=self._canary, dispatcher=self._bell, now=self._now):
            self._refuse(message, "no_canary", time.monotonic())

    def _ring_heard(self) -> None:
        if self._heard:
            heard = list(self._heard)
            self._bell.evaluate(heard)
            failpoints.reach("listener.rung")
            self._heard.clear()

    # --- the sweep -----------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        at, now = time.monotonic(), self._now()
        self._unmute()
        self._rung = {identifier: when for identifier, when in self._rung.items() if at - when < RUNG}
        pending = self._unrung(self._samples.pending(now - PENDING, FOUND))
        overdue = self._unrung(self._overdue(now))
        self._bell.evaluate(list(dict.fromkeys([*pending, *overdue])))
        undelivered = self._unrung(self._outbox.due(now, FOUND))
        if undelivered:
            failpoints.reach("listener.found")
        self._bell.deliver(undelivered)
        self._rung.update(dict.fromkeys([*pending, *overdue, *undelivered], at))
        if pending:
            log.debug("listener.unannounced", workers=len(pending))
        for reason, number in self._invalid.items():
            self._pulse.count(f"event.invalid.{reason}", number)
        self._invalid.clear()
        self._pulse.mark(LEASE_NAME, now)

    def _unrung(self, identifiers: Sequence[str]) -> list[str]:
        return [identifier for identifier in identifiers if identifier not in self._rung]

    def _overdue(self, now: float) -> list[str]:
        """Look at a part of the fleet; return those that time alone brings nearer to 'no data'."""
        part = self._part()
        self._intervals.update((record.worker.id, record.worker.interval) for record in part)
        return [
            record.worker.id
            for record in part
            if record.worker.monitoring == "active"
            and now - max(record.condition.succeeded_at or 0.0, record.worker.added_at)
            > OVERDUE * record.worker.interval
        ]

    def _part(self) -> list[ports.Record]:
        # The share that makes a round in time; a fleet of some hundreds is looked over each time.
        ids = list(itertools.islice(self._fleet, self._share))
        if len(ids) < self._share or not self._share:
            fleet = self._workers.ids()
            self._fleet = iter(fleet)
            self._share = max(500, int(len(fleet) * SWEPT / ROUND) + 1)
            for known in (self._last_heard, self._intervals):
                for gone in known.keys() - set(fleet):
                    del known[gone]
        # Who was just heard of was judged for it; reading the others alone makes a healthy fleet cost next to nothing.
        at = time.monotonic()
        silent = [one for one in ids if at - self._last_heard.get(one, -math.inf) > self._patience(one)]
        return list(self._workers.get(silent).values())

    def _patience(self, worker_id: str) -> float:
        return OVERDUE * self._intervals.get(worker_id, 0)


def _muting(container: Container) -> Callable[[], None]:
    """Return what looks whether a silence has ended."""
    get: Any = container.get
    return silence_expiry.Watch(
        alerts=get(ports.Alerts),
        samples=get(ports.Samples),
        workers=get(ports.Workers),
        silences=get(ports.Silences),
        configurations=get(ports.Configurations),
        dispatcher=get(ports.Dispatcher),
        now=get(ports.Clock),
    ).look


def _heart(container: Container) -> Callable[[], None]:
    """Return what beats for the dead-man's switch; nothing does where none is configured."""
    get: Any = container.get
    url = get(settings.Settings).heartbeat_url
    if url is None:
        return lambda: None
    parts = {
        "workers": get(ports.Workers),
        "samples": get(ports.Samples),
        "outbox": get(ports.Outbox),
        "schedule": get(ports.Schedule),
        "pulse": get(ports.Pulse),
        "canary": get(ports.Canary),
        "now": get(ports.Clock),
    }
    return heartbeat.Heart(url.get_secret_value(), lambda: heartbeat.withheld(**parts))


# --- beside Celery -----------------------------------------------------------------------------------------------


class Listener(bootsteps.StartStopStep):
    """The step of a worker node that runs a relay, in a thread or, beside forks, in a process of its own."""

    requires = ("celery.worker.components:Timer", "celery.worker.components:Pool")

    def __init__(self, node: Any, **options: Any) -> None:
        super().__init__(node, **options)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def include_if(self, node: Any) -> bool:
        """Leave it out of nodes that only collect: they may be many, and busy."""
        return set(node.app.amqp.queues.consume_from) != {"workermon.collect"}

    def start(self, node: Any) -> None:
        """Start it when the pool stands."""
        self._stop.clear()
        if isinstance(node.pool, prefork.TaskPool):
            self._spawn()
            node.timer.call_repeatedly(RENEWED, self._revive)
        else:
            relay_of: Container = node.app.conf[CONTAINER_NAME]
            self._thread = threading.Thread(target=_run, args=(relay_of, self._stop), name="listener", daemon=True)
            self._thread.start()

    def stop(self, node: Any) -> None:  # noqa: ARG002  (Celery's signature)
        """Stop it, and let another lead."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2.0)
            self._thread = None
        if self._process is not None:
            _end(self._process)
            self._process = None

    terminate = stop

    def _spawn(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workermon.pipeline.listener"],
            stdin=subprocess.PIPE,
        )

    def _revive(self) -> None:
        if self._process is not None and self._process.poll() is not None and not self._stop.is_set():
            log.warning("listener.restarted", exit=self._process.returncode)
            _end(self._process)
            self._spawn()


def _end(process: subprocess.Popen[bytes]) -> None:
    # The end of its input tells it to stop.
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(2.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _run(container: Container, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            Relay.of(container).run(stop)
        except Exception as why:
            # Something could not be made yet, such as a connection.
            log.error("listener.failed", reason=str(why) or repr(why))
            stop.wait(PATIENCE[-1])


def main() -> None:
    """Run it as a process that ends with its parent, which holds the other end of its standard input."""
    own = settings.load()
    logs.configure(own.log_level, own.log_format, own.log_file)
    stop = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())
    parent = os.getppid()
    threading.Thread(target=_watch, args=(parent, stop), name="parent", daemon=True).start()
    container = runtime.open(own)
    try:
        _run(container, stop)
    finally:
        container.close()


def _watch(parent: int, stop: threading.Event) -> None:
    # The pipe's other end may live on in a forked child, so the parent itself is looked at too.
    closed = threading.Event()

    def read() -> None:
        sys.stdin.buffer.read()
        closed.set()

    threading.Thread(target=read, name="input", daemon=True).start()
    while not closed.wait(RENEWED / 2) and os.getppid() == parent:
        pass
    stop.set()


if __name__ == "__main__":
    main()
