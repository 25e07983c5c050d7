"""Alertmanager's API v2 over our alerts and silences, for ``amtool``, Grafana and karma.

An alert has the labels that a channel of type ``alertmanager`` sends. Errors are JSON strings, as Alertmanager's are.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any

from dishka.integrations.fastapi import DishkaSyncRoute, FromDishka
from fastapi import APIRouter, Path, Query
from fastapi.exceptions import RequestValidationError
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from workermon import errors, evaluate, models, ports, views
from workermon.notify.channels import alertmanager
from workermon.web import fields, gate, matchers, problem_details

#: The version of Alertmanager whose API this is. Clients choose their requests by it.
VERSION = "0.25.0"
#: Seconds that a silence may begin in the future, because clocks differ.
AHEAD = 60

#: The form of our labels in Alertmanager.
_OWN = "label_"


class _Route(DishkaSyncRoute):
    """Answers errors as Alertmanager does: with a JSON string."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except errors.WorkermonError as error:
                return _error(problem_details.status_of(error), str(error), dict(getattr(error, "headers", {})))
            except RequestValidationError as error:
                first = error.errors()[0]
                location = ".".join(str(part)[:64] for part in first["loc"])
                return _error(400, f"{location}: {errors.validation_reason(first['msg'])[:300]}")

        return handled


