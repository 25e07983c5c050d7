"""An AWS of the test's own for boto3 to find."""

from __future__ import annotations

import os

import pytest


def use_aws(monkeypatch: pytest.MonkeyPatch, url: str, **more: str) -> None:
    """Have boto3's chain find an endpoint with made-up credentials, and nothing of this machine's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
        **more,
    }.items():
        monkeypatch.setenv(name, value)
