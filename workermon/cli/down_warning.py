"""Prints one line on standard error if the monitor does not work, because the output may then be old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workermon import errors
from workermon.cli import output

if TYPE_CHECKING:
    from workermon.cli import session

#: Seconds between two checks of a long-running command.
EVERY = 15


class Watchdog:
    """Warns whenever the pipeline goes down, once each time."""

    def __init__(self, cli_session: session.Session) -> None:
        self._cli_session, self._down, self._looked_at = cli_session, False, float("-inf")

    def look(self) -> None:
        """Check again if the last check was long enough ago."""
        now = self._cli_session.now()
        if 0 <= now - self._looked_at < EVERY:
            return
        self._looked_at = now
        was_down, self._down = self._down, False
        problem = _problem(self._cli_session)
        if problem is not None:
            self._down = True
            if not was_down:
                _warn(problem)


def warn_if_down(cli_session: session.Session) -> None:
    """Warn if the pipeline is down."""
    problem = _problem(cli_session)
    if problem is not None:
        _warn(problem)


def _warn(problem: str) -> None:
    output.warn(f"the pipeline is down, so this may be old: {problem}; see 'workermon status'")


def _problem(cli_session: session.Session) -> str | None:
    from workermon import health

    try:
        return cli_session.get(health.HealthSummaryCheck).summary().fault
    except errors.WorkermonError:  # what the command itself reads says it better, or does not need it
        return None
