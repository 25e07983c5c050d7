"""The whole set-up as a config file, and what one file changes of another: pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from workermon import models
from workermon.config import catalogue, grammar
from workermon.rules import KINDS, Kinds

Table = dict[str, Any]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_UNSAFE = re.compile(r'["\\\x00-\x1f\x7f]')


def text(
    configuration: models.Configuration, fleet: Iterable[models.Worker], now: float = 0.0, kinds: Kinds = KINDS
) -> str:
    """Return the config file that makes this set-up; each section is there, so that nothing else is left standing.

    Workers that ``[discover]`` brought are left out: their tags bring them again; and silences that are over by
    ``now``. An external id that a command gave has no name of a secret, so one is made up for it.
    """
    workers = [worker for worker in fleet if worker.origin != "discover"]
    accounts = {name: _account(it.role_arn, it.external_id) for name, it in configuration.accounts.items()}
    for worker in workers:
        name = _account_name(worker.account)
        if worker.role_arn is not None and name not in accounts:
            secret = re.sub(r"\W", "_", name).upper()
            given = models.SecretRef(env=f"EXTERNAL_ID_{secret}") if worker.external_id is not None else None
            accounts[name] = _account(worker.role_arn, given)
    document: dict[str, Any] = {
        "rules": [_rule(rule, kinds) for rule in configuration.rules],
        "workers": [_worker(worker) for worker in sorted(workers, key=lambda worker: worker.id)],
        "metrics": [
            _metric(metric) for name, metric in configuration.metrics.items() if catalogue.CATALOGUE.get(name) != metric
        ],
        "discover": _plain(configuration.discover),
        "channels": {
            name: {**_plain(channel, "name", "options"), **channel.options}
            for name, channel in configuration.channels.items()
            if catalogue.DEFAULT_CHANNELS.get(name) != channel
        },
        "accounts": accounts,
        "collect": {
            **({} if configuration.chosen is None else {"metrics": configuration.chosen}),
            "retention": f"{configuration.retention}s",
            "lateness": f"{configuration.lateness}s",
        },
        "silences": [_silence(one) for one in configuration.silences if not models.is_over(one, now)],
        "budget": {} if configuration.budget is None else {"dollars_per_day": configuration.budget},
        "limits": {
            key: {"bucket": limit.bucket, "per_second": limit.rate}
            for key, api in grammar.LIMITED.items()
            if (limit := configuration.limits.get(api)) is not None
        },
    }
    return _document(document)


def changes(before: models.Configuration, after: models.Configuration) -> dict[str, dict[str, list[str]]]:
    """Return what a configuration adds, changes and removes of another, by name.

    That is rules, channels, metrics that are collected, silences by what they say, and as ``settings`` the rest:
    what is one value for all, accounts, and the tags that are discovered.
    """
    pairs: dict[str, tuple[Mapping[str, object], Mapping[str, object]]] = {
        "rules": ({it.name: it for it in before.rules}, {it.name: it for it in after.rules}),
        "channels": (before.channels, after.channels),
        "collected": (_collected(before), _collected(after)),
        "silences": (
            {models.describe_maintenance(it): it for it in before.silences},
            {models.describe_maintenance(it): it for it in after.silences},
        ),
        "settings": (_settings(before), _settings(after)),
    }
    return {
        what: {
            "added": [name for name in new if name not in old],
            "changed": [name for name in new if name in old and new[name] != old[name]],
            "removed": [name for name in old if name not in new],
        }
        for what, (old, new) in pairs.items()
    }


def _collected(configuration: models.Configuration) -> dict[str, object]:
    return {name: configuration.metrics.get(name) for name in configuration.collect}


def _settings(configuration: models.Configuration) -> dict[str, object]:
    found: dict[str, object] = {"retention": configuration.retention, "lateness": configuration.lateness}
    if configuration.budget is not None:
        found["budget"] = configuration.budget
    found |= {f"limits {api}": limit for api, limit in configuration.limits.items()}
    found |= {f"account {name}": account for name, account in configuration.accounts.items()}
    return found if configuration.discover is None else found | {"discover": configuration.discover}


def _account_name(name: str) -> str:
    """Return an account's name as the file takes it; a role given by command has characters that it does not."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:64]


def _account(role: str, external_id: models.SecretRef | None) -> Table:
    return {"role_arn": role, **({} if external_id is None else {"external_id": _plain(external_id)})}


def _plain(model: models.Frozen | None, *but: str) -> Table:
    """Return what of a model differs from its defaults."""
    if model is None:
        return {}
    found = model.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=set(but))
    return {key: value for key, value in found.items() if value is not None}


def _worker(worker: models.Worker) -> Table:
    found: Table = {"id": worker.id, "region": worker.region}
    if worker.named:
        found["name"] = worker.name
    if worker.account != "default":
        found["account"] = _account_name(worker.account)
    return {**found, "interval": f"{worker.interval}s", **({"labels": worker.labels} if worker.labels else {})}


def _metric(metric: models.Metric) -> Table:
    found = metric.model_dump(exclude_none=True)
    return found if metric.period is None else found | {"period": f"{metric.period}s"}


def _rule(rule: models.Rule, kinds: Kinds) -> Table:
    kind = kinds[rule.kind]
    found: Table = {"name": rule.name, "metric": rule.metric or kind.pseudo_metric, **kind.export(rule)}
    if rule.flapping is not None:
        found["flapping"] = f"{rule.flapping.turns} in {rule.flapping.within}s"
    notify = rule.notify if rule.routes is None else rule.routes
    return {**found, **({"labels": rule.labels} if rule.labels else {}), "notify": notify}


def _silence(one: models.Maintenance) -> Table:
    found = _plain(one, "id")
    for key in ("begins", "ends"):
        if key in found:
            found[key] = models.rfc3339(found[key])
    return found | ({} if one.duration is None else {"duration": f"{one.duration}s"})


# --- TOML --------------------------------------------------------------------------------------------------------


def _document(document: Mapping[str, Any]) -> str:
    lines = [f"{key} = []" for key, value in document.items() if value == []]
    for key, value in document.items():
        if isinstance(value, list):
            for table in value:
                lines += ["", f"[[{key}]]", *_pairs(table)]
        elif key in ("channels", "accounts") and value:
            for name, table in value.items():
                lines += ["", f"[{key}.{_key(name)}]", *_pairs(table)]
        else:
            lines += ["", f"[{key}]", *_pairs(value)]
    return "\n".join(lines).lstrip("\n") + "\n"


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items()]


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_pairs(value)) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return repr(value)


def _string(value: str) -> str:
    return '"' + _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04X}", value) + '"'
