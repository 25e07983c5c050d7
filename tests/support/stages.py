"""Stages over the ports of a small world, as the composition root makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from workermon import errors, evaluate, models, ports, rules, runtime, settings, testing, views
from workermon.notify import channel_health

T = TypeVar("T")

#: The names that worlds have for their ports.
NAMES: dict[str, Any] = {
    "accounts": ports.Accounts,
    "alerts": ports.Alerts,
    "cloudwatch": ports.CloudWatch,
    "configurations": ports.Configurations,
    "costs": ports.Costs,
    "dispatcher": ports.Dispatcher,
    "ec2": ports.Ec2,
    "learned_delays": ports.LearnedDelays,
    "leases": ports.Leases,
    "pulse": ports.Pulse,
    "samples": ports.Samples,
    "schedule": ports.Schedule,
    "secrets": ports.Secrets,
    "setup": ports.Setup,
    "silences": ports.Silences,
    "workers": ports.Workers,
}


def stage(kind: type[T], world: Any) -> T:
    """Return a stage over the ports that a world has by now; the others are in memory, over its ``store``."""
    store = getattr(world, "store", None) or testing.MemoryStore()
    clock = world.now if hasattr(world, "now") else world.clock
    made: dict[Any, Any] = {
        ports.Accounts: testing.MemoryAccounts(store),
        ports.Clock: clock,
        ports.CloudWatch: testing.MemoryCloudWatch(),
        ports.Costs: testing.MemoryCosts(),
        ports.Dispatcher: testing.MemoryDispatcher(),
        ports.Ec2: testing.MemoryEc2(),
        ports.LearnedDelays: testing.MemoryLearnedDelays(store),
        ports.Leases: testing.MemoryLeases(store),
        ports.Schedule: testing.MemorySchedule(),
        ports.Secrets: testing.MemorySecrets({}),
        ports.Setup: testing.MemorySetup(store),
        ports.Silences: testing.MemorySilences(),
    }
    made |= {port: getattr(world, name) for name, port in NAMES.items() if getattr(world, name, None) is not None}
    found: T = runtime.open(settings.Settings(_env_file=None), made).get(kind)
    return found


def evaluated(
    worker_ids: Sequence[str],
    *,
    alerts: ports.Alerts,
    samples: ports.Samples,
    configurations: ports.Configurations,
    pulse: ports.Pulse,
    now: ports.Clock,
    violations: Sequence[ports.Violations] = (),
    silences: ports.Silences | None = None,
    costs: ports.Costs | None = None,
) -> list[str]:
    """Evaluate workers; return the ids of the alerts that have something new to be delivered."""
    stage = evaluate.Evaluation(
        alerts=alerts,
        samples=samples,
        workers=testing.MemoryWorkers(testing.MemoryStore()),
        configurations=configurations,
        silences=silences or testing.MemorySilences(),
        costs=costs or testing.MemoryCosts(),
        pulse=pulse,
        unreadable=testing.MemoryUnreadable(),
        violations=violations,
        kinds=rules.KINDS,
        now=now,
    )
    return stage.evaluate(worker_ids)


def give_up(
    channel: str,
    *,
    alerts: ports.Alerts,
    configurations: ports.Configurations,
    now: ports.Clock,
    why: str = "it refuses this (404 Not Found)",
    silences: ports.Silences | None = None,
) -> None:
    """Have a channel's alert fire, as a delivery does that gave a notification up."""
    health = channel_health.ChannelHealth(
        alerts=alerts,
        configurations=configurations,
        silences=silences or testing.MemorySilences(),
        failures=testing.MemoryChannelFailures(),
        now=now,
    )
    at = models.rfc3339(now())
    lost = models.Notification(
        id="lost", version=1, dedup_key="i-0abc1234/cpu-high", kind="threshold", status="firing", severity="critical",
        rule="cpu-high", metric="cpu_utilization", value=97.5, threshold=90.0, since=at, at=at, worker=None,
        summary="render-07: it is hot",
    )  # fmt: skip
    claimed = models.ClaimedNotification(
        alert_id=lost.dedup_key, channel=channel, notification=lost, fence=1, attempt=5
    )
    health.gave_up(claimed, errors.DeliveryFailed(f"channel {channel}", why, "see the receiver's log"))


def explained(
    record: ports.Record,
    metric: str | None,
    *,
    alerts: ports.Alerts,
    samples: ports.Samples,
    configurations: ports.Configurations,
    pulse: ports.Pulse,
    silences: ports.Silences,
    now: ports.Clock,
) -> views.WorkerExplanation:
    """Return how the rules over a metric are explained for a worker."""
    explanation = views.Explanation(
        alerts=alerts,
        samples=samples,
        workers=testing.MemoryWorkers(testing.MemoryStore()),
        configurations=configurations,
        pulse=pulse,
        silences=silences,
        learned_delays=testing.MemoryLearnedDelays(),
        kinds=rules.KINDS,
        now=now,
    )
    return explanation.why(record, metric)


def why(record: ports.Record, metric: str | None, **given: Any) -> dict[str, Any]:
    """Return the same as JSON has it."""
    return explained(record, metric, **given).to_json()
