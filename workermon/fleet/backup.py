"""Backups: the whole installation as one document, and its restore."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import pydantic

from workermon import errors, logs, models, ports
from workermon.fleet.scheduling import Scheduling

log = logs.get(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """How many workers and open alerts were restored.

    ``without_external_id`` are the ids of workers that had an external id, which backups do not contain.
    """

    workers: int
    open_alerts: int
    without_external_id: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BackingUp:
    """The stage that writes a backup."""

    saved_states: ports.SavedStates
    now: ports.Clock

    def back_up(self) -> str:
        """Return the backup as a one-line JSON document, without datapoints, tokens and external ids."""
        state = self.saved_states.load()
        saved = tuple(_without_external_id(worker) for worker in state.workers)
        backup = models.Backup(
            format=models.BACKUP_FORMAT,
            schema=models.SCHEMA,
            created_at=models.rfc3339(self.now()),
            state=state.model_copy(update={"workers": saved}),
        )
        return backup.model_dump_json(by_alias=True, exclude_defaults=True)


#: Migrates a backup's document to the next schema, by the schema that it begins with.
MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: lambda document: document,  # how Redis keeps the history of alerts is not in a backup
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Restoring:
    """The stage that restores a backup."""

    saved_states: ports.SavedStates
    schedule: ports.Schedule
    scheduling: Scheduling
    secrets: ports.Secrets
    now: ports.Clock

    def restore(self, text: str, source: str, *, force: bool = False) -> Restored:
        """Restore a document; ``source`` names it in errors, ``force`` replaces what is set up here.

        The state is written in one step, then the schedule. If a crash interrupts that, ``Reconciliation`` completes
        it. Raises ``errors.InvalidInput`` before anything is written.
        """
        state = _parse(text, source).state
        saved = tuple(self._with_external_id(saved_worker, state.configuration) for saved_worker in state.workers)
        state = state.model_copy(update={"workers": saved, "alerts": tuple(map(_to_notify_again, state.alerts))})
        if not self.saved_states.replace(state, self.now(), force=force):
            reason = "something is set up on this server already"
            raise errors.InvalidInput("restore", reason, "use an empty server, or replace what is here with --force")
        active = [saved_worker.worker for saved_worker in saved if saved_worker.worker.monitoring == "active"]
        if ghosts := sorted(self.schedule.ids() - {worker.id for worker in active}):
            self.schedule.delete(ghosts)
        self.scheduling.put_entries(active)
        restored = Restored(
            workers=len(saved),
            open_alerts=sum(alert.open for subject in state.alerts for alert in subject.alerts.values()),
            without_external_id=tuple(
                saved_worker.worker.id
                for saved_worker in saved
                if saved_worker.had_external_id and not _has_external_id(saved_worker.worker)
            ),
        )
        log.info("backup.restored", source=source, workers=restored.workers, open_alerts=restored.open_alerts)
        return restored

    def _with_external_id(
        self, saved: models.SavedWorker, configuration: models.Configuration | None
    ) -> models.SavedWorker:
        """Return a worker with the external id that its account has by name."""
        worker = saved.worker
        if not saved.had_external_id or configuration is None or worker.account not in configuration.accounts:
            return saved
        scope = configuration.account_region(worker.region, worker.account, self.secrets)
        from_account = {"external_id": scope.external_id, "monitored_by": scope.monitored_by}
        return saved.model_copy(update={"worker": worker.model_copy(update=from_account)})


def _has_external_id(worker: models.Worker) -> bool:
    through = worker.monitored_by
    return worker.external_id is not None or (through is not None and through.external_id is not None)


def _without_external_id(saved: models.SavedWorker) -> models.SavedWorker:
    if not _has_external_id(saved.worker):
        return saved
    through = saved.worker.monitored_by
    bare = None if through is None else through.model_copy(update={"external_id": None})
    worker = saved.worker.model_copy(update={"external_id": None, "monitored_by": bare})
    return saved.model_copy(update={"worker": worker, "had_external_id": True})


def _migrated(document: dict[str, Any], source: str) -> dict[str, Any]:
    """Return a document at this version's schema; refuse one of a newer version."""
    for name, supported in (("format", models.BACKUP_FORMAT), ("schema", models.SCHEMA)):
        number = document.get(name, 1)
        if isinstance(number, int) and number > supported:
            reason = f"is a backup of {name} {number}, and this version reads {name} {supported}"
            raise errors.InvalidInput(source, reason, "restore it with the version that wrote it, or a newer one")
    schema = document.get("schema", 1)
    while isinstance(schema, int) and 1 <= schema < models.SCHEMA:
        document = {**MIGRATIONS[schema](document), "schema": (schema := schema + 1)}
    return document


def _parse(text: str, source: str) -> models.Backup:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise errors.InvalidInput(source, "is not JSON", "name a file that 'workermon backup' wrote") from None
    if isinstance(document, dict):
        document = _migrated(document, source)
    try:
        return models.Backup.model_validate_json(json.dumps(document))
    except pydantic.ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise errors.InvalidInput(
            source, f"is not a backup ({place}: {first['msg']})", "name a file that 'workermon backup' wrote"
        ) from None


def _to_notify_again(saved: models.SavedAlerts) -> models.SavedAlerts:
    """Return alerts of a worker that will report to its groups again, because no backup has its reports."""
    alerts = {rule: alert.model_copy(update={"membership": None}) for rule, alert in saved.alerts.items()}
    return saved.model_copy(update={"alerts": alerts})
