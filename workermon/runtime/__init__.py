"""The composition root: how each port is made, how long it lives, and how it is closed.

A container is cheap, and makes a thing when it is first asked for: one set of clients in each process, shared by its
threads. ``close()`` closes what was made. A forked child opens a container of its own (pipeline/tasks.py).
"""

from __future__ import annotations

import functools
import os
import platform
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, NamedTuple

import dishka

from workermon import collect, config, failpoints, logs, ports, rules, settings
from workermon.costs import limit_of
from workermon.notify import channel_type, channels, http
from workermon.on_aws import cloudwatch, ec2, limited, queue, regions, session, sns
from workermon.on_celery import dispatcher, nodes, schedule
from workermon.on_celery.app import app
from workermon.on_redis import (
    access,
    accounts,
    alerts,
    audit,
    canary,
    channel,
    channel_failures,
    client,
    clock,
    cohorts,
    configurations,
    costs,
    firing_labels,
    idempotency_keys,
    learned_delays,
    leases,
    limiter,
    outbox,
    pulse,
    rollups,
    samples,
    saved_states,
    schema,
    server,
    setup,
    silences,
    throttle,
    unreadable,
    waiting,
    workers,
)
from workermon.runtime.stages import Stages as Stages

log = logs.get(__name__)

# Once, and before any stage runs: tests alone name one.
failpoints.arm(settings.failpoint())

#: Entry points of this group name the ``ports.Violations`` of our users.
VIOLATIONS = "workermon.violations"


class Redis(NamedTuple):
    """The client of state and schedule, shared by the repository's ports."""

    client: Any


