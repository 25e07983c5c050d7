"""What people are told: what, where, since when, the value and the threshold, a small chart, how to silence it."""

from __future__ import annotations

import shlex
import string
from collections.abc import Callable, Sequence

from workermon import errors, logs, models
from workermon.alerts import message
from workermon.config import catalogue
from workermon.rules import event

log = logs.get(__name__)

_BARS = "▁▂▃▄▅▆▇█"

#: Values that a sparkline shows at most.
_WIDEST = 40

#: Alerts that a message about a group lists; the others are counted.
_LISTED = 60

_SIGNS = {"firing": "FIRING", "resolved": "RESOLVED"}


def title(notification: models.Notification) -> str:
    """Return one line for a subject.

    Such as ``[FIRING critical] render-07: cpu_utilization 97.5 % > 90 % for 3 of 3 datapoints``.
    """
    sign = "STILL FIRING" if notification.reminder else _SIGNS[notification.status]
    if notification.status == "firing":
        sign += f" {notification.severity}"
    return errors.printable(f"[{sign}] {_summary(notification)}")


def _summary(notification: models.Notification) -> str:
    """Return the line for people; how long it is until something begins was true when it was first said."""
    repeated = notification.reminder and notification.kind == event.KIND
    return event.later(notification.summary) if repeated else notification.summary


def fields(notification: models.Notification) -> dict[str, str]:
    """Return what a template may name; what there is not is empty."""
    worker, scope = notification.worker, notification.scope or {}
    unit = unit_of(notification)
    return {
        "id": notification.id,
        "dedup_key": notification.dedup_key,
        "title": title(notification),
        "status": notification.status,
        "severity": notification.severity,
        "kind": notification.kind,
        "rule": notification.rule,
        "metric": notification.metric or "",
        "value": _shown(notification.value, unit),
        "threshold": _shown(notification.threshold, unit),
        "since": notification.since,
        "at": notification.at,
        "summary": _summary(notification),
        "reason": notification.reason or "",
        "worker": worker.name if worker else "",
        "worker_id": worker.id if worker else "",
        "region": worker.region if worker else scope.get("region", ""),
        "account": worker.account if worker else scope.get("account", ""),
        "labels": ", ".join(f"{key}={value}" for key, value in sorted(worker.labels.items())) if worker else "",
        "where": where(notification),
        "chart": sparkline([point.value for point in notification.points]),
        "silence": silence(notification),
    }


def where(notification: models.Notification) -> str:
    """Name what it is about: the worker with its id and region, else the account and region, or all of it."""
    if notification.worker is not None:
        worker = notification.worker
        shown = worker.id if worker.name == worker.id else f"{worker.name} ({worker.id})"
        return f"{shown} in {_place(worker)}"
    scope = notification.scope or {}
    if "channel" in scope:
        return f"channel {scope['channel']}"
    if scope.get("account", "*") == "*":
        return "workermon"  # the whole installation
    return f"account {scope['account']} in {scope.get('region', '')}"


def _place(worker: models.Subject) -> str:
    return worker.region if worker.account == "default" else f"{worker.region}, account {worker.account}"


def silence(notification: models.Notification) -> str:
    """Return the command that silences it for two hours."""
    of = f"--worker {shlex.quote(notification.worker.id)} " if notification.worker else ""
    return f"workermon silence {of}--rule {shlex.quote(notification.rule)} --for 2h --reason '…'"


