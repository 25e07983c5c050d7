"""What every configuration store, sign of life, lease and feed promises."""

from __future__ import annotations

from tests.contract import builders
from tests.contract.builders import NOW
from tests.support.repositories import DEFAULT, Repository
from tests.support.waiting import eventually
from workermon import models, ports
from workermon.rules import threshold


def test_the_default_holds_until_something_is_saved(repository: Repository) -> None:
    """Before a save the default is in force, with revision 0."""
    assert repository.configurations.load() == DEFAULT


def test_what_was_loaded_is_known_without_loading_it_again(repository: Repository) -> None:
    """The first call loads it. Later calls return the last loaded configuration or a newer one."""
    first = DEFAULT.model_copy(update={"revision": 1, "retention": 7200})
    assert repository.configurations.save(first)
    assert repository.configurations.loaded() == first
    second = first.model_copy(update={"revision": 2})
    assert repository.configurations.save(second)
    assert repository.configurations.loaded() in (first, second)
    assert repository.configurations.load() == repository.configurations.loaded() == second


def test_a_configuration_follows_exactly_one_revision(repository: Repository) -> None:
    """Of two concurrent saves one succeeds. Nothing is saved twice or out of order."""
    first = DEFAULT.model_copy(update={"revision": 1, "retention": 7200})
    assert not repository.configurations.save(DEFAULT)
    assert not repository.configurations.save(DEFAULT.model_copy(update={"revision": 2}))
    assert repository.configurations.load() == DEFAULT
    assert repository.configurations.save(first)
    assert not repository.configurations.save(first.model_copy(update={"retention": 3600}))
    assert repository.configurations.load() == first
    second = models.Configuration(
        revision=2,
        rules=(
            models.Rule(name="no-data", kind="no-data", labels={"team": "vfx"}),
            threshold.KIND.rule(name="r", metric="m", below=models.Levels(warning=0.5), notify=("ops", "log")),
        ),
        channels={
            "ops": models.Channel(name="ops", type="webhook", url="https://x", secret=models.SecretRef(env="S")),
        },
        metrics={"m": models.Metric(name="m", namespace="CWAgent", metric_name="mm", period=10)},
        collect=("m",),
    )
    assert repository.configurations.save(second)
    assert repository.configurations.load() == second
    assert repository.configurations.load() == second


def test_parts_are_seen_alive_at_their_last_mark(repository: Repository) -> None:
    """Each part has its own mark."""
    assert repository.liveness.beats() == {}
    repository.liveness.beat("collect", NOW + 0.25)
    repository.liveness.beat("listener", NOW)
    repository.liveness.beat("collect", NOW + 1.5)
    assert repository.liveness.beats() == {"collect": NOW + 1.5, "listener": NOW}


def test_monitoring_began_after_the_last_break(repository: Repository) -> None:
    """After a break of the listener above 10 s monitoring begins anew. Shorter breaks and other parts do not count."""
    assert repository.liveness.monitoring_since() is None
    repository.liveness.beat("evaluate", NOW - 10)
    assert repository.liveness.monitoring_since() is None
    for after, since in ((0, 0), (5, 0), (15, 0), (25.5, 25.5), (30, 25.5)):
        repository.liveness.beat("listener", NOW + after)
        repository.liveness.beat("evaluate", NOW + after)
        repository.liveness.beat("collect", NOW + after)
        assert repository.liveness.monitoring_since() == NOW + since


def test_monitoring_begins_with_the_first_collection(repository: Repository) -> None:
    """Silence counts from the first collection after the listener's return. Later ones change nothing."""
    repository.liveness.beat("collect", NOW - 1)
    repository.liveness.beat("listener", NOW)
    repository.liveness.beat("collect", NOW + 12)
    repository.liveness.beat("listener", NOW + 9)
    assert repository.liveness.monitoring_since() == NOW + 12
    repository.liveness.beat("collect", NOW + 400)
    assert repository.liveness.monitoring_since() == NOW + 12
    assert repository.liveness.beats() == {"collect": NOW + 400, "listener": NOW + 9}