class Recipes(dishka.Provider):
    """How each port is made; all live as long as the container."""

    scope = dishka.Scope.APP

    @dishka.provide
    def make_settings(self) -> settings.Settings:
        """Read the environment; an opener may bring its own instead."""
        return settings.load()

    @dishka.provide
    def make_clock(self, container: dishka.Container) -> ports.Clock:
        """Go by this machine's clock while that is near Redis', else by Redis'; without Redis by the first."""

        def server_time() -> float:
            redis_server: ports.Server = container.get(ports.Server)
            return redis_server.time()

        return clock.RedisClock(server_time)

    @dishka.provide
    def make_machine_clock(self) -> ports.MachineClock:
        """Return this machine's clock, right or wrong."""
        return time.time

    @dishka.provide
    def make_cpu_clock(self) -> ports.CpuClock:
        """Measure the thread that asks."""
        return time.thread_time

    @dishka.provide
    def make_pacer(self, stored_cohorts: ports.Cohorts, cpu: ports.CpuClock) -> collect.Pacer:
        """Measure this process."""
        return collect.Pacer(cohorts=stored_cohorts, cpu=cpu, node=f"{platform.node()}-{os.getpid()}")

    @dishka.provide
    def make_bulkhead(self) -> collect.Bulkhead:
        """Share out the threads of this process; a node sets how many there are when it starts (pipeline/tasks.py)."""
        return collect.Bulkhead()

    @dishka.provide
    def make_secrets(self, app_settings: settings.Settings) -> ports.Secrets:
        """Look secrets up in the environment and in files."""
        return app_settings.secret

    # --- AWS -----------------------------------------------------------------------------------------------------

    @dishka.provide
    def make_sessions(self, limit: ports.Limiter, spent: ports.Costs, now: ports.Clock) -> Iterator[session.Sessions]:
        """Keep the clients of each account and region, limited and counted together with those of all processes."""
        sessions = session.Sessions(limited.Limited(limit, spent, now))
        yield sessions
        sessions.close()

    @dishka.provide
    def make_ec2(self, sessions: session.Sessions) -> ports.Ec2:
        """Reach EC2."""
        return ec2.AwsEc2(sessions)

    @dishka.provide
    def make_cloudwatch(self, sessions: session.Sessions) -> ports.CloudWatch:
        """Reach CloudWatch."""
        return cloudwatch.AwsCloudWatch(sessions)

    @dishka.provide
    def make_event_queues(self, sessions: session.Sessions) -> ports.EventQueues:
        """Reach SQS."""
        return queue.AwsEventQueues(sessions)

    @dishka.provide
    def make_seen_events(self) -> collect.SeenEvents:
        """Remember what this process has handled."""
        return collect.SeenEvents()

    # --- Redis ---------------------------------------------------------------------------------------------------

    @dishka.provide
    def make_redis(self, app_settings: settings.Settings) -> Iterator[Redis]:
        """Keep one pool of connections."""
        connected = client.connect(app_settings.state_url)
        yield Redis(connected)
        connected.close()

    @dishka.provide
    def make_workers(self, redis: Redis) -> ports.Workers:
        """Keep the fleet."""
        return workers.RedisWorkers(redis.client)

    @dishka.provide
    def make_configurations(self, redis: Redis) -> ports.Configurations:
        """Keep the configuration in force."""
        return configurations.RedisConfigurations(redis.client, config.DEFAULT)

    @dishka.provide
    def make_setup(
        self, redis: Redis, app_settings: settings.Settings, stored_configurations: ports.Configurations
    ) -> ports.Setup:
        """Change the whole set-up at once."""
        return setup.RedisSetup(redis.client, app_settings.channel, lambda: stored_configurations.load().alert_history)

    @dishka.provide
    def make_samples(
        self, redis: Redis, app_settings: settings.Settings, stored_configurations: ports.Configurations
    ) -> ports.Samples:
        """Keep the ledger as long as the configuration in force says."""
        return samples.RedisSamples(
            redis.client,
            app_settings.channel,
            lambda: stored_configurations.loaded().retention,
            lambda: stored_configurations.loaded().rollups,
        )

    @dishka.provide
    def make_rollups(self, redis: Redis, stored_configurations: ports.Configurations) -> ports.RollUps:
        """Keep hourly roll-ups as long as the configuration in force says."""
        return rollups.RedisRollUps(redis.client, lambda: stored_configurations.loaded().rollups)

    @dishka.provide
    def make_limiter(self, redis: Redis, stored_configurations: ports.Configurations) -> ports.Limiter:
        """Limit what is asked of AWS as the configuration in force says."""
        return limiter.RedisLimiter(redis.client, lambda api: limit_of(api, stored_configurations.loaded()))

    @dishka.provide
    def make_costs(self, redis: Redis) -> ports.Costs:
        """Count what is asked of AWS."""
        return costs.RedisCosts(redis.client)

    @dishka.provide
    def make_accounts(self, redis: Redis) -> ports.Accounts:
        """Keep how collection goes in each account and region."""
        return accounts.RedisAccounts(redis.client)

    @dishka.provide
    def make_learned_delays(self, redis: Redis) -> ports.LearnedDelays:
        """Keep what is learnt of each account and region."""
        return learned_delays.RedisLearnedDelays(redis.client)

    @dishka.provide
    def make_cohorts(self, redis: Redis) -> ports.Cohorts:
        """Keep when cohorts are due, and what decides it."""
        return cohorts.RedisCohorts(redis.client)

    @dishka.provide
    def make_alerts(
        self, redis: Redis, app_settings: settings.Settings, stored_configurations: ports.Configurations
    ) -> ports.Alerts:
        """Keep the alerts, and their history as long as the configuration in force says."""
        return alerts.RedisAlerts(
            redis.client, app_settings.channel, lambda: stored_configurations.load().alert_history
        )

    @dishka.provide
    def make_outbox(self, redis: Redis, stored_configurations: ports.Configurations) -> ports.Outbox:
        """Keep what is to be delivered."""
        return outbox.RedisOutbox(redis.client, platform.node(), lambda: stored_configurations.load().alert_history)

    @dishka.provide
    def make_channel_failures(self, redis: Redis) -> ports.ChannelFailures:
        """Keep which channels accept nothing."""
        return channel_failures.RedisChannelFailures(redis.client)

    @dishka.provide
    def make_firing_labels(self, redis: Redis) -> ports.FiringLabels:
        """Keep under which labels alerts fire."""
        return firing_labels.RedisFiringLabels(redis.client)

    @dishka.provide
    def make_throttle(self, redis: Redis) -> ports.Throttle:
        """Limit what goes out to each channel."""
        return throttle.RedisThrottle(redis.client)

    @dishka.provide
    def make_server(self, redis: Redis) -> ports.Server:
        """Ask the server of itself."""
        return server.RedisServer(redis.client)

    @dishka.provide
    def make_unreadable(self, redis: Redis) -> ports.Unreadable:
        """Name the records that cannot be read."""
        return unreadable.RedisUnreadable(redis.client)

    @dishka.provide
    def make_saved_states(self, redis: Redis) -> ports.SavedStates:
        """Read and replace the whole state."""
        return saved_states.RedisSavedStates(redis.client)

    @dishka.provide
    def make_schema(self, redis: Redis) -> ports.Schema:
        """Keep what is stored at this version."""
        return schema.RedisSchema(redis.client)

    @dishka.provide
    def make_silences(self, redis: Redis) -> ports.Silences:
        """Keep what is not to be told."""
        return silences.RedisSilences(redis.client)

    @dishka.provide
    def make_access(self, redis: Redis) -> ports.Access:
        """Keep who may use page and API."""
        return access.RedisAccess(redis.client)

    @dishka.provide
    def make_audit(self, redis: Redis) -> ports.Audit:
        """Keep the trail of writes."""
        return audit.RedisAudit(redis.client)

    @dishka.provide
    def make_pulse(self, redis: Redis) -> ports.Pulse:
        """Keep signs of life."""
        return pulse.RedisPulse(redis.client)

    @dishka.provide
    def make_canary(self, redis: Redis, app_settings: settings.Settings) -> ports.Canary:
        """Keep the trace of canaries."""
        return canary.RedisCanary(redis.client, app_settings.channel)

    @dishka.provide
    def make_idempotency_keys(self, redis: Redis) -> ports.IdempotencyKeys:
        """Keep what was answered to requests that may be repeated."""
        return idempotency_keys.RedisIdempotencyKeys(redis.client)

    @dishka.provide
    def make_leases(self, redis: Redis) -> ports.Leases:
        """Keep who leads."""
        return leases.RedisLeases(redis.client)

    @dishka.provide
    def make_waiting_work(self, redis: Redis) -> ports.WaitingWork:
        """Count what a sweep looks for."""
        return waiting.RedisWaitingWork(redis.client)

    @dishka.provide
    def make_feed(self, redis: Redis, app_settings: settings.Settings) -> ports.Feed:
        """Subscribe to the channel."""
        return channel.RedisFeed(redis.client, app_settings.channel)

    # --- Celery --------------------------------------------------------------------------------------------------

    @dishka.provide
    def make_schedule(self) -> ports.Schedule:
        """Keep the RedBeat entries."""
        return schedule.RedBeatSchedule(app)

    @dishka.provide
    def make_dispatcher(self) -> ports.Dispatcher:
        """Wake the next stage by Celery messages."""
        return dispatcher.CeleryDispatcher(app)

    @dishka.provide
    def make_nodes(self) -> ports.Nodes:
        """Ask Celery's nodes."""
        return nodes.CeleryNodes(app)

    # --- delivery ------------------------------------------------------------------------------------------------

    @dishka.provide
    def make_publisher(self) -> ports.Publisher:
        """Reach SNS."""
        return sns.AwsPublisher()

    @dishka.provide
    def make_channel_types(self) -> Mapping[str, channel_type.ChannelType]:
        """Return the types of channel, our users' own among them."""
        return channels.installed()

    @dishka.provide
    def make_kinds(self) -> rules.Kinds:
        """Return the kinds of rules."""
        return rules.KINDS

    @dishka.provide
    def make_parser(self, types: Mapping[str, channel_type.ChannelType], kinds: rules.Kinds) -> config.Parser:
        """Read config files that name these types and kinds."""
        return config.Parser(channel_types=types, kinds=kinds)

    make_dependencies = dishka.provide(channel_type.Dependencies)

    @dishka.provide
    def make_ping(self, now: ports.Clock) -> ports.Ping:
        """Request through the guarded client of the channels."""
        return http.Ping(http.Client(now))

    @dishka.provide
    def make_notifiers(
        self, types: Mapping[str, channel_type.ChannelType], needs: channel_type.Dependencies
    ) -> Mapping[str, ports.Notifier]:
        """Make a notifier of each type of channel."""
        return channel_type.notifiers(types, needs)

    @dishka.provide
    def make_violations(self) -> Sequence[ports.Violations]:
        """Load our users' hooks."""
        return list(_loaded(VIOLATIONS).values())


