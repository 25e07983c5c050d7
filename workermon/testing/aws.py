"""The AWS ports, rate limits and costs, in memory."""

from __future__ import annotations

import collections
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from workermon import errors, models, ports
from workermon.testing import memory


class MemoryEc2:
    """``ports.Ec2`` over instances that a test adds. While ``error`` is set, every call raises it.

    ``calls`` lists the calls, as (operation, scope, ids).
    """

    def __init__(self, *instances: models.Instance) -> None:
        self._instances: dict[tuple[str, str], models.Instance] = {}
        self._checks: dict[str, models.Checks | None] = {}
        #: EC2's details of impaired checks, by instance id.
        self.impairments: dict[str, dict[models.CheckName, models.Impairment]] = {}
        #: Scheduled events, by instance id.
        self.events: dict[str, tuple[models.ScheduledEvent, ...]] = {}
        self._account: dict[str, str] = {}
        #: Availability zones by instance id; the others are in the region's first one.
        self.zones: dict[str, str] = {}
        self.error: Exception | None = None
        #: AWS' own time.
        self.clock: Callable[[], float | None] = lambda: None
        self.calls: list[tuple[str, models.AccountRegion, tuple[str, ...]]] = []
        for instance in instances:
            self.put(instance)

    def put(
        self,
        instance: models.Instance,
        checks: models.Checks | Literal["as usual"] | None = "as usual",
        account: str = models.DEFAULT_ACCOUNT,
    ) -> None:
        """Add or replace an instance. By default a running one has both checks ok, any other none."""
        if checks == "as usual":
            checks = models.Checks(system="ok", instance="ok") if instance.status == "running" else None
        self._instances[f"{account}/{instance.region}", instance.id] = instance
        self._checks[instance.id] = checks

    def become(self, instance_id: str, status: models.Status, code: str | None = None) -> None:
        """Change an instance's status, with that status' default checks; ``code`` is that of EC2's reason."""
        reason = None if code is None else models.StateReason(code=code)
        for (scope, instance_id_found), instance in list(self._instances.items()):
            if instance_id_found == instance_id:
                changed = instance.model_copy(update={"status": status, "reason": reason})
                self.put(changed, account=models.account_and_region(scope)[0])

    def forget(self, instance_id: str) -> None:
        """Make EC2 forget the instance."""
        self._instances = {key: value for key, value in self._instances.items() if key[1] != instance_id}

    def describe(self, scope: models.AccountRegion, instance_ids: Sequence[str]) -> dict[str, models.Instance]:
        """Return the instances among these ids."""
        self._call("describe", scope, instance_ids)
        return {
            instance_id: self._instances[scope.key, instance_id]
            for instance_id in instance_ids
            if (scope.key, instance_id) in self._instances
        }

    def statuses(self, scope: models.AccountRegion, instance_ids: Sequence[str]) -> dict[str, models.InstanceStatus]:
        """Return state and checks of these ids."""
        self._call("statuses", scope, instance_ids)
        return {
            instance_id: self._status(scope, instance_id)
            for instance_id in instance_ids
            if (scope.key, instance_id) in self._instances
        }

    def _status(self, scope: models.AccountRegion, instance_id: str) -> models.InstanceStatus:
        return models.InstanceStatus(
            id=instance_id,
            status=self._instances[scope.key, instance_id].status,
            zone=self.zones.get(instance_id, f"{scope.region}a"),
            checks=self._checks[instance_id],
            impairments=self.impairments.get(instance_id, {}),
            events=self.events.get(instance_id, ()),
        )

    def list_statuses(self, scope: models.AccountRegion, zone: str | None) -> Iterator[list[models.InstanceStatus]]:
        """Yield state and checks of all instances of a region or zone (``zones``), in pages of a thousand."""
        instance_ids = sorted(
            instance_id
            for key, instance_id in self._instances
            if key == scope.key and zone in (None, self.zones.get(instance_id, f"{scope.region}a"))
        )
        for start in range(0, max(1, len(instance_ids)), 1000):
            page = instance_ids[start : start + 1000]
            self._call(f"list_statuses {zone}" if zone else "list_statuses", scope, ())
            yield [self._status(scope, instance_id) for instance_id in page]

    def time(self, scope: models.AccountRegion) -> float | None:
        """Return AWS' own time."""
        self._call("time", scope, ())
        return self.clock()

    def find(self, scope: models.AccountRegion, tags: Mapping[str, str]) -> list[models.Instance]:
        """Return every instance that carries these tags and still exists."""
        self._call("find", scope, ())
        return [
            instance
            for (key, _), instance in sorted(self._instances.items(), key=lambda item: item[0])
            if key == scope.key and instance.status not in models.GONE and tags.items() <= instance.tags.items()
        ]

    def _call(self, operation: str, scope: models.AccountRegion, instance_ids: Sequence[str]) -> None:
        self.calls.append((operation, scope, tuple(instance_ids)))
        if self.error is not None:
            raise self.error


