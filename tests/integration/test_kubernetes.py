"""deploy/kubernetes: kustomize builds it, each pod is hardened, and pods run the commands of docker-compose.yml."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.celery_house import House, opened
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
#: The pods, with the service of the compose file that does the same.
PODS = {"beat": "beat", "collect": "worker", "listener": "listener", "web": "web", "apply": "config"}

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="only a checkout has deploy/kubernetes")


def pods(text: str) -> dict[str, dict[str, Any]]:
    """Return the specification of each pod that YAML documents name, by the name of its deployment or job."""
    documents = [document for document in yaml.safe_load_all(text) if document["kind"] in ("Deployment", "Job")]
    return {document["metadata"]["name"]: document["spec"]["template"]["spec"] for document in documents}


def written() -> dict[str, dict[str, Any]]:
    """Return the pods of the files, without what all have in common."""
    return {name: pods((FOLDER / f"{name}.yaml").read_text("utf-8"))[name] for name in PODS}


@pytest.fixture
def built() -> str:
    """Return the objects that kustomize builds from the folder."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    completed = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr == ""
    return completed.stdout


@pytest.mark.integration
def test_every_pod_can_do_no_more_than_it_needs(built: str) -> None:
    """Built, each pod meets the level 'restricted', writes to /tmp alone, and has a limit and no cluster token."""
    built_pods = pods(built)
    assert set(built_pods) == set(PODS)
    for name, pod in built_pods.items():
        [container] = pod["containers"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }, name  # fmt: skip
        assert container["resources"]["limits"]["memory"], name
        writable = [item["mountPath"] for item in container["volumeMounts"] if not item.get("readOnly")]
        assert writable == ["/tmp"], name


@pytest.mark.integration
def test_everything_is_in_the_namespace_and_no_secret_is_in_the_files(built: str) -> None:
    """Secrets are referenced, never contained. Each pod has only those that it needs."""
    documents = list(yaml.safe_load_all(built))
    assert "Secret" not in {document["kind"] for document in documents}
    assert {document["metadata"].get("namespace") for document in documents if document["kind"] != "Namespace"} == {
        "workermon"
    }
    files: dict[str, list[str]] = {}
    for name, pod in pods(built).items():
        [container] = pod["containers"]
        files[name] = [item["secretRef"]["name"] for item in container.get("envFrom", ())]
        [url] = [item for item in container["env"] if item["name"] == "WORKERMON_REDIS_URL"]
        assert url["valueFrom"] == {"secretKeyRef": {"name": "workermon-redis", "key": "url"}}
    aws = ["workermon-aws"]
    assert files == {"apply": aws, "beat": [], "collect": aws, "listener": ["workermon-channels"], "web": aws}


def test_pods_run_what_compose_runs() -> None:
    """Each pod has the command of its container in the compose file, word for word."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    for name, pod in written().items():
        assert pod["containers"][0]["args"] == compose[PODS[name]]["command"], name


def test_every_file_is_used() -> None:
    """The kustomization names each file of the folder."""
    text = (FOLDER / "kustomization.yaml").read_text("utf-8")
    assert [path.name for path in FOLDER.iterdir() if path.name not in text] == ["kustomization.yaml"]


def test_only_the_page_can_be_reached() -> None:
    """By default no pod accepts connections, and pods may connect to DNS and Redis only.

    Exceptions name existing pods.
    """
    policies = {
        document["metadata"]["name"]: document["spec"]
        for document in yaml.safe_load_all((FOLDER / "network.yaml").read_text("utf-8"))
    }
    every = policies.pop("every")
    assert every["podSelector"] == {}
    assert every["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in every
    assert [name for name, policy in policies.items() if "ingress" in policy] == ["page"]
    for policy in policies.values():
        assert set(re.findall(r"\b(?:beat|collect|listener|web|apply)\b", str(policy["podSelector"]))) <= set(PODS)
    assert policies["page"]["podSelector"] == {"matchLabels": {"workermon": "web"}}


@pytest.fixture
def house(redis_url: str, tmp_path: Path) -> Iterator[House]:
    """Give an installation on a simulated AWS."""
    with opened(tmp_path, redis_url) as opened_house:
        yield opened_house


@pytest.mark.integration
def test_a_node_is_ready_once_it_answers(house: House) -> None:
    """A node's probe, run as written, fails without a node and succeeds beside one."""
    [container] = written()["collect"]["containers"]
    probe = container["readinessProbe"]["exec"]["command"][-1].removeprefix("exec ")
    program, *words = probe.replace('"', "").replace("$HOSTNAME", socket.gethostname()).split()
    words[words.index("--timeout") + 1] = "2"
    assert house.run(program, *words).returncode != 0
    node = house.start(*container["args"])
    eventually(lambda: house.run(program, *words).returncode == 0, within=90, description="the node's answer")
    assert node.stop() == 0
