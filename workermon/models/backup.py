"""The contents of a backup: all stored data but the ledger, learned values, and who may log in."""

from __future__ import annotations

from pydantic import Field

from workermon.models.alert import Acknowledgement, Alert, HistoryEntry, Silence
from workermon.models.base import Frozen
from workermon.models.configuration import Configuration
from workermon.models.notification import Attempt, Notification
from workermon.models.rollup import SavedWeek
from workermon.models.sample import AccountState, Condition
from workermon.models.worker import Worker

#: The version of all data stored in Redis, and so of a backup. A process refuses a higher version and migrates a lower
#: one (on_redis/schema.py, fleet/backup.py). Data without a version has version 1.
SCHEMA = 2

#: The format of a backup. A higher number comes from a newer version.
BACKUP_FORMAT = 1


class SavedWorker(Frozen):
    """A worker without its external id, and its condition; ``had_external_id`` tells whether there was one."""

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
    """Undelivered notifications of an alert to a channel, and when its reminder is due (seconds)."""

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
    """A backup as a document; ``created_at`` is RFC 3339, ``schema_`` the version of the stored data."""

    format: int
    schema_: int = Field(default=1, alias="schema")
    created_at: str
    state: SavedState
