"""``/metrics``: Prometheus' text format, or OpenMetrics if ``Accept`` asks for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from dishka.integrations.fastapi import DishkaSyncRoute, FromDishka
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from workermon import health
from workermon.web import compression, prometheus
from workermon.web.gate import Viewer

router = APIRouter(route_class=DishkaSyncRoute)

#: Seconds. However many clients scrape, Redis is not read more often.
CACHED_FOR: Final = 5.0


class Cache:
    """The newest page. One reader at a time builds it again; the others wait for that."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._page: prometheus.Page | None = None
        self._made_at = 0.0

    def page(self, exposition: health.Exposition) -> prometheus.Page:
        """Return the page, at most ``CACHED_FOR`` seconds old."""
        with self._lock:
            if self._page is None or self._clock() - self._made_at >= CACHED_FOR:
                self._page = prometheus.page(exposition)
                self._made_at = self._clock()
            return self._page


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request, _: Viewer, exposition: FromDishka[health.Exposition]) -> Response:
    """Serve all metrics, once for each worker, account, queue, channel and part."""
    cache: Cache = request.app.state.metrics
    page = cache.page(exposition)
    wants_openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
    media_type = prometheus.OPENMETRICS_TYPE if wants_openmetrics else prometheus.TEXT_TYPE
    parts = (*page.workers, page.openmetrics if wants_openmetrics else page.text)
    headers = {"Vary": "Accept, Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(
            compression.gzipped(parts), headers=headers | {"Content-Encoding": "gzip"}, media_type=media_type
        )
    headers["Content-Length"] = str(compression.size(parts))
    return StreamingResponse(compression.plain(parts), headers=headers, media_type=media_type)
