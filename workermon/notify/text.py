"""Messages for people: what, where, since when, the value and the threshold, a small chart, how to silence it."""

from __future__ import annotations

import re
import shlex
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from workermon import errors, logs, models, rules
from workermon.config import catalogue
from workermon.rules import wording

log = logs.get(__name__)

_BARS = "▁▂▃▄▅▆▇█"

#: Maximum values in a sparkline.
MAX_BARS = 40

#: Alerts that a message about a group lists; the others are only counted.
MAX_LISTED = 60

#: What receivers turn into links or mentions, in text from outside, and its replacement: addresses, hosts with a path,
#: mail addresses and mentions, and links in Markdown.
_LINKS = (
    (re.compile(r"(?<=\w):(?=//)"), "[:]"),
    (re.compile(r"\b(mailto|tel|javascript|data):(?=\S)", re.IGNORECASE), r"\1[:]"),
    (re.compile(r"\b(www)\.(?=\w)", re.IGNORECASE), r"\1[.]"),
    (re.compile(r"(?<=\w)\.(?=[a-z]{2,}/)", re.IGNORECASE), "[.]"),
    (re.compile(r"([@~])(?=\w)"), r"[\1]"),
    (re.compile(r"\](?=\()"), "] "),
)

_SIGNS = {"firing": "FIRING", "resolved": "RESOLVED"}


def safe(text: str) -> str:
    """Return text from outside, such as a tag, on one line without hidden characters, links and mentions.

    >>> safe("@channel see https://evil.example or [this](x)")
    '[@]channel see https[:]//evil.example or [this] (x)'
    """
    text = errors.printable(text)
    for pattern, instead in _LINKS:
        text = pattern.sub(instead, text)
    return text


def title(notification: models.Notification) -> str:
    """Return one line for a subject.

    Such as ``[FIRING critical] render-07: cpu_utilization 97.5 % > 90 % for 3 of 3 datapoints``.
    """
    sign = "STILL FIRING" if notification.reminder else _SIGNS[notification.status]
    if notification.status == "firing":
        sign += f" {notification.severity}"
    return f"[{sign}] {_summary(notification)}"


def _summary(notification: models.Notification) -> str:
    """Return the line for people. A reminder leaves out the time until an event begins, because that has passed."""
    kind = rules.KINDS.get(notification.kind)
    return safe(kind.later(notification.summary) if notification.reminder and kind else notification.summary)


def fields(notification: models.Notification) -> dict[str, str]:
    """Return the values that a template may name (``config.channels.TEMPLATE_FIELDS``); "" if absent."""
    worker, scope = notification.worker, notification.scope or {}
    unit = _unit(notification)
    return {
        "id": notification.id,
        "dedup_key": notification.dedup_key,
        "title": title(notification),
        "status": notification.status,
        "severity": notification.severity,
        "kind": notification.kind,
        "rule": notification.rule,
        "metric": notification.metric or "",
        "value": _quantity(notification.value, unit),
        "threshold": _quantity(notification.threshold, unit),
        "since": notification.condition_since or notification.since,
        "fired": notification.since,
        "at": notification.at,
        "summary": _summary(notification),
        "reason": safe(notification.reason or ""),
        "worker": safe(worker.name) if worker else "",
        "worker_id": worker.id if worker else "",
        "region": worker.region if worker else scope.get("region", ""),
        "account": worker.account if worker else scope.get("account", ""),
        "labels": _labels(worker.labels) if worker else _labels(_group_label(notification)),
        "where": subject_of(notification),
        "chart": sparkline([point.value for point in notification.points]),
        "silence": silence(notification),
        "description": safe(notification.description or ""),
        "runbook": runbook(notification),
        "owner": safe(notification.owner or ""),
    }


def runbook(notification: models.Notification) -> str:
    """Return the address of the runbook; "" if there is none. It is a link on purpose, so it is left unchanged."""
    return errors.printable(notification.runbook or "")


def annotation_lines(notification: models.Notification) -> list[str]:
    """Return the rule's annotations for the people notified, one line each."""
    about = fields(notification)
    return [f"{name}: {about[name]}" for name in models.ANNOTATIONS if about[name]]


def subject_of(notification: models.Notification) -> str:
    """Name the subject: the worker with its id and region, or a group, channel, account and region, or workermon."""
    if notification.worker is not None:
        worker = notification.worker
        label = worker.id if worker.name == worker.id else f"{safe(worker.name)} ({worker.id})"
        return f"{label} in {_place(worker)}"
    if notification.group is not None:
        return safe("group {by}={value}".format(**notification.group))
    scope = notification.scope or {}
    if "channel" in scope:
        return f"channel {scope['channel']}"
    if scope.get("account", "*") == "*":
        return "workermon"  # the whole installation
    return f"account {scope['account']} in {scope.get('region', '')}"


def _group_label(notification: models.Notification) -> dict[str, str]:
    group = notification.group
    return {} if group is None else {group["by"]: group["value"]}


def _labels(labels: Mapping[str, str]) -> str:
    return safe(", ".join(f"{key}={value}" for key, value in sorted(labels.items())))


def _place(worker: models.NotifiedWorker) -> str:
    return worker.region if worker.account == models.DEFAULT_ACCOUNT else f"{worker.region}, account {worker.account}"


def silence(notification: models.Notification) -> str:
    """Return the command that silences it for two hours."""
    if notification.group is not None:
        return f"workermon silence {shlex.quote(notification.dedup_key)} --for 2h --reason '…'"
    of = f"--worker {shlex.quote(notification.worker.id)} " if notification.worker else ""
    return f"workermon silence {of}--rule {shlex.quote(notification.rule)} --for 2h --reason '…'"


