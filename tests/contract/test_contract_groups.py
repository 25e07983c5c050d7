"""What every store of alerts promises about groups: members, wake-ups and alerts."""

from __future__ import annotations

import dataclasses

from tests.contract import builders
from tests.contract.builders import NOW, A, AlertChange, B
from tests.support.repositories import Repository
from workermon import models, ports

GROUP = "group:pool=a/b"
MEMBER = models.GroupMember("web one", 1200, 60, 17, ((60, 0), (120, 2)))
LEFT = models.GroupMember("web one", None, 60, 17, ((60, 0), (1260, models.NO_MEMBER)), trimmed=True)


def membership_verdict(
    repository: Repository,
    member: models.GroupMember | None = MEMBER,
    *,
    worker_id: str = A,
    rule: str = "pool-hot",
    changed_from: int | None = None,
) -> ports.Verdict:
    """Return a verdict that writes a worker's member state."""
    if worker_id not in repository.workers.monitored([worker_id]):
        repository.workers.add([builders.worker(worker_id)])
    verdict = builders.verdict(repository.alerts.load([worker_id])[worker_id])
    change = ports.MembershipChange(GROUP, rule, worker_id, member, changed_from)
    return dataclasses.replace(verdict, memberships=(change,))


def load(repository: Repository) -> ports.Basis[ports.GroupRecord]:
    """Return the basis of the group."""
    return repository.alerts.load_groups([GROUP])[GROUP]


def test_an_unknown_group_has_no_basis(repository: Repository) -> None:
    """Neither has an id that is not a group's."""
    assert repository.alerts.load_groups([GROUP, "i-0abc", "group:x"]) == {}
    assert repository.alerts.load_groups([]) == {}
    assert repository.alerts.group_ids() == []


def test_members_are_written_with_the_verdict_of_a_worker(repository: Repository) -> None:
    """Members' states are read as written, by rule and worker, and the group is pending."""
    assert repository.alerts.commit(membership_verdict(repository))
    assert repository.alerts.commit(membership_verdict(repository, LEFT, worker_id=B, changed_from=90))
    basis = load(repository)
    assert basis.subject == models.group_subject("pool", "a/b")
    assert (basis.record.by, basis.record.value) == ("pool", "a/b")
    assert basis.record.members == {"pool-hot": {A: MEMBER, B: LEFT}}
    assert (basis.record.changed_from, basis.alerts, basis.version) == (90, {}, 0)
    assert repository.samples.pending(NOW * 2, 10) == [GROUP]
    assert repository.alerts.group_ids() == [GROUP]


def test_a_refused_verdict_says_nothing(repository: Repository) -> None:
    """A refused verdict writes no member state."""
    stale = membership_verdict(repository)
    assert repository.alerts.commit(builders.verdict(stale.basis, AlertChange()))
    assert not repository.alerts.commit(stale)
    assert repository.alerts.load_groups([GROUP]) == {}
    assert repository.samples.pending(NOW * 2, 10) == []


def test_a_group_is_committed_as_every_subject_is(repository: Repository) -> None:
    """State, version, history and outbox are committed. Of two commits on one basis one succeeds.

    The group is not pending then.
    """
    assert repository.alerts.commit(membership_verdict(repository, changed_from=90))
    basis = load(repository)
    firing = builders.verdict(basis, AlertChange())
    assert repository.alerts.commit(firing)
    assert not repository.alerts.commit(builders.verdict(basis, AlertChange("resolved", version=2))), (
        "another was faster"
    )
    basis = load(repository)
    assert (basis.alerts, basis.version, basis.last_versions) == (firing.alerts, 1, {"cpu-high": 1})
    assert (basis.record.members, basis.record.changed_from) == ({"pool-hot": {A: MEMBER}}, None)
    assert repository.samples.pending(NOW * 2, 10) == []
    assert repository.outbox.due(NOW, 10) == [f"{GROUP}/cpu-high"]
    assert repository.alerts.open() == [firing.alerts["cpu-high"]]


def test_a_member_that_speaks_meanwhile_keeps_the_mark(repository: Repository) -> None:
    """The group is evaluated again, because the verdict does not include a report made after it was read."""
    assert repository.alerts.commit(membership_verdict(repository, changed_from=90))
    basis = load(repository)
    assert repository.alerts.commit(membership_verdict(repository, MEMBER._replace(known_until=1260), changed_from=150))
    assert repository.alerts.commit(builders.verdict(basis))
    assert repository.samples.pending(NOW * 2, 10) == [GROUP]
    assert load(repository).record.changed_from == 90


def test_a_group_forgets_members(repository: Repository) -> None:
    """A group without members does not exist until one is written again."""
    assert repository.alerts.commit(membership_verdict(repository, LEFT))
    forgetting = dataclasses.replace(
        builders.verdict(load(repository)), memberships=(ports.MembershipChange(GROUP, "pool-hot", A, None),)
    )
    assert repository.alerts.commit(forgetting)
    assert load(repository).record.members == {}
    assert repository.alerts.commit(builders.verdict(load(repository)))
    assert repository.alerts.group_ids() == []
    assert repository.samples.pending(NOW * 2, 10) == []
    assert repository.alerts.commit(membership_verdict(repository))
    assert repository.alerts.group_ids() == [GROUP]
    assert load(repository).version == 2


def test_a_removed_worker_speaks_with_its_last_verdict(repository: Repository) -> None:
    """The last verdict of a removed worker writes its member state in the same step."""
    assert repository.alerts.commit(membership_verdict(repository))
    assert repository.alerts.retire(membership_verdict(repository, LEFT))
    assert load(repository).record.members == {"pool-hot": {A: LEFT}}
    assert repository.samples.pending(NOW * 2, 10) == [GROUP]


def test_a_group_is_marked_as_a_worker_is(repository: Repository) -> None:
    """A mark that is set during an evaluation stays. Unknown groups are not marked."""
    repository.samples.mark_pending([GROUP], NOW)
    assert repository.samples.pending(NOW * 2, 10) == []
    assert repository.alerts.commit(membership_verdict(repository))
    basis = load(repository)
    repository.samples.mark_pending([GROUP], NOW)
    assert repository.alerts.commit(builders.verdict(basis))
    assert repository.samples.pending(NOW * 2, 10) == [GROUP]