class MemoryCloudWatch:
    """``ports.CloudWatch`` over datapoints that a test adds; they are returned unchanged.

    While ``error`` is set, every call raises it; ``failing`` fails the queries of a CloudWatch metric name.
    ``calls`` lists the queries of each fetch.
    """

    def __init__(self) -> None:
        self._points: dict[tuple[str, str, frozenset[tuple[str, str]]], dict[int, float]] = {}
        self.error: Exception | None = None
        self.failing: dict[str, Exception] = {}
        self.calls: list[tuple[models.Query, ...]] = []
        #: The metric's name and the instances of each dimension lookup.
        self.list_requests: list[tuple[str, tuple[str, ...] | None]] = []

    def put(
        self,
        instance_id: str,
        metric_name: str,
        points: Iterable[tuple[int, float]],
        *,
        namespace: str = "AWS/EC2",
        dimensions: Mapping[str, str] | None = None,
    ) -> None:
        """Add datapoints as (timestamp, value); ``dimensions`` are those beside ``InstanceId``."""
        dimension_set = frozenset({"InstanceId": instance_id, **(dimensions or {})}.items())
        self._points.setdefault((namespace, metric_name, dimension_set), {}).update(points)

    def forget(self, instance_id: str, metric_name: str, *, since: int) -> None:
        """Remove an instance's datapoints of a metric from a time on, whatever their dimensions."""
        for (_, name, dimensions), points in self._points.items():
            if name == metric_name and ("InstanceId", instance_id) in dimensions:
                for at in [at for at in points if at >= since]:
                    del points[at]

    def fetch(
        self,
        scope: models.AccountRegion,  # noqa: ARG002 - an instance id is unique over accounts and regions
        queries: Sequence[models.Query],
        until: float,
    ) -> ports.Answer:
        """Return datapoints in order of time."""
        self.calls.append(tuple(queries))
        if self.error is not None:
            raise self.error
        answer = ports.Answer({}, {})
        for place, query in enumerate(queries):
            if query.metric_name in self.failing:
                answer.failed[place] = self.failing[query.metric_name]
                continue
            points = self._points.get((query.namespace, query.metric_name, frozenset(query.dimensions)), {})
            datapoints = (
                models.Datapoint(at, value) for at, value in sorted(points.items()) if query.since <= at <= until
            )
            answer.series[place] = models.Series(
                query.period, tuple(point for point in datapoints if point.value == point.value)
            )
        return answer

    def dimensions(
        self,
        scope: models.AccountRegion,  # noqa: ARG002 - as above
        namespace: str,
        metric_name: str,
        instance_ids: Sequence[str] | None,
    ) -> dict[str, list[models.Dimensions]]:
        """Return the dimension sets under which each instance has datapoints."""
        self.list_requests.append((metric_name, None if instance_ids is None else tuple(instance_ids)))
        if self.error is not None:
            raise self.error
        dimension_sets: dict[str, list[models.Dimensions]] = {}
        for place, name, dimensions in self._points:
            owner = dict(dimensions).get("InstanceId", "")
            if (place, name) == (namespace, metric_name) and (instance_ids is None or owner in instance_ids):
                dimension_sets.setdefault(owner, []).append(tuple(sorted(dimensions)))
        return {owner: sorted(sets) for owner, sets in dimension_sets.items()}

    def foreign_dimensions(
        self,
        scope: models.AccountRegion,  # noqa: ARG002 - as above
        namespace: str,
        metric_name: str,
    ) -> list[models.Dimensions]:
        """Return the dimension sets without an instance."""
        if self.error is not None:
            raise self.error
        return [
            tuple(sorted(dimensions))
            for place, name, dimensions in self._points
            if (place, name) == (namespace, metric_name) and models.is_foreign(dict(dimensions))
        ]

    def put_foreign(self, metric_name: str, dimensions: Mapping[str, str], *, namespace: str = "CWAgent") -> None:
        """Publish a metric under dimensions without an instance's id."""
        self._points.setdefault((namespace, metric_name, frozenset(dimensions.items())), {})


class MemoryEventQueues:
    """``ports.EventQueues`` in memory, by address. A message stays until it is deleted.

    While ``error`` is set, every call raises it. An empty queue waits only briefly.
    """

    #: Seconds.
    MOMENT = 0.02

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, str]] = {}
        self.error: Exception | None = None
        #: EventBridge's answer, and the addresses of the queues that its rules match.
        self.publish_error: Exception | None = None
        self.rules: list[str] = []
        #: The scopes whose credentials were used, oldest first.
        self.scopes: list[models.AccountRegion] = []
        self._receipts = itertools.count(1)

    def receive(self, scope: models.AccountRegion, queue_url: str, wait: int) -> list[ports.QueueMessage]:
        """Return a queue's messages, at most 10."""
        self._call(scope)
        if wait and not self.messages.get(queue_url):
            time.sleep(self.MOMENT)
        waiting = list(self.messages.get(queue_url, {}).items())[: ports.MAX_QUEUE_MESSAGES]
        return [ports.QueueMessage(receipt, body) for receipt, body in waiting]

    def delete(self, scope: models.AccountRegion, queue_url: str, receipts: Sequence[str]) -> None:
        """Delete messages."""
        self._call(scope)
        for receipt in receipts:
            self.messages.get(queue_url, {}).pop(receipt, None)

    def send(self, scope: models.AccountRegion, queue_url: str, body: str) -> None:
        """Add a message."""
        self._call(scope)
        self.messages.setdefault(queue_url, {})[f"receipt-{next(self._receipts)}"] = body

    def publish(self, scope: models.AccountRegion, source: str, kind: str, detail: Mapping[str, float]) -> None:
        """Add an event to the queues of ``rules``, or raise ``publish_error``."""
        self._call(scope)
        if self.publish_error is not None:
            raise self.publish_error
        body = {"id": f"event-{next(self._receipts)}", "source": source, "detail-type": kind, "detail": dict(detail)}
        for queue_url in self.rules:
            self.send(scope, queue_url, json.dumps({**body, "time": models.rfc3339(0)}))

    def _call(self, scope: models.AccountRegion) -> None:
        self.scopes.append(scope)
        if self.error is not None:
            raise self.error


