"""The answers of EC2, CloudWatch and STS about a simulated fleet, with AWS's own limits and errors.

Sources are the API references of Amazon EC2 (2016-11-15), Amazon CloudWatch (2010-08-01) and AWS STS (2011-06-15).
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from workermon import models
from workermon.local import queues, wire_formats
from workermon.local.simulation import STATES, Check, Machine, Scheduled, Simulation, Stream

#: Instance ids in one DescribeInstanceStatus.
STATUS_IDS = 100
#: GetMetricData: queries in a call, and datapoints in an answer.
QUERIES = 500
DATAPOINTS = 100_800
#: Metrics in one answer of ListMetrics.
METRICS = 500

#: How far back a request may begin, in seconds, by what its period is a multiple of. Older datapoints are not returned.
#: Periods below a minute, which CloudWatch keeps for 3 hours, count as a minute here: a simulated day may be short.
_RETENTION = ((3600, 455 * models.DAY), (300, 63 * models.DAY), (1, 15 * models.DAY))

_QUERY_ID = re.compile(r"[a-z][a-zA-Z0-9_]{0,254}")
_STATISTICS: dict[str, Callable[[list[float]], float]] = {
    "Average": lambda values: sum(values) / len(values),
    "Sum": sum,
    "Minimum": min,
    "Maximum": max,
    "SampleCount": lambda values: float(len(values)),
}


class Refused(Exception):
    """AWS answers with an error: its code, its message and the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message, status)
        self.code, self.message, self.status = code, message, status


