"""A real RabbitMQ: Debian's, with a node of its own on free ports and its data in a test's folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.support.free_ports import free_port
from tests.support.waiting import eventually

#: Debian's own start script, without the one around it that changes the user.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
#: Seconds. It takes 7 on a machine of two cores that does nothing else.
START = 90


def why_missing() -> str | None:
    """Return why RabbitMQ is not available here, or ``None``."""
    if not PROGRAM.exists() or shutil.which("epmd") is None:
        return "RabbitMQ is not installed (Debian: apt-get install rabbitmq-server)"
    return None


class Rabbit:
    """A RabbitMQ node with its own user ``watch``. With a ``certificate`` it also offers TLS."""

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        folder.mkdir()
        self.port, names, distribution, self.tls_port = free_port(), free_port(), free_port(), free_port()
        self._certificate = certificate
        tls = (
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\nssl_options.cacertfile = {certificate / 'c.pem'}\n"
            f"ssl_options.certfile = {certificate / 'c.pem'}\nssl_options.keyfile = {certificate / 'key.pem'}\n"
            if certificate is not None
            else ""
        )
        (folder / "plugins").write_text("[].")
        (folder / "rabbit.conf").write_text(f"default_user = watch\ndefault_pass = hush\n{tls}")
        env = {
            **os.environ,
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"watch-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbit"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1 +sbwt none",
        }
        self._names = subprocess.Popen(
            ["epmd", "-port", str(names), "-address", "127.0.0.1"],
            env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._folder, self._env = folder, env
        self._start()

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"amqp://watch:hush@127.0.0.1:{self.port}//"

    @property
    def untrusted_tls_url(self) -> str:
        """Return its URL over TLS without the certificate authority."""
        return f"amqps://watch:hush@localhost:{self.tls_port}//"

    @property
    def tls_url(self) -> str:
        """Return its URL over TLS, with its certificate."""
        assert self._certificate is not None
        return f"{self.untrusted_tls_url}?ssl_ca_certs={self._certificate / 'c.pem'}"

    def restart(self) -> None:
        """End the node, and start it with the same data."""
        self._end()
        self._start()

    def stop(self) -> None:
        """Stop it and its child processes."""
        self._end()
        self._names.kill()
        self._names.wait()

    def _start(self) -> None:
        output = self._folder / "output"
        with output.open("ab") as written:
            self._server = subprocess.Popen(
                [PROGRAM], env=self._env, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=written,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            eventually(self._listens, within=START, description="RabbitMQ listens")
        except BaseException as why:
            self.stop()
            why.add_note(output.read_text("utf-8", "replace")[-3000:])
            raise

    def _end(self) -> None:
        self._server.terminate()
        try:
            self._server.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()

    def _listens(self) -> bool:
        try:
            for port in (self.port, *([self.tls_port] if self._certificate else [])):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True
