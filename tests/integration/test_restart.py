"""The whole monitor is killed and restarted, with intervals shorter than its outage."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from tests.integration.celery_house import opened
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"),
]


@pytest.mark.long
def test_a_restart_is_nobodys_silence(tmp_path: Path, redis_url: str, redis_client: redis.Redis) -> None:
    """Node and beat are down for more than three intervals. After their return no worker is reported as silent."""
    with opened(tmp_path, redis_url) as house:
        house.add(house.ids, interval="2s")

        def at(part: str) -> float:
            return float(redis_client.hget("workermon:pulse", part) or 0)

        started = [house.celery("worker"), house.celery("beat")]
        eventually(
            lambda: at("collect") and at("evaluate") > at("listener:since"),
            within=40,
            description="the first collection and evaluation",
        )
        for process in started:
            process.kill()
        killed_at = time.time()
        eventually(lambda: time.time() > killed_at + 14, within=20, description="an outage of 14 s")
        house.celery("worker")
        eventually(
            lambda: at("evaluate") > killed_at + 14, within=40, description="an evaluation before anything is collected"
        )
        house.celery("beat")
        eventually(lambda: at("collect") > killed_at + 14, within=40, description="collection again")
        back = time.time()
        eventually(lambda: at("evaluate") > back + 8, within=40, description="evaluations again")
        no_data_histories = list(redis_client.scan_iter("workermon:alert-history:numbers-of:*/no-data"))
        assert no_data_histories == []
