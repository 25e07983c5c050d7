"""Refuses answers that are not JSON. botocore takes them for answers without fields: a failure looked like absence."""

from __future__ import annotations

from typing import Any

import botocore.parsers
import pydantic_core


def require_json(client: Any) -> None:
    """Make a client of a service with the JSON protocol raise for any other answer, such as a proxy's page."""
    service_model = client.meta.service_model
    if service_model.resolved_protocol == "json":
        client.meta.events.register_first(f"before-parse.{service_model.service_id.hyphenize()}", _check)


def _check(response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] != 200:
        return
    try:
        body = pydantic_core.from_json(response_dict["body"])
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise botocore.parsers.ResponseParserError("it is not a JSON object")
