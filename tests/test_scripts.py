"""The Lua scripts: Python's declarations match the files, and the linter finds no error."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis

from tests.support import lua_lint
from workermon import lua, on_celery, on_redis, settings
from workermon.on_celery import app, schedule, scheduler
from workermon.on_redis import (
    alerts,
    canary,
    client,
    costs,
    keys,
    leases,
    limiter,
    liveness,
    outbox,
    setup,
    throttle,
    workers,
)

PACKAGE = Path(lua.__file__).parent

#: ``local name = KEYS[1]``, and what begins at a place: ``local hours_at = 3 -- KEYS[hours_at], …``.
NAMED = re.compile(r"^local (\w+)\s*= (?:tonumber\()?(KEYS|ARGV)\[(\d+)\]")
LISTED = re.compile(r"^local (\w+)_at\s*= (\d+)\s+-- (KEYS|ARGV)\[\1_at\]")


def declared() -> list[type[lua.Script[Any]]]:
    """Return every script that a module declares."""
    assert [
        app,
        schedule,
        scheduler,
        alerts,
        canary,
        costs,
        leases,
        limiter,
        outbox,
        liveness,
        setup,
        throttle,
        workers,
    ]
    return [script for script in lua.DECLARED if script.__module__.startswith("workermon.")]


def head(text: str) -> dict[str, list[str]]:
    """Return the names of the keys and arguments by their index in the table at a script's start.

    A name with a star begins at its index and is the last.
    """
    by_place: dict[str, dict[int, str]] = {"KEYS": {}, "ARGV": {}}
    for line in text.splitlines():
        if match := NAMED.match(line):
            assert int(match[3]) not in by_place[match[2]], line
            by_place[match[2]][int(match[3])] = match[1]
        elif list_match := LISTED.match(line):
            by_place[list_match[3]][int(list_match[2])] = f"*{list_match[1]}"
        elif line and not line.lstrip().startswith("--"):
            break
    for places in by_place.values():
        assert sorted(places) == list(range(1, len(places) + 1))
    return {table: [places[place] for place in sorted(places)] for table, places in by_place.items()}


@pytest.mark.parametrize("script", declared(), ids=lambda script: script.__name__)
def test_a_script_begins_with_the_names_of_its_declaration(script: type[lua.Script[Any]]) -> None:
    """Its first locals are the declared keys and arguments, by the same names in the same order."""
    assert head(script.path.read_text("utf-8")) == {
        "KEYS": [*script.key_names, *([f"*{script.key_list}"] if script.key_list else [])],
        "ARGV": [*script.argument_names, *([f"*{script.argument_list}"] if script.argument_list else [])],
    }


@pytest.mark.parametrize("script", declared(), ids=lambda script: script.__name__)
def test_a_script_reads_keys_and_arguments_by_name_only(script: type[lua.Script[Any]]) -> None:
    """After its first locals no script uses a key or an argument by number."""
    for line in script.path.read_text("utf-8").splitlines():
        if re.search(r"(KEYS|ARGV)\[\d", line):
            assert NAMED.match(line), line


@pytest.mark.parametrize("script", declared(), ids=lambda script: script.__name__)
def test_a_script_says_what_it_does(script: type[lua.Script[Any]]) -> None:
    """The file begins with its contract, and the declaration has it in short."""
    assert script.path.read_text("utf-8").startswith("-- ")
    assert script.__doc__


def test_every_file_is_declared_once() -> None:
    """Each file is declared once."""
    files = sorted(path for path in PACKAGE.rglob("*.lua") if path.parent.name == "scripts")
    used = [script.path for script in declared()]
    assert sorted(used) == files


def test_every_shared_file_is_used() -> None:
    """Each shared function is used by a script."""
    for path in PACKAGE.rglob("shared/*.lua"):
        text = path.read_text("utf-8")
        assert any(script.text.startswith(text) for script in declared()), path


def strings(path: Path) -> list[ast.Constant]:
    """Return the strings of a module that are no docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    ]


def python_files(pattern: str) -> dict[str, Path]:
    """Return the modules whose text matches, by their paths in the package. Most need not be parsed."""
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
    assert len(paths) > 300
    return {name: path for name, path in paths.items() if re.search(pattern, path.read_text("utf-8"))}


def test_no_python_file_holds_lua() -> None:
    """Lua code is in Lua files only."""
    lua_in_python = re.compile(r"redis\.p?call|KEYS\[1\]|ARGV\[1\]")
    assert [
        f"{name}:{node.lineno}"
        for name, path in python_files(lua_in_python.pattern).items()
        for node in strings(path)
        if lua_in_python.search(str(node.value))
    ] == []


#: Modules that name keys, and what elsewhere looks like one: the channel's default in memory, a tag of EC2.
NAMES_KEYS = {"settings/__init__.py", "on_redis/keys.py"}
NO_KEYS = {"workermon:metrics", "workermon:doctor"}


def test_no_other_module_names_a_key() -> None:
    """A key is named in on_redis/keys.py, or in settings if Celery's part of workermon needs it."""
    assert [
        f"{name}:{node.lineno}"
        for name, path in python_files("workermon:|redbeat:").items()
        if name not in NAMES_KEYS
        for node in strings(path)
        if re.match(r"workermon:[a-z{]|redbeat:", str(node.value)) and node.value not in NO_KEYS
    ] == []


