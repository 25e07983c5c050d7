"""GetMetricData around botocore's walk over each query and datapoint, which is most of what a collection costs.

Signing, retries, credentials, endpoints and errors stay botocore's. Only where it speaks JSON to CloudWatch, whose
queries and results look the same on the wire as in Python; in any other protocol nothing changes.
"""

from __future__ import annotations

import json
from typing import Any

_GET = "GetMetricData"


def shorten(client: Any) -> None:
    """Have this CloudWatch client's GetMetricData take and give its lists as they are.

    ``MetricDataResults`` then holds what CloudWatch wrote: timestamps are seconds since 1970.
    """
    if client.meta.service_model.resolved_protocol == "json":
        client._serializer = _Serializer(client._serializer)
        client.meta.events.register_first(f"before-parse.cloudwatch.{_GET}", _read)


class _Serializer:
    """botocore's serializer, which no event can stand in for; the queries are written at once."""

    def __init__(self, usual: Any) -> None:
        self._usual = usual

    def serialize_to_request(self, parameters: dict[str, Any], operation_model: Any) -> Any:
        queries = parameters.get("MetricDataQueries")
        if operation_model.name != _GET or not queries:
            return self._usual.serialize_to_request(parameters, operation_model)
        request = self._usual.serialize_to_request({**parameters, "MetricDataQueries": []}, operation_model)
        body = {**json.loads(request["body"]), "MetricDataQueries": queries}
        request["body"] = json.dumps(body, separators=(",", ":")).encode()
        return request


def _read(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] != 200:
        return
    try:
        body = json.loads(response_dict["body"])
    except ValueError:
        return  # botocore says what it thinks of it
    if isinstance(body, dict) and isinstance(body.get("MetricDataResults"), list):
        customized_response_dict["MetricDataResults"] = body.pop("MetricDataResults")
        response_dict["body"] = json.dumps({**body, "MetricDataResults": []}).encode()
