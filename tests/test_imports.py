"""The import rules of ``docs/architecture.md``, executed over the source."""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.syntax import statements

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "workermon"

#: What each room may import of ours, beside its own modules: what it needs, within the rules of the house.
ALLOWED: dict[str, set[str]] = {
    "__init__": {"on_celery"},
    "__main__": {"cli"},
    "errors": set(),
    "failpoints": set(),
    "logs": {"errors"},
    "lua": set(),
    "models": {"errors"},
    "settings": {"errors", "models"},
    "ports": {"models"},
    "rules": {"errors", "models"},
    "costs": {"models"},
    "alerts": {"errors", "models", "ports", "rules"},
    "config": {"errors", "models", "rules"},
    "fleet": {"errors", "failpoints", "logs", "models", "ports", "rules", "costs", "alerts", "config"},
    "collect": {"errors", "failpoints", "logs", "models", "ports", "rules", "costs", "config"},
    "evaluate": {"errors", "failpoints", "logs", "models", "ports", "rules", "alerts", "config"},
    "notify": {"errors", "failpoints", "logs", "models", "ports", "rules", "alerts", "config"},
    "views": {"errors", "logs", "models", "ports", "rules", "costs", "alerts", "config"},
    "health": {"errors", "logs", "models", "ports", "rules", "costs", "config"},
    "on_aws": {"errors", "logs", "models", "ports"},
    "on_redis": {"errors", "logs", "lua", "models", "settings", "ports"},
    "on_celery": {"errors", "logs", "lua", "models", "settings"},
    "local": {"errors", "logs", "models", "settings", "ports"},
    "testing": {"errors", "models", "ports", "rules", "config", "collect", "evaluate", "fleet", "notify"},
    "runtime": {"__all__"},
    # The tasks are registered with the Celery application when their module is imported, before there is a container.
    "pipeline": {
        "errors",
        "failpoints",
        "logs",
        "models",
        "settings",
        "ports",
        "fleet",
        "collect",
        "evaluate",
        "notify",
        "health",
        "on_celery",
        "runtime",
    },
    "cli": {
        "errors",
        "logs",
        "models",
        "settings",
        "ports",
        "config",
        "fleet",
        "collect",
        "evaluate",
        "notify",
        "views",
        "health",
        "runtime",
    },
    "web": {
        "errors",
        "logs",
        "models",
        "settings",
        "ports",
        "views",
        "fleet",
        "health",
        "collect",
        "config",
        "evaluate",
        "notify",
    },
    "celeryconfig": {"settings"},
}

#: Edges beyond the rules. 'up' and 'demo' run processes of this machine, which no container makes; 'web' serves.
REMAINING: set[tuple[str, str]] = {
    ("cli.run", "local"),
    ("cli.web", "web"),
}

#: Which technology may be imported where.
TECHNOLOGY = {
    "celery": ("on_celery", "pipeline"),
    "kombu": ("on_celery", "celeryconfig"),
    "redbeat": ("on_celery",),
    "redis": ("on_redis", "local", "lua"),
    "boto3": ("on_aws",),
    "botocore": ("on_aws",),
    "dishka": ("runtime", "on_celery", "pipeline", "web"),
    "fastapi": ("web",),
    "starlette": ("web",),
    "uvicorn": ("web",),
    "jinja2": ("web",),
    "prometheus_client": ("web",),
    "click": ("cli",),
    "urllib3": (
        "on_aws",
        "notify",
    ),
    "smtplib": ("notify",),
    "cronsim": ("models",),
    "apprise": ("notify",),
    "rich": ("cli",),
}


