"""Doctor: whether events reach the listener through EventBridge and each queue."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

from workermon import errors, models, ports
from workermon.health.doctor.check import Check

#: Seconds in which the listener has to read our event.
QUEUE_PATIENCE = 10.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EventQueueExamination:
    """Sends an event of our own the way that all others take."""

    configurations: ports.Configurations
    secrets: ports.Secrets
    queues: ports.EventQueues
    liveness: ports.Liveness
    now: ports.Clock

    def examine(self, default_region: str | None, patience: float = QUEUE_PATIENCE) -> Iterator[Check]:
        """Send an event of our own through EventBridge to each event queue; wait until the listener has read it."""
        configuration = self.configurations.load()
        for name, queue in configuration.event_queues.items():
            label, region = f"event queue {name}", queue.region or default_region
            if region is None:
                yield Check(name=label, ok=False, reason="its address names no region", todo="set AWS_REGION")
                continue
            try:
                scope = configuration.account_region(region, queue.account, self.secrets)
                yield self._try_event_queue(scope, name, queue.queue_url, patience)
            except errors.WorkermonError as raised:
                aws_error = errors.of_aws(raised)
                yield Check(
                    name=label,
                    ok=False,
                    reason=errors.printable(f"{aws_error.kind}: {aws_error.reason}"),
                    todo=aws_error.todo,
                )

    def _try_event_queue(self, scope: models.AccountRegion, name: str, queue_url: str, patience: float) -> Check:
        """Send an event through EventBridge. If that is refused or does not arrive, put one into the queue itself."""
        label, sent, refusal = f"event queue {name}", self.now(), None
        try:
            self.queues.publish(scope, models.OWN_SOURCE, models.OWN_TYPE, {"sent": sent})
        except errors.AwsError as error:
            refusal = error
        else:
            seconds = self._read_after(name, sent, patience)
            if seconds is not None:
                return Check(name=label, ok=True, reason=f"read after {seconds:.1f} s, through EventBridge")
        sent = self.now()
        self.queues.send(scope, queue_url, models.own_event(sent))
        seconds = self._read_after(name, sent, patience)
        if seconds is None:
            reason = f"our own event was sent, and the listener did not read it within {patience:g} s"
            return Check(name=label, ok=False, reason=reason, todo="see 'workermon status', and its log")
        if refusal is None:
            reason = f"EventBridge did not deliver our event within {patience:g} s; one put into the queue was read"
            todo = "deploy the template of 'workermon events setup' again: it has a rule for this event"
            return Check(name=label, ok=False, reason=reason, todo=todo)
        not_tried = errors.printable(f"EventBridge was not tried: {refusal.kind}: {refusal.reason}; {refusal.todo}")
        return Check(name=label, ok=True, reason=f"read after {seconds:.1f} s; {not_tried}")

    def _read_after(self, name: str, sent: float, patience: float) -> float | None:
        """Wait until the listener has read the event of that time; return the seconds, ``None`` if it has not."""
        started = time.monotonic()
        while True:
            waited = time.monotonic() - started
            if self.liveness.beats().get(f"events:{name}:test", 0.0) >= sent:
                return waited
            if waited >= patience:
                return None
            time.sleep(0.1)
