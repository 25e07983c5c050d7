"""A short cut for GetMetricData, DescribeInstanceStatus and DescribeInstances: most of their CPU is botocore's walk.

Signing, retries, credentials, endpoints and errors stay botocore's. CloudWatch uses the short cut only if the protocol
is JSON: then results look the same on the wire as in Python.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any
from urllib import parse
from xml.etree import ElementTree

import pydantic_core

from workermon.on_aws import metric_queries

_GET = "GetMetricData"

#: The elements of the status checks, and botocore's names for them.
_CHECKS = {
    "systemStatus": "SystemStatus",
    "instanceStatus": "InstanceStatus",
    "attachedEbsStatus": "AttachedEbsStatus",
    "applicationStatus": "ApplicationStatus",
    "performanceStatus": "PerformanceStatus",
}

#: The structures of an instance that are read, and botocore's names for them.
_STRUCTURES = {"instanceState": "State", "monitoring": "Monitoring", "stateReason": "StateReason"}

#: The begin of an instance in DescribeInstanceStatus' answer.
_ITEM = re.compile(rb"<item>\s*<instanceId>([^<&]*)</instanceId>")


def shorten(client: Any) -> None:
    """Give a CloudWatch or EC2 client the faster parser.

    GetMetricData's ``MetricDataResults`` then holds what CloudWatch wrote: timestamps are seconds since 1970.
    DescribeInstanceStatus' ``InstanceStatuses`` holds ids, availability zones, states, checks, scheduled events (with
    times as EC2 wrote them), and the details of impaired checks only. DescribeInstances' ``Reservations`` holds of each
    instance its id, state, monitoring, tags and the reason of its state.
    """
    if client.meta.service_model.service_name == "ec2":
        for operation, read in (("DescribeInstanceStatus", _read_statuses), ("DescribeInstances", _read_instances)):
            client.meta.events.register(f"before-call.ec2.{operation}", _encode_form)
            client.meta.events.register_first(f"before-parse.ec2.{operation}", read)
    elif client.meta.service_model.resolved_protocol == "json":
        client._serializer = _Serializer(client._serializer)
        client.meta.events.register_first(f"before-parse.cloudwatch.{_GET}", _read)


class _Serializer:
    """botocore's serializer, but queries write their own JSON. botocore has no event that allows this."""

    def __init__(self, usual: Any) -> None:
        self._usual = usual

    def serialize_to_request(self, parameters: dict[str, Any], operation_model: Any) -> Any:
        requested = parameters.get("MetricDataQueries")
        if operation_model.name != _GET or not isinstance(requested, metric_queries.Queries):
            return self._usual.serialize_to_request(parameters, operation_model)
        others = {name: value for name, value in parameters.items() if name != "MetricDataQueries"}
        request = self._usual.serialize_to_request(others, operation_model)
        begin = f'{{"MetricDataQueries":{requested.to_json()},'
        request["body"] = begin.encode() + request["body"][1:]
        return request


def _read(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] != 200:
        return
    try:
        body = pydantic_core.from_json(response_dict["body"])
    except ValueError:
        return  # botocore raises its error
    if isinstance(body, dict) and isinstance(body.get("MetricDataResults"), list):
        customized_response_dict["MetricDataResults"] = body.pop("MetricDataResults")
        response_dict["body"] = json.dumps({**body, "MetricDataResults": []}).encode()


def _encode_form(params: dict[str, Any], **_: Any) -> None:
    """Encode a request's form once. botocore does so for the signature, and again to send it."""
    if isinstance(params["body"], dict):
        params["body"] = parse.urlencode(params["body"]).encode()


