"""Reads files that a user named."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from workermon import errors

if TYPE_CHECKING:
    from workermon import config


#: Maximum bytes of a file: a config file of 100,000 workers needs a tenth of this. /dev/zero has no end.
MAX_BYTES = 64_000_000


def read(place: str | Path) -> config.File:
    """Read and check a config file, ``-`` is standard input; raises ``errors.InvalidInput`` in one line."""
    return parser().parse(text(place), source(place))


def parser() -> config.Parser:
    """Return the parser of config files; it needs neither Redis nor AWS."""
    from workermon import config
    from workermon.notify import channels

    return config.Parser(channel_types=channels.installed())


def text(place: str | Path, limit: int | None = None) -> str:
    """Read a file that a user named, ``-`` is standard input; raises ``errors.InvalidInput`` in one line.

    ``limit`` is in bytes, by default ``MAX_BYTES``.
    """
    limit = MAX_BYTES if limit is None else limit
    source_name = source(place)
    try:
        if str(place) == "-":
            raw = sys.stdin.buffer.read(limit + 1)
        else:
            with Path(place).open("rb") as file:
                raw = file.read(limit + 1)
        if len(raw) > limit:
            raise errors.InvalidInput(source_name, f"is longer than {limit:,} bytes", "split it")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise errors.InvalidInput(source_name, f"is not UTF-8 text (byte {error.start})", "save it as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is not a path"
        raise errors.InvalidInput(source_name, reason, "name a file that can be read") from None


def source(place: str | Path) -> str:
    """Return a file's name for errors."""
    return "standard input" if str(place) == "-" else str(place)
