"""Whether this process serves, and whether Redis answers, for supervisors. No login."""

from __future__ import annotations

from dishka.integrations.fastapi import DishkaSyncRoute, FromDishka
from fastapi import APIRouter

from workermon import ports

router = APIRouter(include_in_schema=False)
#: Routes that wait for Redis run in threads.
_waiting = APIRouter(route_class=DishkaSyncRoute, include_in_schema=False)


@router.get("/livez")
async def livez() -> dict[str, bool]:
    """Answer that this process serves, however busy its threads are."""
    return {"ok": True}


@_waiting.get("/readyz")
def readyz(server: FromDishka[ports.Server]) -> dict[str, bool]:
    """Answer that Redis answers; otherwise 503."""
    server.time()
    return {"ok": True}


router.include_router(_waiting)
