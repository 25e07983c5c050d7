"""How rules over EC2's status checks describe an impaired one."""

from __future__ import annotations

from typing import Literal

from workermon import errors, models

#: What each metric covers, in words.
CHECK_OF_METRIC = {
    models.STATUS_CHECK_FAILED: "status",
    "system_check_failed": "system",
    "instance_check_failed": "instance",
    "ebs_check_failed": "attached EBS",
    "application_check_failed": "application",
    "performance_check_failed": "performance",
}

#: The checks in words.
CHECK_NAMES: dict[models.CheckName, str] = {
    "system": "system",
    "instance": "instance",
    "attached_ebs": "attached EBS",
    "application": "application",
    "performance": "performance",
}

#: Characters of EC2's text that are repeated.
_MAX_TEXT = 300


class ImpairmentDetails(models.Frozen):
    """An impaired check in JSON: since when according to EC2 (RFC 3339), and EC2's recommendation."""

    check: models.CheckName
    status: Literal["impaired"] = "impaired"
    impaired_since: str | None
    remediation: str | None


def impaired(metric: str, condition: models.Condition, until: float | None = None) -> tuple[ImpairmentDetails, ...]:
    """Return the checks of a metric that are impaired now; with ``until``, only those that already were then."""
    if condition.checks is None:
        return ()
    return tuple(
        ImpairmentDetails(
            check=name,
            impaired_since=None if impairment.since is None else models.rfc3339(impairment.since),
            remediation=impairment.remediation and errors.printable(impairment.remediation),
        )
        for name in condition.checks.impaired(metric)
        for impairment in (condition.impairments.get(name, models.Impairment()),)
        if until is None or impairment.since is None or impairment.since <= until
    )


def cause(metric: str, condition: models.Condition, until: float | None = None) -> str | None:
    """Return EC2's details of a metric's impaired checks in words; ``None`` if there are none.

    >>> condition = models.Condition(
    ...     checks=models.Checks(system="ok", instance="ok", performance="impaired"),
    ...     impairments={"performance": models.Impairment(since=1_700_000_000, remediation="Stop and start it.")},
    ... )
    >>> cause("performance_check_failed", condition)
    'EC2: performance impaired since 2023-11-14T22:13:20Z; remediation: Stop and start it.'
    """
    return words(impaired(metric, condition, until))


def words(details: tuple[ImpairmentDetails, ...]) -> str | None:
    """Return impaired checks in words; ``None`` if EC2 gives no details of them."""
    texts = []
    for detail in details:
        since = f" since {detail.impaired_since}" if detail.impaired_since else ""
        text = f"{CHECK_NAMES[detail.check]} impaired{since}"
        texts.append(f"{text}; remediation: {detail.remediation}" if detail.remediation else text)
    if not any(detail.impaired_since or detail.remediation for detail in details):
        return None
    return f"EC2: {', '.join(texts)}"[:_MAX_TEXT]
