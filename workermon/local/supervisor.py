"""Runs named children, restarts what dies, and stops all of them together."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, NamedTuple

from workermon import errors, logs
from workermon.local import embedded, lifeline

log = logs.get(__name__)

#: Seconds before a child's first restart, and the maximum. The pause doubles in between.
FIRST_WAIT = 1.0
MAX_WAIT = 5.0
#: If a child has lived for so many seconds, its next death counts as the first again.
STABLE_AFTER = 30.0
#: Seconds between two checks of the children; a death or a signal brings the next one forward.
CHECK_INTERVAL = 1.0
#: Seconds from SIGTERM (Celery's warm shutdown) to SIGQUIT (its cold one), and to SIGKILL.
QUIT_AFTER = 4.0
KILL_AFTER = 6.0


class Child(NamedTuple):
    """A process to keep running. ``argv`` starts with a path; ``env`` is its whole environment."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]


class _SupervisedChild:
    """One child, across its restarts."""

    def __init__(self, name: str, start: Callable[[], int], poll: Callable[[], int | None]) -> None:
        self.name = name
        self.start, self.poll = start, poll
        self.since = 0.0
        self.wait = FIRST_WAIT
        self.due: float | None = None

    def died(self, cause: str, now: float) -> None:
        """Plan the next start; the delay grows with each death."""
        if now - self.since >= STABLE_AFTER:
            self.wait = FIRST_WAIT
        log.warning("child.died", child=self.name, reason=cause, restart_in=self.wait)
        self.due = now + self.wait
        self.wait = min(2 * self.wait, MAX_WAIT)


class Supervisor:
    """Restarts child processes that end, and the embedded server if there is one.

    Use it from one thread only, if possible the main one: children end with the thread that started them.
    ``output`` receives what children print. By default that is our standard error, because standard output is for data.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        server: embedded.Server | None = None,
        output: IO[bytes] | None = None,
    ) -> None:
        #: How often each child, or the server, has died.
        self.deaths = 0
        self._output = output
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._server = server
        self._supervised = [self._keep(child) for child in children]
        if server is not None:
            started = _SupervisedChild("redis", self._respawn_server, lambda: server.returncode)
            started.since = time.monotonic()
            self._supervised.insert(0, started)

    @property
    def pids(self) -> dict[str, int]:
        """Return the process ids of the running children."""
        return {name: process.pid for name, process in self._processes.items() if process.poll() is None}

    def add(self, *children: Child) -> None:
        """Start more children, and look after them too."""
        self._supervised += [self._keep(child) for child in children]
        self.start()

    def start(self) -> None:
        """Start every child that has never been started."""
        for child in self._supervised:
            if not child.since:
                self._start(child, time.monotonic())

    def poll(self) -> None:
        """Check the children once: record deaths, and restart those that are due."""
        now = time.monotonic()
        for child in self._supervised:
            if child.due is None:
                code = child.poll()
                if code is not None:
                    if child.name in self._processes:
                        _send(self._processes[child.name], signal.SIGKILL, group_only=True)  # its orphans
                    self.deaths += 1
                    child.died(reason(code), now)
            elif now >= child.due:
                self._start(child, now)

    def run(
        self, until: Callable[[], bool], tick: Callable[[], None] = lambda: None, *, interval: float = CHECK_INTERVAL
    ) -> None:
        """Start the children and supervise them until the condition is true. The caller stops them.

        ``until`` and ``tick`` are called every ``interval`` seconds, and after a signal.
        """
        self.start()
        with _waiting() as wait:
            while not until():
                self.poll()
                tick()
                now = time.monotonic()
                wait(
                    max(0.0, min([interval, *(child.due - now for child in self._supervised if child.due is not None)]))
                )

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop all children, then the server. Idempotent.

        Each child gets SIGTERM, then SIGQUIT, then SIGKILL with its process group; at once if ``hurry`` returns true.
        """
        began = time.monotonic()
        sent_signals: dict[str, signal.Signals] = {}
        while running := [name for name, process in self._processes.items() if process.poll() is None]:
            after = KILL_AFTER if hurry() else time.monotonic() - began
            order = signal.SIGTERM if after < QUIT_AFTER else signal.SIGQUIT if after < KILL_AFTER else signal.SIGKILL
            for name in running:
                if sent_signals.get(name) != order:
                    sent_signals[name] = order
                    _send(self._processes[name], order)
            time.sleep(0.02)
        for process in self._processes.values():
            # Processes that a child has started itself are in its group.
            _send(process, signal.SIGKILL, group_only=True)
        self._processes.clear()
        if self._server is not None:
            self._server.stop()
        if sent_signals:
            late = sorted(name for name, order in sent_signals.items() if order != signal.SIGTERM)
            log.info("children.stopped", after=round(time.monotonic() - began, 2), forced=late)

    def _keep(self, child: Child) -> _SupervisedChild:
        def start() -> int:
            self._processes[child.name] = process = subprocess.Popen(  # noqa: S603 - a list, no shell, all ours
                lifeline.bind(child.argv),
                env=dict(child.env),
                stdin=subprocess.DEVNULL,
                stdout=self._output or sys.stderr.fileno(),
                stderr=self._output or sys.stderr.fileno(),
                start_new_session=True,  # so that Ctrl-C on the terminal arrives once, from here
            )
            return process.pid

        return _SupervisedChild(child.name, start, lambda: self._processes[child.name].poll())

    def _respawn_server(self) -> int:
        assert self._server is not None
        self._server.respawn()
        return self._server.pid or 0

    def _start(self, child: _SupervisedChild, now: float) -> None:
        try:
            pid = child.start()
        except (OSError, errors.RedisUnavailable) as error:
            child.since = now
            child.died(str(error), now)
            return
        log.info("child.started", child=child.name, pid=pid)
        child.since, child.due = now, None