def test_a_clock_that_was_set_back_begins_the_monitor_anew(repository: Repository) -> None:
    """Otherwise monitoring would begin in the future, and no silence would be reported until then."""
    repository.liveness.beat("listener", NOW + 7200)
    repository.liveness.beat("collect", NOW + 7201)
    repository.liveness.beat("listener", NOW)
    assert repository.liveness.monitoring_since() == NOW + ports.START_UP
    repository.liveness.beat("collect", NOW + 3)
    repository.liveness.beat("listener", NOW + 2)
    repository.liveness.evaluation_started(NOW - 60)  # of a node whose clock is behind
    assert repository.liveness.monitoring_since() == NOW + 3


def test_collectors_that_do_not_come_back_are_silence_too(repository: Repository) -> None:
    """Without any collection the silence counts half a minute after the listener's return."""
    repository.liveness.beat("listener", NOW - 1000)
    repository.liveness.beat("collect", NOW - 999)
    repository.liveness.beat("listener", NOW)
    assert repository.liveness.monitoring_since() == NOW + ports.START_UP


def test_an_evaluation_before_the_listener_is_back_is_not_monitored(repository: Repository) -> None:
    """A queued evaluation from before an outage does not count the outage as workers' silence."""
    repository.liveness.evaluation_started(NOW - 2000)
    assert repository.liveness.monitoring_since() is None
    repository.liveness.beat("listener", NOW - 1000)
    repository.liveness.beat("collect", NOW - 999)
    repository.liveness.evaluation_started(NOW - 995)
    assert repository.liveness.monitoring_since() == NOW - 999
    repository.liveness.evaluation_started(NOW)
    assert repository.liveness.monitoring_since() == NOW + ports.START_UP
    assert "listener" in repository.liveness.beats()
    repository.liveness.beat("listener", NOW + 1)
    repository.liveness.beat("collect", NOW + 2)
    assert repository.liveness.monitoring_since() == NOW + 2


def test_counts_add_up(repository: Repository) -> None:
    """Each name has its own count."""
    assert repository.liveness.counts() == {}
    repository.liveness.count("event.invalid")
    repository.liveness.count("event.invalid", 4)
    repository.liveness.count("event.other")
    assert repository.liveness.counts() == {"event.invalid": 5, "event.other": 1}


def test_a_lease_has_one_owner(repository: Repository) -> None:
    """The owner extends a lease. Another waits until it is released. Names are independent."""
    leases = repository.leases
    assert leases.hold("listener", "a", 60)
    assert leases.hold("listener", "a", 60)
    assert not leases.hold("listener", "b", 60)
    assert leases.hold("sweep", "b", 60)
    leases.release("listener", "b")
    assert not leases.hold("listener", "b", 60)
    leases.release("listener", "a")
    assert leases.hold("listener", "b", 60)
    leases.release("nobody's", "a")


def test_a_lease_ends_by_itself(repository: Repository) -> None:
    """If an owner dies, another one gets the lease."""
    assert repository.leases.hold("listener", "a", 0.05)
    assert eventually(lambda: repository.leases.hold("listener", "b", 60), description="the end of the lease")
    assert not repository.leases.hold("listener", "a", 60)


def test_the_feed_is_subscribed_when_it_yields_first(repository: Repository) -> None:
    """Every subscriber receives, in order, all messages published after the first ``None``."""
    worker = builders.worker()
    repository.workers.add([worker])
    first, second = (repository.feed.listen(timeout=0.05) for _ in range(2))
    assert (next(first), next(second)) == (None, None)
    for number, event in enumerate(["first", '{"second": "é"}']):
        builders.write(repository.samples, builders.sample(worker, after=600 + 60 * number), event=event)
    assert [next(first), next(first), next(first)] == ["first", '{"second": "é"}', None]
    assert [next(second), next(second), next(second)] == ["first", '{"second": "é"}', None]
    first.close()
    second.close()
