"""EC2's status checks of an instance, and the metrics made from them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from pydantic import Field

from workermon.models.base import Frozen

Check = Literal["ok", "impaired", "insufficient-data", "not-applicable", "initializing"]
CheckName = Literal["system", "instance", "attached_ebs", "application", "performance"]

#: The metric of EC2's status checks as a whole.
STATUS_CHECK_FAILED = "status_check_failed"

#: The metrics made from EC2's status checks, and the checks that each covers. They come from EC2, not from CloudWatch;
#: their period is the worker's interval. The first one counts the same as CloudWatch's StatusCheckFailed.
CHECK_METRICS: Mapping[str, tuple[CheckName, ...]] = {
    STATUS_CHECK_FAILED: ("system", "instance", "attached_ebs"),
    "system_check_failed": ("system",),
    "instance_check_failed": ("instance",),
    "ebs_check_failed": ("attached_ebs",),
    "application_check_failed": ("application",),
    "performance_check_failed": ("performance",),
}


def _is_absent(outcome: object) -> bool:
    return outcome is None


class Checks(Frozen):
    """EC2's status checks. The last three are ``None``, and not in JSON, if EC2 does not return them."""

    system: Check
    instance: Check
    attached_ebs: Check | None = Field(default=None, exclude_if=_is_absent)
    application: Check | None = Field(default=None, exclude_if=_is_absent)
    performance: Check | None = Field(default=None, exclude_if=_is_absent)

    @property
    def failed(self) -> float | None:
        """Return 1 if system, instance or attached EBS is impaired, 0 if all are ok, otherwise ``None``."""
        return check_values(self.outcomes).get(STATUS_CHECK_FAILED)

    @property
    def outcomes(self) -> tuple[Check | None, ...]:
        """Return the outcomes in the order of ``CheckName``; ``None`` for a check that EC2 did not return."""
        return self.system, self.instance, self.attached_ebs, self.application, self.performance

    @property
    def answered(self) -> Mapping[CheckName, Check]:
        """Return the checks that EC2 returned."""
        names: tuple[CheckName, ...] = ("system", "instance", "attached_ebs", "application", "performance")
        return {name: outcome for name in names if (outcome := getattr(self, name)) is not None}

    def impaired(self, metric: str | None = None) -> tuple[CheckName, ...]:
        """Return the impaired checks among those of a metric of ``CHECK_METRICS``; without a metric, among all."""
        about = self.answered if metric is None else CHECK_METRICS.get(metric, ())
        return tuple(name for name in about if getattr(self, name) == "impaired")

    def value(self, metric: str) -> float | None:
        """Return the value of a metric of ``CHECK_METRICS``.

        It is 1 if one of its checks is impaired, 0 if all are ok, otherwise ``None``: EC2 has no result (yet).
        """
        return _value([getattr(self, name) for name in CHECK_METRICS[metric]])

    @property
    def values(self) -> dict[str, float]:
        """Return the value of each metric of ``CHECK_METRICS`` that has one."""
        return dict(check_values(self.outcomes))


@functools.lru_cache(maxsize=1024)
def check_values(outcomes: tuple[Check | None, ...]) -> Mapping[str, float]:
    """Return the value of each metric that has one, by ``Checks.outcomes``. Nearly all workers share a few outcomes."""
    of = dict(zip(get_args(CheckName), outcomes, strict=True))
    values = ((metric, _value(of[name] for name in names)) for metric, names in CHECK_METRICS.items())
    return {metric: value for metric, value in values if value is not None}


def _value(outcomes: Iterable[Check | None]) -> float | None:
    outcomes_seen = {outcome for outcome in outcomes if outcome is not None}
    if "impaired" in outcomes_seen:
        return 1.0
    return 0.0 if outcomes_seen == {"ok"} else None


class Impairment(Frozen):
    """EC2's details of an impaired check: ``since`` when (seconds), and its recommendation; ``None`` if missing."""

    since: int | None = None
    remediation: str | None = None
