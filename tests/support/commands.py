"""The command line over an in-memory monitor. Its fixtures are available to every test."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, NoReturn

import pytest
import structlog
from click.testing import CliRunner, Result

from workermon import cli, models, runtime, settings, testing
from workermon.cli import session

A, B, C = "i-0aaaaaaaaaaaaaaaa", "i-0bbbbbbbbbbbbbbbb", "i-0cccccccccccccccc"
REGION = "us-east-1"


class Ports(testing.Monitor):
    """A container over an in-memory monitor, with two instances that are not monitored yet."""

    def __init__(self) -> None:
        super().__init__()
        self.ec2.put(models.Instance(id=A, region=REGION, status="running", name="render-01", tags={"Role": "render"}))
        self.ec2.put(models.Instance(id=B, region=REGION, status="stopped", name="render-02", tags={"Role": "render"}))
        self.nodes.names = ["collect@here"]
        self.notifiers = testing.notifiers(self.clock)
        at = int(self.clock()) // 300 * 300
        self.cloudwatch.put(A, "CPUUtilization", [(at - 600, 41.0), (at - 300, 42.5)])

    def get(self, kind: Any) -> Any:
        """Return a port, or a stage or view over these ports."""
        try:
            return super().get(kind)
        except LookupError:
            return runtime.open(settings.Settings(_env_file=None), self.overrides()).get(kind)

    def close(self) -> None:
        """Close nothing."""


class Session(session.Session):
    """A session that does not request the list of regions."""

    default_region = REGION
    known_regions = frozenset({REGION, "eu-west-1"})


@pytest.fixture
def silent_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the log that a command configures out of this process and off standard output."""

    def drop(*_: object) -> NoReturn:
        raise structlog.DropEvent

    monkeypatch.setattr("workermon.logs.configure", lambda *_: None)
    structlog.configure(processors=[drop])
    yield
    structlog.reset_defaults()


@pytest.fixture
def world() -> Ports:
    """Give in-memory ports."""
    return Ports()


@pytest.fixture
def run(world: Ports, silent_log: None) -> Callable[..., Result]:
    """Give a function that runs a command line and returns its result."""

    def call(*args: str, **options: Any) -> Result:
        container: Any = world
        app_settings = settings.Settings(_env_file=None)
        return CliRunner().invoke(cli.cli, list(args), obj=Session(app_settings, container), **options)

    return call


@pytest.fixture
def ok(run: Callable[..., Result]) -> Callable[..., str]:
    """Give a function that runs a command line, which has to exit with 0, and returns its standard output."""

    def call(*args: str, **options: Any) -> str:
        result = run(*args, **options)
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


def one_line(result: Result, code: int) -> str:
    """Return the error of a failed command: one line on standard error, with that exit code."""
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert re.fullmatch(r"error: [^:]+: .+; .+", lines[0]), lines
    assert not result.stdout
    return lines[0]


def fires(
    world: testing.Monitor,
    worker_id: str,
    rule: str = "cpu-high",
    status: Literal["firing", "resolved"] = "firing",
    version: int = 1,
) -> None:
    """Have an alert of a worker fire or resolve, as an evaluation would."""
    notification = models.Notification(
        id=f"n{version}", version=version, dedup_key=f"{worker_id}/{rule}", kind="threshold", status=status,
        severity="critical", rule=rule, metric="cpu_utilization", value=97.0, threshold=90.0,
        since="2026-11-23T16:00:00Z", at="2026-11-23T16:00:00Z",
        worker=models.NotifiedWorker(id=worker_id, name="render-01", region=REGION), summary="render-01: 97 % > 90 %",
    )  # fmt: skip
    world.record(notification, "log")
