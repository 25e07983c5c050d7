"""The page: five views of the data in Redis, rendered here. A browser gets a page of the fleet, never all of it."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from dishka.integrations.fastapi import DishkaSyncRoute, FromDishka
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from workermon import errors, fleet, health, models, ports, views
from workermon.web import gate, render, snapshots

router = APIRouter(route_class=DishkaSyncRoute, include_in_schema=False)

#: Workers and alerts on a page.
ROWS, ALERTS = 50, 25
#: Alerts that are read for the first pages of alerts.
FIRST_ALERTS = 1000

#: Seconds that the fleet's page waits for the first snapshot before it shows that it waits.
PATIENCE = 0.5

#: Columns of the fleet's table; a worker's own page shows every metric.
COLUMNS = 5

#: Seconds that charts show, their names, and the equivalent in a terminal.
SPANS: Mapping[int, tuple[str, str]] = {
    900: ("15 min", "--since 15m"),
    3600: ("hour", "--since 1h"),
    21_600: ("6 h", "--since 6h"),
    models.DAY: ("day", "--since 1d"),
    7 * models.DAY: ("week", "--since 7d --step 1h"),
    30 * models.DAY: ("month", "--since 30d --step 1h"),
    365 * models.DAY: ("year", "--since 365d --step 1h"),
}

#: The text that a page shows after an action, by the word in its address. An unknown word shows nothing.
DONE: Mapping[str, str] = {
    "acked": "Acknowledged. Everybody sees it.",
    "silenced": "Silenced. It is still evaluated and recorded.",
    "ended": "The silence is over. Alerts that it kept from people notify within seconds.",
    "paused": "Paused. It is not collected until you resume it.",
    "resumed": "Resumed. It is collected at once.",
    "refreshed": "Collected just now.",
}

#: A canary's steps, in words for people.
STEPS = (
    ("sent", "beat sends it"),
    ("published", "a worker process publishes it"),
    ("received", "the listener receives it"),
    ("evaluated", "evaluation puts it into the outbox"),
    ("accepted", "delivery takes it out"),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The contents of every page's head: the user, the number of firing alerts, and whether the pipeline works.

    ``notice`` is the result of an action, ``csrf`` is for every form.
    """

    now: float
    alerts: int
    fault: str | None
    name: str
    may_act: bool
    login: bool
    role: models.Role
    csrf: str
    notice: str | None


def layout(request: Request, caller: gate.Caller, check: health.HealthSummaryCheck) -> Layout:
    """Return what the head of a page shows."""
    summary = check.summary()
    return Layout(
        now=summary.at,
        alerts=summary.alerts,
        fault=summary.fault,
        name=caller.name,
        may_act=models.ROLES.index(caller.role) >= models.ROLES.index("operator"),
        login=caller.by == "session",
        role=caller.role,
        csrf=gate.csrf_token(request, caller),
        notice=DONE.get(request.query_params.get("did", "")),
    )


def page(template: str, view: str, commands: Sequence[str], **values: Any) -> Response:
    """Return a page; ``commands`` are its equivalents in a terminal."""
    return HTMLResponse(render.render(template, view=view, commands=commands, **values))


# --- fleet -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Builds addresses of the fleet's page that differ from the present one in some parts."""

    fleet_query: views.FleetQuery

    def __call__(self, **changes: Any) -> str:
        """Return such an address; ``page`` counts from 1, and is 1 unless it is given."""
        parts: dict[str, Any] = {
            "q": self.fleet_query.text,
            "status": self.fleet_query.status,
            "state": self.fleet_query.state,
        }
        parts |= {"label": self.fleet_query.labels, "group": self.fleet_query.group, "metric": self.fleet_query.metric}
        if "labels" in changes:
            parts["label"] = self.fleet_query.labels | changes.pop("labels")
        if changes.get("page") == 1:
            changes.pop("page")
        return f"/{render.query(**parts | changes)}"