def _loaded(group: str, *arguments: Any) -> dict[str, Any]:
    """Load the entry points of a group, by name; one that cannot be loaded is logged, and stops nothing."""
    loaded: dict[str, Any] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        try:
            hook = point.load()
            loaded[point.name] = hook(*arguments) if arguments or isinstance(hook, type) else hook
        except Exception as error:
            # It is our users' code, so anything may come out of it.
            log.error(f"{group.rpartition('.')[2]}.not_loaded", name=point.name, reason=repr(error))
    return loaded


def open(  # noqa: A001  (named where used: runtime.open)
    app_settings: settings.Settings | None = None, overrides: Mapping[Any, Any] | None = None
) -> dishka.Container:
    """Return a container in which every port can be resolved; ``container.close()`` closes what it made.

    ``overrides`` puts things of the caller's in the place of ours, by type: ``{ports.Ec2: testing.MemoryEc2()}``.
    Nothing connects here. Settings are read at first need, which may raise ``errors.InvalidInput``; Celery's side
    reads the environment whatever ``app_settings`` says.
    """
    overridden = {settings.Settings: app_settings, **(overrides or {})} if app_settings else dict(overrides or {})
    # The lock makes one of each even where threads ask at once.
    return _recipes(frozenset(overridden))(overridden, threading.Lock, dishka.Scope.APP)


@functools.cache
def _recipes(overridden: frozenset[Any]) -> dishka.Container:
    """Return what containers open from, compiled once (10 ms) for each set of types that their openers bring along.

    It makes nothing itself, and so needs no lock that a fork could copy.
    """
    brought = dishka.Provider(scope=dishka.Scope.APP)
    for kind in overridden:
        brought.from_context(kind)
    return dishka.make_container(Recipes(), Stages(), brought, lock_factory=None, start_scope=dishka.Scope.RUNTIME)


def default_region() -> str | None:
    """Return the region that boto3 is configured for."""
    return regions.default_region()


def known_regions() -> Collection[str]:
    """Return the regions that AWS has."""
    return regions.known_regions()
