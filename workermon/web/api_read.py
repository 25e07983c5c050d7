"""The routes of the API that read: each is a view, and answers what the command of that name prints as JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from dishka.integrations.fastapi import DishkaSyncRoute, FromDishka
from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from workermon import fleet, health, models, views
from workermon.web import documents, fields, gate, paging, snapshots

router = APIRouter(prefix="/api/v1", route_class=DishkaSyncRoute)


class WorkersQuery(fields.Fields):
    """Which workers, and which page of them."""

    limit: fields.Limit = paging.DEFAULT_LIMIT
    cursor: str | None = None
    status: models.Status | None = None
    label: list[fields.Pair] = Field(
        default=[], max_length=50, description="key=value; may be repeated, all have to match."
    )
    q: str = Field(default="", max_length=256, description="Part of a name, an id or a label.")

    def query(self) -> views.WorkerQuery:
        """Return it as the view takes it."""
        return views.WorkerQuery(status=self.status, labels=models.pairs(self.label, "label"), text=self.q)


class AlertsQuery(fields.Fields):
    """Which alerts, and which page of them."""

    state: Literal["open", "all"] = "open"
    since: fields.Duration | None = Field(default=None, description="Leaves out alerts that were over before.")
    worker: models.Text | None = Field(default=None, description="An instance id or a name.")
    rule: models.Text | None = None
    limit: fields.Limit = paging.DEFAULT_LIMIT
    cursor: str | None = None

    def filter(self, now: float) -> views.AlertFilter:
        """Return it as the view takes it."""
        since = None if self.since is None else now - self.since
        return views.AlertFilter(state=self.state, since=since, worker=self.worker, rule=self.rule)


class AuditQuery(fields.Fields):
    """Which writes, and which page of them."""

    since: fields.Duration = Field(default=7 * models.DAY, description="How far back.")
    limit: fields.Limit = paging.DEFAULT_LIMIT
    cursor: str | None = None


class HistoryQuery(fields.Fields):
    """Which datapoints."""

    metric: models.Text | None = None
    since: fields.Duration = Field(default=3600, description="How far back.")
    step: fields.Duration | None = Field(default=None, description="1h: a summary of each hour, up to 400 days back.")


class WhyQuery(fields.Fields):
    """What is to be explained."""

    metric: models.Text | None = Field(default=None, description="A metric, or a rule's name; every rule if left out.")


class WorkerPage(views.WorkerList):
    """A page of the fleet by name; ``next`` is the cursor of the next one."""

    next: str | None


class AlertPage(views.AlertList):
    """A page of the alerts; ``next`` is the cursor of the next one."""

    next: str | None


class AuditPage(views.AuditList):
    """A page of the audit trail; ``next`` is the cursor of the next one."""

    next: str | None


@router.get("/workers", response_model=WorkerPage, summary="List workers", tags=["workers"], dependencies=[gate.VIEWER])
def workers(
    request: Request,
    query: Annotated[WorkersQuery, Query()],
    reading: FromDishka[views.FleetSnapshot],
    fleet_pages: FromDishka[views.FleetPages],
) -> Response:
    """Return a page of the fleet by name, as ``list --json``.

    Rows are read for each request. In a fleet of thousands, which rows match may be some seconds old.
    """
    after = paging.decode("workers", query.cursor)
    cached_snapshots: snapshots.Snapshots = request.app.state.snapshots
    rows, following = fleet_pages.page(
        cached_snapshots.get(reading.snapshot), query.query(), limit=query.limit, after=after
    )
    return documents.answer(WorkerPage(workers=rows, next=paging.encode("workers", following)))


@router.get(
    "/workers/{id}",
    response_model=views.WorkerDetail,
    summary="Show a worker",
    tags=["workers"],
    dependencies=[*fields.WITHOUT_QUERY, gate.VIEWER],
)
def worker(
    worker_id: fields.WorkerId,
    lookup: FromDishka[fleet.Lookup],
    worker_view: FromDishka[views.WorkerView],
) -> Response:
    """Return everything about one worker, as ``show --json``."""
    return documents.answer(worker_view.show(lookup.resolve([worker_id])[0]))


@router.get(
    "/workers/{id}/history",
    response_model=views.History | views.HourlyHistory,
    summary="Show datapoints",
    tags=["workers"],
    dependencies=[gate.VIEWER],
)
def history(
    worker_id: fields.WorkerId,
    query: Annotated[HistoryQuery, Query()],
    lookup: FromDishka[fleet.Lookup],
    history_view: FromDishka[views.HistoryView],
    hourly_view: FromDishka[views.HourlyHistoryView],
) -> Response:
    """Return the datapoints of a metric, or of every metric, as ``history --json``."""
    record, since = lookup.resolve([worker_id])[0], history_view.now() - query.since
    if query.step is not None:
        return documents.answer(hourly_view.hourly(record, query.metric, since, query.step))
    return documents.answer(history_view.history(record, query.metric, since))


@router.get(
    "/workers/{id}/why",
    response_model=views.WorkerExplanation,
    summary="Explain a worker's alerts",
    tags=["workers"],
    dependencies=[gate.VIEWER],
)
def why(
    worker_id: fields.WorkerId,
    query: Annotated[WhyQuery, Query()],
    lookup: FromDishka[fleet.Lookup],
    explanation: FromDishka[views.Explanation],
) -> Response:
    """Return why an alert fires or does not, as ``why --json``."""
    return documents.answer(explanation.explain(lookup.resolve([worker_id])[0], query.metric))


@router.get("/alerts", response_model=AlertPage, summary="List alerts", tags=["alerts"], dependencies=[gate.VIEWER])
def alerts(
    query: Annotated[AlertsQuery, Query()],
    alert_pages: FromDishka[views.AlertPages],
) -> Response:
    """Return the alerts that fire, or all of them, as ``alerts --json``."""
    after = paging.decode("alerts", query.cursor)
    rows, following = alert_pages.page(query.filter(alert_pages.now()), limit=query.limit, after=after)
    return documents.answer(AlertPage(alerts=rows, next=paging.encode("alerts", following)))


@router.get(
    "/audit", response_model=AuditPage, summary="List who changed what", tags=["audit"], dependencies=[gate.VIEWER]
)
def audit(
    query: Annotated[AuditQuery, Query()],
    audit_view: FromDishka[views.AuditView],
) -> Response:
    """Return changes, the newest first, as ``audit --json``."""
    after = paging.decode("audit", query.cursor)
    log = audit_view.list(query.since)
    rows, following = views.page(log.audit, views.audit_position, limit=query.limit, after=after)
    return documents.answer(AuditPage(audit=rows, next=paging.encode("audit", following)))


@router.get(
    "/silences",
    response_model=views.SilenceList,
    summary="List silences",
    tags=["silences"],
    dependencies=[*fields.WITHOUT_QUERY, gate.VIEWER],
)
def silences(silence_view: FromDishka[views.SilenceView]) -> Response:
    """Return the silences in force and the windows of the config file, as ``silences --json``."""
    return documents.answer(silence_view.list())


@router.get(
    "/status",
    response_model=health.Status,
    summary="Show whether every part works",
    tags=["status"],
    dependencies=[*fields.WITHOUT_QUERY, gate.VIEWER],
)
def status(request: Request, check: FromDishka[health.StatusCheck]) -> Response:
    """Return the state of every part, as ``status --json``. The answer is 200 also if a part is down."""
    return documents.answer(request.app.state.status.get(check.status))
