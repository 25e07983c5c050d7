"""Every port of the repository over one store, in memory and on Redis."""

from __future__ import annotations

from typing import NamedTuple

import redis

from workermon import models, ports, testing
from workermon.on_redis import (
    access,
    accounts,
    alerts,
    audit,
    canary,
    channel,
    channel_failures,
    configurations,
    costs,
    evaluation_inputs,
    learned_delays,
    leases,
    liveness,
    outbox,
    rollups,
    samples,
    saved_states,
    schema,
    setup,
    silences,
    sweep_backlog,
    throttle,
    unreadable_records,
    workers,
)
from workermon.rules import threshold


class Repository(NamedTuple):
    """Every port of the repository over one store, for tests of any implementation."""

    workers: ports.Workers
    samples: ports.Samples
    alerts: ports.Alerts
    outbox: ports.Outbox
    configurations: ports.Configurations
    liveness: ports.Liveness
    leases: ports.Leases
    feed: ports.Feed
    silences: ports.Silences
    setup: ports.Setup
    access: ports.Access
    audit: ports.Audit
    saved_states: ports.SavedStates
    schema: ports.Schema
    rollups: ports.RollUps
    failures: ports.ChannelFailures
    sweep_backlog: ports.SweepBacklog
    accounts: ports.Accounts
    costs: ports.Costs
    throttle: ports.Throttle
    learned_delays: ports.LearnedDelays
    canary: ports.Canary
    unreadable: ports.Unreadable
    evaluation_inputs: ports.EvaluationInputs


#: The Redis channel of events.
CHANNEL = "workermon:metrics"
#: What is in force if nothing was saved.
DEFAULT = models.Configuration(
    rules=(threshold.KIND.rule(name="cpu-high", metric="cpu_utilization", above=models.Levels(critical=90.0)),),
    channels={"log": models.Channel(name="log", type="log")},
    metrics={},
    collect=("cpu_utilization",),
)


def repository_in_memory() -> Repository:
    """Build the ports over a store in memory."""
    store, silenced, failures = testing.MemoryStore(), testing.MemorySilences(), testing.MemoryChannelFailures()
    liveness, leases = testing.MemoryLiveness(store), testing.MemoryLeases(store)
    sources = testing.EvaluationSources(testing.MemoryAlerts(store), silenced, testing.MemoryUnreadable(), liveness)
    return Repository(
        testing.MemoryWorkers(store),
        testing.MemorySamples(store),
        sources.alerts,
        testing.MemoryOutbox(store),
        testing.MemoryConfigurations(store, DEFAULT),
        liveness,
        leases,
        testing.MemoryFeed(store),
        silenced,
        testing.MemorySetup(store),
        testing.MemoryAccess(),
        testing.MemoryAudit(),
        testing.MemorySavedStates(store, silenced),
        testing.MemorySchema(),
        testing.MemoryRollUps(store),
        failures,
        testing.MemorySweepBacklog(store, leases=leases, liveness=liveness, silences=silenced, failures=failures),
        testing.MemoryAccounts(store),
        testing.MemoryCosts(),
        testing.MemoryThrottle(),
        testing.MemoryLearnedDelays(store),
        testing.MemoryCanary(store),
        sources.unreadable,
        testing.MemoryEvaluationInputs(lambda: sources),
    )


def repository_on_redis(connection: redis.Redis, default: models.Configuration = DEFAULT) -> Repository:
    """Build the ports over a Redis client. ``default`` is the configuration if none was saved."""
    return Repository(
        workers.RedisWorkers(connection),
        samples.RedisSamples(connection, CHANNEL, lambda: models.DAY),
        alerts.RedisAlerts(connection, CHANNEL),
        outbox.RedisOutbox(connection),
        configurations.RedisConfigurations(connection, default),
        liveness.RedisLiveness(connection),
        leases.RedisLeases(connection),
        channel.RedisFeed(connection, CHANNEL),
        silences.RedisSilences(connection),
        setup.RedisSetup(connection, CHANNEL),
        access.RedisAccess(connection),
        audit.RedisAudit(connection),
        saved_states.RedisSavedStates(connection),
        schema.RedisSchema(connection),
        rollups.RedisRollUps(connection),
        channel_failures.RedisChannelFailures(connection),
        sweep_backlog.RedisSweepBacklog(connection),
        accounts.RedisAccounts(connection),
        costs.RedisCosts(connection),
        throttle.RedisThrottle(connection),
        learned_delays.RedisLearnedDelays(connection),
        canary.RedisCanary(connection, CHANNEL),
        unreadable_records.RedisUnreadable(connection),
        evaluation_inputs.RedisEvaluationInputs(connection),
    )


def install(monitor: testing.Monitor, repository: Repository) -> None:
    """Have the stages of a monitor read and write a repository."""
    for name, port in repository._asdict().items():
        setattr(monitor, name, port)
