"""What every store of silences promises."""

from __future__ import annotations

from tests.contract.builders import NOW
from tests.support.repositories import Repository
from workermon import models


def silence(silence_id: str, ends: float, **changes: object) -> models.Silence:
    """Return a silence that began at ``NOW``."""
    fields = {"id": silence_id, "rule": "r", "begins": NOW, "ends": ends, "reason": "why", "by": "me"} | changes
    return models.Silence.model_validate(fields)


def test_silences_are_kept_until_taken_back(repository: Repository) -> None:
    """They are complete and ordered by their ends. Removing an unknown one is not an error."""
    late, soon = silence("b", NOW + 20, labels={"team": "vfx"}), silence("a", NOW + 10.5, worker="i-0abc1234")
    assert repository.silences.every() == []
    repository.silences.add(late)
    repository.silences.add(soon)
    repository.silences.add(soon)
    assert repository.silences.every() == [soon, late]
    repository.silences.remove(["a", "stranger"])
    repository.silences.remove([])
    assert repository.silences.every() == [late]


def test_what_is_over_is_forgotten_with_the_next(repository: Repository) -> None:
    """Adding a silence deletes those that have ended."""
    repository.silences.add(silence("a", NOW + 10))
    new = silence("b", NOW + 40, begins=NOW + 10)
    repository.silences.add(new)
    assert repository.silences.every() == [new]


def test_the_last_to_acknowledge_is_known(repository: Repository) -> None:
    """Each alert has its own acknowledgement. Alerts without one are left out."""
    first = models.Acknowledgement(alert_id="i-0abc1234/r", since=5, by="me", at=NOW)
    second = first.model_copy(update={"by": "you", "since": None})
    assert repository.silences.acknowledged([first.alert_id]) == {}
    repository.silences.acknowledge(first)
    repository.silences.acknowledge(second)
    assert repository.silences.acknowledged([first.alert_id, "i-0abc1234/other"]) == {first.alert_id: second}
    assert repository.silences.acknowledged([]) == {}
