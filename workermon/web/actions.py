"""The page's forms: each runs a stage, like the command of that name, and sends the browser back to see the result."""

from __future__ import annotations

from typing import Annotated, Literal

from dishka.integrations.fastapi import DishkaSyncRoute, FromDishka
from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse, Response

from workermon import collect, evaluate, fleet, models
from workermon.web import gate, immediate_collection, render

router = APIRouter(route_class=DishkaSyncRoute, include_in_schema=False)

#: A field of a form: one line.
Field = Annotated[models.Text, Form()]


def back(notice_key: str, *parts: str) -> Response:
    """Redirect the browser to a page of ours that shows the result. Reloading it does nothing again."""
    return RedirectResponse(f"{render.path(*parts)}{render.query(did=notice_key)}", 303)


@router.post("/workers/{name}/pause", dependencies=[gate.OPERATOR])
def pause(name: str, pausing: FromDishka[fleet.Pausing]) -> Response:
    """Stop collecting a worker for a while."""
    [paused] = pausing.pause([name])
    return back("paused", "workers", paused.id)


@router.post("/workers/{name}/resume", dependencies=[gate.OPERATOR])
def resume(
    name: str,
    resuming: FromDishka[fleet.Resuming],
    collection: FromDishka[collect.Collection],
) -> Response:
    """Collect a paused worker again, at once. If that fails, the next interval tries again."""
    [resumed] = resuming.resume([name])
    immediate_collection.collect_now(collection, [resumed.id])
    return back("resumed", "workers", resumed.id)


@router.post("/workers/{name}/refresh", dependencies=[gate.OPERATOR])
def refresh(
    name: str,
    lookup: FromDishka[fleet.Lookup],
    collection: FromDishka[collect.Collection],
) -> Response:
    """Collect a worker now."""
    return back("refreshed", "workers", immediate_collection.refresh(collection, lookup, name))


@router.post("/alerts/ack")
def ack(alert: Field, caller: gate.Operator, stage: FromDishka[evaluate.Acknowledging]) -> Response:
    """Record that the caller looks after an alert."""
    stage.acknowledge(alert, caller.name)
    return back("acked", "alerts")


@router.post("/silences")
def silence(
    caller: gate.Operator,
    stage: FromDishka[evaluate.Silencing],
    lasting: Annotated[int, Form(ge=60, le=models.MAX_SILENCE)],
    reason: Field,
    worker: Annotated[models.InstanceId | None, Form()] = None,
    alert: Annotated[models.Text | None, Form()] = None,
    place: Annotated[Literal["alerts", "worker"], Form(alias="back")] = "alerts",
) -> Response:
    """Notify nobody for a while of a worker's alerts, or of one alert."""
    stage.add(
        models.SilenceRequest(worker=worker, alert=alert, ends=stage.now() + lasting, reason=reason, by=caller.name)
    )
    return back("silenced", "workers", worker) if place == "worker" and worker else back("silenced", "alerts")


@router.post("/silences/{silence_id}/end", dependencies=[gate.OPERATOR])
def end_silence(silence_id: str, stage: FromDishka[evaluate.Unsilencing]) -> Response:
    """End a silence now."""
    stage.remove(silence_id)
    return back("ended", "alerts")