@router.get("/")
def fleet_page(
    request: Request,
    caller: gate.Viewer,
    reading: FromDishka[views.FleetSnapshot],
    overview: FromDishka[views.FleetOverview],
    summary_check: FromDishka[health.HealthSummaryCheck],
) -> Response:
    """Show the fleet: filtered, counted, grouped by a label, and a page of it as a table."""
    query, number = fleet_query(request), page_number(request)
    cached_snapshots: snapshots.Snapshots = request.app.state.snapshots
    snapshot = cached_snapshots.soon(reading.snapshot, PATIENCE)
    if snapshot is None:
        asks_again = page(
            "fleet_reading.html", "Fleet", [list_command(query)], layout=layout(request, caller, summary_check)
        )
        asks_again.headers["Refresh"] = "1"
        return asks_again
    rows = overview.look(snapshot, query, offset=(number - 1) * ROWS, limit=ROWS)
    values = [cell.value for group in rows.groups for cell in group.cells if cell.value is not None]
    unit = rows.units.get(query.metric or "", "")
    top = 100.0 if unit == "percent" else max(values, default=1.0)
    return page(
        "fleet.html",
        "Fleet",
        [list_command(query), "workermon watch"],
        layout=layout(request, caller, summary_check),
        fleet=rows,
        snapshot_at=snapshot.at,
        fleet_query=query,
        address=Address(query),
        number=rows.first // ROWS + 1,
        metrics=tuple(rows.units)[:COLUMNS],
        about=rows.about,
        unit=unit,
        scale=top or 1.0,
        top=views.quantity(top, unit) if values else "",
        workers_per_cell=max((cell.count for group in rows.groups for cell in group.cells), default=1),
    )


@router.get("/rows", dependencies=[gate.VIEWER])
def fleet_rows(
    request: Request,
    rows_view: FromDishka[views.RowsView],
    summary_check: FromDishka[health.HealthSummaryCheck],
) -> Response:
    """Return the table's rows of a few workers, for a page that is already open."""
    worker_ids = [
        worker_id for worker_id in request.query_params.getlist("id") if models.INSTANCE_ID.fullmatch(worker_id)
    ][:ROWS]
    rows = rows_view.rows_of(worker_ids)
    metrics = tuple(rows.units)[:COLUMNS]
    now = summary_check.now()
    return HTMLResponse(
        render.render("fleet_rows.html", fleet=rows, metrics=metrics, about=rows.about, layout={"now": now})
    )


def fleet_query(request: Request) -> views.FleetQuery:
    """Parse which workers are requested. Raises ``errors.InvalidInput`` for invalid filters."""
    parameters = request.query_params
    labels = {}
    for text in filter(None, (text.strip() for text in parameters.getlist("label"))):
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise errors.InvalidInput(f"label {errors.printable(text)[:64]!r}", "is not KEY=VALUE", "write team=vfx")
        labels[key] = value
    status, state = parameters.get("status") or None, parameters.get("state") or None
    for name, word, allowed in (("status", status, views.STATUSES), ("state", state, views.STATES)):
        if word is not None and word not in allowed:
            raise errors.InvalidInput(
                f"{name} {errors.printable(word)[:64]!r}", "is not known", f"use one of: {', '.join(allowed)}"
            )
    return views.FleetQuery.model_validate(
        {
            "text": parameters.get("q", "").strip()[:200],
            "status": status,
            "state": state,
            "labels": labels,
            "group": parameters.get("group") or None,
            "metric": parameters.get("metric") or None,
        }
    )


def page_number(request: Request) -> int:
    """Return which page is requested, from 1 on."""
    text = request.query_params.get("page", "1")
    if not (text.isascii() and text.isdecimal()) or len(text) > 6 or not int(text):
        raise errors.InvalidInput(f"page {errors.printable(text)[:32]!r}", "is not a page number", "begin with 1")
    return int(text)


def list_command(query: views.FleetQuery) -> str:
    """Return the command that lists the same workers."""
    words = ["workermon", "list"]
    if query.status:
        words += ["--status", query.status]
    for key, value in query.labels.items():
        words += ["--label", f"{key}={value}"]
    return shlex.join(words)


# --- worker ------------------------------------------------------------------------------------------------------


