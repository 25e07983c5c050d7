"""What a backup holds: everything that workermon keeps but the ledger, what it learns again, and who may log in."""

from __future__ import annotations

from pydantic import Field

from workermon.models.alert import Acknowledgement, Alert, HistoryEntry, Silence
from workermon.models.base import Frozen
from workermon.models.configuration import Configuration
from workermon.models.notification import Attempt, Notification
from workermon.models.rollup import SavedWeek
from workermon.models.sample import AccountState, Condition
from workermon.models.worker import Worker

#: The version of all that is stored in Redis, and so of what a backup holds. A process refuses what has a higher one
#: and migrates what has a lower one (on_redis/schema.py, fleet/backup.py); what has none has version 1.
SCHEMA = 2

#: The format of a backup; one with a higher number is of a newer version.
BACKUP_FORMAT = 1


class SavedWorker(Frozen):
    """A worker without its external id, and its condition; ``had_external_id`` says that there was one."""

    worker: Worker
    condition: Condition
    had_external_id: bool = False


class SavedAlerts(Frozen):
    """The alerts of one subject by rule; ``version`` counts their commits."""

    subject: str
    version: int
    alerts: dict[str, Alert]


class SavedEntry(Frozen):
    """An entry of an alert's history, and when it was written (seconds)."""

    at: float
    entry: HistoryEntry


class SavedHistory(Frozen):
    """The history of one alert, newest first, with the attempts to deliver, oldest first.

    ``last_version`` is the version of its last notification, which is ``last``.
    """

    alert_id: str
    entries: tuple[SavedEntry, ...]
    attempts: tuple[Attempt, ...] = ()
    last: Notification | None = None
    last_version: int | None = None


class SavedQueue(Frozen):
    """What was not delivered of an alert to a channel, and when its reminder is due (seconds)."""

    alert_id: str
    channel: str
    notifications: tuple[Notification, ...] = ()
    remind_at: float | None = None


class SavedState(Frozen):
    """The state of an installation; ``configuration`` is ``None`` if none was ever applied."""

    configuration: Configuration | None = None
    workers: tuple[SavedWorker, ...] = ()
    accounts: tuple[AccountState, ...] = ()
    alerts: tuple[SavedAlerts, ...] = ()
    histories: tuple[SavedHistory, ...] = ()
    queues: tuple[SavedQueue, ...] = ()
    silences: tuple[Silence, ...] = ()
    acknowledgements: tuple[Acknowledgement, ...] = ()
    rollups: tuple[SavedWeek, ...] = ()


class Backup(Frozen):
    """A backup as a document; ``created_at`` in RFC 3339, ``schema_`` is the version of what was stored."""

    format: int
    schema_: int = Field(default=1, alias="schema")
    created_at: str
    state: SavedState
