"""The table of ``docs/architecture.md`` (who may import what), executed over the source."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "workermon"

PURE = {
    "failpoints",
    "errors",
    "models",
    "metrics",
    "ports",
    "config",
    "grammar",
    "thresholds",
    "windows",
    "silences",
    "flapping",
    "scheduled",
    "states",
    "bill",
    "bulkhead",
    "notifications",
    "verdicts",
    "collector",
    "canary",
}
PORTS = {"errors", "models", "metrics", "ports"}

#: What each module may import of ours, beside ``logs`` and its own folder.
ALLOWED: dict[str, set[str]] = {
    "__init__": {"on_celery.app"},
    "__main__": {"cli"},
    "errors": set(),
    "logs": {"errors"},
    "failpoints": set(),
    "models": {"errors"},
    "settings": {"errors", "models"},
    "metrics": {"models", "errors"},
    "ports": {"models", "errors"},
    "thresholds": {"models", "errors", "metrics", "flapping"},
    "flapping": {"models"},
    "windows": {"models", "errors", "metrics"},
    "silences": {"models", "errors"},
    "bill": {"models", "errors", "metrics"},
    "bulkhead": set(),
    "notifications": {"models", "errors", "metrics", "ports", "config", "flapping"},
    "verdicts": {"models", "ports", "notifications", "silences", "flapping", "scheduled"},
    "collector": {"models", "errors", "ports", "silences", "notifications"},
    "canary": {"models", "ports"},
    "positions": set(),
    "dimensions": {"models", "errors", "ports"},
    "scheduled": {"models", "errors"},
    "states": {"models", "errors"},
    "mistakes": {"errors", "positions"},
    "grammar": {"models", "errors", "metrics", "mistakes"},
    "channels": {"models", "errors", "grammar", "mistakes"},
    "config": {"models", "errors", "metrics", "grammar", "channels", "mistakes", "silences", "scheduled", "states"},
    **dict.fromkeys(
        (
            "fleet",
            "evaluate",
            "notify",
            "explain",
            "health",
            "report",
            "watch",
            "testing",
            "backtest",
            "export",
            "doctor",
            "heartbeat",
            "muting",
        ),
        PURE,
    ),
    **dict.fromkeys(("on_redis", "on_aws", "local"), PORTS | {"settings"}),
    "collect": PURE | {"dimensions"},
    "on_celery.schedule": {"errors", "models", "settings"},
    "on_celery.scheduler": {"errors", "models", "settings"},
    "on_celery.bell": {"errors", "models", "ports", "settings"},
    "on_celery.nodes": {"errors", "models", "ports", "settings"},
    "on_celery.app": {"errors", "settings"},
    "on_celery.broker": set(),
    "on_celery.messages": {"errors"},
    "on_celery.tasks": {"runtime", "settings", "collect", "evaluate", "notify", "fleet"} | PURE,
    "on_celery.listener": {"runtime", "settings", "heartbeat", "muting"} | PURE,
    "on_celery": set(),
    "cli": {
        "runtime",
        "fleet",
        "report",
        "watch",
        "explain",
        "backtest",
        "export",
        "silences",
        "health",
        "doctor",
        "config",
        "grammar",
        "local",
        "models",
        "errors",
        "settings",
    }
    | {"metrics", "ports"},
    "celeryconfig": {"settings"},
}

#: Which technology may be imported where.
TECHNOLOGY = {
    "celery": ("on_celery",),
    "kombu": ("on_celery", "celeryconfig"),
    "redbeat": ("on_celery",),
    "redis": ("on_redis", "local"),
    "boto3": ("on_aws",),
    "botocore": ("on_aws",),
    "dishka": ("runtime", "on_celery"),
    "click": ("cli",),
    "urllib3": ("notify",),
    "smtplib": ("notify",),
    "cronsim": ("silences",),
    "apprise": ("notify",),
    "rich": ("cli", "local", "watch"),
}


def modules() -> list[tuple[str, Path]]:
    """Return every module's name below the package (``on_redis.keys``) with its file."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found.append((name, path))
    return [*found, ("celeryconfig", ROOT / "celeryconfig.py")]


def imported(path: Path) -> set[str]:
    """Return the dotted names that a file imports, whether at its top or within a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def rule_of(name: str) -> set[str] | None:
    """Return what a module may import: its own entry, or that of the nearest folder that has one."""
    while name not in ALLOWED and "." in name:
        name = name.rpartition(".")[0]
    return ALLOWED.get(name)


@pytest.mark.parametrize(("name", "path"), modules(), ids=[name for name, _ in modules()])
def test_a_module_imports_only_what_the_table_allows(name: str, path: Path) -> None:
    """A module imports only what the table allows, and only its own technology."""
    may = rule_of(name)
    if name == "runtime":
        may = None
    else:
        assert may is not None, f"{name} stands in no row of the table"
    folder = name.split(".")[0]
    for target in imported(path):
        head, _, rest = target.partition(".")
        if head == "workermon" and may is not None:
            first = rest.split(".")[0]
            if (
                not first
                or first in {"logs", "__version__"}
                or (first == folder and folder in {"cli", "local", "notify"})
            ):
                continue
            if first == folder and folder in {"on_redis", "on_aws", "on_celery"}:
                continue
            assert first in may or any(rest == allowed or rest.startswith(f"{allowed}.") for allowed in may), (
                f"{name} imports {target}"
            )
        elif head == "workermon":
            assert rest.split(".")[0] != "cli", f"{name} imports {target}"
            assert not rest.startswith("on_celery.tasks"), f"{name} imports {target}"
        elif head in TECHNOLOGY:
            assert any(name == place or name.startswith(f"{place}.") for place in TECHNOLOGY[head]), (
                f"{name} imports {target}"
            )


def test_every_row_of_the_table_is_used() -> None:
    """A row of the table stands for a module that exists, or for one that the design names for later."""
    later = {"silences", "explain", "bill"}
    names = {name for name, _ in modules()}
    assert set(ALLOWED) - later <= names


@pytest.mark.parametrize(
    "module", [name for name, _ in modules() if name not in {"__init__", "__main__", "celeryconfig"}]
)
def test_importing_opens_no_connection(module: str) -> None:
    """Importing a module opens no socket and reads no network."""
    program = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise SystemExit('a connection was opened')\n"
        "socket.socket.connect = refuse\n"
        "socket.create_connection = refuse\n"
        f"import workermon.{module}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "WORKERMON_REDIS_URL": "redis://127.0.0.1:1/1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
