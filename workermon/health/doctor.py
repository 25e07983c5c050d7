"""Doctor: tries what ``status`` only reads: AWS permissions, the settings of Redis, the clocks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from workermon import errors, models, ports, rules
from workermon.config import catalogue
from workermon.health import status

#: Seconds by which the clocks of this machine and of the server may differ.
SKEW = 5

#: Seconds by which the clocks of this machine and of AWS may differ: half of the shortest period of EC2's metrics,
#: because a slot counts as missing by when its datapoint was due. From five minutes on AWS refuses every request.
AWS_SKEW = models.CLOCK_SKEW

#: Seconds that the listener has to read an event of ours.
QUEUE_PATIENCE = 10.0

#: Workers that are named to AWS in one try.
NAMED = 1


class Check(models.Frozen):
    """One thing that was tried; ``todo`` says what to do if it is not ok."""

    name: str
    ok: bool
    reason: str
    todo: str | None = None


class Examination(models.Frozen):
    """All that was tried; ``ok`` only if every check is."""

    ok: bool
    checks: tuple[Check, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """Tries every part, the rules, Redis' settings, and each permission in each account and region."""

    status_check: status.StatusCheck
    workers: ports.Workers
    configurations: ports.Configurations
    kinds: rules.Kinds
    server: ports.Server
    secrets: ports.Secrets
    queues: ports.EventQueues
    pulse: ports.Pulse
    ec2: ports.Ec2
    cloudwatch: ports.CloudWatch
    now: ports.Clock
    machine: ports.MachineClock

    def examine(self, default_region: str | None) -> Examination:
        """Try everything; without a worker AWS is tried in ``default_region``, if there is one."""
        # First, because a queue that was just named is read for the first time meanwhile.
        of_queues = list(self.examine_event_queues(default_region))
        checks = [Check(name=part.name, ok=part.ok, reason=part.reason) for part in self.status_check.status().parts]
        checks += self.examine_server()
        members: dict[models.AccountRegion, list[str]] = {}
        records = list(self.workers.every())
        for record in records:
            members.setdefault(record.worker.scope, []).append(record.worker.id)
        checks += self.examine_rules(records)
        checks += self.examine_lateness(records)
        checks += self.examine_discovery(members, default_region)
        checks += of_queues
        if not members and default_region is not None:
            members[models.AccountRegion(region=default_region)] = []
        for scope, worker_ids in members.items():
            checks += self.examine_aws(scope, worker_ids)
        if not members:
            checks.append(Check(name="aws", ok=False, reason="no region is configured", todo="set AWS_REGION"))
        return Examination(ok=all(check.ok for check in checks), checks=tuple(checks))

    def examine_rules(self, records: Sequence[ports.Record]) -> Iterator[Check]:
        """Find rules that cannot fire, by how often their metrics really come, and labels that are no thresholds."""
        members = ((record.worker, record.condition) for record in records)
        for unfirable in rules.unfirable(self.configurations.load(), members, self.kinds):
            reason = errors.printable(unfirable.reason)
            yield Check(name=f"rule {unfirable.rule}", ok=False, reason=reason, todo=unfirable.obstacle.todo)
        workers = [record.worker for record in records if record.condition.status not in models.GONE]
        for doubt in rules.doubtful(self.configurations.load(), workers, self.kinds):
            reason = errors.printable(doubt.reason)
            yield Check(name=f"rule {doubt.rule}", ok=False, reason=reason, todo="correct the label of the worker")

    def examine_discovery(
        self, members: Collection[models.AccountRegion], default_region: str | None
    ) -> Iterator[Check]:
        """Try to search where ``[discover]`` does, but for where workers are: there everything is tried."""
        configuration = self.configurations.load()
        discover = configuration.discover
        if discover is None:
            return
        regions = discover.regions or ((default_region,) if default_region else ())
        scopes = [configuration.account_region(region, discover.account, self.secrets) for region in regions]
        scope_keys = {scope.key for scope in members}
        answers = {scope.key: self._search_error(scope, discover.tags) for scope in scopes}
        serving = [scope.region for scope in scopes if answers[scope.key] is None]
        for key, why in answers.items():
            if key in scope_keys:
                continue
            name = f"ec2:DescribeInstances of [discover] in {key}"
            if why is None:
                yield Check(name=name, ok=True, reason="answered")
                continue
            refusal = errors.region_not_enabled(why, serving[0]) if serving else why
            reason = errors.printable(f"{refusal.kind}: {refusal.why}")
            yield Check(name=name, ok=False, reason=reason, todo=refusal.todo)

    def examine_event_queues(self, default_region: str | None, patience: float = QUEUE_PATIENCE) -> Iterator[Check]:
        """Send an event of our own through EventBridge to each event queue; wait until the listener has read it."""
        configuration = self.configurations.load()
        for name, queue in configuration.event_queues.items():
            label, region = f"event queue {name}", queue.region or default_region
            if region is None:
                yield Check(name=label, ok=False, reason="its address names no region", todo="set AWS_REGION")
                continue
            try:
                scope = configuration.account_region(region, queue.account, self.secrets)
                yield self._try_event_queue(scope, name, queue.queue_url, patience)
            except errors.WorkermonError as given:
                why = errors.of_aws(given)
                yield Check(name=label, ok=False, reason=errors.printable(f"{why.kind}: {why.why}"), todo=why.todo)

    def _try_event_queue(self, scope: models.AccountRegion, name: str, queue_url: str, patience: float) -> Check:
        """Send an event through EventBridge; if that is refused or does not come, put one into the queue itself."""
        label, sent, refusal = f"event queue {name}", self.now(), None
        try:
            self.queues.publish(scope, models.OWN_SOURCE, models.OWN_TYPE, {"sent": sent})
        except errors.AwsError as why:
            refusal = why
        else:
            seconds = self._read_after(name, sent, patience)
            if seconds is not None:
                return Check(name=label, ok=True, reason=f"read after {seconds:.1f} s, through EventBridge")
        sent = self.now()
        self.queues.send(scope, queue_url, models.own_event(sent))
        seconds = self._read_after(name, sent, patience)
        if seconds is None:
            reason = f"our own event was sent, and the listener did not read it within {patience:g} s"
            return Check(name=label, ok=False, reason=reason, todo="see 'workermon status', and its log")
        if refusal is None:
            reason = f"EventBridge did not bring our event within {patience:g} s; one put into the queue was read"
            todo = "deploy the template of 'workermon events setup' again: it has a rule for this event"
            return Check(name=label, ok=False, reason=reason, todo=todo)
        not_tried = errors.printable(f"EventBridge was not tried: {refusal.kind}: {refusal.why}; {refusal.todo}")
        return Check(name=label, ok=True, reason=f"read after {seconds:.1f} s; {not_tried}")

    def _read_after(self, name: str, sent: float, patience: float) -> float | None:
        """Wait until the listener has read the event of that time; return the seconds, ``None`` if it has not."""
        started = time.monotonic()
        while True:
            waited = time.monotonic() - started
            if self.pulse.marks().get(f"events:{name}:test", 0.0) >= sent:
                return waited
            if waited >= patience:
                return None
            time.sleep(0.1)

    def _search_error(self, scope: models.AccountRegion, tags: Mapping[str, str]) -> errors.AwsError | None:
        try:
            self.ec2.find(scope, tags)
        except errors.AwsError as why:
            return why
        return None

    def examine_lateness(self, records: Sequence[ports.Record]) -> Iterator[Check]:
        """Find metrics whose datapoints always come later than ``lateness``: rules cannot rely on them."""
        late: dict[str, dict[str, int]] = {}
        for record in records:
            for metric, (many, seconds) in record.condition.late.items():
                if many == models.MANY_LATE:
                    late.setdefault(metric, {})[record.worker.name] = seconds
        lateness = self.configurations.load().lateness
        for metric, seconds_of in late.items():
            first, others = min(seconds_of), len(seconds_of) - 1
            also = f" and {others} other{'' if others == 1 else 's'}" if others else ""
            reason = (
                f"for {errors.printable(first)}{also} datapoints come {seconds_of[first]} s after their period,"
                f" later than lateness, {lateness} s"
            )
            todo = "raise lateness in [collect], or rules see them when it is too late"
            yield Check(name=f"lateness of {metric}", ok=False, reason=reason, todo=todo)

    def examine_server(self) -> list[Check]:
        """Look at the settings of Redis and at its clock."""
        app_settings = self.server.settings()
        before = self.machine()
        theirs = self.server.time()
        ahead = theirs - (before + self.machine()) / 2
        return [_eviction(app_settings), _persistence(app_settings), _clock("clock", "Redis", ahead, SKEW, 0.05)]

    def examine_aws(self, scope: models.AccountRegion, worker_ids: Sequence[str]) -> Iterator[Check]:
        """Try each permission in an account and region, on a worker if there is one, and compare AWS' clock."""
        named = list(worker_ids[:NAMED])
        until = self.now()
        entry = catalogue.CATALOGUE["cpu_utilization"]
        instance = named[0] if named else "i-00000000000000000"
        query = models.Query(
            worker_id=instance,
            metric=entry.name,
            namespace=entry.namespace,
            metric_name=entry.metric_name,
            dimensions=(("InstanceId", instance),),
            statistic=entry.statistic,
            period=300,
            since=int(until) - 900,
        )

        def describe() -> object:
            if named:
                return self.ec2.describe(scope, named)
            return self.ec2.find(scope, {"workermon:doctor": "none"})

        def fetch() -> None:
            for why in self.cloudwatch.fetch(scope, [query], until).failed.values():
                raise why

        yield _tried("ec2:DescribeInstances", scope, describe)
        yield _tried("ec2:DescribeInstanceStatus", scope, lambda: self.ec2.statuses(scope, [instance]))
        yield _tried(
            "cloudwatch:ListMetrics",
            scope,
            lambda: self.cloudwatch.dimensions(scope, entry.namespace, entry.metric_name, [instance]),
        )
        yield _tried("cloudwatch:GetMetricData", scope, fetch)
        yield self._clock_of_aws(scope)

    def _clock_of_aws(self, scope: models.AccountRegion) -> Check:
        name = f"clock of AWS in {scope.key}"
        before = self.machine()
        try:
            theirs = self.ec2.time(scope)
        except errors.AwsError as why:
            return Check(name=name, ok=False, reason=errors.printable(f"{why.kind}: {why.why}"), todo=why.todo)
        if theirs is None:
            return Check(name=name, ok=True, reason="AWS does not say")
        ahead = theirs + 0.5 - (before + self.machine()) / 2  # AWS says whole seconds
        return _clock(name, "AWS", ahead, AWS_SKEW, 1.0)


