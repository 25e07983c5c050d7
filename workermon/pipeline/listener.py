"""The listener: subscribes to the channel of samples and enqueues the evaluation of the workers that it names.

Every node may run it (except those with ``-Q workermon.collect`` alone). One of them is active, by a lease, and another
takes over within 5 s of its death. The channel may lose events, so every few seconds a sweep searches Redis for what no
event announced: samples that nobody evaluated, notifications that wait, workers whose collection is overdue.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Final

from dishka import Container

from workermon import collect, errors, evaluate, health, logs, notify, ports
from workermon.pipeline import background, leadership, queue_polling, reconciling, stopping, subscription, sweep

log = logs.get(__name__)

#: Seconds between two requests of the dead-man's switch.
HEARTBEAT: Final = 15.0
#: Seconds before Redis is tried again; they grow.
PATIENCE: Final = (0.2, 0.5, 1.0, 2.0)
#: Seconds without success after which it ends, so that it is restarted with connections of its own. Broken connections
#: do not recover by themselves.
FAILED_FOR: Final = 60.0


class Timer:
    """Something due periodically; times are of a monotonic clock.

    If it is aligned, it is due at multiples of its interval. All processes of a machine have the same monotonic clock.
    """

    def __init__(self, last: float, *, aligned: bool = False) -> None:
        self._last, self._aligned = last, aligned

    def due(self, at: float, interval: float) -> bool:
        """Return whether ``interval`` seconds have passed since this was last true, or since the start."""
        if at - self._last < interval:
            return False
        self._last = at - at % interval if self._aligned else at
        return True

    def remaining(self, at: float, interval: float) -> float:
        """Return the seconds until ``interval`` of them have passed."""
        return max(0.0, self._last + interval - at)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Listens, leads and sweeps until it is stopped. It has no thread of its own."""

    feed: ports.Feed
    samples: ports.Samples
    outbox: ports.Outbox
    workers: ports.Workers
    dispatcher: ports.Dispatcher
    liveness: ports.Liveness
    leases: ports.Leases
    canary: health.CanaryReception
    heartbeat: health.Heartbeat
    silence_expiry: evaluate.SilenceExpiry
    channel_watch: notify.ChannelWatch
    placement: collect.CohortPlacement
    quiet_time: collect.QuietTime
    queue_reading: collect.QueueReading
    configurations: ports.Configurations
    sweep_backlog: ports.SweepBacklog
    now: ports.Clock

    @classmethod
    def of(cls, container: Container) -> Listener:
        """Make one with a container's ports."""
        get: Any = container.get
        return cls(
            feed=get(ports.Feed),
            samples=get(ports.Samples),
            outbox=get(ports.Outbox),
            workers=get(ports.Workers),
            dispatcher=get(ports.Dispatcher),
            liveness=get(ports.Liveness),
            leases=get(ports.Leases),
            canary=get(health.CanaryReception),
            heartbeat=get(health.Heartbeat),
            silence_expiry=get(evaluate.SilenceExpiry),
            channel_watch=get(notify.ChannelWatch),
            placement=get(collect.CohortPlacement),
            quiet_time=get(collect.QuietTime),
            queue_reading=get(collect.QueueReading),
            configurations=get(ports.Configurations),
            sweep_backlog=get(ports.SweepBacklog),
            now=get(ports.Clock),
        )

    def run(self, stop: stopping.Stop) -> None:
        """Lead whenever nobody else does, until ``stop``. Failures are retried for a minute."""
        lease, lead, failures = leadership.Leadership(self.leases), _Lead(self), 0
        worked_at = time.monotonic()
        while not stop.is_set():
            try:
                if lease.take():
                    log.info("listener.leads")
                    lead.run(lease.claim, stop)
                failures, worked_at = 0, time.monotonic()
                pause = leadership.CLAIMED_EVERY
            except Exception as error:
                # It must not die, because nobody else would enqueue evaluations. Usually Redis is unreachable for a
                # while.
                worked_at = max(worked_at, lead.worked_at)
                failed_for = time.monotonic() - worked_at
                if failed_for > FAILED_FOR:
                    log.error("listener.gave_up", reason=str(error) or repr(error), failed_for=round(failed_for))
                    return
                pause = PATIENCE[min(failures, len(PATIENCE) - 1)]
                failures += 1
                expected = isinstance(error, errors.WorkermonError)
                log.warning("listener.failed", reason=str(error) or repr(error), again_in=pause, exc_info=not expected)
            stop.wait(pause)
        lease.release()


