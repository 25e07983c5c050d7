"""The simulated AWS of a running demo, for the other commands: its workers exist nowhere else."""

from __future__ import annotations

import json
import os
from pathlib import Path

#: The prefixes of the variables that boto3 reads.
PREFIXES = ("AWS_", "BOTO_")


def adopt(address_file: Path) -> None:
    """Have boto3 in this process use the AWS of a demo, if the server at ``address_file`` is a demo's.

    Nothing of the user's AWS configuration is left, as in the demo itself.
    """
    try:
        variables = json.loads(address_file.read_text("utf-8"))["aws"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if not variables:
        return
    for name in [name for name in os.environ if name.upper().startswith(PREFIXES)]:
        del os.environ[name]
    os.environ.update(variables)