def _error(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    # Its clients know no other 5xx, and would not show the reason.
    return JSONResponse(text, 500 if status > 500 else status, dict(headers or {}))


router = APIRouter(prefix="/alertmanager/api/v2", route_class=_Route, include_in_schema=False)


class AlertsQuery(fields.Fields):
    """Filters of alerts; false leaves out those in that state."""

    filter: list[str] = Field(default=[], max_length=50)
    receiver: str = Field(default="", max_length=256)
    active: bool = True
    silenced: bool = True
    inhibited: bool = True
    unprocessed: bool = True
    muted: bool = True

    def condition(self) -> Callable[[_FiringAlert], bool]:
        """Return which alerts match. A wrong filter is refused here, also if no alert fires."""
        filters = [matchers.parse(text) for text in self.filter]
        receives = matchers.compiled(self.receiver)

        def matches(alert: _FiringAlert) -> bool:
            if not (self.silenced if alert.is_suppressed else self.active):
                return False
            if self.receiver and not any(map(receives, alert.row.channels)):
                return False
            return matchers.all_match(filters, alert.labels)

        return matches


class SilencesQuery(fields.Fields):
    """Filters of silences: those with all of these matchers."""

    filter: list[str] = Field(default=[], max_length=50)


class Matcher(fields.Fields):
    """A condition on a label."""

    name: str = Field(max_length=256)
    value: str = Field(max_length=1024)
    isRegex: bool = False  # noqa: N815 - Alertmanager's name
    isEqual: bool = True  # noqa: N815


class PostedSilence(fields.Fields):
    """A silence requested by Alertmanager's clients; with an ``id`` it replaces that one."""

    id: str | None = None
    matchers: list[Matcher] = Field(min_length=1, max_length=50)
    startsAt: fields.Moment  # noqa: N815
    endsAt: fields.Moment  # noqa: N815
    createdBy: str = Field(max_length=256)  # noqa: N815
    comment: str = Field(max_length=4096)

    def request(self, label_keys: frozenset[str], now: float) -> models.SilenceRequest:
        """Return it for the stage. Raises ``errors.InvalidInput`` for what our silences cannot express."""
        if self.startsAt > now + AHEAD:
            reason = f"a silence begins at once, not at {models.rfc3339(self.startsAt)}"
            raise errors.InvalidInput("startsAt", reason, "plan it as [[silences]] in the config file")
        matched: dict[str, str] = {}
        labels: dict[str, str] = {}
        for posted in self.matchers:
            matcher = matchers.Matcher(posted.name, posted.value, posted.isRegex, posted.isEqual)
            kind, key = _expressed(matcher, label_keys)
            existing = (labels if kind == "label" else matched).setdefault(key, matcher.value)
            if existing != matcher.value:
                raise _inexpressible(matcher, f"it contradicts another, {key} is {existing}")
        if {"instance", "worker"} <= matched.keys():
            reason = "a silence of workermon names an instance or a worker's name"
            raise errors.InvalidInput("matchers instance and worker", reason, "leave one of them out")
        return models.SilenceRequest(
            worker=matched.get("instance", matched.get("worker")),
            labels=labels,
            rule=matched.get("alertname"),
            ends=self.endsAt,
            reason=_line(self.comment, "comment"),
            by=_line(self.createdBy, "createdBy"),
        )


def _line(text: str, field: str) -> str:
    line = " ".join(errors.printable(" ".join(text.split())).split())[:256].strip()
    if not line:
        raise errors.InvalidInput(field, "is empty", "say who silences, and why")
    return line


def _expressed(matcher: matchers.Matcher, label_keys: frozenset[str]) -> tuple[str, str]:
    """Return a matcher's part of a silence. Raises ``errors.InvalidInput`` if no silence can express it."""
    if not matcher.is_equal:
        raise _inexpressible(matcher, "a silence of workermon names what it mutes, not what it leaves out")
    if matcher.is_regex and not all(letter.isalnum() or letter in "-_ /:@" for letter in matcher.value):
        raise _inexpressible(matcher, "a silence of workermon takes no expressions")
    if not matcher.value:
        raise _inexpressible(matcher, "a silence of workermon names no absent label")
    if matcher.name in ("alertname", "instance", "worker"):
        return "named", matcher.name
    if not matcher.name.startswith(_OWN):
        raise _inexpressible(matcher, "a silence of workermon knows alertname, instance, worker and label_…")
    key = matcher.name.removeprefix(_OWN)
    candidates = sorted(label_key for label_key in label_keys if alertmanager.label_name(label_key) == key)
    if len(candidates) > 1:
        raise _inexpressible(matcher, f"it may mean the labels {', '.join(candidates)}")
    return "label", candidates[0] if candidates else key


def _inexpressible(matcher: matchers.Matcher, reason: str) -> errors.InvalidInput:
    return errors.InvalidInput(f"matcher {errors.printable(str(matcher))[:128]}", reason, "leave it out or write it so")


# --- what is answered --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _FiringAlert:
    """A firing alert, with the labels that it has in an Alertmanager."""

    row: views.AlertRow
    labels: Mapping[str, str]

    @property
    def is_suppressed(self) -> bool:
        """Return whether a silence or another alert suppresses its notifications."""
        return bool(self.row.silenced_by or self.row.inhibited_by)

    def to_json(self, now: float, base: str) -> dict[str, Any]:
        """Return it in Alertmanager's form; ``base`` is the address of the page."""
        row = self.row
        [document] = alertmanager.alerts(row, (), now)
        place = f"workers/{row.worker.id}" if row.worker else "alerts"
        return document | {
            "fingerprint": hashlib.sha256(row.dedup_key.encode()).hexdigest()[:16],
            "updatedAt": row.created_at or row.at,
            "generatorURL": f"{base}{place}",
            "receivers": [{"name": channel} for channel in row.channels],
            "status": {
                "state": "suppressed" if self.is_suppressed else "active",
                "silencedBy": [row.silenced_by] if row.silenced_by else [],
                "inhibitedBy": [row.inhibited_by] if row.inhibited_by else [],
                "mutedBy": [],
            },
        }


#: The one matcher of a silence that matches all alerts; its value is a regular expression.
_EVERYTHING = {"alertname": ".+"}


@dataclasses.dataclass(frozen=True, slots=True)
class _Silence:
    """A silence, or the window that is open or next; ``values`` are those of its matchers, by label."""

    row: views.SilenceRow
    begins: float
    ends: float
    values: Mapping[str, str]

    def to_json(self, now: float) -> dict[str, Any]:
        """Return it in Alertmanager's form."""
        is_regex = self.values == _EVERYTHING
        return {
            "id": self.row.id,
            "status": {"state": "active" if self.begins <= now < self.ends else "pending"},
            "updatedAt": models.rfc3339(self.begins if self.row.origin == "command" else now),
            "comment": self.row.reason,
            "createdBy": self.row.by,
            "startsAt": models.rfc3339(self.begins),
            "endsAt": models.rfc3339(self.ends),
            "matchers": [
                {"name": name, "value": value, "isRegex": is_regex, "isEqual": True}
                for name, value in self.values.items()
            ],
        }


def _silence(row: views.SilenceRow) -> _Silence | None:
    """Return a silence; ``None`` for a window that never opens again."""
    begins, ends = row.begins, row.ends
    if begins is None or ends is None:
        if row.next is None:
            return None
        begins, ends = row.next.begins, row.next.ends
    names = {"alertname": row.rule, "worker": row.worker, "dedup_key": row.alert}
    if row.worker is not None and models.INSTANCE_ID.fullmatch(row.worker):
        names = {"alertname": row.rule, "instance": row.worker}
    values = {name: value for name, value in names.items() if value is not None}
    values |= {f"{_OWN}{alertmanager.label_name(key)}": value for key, value in row.labels.items()}
    return _Silence(row, begins, ends, values or _EVERYTHING)


def _silences(view: views.SilenceView) -> list[_Silence]:
    return [silence for row in view.list().silences if (silence := _silence(row)) is not None]


def _alerts(view: views.AlertView, query: AlertsQuery) -> list[_FiringAlert]:
    matches = query.condition()
    firing = (_FiringAlert(row, alertmanager.labels(row)) for row in view.list().alerts)
    return list(filter(matches, firing))


# --- routes ------------------------------------------------------------------------------------------------------


@router.get("/status", dependencies=[gate.VIEWER])
def status(request: Request) -> Response:
    """Say which Alertmanager this is like; there is no cluster of it."""
    version = {
        "version": VERSION, "revision": "workermon", "branch": "workermon", "buildUser": "", "buildDate": "",
        "goVersion": "",
    }  # fmt: skip
    began: float = request.app.state.began
    return JSONResponse(
        {
            "cluster": {"name": "workermon", "status": "disabled", "peers": []},
            "versionInfo": version,
            "config": {"original": ""},
            "uptime": models.rfc3339(int(began)),
        }
    )


@router.get("/receivers", dependencies=[gate.VIEWER])
def receivers(configurations: FromDishka[ports.Configurations]) -> Response:
    """Return the channels."""
    return JSONResponse([{"name": name} for name in configurations.load().channels])


@router.get("/alerts", dependencies=[gate.VIEWER])
def alerts(
    request: Request,
    query: Annotated[AlertsQuery, Query()],
    alert_view: FromDishka[views.AlertView],
) -> Response:
    """Return the alerts that fire."""
    now, base = alert_view.now(), str(request.base_url)
    return JSONResponse([alert.to_json(now, base) for alert in _alerts(alert_view, query)])


@router.get("/alerts/groups", dependencies=[gate.VIEWER])
def groups(
    request: Request,
    query: Annotated[AlertsQuery, Query()],
    alert_view: FromDishka[views.AlertView],
) -> Response:
    """Return the alerts that fire by channel and rule."""
    now, base = alert_view.now(), str(request.base_url)
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for alert in _alerts(alert_view, query):
        for channel in alert.row.channels:
            grouped.setdefault((channel, alert.labels["alertname"]), []).append(alert.to_json(now, base))
    return JSONResponse(
        [
            {"receiver": {"name": channel}, "labels": {"alertname": rule}, "alerts": members}
            for (channel, rule), members in sorted(grouped.items(), key=lambda item: item[0])
        ]
    )


@router.get("/silences", dependencies=[gate.VIEWER])
def silences(
    query: Annotated[SilencesQuery, Query()],
    silence_view: FromDishka[views.SilenceView],
) -> Response:
    """Return the silences, and the windows of the config file that are open or will be."""
    filters = [matchers.parse(text) for text in query.filter]
    now = silence_view.now()
    matching = [silence for silence in _silences(silence_view) if matchers.all_match(filters, silence.values)]
    return JSONResponse([silence.to_json(now) for silence in matching])


@router.get("/silence/{id}", dependencies=[gate.VIEWER])
def silence(
    silence_id: Annotated[models.Text, Path(alias="id")],
    silence_view: FromDishka[views.SilenceView],
) -> Response:
    """Return one silence."""
    every = {shown_silence.row.id: shown_silence for shown_silence in _silences(silence_view)}
    if silence_id not in every:
        raise errors.NotFound(f"silence {silence_id}", "does not exist", errors.nearest(silence_id, every))
    return JSONResponse(every[silence_id].to_json(silence_view.now()))


@router.post("/silences", dependencies=[gate.OPERATOR])
def post_silence(
    body: PostedSilence,
    workers: FromDishka[ports.Workers],
    silencing: FromDishka[evaluate.Silencing],
    unsilencing: FromDishka[evaluate.Unsilencing],
) -> Response:
    """Make a silence, or replace one."""
    silence_added = silencing.add(body.request(views.label_keys(workers), silencing.now()))
    if body.id:
        try:
            unsilencing.remove(body.id)
        except errors.WorkermonError:
            unsilencing.remove(silence_added.id)
            raise
    return JSONResponse({"silenceID": silence_added.id})


@router.delete("/silence/{id}", dependencies=[gate.OPERATOR])
def expire(
    silence_id: Annotated[models.Text, Path(alias="id")],
    stage: FromDishka[evaluate.Unsilencing],
) -> Response:
    """End a silence."""
    stage.remove(silence_id)
    return Response(status_code=200)