def sparkline(values: Sequence[float]) -> str:
    """Draw values as a row of bars, from the least to the greatest.

    >>> sparkline([1, 5, 9, 5]), sparkline([3, 3]), sparkline([])
    ('▁▅█▅', '▅▅', '')
    """
    last_values = values[-MAX_BARS:]
    if not last_values:
        return ""
    least, most = min(last_values), max(last_values)
    if most == least:
        return _BARS[len(_BARS) // 2] * len(last_values)
    top = len(_BARS) - 1
    return "".join(_BARS[round((value - least) / (most - least) * top)] for value in last_values)


def plain(notification: models.Notification) -> str:
    """Return the whole message, one fact a line."""
    about = fields(notification)
    lines = [about["title"], f"where: {about['where']}"]
    if about["labels"]:
        lines.append(f"labels: {about['labels']}")
    lines.append(f"since: {about['since']}{_fired(about)}")
    if about["metric"] and about["value"]:
        chart = f" {about['chart']}" if about["chart"] else ""
        lines.append(f"value: {about['metric']} {about['value']}{chart}")
    if about["metric"] and about["threshold"]:
        lines.append(f"threshold: {about['threshold']}")
    if about["reason"]:
        lines.append(f"reason: {about['reason']}")
    lines += annotation_lines(notification)
    if notification.status == "firing":
        lines.append(f"silence: {about['silence']}")
        lines.append(f"acknowledge: workermon ack {shlex.quote(about['dedup_key'])}")
    return "\n".join(errors.printable(line) for line in lines)


def _fired(about: Mapping[str, str]) -> str:
    """Describe when the alert fired and when this was decided, if these differ from its beginning."""
    fired = f", fired at {about['fired']}" if about["fired"] != about["since"] else ""
    return fired + (f", decided at {about['at']}" if about["at"] not in (about["since"], about["fired"]) else "")


def rendered(
    channel: models.Channel, notification: models.Notification, escape: Callable[[str], str] = str
) -> str | None:
    """Fill in a channel's template with the notification's fields, each escaped; ``None`` if it has no template.

    A template that does not render is logged and counts as none, because the alert itself is what matters.
    """
    if channel.template is None:
        return None
    try:
        values = {name: escape(errors.printable(value)) for name, value in fields(notification).items()}
        return string.Template(channel.template).substitute(values)
    except (KeyError, ValueError) as error:
        log.error("template.not_rendered", channel=channel.name, reason=errors.printable(str(error)))
        return None


def subject(notifications: Sequence[models.Notification]) -> str:
    """Return one line for a message about a notification, or about many of one rule."""
    return title(notifications[0]) if len(notifications) == 1 else _group_title(notifications)


def body(channel: models.Channel, notifications: Sequence[models.Notification]) -> str:
    """Return the text of a message for people. The channel's template is filled in once for each notification."""
    if len(notifications) > 1 and channel.template is None:
        return "\n".join((_group_title(notifications), *group_lines(notifications)))
    return "\n\n".join(rendered(channel, notification) or plain(notification) for notification in notifications)


def state(notifications: Sequence[models.Notification]) -> Literal["critical", "warning", "resolved"]:
    """Return the worst firing severity, or ``resolved``."""
    firing = {notification.severity for notification in notifications if notification.status == "firing"}
    return "critical" if "critical" in firing else "warning" if firing else "resolved"


def _group_title(notifications: Sequence[models.Notification]) -> str:
    firing = Counter(notification.severity for notification in notifications if notification.status == "firing")
    counts = []
    if firing:
        by_severity = (f"{firing[severity]} {severity}" for severity in reversed(models.SEVERITIES) if firing[severity])
        counts.append(f"FIRING {', '.join(by_severity)}")
    if resolved := len(notifications) - firing.total():
        counts.append(f"RESOLVED {resolved}")
    first = notifications[0]
    region = f" in {_place(first.worker)}" if first.worker else ""
    return errors.printable(f"[{'; '.join(counts)}] {first.rule}: {len(notifications)} alerts{region}")


def group_lines(notifications: Sequence[models.Notification]) -> list[str]:
    """Return a line for each alert of a group, the worst first, their rule's annotations, and how to silence them all.

    Annotations that all of them share appear once.
    """
    order = {"critical": 0, "warning": 1}
    ranked = sorted(
        notifications,
        key=lambda notification: (
            notification.status != "firing",
            order[notification.severity],
            subject_of(notification),
        ),
    )
    shared = all(models.annotations_of(notification) == models.annotations_of(ranked[0]) for notification in ranked)
    lines = []
    for notification in ranked[:MAX_LISTED]:
        since = notification.condition_since or notification.since
        lines.append(f"{title(notification)}, since {since} ({subject_of(notification)})")
        lines += () if shared else (f"  {line}" for line in annotation_lines(notification))
    if len(ranked) > MAX_LISTED:
        lines.append(f"and {len(ranked) - MAX_LISTED} more: see 'workermon alerts'")
    if shared:
        lines += annotation_lines(ranked[0])
    if ranked[0].status == "firing":
        lines.append(f"silence: workermon silence --rule {shlex.quote(ranked[0].rule)} --for 2h --reason '…'")
    return [errors.printable(line) for line in lines]


def _unit(notification: models.Notification) -> str:
    """Return the unit of the value. A notification from before units were recorded gets that of the catalogue."""
    if notification.unit is not None:
        return notification.unit
    metric = catalogue.CATALOGUE.get(notification.metric or "")
    return metric.unit if metric else "count"


def _quantity(value: float | None, unit: str) -> str:
    return "" if value is None else wording.quantity(value, unit)
