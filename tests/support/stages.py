"""Stages over the ports of a small world, as the composition root makes them."""

from __future__ import annotations

from typing import Any, TypeVar

from workermon import ports, runtime, settings, testing

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
