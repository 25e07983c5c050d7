"""The simulated AWS as a real HTTP server on 127.0.0.1, for any SDK with ``AWS_ENDPOINT_URL`` set to it.

``python -m workermon.local.endpoint --port 5000`` runs it alone. Tests can make it slow or failing, and count its
calls.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from workermon import logs
from workermon.local import wire_formats
from workermon.local.api import Api, Refused
from workermon.local.simulation import Simulation

log = logs.get(__name__)

#: ``Credential=AKIA…/20261123/us-east-1/ec2/aws4_request``
_CREDENTIAL = re.compile(r"Credential=[^/,\s]+/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")
_CBOR_PATH = re.compile(r"/service/GraniteServiceVersion20100801/operation/(\w+)")
#: Seconds that a signature's time may differ.
_SKEW = 300
#: Bytes. Far above 500 queries with long dimensions.
_MAX_BODY = 4 << 20

_EC2_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
_QUERY_NAMESPACES = {
    "monitoring": "http://monitoring.amazonaws.com/doc/2010-08-01/",
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
}

Fault = Literal["throttle", "deny", "expired", "invalid", "error", "garbage", "hang", "drop"]

#: The codes that the services really use: EC2's, then those of the others.
_FAULTS: dict[str, tuple[Refused, Refused]] = {
    "throttle": (
        Refused("RequestLimitExceeded", "Request limit exceeded.", 503),
        Refused("Throttling", "Rate exceeded", 400),
    ),
    "deny": (
        Refused("UnauthorizedOperation", "You are not authorized to perform this operation.", 403),
        Refused("AccessDenied", "User is not authorized to perform this action", 403),
    ),
    "expired": (
        Refused("RequestExpired", "Request has expired.", 400),
        Refused("ExpiredToken", "The security token included in the request is expired", 403),
    ),
    "invalid": (
        Refused("AuthFailure", "AWS was not able to validate the provided access credentials", 401),
        Refused("InvalidClientTokenId", "The security token included in the request is invalid.", 403),
    ),
    "error": (
        Refused("InternalError", "An internal error has occurred", 500),
        Refused("InternalServiceError", "Request processing has failed because of an unknown error.", 500),
    ),
}
#: Names of errors in CloudWatch's newer protocols. The older code is sent in a header.
_SHAPES = {
    "AWS.SimpleQueueService.NonExistentQueue": "QueueDoesNotExist",
    "Throttling": "ThrottlingException",
    "AccessDenied": "AccessDeniedException",
    "ExpiredToken": "ExpiredTokenException",
    "InternalServiceError": "InternalServiceFault",
    "ValidationError": "ValidationException",
    "InvalidParameterValue": "InvalidParameterValueException",
}


@dataclass
class _Failing:
    kind: Fault
    times: int | None
    region: str | None


class Endpoint:
    """The server over one simulation. Its hooks may be changed while it runs."""

    def __init__(self, simulation: Simulation, port: int = 0) -> None:
        self.simulation = simulation
        self.api = Api(simulation)
        #: Minimum seconds for every answer.
        self.latency = 0.0
        #: Seconds by which AWS's clock is ahead of the clients'.
        self.ahead = 0.0
        #: Calls of each action, failed calls included.
        self.calls: Counter[str] = Counter()
        #: Metrics requested with GetMetricData: what AWS bills.
        self.metrics_asked = 0
        self.open: set[socket.socket] = set()
        self.stopping = threading.Event()
        self._port = port
        self._failing: dict[str | None, _Failing] = {}
        self._changed = threading.Condition()
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """Return its address."""
        assert self._server is not None, "not started"
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """Listen and answer, in threads of this process."""
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Stop listening and close all connections. Idempotent. A later ``start`` listens on the same port."""
        if self._server is None:
            return
        self.stopping.set()
        self.recover()
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server = None
        self.stopping = threading.Event()

    def fail(self, kind: Fault, action: str | None = None, times: int | None = None, region: str | None = None) -> None:
        """Make an action (all if ``None``) fail in that way, ``times`` times or until ``recover``.

        With a region, only requests to that region fail.
        """
        with self._changed:
            self._failing[action] = _Failing(kind, times, region)

    def recover(self, action: str | None = None) -> None:
        """Let an action (all if ``None``) work again. Hanging requests are dropped."""
        with self._changed:
            if action is None:
                self._failing.clear()
            else:
                self._failing.pop(action, None)
            self._changed.notify_all()

    def fault(self, action: str, region: str = "") -> Fault | None:
        """Count a call, and return how it has to fail. For a hanging call it returns once the call is to be dropped."""
        if self.latency:
            self.stopping.wait(self.latency)
        with self._changed:
            self.calls[action] += 1
            matching_action = next((name for name in (action, None) if name in self._failing), "")
            failure = self._failing.get(matching_action)
            if failure is None or failure.region not in (None, region):
                return None
            if failure.times is not None:
                failure.times -= 1
                if failure.times <= 0:
                    del self._failing[matching_action]
            if failure.kind == "hang":
                self._changed.wait_for(lambda: failure not in self._failing.values() or self.stopping.is_set())
                return "drop"
            return failure.kind

    def count_billed(self, action: str, params: dict[str, Any]) -> None:
        """Count billed metrics."""
        if action == "GetMetricData":
            with self._changed:
                self.metrics_asked += len(params.get("MetricDataQueries") or ())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Ignore a client that disconnected. Log all other errors."""
        if not isinstance(sys.exc_info()[1], OSError):
            log.exception("endpoint.failed")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def setup(self) -> None:
        super().setup()
        self.server.endpoint.open.add(self.connection)

    def finish(self) -> None:
        self.server.endpoint.open.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        log.debug("endpoint.request", line=format % args)

    def do_GET(self) -> None:
        self._answer(urlsplit(self.path).query.encode())

    def do_POST(self) -> None:
        try:
            size = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            size = -1
        if not 0 <= size <= _MAX_BODY:
            self.close_connection = True
            self._send(413, "text/plain", b"")
            return
        self._answer(self.rfile.read(size))

    def _answer(self, body: bytes) -> None:
        match = _CREDENTIAL.search(self.headers.get("Authorization") or "")
        region, service = (match[1], match[2]) if match else ("", "")
        protocol = "query"
        try:
            protocol, action, params = self._request(body)
            if not match:
                raise Refused("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
            fault = self.server.endpoint.fault(action, region)
            if fault == "drop":
                self.close_connection = True
                return
            if fault == "garbage":
                self._send(200, "text/html", b"<html><body>502 Bad Gateway")
                return
            if fault is not None:
                raise _FAULTS[fault][service != "ec2"]
            self._check_date(service)
            self.server.endpoint.count_billed(action, params)
            self._respond(service, protocol, action, self.server.endpoint.api.call(service, action, params, region))
        except Refused as error:
            self._refuse(service, protocol, error)
        except ValueError as error:
            self._refuse(service, protocol, Refused("SerializationException", str(error)))

    def _check_date(self, service: str) -> None:
        """Reject a signature that is five minutes off. EC2 does not say why."""
        now = time.time() + self.server.endpoint.ahead
        signed = self.headers.get("X-Amz-Date") or ""
        try:
            at = datetime.strptime(signed, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            return
        if abs(at - now) <= _SKEW:
            return
        if service == "ec2":
            raise _FAULTS["invalid"][0]
        reason = "expired" if at < now else "not yet current"
        raise Refused("InvalidSignatureException", f"Signature {reason}: {signed} is off by more than 5 min.", 403)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return AWS's time for an answer's Date header."""
        return super().date_time_string(timestamp or time.time() + self.server.endpoint.ahead)

    def _request(self, body: bytes) -> tuple[str, str, dict[str, Any]]:
        path = _CBOR_PATH.fullmatch(urlsplit(self.path).path)
        target = self.headers.get("X-Amz-Target")
        if path:
            params = wire_formats.from_cbor(body) if body else {}
            protocol, action = "cbor", path[1]
        elif target:
            params = json.loads(body or b"{}")
            protocol, action = "json", target.rpartition(".")[2]
        else:
            params = wire_formats.from_form(parse_qsl(body.decode(), keep_blank_values=True))
            protocol, action = "query", str(params.pop("Action", ""))
        if not isinstance(params, dict):
            raise ValueError("the request is not a structure")
        return protocol, action, params

    def _respond(self, service: str, protocol: str, action: str, answer: dict[str, Any]) -> None:
        if protocol == "cbor":
            self._send(200, "application/cbor", wire_formats.to_cbor(answer), {"smithy-protocol": "rpc-v2-cbor"})
        elif protocol == "json":
            self._send(200, "application/x-amz-json-1.0", json.dumps(answer).encode())
        elif service == "ec2":
            inside = "".join(wire_formats.to_xml(key, value, item="item") for key, value in answer.items())
            self._send_xml(
                200,
                f'<{action}Response xmlns="{_EC2_NAMESPACE}"><requestId>{_ID}</requestId>{inside}</{action}Response>',
            )
        else:
            inside = wire_formats.to_xml(f"{action}Result", answer, item="member")
            self._send_xml(
                200,
                f'<{action}Response xmlns="{_QUERY_NAMESPACES.get(service, "")}">{inside}'
                f"<ResponseMetadata><RequestId>{_ID}</RequestId></ResponseMetadata></{action}Response>",
            )

    def _refuse(self, service: str, protocol: str, refusal: Refused) -> None:
        error_body = {"Code": refusal.code, "Message": refusal.message}
        if protocol in ("cbor", "json"):
            side = "Receiver" if refusal.status >= 500 else "Sender"
            headers = {"x-amzn-query-error": f"{refusal.code};{side}"}
            answer = {
                "__type": f"com.amazonaws.cloudwatch#{_SHAPES.get(refusal.code, refusal.code)}",
                "message": refusal.message,
            }
            if protocol == "cbor":
                headers["smithy-protocol"] = "rpc-v2-cbor"
                self._send(refusal.status, "application/cbor", wire_formats.to_cbor(answer), headers)
            else:
                self._send(refusal.status, "application/x-amz-json-1.0", json.dumps(answer).encode(), headers)
        elif service == "ec2":
            self._send_xml(
                refusal.status,
                wire_formats.to_xml("Response", {"Errors": [error_body], "RequestID": _ID}, item="Error"),
            )
        else:
            inside = wire_formats.to_xml("Error", {"Type": "Sender", **error_body}, item="member")
            self._send_xml(
                refusal.status,
                f'<ErrorResponse xmlns="{_QUERY_NAMESPACES.get(service, "")}">{inside}'
                f"<RequestId>{_ID}</RequestId></ErrorResponse>",
            )

    def _send_xml(self, status: int, text: str) -> None:
        self._send(status, "text/xml;charset=UTF-8", f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode())

    def _send(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "x-amzn-RequestId": _ID, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


#: Real ids differ from call to call; nobody looks one up here.
_ID = "00000000-0000-4000-8000-000000000000"


def main() -> None:
    """Run a simulated fleet's endpoint until Ctrl-C; its address is the first line of standard output."""
    parser = argparse.ArgumentParser(prog="python -m workermon.local.endpoint", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0, the default: any that is free")
    parser.add_argument("--workers", type=int, default=25)
    parser.add_argument("--period", type=int, default=60, help="seconds between two datapoints (60)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logs.configure()
    simulation = Simulation(time.time, arguments.workers, period=arguments.period, seed=arguments.seed)
    simulation.begin()
    endpoint = Endpoint(simulation, arguments.port)
    endpoint.start()
    sys.stdout.write(f"{endpoint.url}\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    endpoint.stop()


if __name__ == "__main__":
    main()
