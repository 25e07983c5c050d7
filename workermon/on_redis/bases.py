"""Reads what verdicts are based on: a subject's own data and its alerts, each subject in one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from pydantic import TypeAdapter

from workermon import lua, models, ports
from workermon.on_redis import accounts, client, group_packing, keys, unreadable_records, workers

#: The version of alerts that cannot be read. No stored alert has it.
_UNREADABLE = -1

#: State of a subject's alerts, by rule.
STATE = TypeAdapter(dict[str, models.Alert])


class LoadWorkers(lua.Script[list[Any]]):
    """Return the configuration's revision, then of each worker its fields, the state of its alerts, its versions."""

    configuration: lua.Key
    hashes: lua.Keys
    fields: lua.Arguments


class LoadMonitorAlerts(lua.Script[list[Any]]):
    """Return the configuration's revision, then the same for the installation and for each account and region."""

    configuration: lua.Key
    accounts: lua.Key
    installation: lua.Argument
    account_prefix: lua.Argument
    alerts_prefix: lua.Argument
    versions_prefix: lua.Argument
    fields: lua.Arguments


class LoadSubject(lua.Script[list[Any]]):
    """Return the configuration's revision, the state of a subject's alerts, its versions."""

    configuration: lua.Key
    alerts: lua.Key
    versions: lua.Key


class LoadGroups(lua.Script[list[Any]]):
    """Return the configuration's revision, then each group's fields, its members, and the same for its alerts."""

    configuration: lua.Key
    hashes: lua.Keys


# --- workers ---------------------------------------------------------------------------------------------------------


def loading_workers(worker_ids: Sequence[str]) -> list[LoadWorkers]:
    """Return the calls that read the bases of workers."""
    return [
        LoadWorkers(
            configuration=keys.CONFIGURATION,
            hashes=[
                name
                for worker_id in worker_ids[start : start + workers.CHUNK]
                for name in (keys.worker(worker_id), keys.alerts(worker_id), keys.versions(worker_id))
            ],
            fields=workers.FIELDS,
        )
        for start in range(0, len(worker_ids), workers.CHUNK)
    ]


def of_workers(
    connection: redis.Redis, worker_ids: Sequence[str], replies: Sequence[list[Any]]
) -> dict[str, ports.Basis[ports.Record]]:
    """Return the bases from the replies to ``loading_workers``, without unknown workers."""
    rows = [(revision, row) for revision, *of_chunk in replies for row in of_chunk]
    bases = {}
    for worker_id, (revision, (fields, *alerts)) in zip(worker_ids, rows, strict=True):
        record = workers.record(connection, worker_id, fields)
        if record is None:
            continue
        basis = _basis(connection, models.worker_subject(record.worker), record, revision, *alerts)
        if basis.version != _UNREADABLE:
            bases[worker_id] = basis
    return bases


# --- the monitor itself ----------------------------------------------------------------------------------------------


def loading_monitor() -> LoadMonitorAlerts:
    """Return the call that reads the bases of every account and region, and of the installation."""
    return LoadMonitorAlerts(
        configuration=keys.CONFIGURATION,
        accounts=keys.ACCOUNTS,
        installation=models.INSTALLATION.id,
        account_prefix=keys.account(""),
        alerts_prefix=keys.alerts(""),
        versions_prefix=keys.versions(""),
        fields=accounts.FIELDS,
    )


def of_monitor(connection: redis.Redis, reply: list[Any]) -> ports.MonitorAlerts:
    """Return the bases from the reply to ``loading_monitor``."""
    revision, installation, *rows = reply
    bases = {}
    for name, fields, *alerts in rows:
        key = unreadable_records.text(name)
        account = accounts.state(connection, key, fields)
        if account is None:
            continue
        basis = _basis(connection, models.account_subject(key), account, revision, *alerts)
        if basis.version != _UNREADABLE:
            bases[key] = basis
    return ports.MonitorAlerts(bases, _basis(connection, models.INSTALLATION, None, revision, *installation))


