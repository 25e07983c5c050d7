"""The live table of ``watch`` and ``demo``: alerts on top, then the fleet, from the messages of the channel."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from workermon import errors, models, ports
from workermon.cli import output

#: Frames a second: ages keep counting between two messages.
FRAMES = 4
#: Datapoints in a sparkline, and lines of alerts.
SPARK = 16
ALERTS = 8
#: Lines beside alerts and workers: the head, the titles of the columns, and two below the table.
_AROUND = 4
#: Characters of an instance id, of a value with its age ("100.0 % 59s"), and of a name before other columns go.
_ID, _VALUE, _NAME = 19, 11, 16
#: Additional characters of an old value, which is marked.
_OLD = 4

#: Minimum columns of a terminal for figures in the head.
_WIDE = 90

_BARS = "▁▂▃▄▅▆▇█"
_STYLES = {"warning": "yellow", "critical": "bold red", "resolved": "green"}
#: Severities have a mark too, for people who cannot see colours.
_MARKS = {"warning": "!", "critical": "!!"}


def line(notification: models.Notification) -> str:
    """Return one alert as one line: time, ``firing`` or ``resolved``, rule, worker, and why."""
    about = f"{notification.rule} {output.subject(notification)} {output.reason(notification)}"
    return errors.printable(f"{notification.at} {notification.status} {about}")


def age(seconds: float) -> str:
    """Return how old something is, in at most four characters.

    >>> age(7.6), age(300), age(90_000), age(-3)
    ('7s', '5m', '25h', '0s')
    """
    for limit, factor, unit in ((120, 1, "s"), (7200, 60, "m"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{max(0, int(seconds / factor))}{unit}"
    return f"{int(seconds / 86_400)}d"


def show(messages: Iterable[models.Event | models.Notification], console: Console, board: Board) -> None:
    """Draw a board repeatedly while messages arrive."""
    with Live(board, console=console, refresh_per_second=FRAMES, screen=False):
        for message in messages:
            board.take(message)


class Board:
    """Handles messages and renders the fleet, also at the same time."""

    def __init__(self, now: ports.Clock, *, title: str) -> None:
        self._now, self._title = now, title
        self._events: dict[str, models.Event] = {}
        self._values: dict[str, deque[float]] = {}
        self._latest_at: dict[str, str] = {}
        self._firing: dict[str, models.Notification] = {}
        self._resolved: deque[models.Notification] = deque(maxlen=ALERTS)
        self._counts = {"firing": 0, "resolved": 0}

    def take(self, message: models.Event | models.Notification) -> None:
        """Handle a message of the channel."""
        if isinstance(message, models.Event):
            self._events[message.worker_id] = message
            cpu = message.metrics.get("cpu_utilization")
            if cpu is not None and self._latest_at.get(message.worker_id) != cpu.at:
                self._latest_at[message.worker_id] = cpu.at
                self._values.setdefault(message.worker_id, deque(maxlen=SPARK)).append(cpu.value)
            return
        # A change of severity is the same alert, still firing.
        self._counts[message.status] += message.status == "resolved" or message.dedup_key not in self._firing
        if message.status == "firing":
            self._firing[message.dedup_key] = message
        else:
            self._firing.pop(message.dedup_key, None)
            self._resolved.appendleft(message)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render as much as the width and height of the terminal hold."""
        height, width = options.height or console.height, console.width
        alerts = self._alerts(max(1, min(ALERTS, height // 3)))
        # A terminal echoes ^C on the empty line. At the end of a full screen it would scroll everything up.
        yield Group(
            self._head(width), *alerts, *self._fleet(width, max(height - len(alerts) - _AROUND, 3)), Text(""), fit=True
        )

    def _head(self, width: int) -> Text:
        head = Text(no_wrap=True, overflow="ellipsis")
        head.append(f" {self._title} ", style="bold reverse")
        head.append(f"  {models.plural(len(self._events), 'worker')}  ")
        head.append(f"{len(self._firing)} firing", style="bold red" if self._firing else "green")
        if width >= _WIDE:
            head.append(f"  {self._counts['firing']} fired, {self._counts['resolved']} resolved", style="dim")
        head.append(f"  {models.rfc3339(int(self._now()))[11:]}  Ctrl-C ends", style="dim")
        return head

    def _alerts(self, most: int) -> list[RenderableType]:
        """Return the firing alerts, the worst first and then the newest, and recently resolved ones."""
        firing = list(self._firing.values())
        firing.sort(key=lambda row: row.at, reverse=True)
        firing.sort(key=lambda row: models.SEVERITIES.index(row.severity), reverse=True)
        rows = [*firing, *list(self._resolved)][:most]
        lines: list[RenderableType] = [Text("alerts", style="dim"), *(self._alert(alert) for alert in rows)]
        if len(firing) > len(rows):
            lines.append(Text(f"and {len(firing) - len(rows)} more firing", style="dim"))
        return lines if rows else [*lines, Text("none", style="dim")]

    def _alert(self, alert: models.Notification) -> Text:
        state = alert.severity if alert.status == "firing" else "resolved"
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{state:<8} ", style=_STYLES[state])
        text.append(f"{age(self._now() - models.moment(alert.at)):>4}  ", style="dim")
        text.append(f"{errors.printable(output.subject(alert))}  ", style="bold")
        return text.append(f"{errors.printable(alert.rule)}  {errors.printable(output.reason(alert))}")

    def _fleet(self, width: int, most: int) -> list[RenderableType]:
        if not self._events:
            return [Text("waiting for the first samples …", style="dim")]
        alerts: dict[str, list[models.Notification]] = {}
        for alert in list(self._firing.values()):
            if alert.worker:
                alerts.setdefault(alert.worker.id, []).append(alert)
        events = sorted(self._events.values(), key=lambda event: (event.worker_name, event.worker_id))
        if len(events) > most:  # workers with an alert are never left out for others
            events = sorted(events, key=lambda event: event.worker_id not in alerts)[: most - 1]
            events.sort(key=lambda event: (event.worker_name, event.worker_id))
        rows = [
            _Row(event, alerts.get(event.worker_id, []), list(self._values.get(event.worker_id, ())), self._now())
            for event in events
        ]
        fleet: list[RenderableType] = [_table(rows, width)]
        if len(rows) < len(self._events):
            hidden = len(alerts.keys() & self._events.keys()) - sum(bool(row.alerts) for row in rows)
            well = f"{hidden} of them with an alert" if hidden else "all well"
            fleet.append(Text(f"and {len(self._events) - len(rows)} more, {well}", style="dim"))
        return fleet


# --- columns -----------------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """A worker's newest event, its alerts, its last CPU values, and the time now."""

    event: models.Event
    alerts: Sequence[models.Notification]
    values: Sequence[float]
    now: float


class _Column(NamedTuple):
    """A column: its width, and the contents of its cells."""

    title: str
    width: int
    cell: Callable[[_Row], Text]


def _table(rows: Sequence[_Row], width: int) -> Table:
    columns = _chosen(rows, width)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, expand=False)
    for column in columns:
        table.add_column(column.title, width=column.width, no_wrap=True, overflow="ellipsis", header_style="dim")
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def _chosen(rows: Sequence[_Row], width: int) -> list[_Column]:
    """Return the columns that fit: the least important are left out first, and an id is never cut."""
    longest = max(len(_name(row)) for row in rows)
    status = max(len("status"), *(len(_status(row)) for row in rows))
    severity_column = _Column("", 2, _severity_symbol)
    worker_id = _Column("id", _ID, lambda row: Text(row.event.worker_id, style=_worst(row)))
    cpu, memory, disk = (_Column(title, _width(rows, metric), _reading(metric)) for title, metric in _METRICS)
    spark = _Column("cpu so far", SPARK, _spark)
    state = _Column("status", status, _status)
    rules = _Column("alerts", 16, _rules)
    checks = _Column("checks", 11, _checks)

    def name_column(room: int) -> _Column:
        return _Column("name", max(min(longest, room), 1), lambda row: Text(_name(row), style=_worst(row)))

    for columns in (
        (severity_column, worker_id, state, checks, cpu, memory, disk, spark, rules),
        (severity_column, worker_id, state, cpu, memory, disk, spark, rules),
        (severity_column, worker_id, state, cpu, memory, disk, rules),
        (severity_column, worker_id, state, cpu, memory, disk),
        (severity_column, worker_id, state, cpu, memory),
        (severity_column, worker_id, state, cpu),
        (severity_column, worker_id, cpu),
        (severity_column, cpu),
    ):
        room = width - sum(column.width + 1 for column in columns)
        if room >= min(longest, _NAME):
            return [columns[0], name_column(room), *columns[1:]] if longest else list(columns)
    return [name_column(width)] if longest else [worker_id]


def _name(row: _Row) -> str:
    """Return a worker's name; empty if that is only its id."""
    return "" if row.event.worker_name == row.event.worker_id else errors.printable(row.event.worker_name)


def _worst(row: _Row, metric: str | None = None) -> str:
    """Return the style of the worst alert of a worker, or of one of its metrics."""
    severities = [alert.severity for alert in row.alerts if metric in (None, alert.metric)]
    return _STYLES[max(severities, key=models.SEVERITIES.index)] if severities else ""


def _severity_symbol(row: _Row) -> Text:
    worst = max((alert.severity for alert in row.alerts), key=models.SEVERITIES.index, default=None)
    return Text("" if worst is None else _MARKS[worst], style=_worst(row))


def _status(row: _Row) -> Text:
    checks = row.event.status_checks
    if checks is not None and checks.failed:
        return Text("impaired", style="bold red")
    return Text(row.event.status, style="green" if row.event.status == "running" else "dim")


def _checks(row: _Row) -> Text:
    checks = row.event.status_checks
    if checks is None:
        return Text("-", style="dim")
    styles = {"ok": "green", "impaired": "bold red"}
    text = Text(checks.system, style=styles.get(checks.system, "dim"))
    text.append("/", style="dim").append(checks.instance, style=styles.get(checks.instance, "dim"))
    for name in checks.impaired():
        if name not in ("system", "instance"):
            text.append(f" {name}", style="bold red")
    return text


_METRICS = (("cpu", "cpu_utilization"), ("memory", "memory_utilization"), ("disk", "disk_utilization"))


def _reading(metric: str) -> Callable[[_Row], Text]:
    def cell(row: _Row) -> Text:
        reading = row.event.metrics.get(metric)
        if reading is None:
            return Text("      -", style="dim")
        text = Text(f"{output.quantity(reading.value, reading.unit):>7}", style=_worst(row, metric))
        text.append(f" {age(row.now - models.moment(reading.at)):>3}", style="dim")
        return text.append(" old", style="yellow") if reading.old else text

    return cell


def _width(rows: Sequence[_Row], metric: str) -> int:
    readings = (row.event.metrics.get(metric) for row in rows)
    return _VALUE + _OLD * any(reading is not None and reading.old for reading in readings)


def _spark(row: _Row) -> Text:
    text = Text()
    for value in row.values:
        text.append(_BARS[min(int(max(value, 0.0) / 12.5), 7)], style=_worst(row, "cpu_utilization") or "cyan")
    return text


def _rules(row: _Row) -> Text:
    text = Text()
    for alert in row.alerts:
        text.append(" " if text else "").append(errors.printable(alert.rule), style=_STYLES[alert.severity])
    return text
