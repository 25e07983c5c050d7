"""``/metrics``: Prometheus' text format, or OpenMetrics if ``Accept`` asks for it."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from typing import Final

from dishka.integrations.fastapi import DishkaSyncRoute, FromDishka
from fastapi import APIRouter, Request, Response

from workermon import health
from workermon.web import prometheus
from workermon.web.gate import Viewer

router = APIRouter(route_class=DishkaSyncRoute)

#: Seconds. However many scrape, Redis is read no more often than that.
KEPT: Final = 5.0


class Cache:
    """The newest page. One reader at a time makes it anew; the others wait for that."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._page: prometheus.Page | None = None
        #: What was answered from the page, by format and whether it is compressed.
        self._contents: dict[tuple[bool, bool], bytes] = {}
        self._made_at = 0.0

    def page(self, exposition: health.Exposition) -> prometheus.Page:
        """Return the page, at most ``KEPT`` seconds old."""
        with self._lock:
            if self._page is None or self._clock() - self._made_at >= KEPT:
                self._page = None  # two of a large fleet would be in memory at once
                self._contents.clear()
                self._page = prometheus.page(exposition)
                self._made_at = self._clock()
            return self._page

    def content(self, exposition: health.Exposition, *, as_openmetrics: bool, compressed: bool) -> bytes:
        """Return the page in a format; it is put together, and compressed, once however many ask."""
        with self._lock:
            page = self.page(exposition)
            wanted = as_openmetrics, compressed
            if wanted not in self._contents:
                text = page.workers + (page.openmetrics if as_openmetrics else page.text)
                self._contents[wanted] = gzip.compress(text, compresslevel=1) if compressed else text
            return self._contents[wanted]


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request, _: Viewer, exposition: FromDishka[health.Exposition]) -> Response:
    """Give everything that is known, once for each worker, account, queue, channel and part."""
    wants_openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
    compressed = "gzip" in request.headers.get("accept-encoding", "")
    kept: Cache = request.app.state.metrics
    content = kept.content(exposition, as_openmetrics=wants_openmetrics, compressed=compressed)
    headers = {"Vary": "Accept, Accept-Encoding"} | ({"Content-Encoding": "gzip"} if compressed else {})
    media_type = prometheus.OPENMETRICS_TYPE if wants_openmetrics else prometheus.TEXT_TYPE
    return Response(content, headers=headers, media_type=media_type)