@contextlib.contextmanager
def _waiting() -> Iterator[Callable[[float], None]]:
    """Give a function that waits for some seconds. A signal ends the wait early, as does a child's death.

    Only the main thread has signals. Any other one waits in full.
    """
    if threading.current_thread() is not threading.main_thread():
        yield time.sleep
        return
    with contextlib.ExitStack() as stack:
        woken, waking = (stack.enter_context(end) for end in socket.socketpair())
        woken.setblocking(False)
        waking.setblocking(False)
        # A child's death is a signal too, but Python notes it only if there is a handler.
        before = signal.signal(signal.SIGCHLD, lambda *_: None)
        stack.callback(signal.signal, signal.SIGCHLD, before or signal.SIG_DFL)
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False))

        def wait(seconds: float) -> None:
            if select.select([woken], [], [], seconds)[0]:
                woken.recv(4096)

        yield wait


def reason(code: int) -> str:
    """Describe how a process ended, from the code that ``subprocess`` returns."""
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
    """A signal requested a stop.

    It has a class of its own. If a plain KeyboardInterrupt passes through an ``exec`` of text (as when a dataclass is
    created during an import), CPython ends itself by SIGINT in the end, even if the exception was caught.
    """


class Signals:
    """The signals of a terminal or service manager: the first one stops in order, the second one at once."""

    def __init__(self) -> None:
        self.count = 0
        self.stop_requested = threading.Event()
        self._interrupting = False

    @property
    def is_repeated(self) -> bool:
        """Return whether a second signal arrived."""
        return self.count > 1

    @contextlib.contextmanager
    def handled(self) -> Iterator[Signals]:
        """Handle SIGINT, SIGTERM and SIGHUP in this block. Only in the main thread."""
        handled_signals = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            handled_signals.append(signal.SIGHUP)  # unless ignored, as under nohup
        before = {handled_signal: signal.signal(handled_signal, self._on_signal) for handled_signal in handled_signals}
        try:
            yield self
        finally:
            for handled_signal, handler in before.items():
                signal.signal(handled_signal, handler)

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Make a signal raise ``Interrupted`` at once instead of only recording it."""
        if self.stop_requested.is_set():
            raise Interrupted
        self._interrupting = True
        try:
            yield
        finally:
            self._interrupting = False

    def _on_signal(self, *_: object) -> None:
        self.count += 1
        self.stop_requested.set()
        if self._interrupting:
            raise Interrupted