def _eviction(server_settings: Mapping[str, str]) -> Check:
    policy = server_settings.get("maxmemory_policy")
    ok = policy in (None, "noeviction")
    return Check(
        name="redis eviction",
        ok=ok,
        reason=f"maxmemory-policy is {policy}" if policy else "the server does not say",
        todo=None if ok else "set maxmemory-policy noeviction, or keys are lost",
    )


def _persistence(server_settings: Mapping[str, str]) -> Check:
    if "aof_enabled" not in server_settings:
        return Check(name="redis persistence", ok=True, reason="the server does not say")
    appends = server_settings.get("aof_enabled") == "1"
    # A server that never wrote a snapshot gives its own start as the last one; only the absence is certain.
    snapshots = (
        int(server_settings.get("rdb_last_save_time", "0") or 0) > 0
        and server_settings.get("rdb_last_bgsave_status") == "ok"
    )
    return Check(
        name="redis persistence",
        ok=appends or snapshots,
        reason="append-only file" if appends else "snapshots only" if snapshots else "nothing is written to disk",
        todo=None if appends else "set appendonly yes, or alerts are lost in a crash",
    )


def _clock(name: str, whose: str, ahead: float, limit: int, same: float) -> Check:
    """Compare a clock with ours: ``ahead`` in seconds, up to ``limit`` is well, up to ``same`` cannot be measured."""
    ok = abs(ahead) <= limit
    if abs(ahead) <= same:
        reason = "agrees"
    else:
        reason = f"{whose} is {abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'}"
        reason += "" if ok else f", more than {limit} s"
    return Check(name=name, ok=ok, reason=reason, todo=None if ok else "synchronise the clocks (chrony, ntpd)")


def _tried(permission: str, scope: models.AccountRegion, call: Callable[[], object]) -> Check:
    name = f"{permission} in {scope.key}"
    started = time.monotonic()
    try:
        call()
    except errors.AwsError as why:
        return Check(name=name, ok=False, reason=errors.printable(f"{why.kind}: {why.why}"), todo=why.todo)
    return Check(name=name, ok=True, reason=f"answered in {(time.monotonic() - started) * 1000:.0f} ms")
