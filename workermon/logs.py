"""structlog: one short constant name an event, with fields; console on a terminal, else JSON, on standard error."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from workermon import errors


def _printable(_logger: Any, _name: str, event: Any) -> Any:
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = errors.printable(value)
    return event


def configure(level: str = "info", form: str | None = None) -> None:
    """Send our events and the libraries' to standard error at that level; ``form`` is ``console`` or ``json``."""
    form = form or ("console" if sys.stderr.isatty() else "json")
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _printable,
    ]
    render: Any = structlog.dev.ConsoleRenderer() if form == "console" else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Which credentials and endpoint boto3 found is told at "debug", once a client.
    logging.getLogger("botocore").setLevel("DEBUG" if level == "debug" else max(root.level, logging.WARNING))


def get(name: str) -> Any:
    """Return a logger; ``name`` is the module's."""
    return structlog.get_logger(name)
