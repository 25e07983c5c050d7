"""Pure: the subjects of alerts: a worker, an account and region, the installation, a channel, or a group of workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from workermon import models, ports

#: The account and the region in the scope of a subject without a single one.
ANY = "*"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The subject of an alert, and its name in notifications.

    ``title`` begins a summary; if it is empty, a summary begins with the rule's name. Exactly one of
    ``worker``, ``scope`` and ``group`` is given: they are the notification's fields of these names.
    """

    key: models.SubjectKey
    title: str
    worker: models.NotifiedWorker | None = None
    scope: Mapping[str, str] | None = None
    group: Mapping[str, str] | None = None

    def alert_id(self, rule: str) -> str:
        """Name a rule's alert over its life; this is also the notification's ``dedup_key``."""
        return models.alert_id(self.key.id, rule)


def of_worker(worker: models.Worker) -> Subject:
    """Return the subject of a worker."""
    return Subject(
        key=models.worker_subject(worker),
        title=worker.name,
        worker=models.NotifiedWorker(
            id=worker.id, name=worker.name, region=worker.region, account=worker.account, labels=worker.labels
        ),
    )


def of_account(state: models.AccountState) -> Subject:
    """Return the subject of an account and region."""
    account, region = models.account_and_region(models.searched_of(state.key) or state.key)
    return Subject(
        key=models.account_subject(state.key),
        title=f"account {account} in {region}",
        scope={"account": account, "region": region},
    )


def of_channel(channel: str) -> Subject:
    """Return the subject of a channel."""
    return Subject(
        key=models.channel_subject(channel),
        title=f"channel {channel}",
        scope={"account": ANY, "region": ANY, "channel": channel},
    )


def of_group(by: str, value: str) -> Subject:
    """Return the subject of the workers whose label ``by`` has a value."""
    return Subject(key=models.group_subject(by, value), title=f"group {by}={value}", group={"by": by, "value": value})


#: The installation as a whole.
INSTALLATION = Subject(key=models.INSTALLATION, title="", scope={"account": ANY, "region": ANY})


def of(basis: ports.Basis[Any]) -> Subject:
    """Return the subject of a basis."""
    return _MAKERS[basis.subject.kind](basis)


_MAKERS: dict[models.SubjectKind, Callable[[ports.Basis[Any]], Subject]] = {
    "worker": lambda basis: of_worker(basis.record.worker),
    "account": lambda basis: of_account(basis.record),
    "installation": lambda _: INSTALLATION,
    "channel": lambda basis: of_channel(models.channel_of(basis.subject.id)),
    "group": lambda basis: of_group(basis.record.by, basis.record.value),
}
