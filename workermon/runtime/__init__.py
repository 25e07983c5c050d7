"""The composition root: how each port is made, how long it lives, and how it is closed.

A container is cheap, and makes each object at first use: one set of clients in each process, shared by its threads.
boto3 and Celery are imported by the recipes that need them, because commands that only read need neither.
``close()`` closes them. A forked child opens a container of its own (pipeline/container.py).
"""

from __future__ import annotations

import functools
import importlib
import os
import platform
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, NamedTuple

import dishka

from workermon import collect, config, failpoints, fleet, logs, ports, rules, settings
from workermon.costs import limit_of
from workermon.notify import channel_type, channels, http
from workermon.on_redis import (
    access,
    accounts,
    alerts,
    audit,
    beat_status,
    canary,
    channel,
    channel_failures,
    client,
    cohorts,
    configurations,
    costs,
    evaluation_inputs,
    firing_labels,
    idempotency_keys,
    learned_delays,
    leases,
    limiter,
    liveness,
    outbox,
    rollups,
    samples,
    saved_states,
    schema,
    server,
    setup,
    silences,
    status_listings,
    sweep_backlog,
    throttle,
    unreadable_records,
    workers,
)
from workermon.runtime.clocks import Clocks as Clocks
from workermon.runtime.stages import Stages as Stages

log = logs.get(__name__)

# Once, and before any stage runs. Only tests set one.
failpoints.arm(settings.failpoint())

#: Entry points of this group name users' ``ports.Violations``.
VIOLATIONS = "workermon.violations"


class Redis(NamedTuple):
    """The client of state and schedule, shared by the repository's ports."""

    client: Any


class Aws(NamedTuple):
    """The clients of AWS, shared by its ports (``on_aws.session.Sessions``)."""

    sessions: Any


