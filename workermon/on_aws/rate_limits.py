"""Rate limits and counts of requests: each takes a token before it is sent, and is counted when it is answered.

Both use boto3's own events, so that requests count as AWS counts them: each page, each retry, and each half of a call
that was repeated because of one bad id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import botocore.exceptions

from workermon import errors, logs, models, ports
from workermon.on_aws import error_kinds, metric_queries

log = logs.get(__name__)

#: The key in botocore's context of a call that holds the request's count until the answer arrives.
_ASKED = "workermon_asked"

_SLOW = (botocore.exceptions.ConnectTimeoutError, botocore.exceptions.ReadTimeoutError)
_AT_ONCE = (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError)


class Limited:
    """Limits and counts the requests of clients. Pass it to ``session.Sessions``. Thread-safe."""

    def __init__(self, limiter: ports.Limiter, costs: ports.Costs, now: ports.Clock) -> None:
        self._limiter, self._costs, self._now = limiter, costs, now

    def __call__(self, client: Any, scope: models.AccountRegion) -> None:
        """Limit and count a client's requests from now on."""
        _Watch(scope.key, self._limiter, self._costs, self._now).attach(client)


class _Watch:
    """Handles botocore's events around the requests of one client."""

    def __init__(self, scope: str, limiter: ports.Limiter, costs: ports.Costs, now: ports.Clock) -> None:
        self._scope, self._limiter, self._costs, self._now = scope, limiter, costs, now

    def attach(self, client: Any) -> None:
        service = client.meta.service_model.service_id.hyphenize()
        client.meta.events.register(f"before-parameter-build.{service}", self._before_request)
        client.meta.events.register(f"before-send.{service}", self._sends)
        client.meta.events.register(f"response-received.{service}", self._received)

    def _before_request(self, params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        requested = params.get("MetricDataQueries")
        context[_ASKED] = requested.billed() if isinstance(requested, metric_queries.Queries) else {}

    def _sends(self, event_name: str, **_: Any) -> None:
        self._limiter.take(self._scope, _operation(event_name))

    def _received(
        self,
        event_name: str,
        context: Mapping[str, Any],
        parsed_response: Mapping[str, Any] | None,
        exception: Exception | None,
        **_: Any,
    ) -> None:
        operation = _operation(event_name)
        if isinstance(exception, errors.WorkermonError):
            return  # it was never sent
        if isinstance(exception, _SLOW):
            self._limiter.silent(self._scope, operation)
        elif isinstance(exception, _AT_ONCE):
            self._limiter.answered(self._scope, operation)  # it failed at once: nobody waits for an answer
        if parsed_response is None:
            return
        self._limiter.answered(self._scope, operation)
        refused = parsed_response.get("Error")
        if refused and error_kinds.is_throttle(
            str(refused.get("Code")), parsed_response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        ):
            self._limiter.throttled(self._scope, operation)
        # AWS does not bill a refused request.
        self._costs.note(self._now(), self._scope, operation, {} if refused else context.get(_ASKED) or {})


def _operation(event_name: str) -> str:
    return event_name.rpartition(".")[2]