def modules() -> list[tuple[str, Path]]:
    """Return every module's name below the package (``on_redis.keys``) with its file."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        names.append((name, path))
    return [*names, ("celeryconfig", ROOT / "celeryconfig.py")]


@functools.cache
def import_statements(path: Path) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """Return the import statements of a file, whether at its top or within a function."""
    text = path.read_text("utf-8")
    return tuple(node for node in statements(text) if isinstance(node, ast.Import | ast.ImportFrom))


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """Return the dotted names that a file imports."""
    names: set[str] = set()
    for node in import_statements(path):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        else:
            assert not node.level, f"{path}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


@functools.cache
def edges() -> set[tuple[str, str, str]]:
    """Return each import of one package by another: importer, imported, and the importing module."""
    targets = set()
    for name, path in modules():
        room = name.split(".")[0]
        for target in imported(path):
            head, _, submodule = target.partition(".")
            first = submodule.split(".")[0]
            if head == "workermon" and first not in {"", "__version__", room}:
                targets.add((room, first, name))
    return targets


def test_a_room_imports_only_what_its_rule_allows() -> None:
    """A module imports only what the rule of its package allows. Exceptions are listed."""
    forbidden = {
        (name, first) for room, first, name in edges() if ALLOWED[room] != {"__all__"} and first not in ALLOWED[room]
    }
    assert forbidden == REMAINING


def test_no_permission_is_unused() -> None:
    """An unused permission is an error: a stage that does not need ``costs`` may not import it."""
    used = {(room, first) for room, first, _ in edges()}
    permitted = {(room, first) for room, rooms in ALLOWED.items() for first in rooms if first != "__all__"}
    assert permitted - used == set()


#: The eight rules of the house; a room may import of ours what it needs, and nothing that its rule forbids.
STAGES = {"fleet", "collect", "evaluate", "notify"}
PURE = {"errors", "failpoints", "logs", "models", "ports", "rules", "costs", "alerts", "config"}
ADAPTERS = {"ports", "models", "errors", "settings", "logs", "lua"}
RULES: dict[str, set[str]] = {
    "errors": set(),
    "failpoints": set(),
    "lua": set(),
    "logs": {"errors"},
    "models": {"errors"},
    "settings": {"errors", "models"},
    "ports": {"models"},
    "rules": {"models", "errors"},
    "costs": {"models", "errors"},
    "alerts": {"rules", "ports", "models", "errors"},
    "config": {"rules", "models", "errors"},
    **dict.fromkeys(("views", "health", *STAGES), PURE),
    **dict.fromkeys(("on_aws", "on_redis", "on_celery", "local"), ADAPTERS),
}


def test_what_is_allowed_keeps_to_the_rules_of_the_house() -> None:
    """No permission breaks a rule: stages never import one another, views and health no stage."""
    assert {room: ALLOWED[room] - rule for room, rule in RULES.items() if ALLOWED[room] - rule} == {}


def test_the_composition_root_imports_no_shell() -> None:
    """The composition root imports neither tasks nor commands."""
    assert not {first for room, first, _ in edges() if room == "runtime"} & {"pipeline", "cli", "web"}


def test_no_test_module_imports_another() -> None:
    """Shared test code is in ``tests/support`` or ``workermon.testing``, so that no module is loaded twice."""
    imports = set()
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for target in imported(path):
            parts = target.split(".")
            shared = next((part for part in parts if part == "conftest" or part.startswith("test_")), None)
            if parts[0] == "tests" and shared and path.stem != shared:
                imports.add(f"{path.stem}: {shared}")
    assert imports == set()


def test_a_technology_stays_in_its_room() -> None:
    """A foreign library is imported in its own package only."""
    strayed = set()
    for name, path in modules():
        for target in imported(path):
            places = TECHNOLOGY.get(target.partition(".")[0])
            if places and not any(name == place or name.startswith(f"{place}.") for place in places):
                strayed.add((name, target))
    assert strayed == set()


@pytest.mark.integration
def test_importing_opens_no_connection() -> None:
    """Importing a module opens no socket and reads no network."""
    names = [name for name, _ in modules() if name not in {"__init__", "__main__", "celeryconfig"}]
    program = (
        "import importlib, socket, sys\n"
        "def refuse(*a, **k): raise SystemExit('a connection was opened')\n"
        "socket.socket.connect = refuse\n"
        "socket.create_connection = refuse\n"
        "for name in sys.argv[1:]:\n"
        "    print(name, flush=True)\n"
        "    importlib.import_module(f'workermon.{name}')\n"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program, *names],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "WORKERMON_REDIS_URL": "redis://127.0.0.1:1/1"},
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert completed.stdout.split() == names


def test_a_module_of_ours_has_one_name() -> None:
    """No module imports another of this project under an alias, so each has one name everywhere."""
    aliases = []
    for name, path in modules():
        for node in import_statements(path):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            aliases += [
                f"{name}: {alias.name} as {alias.asname}"
                for alias in node.names
                if alias.asname not in (None, alias.name)
                and (module.startswith("workermon") or alias.name.startswith("workermon"))
                and not (name == "celeryconfig" and alias.asname.startswith("_"))
            ]
    assert aliases == []