class MemoryLimiter:
    """``ports.Limiter`` that allows everything and records it. While ``error`` is set, it is raised."""

    def __init__(self) -> None:
        self.error: errors.WorkermonError | None = None
        #: Requests and records, as (what, scope, api), oldest first.
        self.calls: list[tuple[str, str, str]] = []
        self.shares: dict[tuple[str, str], float] = {}

    def take(self, scope: str, api: str) -> None:
        """Return at once, or raise the error."""
        self.calls.append(("take", scope, api))
        if self.error is not None:
            raise self.error

    def throttled(self, scope: str, api: str) -> None:
        """Record a refusal: halves the rate."""
        self.calls.append(("throttled", scope, api))
        self.shares[scope, api] = self.shares.get((scope, api), 1.0) / 2

    def silent(self, scope: str, api: str) -> None:
        """Record a silence."""
        self.calls.append(("silent", scope, api))
        self.shares[scope, api] = 0.0

    def answered(self, scope: str, api: str) -> None:
        """End a silence."""
        if self.shares.get((scope, api)) == 0.0:
            del self.shares[scope, api]

    def slowed(self) -> dict[tuple[str, str], float]:
        """Return for each slowed API the share of its full rate."""
        return dict(self.shares)


class MemoryLearnedDelays:
    """``ports.LearnedDelays`` in memory."""

    def __init__(self, store: memory.MemoryStore | None = None) -> None:
        self._lock = store.lock if store else threading.RLock()
        self._learned: dict[tuple[str, str | None], dict[str, Any]] = {}

    def load(self, scope: models.AccountRegion) -> dict[str, Any]:
        """Return all learned values."""
        with self._lock:
            return dict(self._learned.get((scope.key, scope.role_arn), {}))

    def save(self, scope: models.AccountRegion, values: Mapping[str, Any]) -> None:
        """Store these beside the others."""
        with self._lock:
            self._learned.setdefault((scope.key, scope.role_arn), {}).update(json.loads(json.dumps(dict(values))))


class MemoryCosts:
    """``ports.Costs`` in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hours: dict[int, models.Hour] = {}
        self._decision = models.BudgetDecision()

    def note(self, at: float, scope: str, operation: str, metrics: Mapping[str, int]) -> None:
        """Count a request and its contents."""
        start = int(at // 3600) * 3600
        with self._lock:
            hour = self._hours.get(start) or models.Hour(start=start, counted_since=at)
            calls, requested, full = dict(hour.calls), dict(hour.metrics), dict(hour.full)
            calls[scope, operation] = calls.get((scope, operation), 0) + 1
            for metric, number in metrics.items():
                weight = self._decision.weights.get(metric, 1)
                requested[scope, metric] = requested.get((scope, metric), 0) + number
                full[scope, metric] = full.get((scope, metric), 0) + number * weight
            self._hours[start] = hour.model_copy(update={"calls": calls, "metrics": requested, "full": full})

    def hours(self, since: float) -> list[models.Hour]:
        """Return the hours since the hour of a given time."""
        with self._lock:
            return [self._hours[start] for start in sorted(self._hours) if start >= since // 3600 * 3600]

    def totals(self) -> models.UsageTotals:
        """Return the totals."""
        calls: collections.Counter[tuple[str, str]] = collections.Counter()
        metrics: collections.Counter[tuple[str, str]] = collections.Counter()
        with self._lock:
            for hour in self._hours.values():
                calls.update(hour.calls)
                metrics.update(hour.metrics)
        return models.UsageTotals(calls=dict(calls), metrics=dict(metrics))

    def budget_decision(self) -> models.BudgetDecision:
        """Return the budget's decision about the periods."""
        return self._decision

    def decide(self, budget_decision: models.BudgetDecision, before: models.BudgetDecision) -> bool:
        """Put a decision in force, unless another one was written meanwhile."""
        with self._lock:
            if self._decision not in (before, budget_decision):
                return False
            self._decision = budget_decision
            return True
