"""Every command of the README is run as it stands there, and every file in it is taken."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.celery_house import ROOT, House, Process, opened
from tests.support.waiting import eventually
from workermon import testing

README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"^\$ (.+)$", README, re.MULTILINE)
BLOCKS = {kind: re.findall(rf"^```{kind}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL) for kind in ("toml", "json")}
#: Its place in the README is taken by an instance of the simulation.
INSTANCE = "i-0abc0123456789def"

#: Those that run until they are told to stop, with what they show when they are there; Flower answers instead.
LASTING = {
    "workermon up": "supervisor",
    "workermon watch": "cpu_utilization",
    "celery -A workermon beat": "is starting",
    "celery -A workermon worker": "workermon.collect",
    "celery -A workermon flower": "",
}
FLOWER = ("127.0.0.1", 5555)
#: Set-up of this very environment: 'make test' runs this test, and 'make run' is the demo, which has tests of its own.
ELSEWHERE = {"make run", "make test", ". .venv/bin/activate"}


def lasting(command: str) -> str | None:
    """Return the name in ``LASTING`` of a command that runs until it is told to stop."""
    return next((name for name in LASTING if command.startswith(name)), None)


@pytest.fixture
def house(redis_url: str, tmp_path: Path) -> Iterator[House]:
    """Give an installation with a fleet that is tagged as the README's, in a folder without the source."""
    with opened(tmp_path, redis_url, workers=4) as made:
        made.env |= {"PYTHONPATH": str(ROOT), "OPS_SECRET": "hush"}
        del made.env["WORKERMON_MIN_INTERVAL"]
        made.cwd = tmp_path
        yield made


def start(house: House, command: str) -> Process:
    """Start a command of the README as it stands there."""
    program, *words = shlex.split(command.replace(INSTANCE, house.ids[0]))
    assert program in {"workermon", "celery"}
    return house.start(program, *words)


def answers() -> bool:
    """Tell whether Flower takes connections."""
    with contextlib.closing(socket.create_connection(FLOWER, timeout=1)):
        return True


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_every_command_of_the_readme_works_as_it_stands(house: House) -> None:
    """Each command ends with 0, in the README's order; what lasts comes up, and Ctrl-C ends it with 0."""
    (house.folder / "fleet.toml").write_text(BLOCKS["toml"][0], "utf-8")
    running: list[Process] = []
    ran = []
    try:
        for command in COMMANDS:
            if command in ELSEWHERE:
                continue
            ran.append(command)
            process = start(house, command)
            name = lasting(command)
            if name is None:
                assert process.popen.wait(60) == 0, f"{command}\n{process.said}"
                continue
            running.append(process)
            eventually(
                lambda process=process, shown=LASTING[name]: shown in process.said if shown else answers(),
                within=60,
                what=f"what {command} shows when it is there",
            )
            if name == "workermon watch":
                process.popen.send_signal(signal.SIGINT)
                assert process.popen.wait(20) == 0
    finally:
        for process in reversed(running):
            if process.alive():
                process.popen.send_signal(signal.SIGINT)
        for process in running:
            if process.alive():
                process.stop(within=25)
    assert len(ran) == len(COMMANDS) - len(ELSEWHERE)
    assert {lasting(command) for command in ran} >= set(LASTING)


@pytest.mark.parametrize("text", BLOCKS["toml"])
def test_every_config_file_of_the_readme_is_taken(text: str) -> None:
    """A config file that the README shows is valid as a whole."""
    assert tomllib.loads(text)
    assert testing.parse(text, "README.md")


def test_the_policy_of_the_readme_allows_nothing_needless() -> None:
    """The IAM policy is JSON, and each action that it allows is one that the code calls."""
    [policy] = BLOCKS["json"]
    [statement] = json.loads(policy)["Statement"]
    source = "".join(path.read_text("utf-8") for path in (ROOT / "workermon" / "on_aws").glob("*.py"))
    asked = {
        action
        for action in statement["Action"]
        if re.sub(r"(?<!^)(?=[A-Z])", "_", action.split(":")[1]).lower() in source or action.split(":")[1] in source
    }
    assert asked == set(statement["Action"])
