"""structlog: one short constant name an event, with fields; console on a terminal, otherwise JSON.

Logs go to standard error, or to the file that Celery's ``--logfile`` names.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from typing import Any

import structlog

from workermon import errors


def _printable(_logger: Any, _name: str, event: Any) -> Any:
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = errors.printable(value)
    return event


#: Libraries whose debug messages show credentials: botocore prints the keys of assumed roles, urllib3 whole URLs. At
#: "info" boto3 only tells which credentials it found.
REVEALING_LOGGERS = ("boto3", "botocore", "s3transfer", "urllib3")

#: Libraries of which only warnings matter, unless a user sets another level.
WARNING_LOGGERS = ("celery", "kombu", "redbeat")


def configure(level: str = "info", form: str | None = None, file: str | None = None) -> None:
    """Send our events and the libraries' to standard error at that level, or to ``file``.

    ``form`` is ``console`` or ``json``; by default ``console`` on a terminal and ``json`` elsewhere. A file is opened
    again after it was moved, as logrotate does. Raises ``OSError`` if it cannot be opened.
    """
    handler: logging.Handler = (
        logging.handlers.WatchedFileHandler(file, encoding="utf-8") if file else logging.StreamHandler(sys.stderr)
    )
    form = form or ("console" if not file and sys.stderr.isatty() else "json")
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _printable,
    ]
    console = structlog.dev.ConsoleRenderer(colors=not file)
    render: Any = console if form == "console" else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    for before in root.handlers:
        if isinstance(before, logging.FileHandler):
            before.close()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in REVEALING_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO if level == "debug" else max(root.level, logging.WARNING))
    for name in WARNING_LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else max(root.level, logging.WARNING))


def get(name: str) -> Any:
    """Return a logger; ``name`` is that of the module."""
    return structlog.get_logger(name)