def test_no_script_names_a_key() -> None:
    """A script gets its keys and their prefixes from the caller."""
    for path in PACKAGE.rglob("*.lua"):
        assert "workermon:" not in path.read_text("utf-8"), path


@pytest.mark.parametrize(
    ("key", "kinds"),
    [
        (keys.worker("i-0aaaaaaa"), {"hash"}),
        (keys.QUEUE + keys.queue("i-0aaaaaaa/cpu", "a/b"), {"list"}),
        (keys.ledger("i-0aaaaaaa", 3600), {"hash"}),
        (f"{settings.REDBEAT_PREFIX}:schedule", {"hash", "zset"}),
        ("workermon:nothing", set()),
        ("celery", set()),
    ],
)
def test_a_key_is_found_in_the_list(key: str, kinds: set[str]) -> None:
    """Each key in keys.py is listed with its type."""
    assert {row.type for row in keys.patterns_of(key.encode())} == kinds


def test_the_scripts_have_no_fault() -> None:
    """Each script parses, sets no global, and has no unused local."""
    for package in (on_redis, on_celery):
        assert package.__file__ is not None
        assert lua_lint.lint_folder(Path(package.__file__).parent / "scripts") == []


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("local a = 1\nreturn a\n", []),
        ("local a = 1\nreturn b\n", [(1, "local a is never used"), (2, "b is not defined")]),
        ("a = 1\n", [(1, "a is set and is not a local")]),
        ("function f() return 1 end\n", [(1, "a function is not local")]),
        ("local t = {key = 1, [KEYS[1]] = 2}\nreturn t.key\n", []),
        (
            "for i = 1, #KEYS do redis.call('DEL', KEYS[j]) end\n",
            [(1, "j is not defined"), (1, "local i is never used")],
        ),
        ("for _, k in ipairs(KEYS) do redis.call('DEL', k) end\n", []),
        ("local function f(x) return 1 end\nreturn f()\n", [(1, "local x is never used")]),
        (
            "local x = 1\nlocal f = function() x = 2 end\nf() \n",
            [(1, "local x is never used"), (3, "space at the end")],
        ),
        ("repeat local done = true until done\n", []),
    ],
)
def test_the_linter_finds_faults(text: str, faults: list[tuple[int, str]]) -> None:
    """A global and an unused local are reported with their lines."""
    assert lua_lint.lint(text) == faults


def test_the_linter_finds_a_wrong_syntax() -> None:
    """A syntax error is a finding, not an exception."""
    ((_, fault),) = lua_lint.lint("if then\n")
    assert fault.startswith("it cannot be read")


@pytest.mark.parametrize("script", declared(), ids=lambda script: script.__name__)
def test_the_server_takes_a_script(script: type[lua.Script[Any]], redis_client: redis.Redis) -> None:
    """The real server compiles it to the digest of its call."""
    assert redis_client.script_load(script.text) == script.digest


def a_lease(owner: str) -> leases.HoldLease:
    """Return a call that takes a lease."""
    return leases.HoldLease(lease="a lease", owner=owner, milliseconds=10_000)


def test_a_call_takes_exactly_what_is_declared() -> None:
    """A missing or unknown argument is an error before anything is sent."""
    call: Any = leases.HoldLease  # mypy finds these mistakes too
    with pytest.raises(KeyError):
        call(lease="a", owner="b")
    with pytest.raises(TypeError, match="HoldLease takes no more"):
        call(lease="a", owner="b", milliseconds=1, more=2)


def test_a_declaration_names_known_kinds_only() -> None:
    """An annotation that is neither a key nor an argument is an error at the declaration."""
    with pytest.raises(AssertionError, match="unknown kind"):

        class HoldLease(lua.Script[int]):
            lease: str


@pytest.mark.parametrize("server", ["fakeredis", "redis"])
def test_a_server_that_forgot_the_script_gets_it_again(server: str, request: pytest.FixtureRequest) -> None:
    """A call, many calls and a transaction run after the server lost its scripts, each once."""
    connection = fakeredis.FakeRedis() if server == "fakeredis" else request.getfixturevalue("redis_client")
    connection.script_flush()
    assert client.run(connection, a_lease("one")) == 1
    connection.script_flush()
    mixed: list[lua.Script[int]] = [
        a_lease("one"),
        a_lease("two"),
        leases.ReleaseLease(lease="a lease", owner="one"),
        a_lease("two"),
    ]
    assert client.run_many(connection, mixed) == [1, 0, 1, 1]
    connection.script_flush()
    with connection.pipeline(transaction=True) as pipe:
        a_lease("three").add_to(pipe)
        leases.ReleaseLease(lease="a lease", owner="two").add_to(pipe)
        assert pipe.execute() == [0, 1]


def test_many_calls_are_one_round_trip(redis_client: redis.Redis) -> None:
    """They are sent together. The first error is raised after all replies."""
    calls = [a_lease(str(number)) for number in range(50)]
    client.run_many(redis_client, calls)
    before = redis_client.info("stats")["total_reads_processed"]
    assert client.run_many(redis_client, calls) == [1] + [0] * 49
    # The pipeline is one reading or two for the server, by the size of its buffer; the last is INFO itself.
    assert redis_client.info("stats")["total_reads_processed"] - before <= 3
    redis_client.lpush("no lease", "x")
    wrong = leases.HoldLease(lease="no lease", owner="one", milliseconds=10_000)
    with pytest.raises(redis.ResponseError):
        lua.run_many(redis_client, [wrong, a_lease("0")])
    redis_client.delete("no lease", "a lease")
