"""An AWS of the test's own for boto3 to find."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def forget_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take everything of this machine's from boto3's chain."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


def made_up_credentials(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have boto3's chain find made-up credentials and files of an empty folder, and nothing of this machine's."""
    forget_aws(monkeypatch)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "made-up-and-secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
    }.items():
        monkeypatch.setenv(name, value)


def use_aws(monkeypatch: pytest.MonkeyPatch, url: str, **more: str) -> None:
    """Have boto3's chain find an endpoint with made-up credentials, and nothing of this machine's."""
    forget_aws(monkeypatch)
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
        **more,
    }.items():
        monkeypatch.setenv(name, value)
