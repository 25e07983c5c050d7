"""Heartbeat: a dead-man's switch is requested only while the whole pipeline works, so that its silence tells."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable

from workermon import errors, logs, models, ports
from workermon.health import canary as flying

log = logs.get(__name__)

#: Seconds. What waits that long though it might be done at once waits for somebody dead.
STUCK = 60

#: Intervals, of the worker with the shortest, within which something is collected and judged; and seconds beyond.
INTERVALS, GRACE = 3, 30

#: Seconds. A request takes no longer.
TIMEOUT = 10


def withheld(
    *,
    workers: ports.Workers,
    samples: ports.Samples,
    outbox: ports.Outbox,
    schedule: ports.Schedule,
    pulse: ports.Pulse,
    canary: ports.Canary,
    now: ports.Clock,
) -> str | None:
    """Return which part does not work, ``None`` where all do.

    Beat ticked, the outbox moves, the canary goes round and, where any worker is active, a collection ended and an
    evaluation ran.
    """
    at, tick = now(), schedule.last_tick()
    if tick is None or at - tick > flying.BEAT:
        return "beat does not tick"
    if any(alert_id != models.CANARY for alert_id in outbox.due(at - STUCK, 2)):
        return f"a notification waits for more than {STUCK} s"
    if samples.pending(at - STUCK, 1):
        return f"a sample waits for more than {STUCK} s to be judged"
    intervals = [
        record.worker.interval
        for record in workers.every()
        if record.worker.monitoring == "active" and record.condition.status not in models.GONE
    ]
    if intervals:
        patience, marks = INTERVALS * min(intervals) + GRACE, pulse.marks()
        for part, said in (("collect", "no collection ended"), ("evaluate", "no evaluation ran")):
            if at - marks.get(part, 0.0) > patience:
                return f"{said} for {patience} s"
    found = flying.look(canary=canary, schedule=schedule, pulse=pulse, now=now)
    return None if found.ok else f"canary {found.reason}"


class Heart:
    """Looks and requests in a thread of its own, one at a time, so that whoever calls it never waits.

    ``url`` is http or https; it is a secret and shown nowhere.
    """

    def __init__(self, url: str, look: Callable[[], str | None]) -> None:
        self._url, self._look = url, look
        self._beating: threading.Thread | None = None

    def __call__(self) -> None:
        """Beat, unless the last beat is not over yet."""
        if self._beating is None or not self._beating.is_alive():
            self._beating = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._beating.start()

    def _beat(self) -> None:
        try:
            reason = self._look()
            if reason is not None:
                log.warning("heartbeat.withheld", reason=reason)
                return
            with urllib.request.urlopen(self._url, timeout=TIMEOUT) as answer:  # noqa: S310  (settings allow http only)
                log.debug("heartbeat.sent", status=answer.status)
        except errors.WorkermonError as why:
            log.warning("heartbeat.withheld", reason=str(why))
        except (OSError, ValueError) as why:
            # Its text may have the address in it.
            code = why.code if isinstance(why, urllib.error.HTTPError) else type(why).__name__
            log.warning("heartbeat.failed", reason=str(code))
