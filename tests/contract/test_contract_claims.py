"""What every implementation promises about claims of slots, and about learned delays."""

from __future__ import annotations

import pytest
import redis

from tests.contract import builders
from tests.contract.builders import NOW, A, B, C
from tests.support.repositories import Repository
from tests.support.waiting import eventually
from workermon import models, ports, testing
from workermon.on_redis import keys, learned_delays

SCOPE = models.AccountRegion(region="us-east-1")


@pytest.fixture
def worker(repository: Repository) -> models.Worker:
    """Give a worker that is monitored, each minute."""
    worker = builders.worker()
    repository.workers.add([worker])
    return worker


def test_a_slot_is_claimed_once(repository: Repository, worker: models.Worker) -> None:
    """A second claim of a slot is refused. The next slot can be claimed."""
    assert repository.samples.claim([worker], NOW + 601, 30) == ["claimed"]
    assert repository.samples.claim([worker], NOW + 655, 30) == ["held"]
    assert repository.samples.claim([worker], NOW + 660, 30) == ["claimed"]


def test_a_claim_is_completed_by_the_sample(repository: Repository, worker: models.Worker) -> None:
    """When the sample is written, the slot is complete and stays complete."""
    repository.samples.claim([worker], NOW + 601, 0.001)
    builders.write(repository.samples, builders.sample(worker, after=602))
    assert repository.samples.claim([worker], NOW + 610, 30) == ["complete"]
    assert repository.samples.claim([worker], NOW + 660, 30) == ["claimed"]


def test_a_claim_that_nothing_came_of_runs_out(repository: Repository, worker: models.Worker) -> None:
    """If the holder of a claim dies, a later run within the slot gets it."""
    assert repository.samples.claim([worker], NOW + 601, 0.05) == ["claimed"]
    eventually(lambda: repository.samples.claim([worker], NOW + 602, 30) == ["claimed"], description="the lease's end")
    assert repository.samples.claim([worker], NOW + 603, 30) == ["held"]


def test_a_failure_gives_the_claim_back(repository: Repository, worker: models.Worker) -> None:
    """After a failure another node may claim the same slot."""
    repository.samples.claim([worker], NOW + 601, 30)
    repository.samples.failed(worker, models.CollectionError(kind="throttled", message="slow down", at=NOW + 602))
    assert repository.samples.claim([worker], NOW + 610, 30) == ["claimed"]


def test_each_of_many_claims_has_its_own_outcome(repository: Repository, worker: models.Worker) -> None:
    """One step gives complete, taken, new and gone."""
    further = [builders.worker(B), builders.worker(C)]
    repository.workers.add(further)
    builders.write(repository.samples, builders.sample(worker, after=601))
    repository.samples.claim(further[:1], NOW + 601, 30)
    claimed = [worker, *further, builders.worker("i-0ddddddd"), builders.worker(C, incarnation="other")]
    assert repository.samples.claim(claimed, NOW + 605, 30) == ["complete", "held", "claimed", "gone", "gone"]
    assert repository.samples.claim([], NOW, 30) == []


def test_a_slot_shortly_before_the_last_complete_one_is_complete(repository: Repository, worker: models.Worker) -> None:
    """A slot that is older than the last complete one is not collected again, for example after a clock change."""
    builders.write(repository.samples, builders.sample(worker, (0, 1.0), after=660))
    assert repository.samples.claim([worker], NOW + 600, 30) == ["complete"]
    assert builders.write(repository.samples, builders.sample(worker, (-60, 2.0), after=600)) == "repeated"
    assert repository.workers.get([A])[A].condition.collected_at == NOW + 660
    read = repository.samples.read([(A, "cpu_utilization", 60)], NOW - 600, NOW)
    assert len(read[A, "cpu_utilization"].points) == 2
    assert repository.samples.claim([worker], NOW + 500, 30) == ["claimed"]


def test_a_new_interval_is_claimed_anew(repository: Repository, worker: models.Worker) -> None:
    """A complete slot of another interval does not count."""
    builders.write(repository.samples, builders.sample(worker, after=601))
    rescheduled = worker.model_copy(update={"interval": 120})
    assert repository.samples.claim([rescheduled], NOW + 602, 30) == ["claimed"]


def test_many_failures_are_noted_in_one_go(repository: Repository, worker: models.Worker) -> None:
    """Each worker keeps its own error. A removed worker keeps none."""
    second = builders.worker(B)
    repository.workers.add([second])
    troubles = [models.CollectionError(kind="denied", message=f"no {number}", at=NOW, since=NOW) for number in range(3)]
    repository.samples.failed_many(list(zip([worker, second, builders.worker(C)], troubles, strict=True)))
    records = repository.workers.get([A, B, C])
    assert {worker_id: record.condition.last_error for worker_id, record in records.items()} == {
        A: troubles[0],
        B: troubles[1],
    }
    repository.samples.failed_many([])


@pytest.fixture(params=["memory", "redis"])
def updates(request: pytest.FixtureRequest) -> ports.LearnedDelays:
    """Give the learned delays, once for each implementation."""
    if request.param == "memory":
        return testing.MemoryLearnedDelays()
    return learned_delays.RedisLearnedDelays(request.getfixturevalue("redis_client"))


def test_what_is_learnt_is_kept_by_name(updates: ports.LearnedDelays) -> None:
    """Later values replace earlier ones of the same name, and no others."""
    assert updates.load(SCOPE) == {}
    updates.save(SCOPE, {"a": [1, 2.5, None], "b": "x"})
    updates.save(SCOPE, {"a": [3]})
    updates.save(SCOPE, {})
    assert updates.load(SCOPE) == {"a": [3], "b": "x"}


def test_each_account_and_region_learns_for_itself(updates: ports.LearnedDelays) -> None:
    """Each account and region learns separately. A changed role begins anew, whatever the account's name."""
    accounts = [
        SCOPE,
        models.AccountRegion(region="eu-west-1"),
        models.AccountRegion(region="us-east-1", account="lab"),
        models.AccountRegion(region="us-east-1", role_arn="arn:aws:iam::123456789012:role/x"),
    ]
    for number, scope in enumerate(accounts):
        updates.save(scope, {"a": number})
    assert [updates.load(scope) for scope in accounts] == [{"a": number} for number in range(4)]


def test_what_cannot_be_read_is_as_if_it_was_never_learnt(redis_client: redis.Redis) -> None:
    """An unreadable value hides no other, and its key has a lifetime."""
    updates = learned_delays.RedisLearnedDelays(redis_client)
    updates.save(SCOPE, {"a": 1})
    redis_client.hset(keys.learned_delays(SCOPE), "b", "{")
    assert updates.load(SCOPE) == {"a": 1}
    assert 0 < redis_client.ttl(keys.learned_delays(SCOPE)) <= keys.LESSONS
