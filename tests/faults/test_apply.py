"""Files are applied while other processes read and work: a file is in force as a whole, at once, or not at all."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import rules
from tests.faults.stage import HERE, ROOT, Stage
from workermon import models
from workermon.local import embedded
from workermon.on_redis import keys

pytestmark = pytest.mark.integration

#: Each process applies its file until so many changes of the set-up show that they come between one another, for so
#: many seconds at most.
CHANGES, LASTS = 12, 60

#: Applies a file over and over, by what the command calls; the two of them start together.
PROGRAM = f"""
import sys, pathlib, time
from workermon import fleet, ports, settings, testing
from workermon.cli import session
own = session.Session(settings.load())
file = testing.parse(pathlib.Path(sys.argv[1]).read_text(), sys.argv[1])
options = fleet.ApplyOptions(region="us-east-1", interval=1, min_interval=1)
stage = own.get(fleet.Application)
own.get(fleet.Preview).preview(file, options)
print("ready", flush=True)
sys.stdin.readline()
until, kept = time.time() + {LASTS}, own.container.get(ports.Configurations)
end = kept.load().revision + {CHANGES}
while kept.load().revision < end and time.time() < until:
    stage.apply(file, options)
"""

#: The workers with their labels, and the rules.
SetUp = tuple[dict[str, dict[str, str]], list[str]]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Give an installation on a server of its own."""
    server = embedded.Server(tmp_path / "valkey", persistent=False)
    server.start()
    new_stage = Stage("apply", 0, server, tmp_path, mutant=None, machines=6)
    try:
        yield new_stage
    finally:
        new_stage.close()
        server.stop()


def set_up(stage: Stage) -> SetUp:
    """Return the set-up at one moment."""
    with stage.connection.pipeline(transaction=True) as pipe:
        pipe.hget(keys.CONFIGURATION, "document")
        pipe.zrange(keys.WORKERS, 0, -1)
        for worker_id in stage.ids:
            pipe.hget(keys.worker(worker_id), "spec")
        document, members, *specs = pipe.execute()
    fleet = [models.Worker.model_validate_json(spec) for spec in specs if spec]
    assert sorted(worker.id.encode() for worker in fleet) == members
    rules_ = models.Configuration.model_validate_json(document).rules
    return {worker.id: worker.labels for worker in fleet}, [rule.name for rule in rules_]


def race(stage: Stage, env: dict[str, str]) -> tuple[list[SetUp], list[SetUp], list[subprocess.CompletedProcess[str]]]:
    """Let two processes apply different files. Return both set-ups, what readers saw, and the result."""
    ops = {"ops": rules.channel("ops", stage.pager.url)}
    files, set_ups = [], []
    for name, worker_ids in (("one", stage.ids[:4]), ("two", stage.ids[2:])):
        text = rules.text(1, ops, f"cpu-{name}") + rules.workers(worker_ids, 1, of=name)
        files.append(stage.write(f"{name}.toml", text))
        set_ups.append(({worker_id: {"of": name} for worker_id in worker_ids}, [f"cpu-{name}"]))
    stage.command("apply", files[0])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, file],
            env=env | {"WORKERMON_LOG_LEVEL": "error"}, cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for file in files
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()
    looks, over = [], threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            looks.append(set_up(stage))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        ends = [process.communicate(timeout=120) for process in processes]
    finally:
        over.set()
        watcher.join()
    completed = [
        subprocess.CompletedProcess(files[place], process.returncode, *ends[place])
        for place, process in enumerate(processes)
    ]
    return set_ups, looks, completed


def test_two_files_at_once_never_mix(stage: Stage) -> None:
    """While two processes apply different files over and over, each read gives one of them completely."""
    first_revision = stage.configuration().revision
    set_ups, looks, completed = race(stage, stage.env)
    assert [process.returncode for process in completed] == [0, 0], completed
    assert set_up(stage) in set_ups
    mixed = [look for look in looks if look not in set_ups]
    assert not mixed, mixed[0]
    # They really were in each other's way: one set-up followed the other many times.
    assert stage.configuration().revision - first_revision >= CHANGES
    assert {rule for _, (rule,) in looks} == {"cpu-one", "cpu-two"}
    stage.command("reconcile")
    assert stage.entries() == set(set_up(stage)[0])


def test_a_build_that_applies_in_parts_is_found_out(stage: Stage) -> None:
    """The test fails for a build that writes added workers before the rest."""
    path = f"{HERE / 'mutants' / 'halves'}:{stage.env['PYTHONPATH']}"
    set_ups, looks, _ = race(stage, stage.env | {"PYTHONPATH": path})
    assert [look for look in looks if look not in set_ups]


def test_what_runs_sees_a_new_file_within_two_seconds(stage: Stage) -> None:
    """Running nodes evaluate by a new file at once: a removed rule's alert resolves, a new rule's alert fires.

    On a busy machine a file may take longer, so the best of several counts.
    """
    ops = {"ops": rules.channel("ops", stage.pager.url)}
    workers = rules.workers(stage.ids[:1], 1)
    stage.command("apply", stage.write("first.toml", rules.text(1, ops) + workers))
    stage.load(97.0)
    up = stage.start("up", "--no-web")

    def takes(new: str, old: str) -> float:
        """Replace a rule by another one. Return the seconds until both alerts notified."""
        stage.command("apply", stage.write("next.toml", rules.text(1, ops, new) + workers))
        applied = time.time()
        stage.until("resolved", f"{stage.worker_id}/{old}")
        stage.until("firing", f"{stage.worker_id}/{new}")
        over, hot = stage.pager.of(f"{stage.worker_id}/{old}")[-1], stage.pager.of(f"{stage.worker_id}/{new}")[-1]
        assert over.document["reason"] == f"the rule {old} was removed"
        return max(over.at, hot.at) - applied

    try:
        stage.until("firing")
        changes = itertools.islice(itertools.cycle([("cpu-hot", "cpu-high"), ("cpu-high", "cpu-hot")]), 10)
        assert any(takes(new, old) < 2.0 for new, old in changes)
    finally:
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) is not None
