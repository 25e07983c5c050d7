"""The whole set-up as a config file."""

from __future__ import annotations

import re
from collections.abc import Iterable

from workermon import models
from workermon.config import catalogue, grammar, toml
from workermon.config.toml import Table
from workermon.models import fields
from workermon.rules import KINDS, Kinds

#: Keys of durations, which are seconds in the models.
_DURATIONS = frozenset({"alert_after", "duration", "group_wait", "interval", "repeat"})


def text(
    configuration: models.Configuration, fleet: Iterable[models.Worker], now: float = 0.0, kinds: Kinds = KINDS
) -> str:
    """Return the config file of this set-up. It has every section, so that nothing else stays in force.

    It leaves out workers that ``[discover]`` found, because their tags find them again, and silences that ended before
    ``now``. An external id from a command has no secret's name, so a name is invented.
    """
    workers = sorted((worker for worker in fleet if worker.origin != "discover"), key=lambda worker: worker.id)
    document: Table = {
        "rules": [rule_table(rule, kinds) for rule in configuration.rules],
        "workers": [_worker(worker) for worker in workers],
        "metrics": [
            _metric(metric) for name, metric in configuration.metrics.items() if catalogue.CATALOGUE.get(name) != metric
        ],
        "discover": _changed_fields(configuration.discover),
        "channels": {
            name: channel_table(channel)
            for name, channel in configuration.channels.items()
            if catalogue.DEFAULT_CHANNELS.get(name) != channel
        },
        "accounts": _accounts(configuration, workers),
        "events": {name: _changed_fields(queue) for name, queue in configuration.event_queues.items()},
        "collect": _collect(configuration),
        "alerts": {"history": fields.written(configuration.alert_history)},
        "silences": [_silence(silence) for silence in configuration.silences if not models.is_over(silence, now)],
        "budget": {} if configuration.budget is None else {"dollars_per_day": configuration.budget},
        "limits": {
            key: {"bucket": limit.bucket, "per_second": limit.rate}
            for key, api in grammar.LIMITED.items()
            if (limit := configuration.limits.get(api)) is not None
        },
    }
    return toml.write(document)


def _accounts(configuration: models.Configuration, workers: Iterable[models.Worker]) -> Table:
    """Return the accounts of the configuration, and those of roles from commands."""
    accounts = {
        name: _account(account.role_arn, account.external_id)
        | ({} if account.monitoring is None else {"monitoring": account.monitoring})
        for name, account in configuration.accounts.items()
    }
    for worker in workers:
        name = _account_name(worker.account)
        if worker.role_arn is not None and name not in accounts:
            secret = re.sub(r"\W", "_", name).upper()
            secret_ref = models.SecretRef(env=f"EXTERNAL_ID_{secret}") if worker.external_id is not None else None
            accounts[name] = _account(worker.role_arn, secret_ref)
    return accounts


def _collect(configuration: models.Configuration) -> Table:
    chosen = {} if configuration.chosen is None else {"metrics": configuration.chosen}
    cadence = {} if configuration.cadence == "fixed" else {"cadence": configuration.cadence}
    return {**chosen, **durations(configuration), **cadence}


def durations(configuration: models.Configuration) -> Table:
    """Return the durations of ``[collect]`` as in the file."""
    return {
        "retention": fields.written(configuration.retention),
        "lateness": fields.written(configuration.lateness),
        "rollups": fields.written(configuration.rollups) if configuration.rollups else "off",
    }


def _account_name(name: str) -> str:
    """Return an account's name in a form valid for the file. A role from a command has other characters."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:64]


def _account(role: str, external_id: models.SecretRef | None) -> Table:
    return {"role_arn": role, **({} if external_id is None else {"external_id": _changed_fields(external_id)})}


def _changed_fields(model: models.Frozen | None, *but: str) -> Table:
    """Return the fields of a model that differ from their defaults."""
    if model is None:
        return {}
    changed = model.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=set(but))
    return _with_durations({key: value for key, value in changed.items() if value is not None})


def _with_durations(table: Table) -> Table:
    return {key: fields.written(value) if key in _DURATIONS else value for key, value in table.items()}


def _worker(worker: models.Worker) -> Table:
    table: Table = {"id": worker.id, "region": worker.region}
    if worker.named_by_user:
        table["name"] = worker.name
    if worker.account != models.DEFAULT_ACCOUNT:
        table["account"] = _account_name(worker.account)
    return {
        **table,
        "interval": fields.written(worker.interval),
        **({"labels": worker.labels} if worker.labels else {}),
    }


def _metric(metric: models.Metric) -> Table:
    table = metric.model_dump(exclude_none=True, exclude={"also"})
    builtin = catalogue.CATALOGUE.get(metric.name)
    for key in ("include", "exclude"):
        if table[key] == (getattr(builtin, key) if builtin is not None else {}):
            del table[key]
    return table if metric.period is None else table | {"period": fields.written(metric.period)}


def channel_table(channel: models.Channel) -> Table:
    """Return a channel as in the file."""
    return {**_changed_fields(channel, "name", "options"), **_with_durations(channel.options)}


def rule_table(rule: models.Rule, kinds: Kinds) -> Table:
    """Return a rule as in the file."""
    kind = kinds[rule.kind]
    metric = rule.metric or kind.pseudo_metric
    table: Table = {"name": rule.name, **({} if metric is None else {"metric": metric}), **kind.export(rule)}
    if rule.unit is not None:
        table["unit"] = rule.unit
    if rule.flapping is not None:
        table["flapping"] = f"{rule.flapping.turns} in {fields.written(rule.flapping.within)}"
    notify = rule.notify if rule.routes is None else rule.routes
    if rule.warmup is not None:
        table["warmup"] = fields.written(rule.warmup)
    if rule.inhibited_by:
        table["inhibited_by"] = rule.inhibited_by
    if rule.escalate:
        table["escalate"] = [{"after": fields.written(step.after), "notify": step.notify} for step in rule.escalate]
    labels = {"labels": rule.labels} if rule.labels else {}
    return {**table, **labels, "notify": notify, **models.annotations_of(rule)}


def _silence(silence: models.Maintenance) -> Table:
    table = _changed_fields(silence, "id")
    for key in ("begins", "ends"):
        if key in table:
            table[key] = models.rfc3339(table[key])
    return table