def _read_statuses(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    customized_response_dict |= _taken(response_dict, "InstanceStatuses", lambda body: _alike(body) or _whole(body))


def _read_instances(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    customized_response_dict |= _taken(
        response_dict, "Reservations", lambda body: _split(body, "reservationSet", _reservation)
    )


def _taken(
    response_dict: dict[str, Any], name: str, read: Callable[[bytes], tuple[list[dict[str, Any]], bytes] | None]
) -> dict[str, Any]:
    """Take the list out of an answer; return it under botocore's ``name``, or nothing if botocore must read it."""
    if response_dict["status_code"] != 200:
        return {}
    try:
        parts = read(response_dict["body"])
    except ElementTree.ParseError:
        return {}  # botocore raises its error
    if parts is None:
        return {}
    items, response_dict["body"] = parts
    return {name: items}


def _whole(body: bytes) -> tuple[list[dict[str, Any]], bytes] | None:
    """Return the statuses and the rest of an answer; ``None`` if it has no statuses."""
    return _split(body, "instanceStatusSet", _status)


def _split(
    body: bytes, list_name: str, parse_item: Callable[[ElementTree.Element], dict[str, Any]]
) -> tuple[list[dict[str, Any]], bytes] | None:
    """Return the items of an answer's list, and the answer without them; ``None`` if it has no such list."""
    root = ElementTree.fromstring(body)  # noqa: S314  (the parser that botocore uses)
    items = next((child for child in root if _name(child) == list_name), None)
    if items is None:
        return None
    parsed = [parse_item(item) for item in items]
    items.clear()
    return parsed, ElementTree.tostring(root)


def _alike(body: bytes) -> tuple[list[dict[str, Any]], bytes] | None:
    """Return the same as ``_whole``, but parse instances once that differ only in their ids: nearly all are well.

    ``None`` if the answer is not written as EC2 writes it, each instance with its id first.
    """
    before, begin, rest = body.partition(b"<instanceStatusSet>")
    items, end, after = rest.rpartition(b"</instanceStatusSet>")
    parts = _ITEM.split(items)
    if not end or parts[0].strip():
        return None
    try:
        statuses = [
            {"InstanceId": instance_id.decode(), **_status_of(item)}
            for instance_id, item in zip(parts[1::2], parts[2::2], strict=True)
        ]
    except (ElementTree.ParseError, UnicodeDecodeError):
        return None  # such an item is no element of its own
    return statuses, before + begin + end + after


@functools.lru_cache(maxsize=256)
def _status_of(item: bytes) -> dict[str, Any]:
    """Return the status of an instance from its element after the id. Nobody may change it."""
    return _status(ElementTree.fromstring(b"<item>" + item))  # noqa: S314  (as above)


def _reservation(item: ElementTree.Element) -> dict[str, Any]:
    return {
        "Instances": [_instance(instance) for child in item if _name(child) == "instancesSet" for instance in child]
    }


def _instance(item: ElementTree.Element) -> dict[str, Any]:
    instance: dict[str, Any] = {}
    for child in item:
        name = _name(child)
        if name == "instanceId":
            instance["InstanceId"] = child.text or ""
        elif name in _STRUCTURES:
            instance[_STRUCTURES[name]] = _texts(child)
        elif name == "tagSet":
            instance["Tags"] = [_texts(tag) for tag in child]
    return instance


def _status(item: ElementTree.Element) -> dict[str, Any]:
    status: dict[str, Any] = {}
    for child in item:
        name = _name(child)
        if name == "instanceId":
            status["InstanceId"] = child.text or ""
        elif name == "availabilityZone":
            status["AvailabilityZone"] = child.text or ""
        elif name == "instanceState":
            text = next((part.text or "" for part in child if _name(part) == "name"), None)
            status["InstanceState"] = {} if text is None else {"Name": text}
        elif name in _CHECKS:
            status[_CHECKS[name]] = _check(child)
        elif name == "eventsSet" and len(child):
            status["Events"] = [_texts(element) for element in child]
    return status


def _check(item: ElementTree.Element) -> dict[str, Any]:
    check: dict[str, Any] = {}
    details: ElementTree.Element | None = None
    for child in item:
        name = _name(child)
        if name == "details":
            details = child
        else:
            check[f"{name[:1].upper()}{name[1:]}"] = child.text or ""
    if details is not None and check.get("Status") == "impaired":
        check["Details"] = [_texts(element) for element in details]
    return check


def _texts(item: ElementTree.Element) -> dict[str, Any]:
    # botocore capitalizes the names of the elements.
    return {f"{name[:1].upper()}{name[1:]}": child.text or "" for child in item if (name := _name(child))}


def _name(element: ElementTree.Element) -> str:
    return _local(element.tag)


@functools.lru_cache(maxsize=256)
def _local(tag: str) -> str:
    """Return an element's name without its namespace. Few different names occur, each many times."""
    return tag.rpartition("}")[2]
