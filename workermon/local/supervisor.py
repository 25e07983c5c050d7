"""Runs named children, restarts what dies, and stops all of them together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, NamedTuple

from workermon import errors, logs
from workermon.local import embedded, lifeline

log = logs.get(__name__)

#: Seconds before a child's first restart, and at most; the pause doubles in between.
FIRST_WAIT = 1.0
LONGEST_WAIT = 5.0
#: Seconds that a child has to live before its next death counts as the first again.
SETTLED = 30.0
#: Seconds between two looks at the children.
LOOK = 0.1
#: Seconds after SIGTERM (Celery's warm shutdown) until SIGQUIT (its cold one), and until SIGKILL.
COLD = 4.0
KILL = 6.0


class Child(NamedTuple):
    """A process to keep running: ``argv`` begins with a path; ``env`` is its whole environment."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]


class _Kept:
    """One child over its lives."""

    def __init__(self, name: str, start: Callable[[], int], poll: Callable[[], int | None]) -> None:
        self.name = name
        self.start, self.poll = start, poll
        self.since = 0.0
        self.wait = FIRST_WAIT
        self.due: float | None = None

    def died(self, why: str, now: float) -> None:
        """Plan the next start; the delay grows with each death."""
        if now - self.since >= SETTLED:
            self.wait = FIRST_WAIT
        log.warning("child.died", child=self.name, why=why, restart_in=self.wait)
        self.due = now + self.wait
        self.wait = min(2 * self.wait, LONGEST_WAIT)


class Supervisor:
    """Restarts child processes that end, and the embedded server if there is one.

    All of it has to run in one thread, the main one if possible: children end with the thread that started them.
    ``output`` gets what children print; by default our standard error, for standard output is data.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        server: embedded.Server | None = None,
        output: IO[bytes] | None = None,
    ) -> None:
        #: How often a child, or the server, has died.
        self.deaths = 0
        self._output = output
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._server = server
        self._kept = [self._keep(child) for child in children]
        if server is not None:
            started = _Kept("redis", self._respawn_server, lambda: server.returncode)
            started.since = time.monotonic()
            self._kept.insert(0, started)

    @property
    def pids(self) -> dict[str, int]:
        """Return the process ids of those that run."""
        return {name: process.pid for name, process in self._processes.items() if process.poll() is None}

    def start(self) -> None:
        """Start every child."""
        for child in self._kept:
            if not child.since:
                self._start(child, time.monotonic())

    def poll(self) -> None:
        """Check the children once: note deaths, and restart those that are due."""
        now = time.monotonic()
        for child in self._kept:
            if child.due is None:
                code = child.poll()
                if code is not None:
                    if child.name in self._processes:
                        _send(self._processes[child.name], signal.SIGKILL, group_only=True)  # what it left behind
                    self.deaths += 1
                    child.died(reason(code), now)
            elif now >= child.due:
                self._start(child, now)

    def run(self, until: Callable[[], bool], tick: Callable[[], None] = lambda: None) -> None:
        """Start the children and look after them until the condition holds; the caller stops them."""
        self.start()
        while not until():
            self.poll()
            tick()
            time.sleep(LOOK)

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop all children, then the server; idempotent.

        Each child gets SIGTERM, then SIGQUIT, then SIGKILL with its process group; at once if ``hurry`` returns true.
        """
        began = time.monotonic()
        sent_signals: dict[str, signal.Signals] = {}
        while running := [name for name, process in self._processes.items() if process.poll() is None]:
            after = KILL if hurry() else time.monotonic() - began
            order = signal.SIGTERM if after < COLD else signal.SIGQUIT if after < KILL else signal.SIGKILL
            for name in running:
                if sent_signals.get(name) != order:
                    sent_signals[name] = order
                    _send(self._processes[name], order)
            time.sleep(0.02)
        for process in self._processes.values():
            # What a child may have started itself is in its group.
            _send(process, signal.SIGKILL, group_only=True)
        self._processes.clear()
        if self._server is not None:
            self._server.stop()
        if sent_signals:
            late = sorted(name for name, order in sent_signals.items() if order != signal.SIGTERM)
            log.info("children.stopped", after=round(time.monotonic() - began, 2), forced=late)

    def _keep(self, child: Child) -> _Kept:
        def start() -> int:
            self._processes[child.name] = process = subprocess.Popen(  # noqa: S603 - a list, no shell, of our own
                lifeline.bind(child.argv),
                env=dict(child.env),
                stdin=subprocess.DEVNULL,
                stdout=self._output or sys.stderr.fileno(),
                stderr=self._output or sys.stderr.fileno(),
                start_new_session=True,  # so that Ctrl-C on the terminal comes once, from here
            )
            return process.pid

        return _Kept(child.name, start, lambda: self._processes[child.name].poll())

    def _respawn_server(self) -> int:
        assert self._server is not None
        self._server.respawn()
        return self._server.pid or 0

    def _start(self, child: _Kept, now: float) -> None:
        try:
            pid = child.start()
        except (OSError, errors.RedisUnavailable) as why:
            child.since = now
            child.died(str(why), now)
            return
        log.info("child.started", child=child.name, pid=pid)
        child.since, child.due = now, None


def reason(code: int) -> str:
    """Say how a process ended, by the code that ``subprocess`` gives."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _send(process: subprocess.Popen[bytes], order: signal.Signals, *, group_only: bool = False) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if order == signal.SIGKILL:
            os.killpg(process.pid, order)
        if not group_only:
            process.send_signal(order)


class Interrupted(KeyboardInterrupt):
    """A signal asked to stop.

    Of its own kind, for a plain KeyboardInterrupt that passes through an ``exec`` of text (a dataclass that is being
    made while a module is imported) makes CPython end itself by SIGINT in the end, whoever caught it.
    """


class Signals:
    """The signals of a terminal or service manager: the first stops in order, the second stops at once."""

    def __init__(self) -> None:
        self.count = 0
        self.asked = threading.Event()
        self._interrupting = False

    @property
    def twice(self) -> bool:
        """Return whether it was asked for again."""
        return self.count > 1

    @contextlib.contextmanager
    def handled(self) -> Iterator[Signals]:
        """Handle SIGINT, SIGTERM and SIGHUP meanwhile; only in the main thread."""
        handled_signals = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            handled_signals.append(signal.SIGHUP)  # ignored: it was started with nohup
        before = {handled_signal: signal.signal(handled_signal, self._hear) for handled_signal in handled_signals}
        try:
            yield self
        finally:
            for handled_signal, handler in before.items():
                signal.signal(handled_signal, handler)

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Have a signal raise ``Interrupted`` at once instead of only being noted."""
        if self.asked.is_set():
            raise Interrupted
        self._interrupting = True
        try:
            yield
        finally:
            self._interrupting = False

    def _hear(self, *_: object) -> None:
        self.count += 1
        self.asked.set()
        if self._interrupting:
            raise Interrupted
