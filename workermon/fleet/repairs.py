"""Repairs, and the result of comparing the fleet with EC2."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

from workermon import errors, models


class Repair(NamedTuple):
    """One repair, and why it is needed."""

    action: Literal["schedule", "unschedule", "refresh", "retire", "add", "update", "take over", "remove"]
    worker_id: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class FleetDifference:
    """How the fleet differs from EC2.

    ``added`` are new workers, ``updated`` those whose set-up changed. ``failed`` has, by the key of an account and
    region, why EC2 could not be asked there; ``searched`` are the keys of those where ``[discover]`` searched.
    """

    added: list[models.Worker] = dataclasses.field(default_factory=list)
    updated: list[models.Worker] = dataclasses.field(default_factory=list)
    repairs: list[Repair] = dataclasses.field(default_factory=list)
    failed: dict[str, errors.AwsError] = dataclasses.field(default_factory=dict)
    searched: set[str] = dataclasses.field(default_factory=set)