class Api:
    """The operations: ``call`` takes and returns plain structures under AWS's names."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        #: Datapoints and metrics in a page. Lower them to test paging.
        self.datapoints = DATAPOINTS
        self.metrics = METRICS
        #: Roles that can be assumed, each with the external id that it requires. Empty: any role.
        self.roles: dict[str, str | None] = {}
        self.queues = queues.Queues()
        self._operations: dict[tuple[str, str], Callable[[dict[str, Any], str], dict[str, Any]]] = {
            ("ec2", "DescribeInstances"): self._describe_instances,
            ("ec2", "DescribeInstanceStatus"): self._describe_instance_status,
            ("monitoring", "GetMetricData"): self._get_metric_data,
            ("monitoring", "ListMetrics"): self._list_metrics,
            ("sqs", "ReceiveMessage"): lambda params, _: self.queues.receive(params),
            ("sqs", "DeleteMessageBatch"): lambda params, _: self.queues.delete(params),
            ("sqs", "SendMessage"): lambda params, _: self.queues.send(params),
            ("events", "PutEvents"): lambda params, _: self.queues.publish(params),
            ("sts", "AssumeRole"): self._assume_role,
            ("sts", "GetCallerIdentity"): self._get_caller_identity,
        }

    def call(self, service: str, action: str, params: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer one call. Raises ``Refused``."""
        operation = self._operations.get((service, action))
        if operation is None:
            raise Refused("InvalidAction", f"The action {action} is not valid for this web service.")
        try:
            return operation(params, region)
        except queues.UnknownQueue:
            raise Refused("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            code = "InvalidParameterValue" if service == "ec2" else "ValidationError"
            raise Refused(code, f"{type(error).__name__}: {error}") from error

    # --- EC2

    def _describe_instances(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        machines = self._chosen(params, region)
        chosen = [machine for machine in machines if _matches(machine, _members(params, "Filter"))]
        page, token = _page(chosen, params, most=1000)
        return {
            "reservationSet": [
                {
                    "reservationId": "r-" + machine.id.removeprefix("i-"),
                    "ownerId": "123456789012",
                    "groupSet": [],
                    "instancesSet": [_instance(machine)],
                }
                for machine in page
            ],
            "nextToken": token,
        }

    def _describe_instance_status(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        ids = _members(params, "InstanceId")
        if len(ids) > STATUS_IDS:
            raise Refused(
                "InvalidParameterValue", f"The maximum number of instance ids is {STATUS_IDS}; {len(ids)} were given"
            )
        filters = _members(params, "Filter")
        machines = [machine for machine in self._chosen(params, region) if _matches(machine, filters)]
        if str(params.get("IncludeAllInstances", "false")).lower() != "true":
            machines = [machine for machine in machines if machine.state == "running"]
        page, token = _page(machines, params, most=1000)
        return {"instanceStatusSet": [self._status(machine) for machine in page], "nextToken": token}

    def _status(self, machine: Machine) -> dict[str, Any]:
        checks = self._simulation.status(machine)
        return {
            "instanceId": machine.id,
            "availabilityZone": machine.zone,
            "eventsSet": [_scheduled(event) for event in machine.events] or None,
            "instanceState": {"code": STATES[machine.state], "name": machine.state},
            **{element: _check(name, checks[name]) for name, element in _CHECKS.items() if name in checks},
        }

    def _chosen(self, params: dict[str, Any], region: str) -> list[Machine]:
        ids = _members(params, "InstanceId")
        machines = list(self._simulation.machines.values())  # one may be launched meanwhile
        machine_by_id = {machine.id: machine for machine in machines if machine.region == region}
        for instance_id in ids:
            if not models.INSTANCE_ID.fullmatch(instance_id):
                raise Refused("InvalidInstanceID.Malformed", f'Invalid id: "{instance_id}"')
        unknown = [instance_id for instance_id in ids if instance_id not in machine_by_id]
        if unknown:
            which = f"ID '{unknown[0]}' does" if len(unknown) == 1 else f"IDs '{', '.join(unknown)}' do"
            raise Refused("InvalidInstanceID.NotFound", f"The instance {which} not exist")
        if ids and params.get("MaxResults"):
            raise Refused(
                "InvalidParameterCombination",
                "The parameter instancesSet cannot be used with the parameter maxResults",
            )
        return [machine_by_id[instance_id] for instance_id in ids] if ids else list(machine_by_id.values())

    # --- CloudWatch

    def _get_metric_data(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        queries = _members(params, "MetricDataQueries")
        start, end = wire_formats.moment(params["StartTime"]), wire_formats.moment(params["EndTime"])
        _validate(queries, start, end)
        descending = params.get("ScanBy", "TimestampDescending") == "TimestampDescending"
        most = min(int(params.get("MaxDatapoints") or DATAPOINTS), self.datapoints)
        first, skip = _offset(params.get("NextToken"), len(queries))
        results, token, remaining = [], None, most
        for place, query in enumerate(queries):
            if place < first or token is not None:
                # On other pages: listed on each, without datapoints.
                results.append(_result(query, [], complete=place < first))
                continue
            series = self._series(query["MetricStat"], start, end, region)
            if descending:
                series.reverse()
            fresh = series[skip:] if place == first else series
            batch = fresh[:remaining]
            remaining -= len(batch)
            if len(batch) < len(fresh):
                token = _token(place, len(batch) + (skip if place == first else 0))
            results.append(_result(query, batch, complete=token is None))
        return {"MetricDataResults": results, "Messages": [], **({"NextToken": token} if token else {})}

    def _series(self, metric_stat: dict[str, Any], start: float, end: float, region: str) -> list[tuple[int, float]]:
        """Return datapoints aligned to the requested period, oldest first; none if the dimensions differ."""
        metric, period = metric_stat["Metric"], int(metric_stat["Period"])
        dimensions = frozenset((dimension["Name"], dimension["Value"]) for dimension in _members(metric, "Dimensions"))
        stream = self._simulation.streams.get((metric["Namespace"], metric["MetricName"], dimensions))
        if stream is None or stream.machine.region != region:
            return []
        if self._simulation.now() - start > next(
            retention for multiple, retention in _RETENTION if period % multiple == 0
        ):
            return []
        since = start // min(period, 60) * min(period, 60)  # CloudWatch rounds the start down
        slots: dict[int, list[float]] = {}
        for at, value in self._simulation.points(stream, since, end):
            slots.setdefault(at // period * period, []).append(value)
        statistic = _STATISTICS[metric_stat["Stat"]]
        return [(at, statistic(values)) for at, values in sorted(slots.items()) if at >= since]

    def _list_metrics(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        filters = [(dimension["Name"], dimension.get("Value")) for dimension in _members(params, "Dimensions")]

        def matches(stream: Stream) -> bool:
            dimensions = dict(stream.dimensions)
            return (
                stream.machine.region == region
                and params.get("Namespace") in (None, stream.namespace)
                and params.get("MetricName") in (None, stream.name)
                and all(name in dimensions and value in (None, dimensions[name]) for name, value in filters)
            )

        streams = [stream for stream in list(self._simulation.streams.values()) if matches(stream)]
        first, _ = _offset(params.get("NextToken"), len(streams))
        page = streams[first : first + self.metrics]
        more = first + len(page) < len(streams)
        return {
            "Metrics": [
                {
                    "Namespace": stream.namespace,
                    "MetricName": stream.name,
                    "Dimensions": [{"Name": name, "Value": value} for name, value in stream.dimensions],
                }
                for stream in page
            ],
            **({"NextToken": _token(first + len(page), 0)} if more else {}),
        }

    # --- STS

    def _assume_role(self, params: dict[str, Any], _region: str) -> dict[str, Any]:
        arn = params["RoleArn"]
        match = re.fullmatch(r"arn:aws:iam::(\d{12}):role/(.+)", arn)
        if not match:
            raise Refused("ValidationError", f"{arn} is invalid")
        if self.roles and (arn not in self.roles or self.roles[arn] != params.get("ExternalId")):
            raise Refused(
                "AccessDenied", f"User is not authorized to perform: sts:AssumeRole on resource: {arn}", status=403
            )
        expires = self._simulation.now() + int(params.get("DurationSeconds") or 3600)
        session = params["RoleSessionName"]
        return {
            "Credentials": {
                "AccessKeyId": "ASIASIMULATED" + match[1][-7:],
                "SecretAccessKey": "simulated",
                "SessionToken": "simulated",
                "Expiration": wire_formats.Moment(expires),
            },
            "AssumedRoleUser": {
                "AssumedRoleId": f"AROASIMULATED:{session}",
                "Arn": f"arn:aws:sts::{match[1]}:assumed-role/{match[2]}/{session}",
            },
        }

    def _get_caller_identity(self, _params: dict[str, Any], _region: str) -> dict[str, Any]:
        return {"Arn": "arn:aws:iam::123456789012:user/simulated", "UserId": "AIDASIMULATED", "Account": "123456789012"}


#: The elements of the status checks.
_CHECKS = {
    "system": "systemStatus",
    "instance": "instanceStatus",
    "attached_ebs": "attachedEbsStatus",
    "application": "applicationStatus",
    "performance": "performanceStatus",
}


def _check(name: str, check: Check) -> dict[str, Any]:
    """Return a status check. The two newer ones have ``ImpairedSince`` themselves, the others in their details."""
    since = {} if check.impaired_since is None else {"impairedSince": _time(check.impaired_since)}
    if name in ("application", "performance"):
        remediation = {} if check.remediation is None else {"remediation": check.remediation}
        return {"status": check.status, **since, **remediation}
    spelled = {"ok": "passed", "impaired": "failed"}.get(check.status, check.status)
    details = None if check.status == "not-applicable" else [{"name": "reachability", "status": spelled, **since}]
    return {"status": check.status, "details": details}


def _members(params: dict[str, Any], name: str) -> list[Any]:
    values = params.get(name) or []
    if not isinstance(values, list):
        raise ValueError(f"{name} is not a list")
    return values


def _instance(machine: Machine) -> dict[str, Any]:
    return {
        "instanceId": machine.id,
        "imageId": machine.image,
        "instanceState": {"code": STATES[machine.state], "name": machine.state},
        "privateDnsName": f"ip-10-0-0-{machine.number + 10}.ec2.internal",
        "instanceType": machine.type,
        "launchTime": _time(machine.launched_at),
        "placement": {"availabilityZone": machine.zone, "tenancy": "default"},
        "monitoring": {"state": "enabled" if machine.detailed else "disabled"},
        "architecture": "x86_64",
        "tagSet": [{"key": key, "value": value} for key, value in machine.tags.items()],
        "stateReason": None if machine.reason is None else dict(zip(("code", "message"), machine.reason, strict=True)),
    }


def _scheduled(event: Scheduled) -> dict[str, Any]:
    return {
        "instanceEventId": event.id,
        "code": event.code,
        "description": event.description or None,
        "notBefore": _time(event.not_before),
        "notAfter": None if event.not_after is None else _time(event.not_after),
        "notBeforeDeadline": None if event.deadline is None else _time(event.deadline),
    }


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _matches(machine: Machine, filters: list[dict[str, Any]]) -> bool:
    """Return whether an instance passes every filter: any of its values, with wildcards ``*`` and ``?``."""
    for dimension in filters:
        name, values = dimension["Name"], _members(dimension, "Value")
        if name.startswith("tag:"):
            tag_values = [machine.tags[name[4:]]] if name[4:] in machine.tags else []
        elif name == "tag-key":
            tag_values = list(machine.tags)
        elif name == "instance-state-name":
            tag_values = [machine.state]
        elif name == "instance-id":
            tag_values = [machine.id]
        elif name == "availability-zone":
            tag_values = [machine.zone]
        else:
            raise Refused("InvalidParameterValue", f"The filter '{name}' is invalid")
        if not any(fnmatch.fnmatchcase(have, value.replace("[", "[[]")) for have in tag_values for value in values):
            return False
    return True


def _page(machines: list[Machine], params: dict[str, Any], *, most: int) -> tuple[list[Machine], str | None]:
    size = int(params.get("MaxResults") or most)
    if not 5 <= size <= most:
        raise Refused(
            "InvalidParameterValue", f"Value ( {size} ) for parameter maxResults is invalid. Expecting 5-1000"
        )
    first, _ = _offset(params.get("NextToken"), len(machines))
    page = machines[first : first + size]
    end = first + len(page)
    return page, _token(end, 0) if end < len(machines) else None


def _token(place: int, skip: int) -> str:
    return base64.urlsafe_b64encode(f"{place}:{skip}".encode()).decode()


def _offset(token: str | None, most: int) -> tuple[int, int]:
    if not token:
        return 0, 0
    try:
        place, skip = (int(part) for part in base64.urlsafe_b64decode(token).decode().split(":"))
        if 0 <= place <= most and skip >= 0:
            return place, skip
    except (binascii.Error, ValueError):
        pass
    raise Refused("InvalidNextToken", "The next token specified is invalid.")


def _validate(queries: list[dict[str, Any]], start: float, end: float) -> None:
    if not 1 <= len(queries) <= QUERIES:
        raise Refused("ValidationError", f"The collection MetricDataQueries must have a size from 1 to {QUERIES}.")
    if start >= end:
        raise Refused("ValidationError", "The parameter StartTime must be less than the parameter EndTime.")
    ids: set[str] = set()
    for query in queries:
        name, metric_stat = query["Id"], query.get("MetricStat")
        if not _QUERY_ID.fullmatch(name) or name in ids:
            raise Refused("ValidationError", f"The value {name} of Id is invalid or not unique.")
        ids.add(name)
        if metric_stat is None:
            raise Refused("ValidationError", "Expressions are not simulated; give MetricStat.")
        if metric_stat["Stat"] not in _STATISTICS:
            raise Refused("ValidationError", f"The value {metric_stat['Stat']} of Stat is not simulated.")
        if int(metric_stat["Period"]) < 1:
            raise Refused("ValidationError", f"The value {metric_stat['Period']} of Period is invalid.")


def _result(query: dict[str, Any], points: list[tuple[int, float]], *, complete: bool) -> dict[str, Any]:
    return {
        "Id": query["Id"],
        "Label": query.get("Label") or query["MetricStat"]["Metric"]["MetricName"],
        "Timestamps": [wire_formats.Moment(at) for at, _ in points],
        "Values": [float(value) for _, value in points],
        "StatusCode": "Complete" if complete else "PartialData",
    }
