"""The parameters that several commands share: what they accept, and how they refuse the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from workermon import errors, models, settings

if TYPE_CHECKING:  # generic for type checkers only, in the versions of click that we allow
    TextType = click.ParamType[str]
    NumberType = click.ParamType[int]
else:
    TextType = NumberType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])


class InstanceId(TextType):
    """An EC2 instance id."""

    name = "instance_id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it, or refuse."""
        if not models.INSTANCE_ID.fullmatch(value):
            printable = errors.printable(value)[:64]
            self.fail(f"{printable!r} is not an instance id such as i-0abc123def4567890", param, ctx)
        return str(value)


class Text(TextType):
    """A short text on one line, without control characters."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it, or refuse."""
        printable = errors.printable(value)
        if printable != value:
            self.fail(
                f"{printable[:64]!r} has a control character, such as a newline or an escape sequence", param, ctx
            )
        if not value.strip() or value != value.strip():
            self.fail(f"{printable[:64]!r} is empty or has spaces at an end", param, ctx)
        if len(value) > 256:
            self.fail("is longer than 256 characters", param, ctx)
        return str(value)


class Duration(NumberType):
    """A duration such as 30s, 5m or 24h, as whole seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return seconds, or refuse."""
        try:
            return models.seconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Whole(click.IntRange):
    """A whole number in a range, in the digits 0 to 9: Python would read those of any script."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number, or refuse."""
        if isinstance(value, str) and not value.isascii():
            self.fail(f"{errors.printable(value)[:64]!r} is not a whole number such as 5", param, ctx)
        return int(super().convert(value, param, ctx))


class Pair(Text):
    """``key=value``."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it, or refuse."""
        text = super().convert(value, param, ctx)
        key, equals, pair_value = text.partition("=")
        if not equals or not key.strip() or not pair_value.strip():
            self.fail(f"{text[:64]!r} is not key=value, such as team=vfx", param, ctx)
        return text


class Role(TextType):
    """The ARN of an IAM role."""

    name = "arn"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it, or refuse."""
        from workermon.config import grammar

        if not grammar.ROLE.fullmatch(value):
            printable = errors.printable(value)[:64]
            self.fail(f"{printable!r} is not a role such as arn:aws:iam::123456789012:role/workermon", param, ctx)
        return str(value)


def pairs(texts: tuple[str, ...], option: str) -> dict[str, str]:
    """Return ``key=value`` texts as a mapping; refuse a key that is given twice with two values."""
    return models.pairs(texts, option)


def interval(seconds: int | None, app_settings: settings.Settings) -> int:
    """Return the given interval in seconds, or the default; refuse what is not allowed."""
    return (
        app_settings.interval
        if seconds is None
        else models.allowed_interval(seconds, app_settings.min_interval, "--interval")
    )


def as_json(command: F) -> F:
    """Give a command ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")(command)


#: Workers by instance id or name.
WORKERS = click.argument("names", metavar="WORKER...", nargs=-1, required=True, type=Text())
INTERVAL = click.option("--interval", type=Duration(), metavar="60s", help="Seconds between collections of a worker.")
LABELS = click.option("--label", "labels", type=Pair(), multiple=True, metavar="K=V", help="A label; may be repeated.")


def check_trace_period(period: int | None, trace: object) -> None:
    """Refuse ``--period`` without a trace, and one that no metric has; raises ``errors.InvalidInput``."""
    if period is None:
        return
    if trace is None:
        raise errors.InvalidInput("--period", "is only for a trace", "add --csv, or leave it out")
    if not 1 <= period <= models.DAY:
        raise errors.InvalidInput("--period", f"{period} s is not between 1 s and 24 h", "choose the trace's period")
