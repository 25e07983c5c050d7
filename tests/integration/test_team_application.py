"""A team's own Celery application that includes our tasks: its nodes collect, and stay its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration import celery_house
from tests.integration.celery_house import START, House, opened
from tests.support.present import present
from tests.support.waiting import eventually

pytestmark = pytest.mark.integration

PAGE = celery_house.ROOT / "docs" / "how-to" / "run-in-your-own-celery-app.md"


@pytest.fixture
def house(tmp_path: Path, redis_url: str) -> Iterator[House]:
    """Give an installation of one instance."""
    with opened(tmp_path, redis_url, workers=1) as opened_house:
        yield opened_house


def example() -> str:
    """Return the application that the documentation shows."""
    _, _, code = PAGE.read_text("utf-8").partition("```python\n")
    text, _, _ = code.partition("```")
    return text


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_teams_node_collects(house: House, tmp_path: Path, redis_url: str, pool: str) -> None:
    """The documented example runs workermon's collections beside its own task, with its own log and broker settings."""
    folder = tmp_path / "team"
    folder.mkdir()
    (folder / "team.py").write_text(example())
    env = {
        "PYTHONPATH": f"{folder}:{house.cwd}",
        "TEAM_BROKER_URL": urlsplit(redis_url)._replace(path="/0").geturl(),
    }
    queues = present(next((line for line in PAGE.read_text().splitlines() if " -A team worker " in line), None))
    arguments = queues.partition("celery -A team ")[2].split()
    node = house.start("celery", "-A", "team", *arguments, "-P", pool, "-c", "2", "-l", "info", env=env)
    house.start("celery", "-A", "workermon", "beat")
    house.add(house.ids)

    def collected() -> bool:
        completed = house.run("workermon", "list", "--json")
        (worker,) = json.loads(completed.stdout)["workers"]
        return worker["metrics"]["cpu_utilization"] is not None and "Task workermon.collect" in node.output

    eventually(collected, within=START, description="a collection by the team's node")
    output = node.output
    assert "workermon.collect" in output
    assert not any(line.startswith("{") for line in output.splitlines()), "its log got our format"
    assert "Task workermon.collect" in output
    assert "raised" not in output
