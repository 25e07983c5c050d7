"""Is the monitor itself working?"""

from __future__ import annotations

from workermon.health.canary import CanaryCheck, CanaryReception, CanaryRelay, is_canary_stage
from workermon.health.doctor import Doctor, Examination
from workermon.health.exposition import Exposition, Figures
from workermon.health.health_summary import HealthSummary, HealthSummaryCheck
from workermon.health.heartbeat import Heartbeat, PipelineCheck
from workermon.health.parts import PartsCheck
from workermon.health.status import Bill, Status, StatusCheck

__all__ = [
    "Bill",
    "CanaryCheck",
    "CanaryReception",
    "CanaryRelay",
    "Doctor",
    "Examination",
    "Exposition",
    "Figures",
    "HealthSummary",
    "HealthSummaryCheck",
    "Heartbeat",
    "PartsCheck",
    "PipelineCheck",
    "Status",
    "StatusCheck",
    "is_canary_stage",
]
