"""What every first read of an evaluation promises: it says the same as the ports that it replaces."""

from __future__ import annotations

from tests.contract import builders
from tests.contract.builders import NOW, A, AlertChange, B, verdict
from tests.support.repositories import DEFAULT, Repository
from workermon import models, ports


def test_it_says_what_the_other_ports_say(repository: Repository) -> None:
    """It returns workers with their alerts, silences, the monitor's alerts and its beginning, like the other ports."""
    assert repository.configurations.save(DEFAULT.model_copy(update={"revision": 1}))
    repository.workers.add([builders.worker(A), builders.worker(B)])
    builders.write(repository.samples, builders.sample(builders.worker(A), (0, 95.0)))
    assert repository.alerts.commit(verdict(repository.alerts.load([A])[A], AlertChange()))
    for silence_id, ends in (("late", NOW + 60), ("soon", NOW + 10)):
        repository.silences.add(models.Silence(id=silence_id, begins=NOW, ends=ends, reason="why", by="me", worker=A))
    repository.liveness.beat("listener", NOW)
    repository.liveness.beat("collect", NOW + 3)
    inputs = repository.evaluation_inputs.load([A, "i-0cccccccc", B])
    assert inputs.workers == repository.alerts.load([A, B])
    assert inputs.workers[A].alerts["cpu-high"].open
    assert inputs.monitor_alerts == repository.alerts.load_monitor_alerts()
    assert [silence.id for silence in inputs.silences] == ["soon", "late"]
    assert inputs.silences == repository.silences.every()
    assert inputs.monitoring_since == NOW + 3
    assert inputs.unreadable == {}


def test_without_workers_it_says_what_is_known_of_the_monitor(repository: Repository) -> None:
    """Without workers it returns the monitor's part. In an empty installation that is empty."""
    inputs = repository.evaluation_inputs.load([])
    installation = ports.Basis(models.INSTALLATION, None)
    assert inputs == ports.EvaluationInput(ports.MonitorAlerts({}, installation), [], {}, None, {})


def test_a_configuration_is_found_by_its_revision(repository: Repository) -> None:
    """If the last loaded configuration is not in force, the one in force is returned."""
    first = DEFAULT.model_copy(update={"revision": 1})
    assert repository.configurations.of_revision(0) == DEFAULT
    assert repository.configurations.save(first)
    assert repository.configurations.of_revision(1) == first
    assert repository.configurations.of_revision(7) == first
