"""``Idempotency-Key``: a write repeated with the same key and body runs once, and gets the same answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header
from starlette.requests import Request
from starlette.responses import Response

from workermon import errors, logs, ports
from workermon.web import gate, problem_details

log = logs.get(__name__)

#: Characters of a key.
MAX_KEY_LENGTH = 255
#: The header of a repeated answer.
REPLAYED = "Idempotency-Replayed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """Runs a write once for each key of a caller; without a key each time."""

    keys: ports.IdempotencyKeys
    key: str | None
    digest: str

    def run(self, caller: gate.Caller, act: Callable[[], Response]) -> Response:
        """Return the answer of ``act``, or that of the first request with this key and body.

        A temporary error is not stored. Raises ``problem_details.Refused`` while the first request is being handled
        (409), and if the key was used for another request (422).
        """
        if self.key is None:
            return act()
        name = hashlib.sha256(f"{caller.name}\0{self.key}".encode("utf-8", "surrogatepass")).hexdigest()
        first = self.keys.claim(name, self.digest)
        if first is not None:
            return self._replay(first)
        try:
            response = _answered(act)
        except BaseException:
            self.keys.release(name)
            raise
        first_request = ports.FirstRequest(self.digest, response.status_code, bytes(response.body).decode())
        try:
            self.keys.answer(name, first_request)
        except errors.RedisUnavailable as error:
            log.warning("idempotency.not_stored", reason=str(error))
        return response

    def _replay(self, first: ports.FirstRequest) -> Response:
        header = "Idempotency-Key"
        if first.digest != self.digest:
            raise problem_details.Refused(422, header, "was used for another request", "use a new key for each request")
        if first.status is None:
            raise problem_details.Refused(
                409, header, "belongs to a request that is still running", "try again in a moment"
            )
        media_type = "application/json" if first.status < 400 else problem_details.MEDIA_TYPE
        headers = {REPLAYED: "true"}
        if not first.body:
            return Response(None, first.status, headers)
        return Response(first.body, first.status, headers, media_type)


def _answered(act: Callable[[], Response]) -> Response:
    """Return the answer of a write. An error that no repetition changes is an answer, too."""
    try:
        return act()
    except errors.WorkermonError as error:
        if error.retryable or problem_details.status_of(error) >= 500:
            raise
        return problem_details.answer(error)


async def _once(
    request: Request,
    idempotency_key: Annotated[
        str | None, Header(min_length=1, max_length=MAX_KEY_LENGTH, description="Does the same request only once.")
    ] = None,
) -> Once:
    parts = (request.method.encode(), request.url.path.encode(), request.url.query.encode(), await request.body())
    digest = hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
    keys = request.app.state.dishka_container.get(ports.IdempotencyKeys)
    return Once(keys=keys, key=idempotency_key, digest=digest)


Idempotent = Annotated[Once, Depends(_once)]