class _Lead:
    """The work of the active listener."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._subscription = subscription.Subscription(
            dispatcher=listener.dispatcher, canary=listener.canary, samples=listener.samples
        )
        self._sweep = sweep.Sweep(
            samples=listener.samples,
            outbox=listener.outbox,
            workers=listener.workers,
            dispatcher=listener.dispatcher,
            now=listener.now,
        )
        self._heartbeat = background.Background("heartbeat", listener.heartbeat.beat)
        self._polling = queue_polling.QueuePolling(listener.queue_reading, listener.configurations)
        #: When it last swept successfully, on a monotonic clock.
        self.worked_at = 0.0
        #: Whether it has swept successfully since it became active.
        self._works = False

    def run(self, claim: ports.LeaseClaim, stop: stopping.Stop) -> None:
        """Lead until ``stop``, or until another leads."""
        try:
            self._lead(claim, stop)
        finally:
            self._polling.stop()

    def _lead(self, claim: ports.LeaseClaim, stop: stopping.Stop) -> None:
        listener, channel = self._listener, self._subscription
        channel.forget()
        self._sweep.forget()
        self._works = False
        began = time.monotonic()
        heartbeat, placing = Timer(began), Timer(began)
        reconciliations = reconciling.Reconciling(listener.dispatcher, listener.quiet_time, began)
        sweeping: Timer | None = None

        def timeout() -> float:
            idle = channel.timeout()
            return min(idle, sweeping.remaining(time.monotonic(), sweep.INTERVAL)) if idle and sweeping else idle

        messages = listener.feed.listen(
            alerts=False,
            timeout=timeout,
            canary=lambda message: channel.receive_canary(message, time.monotonic()),
            until=stop.fileno(),
        )
        for message in messages:
            at = time.monotonic()
            if not channel.handle(message, at, stop.wait):
                continue
            if stop.is_set():
                channel.enqueue()
                return
            if sweeping is None:
                # As soon as the subscription is active: from then on nothing is missed.
                listener.liveness.beat("canary", listener.now())
                # Beat's ticks come at the same moments, so that the server wakes up once for both.
                sweeping = Timer(float("-inf"), aligned=True)
            if sweeping.due(at, sweep.INTERVAL) and not self._sweep_now(claim, at):
                log.warning("listener.lost_lease")
                return
            reconciliations.check(at)
            if placing.due(at, collect.PLACED_EVERY):
                listener.placement.place()
            if heartbeat.due(at, HEARTBEAT):
                self._heartbeat.start()
        channel.enqueue()  # a stop ends the messages

    def _sweep_now(self, claim: ports.LeaseClaim, at: float) -> bool:
        """Keep the lead and sweep; ``False`` if another leads."""
        listener = self._listener
        # Most sweeps find nothing, so one call checks everything first. It also renews the lease and marks the last
        # sweep.
        backlog = listener.sweep_backlog.look(claim, listener.now(), sweep.UNANNOUNCED_AFTER, works=self._works)
        if backlog is None:
            return False
        listener.silence_expiry.check(backlog)
        self._polling.follow(backlog.revision)
        alert_ids = listener.channel_watch.overdue() if backlog.failing_channels else ()
        self._sweep.sweep(at, self._subscription.received_at, backlog, alert_ids)
        for reason, number in self._subscription.take_invalid().items():
            listener.liveness.count(f"event.invalid.{reason}", number)
        if not self._works:
            listener.liveness.beat(leadership.NAME, listener.now())
            self._works = True
        self.worked_at = time.monotonic()
        return True
