"""Logs: their content and place, and what they never contain."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import boto3
import click
import moto
import pytest
from click.testing import CliRunner

from workermon import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    names = {name: logging.getLogger(name).level for name in (*logs.REVEALING_LOGGERS, *logs.WARNING_LOGGERS)}
    yield
    root.handlers[:], root.level = handlers, level
    for name, before in names.items():
        logging.getLogger(name).setLevel(before)


def test_debug_shows_no_credentials(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """At debug neither the keys of an assumed role nor those of the environment reach the log."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "tokentoken")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    logs.configure("debug", "json")
    with moto.mock_aws():
        sts = boto3.client("sts", region_name="us-east-1")
        role = sts.assume_role(
            RoleArn="arn:aws:iam::123456789012:role/x", RoleSessionName="ours", ExternalId="external9"
        )
    credentials = role["Credentials"]
    logs.get("test").debug("still.here")
    written = capsys.readouterr().err
    assert "still.here" in written
    for secret in (
        credentials["SecretAccessKey"],
        credentials["SessionToken"],
        "hunter2hunter2",
        "tokentoken",
        "external9",
    ):
        assert secret not in written


def test_a_file_gets_json_and_survives_rotation(tmp_path: Path) -> None:
    """A file gets JSON by default, and is opened again after logrotate has moved it."""
    file = tmp_path / "node.log"
    logs.configure("info", None, str(file))
    logs.get("test").info("before")
    file.rename(tmp_path / "node.log.1")
    logs.get("test").info("after")
    assert '"event": "before"' in (tmp_path / "node.log.1").read_text()
    assert '"event": "after"' in file.read_text()
    logs.configure("info", "console", str(file))
    logs.get("test").info("plain")
    assert "plain" in file.read_text().splitlines()[-1]
    assert "\x1b[" not in file.read_text()


def test_what_a_test_logs_is_no_part_of_a_commands_output() -> None:
    """A server's thread may log while a test runs a command. That does not reach the standard output."""

    @click.command()
    def command() -> None:
        logs.get("server").info("server.request")
        click.echo("{}")

    assert CliRunner().invoke(command).stdout == "{}\n"
