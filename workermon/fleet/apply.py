"""Applies a config file: first a plan, then all of it in one step."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from workermon import config, errors, failpoints, logs, models, ports
from workermon.alerts import lifecycle
from workermon.fleet.change_report import ChangeReport, ChangeReporting
from workermon.fleet.cleanup import AccountClosing, OrphanedChannelAlerts, Retiring
from workermon.fleet.plan import ApplyOptions, Plan, Planning
from workermon.fleet.scheduling import Scheduling

log = logs.get(__name__)

#: Races against other changes of the set-up that an application may lose before it fails.
MAX_APPLY_TRIES = 50

#: Workers removed in the same step that applies a file; each takes about 0.1 ms of Redis' time. The others are removed
#: one by one afterwards.
MAX_REMOVED_AT_ONCE = 1000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Shows what a config file would change."""

    planning: Planning
    reporting: ChangeReporting

    def preview(self, file: config.File, options: ApplyOptions) -> ChangeReport:
        """Return what ``Application.apply`` would do. Raises the same errors, and writes nothing."""
        return self.reporting.report(self.planning.plan(file, options), options)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """The stage that applies a config file to fleet, rules and channels."""

    planning: Planning
    reporting: ChangeReporting
    scheduling: Scheduling
    retiring: Retiring
    closing: AccountClosing
    orphaned_alerts: OrphanedChannelAlerts
    workers: ports.Workers
    schedule: ports.Schedule
    alerts: ports.Alerts
    setup: ports.Setup
    dispatcher: ports.Dispatcher
    now: ports.Clock

    def apply(self, file: config.File, options: ApplyOptions) -> ChangeReport:
        """Apply a file to fleet, rules and channels in one step, after all of it was checked.

        If two files are applied at the same time, the second is compared again with the result of the first. The
        schedule follows; if a crash interrupts that, ``Reconciliation`` or the same file completes it. Raises
        ``errors.InvalidInput``, ``errors.NotFound``, ``errors.RevisionChanged`` and EC2's errors, all before anything
        is written.
        """
        plan = self._write(file, options)
        failpoints.reach("apply.written")
        self._update_schedule(plan)
        for worker_id in plan.removed[MAX_REMOVED_AT_ONCE:]:
            self.retiring.retire(worker_id, "removed")
        if plan.removed:
            self.closing.close_unused_accounts()
        changed = plan.changed
        if changed:
            self._dispatch(set(plan.before.channels) - set(plan.after.channels))
        revision = plan.after.revision if changed else plan.before.revision
        log.info("config.applied", source=file.source, revision=revision, changed=list(changed), added=len(plan.added))
        return self.reporting.report(plan, options).model_copy(update={"revision": revision})

    def _write(self, file: config.File, options: ApplyOptions) -> Plan:
        """Plan and write until no other change of the set-up happens in between."""
        for _ in range(MAX_APPLY_TRIES):
            version = self.setup.version()
            plan = self.planning.plan(file, options)
            failpoints.reach("apply.planned")
            # An empty plan is not written. Otherwise files with changes would lose every race against it.
            if plan.is_empty:
                return plan
            bases = self.alerts.load(plan.removed[:MAX_REMOVED_AT_ONCE])
            if self.setup.put(_change(plan, version, bases, self.now())):
                return plan
        raise errors.WorkermonError(file.source, f"the set-up changed {MAX_APPLY_TRIES} times meanwhile", "try again")

    def _update_schedule(self, plan: Plan) -> None:
        """Bring the schedule in line with the set-up, also if an earlier file was not completed."""
        entries, removed = self.schedule.ids(), set(plan.removed)
        workers = {
            record.worker.id: record.worker
            for record in plan.fleet
            if record.worker.id not in entries | removed and record.condition.status not in models.GONE
        }
        workers |= {worker.id: worker for worker in (*plan.added, *plan.updated)}
        self.scheduling.put_entries([worker for worker in workers.values() if worker.monitoring == "active"])
        failpoints.reach("apply.scheduled")
        if removed:
            self.schedule.delete(sorted(removed))
            failpoints.reach("apply.unscheduled")

    def _dispatch(self, removed_channels: Collection[str]) -> None:
        """Trigger evaluation by the new set-up at once. A sweep or a reconciliation finds what this misses."""
        try:
            self.dispatcher.evaluate(self.workers.ids())
            removed = map(models.delivery_alert, sorted(removed_channels))
            self.dispatcher.deliver(list(dict.fromkeys([*removed, *self.orphaned_alerts.find()])))
        except errors.RedisUnavailable as error:
            log.warning("config.not_announced", reason=str(error))


def _change(plan: Plan, version: str, bases: Mapping[str, ports.Basis[ports.Record]], at: float) -> ports.Change:
    return ports.Change(
        version=version,
        fleet={record.worker.id: record.worker for record in plan.fleet},
        added=plan.added,
        updated=plan.updated,
        leaving=[lifecycle.closing(basis, plan.before, "removed", at) for basis in bases.values()],
        configuration=plan.after if plan.changed else None,
        at=at,
    )
