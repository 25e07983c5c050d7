"""deploy/aws: the role allows what the code calls and nothing more, in CloudFormation and in Terraform."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from tests.support import cloudformation

ROOT = Path(__file__).parent.parent
TEMPLATE = ROOT / "deploy" / "aws" / "role.yaml"
TERRAFORM = ROOT / "deploy" / "aws" / "terraform"

pytestmark = pytest.mark.skipif(not TEMPLATE.exists(), reason="only a checkout has deploy/aws")


def needs(*command: str) -> None:
    """Skip the test unless a program is there and can be run."""
    if shutil.which(command[0]) is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip(f"needs {command[0]}")


def policies() -> dict[str, list[dict[str, Any]]]:
    """Return the statements of each policy in the template, by the policy's name."""
    template = cloudformation.resources(TEMPLATE.read_text("utf-8"))
    properties = [
        resource["Properties"] for resource in template.values() if resource["Type"] == "AWS::IAM::RolePolicy"
    ]
    return {policy["PolicyName"]: policy["PolicyDocument"]["Statement"] for policy in properties}


def allowed(statements: list[dict[str, Any]]) -> set[str]:
    """Return the actions that statements allow."""
    assert all(statement["Effect"] == "Allow" for statement in statements)
    actions = [statement["Action"] for statement in statements]
    return {name for action in actions for name in ([action] if isinstance(action, str) else action)}


def operations_called() -> Iterator[str]:
    """Give the name of each method and paginator that ``on_aws`` calls, and of each class that it makes."""
    for path in sorted((ROOT / "workermon" / "on_aws").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield node.func.attr
                if node.func.attr == "get_paginator":
                    [argument] = node.args
                    assert isinstance(argument, ast.Constant)
                    yield str(argument.value)


def needed() -> set[str]:
    """Return the IAM action of each operation of AWS that ``on_aws`` calls."""
    session = botocore.session.get_session()
    names = {
        xform_name(operation): f"{service}:{operation}"
        for service in ("ec2", "cloudwatch", "sns", "sqs", "events")
        for operation in session.get_service_model(service).operation_names
    } | {"AssumeRoleCredentialFetcher": "sts:AssumeRole", "delete_message_batch": "sqs:DeleteMessage"}
    return {names[name] for name in operations_called() if name in names}


def test_the_role_allows_what_the_code_calls_and_nothing_more() -> None:
    """The template's actions are those of the operations that ``on_aws`` calls."""
    assert set().union(*map(allowed, policies().values())) == needed()


def test_the_readme_shows_the_same_policy() -> None:
    """The always allowed actions equal the README's policy. Roles and topics are allowed by name only."""
    [policy_text] = re.findall(r"```json\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    statements = policies()
    assert allowed(statements["read"]) == allowed(json.loads(policy_text)["Statement"])
    assert {statement["Resource"] for name in ("assume", "publish", "queues") for statement in statements[name]} == {
        "RolesToAssume", "Topics", "Queues",
    }  # fmt: skip


def test_terraform_allows_the_same() -> None:
    """Terraform's policy has the same actions, limited in the same way."""
    [text] = re.findall(r'"permissions" \{\n(.*?)^\}', (TERRAFORM / "main.tf").read_text("utf-8"), re.DOTALL | re.M)
    rules = re.findall(r"actions\s*=\s*\[(.*?)\]\s*resources\s*=\s*(\S+)", text, re.DOTALL)
    allowed_actions = {resources: set(re.findall(r'"([^"]+)"', actions)) for actions, resources in rules}
    by_name = policies()
    assert allowed_actions == {
        '["*"]': allowed(by_name["read"]),
        "var.roles_to_assume": allowed(by_name["assume"]),
        "var.topics": allowed(by_name["publish"]),
        "var.queues": allowed(by_name["queues"]),
        "local.event_buses": allowed(by_name["events"]),
    }


@pytest.mark.parametrize("path", [TEMPLATE, TERRAFORM / "main.tf"], ids=lambda path: path.name)
def test_another_account_needs_an_external_id(path: Path) -> None:
    """A role that another account may assume requires the external id (confused deputy)."""
    text = path.read_text("utf-8")
    assert "sts:ExternalId" in text
    assert re.search(r"Set (ExternalId|external_id) too", text)


@pytest.mark.integration
@pytest.mark.parametrize("path", [TEMPLATE, ROOT / "workermon" / "on_aws" / "events.yaml"], ids=lambda path: path.name)
def test_the_template_passes_cfn_lint(path: Path) -> None:
    """cfn-lint finds neither a fault nor anything to warn of."""
    needs("cfn-lint", "--version")
    checked = subprocess.run(["cfn-lint", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.integration
def test_terraform_can_read_its_file() -> None:
    """The file is valid HCL in Terraform's format. The provider is not used, because it would be downloaded."""
    needs("terraform", "version")
    command = ["terraform", "fmt", "-check", "-diff", str(TERRAFORM)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
