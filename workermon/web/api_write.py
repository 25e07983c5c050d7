"""The routes of the API that change something: each is a stage, and does what the command of that name does."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, Any

from dishka.integrations.fastapi import DishkaSyncRoute, FromDishka
from fastapi import APIRouter, Depends, Header, Path, Query
from pydantic import Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from workermon import collect, config, errors, evaluate, fleet, models, settings, views
from workermon.web import documents, fields, gate, immediate_collection
from workermon.web.idempotency import Idempotent

router = APIRouter(prefix="/api/v1", route_class=DishkaSyncRoute)

#: The type of a config file in a request. It is not checked.
TOML: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A config file.",
        "content": {"application/toml": {"schema": {"type": "string"}}},
    }
}


class AddRequest(fields.Fields):
    """Instances to monitor: all of them or none."""

    ids: list[models.InstanceId] = Field(min_length=1, max_length=1000)
    region: models.Text | None = Field(default=None, description="By default the one that boto3 is configured for.")
    account: models.Text | None = Field(default=None, description="An account of the config file.")
    name: models.Text | None = Field(default=None, description="Instead of the instance's Name tag; for one only.")
    interval: fields.Duration | None = Field(default=None, description="Between collections; 60 s if nothing is set.")
    labels: fields.Labels = Field(default={})


class AckRequest(fields.Fields):
    """Who looks after an alert."""

    alert: models.Text = Field(description="Its dedup_key, in which a worker's name may stand instead of its id.")
    by: models.Text | None = Field(default=None, description="By default the name of the login.")


class SilenceBody(fields.Fields):
    """What to silence, and for how long: ``for`` or ``until``. An alert must match everything that is named."""

    worker: models.Text | None = Field(default=None, description="An instance id, or a name of any worker.")
    labels: fields.Labels = Field(default={})
    rule: models.Text | None = None
    alert: models.Text | None = Field(default=None, description="One alert, by its dedup_key, and nothing else.")
    lasting: fields.Duration | None = Field(default=None, alias="for")
    until: fields.Moment | None = None
    reason: models.Text
    by: models.Text | None = Field(default=None, description="By default the name of the login.")

    @model_validator(mode="after")
    def _one_end(self) -> SilenceBody:
        if self.lasting is not None and self.until is not None:
            raise ValueError("for and until exclude each other")
        return self

    def request(self, caller: gate.Caller, now: float) -> models.SilenceRequest:
        """Return it for the stage."""
        return models.SilenceRequest(
            worker=self.worker,
            labels=self.labels,
            rule=self.rule,
            alert=self.alert,
            ends=self.until if self.lasting is None else now + self.lasting,
            reason=self.reason,
            by=self.by or caller.name,
        )


class AddedList(views.WorkerList):
    """The workers that were added; ``added`` are their ids."""

    added: tuple[str, ...]


class FileQuery(fields.Fields):
    """How a config file is applied."""

    skip_missing: bool = Field(default=False, description="Leave out workers that EC2 does not have.")


# --- workers -----------------------------------------------------------------------------------------------------


@router.post(
    "/workers",
    status_code=201,
    response_model=AddedList,
    summary="Add workers",
    tags=["workers"],
    dependencies=fields.WITHOUT_QUERY,
)
def add(
    body: AddRequest,
    caller: gate.Admin,
    idempotent: Idempotent,
    app_settings: FromDishka[settings.Settings],
    scopes: FromDishka[fleet.ScopeLookup],
    adding: FromDishka[fleet.Adding],
    collection: FromDishka[collect.Collection],
    lookup: FromDishka[fleet.Lookup],
    worker_rows: FromDishka[views.WorkerRows],
) -> Response:
    """Monitor instances, all or none, as ``add``: verified against EC2 first, and collected at once."""

    def act() -> Response:
        interval = app_settings.interval if body.interval is None else body.interval
        options = fleet.AddOptions(
            scope=scopes.find(body.region, body.account),
            name=body.name,
            interval=models.allowed_interval(interval, app_settings.min_interval, "interval"),
            labels=body.labels,
        )
        added = tuple(worker.id for worker in adding.add(body.ids, options))
        immediate_collection.collect_now(collection, added)
        return documents.answer(AddedList(added=added, workers=worker_rows.rows(lookup.resolve(added))), 201)

    return idempotent.run(caller, act)


@router.delete(
    "/workers/{id}",
    status_code=204,
    response_model=None,
    summary="Remove a worker",
    tags=["workers"],
    dependencies=fields.WITHOUT_QUERY,
)
def remove(
    worker_id: fields.WorkerId, caller: gate.Admin, idempotent: Idempotent, removing: FromDishka[fleet.Removing]
) -> Response:
    """Stop monitoring a worker and delete its data, as ``remove``. An id that is not monitored is not an error."""

    def act() -> Response:
        removing.remove([worker_id])
        return Response(status_code=204)

    return idempotent.run(caller, act)


@router.post(
    "/workers/{id}/pause",
    response_model=views.WorkerDetail,
    summary="Pause a worker",
    tags=["workers"],
    dependencies=fields.WITHOUT_QUERY,
)
def pause(
    worker_id: fields.WorkerId,
    caller: gate.Operator,
    idempotent: Idempotent,
    pausing: FromDishka[fleet.Pausing],
    lookup: FromDishka[fleet.Lookup],
    worker_view: FromDishka[views.WorkerView],
) -> Response:
    """Stop collecting a worker for a while, as ``pause``; its open alerts resolve."""

    def act() -> Response:
        [paused] = pausing.pause([worker_id])
        return documents.answer(worker_view.show(lookup.resolve([paused.id])[0]))

    return idempotent.run(caller, act)


@router.post(
    "/workers/{id}/resume",
    response_model=views.WorkerDetail,
    summary="Resume a worker",
    tags=["workers"],
    dependencies=fields.WITHOUT_QUERY,
)
def resume(
    worker_id: fields.WorkerId,
    caller: gate.Operator,
    idempotent: Idempotent,
    resuming: FromDishka[fleet.Resuming],
    collection: FromDishka[collect.Collection],
    lookup: FromDishka[fleet.Lookup],
    worker_view: FromDishka[views.WorkerView],
) -> Response:
    """Collect a paused worker again, as ``resume``. A collection that fails is in ``last_error``."""

    def act() -> Response:
        [resumed] = resuming.resume([worker_id])
        immediate_collection.collect_now(collection, [resumed.id])
        return documents.answer(worker_view.show(lookup.resolve([resumed.id])[0]))

    return idempotent.run(caller, act)


@router.post(
    "/workers/{id}/refresh",
    response_model=views.WorkerDetail,
    summary="Refresh a worker",
    tags=["workers"],
    dependencies=fields.WITHOUT_QUERY,
)
def refresh(
    worker_id: fields.WorkerId,
    caller: gate.Operator,
    idempotent: Idempotent,
    collection: FromDishka[collect.Collection],
    lookup: FromDishka[fleet.Lookup],
    worker_view: FromDishka[views.WorkerView],
) -> Response:
    """Collect a worker now, as ``refresh``. One that is paused or terminated is not collected."""

    def act() -> Response:
        refreshed = immediate_collection.refresh(collection, lookup, worker_id)
        return documents.answer(worker_view.show(lookup.resolve([refreshed])[0]))

    return idempotent.run(caller, act)


# --- alerts and silences -----------------------------------------------------------------------------------------


@router.post(
    "/alerts/ack",
    response_model=views.AcknowledgementRow,
    summary="Acknowledge an alert",
    tags=["alerts"],
    dependencies=fields.WITHOUT_QUERY,
)
def ack(
    body: AckRequest, caller: gate.Operator, idempotent: Idempotent, stage: FromDishka[evaluate.Acknowledging]
) -> Response:
    """Note that somebody looks after an alert that fires, as ``ack``; ``previous`` is who did so before."""

    def act() -> Response:
        acknowledged = stage.acknowledge(body.alert, body.by or caller.name)
        return documents.answer(views.acknowledgement_row(acknowledged.acknowledgement, acknowledged.previous))

    return idempotent.run(caller, act)


@router.post(
    "/silences",
    status_code=201,
    response_model=views.SilenceRow,
    summary="Silence alerts",
    tags=["silences"],
    dependencies=fields.WITHOUT_QUERY,
)
def silence(
    body: SilenceBody, caller: gate.Operator, idempotent: Idempotent, stage: FromDishka[evaluate.Silencing]
) -> Response:
    """Silence alerts for a while, as ``silence``: nobody is notified."""

    def act() -> Response:
        return documents.answer(views.silence_row(stage.add(body.request(caller, stage.now()))), 201)

    return idempotent.run(caller, act)


@router.delete(
    "/silences/{id}",
    status_code=204,
    response_model=None,
    summary="End a silence",
    tags=["silences"],
    dependencies=fields.WITHOUT_QUERY,
)
def unsilence(
    silence_id: Annotated[models.Text, Path(alias="id")],
    caller: gate.Operator,
    idempotent: Idempotent,
    stage: FromDishka[evaluate.Unsilencing],
) -> Response:
    """End a silence now, as ``unsilence``. Alerts that still fire notify within seconds."""

    def act() -> Response:
        stage.remove(silence_id)
        return Response(status_code=204)

    return idempotent.run(caller, act)


# --- the config file ---------------------------------------------------------------------------------------------


async def _text(request: Request) -> str:
    try:
        return (await request.body()).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise errors.InvalidInput("request", f"is not UTF-8 text (byte {error.start})", "send a TOML file") from None


def _revision(
    if_match: Annotated[
        str | None, Header(description="The revision that must be in force, as an ETag or as a number.")
    ] = None,
) -> int | None:
    """Return the revision that a change requires; ``None`` for any."""
    if if_match is None or if_match.strip() == "*":
        return None
    match = re.fullmatch(r'\s*(?:W/)?"?([0-9]{1,15})"?\s*', if_match)
    if match is None:
        raise errors.InvalidInput("If-Match", "is not a revision", 'send the one that plan answered, such as "7"')
    return int(match[1])


#: The text of a request's config file.
Text = Annotated[str, Depends(_text)]
Revision = Annotated[int | None, Depends(_revision)]


def _options(app_settings: settings.Settings, regions: fleet.Regions, query: FileQuery) -> fleet.ApplyOptions:
    return fleet.ApplyOptions(
        region=regions.default,
        interval=app_settings.interval,
        min_interval=app_settings.min_interval,
        missing="skip" if query.skip_missing else "refuse",
    )


def _file(parser: config.Parser, regions: fleet.Regions, text: str) -> config.File:
    file = parser.parse(text, "request")
    regions.check(file)
    return file


def _report(report: fleet.ChangeReport) -> Response:
    return documents.answer(report, headers={"ETag": f'"{report.revision}"'})


@router.post(
    "/plan",
    response_model=fleet.ChangeReport,
    summary="Plan a config file",
    tags=["configuration"],
    openapi_extra=TOML,
    dependencies=[gate.VIEWER],
)
def plan(
    text: Text,
    query: Annotated[FileQuery, Query()],
    app_settings: FromDishka[settings.Settings],
    parser: FromDishka[config.Parser],
    regions: FromDishka[fleet.Regions],
    stage: FromDishka[fleet.Preview],
) -> Response:
    """Return what a config file would change and cost, as ``plan --json``; ``ETag`` is the revision in force."""
    return _report(stage.preview(_file(parser, regions, text), _options(app_settings, regions, query)))


@router.post(
    "/apply",
    response_model=fleet.ChangeReport,
    summary="Apply a config file",
    tags=["configuration"],
    openapi_extra=TOML,
)
def apply(
    text: Text,
    query: Annotated[FileQuery, Query()],
    revision: Revision,
    caller: gate.Admin,
    idempotent: Idempotent,
    app_settings: FromDishka[settings.Settings],
    parser: FromDishka[config.Parser],
    regions: FromDishka[fleet.Regions],
    application: FromDishka[fleet.Application],
    collection: FromDishka[collect.Collection],
) -> Response:
    """Apply a config file in one step, as ``apply --json``.

    The answer is 412 if another revision is in force than ``If-Match`` says.
    """

    def act() -> Response:
        options = dataclasses.replace(_options(app_settings, regions, query), revision=revision)
        report = application.apply(_file(parser, regions, text), options)
        if report.added:
            immediate_collection.collect_now(collection, report.added)
        return _report(report)

    return idempotent.run(caller, act)
