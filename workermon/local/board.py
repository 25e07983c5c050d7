"""What the demo shows: a table of the fleet and the latest alerts, from the events on the channel."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from workermon import errors, models, ports

#: Datapoints in a sparkline, and alerts in the list.
SPARK = 16
ALERTS = 8

_BARS = "▁▂▃▄▅▆▇█"
_STYLES = {"warning": "yellow", "critical": "bold red", "resolved": "green"}
_CHECKS = {"ok": "green", "impaired": "bold red"}


def line(notification: models.Notification) -> str:
    """Return one alert as one line: time, ``firing`` or ``resolved``, rule, worker, and why."""
    who = notification.worker.name if notification.worker else "-"
    why = notification.summary.removeprefix(f"{who}: ")
    if notification.reason and notification.reason not in why:
        why = f"{why} ({notification.reason})"
    return errors.printable(f"{notification.at} {notification.status} {notification.rule} {who} {why}")


class Board:
    """Takes events and notifications, and renders how it stands; safe to render while it takes."""

    def __init__(self, now: ports.Clock, *, title: str = "workermon demo") -> None:
        self._now = now
        self._began = now()
        self._title = title
        self._events: dict[str, models.Event] = {}
        self._spark: dict[str, deque[float]] = {}
        self._at: dict[str, str] = {}
        self._open: dict[str, models.Notification] = {}
        self._latest: deque[models.Notification] = deque(maxlen=ALERTS)
        self._counts = {"firing": 0, "resolved": 0}

    def take(self, shown: models.Event | models.Notification) -> None:
        """Note an event or a notification."""
        if isinstance(shown, models.Notification):
            self._latest.appendleft(shown)
            # A change of severity is the same alert, still firing.
            self._counts[shown.status] += shown.status == "resolved" or shown.dedup_key not in self._open
            if shown.status == "firing":
                self._open[shown.dedup_key] = shown
            else:
                self._open.pop(shown.dedup_key, None)
            return
        self._events[shown.worker_id] = shown
        cpu = shown.metrics.get("cpu_utilization")
        if cpu is not None and self._at.get(shown.worker_id) != cpu.at:
            self._at[shown.worker_id] = cpu.at
            self._spark.setdefault(shown.worker_id, deque(maxlen=SPARK)).append(cpu.value)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render as much as the terminal's width and height hold."""
        height = options.height or console.height
        below = min(ALERTS, max(len(self._latest), 1)) + 2
        # The empty line is where a terminal echoes ^C: at the end of a full one it would push everything up.
        yield Group(self._head(), self._fleet(console.width, max(height - below - 6, 3)), self._alerts(), Text(""))

    def _head(self) -> RenderableType:
        head = Text(no_wrap=True, overflow="ellipsis")
        head.append(f" {self._title} ", style="bold reverse")
        head.append(f"  {len(self._events)} workers  ")
        head.append(f"{len(self._open)} firing", style="bold red" if self._open else "green")
        head.append(f"  {self._counts['firing']} fired, {self._counts['resolved']} resolved", style="dim")
        head.append(f"  {self._now() - self._began:.0f} s  Ctrl-C ends", style="dim")
        return head

    def _fleet(self, width: int, rows: int) -> RenderableType:
        columns = [column for column in _COLUMNS if column[1] <= width]
        table = Table(box=None, pad_edge=False, padding=(0, 1), expand=False)
        for title, _, _ in columns:
            least = _LEAST.get(title, 0) if width >= _WIDE else None
            table.add_column(title, no_wrap=True, overflow="ellipsis", header_style="dim", min_width=least)
        troubled: dict[str, list[models.Notification]] = {}
        for each in list(self._open.values()):
            if each.worker:
                troubled.setdefault(each.worker.id, []).append(each)
        events = sorted(self._events.values(), key=lambda event: event.worker_name)
        if len(events) > rows:  # those in trouble are never cut off
            events = sorted(events, key=lambda event: event.worker_id not in troubled)[: rows - 1]
            events.sort(key=lambda event: event.worker_name)
        for event in events:
            open_ = troubled.get(event.worker_id, [])
            spark = list(self._spark.get(event.worker_id, ()))
            table.add_row(*(cell(event, open_, spark, self._now()) for _, _, cell in columns))
        left = len(self._events) - len(events)
        if left:
            ill = len(troubled) - sum(event.worker_id in troubled for event in events)
            return Group(
                table, Text(f"and {left} more, {f'{ill} of them in trouble' if ill else 'all well'}", style="dim")
            )
        if not events:
            return Text("waiting for the first samples …", style="dim")
        return table

    def _alerts(self) -> RenderableType:
        lines = []
        for each in list(self._latest):
            style = _STYLES[each.severity if each.status == "firing" else "resolved"]
            text = Text(no_wrap=True, overflow="ellipsis")
            text.append(f"{each.at[11:19]} ", style="dim")
            text.append(f"{each.status:<8} ", style=style)
            text.append(f"{each.rule} ", style="bold")
            text.append(line(each).split(f" {each.rule} ", 1)[-1])
            lines.append(text)
        inside = Group(*lines) if lines else Text("none yet", style="dim")
        return Panel(inside, title="latest alerts", title_align="left", border_style="dim", padding=(0, 1))


