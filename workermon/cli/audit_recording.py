"""Records commands that change something in the audit trail: who, on which machine, what, and the result."""

from __future__ import annotations

import secrets
import socket
from typing import Any

import click
from click.core import ParameterSource

from workermon import errors, models, ports
from workermon.cli import output, session

#: Characters of a command's target.
MAX_TARGET_LENGTH = 500
#: Parameters that are not recorded: output options, and values that may be private.
_HIDDEN = frozenset({"as_json", "external_id"})


class Write(click.Command):
    """A command that changes something: ``@click.command(cls=recording.Write)``.

    A dry run changes nothing, and neither does what is refused as a whole: invalid input, an unknown name.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and record it whatever its result."""
        outcome = "ok"
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit as exit_error:
            outcome = "ok" if exit_error.exit_code == 0 else f"exit code {exit_error.exit_code}"
            raise
        except (errors.InvalidInput, errors.NotFound, errors.RedisUnavailable, click.UsageError):
            outcome = ""
            raise
        except errors.WorkermonError as error:
            outcome = f"failed: {error}"
            raise
        except Exception as error:
            outcome = f"failed: {type(error).__name__}"
            raise
        finally:
            if outcome and not ctx.params.get("dry_run"):
                record(ctx.obj, " ".join(ctx.command_path.split()[1:]), _target(ctx), outcome)


def record(cli_session: session.Session, action: str, target: str, outcome: str) -> None:
    """Add to the trail. If Redis is unreachable by now, a warning says that the entry is missing."""
    try:
        entry = models.AuditEntry(
            id=secrets.token_hex(8),
            at=cli_session.now(),
            by=session.user(),
            origin=errors.printable(socket.gethostname())[:64],
            action=action,
            target=errors.printable(target)[:MAX_TARGET_LENGTH],
            outcome=errors.printable(outcome)[:MAX_TARGET_LENGTH],
        )
        cli_session.container.get(ports.Audit).record(entry)
    except errors.RedisUnavailable as error:
        output.warn(f"not in the audit trail: {error}")


def _target(ctx: click.Context) -> str:
    """Return the command line: arguments unchanged, options by name."""
    parts: list[str] = []
    for parameter in ctx.command.params:
        name, value = str(parameter.name), ctx.params.get(str(parameter.name))
        if name in _HIDDEN or ctx.get_parameter_source(name) != ParameterSource.COMMANDLINE:
            continue
        values = [str(item) for item in value] if isinstance(value, tuple) else [str(value)]
        if isinstance(parameter, click.Argument):
            parts += values
        elif value is True:
            parts.append(parameter.opts[0])
        else:
            parts += [f"{parameter.opts[0]} {item}" for item in values]
    return " ".join(parts)
