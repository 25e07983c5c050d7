"""Renders the page's templates: all input is text, never markup. Formats values."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from fastapi.responses import Response

from workermon import errors, models, views

HERE = Path(__file__).parent
TEMPLATES, STATIC = HERE / "templates", HERE / "static"

#: A mark for each state beside its colour, so that nobody has to distinguish colours.
MARKS: Mapping[str, str] = {
    "critical": "◆",
    "warning": "▲",
    "late": "◌",
    "unknown": "?",
    "stopped": "□",
    "paused": "‖",
    "ok": "●",
}

#: Metrics' names in a table's head; others have their own name.
SHORT_NAMES: Mapping[str, str] = {
    "cpu_utilization": "CPU",
    "memory_utilization": "Memory",
    "disk_utilization": "Disk",
    "network_in": "Net in",
    "network_out": "Net out",
    "disk_read_bytes": "Disk read",
    "disk_write_bytes": "Disk write",
    "cpu_credit_balance": "Credits",
    models.STATUS_CHECK_FAILED: "Checks failed",
    "system_check_failed": "System check",
    "instance_check_failed": "Instance check",
    "ebs_check_failed": "EBS check",
    "application_check_failed": "Application check",
    "performance_check_failed": "Performance check",
}


#: Types of static files, by the end of their names.
TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def render(template: str, **values: Any) -> str:
    """Return a page or a part of one."""
    return _environment().get_template(template).render(values)


def age(seconds: float | None) -> str:
    """Write how old something is.

    >>> age(5), age(200), age(7300), age(200_000), age(None)
    ('5 s', '3 min', '2 h', '2 d', 'never')
    """
    if seconds is None:
        return "never"
    for size, unit in ((models.DAY, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (size != 60 and seconds >= size * 1.5):
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def brief(value: float, unit: str) -> str:
    """Write a value for a column of a table: one decimal, so that figures are aligned.

    >>> brief(97.25, "percent"), brief(1_530_000.0, "bytes"), brief(3, "count")
    ('97.2 %', '1.5 MB', '3')
    """
    return views.one_decimal(value, unit) or views.quantity(value, unit)


def clock(at: float | str | None) -> str:
    """Write the time of day in UTC.

    >>> clock(1_700_000_000.25), clock("2023-11-14T22:13:20Z"), clock(None)
    ('22:13:20', '22:13:20', '–')
    """
    if at is None:
        return "–"
    return (at if isinstance(at, str) else models.rfc3339(at))[11:19]


def day(at: float | str) -> str:
    """Write the day in UTC.

    >>> day(1_700_000_000)
    '2023-11-14'
    """
    return (at if isinstance(at, str) else models.rfc3339(at))[:10]


def moment(at: float | str) -> float:
    """Return a time in seconds, whatever its form in a view."""
    return models.moment(at) if isinstance(at, str) else at


def step(value: float | None, top: float = 100.0) -> int:
    """Return a value's share of ``top`` in percent, in steps of five: the style sheet has a class for each.

    >>> step(41.2), step(250), step(None)
    (40, 100, 0)
    """
    if value is None or top <= 0:
        return 0
    return 5 * round(20 * min(1.0, max(0.0, value / top)))


def query(**parts: Any) -> str:
    """Return a query string of the given values; a mapping is repeated as ``key=value``.

    >>> query(q="a b", state=None, label={"team": "vfx"})
    '?q=a+b&label=team%3Dvfx'
    """
    pairs: list[tuple[str, str]] = []
    for name, value in parts.items():
        if isinstance(value, Mapping):
            pairs += [(name, f"{key}={text}") for key, text in value.items()]
        elif value not in (None, "", 0):
            pairs.append((name, str(value)))
    return f"?{urlencode(pairs)}" if pairs else ""


def path(*parts: str) -> str:
    """Return an address on this page.

    >>> path("alerts", "i-0abc/cpu-high", "timeline")
    '/alerts/i-0abc/cpu-high/timeline'
    """
    return "/" + "/".join(quote(part, safe="/") for part in parts)


@dataclasses.dataclass(frozen=True, slots=True)
class Spark:
    """A line of datapoints in a box of 100 by 30: its ``points`` as SVG, and the height of the limit."""

    points: str
    limit: float | None


def spark_line(transition: views.RecordedTransition) -> Spark | None:
    """Return the deciding datapoints of a transition as a line; ``None`` if there are too few."""
    if len(transition.points) < 2:
        return None
    values = [point.value for point in transition.points]
    every = [*values, *([] if transition.threshold is None else [transition.threshold])]
    low, high = min(every), max(every)
    scale = 24 / ((high - low) or 1.0)
    times = [point.at for point in transition.points]
    width = 100 / ((times[-1] - times[0]) or 1.0)
    shown_thresholds = (
        f"{(at - times[0]) * width:.1f},{27 - (value - low) * scale:.1f}"
        for at, value in zip(times, values, strict=True)
    )
    return Spark(
        " ".join(shown_thresholds),
        None if transition.threshold is None else round(27 - (transition.threshold - low) * scale, 1),
    )


def static(version: str, name: str) -> Response:
    """Return a static file; raises ``errors.NotFound`` for any other name.

    It may be cached for ever, because its address changes with its content.
    """
    content = _files().get(name)
    if content is None:
        raise errors.NotFound(f"file {errors.printable(name)[:64]}", "does not exist", "go back to the page")
    cache_control = "public, max-age=31536000, immutable" if version == _version() else "no-cache"
    kind = TYPES.get(Path(name).suffix, "text/plain; charset=utf-8")
    return Response(content, media_type=kind, headers={"Cache-Control": cache_control})


def asset(name: str) -> str:
    """Return the address of a static file. All share a version, because modules import each other by relative names."""
    return f"/static/{_version()}/{name}"


@functools.cache
def _files() -> Mapping[str, bytes]:
    return {str(file.relative_to(STATIC)): file.read_bytes() for file in sorted(STATIC.rglob("*")) if file.is_file()}


@functools.cache
def _version() -> str:
    digest = hashlib.sha256()
    for name, content in _files().items():
        digest.update(f"{name} {len(content)} ".encode() + content)
    return digest.hexdigest()[:12]


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "age": age,
        "brief": brief,
        "clock": clock,
        "day": day,
        "moment": moment,
        "quantity": views.quantity,
        "rfc3339": models.rfc3339,
        "short": lambda name: SHORT_NAMES.get(name, name),
        "spark_line": spark_line,
        "step": step,
    }
    environment.globals |= {"asset": asset, "marks": MARKS, "path": path, "query": query}
    return environment
