"""Heartbeat: a dead-man's switch is requested only while the whole pipeline works, so its silence raises the alarm."""

from __future__ import annotations

import dataclasses

from pydantic import SecretStr

from workermon import errors, logs, models, ports
from workermon.health import canary

log = logs.get(__name__)

#: Seconds. Work that is due at once but waits this long waits for a dead part.
STUCK_AFTER = 60

#: Intervals, of the worker with the shortest, within which a collection and an evaluation end; and extra seconds.
INTERVALS, GRACE = 3, 30


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PipelineCheck:
    """Reads whether the whole pipeline works."""

    workers: ports.Workers
    samples: ports.Samples
    outbox: ports.Outbox
    beat_status: ports.BeatStatus
    liveness: ports.Liveness
    canary_check: canary.CanaryCheck
    failures: ports.ChannelFailures
    alerts: ports.Alerts
    now: ports.Clock

    def fault(self) -> str | None:
        """Return which part does not work; ``None`` if all do.

        All work if beat ticks, the outbox moves, every channel accepts its notifications, canaries complete their round
        and, if any worker is active, a collection and an evaluation ended recently.
        """
        at, tick = self.now(), self.beat_status.last_tick()
        if tick is None or at - tick > canary.MAX_BEAT_AGE or models.leads(tick, at):
            return "beat does not tick"
        if any(alert_id != models.CANARY for alert_id in self.outbox.due(at, 2, STUCK_AFTER)):
            return f"a notification waits for more than {STUCK_AFTER} s"
        if self.samples.pending(at, 1, STUCK_AFTER):
            return f"a sample waits for more than {STUCK_AFTER} s to be evaluated"
        if (fault := self._dead_channel() or self._stopped_stage(at)) is not None:
            return fault
        check = self.canary_check.check()
        return None if check.ok else f"canary {check.reason}"

    def _dead_channel(self) -> str | None:
        for channel, failing in self.failures.load().items():
            alert = self.alerts.load_channel(channel).alerts.get(models.DELIVERY)
            if alert is not None and alert.open:
                return f"channel {channel} accepts nothing: {failing.error}"
        return None

    def _stopped_stage(self, at: float) -> str | None:
        intervals = [
            record.worker.interval
            for record in self.workers.every()
            if record.worker.monitoring == "active" and record.condition.status not in models.GONE
        ]
        if not intervals:
            return None
        patience, beats = INTERVALS * min(intervals) + GRACE, self.liveness.beats()
        for stage, fault in (("collect", "no collection ended"), ("evaluate", "no evaluation ran")):
            last_beat = beats.get(stage, 0.0)
            if at - last_beat > patience or models.leads(last_beat, at):
                return f"{fault} for {patience} s"
        return None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Requests ``url`` (http or https, ``None``: none is configured); it is a secret and never shown."""

    check: PipelineCheck
    ping: ports.Ping
    url: SecretStr | None

    def beat(self) -> None:
        """Request the URL if the whole pipeline works. Errors are logged."""
        if self.url is None:
            return
        try:
            fault = self.check.fault()
            if fault is not None:
                log.warning("heartbeat.withheld", reason=fault)
                return
            self.ping(self.url.get_secret_value())
            log.debug("heartbeat.sent")
        except errors.DeliveryFailed as error:
            log.warning("heartbeat.failed", reason=error.reason)
        except errors.WorkermonError as error:
            log.warning("heartbeat.withheld", reason=str(error))