# --- cells: of one event, the worker's open alerts, its sparkline, and the time now

Cell = Callable[[models.Event, list[models.Notification], list[float], float], Text]


def _worker(event: models.Event, open_: list[models.Notification], _s: list[float], _n: float) -> Text:
    worst = max((models.SEVERITIES.index(each.severity) for each in open_), default=None)
    return Text(event.worker_name, style="" if worst is None else _STYLES[models.SEVERITIES[worst]])


def _status(event: models.Event, _o: list[models.Notification], _s: list[float], _n: float) -> Text:
    return Text(event.status, style="green" if event.status == "running" else "dim")


def _checks(event: models.Event, _o: list[models.Notification], _s: list[float], _n: float) -> Text:
    if event.status_checks is None:
        return Text("-", style="dim")
    text = Text()
    for number, check in enumerate((event.status_checks.system, event.status_checks.instance)):
        text.append("/" if number else "", style="dim").append(check, style=_CHECKS.get(check, "dim"))
    return text


def _value(event: models.Event, metric: str, warning: float = 80, critical: float = 90) -> Text:
    reading = event.metrics.get(metric)
    if reading is None:
        return Text("-", style="dim")
    style = "bold red" if reading.value > critical else "yellow" if reading.value > warning else ""
    return Text(f"{reading.value:5.1f} %", style=style)


def _cpu(event: models.Event, _o: list[models.Notification], spark: list[float], _n: float) -> Text:
    text = _value(event, "cpu_utilization")
    text.append(" ")
    for value in spark:
        style = "red" if value > 90 else "yellow" if value > 80 else "cyan"
        text.append(_BARS[min(int(max(value, 0.0) / 12.5), 7)], style=style)
    return text


def _memory(event: models.Event, _o: list[models.Notification], _s: list[float], _n: float) -> Text:
    return _value(event, "memory_utilization")


def _disk(event: models.Event, _o: list[models.Notification], _s: list[float], _n: float) -> Text:
    return _value(event, "disk_utilization", warning=90, critical=98)


def _age(event: models.Event, _o: list[models.Notification], _s: list[float], now: float) -> Text:
    age = max(0.0, now - models.moment(event.collected_at))
    return Text(f"{age:3.0f} s", style="yellow" if age > 30 else "dim")


def _alert(_e: models.Event, open_: list[models.Notification], _s: list[float], _n: float) -> Text:
    text = Text()
    for each in open_:
        text.append(" " if text else "").append(each.rule, style=_STYLES[each.severity])
    return text


#: Columns of a terminal on which each column can keep a width of its own, so that nothing jumps.
_WIDE = 110
_LEAST = {"checks": 11, "cpu": 8 + SPARK}

#: Title, the least width of the terminal for it, and how it is made.
_COLUMNS: tuple[tuple[str, int, Cell], ...] = (
    ("worker", 0, _worker),
    ("status", 90, _status),
    ("checks", 60, _checks),
    ("cpu", 0, _cpu),
    ("memory", 70, _memory),
    ("disk", 80, _disk),
    ("age", 100, _age),
    ("alert", 40, _alert),
)
