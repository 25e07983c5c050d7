"""Notifications and channels as tests need them."""

from __future__ import annotations

from typing import Any

from workermon import config, models, ports, testing
from workermon.models import Channel

NOW = 1_700_000_100.0
KEY = "R0UTINGKEY0123456789abcdefghijkl"
USUAL = {"KEY": KEY, "PASSWORD": "hunter2hunter2", "BAD": "no key\nat all"}
SECRETS = testing.MemorySecrets(USUAL)


def notification(version: int = 7, **changes: object) -> models.Notification:
    """Return a notification, by default the contract's example."""
    return models.Notification.model_validate(
        {
            "id": f"4f1c{version:036x}", "version": version, "dedup_key": "i-0abc0123456789def/cpu-high",
            "kind": "threshold", "status": "firing", "severity": "critical", "rule": "cpu-high",
            "metric": "cpu_utilization", "value": 97.5, "threshold": 90.0, "since": "2023-11-14T22:13:20Z",
            "at": "2023-11-14T22:13:20Z",
            "worker": {"id": "i-0abc0123456789def", "name": "rénder-07", "region": "us-east-1", "labels": {"a": "b"}},
            "summary": "rénder-07: cpu_utilization 97.5 % > 90 % for 3 of 3 datapoints", **changes,
        }
    )  # fmt: skip


def notifiers(**secrets: str) -> dict[str, ports.Notifier]:
    """Return the notifiers, with these secrets beside the usual ones."""
    return testing.notifiers(lambda: NOW, **{**USUAL, **secrets})


def of(kind: str, **fields: Any) -> Channel:
    """Return a channel ``ops`` of a type, which may reach this machine."""
    shared = {key: fields.pop(key) for key in config.channels.SHARED & fields.keys()}
    return Channel(name="ops", type=kind, options=fields, **{"allow_private": True, **shared})


def many(number: int, **changes: Any) -> list[models.Notification]:
    """Return alerts of one rule on many workers."""
    return [
        notification(1, id=f"n{place}", dedup_key=f"i-{place}/cpu-high", summary=f"render-{place:03}: <b> 97 % > 90 %",
             worker={"id": f"i-{place}", "name": f"render-{place:03}", "region": "us-east-1"}, **changes)
        for place in range(number)
    ]  # fmt: skip
