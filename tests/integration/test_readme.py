"""Every command of README and docs is run as written, against a simulated AWS."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.celery_house import ROOT, House, opened
from tests.integration.pages import LASTING, Block, blocks, pages, reader
from tests.support.waiting import eventually

README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial.md"
HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))
#: Secrets that pages have in their channels.
SECRETS = {
    "OPS_SECRET": "hush",
    "SLACK_URL": "https://hooks.example.com/hush",
    "PAGERDUTY_KEY": "hush",
    "LAB_EXTERNAL_ID": "a-long-random-text",
}

pytestmark = pytest.mark.integration


@pytest.fixture
def house(redis_url: str, tmp_path: Path) -> Iterator[House]:
    """Give an installation with a fleet that is tagged as the pages', in a folder without the source."""
    with opened(tmp_path, redis_url, workers=4) as opened_house:
        opened_house.env |= {"PYTHONPATH": str(ROOT)} | SECRETS
        del opened_house.env["WORKERMON_MIN_INTERVAL"]
        opened_house.cwd = tmp_path
        yield opened_house


@pytest.mark.long
def test_every_command_of_the_readme_works_as_written(house: House) -> None:
    """Each command exits with 0, in the README's order. Lasting ones start, and Ctrl-C ends them with 0."""
    with reader(house) as person:
        person.follow(README)
    for name in LASTING:
        assert any(command.startswith(name) for command in person.ran), name


@pytest.mark.long
def test_the_tutorial_can_be_followed(house: House, tmp_path: Path) -> None:
    """Beside a running demo, as 'make run' starts it, each command of the tutorial ends with 0."""
    for name in [name for name in house.env if name.startswith(("WORKERMON_", "AWS_"))]:
        del house.env[name]
    demo = house.start("workermon", "demo")
    eventually(
        lambda: "render-07" in house.run("workermon", "list").stdout,
        within=60,
        description="the demo's fleet in 'list'",
    )
    with reader(house) as person:
        person.follow(TUTORIAL)
    assert person.ran[0] == "make run"
    demo.stop()


@pytest.mark.long
@pytest.mark.parametrize("third", [0, 1, 2])
def test_every_command_of_the_how_to_pages_works_as_written(house: House, third: int) -> None:
    """Beside a running 'up', each command of each page ends with 0, with the file that the page shows before it."""
    rows = "".join(f"{1_700_000_000 + 60 * minute},{minute % 100}\n" for minute in range(300))
    (house.folder / "cpu_utilization.csv").write_text(f"timestamp,value\n{rows}", "utf-8")
    with reader(house) as person:
        person.run("workermon up")
        person.run("workermon add i-0abc0123456789def --name render-07 --label team=vfx")
        for page in HOW_TO[third::3]:
            person.follow(page)


def test_no_page_has_commands_that_nobody_runs() -> None:
    """Commands are on pages that a test runs. Other pages have only make commands, which are checked here."""
    followed_pages = {README, TUTORIAL, *HOW_TO}
    unfollowed = {
        command.split()[0]
        for page in pages() if page not in followed_pages
        for block in blocks(page) for command in block.commands
    }  # fmt: skip
    assert unfollowed <= {"make"}


def policy() -> Block:
    """Return the README's IAM policy."""
    [policy_block] = [block for block in blocks(README) if block.kind == "json"]
    return policy_block


def test_the_policy_of_the_readme_allows_nothing_needless() -> None:
    """The IAM policy is JSON, and the code calls each action that it allows."""
    [statement] = json.loads(policy().text)["Statement"]
    source = "".join(path.read_text("utf-8") for path in (ROOT / "workermon" / "on_aws").glob("*.py"))
    requested = {
        action
        for action in statement["Action"]
        if re.sub(r"(?<!^)(?=[A-Z])", "_", action.split(":")[1]).lower() in source or action.split(":")[1] in source
    }
    assert requested == set(statement["Action"])
