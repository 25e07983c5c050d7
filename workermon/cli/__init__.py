"""The ``workermon`` command: one file a noun; each command parses, calls one function, and prints.

Importing this loads neither boto3 nor Celery nor a client of Redis, so that ``workermon --help`` is quick.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from workermon import __version__, errors

#: Each command with its module. A command is loaded when it is used.
COMMANDS = {
    "up": "run:up",
    "demo": "run:demo",
    "add": "fleet:add",
    "discover": "fleet:discover",
    "remove": "fleet:remove",
    "pause": "fleet:pause",
    "resume": "fleet:resume",
    "list": "fleet:listing",
    "show": "fleet:show",
    "refresh": "fleet:refresh",
    "reconcile": "fleet:reconcile",
    "watch": "watch:watch",
    "history": "history:history",
    "alerts": "alerts:alerts",
    "why": "alerts:why",
    "ack": "silences:ack",
    "silence": "silences:silence",
    "silences": "silences:silences",
    "unsilence": "silences:unsilence",
    "rules": "rules:rules",
    "plan": "apply:plan",
    "apply": "apply:apply",
    "export": "apply:export",
    "backup": "backup:backup",
    "restore": "backup:restore",
    "notify-test": "channels:notify_test",
    "status": "health:status",
    "doctor": "health:doctor",
    "config": "config:config",
    "web": "web:web",
    "token": "tokens:token",
    "audit": "audit:audit",
    "events": "events:events",
}

#: New objects after which Python looks for unreachable cycles. By default it does so after 700, which took a fifth of
#: the time of ``list`` over 20,000 workers: the objects of such a list are alive until the end.
GARBAGE_COLLECTED_EVERY = 50_000

#: The exit code of a process that Ctrl-C ended, as in a shell.
INTERRUPTED = 130


class Commands(click.Group):
    """The root: loads commands by name, and turns any error into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands' names, in the order in which they are first needed."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Load a command; ``None`` if there is none of that name."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        command = getattr(importlib.import_module(f"workermon.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest the one that was probably meant."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            suggestion = errors.did_you_mean(args[0], COMMANDS)
            if suggestion is not None:
                ctx.fail(f"No such command {args[0][:64]!r}; {suggestion}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. A reader that closes the pipe ends it, which is not an error."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # click itself would make 1 of it
            return failed(error)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002 - click's signature; it is never wanted
        **extra: Any,
    ) -> NoReturn:
        """Run a command line and exit with its code."""
        try:
            _check_encoding(sys.argv[1:] if args is None else args)
            code = super().main(args, prog_name or "workermon", complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except BaseException as error:
            sys.exit(failed(error))
        sys.exit(code if isinstance(code, int) else 0)


def _check_encoding(args: Sequence[str]) -> None:
    for argument in args:
        try:
            argument.encode()
        except UnicodeEncodeError:
            # Invalid UTF-8 arrives as lone surrogates.
            printable = argument.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")[:64]
            raise errors.InvalidInput(f"argument {printable}", "is not UTF-8 text", "write it in UTF-8") from None


def failed(error: BaseException) -> int:
    """Print an error in one line on standard error; return the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # The reader closed the pipe; the interpreter must not fail on it again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    line, code = described(error)
    click.echo(f"error: {line}", err=True)
    if code == 1:
        from workermon import settings

        if settings.is_debugging():
            traceback.print_exception(error)
    return code


def described(error: BaseException) -> tuple[str, int]:
    """Return an error as ``WHAT: WHY; WHAT TO DO``, and its exit code."""
    if isinstance(error, errors.WorkermonError):
        return str(error), error.exit_code
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "workermon"
        message = errors.printable(" ".join(error.format_message().split())).rstrip(".")
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            message = "Missing command"
        return f"{path}: {message}; see '{path} --help'", 2
    if isinstance(error, click.ClickException):
        return f"workermon: {errors.printable(error.format_message())}; see 'workermon --help'", 2
    kind, module = type(error).__name__, type(error).__module__.split(".")[0]
    if module == "pydantic_core" and kind == "ValidationError":
        invalid: Any = error  # its class is not imported here: that takes long
        first = invalid.errors(include_input=False, include_url=False)[0]
        location = ".".join(str(part) for part in first["loc"]) or "input"
        return f"{location}: {errors.validation_reason(first['msg'])}; see 'workermon --help'", 2
    if module in ("redis", "kombu"):
        return f"Redis: {kind}; check that it runs and accepts the password", 4
    if module in ("boto3", "botocore"):
        return f"AWS: {kind}; check credentials, region and endpoint", 5
    if isinstance(error, OSError):
        return errors.printable(f"{error.filename or 'system'}: {error.strerror or kind}; correct it and try again"), 1
    # Its text may contain anything, a secret too. So only its kind and place are shown.
    frame = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
    place = f" in {os.path.basename(frame.filename)} line {frame.lineno}" if frame else ""  # noqa: PTH119 - a bare name
    return f"workermon: unexpected {kind}{place}; set WORKERMON_LOG_LEVEL=debug to see more, and report it", 1


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="workermon")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Watches a fleet of EC2 instances ("workers") without an agent.

    \b
    Try it on a simulated fleet:   workermon demo
    Watch your own:                workermon up, then workermon add i-0abc123def4567890
    """
    if ctx.obj is None:
        from workermon import logs
        from workermon.cli import session

        logs.configure("error")  # until the settings are read; standard output is for data
        ctx.obj = session.Session()
    ctx.call_on_close(ctx.obj.close)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> NoReturn:
    """Run the command line of this process."""
    if sys.stdout is None:  # closed by the caller, who wants no output
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    gc.set_threshold(GARBAGE_COLLECTED_EVERY, 10, 10)
    cli.main()