def sparkline(values: Sequence[float]) -> str:
    """Draw values as a row of bars, from the least to the greatest.

    >>> sparkline([1, 5, 9, 5]), sparkline([3, 3]), sparkline([])
    ('▁▅█▅', '▅▅', '')
    """
    shown = values[-_WIDEST:]
    if not shown:
        return ""
    least, most = min(shown), max(shown)
    if most == least:
        return _BARS[len(_BARS) // 2] * len(shown)
    top = len(_BARS) - 1
    return "".join(_BARS[round((value - least) / (most - least) * top)] for value in shown)


def plain(notification: models.Notification) -> str:
    """Return the whole message, a fact a line."""
    had = fields(notification)
    lines = [had["title"], f"where: {had['where']}"]
    if had["labels"]:
        lines.append(f"labels: {had['labels']}")
    lines.append(f"since: {had['since']}" + (f", decided at {had['at']}" if had["at"] != had["since"] else ""))
    if had["metric"] and had["value"]:
        lines.append(f"value: {had['metric']} {had['value']}" + (f" {had['chart']}" if had["chart"] else ""))
    if had["metric"] and had["threshold"]:
        lines.append(f"threshold: {had['threshold']}")
    if had["reason"]:
        lines.append(f"reason: {had['reason']}")
    if notification.status == "firing":
        lines.append(f"silence: {had['silence']}")
        lines.append(f"acknowledge: workermon ack {shlex.quote(had['dedup_key'])}")
    return "\n".join(errors.printable(line) for line in lines)


def rendered(
    channel: models.Channel, notification: models.Notification, escape: Callable[[str], str] = str
) -> str | None:
    """Fill in a channel's template with the notification's fields, each escaped; ``None`` where there is none.

    A template that does not render is logged and counts as none, for the alert itself is what matters.
    """
    if channel.template is None:
        return None
    try:
        values = {name: escape(errors.printable(value)) for name, value in fields(notification).items()}
        return string.Template(channel.template).substitute(values)
    except (KeyError, ValueError) as why:
        log.error("template.not_rendered", channel=channel.name, reason=errors.printable(str(why)))
        return None


def body(channel: models.Channel, notification: models.Notification) -> str:
    """Return the text for people: by the channel's template where it has one."""
    return rendered(channel, notification) or plain(notification)


def group_title(notifications_: Sequence[models.Notification]) -> str:
    """Return one line for a message about many alerts of one rule."""
    firing = [told for told in notifications_ if told.status == "firing"]
    counts = [f"FIRING {len(firing)}"] if firing else []
    if over := len(notifications_) - len(firing):
        counts.append(f"RESOLVED {over}")
    first = notifications_[0]
    worst = " critical" if any(told.severity == "critical" for told in firing) else ""
    region = f" in {_place(first.worker)}" if first.worker else ""
    return errors.printable(f"[{', '.join(counts)}{worst}] {first.rule}: {len(notifications_)} alerts{region}")


def group_lines(notifications_: Sequence[models.Notification]) -> list[str]:
    """Return a line for each alert of a group, those that fire first, critical before warning; then how to silence."""
    order = {"critical": 0, "warning": 1}
    ranked = sorted(notifications_, key=lambda told: (told.status != "firing", order[told.severity], where(told)))
    lines = [f"{title(told)}, since {told.since} ({where(told)})" for told in ranked[:_LISTED]]
    if more := len(ranked) - _LISTED:
        lines += [f"and {more} more: see 'workermon alerts'"] if more > 0 else []
    if any(told.status == "firing" for told in ranked):
        lines.append(f"silence: workermon silence --rule {shlex.quote(ranked[0].rule)} --for 2h --reason '…'")
    return [errors.printable(line) for line in lines]


def group_body(channel: models.Channel, notifications_: Sequence[models.Notification]) -> str:
    """Return the text about a group: by the channel's template once for each where it has one."""
    if channel.template is not None:
        return "\n\n".join(body(channel, told) for told in notifications_)
    return "\n".join((group_title(notifications_), *group_lines(notifications_)))


def unit_of(notification: models.Notification) -> str:
    """Return the unit of the metric where it is one that is known by name, else none."""
    found = catalogue.CATALOGUE.get(notification.metric or "")
    return found.unit if found else "count"


def _shown(value: float | None, unit: str) -> str:
    return "" if value is None else message.quantity(value, unit)
