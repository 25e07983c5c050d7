"""A fast simulated AWS for the benchmarks: ``endpoint.py PORT_FILE LATENCY``.

It answers for any instance id after ``LATENCY`` seconds, with bytes that it makes once, and counts its requests. A list
of all instances has those that it was asked for. It implements DescribeInstanceStatus and DescribeInstances (EC2, XML),
GetMetricData and ListMetrics (CloudWatch, JSON or CBOR).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
import zlib
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl

from workermon.local import wire_formats

#: Different series of values. Each metric of each worker has one of them.
SERIES = 97
#: Seconds from the end of its period until a datapoint is available.
DELAY = int(os.environ.get("BENCH_DELAY", "5"))
#: How many of the series are above 90 every second minute. The others stay at rest.
TOGGLED = int(os.environ.get("BENCH_TOGGLED", "0"))
_TARGET = re.compile(rb"\r\nx-amz-target: *\w+\.(\w+)", re.IGNORECASE)


class Aws:
    """The answers, and the counts of requests."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._results: dict[tuple[int, int, int], list[tuple[str, int]]] = {}
        self._status: dict[str, bytes] = {}
        #: The statuses by zone; under an empty name those of all zones.
        self._statuses_by_zone: dict[str, list[bytes]] = {"": []}

    def answer(self, path: bytes, head: bytes, body: bytes) -> tuple[bytes, bytes]:
        """Return the content type (with further headers) and the body."""
        if path == b"/stats":
            return b"application/json", json.dumps(self.counts).encode()
        target = _TARGET.search(head)
        if target or path.startswith(b"/service/"):
            action = (target[1] if target else path.rpartition(b"/")[2]).decode()
            request = json.loads(body) if target else wire_formats.from_cbor(body)
            out = self._data(request) if action == "GetMetricData" else self._list(request)
            self._count(action)
            if target:
                return b"application/x-amz-json-1.0", out.encode()
            return b"application/cbor\r\nsmithy-protocol: rpc-v2-cbor", wire_formats.to_cbor(_timed(json.loads(out)))
        form = dict(parse_qsl(body.decode()))
        action = form.get("Action", "unknown")
        self._count(action)
        ids = [value for name, value in form.items() if name.startswith("InstanceId")]
        if action == "DescribeInstanceStatus" and not ids:
            return b"text/xml", self._statuses(form)
        return b"text/xml", self._ec2(action, ids)

    def _count(self, action: str) -> None:
        self.counts[action] += 1
        self.counts["calls"] += 1

    # --- CloudWatch

    def _data(self, request: dict[str, Any]) -> str:
        start, end = _moment(request["StartTime"]), _moment(request["EndTime"])
        queries = request["MetricDataQueries"]
        known_until = int(time.time()) - DELAY
        out, points = [], 0
        for query in queries:
            stat = query["MetricStat"]
            metric, period = stat["Metric"], stat["Period"]
            owner = next(dimension["Value"] for dimension in metric["Dimensions"] if dimension["Name"] == "InstanceId")
            series = self._series(start, min(end, known_until - period + 1), period)
            text, length = series[zlib.crc32(f"{metric['MetricName']}{owner}".encode()) % SERIES]
            out.append(f'{{"Id":"{query["Id"]}",{text}')
            points += length
        self.counts["queries"] += len(queries)
        self.counts["datapoints"] += points
        self.counts["window"] += end - start
        return '{"MetricDataResults":[' + ",".join(out) + '],"Messages":[]}'

    def _series(self, start: int, end: int, period: int) -> list[tuple[str, int]]:
        # The key has the first excluded period: an end on a period's start excludes that period, a later end does not.
        key = (start, -(-end // period), period)
        if key not in self._results:
            if len(self._results) > 200:
                self._results.clear()
            times = range(-(-start // period) * period, end, period)
            self._results[key] = [
                (
                    json.dumps(
                        {
                            "Label": "metric",
                            "StatusCode": "Complete",
                            "Timestamps": [float(at) for at in times],
                            "Values": [value(series_number, at) for at in times],
                        }
                    )[1:],
                    len(times),
                )
                for series_number in range(SERIES)
            ]
        return self._results[key]

    def _list(self, request: dict[str, Any]) -> str:
        owners = [item.get("Value") for item in request.get("Dimensions", ()) if item["Name"] == "InstanceId"]
        metrics = []
        if owners and owners[0]:
            sets = [{"Name": "InstanceId", "Value": owners[0]}]
            if "disk" in request["MetricName"]:
                sets += [{"Name": "path", "Value": "/"}, {"Name": "fstype", "Value": "xfs"}]
            metrics = [{"Namespace": request["Namespace"], "MetricName": request["MetricName"], "Dimensions": sets}]
        return json.dumps({"Metrics": metrics})

    # --- EC2

    def _ec2(self, action: str, ids: list[str]) -> bytes:
        make = _status if action == "DescribeInstanceStatus" else _instance
        parts = []
        for worker_id in ids:
            key = action + worker_id
            if key not in self._status:
                self._status[key] = make(worker_id).encode()
                if make is _status:
                    for zone in ("", _zone(worker_id)):
                        self._statuses_by_zone.setdefault(zone, []).append(self._status[key])
            parts.append(self._status[key])
        within = b"instanceStatusSet" if action == "DescribeInstanceStatus" else b"reservationSet"
        return _response(action.encode(), b"<%s>%s</%s>" % (within, b"".join(parts), within))

    def _statuses(self, form: dict[str, str]) -> bytes:
        """Return a page of the instances of a zone, or of all."""
        statuses = self._statuses_by_zone.get(form.get("Filter.1.Value.1", ""), [])
        begin, size = int(form.get("NextToken", "0")), int(form["MaxResults"])
        more = b"<nextToken>%d</nextToken>" % (begin + size) if begin + size < len(statuses) else b""
        page = b"".join(statuses[begin : begin + size])
        return _response(b"DescribeInstanceStatus", b"<instanceStatusSet>%s</instanceStatusSet>%s" % (page, more))


def _response(action: bytes, content: bytes) -> bytes:
    return (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<%sResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
        b"<requestId>b</requestId>%s</%sResponse>" % (action, content, action)
    )


def _zone(instance_id: str) -> str:
    """Return the availability zone of an instance: one of three."""
    return "us-east-1" + "abc"[zlib.crc32(instance_id.encode()) % 3]


def _moment(at: float | str) -> int:
    return int(at if isinstance(at, int | float) else datetime.fromisoformat(at).timestamp())


def _timed(answer: dict[str, Any]) -> dict[str, Any]:
    for item in answer.get("MetricDataResults", ()):
        item["Timestamps"] = [wire_formats.Moment(at) for at in item["Timestamps"]]
    return answer


def value(series_number: int, at: int) -> float:
    """Return the value of a series at a time. One series of 97 is above 90 for five minutes of twenty."""
    if TOGGLED:
        return 95.5 if series_number < TOGGLED and at // 60 % 2 else 20.0 + series_number / 97
    if series_number == 0 and at // 300 % 4 == 0:
        return 95.5
    return 20.0 + (series_number * 7 + at // 60 * 13) % 50 + 0.125


def _status(instance_id: str) -> str:
    summary = "<status>ok</status><details><item><name>reachability</name><status>passed</status></item></details>"
    return (
        f"<item><instanceId>{instance_id}</instanceId><availabilityZone>{_zone(instance_id)}</availabilityZone>"
        f"<instanceState><code>16</code><name>running</name></instanceState><systemStatus>{summary}</systemStatus>"
        f"<instanceStatus>{summary}</instanceStatus></item>"
    )


def _instance(instance_id: str) -> str:
    name = f"render-{int(instance_id[2:], 16):05d}"  # as house.fleet names it
    return (
        f"<item><reservationId>r-1</reservationId><instancesSet><item><instanceId>{instance_id}</instanceId>"
        "<instanceState><code>16</code><name>running</name></instanceState><monitoring><state>enabled</state>"
        f"</monitoring><tagSet><item><key>Name</key><value>{name}</value></item></tagSet></item>"
        "</instancesSet></item>"
    )


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as far as botocore and urllib use it."""

    def __init__(self, aws: Aws, latency: float) -> None:
        self._aws, self._latency, self._buffer = aws, latency, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the answers."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            sized = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
            size = int(sized[1]) if sized else 0
            if b"100-continue" in head and len(self._buffer) == end + 4 and size:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if len(self._buffer) < end + 4 + size:
                return
            body = self._buffer[end + 4 : end + 4 + size]
            self._buffer = self._buffer[end + 4 + size :]
            path = head.split(b" ", 2)[1]
            kind, out = self._aws.answer(path, head, body)
            answer = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind, len(out)) + out
            wait = 0.0 if path == b"/stats" else self._latency
            asyncio.get_running_loop().call_later(wait, self._send, answer)

    def _send(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


async def main() -> None:
    """Write the port to the named file, and serve until terminated."""
    aws, latency = Aws(), float(sys.argv[2])
    server = await asyncio.get_running_loop().create_server(lambda: Connection(aws, latency), "127.0.0.1", 0)
    port_file = Path(sys.argv[1] + ".new")
    port_file.write_text(str(server.sockets[0].getsockname()[1]))
    port_file.replace(sys.argv[1])
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
