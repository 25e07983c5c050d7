"""Limits how long an answer of AWS may take. botocore's read timeout starts again with each byte that arrives.

botocore has no option for that, so its HTTP session is wrapped.
"""

from __future__ import annotations

import time
from typing import Any

import botocore.exceptions
import urllib3.exceptions

#: Bytes. A full answer of GetMetricData has about 300 KB.
_AT_ONCE = 256 * 1024


def bound(client: Any, limit: float) -> None:
    """Make a client give up an answer that is not complete ``limit`` seconds after its headers."""
    client._endpoint.http_session = BoundedSend(client._endpoint.http_session, limit)


class BoundedSend:
    """Sends requests as botocore's HTTP session does, and gives up an answer that is not complete after ``limit``."""

    def __init__(self, http_session: Any, limit: float) -> None:
        """``limit`` is in seconds, from the arrival of the headers."""
        self._http_session, self._limit = http_session, limit

    def send(self, request: Any) -> Any:
        """Send a request and return its answer; raises botocore's errors, ``ReadTimeoutError`` if it takes too long."""
        if request.stream_output:
            return self._http_session.send(request)
        request.stream_output = True  # so the body is read below
        try:
            response = self._http_session.send(request)
        finally:
            request.stream_output = False
        response._content = self._body(response.raw, request)
        return response

    def close(self) -> None:
        """Close all connections."""
        self._http_session.close()

    def _body(self, raw: Any, request: Any) -> bytes:
        parts, deadline = [], time.monotonic() + self._limit
        try:
            while part := raw.read1(_AT_ONCE):
                parts.append(part)
                if time.monotonic() > deadline:
                    raw.close()  # the rest may still arrive, so nobody else may use this connection
                    raise botocore.exceptions.ReadTimeoutError(
                        endpoint_url=request.url, error=f"the answer was not complete after {self._limit:g} s"
                    )
        except urllib3.exceptions.ReadTimeoutError as error:
            raise botocore.exceptions.ReadTimeoutError(endpoint_url=request.url, error=error) from error
        except urllib3.exceptions.HTTPError as error:
            raise botocore.exceptions.ConnectionClosedError(
                error=error, request=request, endpoint_url=request.url
            ) from error
        raw.release_conn()
        return b"".join(parts)
