"""The config file of the fault tests: a rule with a result that a plain loop knows, and its channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

#: What fires, and what is ok again: the plain loop of the storm says the same.
RULE = """
[[rules]]
name = "{name}"
metric = "cpu_utilization"
above = {{ critical = 90 }}
breach = "3 of 3"
recover = "2 of 2"
notify = [{notify}]
{more}
"""

METRICS = """
[[metrics]]
name = "cpu_utilization"
period = "{period}s"
[collect]
metrics = [{collected}]
"""

CHANNEL = """
[channels.{name}]
type = "{type}"
url = "{url}"
allow_private = true
{more}
"""

WORKER = """
[[workers]]
id = "{id}"
region = "us-east-1"
interval = "{interval}s"
labels = {{ {labels} }}
"""


def channel(name: str, url: str, kind: str = "webhook", more: str = "") -> str:
    """Return a channel's section."""
    return CHANNEL.format(name=name, type=kind, url=url, more=more)


def workers(ids: Sequence[str], interval: int, **labels: str) -> str:
    """Return the sections of these workers."""
    label_text = ", ".join(f'{key} = "{value}"' for key, value in labels.items())
    return "".join(WORKER.format(id=worker_id, interval=interval, labels=label_text) for worker_id in ids)


def text(
    period: int,
    channels: Mapping[str, str],
    rule: str = "cpu-high",
    more: str = "",
    collected: Sequence[str] = ("cpu_utilization",),
) -> str:
    """Return the rule over datapoints of a period (seconds) with these channels. The values are their sections."""
    rule_section = RULE.format(name=rule, notify=_quoted(channels), more=more)
    return rule_section + "".join(channels.values()) + METRICS.format(period=period, collected=_quoted(collected))


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
