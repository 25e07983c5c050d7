"""Cleans up: removed workers, alerts of accounts without workers, alerts of removed channels."""

from __future__ import annotations

import dataclasses

from workermon import errors, failpoints, logs, models, ports
from workermon.alerts import lifecycle

log = logs.get(__name__)

#: Races against evaluations of the same worker that a removal may lose before it fails; each takes milliseconds.
MAX_RETIRE_TRIES = 50


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Retiring:
    """Resolves the alerts of a removed worker, and deletes its data."""

    schedule: ports.Schedule
    alerts: ports.Alerts
    configurations: ports.Configurations
    now: ports.Clock

    def retire(self, worker_id: str, reason: str) -> None:
        """Resolve a worker's open alerts with a reason and delete all its data, whatever task runs meanwhile."""
        self.schedule.delete([worker_id])
        failpoints.reach("remove.unscheduled")
        for _ in range(MAX_RETIRE_TRIES):
            basis = self.alerts.load([worker_id]).get(worker_id)
            if basis is None:
                break
            if self.alerts.retire(lifecycle.closing(basis, self.configurations.load(), reason, self.now())):
                break
        else:
            raise errors.WorkermonError(
                f"worker {worker_id}", f"its alerts changed {MAX_RETIRE_TRIES} times meanwhile", "try again"
            )
        failpoints.reach("remove.retired")
        self.schedule.delete([worker_id])  # a resume or a reconciliation may have put it back


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AccountClosing:
    """Resolves the alerts about accounts and regions where nothing is collected any more."""

    workers: ports.Workers
    alerts: ports.Alerts
    configurations: ports.Configurations
    now: ports.Clock

    def close_unused_accounts(self) -> tuple[str, ...]:
        """Resolve the alerts about accounts and regions without workers; return their keys.

        Their recorded errors are deleted. If there is a worker after all, its next collection records them again. Where
        ``[discover]`` searches, its alerts stay, and so do those about configured event queues.
        """
        failing = [
            basis
            for basis in self.alerts.load_monitor_alerts().accounts.values()
            if basis.record.failing_since is not None or any(alert.open for alert in basis.alerts.values())
        ]
        if not failing:
            return ()
        collected, configuration = collected_scopes(self.workers), self.configurations.load()
        unused = [
            basis
            for basis in failing
            if basis.record.key not in collected and not configuration.covers(basis.record.key)
        ]
        return tuple(basis.record.key for basis in unused if self._close(basis))

    def _close(self, basis: ports.Basis[models.AccountState]) -> bool:
        """Close an account and region; ``False`` if it was evaluated meanwhile: the next reconciliation tries again."""
        key = basis.record.key
        configured = models.queue_of(key) is not None or models.searched_of(key) is not None
        reason = "it is not configured" if configured else "no worker is collected there"
        closed = self.alerts.retire(lifecycle.closing(basis, self.configurations.load(), reason, self.now()))
        failpoints.reach("account.closed")
        if closed:
            log.info("scope.closed", scope=key)
        return closed


def collected_scopes(workers: ports.Workers) -> set[str]:
    """Return the keys of the accounts and regions where a worker is collected."""
    return {
        record.worker.scope.key
        for record in workers.every()
        if record.worker.monitoring == "active" and record.condition.status not in models.GONE
    }


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OrphanedChannelAlerts:
    """Finds alerts about channels that were removed; their next delivery resolves them."""

    alerts: ports.Alerts
    configurations: ports.Configurations

    def find(self) -> list[str]:
        """Return the ids of alerts about the delivery to channels that the configuration no longer has."""
        channels = self.configurations.load().channels
        keys = [
            alert.last.dedup_key for alert in self.alerts.open() if alert.last is not None and alert.last.worker is None
        ]
        return [key for key in keys if models.is_delivery_alert(key) and models.channel_of(key) not in channels]
