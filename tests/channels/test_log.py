"""The channel ``log``."""

from __future__ import annotations

import pytest
import structlog.testing

from workermon import models
from workermon.models import Channel
from workermon.notify.channels import log

WORKER_ID = "i-0abc0123456789def"
ALERT = f"{WORKER_ID}/cpu-high"


@pytest.mark.parametrize(
    ("status", "severity", "level"),
    [("firing", "critical", "error"), ("firing", "warning", "warning"), ("resolved", "critical", "info")],
)
def test_log(status: str, severity: str, level: str) -> None:
    """The channel log writes one event with all fields a reader needs."""
    notification = models.Notification.model_validate(
        {
            "id": "n",
            "version": 1,
            "dedup_key": ALERT,
            "kind": "threshold",
            "status": status,
            "severity": severity,
            "rule": "cpu-high",
            "metric": "cpu_utilization",
            "value": 97.5,
            "threshold": 90.0,
            "since": "2023-11-14T22:13:20Z",
            "at": "2023-11-14T22:13:20Z",
            "worker": {"id": WORKER_ID, "name": "render-07", "region": "us-east-1"},
            "summary": "render-07: too much",
        }
    )
    with structlog.testing.capture_logs() as logged:
        log.Log().send(Channel(name="log", type="log"), [notification])
    (entry,) = logged
    assert (entry["event"], entry["log_level"]) == (f"alert.{status}", level)
    assert (entry["worker_id"], entry["rule"], entry["value"], entry["summary"]) == (
        WORKER_ID, "cpu-high", 97.5, "render-07: too much",
    )  # fmt: skip
