"""Every port in memory, for our tests and our users': the same behaviour as the real ones, no server, no network.

The repository's ports share one ``MemoryStore``, as the real ones share one Redis. All are thread-safe.
"""

from __future__ import annotations

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
from workermon.testing.config import parse, parser
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
    notifiers,
)
from workermon.testing.fleet import MemorySchedule, MemoryStatusListings, MemoryWorkers
from workermon.testing.memory import MemoryStore
from workermon.testing.monitor import Monitor
from workermon.testing.requests import MemoryIdempotencyKeys
from workermon.testing.samples import MemoryFeed, MemoryRollUps, MemorySamples
from workermon.testing.saved_states import MemorySavedStates

__all__ = [
    "EvaluationSources",
    "ManualClock",
    "MemoryAccess",
    "MemoryAccounts",
    "MemoryAlerts",
    "MemoryAudit",
    "MemoryCanary",
    "MemoryChannelFailures",
    "MemoryCloudWatch",
    "MemoryCohorts",
    "MemoryConfigurations",
    "MemoryCosts",
    "MemoryDispatcher",
    "MemoryEc2",
    "MemoryEvaluationInputs",
    "MemoryEventQueues",
    "MemoryFeed",
    "MemoryFiringLabels",
    "MemoryIdempotencyKeys",
    "MemoryLearnedDelays",
    "MemoryLeases",
    "MemoryLimiter",
    "MemoryLiveness",
    "MemoryNodes",
    "MemoryNotifier",
    "MemoryOutbox",
    "MemoryPublisher",
    "MemoryRollUps",
    "MemorySamples",
    "MemorySavedStates",
    "MemorySchedule",
    "MemorySchema",
    "MemorySecrets",
    "MemoryServer",
    "MemorySetup",
    "MemorySilences",
    "MemoryStatusListings",
    "MemoryStore",
    "MemorySweepBacklog",
    "MemoryThrottle",
    "MemoryUnreadable",
    "MemoryWorkers",
    "Monitor",
    "notifiers",
    "parse",
    "parser",
]
