"""The whole monitor in memory: every port, every stage built from them, and a clock that a test moves."""

from __future__ import annotations

import dataclasses
import functools
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast, get_type_hints

from workermon import collect, config, evaluate, fleet, models, notify, ports, rules
from workermon.notify import channel_type, channels
from workermon.testing.access import MemoryAccess, MemoryAudit
from workermon.testing.alerts import (
    EvaluationSources,
    MemoryAccounts,
    MemoryAlerts,
    MemoryEvaluationInputs,
    MemorySilences,
)
from workermon.testing.aws import (
    MemoryCloudWatch,
    MemoryCosts,
    MemoryEc2,
    MemoryEventQueues,
    MemoryLearnedDelays,
    MemoryLimiter,
)
from workermon.testing.clock import ManualClock
from workermon.testing.cohorts import MemoryCohorts
from workermon.testing.control import (
    MemoryCanary,
    MemoryConfigurations,
    MemoryDispatcher,
    MemoryLeases,
    MemoryLiveness,
    MemoryNodes,
    MemorySchema,
    MemoryServer,
    MemorySetup,
    MemorySweepBacklog,
    MemoryUnreadable,
)
from workermon.testing.delivery import (
    MemoryChannelFailures,
    MemoryFiringLabels,
    MemoryNotifier,
    MemoryOutbox,
    MemoryPublisher,
    MemorySecrets,
    MemoryThrottle,
)
from workermon.testing.fleet import MemorySchedule, MemoryStatusListings, MemoryWorkers
from workermon.testing.memory import MemoryStore
from workermon.testing.requests import MemoryIdempotencyKeys
from workermon.testing.samples import MemoryFeed, MemoryRollUps, MemorySamples
from workermon.testing.saved_states import MemorySavedStates

T = TypeVar("T")

#: The attribute of a ``Monitor`` for each port, by the type of a stage's field.
PORTS: Mapping[Any, str] = {
    ports.Access: "access",
    ports.Accounts: "accounts",
    ports.Alerts: "alerts",
    ports.Audit: "audit",
    ports.Canary: "canary",
    ports.Clock: "clock",
    ports.CloudWatch: "cloudwatch",
    ports.Cohorts: "cohorts",
    ports.Configurations: "configurations",
    ports.Costs: "costs",
    ports.CpuClock: "cpu_clock",
    ports.Dispatcher: "dispatcher",
    ports.Ec2: "ec2",
    ports.EvaluationInputs: "evaluation_inputs",
    ports.EventQueues: "event_queues",
    ports.Feed: "feed",
    ports.IdempotencyKeys: "idempotency_keys",
    ports.LearnedDelays: "learned_delays",
    ports.Leases: "leases",
    ports.Limiter: "limiter",
    ports.MachineClock: "clock",
    ports.SteadyClock: "steady_clock",
    ports.Nodes: "nodes",
    ports.Outbox: "outbox",
    ports.Publisher: "publisher",
    ports.Liveness: "liveness",
    ports.RollUps: "rollups",
    ports.Samples: "samples",
    ports.SavedStates: "saved_states",
    ports.BeatStatus: "schedule",
    ports.Schedule: "schedule",
    ports.Schema: "schema",
    ports.Secrets: "secrets",
    ports.Server: "server",
    ports.Setup: "setup",
    ports.Silences: "silences",
    ports.StatusListings: "status_listings",
    ports.Throttle: "throttle",
    ports.Unreadable: "unreadable",
    ports.ChannelFailures: "failures",
    ports.FiringLabels: "firing_labels",
    ports.SweepBacklog: "sweep_backlog",
    ports.Workers: "workers",
    Mapping[str, channel_type.ChannelType]: "channel_types",
    Mapping[str, ports.Notifier]: "notifiers",
    Sequence[ports.Violations]: "violations",
    collect.Bulkhead: "bulkhead",
    collect.ListingPlan: "listing_plan",
    collect.Pacer: "pacer",
    collect.SeenEvents: "seen_events",
    config.Parser: "parser",
    fleet.Regions: "regions",
    rules.Kinds: "kinds",
}


