"""The audit trail of commands: which commands it records."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest
from click.testing import Result

from tests.support.commands import A, B, Ports
from workermon import cli, errors
from workermon.cli import audit_recording

Run = Callable[..., Result]

#: Commands that change nothing but themselves, and those that record what they apply by their own hand.
READING = {
    "demo", "list", "show", "watch", "history", "alerts", "why", "silences", "rules check", "rules test",
    "rules backtest", "rules review", "rules suggest", "plan", "export", "status", "doctor", "config schema", "web",
    "token list", "audit", "up", "backup", "events setup",
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("silent_log")


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command by its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        subcommand = group.get_command(context, name)
        assert subcommand is not None
        if isinstance(subcommand, click.Group):
            yield from commands(subcommand, f"{before}{name} ")
        else:
            yield before + name, subcommand


def trail(world: Ports) -> list[tuple[str, str, str]]:
    """Return action, subject and result of the entries, the oldest first."""
    return [(entry.action, entry.target, entry.outcome) for entry in reversed(world.audit.entries(0))]


def test_every_command_either_reads_or_is_recorded() -> None:
    """Each command is listed as one that reads or as one that is recorded."""
    recorded = {name for name, command in commands(cli.cli) if isinstance(command, audit_recording.Write)}
    assert {name for name, _ in commands(cli.cli)} - recorded == READING


def test_a_command_that_writes_is_recorded(ok: Callable[..., str], world: Ports) -> None:
    """The entry has user, machine, action and time. The list begins with the newest."""
    ok("add", A, "--label", "team=vfx", "--name", "x")
    world.clock.advance(60)
    ok("pause", A)
    ok("list")
    assert trail(world) == [
        ("add", f"{A} --name x --label team=vfx", "ok"),
        ("pause", A, "ok"),
    ]
    entry = world.audit.entries(0)[0]
    assert (entry.by, entry.origin, entry.at) == (getpass.getuser(), socket.gethostname()[:64], world.clock())
    entries = json.loads(ok("audit", "--json"))["audit"]
    assert [row["action"] for row in entries] == ["pause", "add"]
    assert entries[0].keys() == {"id", "at", "by", "from", "action", "target", "outcome"}
    world.clock.advance(30)
    assert "add" not in ok("audit", "--since", "60s")
    assert "pause" in ok("audit", "--since", "60s")


def test_what_changes_nothing_is_not_recorded(run: Run, world: Ports) -> None:
    """A dry run, an unknown name and an error leave no entry."""
    run("discover", "--tag", "Role=render", "--dry-run")
    run("pause", "nobody")
    run("add", "x")
    run("add", B, "--interval", "1s")
    assert trail(world) == []


def test_a_command_that_fails_on_its_way_is_recorded(run: Run, world: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal by AWS is recorded with the reason, and without the external id."""
    world.ec2.error = errors.AwsDenied("EC2", "not allowed", "ask for it")
    role = "arn:aws:iam::123456789012:role/w"
    assert run("add", A, "--role-arn", role, "--external-id", "hunter2").exit_code == 5
    assert trail(world) == [("add", f"{A} --role-arn {role}", "failed: EC2: not allowed; ask for it")]


def test_a_trail_out_of_reach_is_a_warning(run: Run, world: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command succeeds and warns that its entry is missing."""

    def down(_: object) -> None:
        raise errors.RedisUnavailable("Redis", "down", "start it")

    monkeypatch.setattr(world.audit, "record", down)
    result = run("add", A)
    assert result.exit_code == 0
    assert "warning: not in the audit trail: Redis: down; start it" in result.stderr


def test_tokens_are_made_listed_and_revoked(ok: Callable[..., str], run: Run, world: Ports) -> None:
    """A token is shown once. List, trail and storage do not contain it."""
    text = ok("token", "create", "ci", "--role", "operator").strip()
    assert text.startswith("wmt_ci_")
    assert text not in repr(world.access.tokens())
    assert json.loads(ok("token", "list", "--json"))["tokens"][0]["role"] == "operator"
    assert run("token", "create", "ci", "--role", "viewer").exit_code == 2
    assert run("token", "create", "a b", "--role", "viewer").exit_code == 2
    assert run("token", "create", "x", "--role", "god").exit_code == 2
    assert run("token", "revoke", "cj").exit_code == 3
    world.clock.advance(1)
    assert ok("token", "revoke", "ci") == "token ci revoked\n"
    assert trail(world) == [("token create", "ci --role operator", "ok"), ("token revoke", "ci", "ok")]
    assert run("token", "list").stderr == "no token\n"


def test_the_api_lists_the_trail(world: Ports, ok: Callable[..., str]) -> None:
    """The view returns what the command prints."""
    from workermon import views

    ok("add", A)
    document: Any = world.get(views.AuditView).list(60).to_json()
    assert document == json.loads(ok("audit", "--json"))
