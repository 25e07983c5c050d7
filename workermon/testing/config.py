"""Parses config files with the types of channel that come with workermon."""

from __future__ import annotations

from workermon import config
from workermon.notify import channels


def parser() -> config.Parser:
    """Return the parser of config files."""
    return config.Parser(channel_types=channels.CHANNEL_TYPES)


def parse(text: str, source: str = "workermon.toml") -> config.File:
    """Parse and check a config file. Raises ``errors.InvalidInput``."""
    return parser().parse(text, source)