@router.get("/workers/{name}")
def worker_page(
    name: str,
    request: Request,
    caller: gate.Viewer,
    lookup: FromDishka[fleet.Lookup],
    detail: FromDishka[views.WorkerView],
    explanation: FromDishka[views.Explanation],
    configurations: FromDishka[ports.Configurations],
    summary_check: FromDishka[health.HealthSummaryCheck],
) -> Response:
    """Show one worker: its state, charts of its metrics, and why each rule fires or does not."""
    [record] = lookup.resolve([name])
    head, worker = layout(request, caller, summary_check), detail.show(record)
    rules, since = views.for_worker(explanation.explain(record), record.worker), span(request)
    configuration = configurations.load()
    charted = views.charted_metrics(record, configuration, explanation.kinds)
    return page(
        "worker.html",
        "Fleet",
        [f"workermon show {worker.id}", f"workermon history {worker.id} {SPANS[since][1]}"],
        layout=head,
        worker=worker,
        worker_state=views.worker_state(
            ports.WorkerSummary.of(record), {alert.severity for alert in worker.alerts}, head.now
        ),
        metrics=tuple(dict.fromkeys((*worker.metrics, *charted))),
        rules=rules,
        silences=active_silences(rules),
        since=since,
        spans={seconds: name for seconds, (name, _) in SPANS.items()},
        by_hours=views.point_step(since, configuration) is not None,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerSilence:
    """A silence that mutes a worker now; ``rules`` are those that it mutes, empty if it mutes every rule."""

    id: str
    ends: float
    by: str
    reason: str
    rules: tuple[str, ...]


def active_silences(rules: Sequence[views.RuleExplanation]) -> list[WorkerSilence]:
    """Return the silences of a worker's rules, the first to end first."""
    muted: dict[str, list[str]] = {}
    silences = {silence.id: silence for rule in rules for silence in rule.silences}
    for rule in rules:
        for silence in rule.silences:
            muted.setdefault(silence.id, []).append(rule.rule)
    return [
        WorkerSilence(
            silence.id,
            silence.ends,
            silence.by,
            silence.reason,
            () if len(muted[silence.id]) == len(rules) else tuple(muted[silence.id]),
        )
        for silence in sorted(silences.values(), key=lambda silence: silence.ends)
    ]


@router.get("/workers/{name}/charts", dependencies=[gate.VIEWER])
def worker_charts(
    name: str,
    request: Request,
    lookup: FromDishka[fleet.Lookup],
    charts: FromDishka[views.ChartView],
) -> Response:
    """Return the contents of a worker's charts."""
    [record] = lookup.resolve([name])
    charts_of_worker = charts.charts(record, charts.now() - span(request))
    return JSONResponse(charts_of_worker.to_json())


def span(request: Request) -> int:
    """Return the seconds that charts show."""
    text = request.query_params.get("since", "3600")
    if text not in map(str, SPANS):
        allowed = f"use one of: {', '.join(map(str, SPANS))}"
        raise errors.InvalidInput(f"since {errors.printable(text)[:32]!r}", "is not a span of the charts", allowed)
    return int(text)


# --- alerts ------------------------------------------------------------------------------------------------------


@router.get("/alerts")
def alerts_page(
    request: Request,
    caller: gate.Viewer,
    alerts: FromDishka[views.AlertView],
    silences: FromDishka[views.SilenceView],
    summary_check: FromDishka[health.HealthSummaryCheck],
) -> Response:
    """Show the alerts that fire, or all; and the silences."""
    every, number = request.query_params.get("state") == "all", page_number(request)
    limit = max(FIRST_ALERTS, number * ALERTS + 1)
    rows = sorted(
        alerts.list(views.AlertFilter(state="all" if every else "open"), limit).alerts,
        key=lambda row: (not row.open, row.open and row.severity != "critical"),
    )
    first = min((number - 1) * ALERTS, max(0, (len(rows) - 1) // ALERTS * ALERTS))
    return page(
        "alerts.html",
        "Alerts",
        ["workermon alerts --all" if every else "workermon alerts", "workermon silences"],
        layout=layout(request, caller, summary_check),
        every=every,
        rows=rows[first : first + ALERTS],
        first=first,
        number=first // ALERTS + 1,
        total=len(rows),
        more=len(rows) == limit,
        silences=silences.list().silences,
    )


@router.get("/alerts/{alert_id:path}/timeline", dependencies=[gate.VIEWER])
def alert_timeline(
    alert_id: str,
    details: FromDishka[views.AlertDetailView],
) -> Response:
    """Return why an alert fires or fired, for a list that is already open."""
    detail = details.get(alert_id)
    return HTMLResponse(render.render("alert_detail.html", detail=detail, unit=detail.unit))


@router.get("/alerts/{alert_id:path}")
def alert_page(
    alert_id: str,
    request: Request,
    caller: gate.Viewer,
    details: FromDishka[views.AlertDetailView],
    configurations: FromDishka[ports.Configurations],
    summary_check: FromDishka[health.HealthSummaryCheck],
) -> Response:
    """Show one alert: every transition with the datapoints that decided it, and each attempt to deliver."""
    detail, parts = details.get(alert_id), models.alert_parts(alert_id)
    command = [
        "workermon",
        "why",
        detail.worker_id or parts.subject_id,
        detail.metric or parts.rule,
    ]
    since = span_since(summary_check.now(), detail.row)
    return page(
        "alert.html",
        "Alerts",
        [shlex.join(command)],
        layout=layout(request, caller, summary_check),
        detail=detail,
        unit=detail.unit,
        since=since,
        by_hours=views.point_step(since, configurations.load()) is not None,
    )


def span_since(now: float, row: views.AlertRow | None) -> int:
    """Return the shortest span of the charts, at least an hour, that shows how an alert began."""
    began = now if row is None else models.moment(row.condition_since)
    needed = max(models.HOUR, 1.1 * (now - began))
    return next((seconds for seconds in SPANS if seconds >= needed), max(SPANS))


# --- rules -------------------------------------------------------------------------------------------------------


@router.get("/rules")
def rules_page(
    request: Request,
    caller: gate.Viewer,
    rules: FromDishka[views.RuleView],
    summary_check: FromDishka[health.HealthSummaryCheck],
) -> Response:
    """Show the rules in force. Each picture is loaded separately, because it replays the ledger."""
    rule_list = rules.list()
    return page(
        "rules.html",
        "Rules",
        ["workermon export > fleet.toml && workermon rules backtest fleet.toml"],
        layout=layout(request, caller, summary_check),
        revision=rule_list.revision,
        rules=rule_list.rules,
    )


@router.get("/rules/{name}/picture", dependencies=[gate.VIEWER])
def rule_picture(name: str, pictures: FromDishka[views.PictureView]) -> Response:
    """Return what a rule would have fired on the ledger."""
    picture = pictures.picture(name)
    days = picture.begin is not None and picture.end is not None and picture.end - picture.begin > models.DAY // 2
    return HTMLResponse(render.render("rule_picture.html", picture=picture, days=days))


# --- system ------------------------------------------------------------------------------------------------------


@router.get("/system")
def system_page(
    request: Request, caller: gate.Viewer, summary_check: FromDishka[health.HealthSummaryCheck]
) -> Response:
    """Show whether every part works, and the bill. Both load separately, because nodes take a second to answer."""
    commands = ["workermon status", "workermon doctor"]
    return page("system.html", "System", commands, layout=layout(request, caller, summary_check))


@router.get("/system/status", dependencies=[gate.VIEWER])
def system_status(
    request: Request,
    check: FromDishka[health.StatusCheck],
) -> Response:
    """Return the status of every part."""
    status: health.Status = request.app.state.status.get(check.status)
    names = [name for name, _ in STEPS]
    stuck = status.canary.stuck_after
    return HTMLResponse(
        render.render(
            "system_status.html",
            status=status,
            uses={(use.account, use.region): use for use in status.bill.scopes},
            canary_reason=next((part.reason for part in status.parts if part.name == "canary"), ""),
            steps=STEPS,
            stuck_at=names.index(stuck) if stuck in names else 0 if stuck else None,
        )
    )


@router.get("/vitals", dependencies=[gate.VIEWER])
def vitals_now(check: FromDishka[health.HealthSummaryCheck]) -> Response:
    """Return what an open page asks for repeatedly: how many alerts fire, and whether the pipeline works."""
    return JSONResponse(models.to_json(check.summary()))


@router.get("/static/{version}/{name:path}")
def static(version: str, name: str) -> Response:
    """Return a static file. No login is needed: it contains no data."""
    return render.static(version, name)
