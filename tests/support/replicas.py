"""Two servers, one the replica of the other, and a name that resolves to the primary."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import redis

from tests.support.waiting import eventually
from workermon.local import embedded


class Address:
    """A DNS name. New connections go to its present server, open ones stay."""

    def __init__(self, server: embedded.Server) -> None:
        self.server = server
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listening]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database: int) -> str:
        """Return the URL of a database by this name."""
        parts = urlsplit(self.server.url)
        return f"redis://:{parts.password}@127.0.0.1:{self._listening.getsockname()[1]}/{database}"

    def close(self) -> None:
        """Break every connection."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listening.accept()
                real = socket.create_connection(("127.0.0.1", urlsplit(self.server.url).port or 0))
                self._open += [accepted, real]
                for source, target in ((accepted, real), (real, accepted)):
                    threading.Thread(target=_pass, args=(source, target), daemon=True).start()


def _pass(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Pair:
    """Two servers with one password, the second a replica of the first, and the primary's address."""

    def __init__(self, folder: Path) -> None:
        self.servers = [embedded.Server(folder / name, persistent=False, tcp=True) for name in ("one", "two")]
        for server in self.servers:
            server.start()
        self.first, self.second = (redis.Redis.from_url(server.url) for server in self.servers)
        password = urlsplit(self.servers[0].url).password or ""
        self.second.config_set("requirepass", password)
        self.second = redis.Redis(port=urlsplit(self.servers[1].url).port or 0, password=password, db=1)
        for connected in (self.first, self.second):
            connected.config_set("masterauth", password)
        # The embedded server made a password of its own before it was given the other's.
        self.servers[1]._password = password
        self._follow(self.second, self.servers[0])
        eventually(lambda: self.second.info("replication")["master_link_status"] == "up", description="replication")
        self.address = Address(self.servers[0])

    def fail_over(self) -> None:
        """Promote the replica, make the old primary its replica, and point the name to the new one."""
        self.second.replicaof("NO", "ONE")
        self._follow(self.first, self.servers[1])
        self.address.server = self.servers[1]
        eventually(
            lambda: self.first.info("replication")["role"] == "slave", description="the old primary is a replica"
        )

    def stop(self) -> None:
        """End both."""
        self.address.close()
        for server in self.servers:
            server.stop()

    @staticmethod
    def _follow(follower: redis.Redis, server: embedded.Server) -> None:
        follower.replicaof("127.0.0.1", str(urlsplit(server.url).port))
