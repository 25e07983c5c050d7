"""Rate limits and counts of requests: each takes its token before it is sent, and is counted when it is answered.

Both hang on boto3's own events, so that requests count as AWS counts them: each page, each retry, and each half of a
call that was repeated because of one bad id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import botocore.exceptions

from workermon import errors, logs, models, ports
from workermon.on_aws import error_kinds

log = logs.get(__name__)

#: Statistics of one metric that are billed as one (the AWS pricing page of CloudWatch).
BILLED_TOGETHER = 5

#: The key in botocore's context of a call under which the count of a request waits for its answer.
_ASKED = "workermon_asked"

_SLOW = (botocore.exceptions.ConnectTimeoutError, botocore.exceptions.ReadTimeoutError)
_AT_ONCE = (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError)


class Limited:
    """Limits and counts the requests of clients; given to ``session.Sessions``. Safe between threads."""

    def __init__(self, limiter: ports.Limiter, costs: ports.Costs, now: ports.Clock) -> None:
        self._limiter, self._costs, self._now = limiter, costs, now

    def __call__(self, client: Any, scope: models.AccountRegion) -> None:
        """Limit and count a client's requests from now on."""
        _Watch(scope.key, self._limiter, self._costs, self._now).attach(client)


class _Watch:
    """What happens around the requests of one client."""

    def __init__(self, scope: str, limiter: ports.Limiter, costs: ports.Costs, now: ports.Clock) -> None:
        self._scope, self._limiter, self._costs, self._now = scope, limiter, costs, now

    def attach(self, client: Any) -> None:
        service = client.meta.service_model.service_id.hyphenize()
        client.meta.events.register(f"before-parameter-build.{service}", self._before_request)
        client.meta.events.register(f"before-send.{service}", self._sends)
        client.meta.events.register(f"response-received.{service}", self._received)

    def _before_request(self, params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        context[_ASKED] = billed(params.get("MetricDataQueries") or ())

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
            self._limiter.answered(self._scope, operation)  # it failed, but at once: nobody is kept waiting
        if parsed_response is None:
            return
        self._limiter.answered(self._scope, operation)
        refused = parsed_response.get("Error")
        if refused and error_kinds.is_throttle(
            str(refused.get("Code")), parsed_response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        ):
            self._limiter.throttled(self._scope, operation)
        # A refused request is not billed.
        self._costs.note(self._now(), self._scope, operation, {} if refused else context.get(_ASKED) or {})


def billed(queries: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many metrics the queries of a GetMetricData request are billed as, by ``namespace/name``."""
    statistics: dict[tuple[str, str, tuple[tuple[str, str], ...]], set[str]] = {}
    for query in queries:
        metric_stat = query["MetricStat"]
        metric = metric_stat["Metric"]
        dimensions = [(dimension["Name"], dimension["Value"]) for dimension in metric.get("Dimensions") or ()]
        series = metric["Namespace"], metric["MetricName"], tuple(sorted(dimensions))
        statistics.setdefault(series, set()).add(metric_stat["Stat"])
    counted: Counter[tuple[str, str]] = Counter()
    for (namespace, name, _), asked_for in statistics.items():
        counted[namespace, name] += -(-len(asked_for) // BILLED_TOGETHER)
    return {f"{namespace}/{name}": number for (namespace, name), number in counted.items()}


def _operation(event_name: str) -> str:
    return event_name.rpartition(".")[2]