def of_channel(connection: redis.Redis, channel: str) -> ports.Basis[None]:
    """Read the basis of a channel."""
    subject = models.channel_subject(channel)
    loading = LoadSubject(
        configuration=keys.CONFIGURATION, alerts=keys.alerts(subject.id), versions=keys.versions(subject.id)
    )
    return _basis(connection, subject, None, *client.run(connection, loading))


# --- groups ----------------------------------------------------------------------------------------------------------


def of_groups(connection: redis.Redis, subject_ids: Sequence[str]) -> dict[str, ports.Basis[ports.GroupRecord]]:
    """Read the bases of groups, without those that have no data."""
    groups = [(subject_id, group) for subject_id in subject_ids if (group := models.group_of(subject_id))]
    bases: dict[str, ports.Basis[ports.GroupRecord]] = {}
    for start in range(0, len(groups), workers.CHUNK):
        chunk = groups[start : start + workers.CHUNK]
        parts = (keys.group, keys.group_members, keys.alerts, keys.versions)
        loading = LoadGroups(
            configuration=keys.CONFIGURATION, hashes=[name(subject_id) for subject_id, _ in chunk for name in parts]
        )
        revision, *replies = client.run(connection, loading)
        for (subject_id, (by, value)), (fields, members, *alerts) in zip(chunk, replies, strict=True):
            if fields[0] is None and alerts[0][1] is None:
                continue
            record = _group(connection, by, value, fields, members)
            basis = _basis(connection, models.group_subject(by, value), record, revision, *alerts)
            if basis.version != _UNREADABLE:
                bases[subject_id] = basis
    return bases


def _group(
    connection: redis.Redis, by: str, value: str, fields: Sequence[bytes | None], members: Sequence[bytes]
) -> ports.GroupRecord:
    subject = models.group_subject(by, value).id
    members_by_rule: dict[str, dict[str, models.GroupMember]] = {}
    for field, raw in zip(members[::2], members[1::2], strict=True):
        rule, _, worker_id = field.decode().partition(" ")
        try:
            members_by_rule.setdefault(rule, {})[worker_id] = group_packing.unpacked(raw.decode())
        except ValueError:
            unreadable_records.note(connection, keys.group_members(subject), f"{worker_id} says nothing that is known")
    sequence, changed_from = (
        None if raw is None else unreadable_records.number(connection, keys.group(subject), raw) for raw in fields
    )
    return ports.GroupRecord(
        by, value, members_by_rule, None if changed_from is None else int(changed_from), int(sequence or 0)
    )


# --- alerts ----------------------------------------------------------------------------------------------------------


def state(connection: redis.Redis, subject: str, raw: bytes) -> dict[str, models.Alert]:
    """Parse the state of a subject's alerts; empty if it cannot be read."""
    return unreadable_records.parsed_by(connection, keys.alerts(subject), STATE, raw) or {}


def _basis(
    connection: redis.Redis,
    subject: models.SubjectKey,
    record: Any,
    revision: bytes | None,
    version_and_state: Sequence[Any],
    versions: Sequence[bytes],
) -> ports.Basis[Any]:
    """Return a basis. If the alerts cannot be read, no verdict over it is ever written, so they stay unchanged."""
    version, raw = version_and_state
    name = keys.alerts(subject.id)
    alerts = unreadable_records.parsed_by(connection, name, STATE, raw) if raw else {}
    number = unreadable_records.number(connection, f"{name} version", version or b"0")
    last_versions = {
        unreadable_records.text(rule): unreadable_records.number(connection, keys.versions(subject.id), last)
        for rule, last in zip(versions[::2], versions[1::2], strict=True)
    }
    return ports.Basis(
        subject=subject,
        record=record,
        alerts=alerts or {},
        version=_UNREADABLE if alerts is None or number is None else int(number),
        revision=int(unreadable_records.number(connection, keys.CONFIGURATION, revision) or 0),
        last_versions={rule: int(last) for rule, last in last_versions.items() if last is not None},
    )
