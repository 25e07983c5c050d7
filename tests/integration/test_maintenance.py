"""A maintenance window over real processes: alerts that fire within it notify at its end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.celery_house import START, House, opened
from tests.support.waiting import eventually
from workermon import models

pytestmark = pytest.mark.integration

#: Seconds. What is left of the window when an alert was seen in it, and how long after its end what fires has to be
#: reported (sweep, evaluation, delivery).
WINDOW, SOON = 8, 15

FILE = """
[[rules]]
name = "reachable"
metric = "status_check_failed"
below = { critical = 1 }
breach = "1 of 1"
notify = ["log"]

[[silences]]
rule = "reachable"
reason = "moving house"
ends = "%s"
"""


@pytest.fixture
def house(tmp_path: Path, redis_url: str) -> Iterator[House]:
    """Give an installation of one instance."""
    with opened(tmp_path, redis_url, workers=1) as opened_house:
        yield opened_house


def alert(house: House) -> dict[str, Any] | None:
    """Return the alert that fires."""
    alerts = json.loads(house.run("workermon", "alerts", "--all", "--json").stdout)["alerts"]
    return alerts[0] if alerts else None


def applied(house: House, place: Path, ends: int) -> None:
    """Apply the file with a window that ends at a time."""
    place.write_text(FILE % models.rfc3339(ends))
    completed = house.run("workermon", "apply", str(place))
    assert completed.returncode == 0, completed.stderr


def test_what_fires_in_a_window_notifies_soon_after_it(house: House, redis_client: Any, tmp_path: Path) -> None:
    """An alert notifies soon after the window, although its worker is collected only every hour."""
    node = house.celery("worker", "-P", "threads")
    eventually(lambda: redis_client.hget("workermon:pulse", "listener"), within=START, description="a listener")
    applied(house, tmp_path / "fleet.toml", int(time.time()) + 3600)
    house.add(house.ids, "1h")
    eventually(lambda: alert(house), within=START, description="an alert")
    row = alert(house)
    assert row is not None
    assert row["silenced_by"].startswith("file-")
    assert row["deliveries"] == []
    ends = int(time.time()) + WINDOW
    applied(house, tmp_path / "fleet.toml", ends)
    eventually(lambda: (alert(house) or {})["deliveries"], within=WINDOW + SOON + 15, description="its delivery")
    row = alert(house)
    assert row is not None
    told_at = models.moment(row["deliveries"][0]["at"])
    assert ends <= told_at < ends + SOON
    assert (row["silenced_by"], row["version"]) == (None, 2)
    assert "silence file-" in row["reason"]
    explanation = house.run("workermon", "why", house.ids[0], "status_check_failed").stdout
    assert "not notified: silence file-" in explanation
    assert node.alive()