class Monitor:
    """Every port in memory, and each stage built from them.

    Nothing leaves the process: what any channel would send is in ``received``. Each port is an attribute. You may
    replace it at any time; a stage that you get afterwards uses the new one::

        monitor = testing.Monitor()
        monitor.add_worker("i-0abc1234", interval=60)
        monitor.cloudwatch.put("i-0abc1234", "CPUUtilization", [(int(monitor.clock()), 97.0)])
        monitor.clock.advance(300)
        monitor.collect()
        monitor.evaluate()
        monitor.deliver()

    ``now`` is the initial time, in seconds since 1970; ``configuration`` is the one in force.
    """

    def __init__(self, configuration: models.Configuration = config.DEFAULT, now: float = 1_700_000_000.0) -> None:
        self.clock = ManualClock(now)
        self.store = MemoryStore(self.clock)
        self.ec2 = MemoryEc2()
        self.cloudwatch = MemoryCloudWatch()
        self.limiter = MemoryLimiter()
        self.costs: ports.Costs = MemoryCosts()
        self.learned_delays: ports.LearnedDelays = MemoryLearnedDelays(self.store)
        self.cohorts = MemoryCohorts()
        self.steady_clock: ports.SteadyClock = time.monotonic
        self.cpu_clock: ports.CpuClock = lambda: 0.0
        self.pacer = collect.Pacer(cohorts=self.cohorts, cpu=self.cpu_clock, node="memory")
        self.event_queues = MemoryEventQueues()
        self.bulkhead = collect.Bulkhead()
        self.seen_events = collect.SeenEvents()
        self.workers: ports.Workers = MemoryWorkers(self.store)
        self.samples: ports.Samples = MemorySamples(
            self.store,
            lambda: self.configurations.load().retention,
            lambda: self.configurations.load().rollups,
        )
        self.rollups: ports.RollUps = MemoryRollUps(self.store, lambda: self.configurations.load().rollups)
        self.alerts: ports.Alerts = MemoryAlerts(self.store, lambda: self.configurations.load().alert_history)
        self.accounts: ports.Accounts = MemoryAccounts(self.store)
        self.access: ports.Access = MemoryAccess()
        self.audit: ports.Audit = MemoryAudit()
        silences = MemorySilences()
        self.silences: ports.Silences = silences
        self.saved_states: ports.SavedStates = MemorySavedStates(self.store, silences)
        self.outbox: ports.Outbox = MemoryOutbox(self.store)
        self.throttle: ports.Throttle = MemoryThrottle()
        self.failures: ports.ChannelFailures = MemoryChannelFailures()
        self.firing_labels: ports.FiringLabels = MemoryFiringLabels()
        self.configurations: ports.Configurations = MemoryConfigurations(self.store, configuration)
        self.setup: ports.Setup = MemorySetup(self.store)
        self.liveness: ports.Liveness = MemoryLiveness(self.store)
        self.canary: ports.Canary = MemoryCanary(self.store)
        self.idempotency_keys: ports.IdempotencyKeys = MemoryIdempotencyKeys(self.store)
        self.leases: ports.Leases = MemoryLeases(self.store)
        self.sweep_backlog: ports.SweepBacklog = MemorySweepBacklog(
            self.store, leases=self.leases, liveness=self.liveness, silences=silences, failures=self.failures
        )
        self.schema: ports.Schema = MemorySchema()
        self.feed: ports.Feed = MemoryFeed(self.store)
        self.schedule = MemorySchedule()
        self.dispatcher = MemoryDispatcher()
        self.status_listings: ports.StatusListings = MemoryStatusListings(self.store)
        self.listing_plan = collect.ListingPlan(
            cohorts=self.cohorts,
            listings=self.status_listings,
            leases=self.leases,
            dispatcher=self.dispatcher,
            now=self.clock,
            node="memory",
        )
        self.nodes = MemoryNodes()
        self.server = MemoryServer(self.clock)
        self.regions = fleet.Regions(default="us-east-1", known_regions=frozenset({"us-east-1"}))
        self.unreadable: ports.Unreadable = MemoryUnreadable()
        self.evaluation_inputs: ports.EvaluationInputs = MemoryEvaluationInputs(
            lambda: EvaluationSources(self.alerts, self.silences, self.unreadable, self.liveness)
        )
        self.secrets: ports.Secrets = MemorySecrets()
        self.publisher = MemoryPublisher()
        #: Messages sent to channels, oldest first.
        self.received: list[models.Notification] = []
        self.channel_types: Mapping[str, channel_type.ChannelType] = channels.CHANNEL_TYPES
        self.notifiers: Mapping[str, ports.Notifier] = dict.fromkeys(self.channel_types, MemoryNotifier(self.received))
        self.kinds: rules.Kinds = rules.KINDS
        self.violations: Sequence[ports.Violations] = []

    @property
    def parser(self) -> config.Parser:
        """Return the parser of config files, with the existing types of channel and kinds of rule."""
        return config.Parser(channel_types=self.channel_types, kinds=self.kinds)

    def get(self, kind: type[T]) -> T:
        """Return a stage or a view, built from the ports of its fields' types, as the composition root does."""
        return cast("T", self._provide(kind))

    def overrides(self) -> dict[Any, Any]:
        """Return the ports by type, for ``runtime.open``. Code that uses such a container runs in memory."""
        return {kind: self._provide(kind) for kind in PORTS}

    def add_worker(self, worker_id: str, status: models.Status = "running", **fields: Any) -> models.Worker:
        """Put an instance of that status into EC2, and monitor it from now on; return the worker.

        ``fields`` are those of ``models.Worker``. If they do not say otherwise, it is named by its id and is in the
        default region.
        """
        defaults = {
            "name": worker_id,
            "region": self.regions.default,
            "added_at": self.clock(),
            "incarnation": f"first of {worker_id}",
        }
        worker = models.Worker.model_validate({**defaults, **fields, "id": worker_id})
        instance = models.Instance(
            id=worker_id, region=worker.region, status=status, name=worker.name, detailed=worker.detailed
        )
        self.ec2.put(instance, account=worker.account)
        self.workers.add([worker])
        if worker.monitoring == "active":
            self.schedule.put([worker], self.clock())
        return worker

    def record(self, notification: models.Notification, *channels: str) -> None:
        """Record a notification about a worker and enqueue it for these channels, as an evaluation does."""
        worker_id, _, rule = notification.dedup_key.partition("/")
        severity, at = notification.severity, int(models.moment(notification.at))
        basis = self.alerts.load([worker_id])[worker_id]
        alert = basis.alerts.get(rule, models.Alert(rule=rule)).model_copy(
            update={"version": notification.version, "last": notification}
        )
        if notification.status == "firing":
            transition = models.Transition(at=at, before=None, after=severity)
            since = int(models.moment(notification.since))
            changes: dict[str, object] = {"since": since, "notified_severity": severity, "channels": channels}
        else:
            transition = models.Transition(at=at, before=severity, after=None)
            changes = {"since": None, "notified_severity": None, "channels": ()}
        alerts = {**basis.alerts, rule: alert.model_copy(update=changes)}
        recorded = ports.RecordedTransition(rule, transition, notification)
        verdict = ports.Verdict(basis, alerts, (recorded,), {rule: channels}, self.clock())
        assert self.alerts.commit(verdict), f"{notification.dedup_key}: its basis changed meanwhile"

    def beat_for(self, seconds: float) -> None:
        """Advance the clock, while listener and collection beat each ten seconds as they do if nothing is wrong."""
        end = self.clock() + seconds
        while self.clock() < end:
            self.clock.now = min(self.clock() + 10, end)
            self.liveness.beat("listener", self.clock())
            self.liveness.beat("collect", self.clock())

    def collect(self, *worker_ids: str, force: bool = False) -> collect.Report:
        """Collect these workers, or all that are scheduled."""
        return self.get(collect.Collection).collect(worker_ids or sorted(self.schedule.ids()), force=force)

    def evaluate(self, *worker_ids: str) -> list[str]:
        """Evaluate these workers, or all that are pending. Return the alerts with notifications to deliver."""
        pending = worker_ids or self.samples.pending(self.clock(), 1000)
        return self.get(evaluate.Evaluation).evaluate(pending)

    def deliver(self, *alert_ids: str) -> None:
        """Deliver the notifications of these alerts, or everything that is due."""
        self.get(notify.Delivery).deliver(alert_ids or self.outbox.due(self.clock(), 1000))

    def configure(self, **changes: object) -> None:
        """Put a configuration in force with these changes."""
        before = self.configurations.load()
        changed = before.model_copy(update={"revision": before.revision + 1, **changes})
        assert self.configurations.save(changed), "somebody else changed the configuration meanwhile"

    def _provide(self, kind: Any) -> Any:
        return _recipe(kind)(self)


@functools.cache
def _recipe(kind: Any) -> Callable[[Monitor], Any]:
    """Return a function that gives a monitor's port of that type, or the stage or view made of its ports."""
    if kind in PORTS:
        return operator.attrgetter(PORTS[kind])
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise LookupError(f"{kind} is neither a port nor made of ports")
    hints = get_type_hints(kind)
    parts = [(field.name, _recipe(hints[field.name])) for field in dataclasses.fields(kind) if field.init]
    return lambda monitor: kind(**{name: recipe(monitor) for name, recipe in parts})