class Recipes(dishka.Provider):
    """One recipe for each port; all live as long as the container."""

    scope = dishka.Scope.APP

    @dishka.provide
    def make_settings(self) -> settings.Settings:
        """The environment, unless an opener brings its own settings."""
        return settings.load()

    @dishka.provide
    def make_pacer(self, stored_cohorts: ports.Cohorts, cpu: ports.CpuClock) -> collect.Pacer:
        """The pace of this process."""
        return collect.Pacer(cohorts=stored_cohorts, cpu=cpu, node=_process_name())

    @dishka.provide
    def make_listing_plan(
        self,
        stored_cohorts: ports.Cohorts,
        listings: ports.StatusListings,
        held: ports.Leases,
        dispatcher: ports.Dispatcher,
        now: ports.Clock,
    ) -> collect.ListingPlan:
        """The listings of statuses that this process has planned."""
        return collect.ListingPlan(
            cohorts=stored_cohorts,
            listings=listings,
            leases=held,
            dispatcher=dispatcher,
            now=now,
            node=_process_name(),
        )

    @dishka.provide
    def make_single_run(self) -> fleet.SingleRun:
        """The reconciliation of this process, one at a time."""
        return fleet.SingleRun()

    @dishka.provide
    def make_bulkhead(self) -> collect.Bulkhead:
        """The threads of this process; a node sets their number when it starts (pipeline/container.py)."""
        return collect.Bulkhead()

    @dishka.provide
    def make_secrets(self, app_settings: settings.Settings) -> ports.Secrets:
        """Secrets from the environment and from files."""
        return app_settings.secret

    # --- AWS -----------------------------------------------------------------------------------------------------

    @dishka.provide
    def make_aws(
        self,
        limit: ports.Limiter,
        spent: ports.Costs,
        now: ports.Clock,
        machine: ports.MachineClock,
        steady: ports.SteadyClock,
    ) -> Iterator[Aws]:
        """The clients of each account and region, limited and counted together with those of all processes."""
        from workermon.on_aws import rate_limits, session

        sessions = session.Sessions(rate_limits.Limited(limit, spent, now), steady, machine)
        yield Aws(sessions)
        sessions.close()

    @dishka.provide
    def make_ec2(self, aws: Aws) -> ports.Ec2:
        """EC2."""
        from workermon.on_aws import ec2

        return ec2.AwsEc2(aws.sessions)

    @dishka.provide
    def make_cloudwatch(self, aws: Aws) -> ports.CloudWatch:
        """CloudWatch."""
        from workermon.on_aws import cloudwatch

        return cloudwatch.AwsCloudWatch(aws.sessions)

    @dishka.provide
    def make_event_queues(self, aws: Aws) -> ports.EventQueues:
        """SQS."""
        from workermon.on_aws import queue

        return queue.AwsEventQueues(aws.sessions)

    @dishka.provide
    def make_seen_events(self) -> collect.SeenEvents:
        """The events that this process has handled."""
        return collect.SeenEvents()

    # --- Redis ---------------------------------------------------------------------------------------------------

    @dishka.provide
    def make_redis(self, app_settings: settings.Settings) -> Iterator[Redis]:
        """One pool of connections."""
        connected = client.connect(app_settings.state_url)
        yield Redis(connected)
        connected.close()

    @dishka.provide
    def make_workers(self, redis: Redis) -> ports.Workers:
        """The fleet."""
        return workers.RedisWorkers(redis.client)

    @dishka.provide
    def make_configurations(self, redis: Redis) -> ports.Configurations:
        """The configuration in force."""
        return configurations.RedisConfigurations(redis.client, config.DEFAULT)

    @dishka.provide
    def make_setup(
        self, redis: Redis, app_settings: settings.Settings, stored_configurations: ports.Configurations
    ) -> ports.Setup:
        """The whole set-up, changed at once."""
        return setup.RedisSetup(redis.client, app_settings.channel, lambda: stored_configurations.load().alert_history)

    @dishka.provide
    def make_samples(
        self, redis: Redis, app_settings: settings.Settings, stored_configurations: ports.Configurations
    ) -> ports.Samples:
        """The ledger, kept as long as the configuration in force says."""
        return samples.RedisSamples(
            redis.client,
            app_settings.channel,
            lambda: stored_configurations.loaded().retention,
            lambda: stored_configurations.loaded().rollups,
        )

    @dishka.provide
    def make_rollups(self, redis: Redis, stored_configurations: ports.Configurations) -> ports.RollUps:
        """Hourly roll-ups, kept as long as the configuration in force says."""
        return rollups.RedisRollUps(redis.client, lambda: stored_configurations.loaded().rollups)

    @dishka.provide
    def make_limiter(self, redis: Redis, stored_configurations: ports.Configurations) -> ports.Limiter:
        """Limits of requests to AWS, from the configuration in force."""
        return limiter.RedisLimiter(redis.client, lambda api: limit_of(api, stored_configurations.loaded()))

    @dishka.provide
    def make_costs(self, redis: Redis) -> ports.Costs:
        """Counts of requests to AWS."""
        return costs.RedisCosts(redis.client)

    @dishka.provide
    def make_accounts(self, redis: Redis) -> ports.Accounts:
        """The state of collection in each account and region."""
        return accounts.RedisAccounts(redis.client)

    @dishka.provide
    def make_learned_delays(self, redis: Redis) -> ports.LearnedDelays:
        """The learned values of each account and region."""
        return learned_delays.RedisLearnedDelays(redis.client)

    @dishka.provide
    def make_status_listings(self, redis: Redis) -> ports.StatusListings:
        """Listed statuses."""
        return status_listings.RedisStatusListings(redis.client)

    @dishka.provide
    def make_cohorts(self, redis: Redis) -> ports.Cohorts:
        """When cohorts are due, and what decides it."""
        return cohorts.RedisCohorts(redis.client)

    @dishka.provide
    def make_alerts(
        self, redis: Redis, app_settings: settings.Settings, stored_configurations: ports.Configurations
    ) -> ports.Alerts:
        """The alerts, and their history as long as the configuration in force says."""
        return alerts.RedisAlerts(
            redis.client, app_settings.channel, lambda: stored_configurations.loaded().alert_history
        )

    @dishka.provide
    def make_evaluation_inputs(self, redis: Redis) -> ports.EvaluationInputs:
        """What an evaluation reads first."""
        return evaluation_inputs.RedisEvaluationInputs(redis.client)

    @dishka.provide
    def make_outbox(self, redis: Redis, stored_configurations: ports.Configurations) -> ports.Outbox:
        """The notifications to deliver."""
        return outbox.RedisOutbox(redis.client, platform.node(), lambda: stored_configurations.load().alert_history)

    @dishka.provide
    def make_channel_failures(self, redis: Redis) -> ports.ChannelFailures:
        """Which channels accept nothing."""
        return channel_failures.RedisChannelFailures(redis.client)

    @dishka.provide
    def make_firing_labels(self, redis: Redis) -> ports.FiringLabels:
        """The labels under which alerts fire."""
        return firing_labels.RedisFiringLabels(redis.client)

    @dishka.provide
    def make_throttle(self, redis: Redis) -> ports.Throttle:
        """Limits of messages to each channel."""
        return throttle.RedisThrottle(redis.client)

    @dishka.provide
    def make_server(self, redis: Redis) -> ports.Server:
        """What the server reports about itself."""
        return server.RedisServer(redis.client)

    @dishka.provide
    def make_unreadable(self, redis: Redis) -> ports.Unreadable:
        """The records that cannot be read."""
        return unreadable_records.RedisUnreadable(redis.client)

    @dishka.provide
    def make_saved_states(self, redis: Redis) -> ports.SavedStates:
        """The whole state, for backups."""
        return saved_states.RedisSavedStates(redis.client)

    @dishka.provide
    def make_schema(self, redis: Redis) -> ports.Schema:
        """The version of the stored data."""
        return schema.RedisSchema(redis.client)

    @dishka.provide
    def make_silences(self, redis: Redis) -> ports.Silences:
        """Silences and acknowledgements."""
        return silences.RedisSilences(redis.client)

    @dishka.provide
    def make_access(self, redis: Redis) -> ports.Access:
        """Access to page and API."""
        return access.RedisAccess(redis.client)

    @dishka.provide
    def make_audit(self, redis: Redis) -> ports.Audit:
        """The audit trail."""
        return audit.RedisAudit(redis.client)

    @dishka.provide
    def make_liveness(self, redis: Redis) -> ports.Liveness:
        """Signs of life."""
        return liveness.RedisLiveness(redis.client)

    @dishka.provide
    def make_beat_status(self, redis: Redis) -> ports.BeatStatus:
        """Beat's signs of life."""
        return beat_status.RedisBeatStatus(redis.client)

    @dishka.provide
    def make_canary(self, redis: Redis, app_settings: settings.Settings) -> ports.Canary:
        """The progress of canaries."""
        return canary.RedisCanary(redis.client, app_settings.channel)

    @dishka.provide
    def make_idempotency_keys(self, redis: Redis) -> ports.IdempotencyKeys:
        """Answers to requests that may be repeated."""
        return idempotency_keys.RedisIdempotencyKeys(redis.client)

    @dishka.provide
    def make_leases(self, redis: Redis) -> ports.Leases:
        """Leases."""
        return leases.RedisLeases(redis.client)

    @dishka.provide
    def make_sweep_backlog(self, redis: Redis) -> ports.SweepBacklog:
        """The work for a sweep."""
        return sweep_backlog.RedisSweepBacklog(redis.client)

    @dishka.provide
    def make_feed(self, redis: Redis, app_settings: settings.Settings) -> ports.Feed:
        """Subscriptions to the channel."""
        return channel.RedisFeed(redis.client, app_settings.channel)

    # --- Celery --------------------------------------------------------------------------------------------------

    @dishka.provide
    def make_schedule(self) -> ports.Schedule:
        """The RedBeat entries."""
        from workermon.on_celery import schedule
        from workermon.on_celery.app import app

        return schedule.RedBeatSchedule(app)

    @dishka.provide
    def make_dispatcher(self) -> ports.Dispatcher:
        """Celery messages that wake the next stage."""
        from workermon.on_celery import dispatcher
        from workermon.on_celery.app import app

        return dispatcher.CeleryDispatcher(app)

    @dishka.provide
    def make_nodes(self) -> ports.Nodes:
        """Celery's nodes."""
        from workermon.on_celery import nodes
        from workermon.on_celery.app import app

        return nodes.CeleryNodes(app)

    # --- delivery ------------------------------------------------------------------------------------------------

    @dishka.provide
    def make_publisher(self) -> ports.Publisher:
        """SNS."""
        from workermon.on_aws import sns

        return sns.AwsPublisher()

    @dishka.provide
    def make_channel_types(self) -> Mapping[str, channel_type.ChannelType]:
        """The types of channel, users' own among them."""
        return channels.installed()

    @dishka.provide
    def make_kinds(self) -> rules.Kinds:
        """The kinds of rules."""
        return rules.KINDS

    @dishka.provide
    def make_parser(self, types: Mapping[str, channel_type.ChannelType], kinds: rules.Kinds) -> config.Parser:
        """The parser of config files with these types and kinds."""
        return config.Parser(channel_types=types, kinds=kinds)

    make_dependencies = dishka.provide(channel_type.Dependencies)

    @dishka.provide
    def make_ping(self, now: ports.Clock) -> ports.Ping:
        """Requests through the channels' guarded client."""
        return http.Ping(http.Client(now))

    @dishka.provide
    def make_notifiers(
        self, types: Mapping[str, channel_type.ChannelType], needs: channel_type.Dependencies
    ) -> Mapping[str, ports.Notifier]:
        """A notifier for each type of channel."""
        return channel_type.notifiers(types, needs)

    @dishka.provide
    def make_violations(self) -> Sequence[ports.Violations]:
        """Users' hooks."""
        return list(_loaded(VIOLATIONS).values())


def _process_name() -> str:
    """Return a name of this process among those of all nodes."""
    return f"{platform.node()}-{os.getpid()}"


def _loaded(group: str, *arguments: Any) -> dict[str, Any]:
    """Load the entry points of a group, by name. One that cannot be loaded is logged, and stops nothing."""
    loaded: dict[str, Any] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        try:
            hook = point.load()
            loaded[point.name] = hook(*arguments) if arguments or isinstance(hook, type) else hook
        except Exception as error:
            # It is users' code, so it may raise anything.
            log.error(f"{group.rpartition('.')[2]}.not_loaded", name=point.name, reason=repr(error))
    return loaded


def open(  # noqa: A001  (named where used: runtime.open)
    app_settings: settings.Settings | None = None, overrides: Mapping[Any, Any] | None = None
) -> dishka.Container:
    """Return a container in which every port can be resolved; ``container.close()`` closes what it made.

    ``overrides`` replaces our objects by type: ``{ports.Ec2: testing.MemoryEc2()}``. Nothing connects here. Settings
    are read at first use, which may raise ``errors.InvalidInput``. Celery's side reads the environment whatever
    ``app_settings`` contains.
    """
    overridden = {settings.Settings: app_settings, **(overrides or {})} if app_settings else dict(overrides or {})
    # The lock makes one of each even if threads ask at the same time.
    return _recipes(frozenset(overridden))(overridden, threading.Lock, dishka.Scope.APP)


@functools.cache
def _recipes(overridden: frozenset[Any]) -> dishka.Container:
    """Return the compiled recipes of containers, once (10 ms) for each set of types that their openers replace.

    It creates nothing itself, and so needs no lock that a fork could copy.
    """
    brought = dishka.Provider(scope=dishka.Scope.APP)
    for kind in overridden:
        brought.from_context(kind)
    return dishka.make_container(
        Recipes(), Clocks(), Stages(), brought, lock_factory=None, start_scope=dishka.Scope.RUNTIME
    )


def import_aws() -> None:
    """Import what the recipes for AWS import at first use.

    A node does that when it starts: so its forked children share it, and its first collection does not wait for it.
    """
    for name in ("cloudwatch", "ec2", "queue", "rate_limits", "session", "sns"):
        importlib.import_module(f"workermon.on_aws.{name}")


def default_region() -> str | None:
    """Return the region that boto3 is configured for."""
    from workermon.on_aws import regions

    return regions.default_region()


def known_regions() -> Collection[str]:
    """Return the regions that AWS has."""
    from workermon.on_aws import regions

    return regions.known_regions()
