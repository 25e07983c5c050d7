"""Celery's settings from workermon's: every kind of server, JSON only, and no credentials in shown settings."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.app.defaults import DEFAULTS
from redbeat import schedulers

from workermon import errors
from workermon.on_celery import app as ours
from workermon.on_celery import rabbitmq
from workermon.settings import redis_address


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that makes an application for an environment."""

    def make(url: str, **environment: str) -> Celery:
        for name in ("WORKERMON_BROKER_URL", "WORKERMON_MIN_INTERVAL", "WORKERMON_INTERVAL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("WORKERMON_REDIS_URL", url)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Celery("test", loader=ours.Loader, amqp="workermon.on_celery.broker:AMQP", set_as_current=False)

    return make


URLS = [
    "redis://:hush@localhost:6379/1",
    "redis://ops:hush@localhost/5",
    "redis://:hu%2Fsh%40@localhost:6379/1",
    "rediss://ops:hush@localhost:6380/1?ssl_ca_certs=/etc/ca.pem",
    "unix://ops:hush@/run/redis.sock?db=2",
    "unix:///run/redis.sock?db=2&password=hush",
    "sentinel://:hush@one:26379,two:26380/1?service=ops",
    "sentinel://ops:hush@one,two/1?service=ops&sentinel_password=hush",
    "sentinel://ops:hush@one,two/1?service=ops&sentinel_password=hush&ssl_ca_certs=/etc/ca.pem",
]


@pytest.mark.parametrize("url", URLS)
def test_no_credential_is_in_what_celery_shows(configured: Callable[..., Celery], url: str) -> None:
    """The table behind 'inspect conf' and Flower, the report and the broker's address hide the password."""
    app = configured(url)
    texts = [str(app.conf.table(with_defaults=True)), app.conf.humanize(), app.connection().as_uri()]
    texts += [
        str(app.connection().info().get("alternates")) if "sentinel" not in url else "",
        app.conf.redbeat_redis_url,
    ]
    assert not [text for text in texts if "hush" in text or "hu%2Fsh" in text or "hu/sh@" in text]


@pytest.mark.parametrize("url", URLS)
def test_redbeat_and_the_broker_get_the_credentials_all_the_same(configured: Callable[..., Celery], url: str) -> None:
    """RedBeat's client and Kombu's connection have password, database and place of the URL."""
    app = configured(url)
    password = "hu/sh@" if "%2F" in url else "hush"
    pool = schedulers.get_redis(app).connection_pool
    assert pool.connection_kwargs["password"] == password
    assert int(pool.connection_kwargs["db"]) == int(redis_address.RedisAddress.parse(url).database)
    connection = app.connection()
    with_password = connection.as_uri(include_password=True)
    assert "hush" in with_password or "hu%2Fsh%40" in with_password
    assert connection.transport_cls in ("redis", "rediss", "sentinel")


@pytest.mark.parametrize("url", [url for url in URLS if not url.startswith("sentinel")])
def test_what_is_configured_makes_a_connection(configured: Callable[..., Celery], url: str) -> None:
    """redis-py takes every option that it is given, for the broker and for RedBeat."""
    app = configured(url)
    schedulers.get_redis(app).connection_pool.make_connection()
    channel = type(app.connection().transport).Channel
    parameters = channel._connparams
    bare_channel = object.__new__(channel)
    bare_channel.connection = app.connection().transport
    for name in channel.from_transport_options:
        setattr(bare_channel, name, app.conf.broker_transport_options.get(name, getattr(channel, name, None)))
    connection_parameters = parameters(bare_channel)
    connection_parameters.pop("connection_class")(
        **{k: v for k, v in connection_parameters.items() if k != "max_connections"}
    )
    assert int(connection_parameters["db"]) == 0


def test_the_broker_verifies_certificates(configured: Callable[..., Celery]) -> None:
    """Over TLS the certificate is verified, although Kombu would not by default. An explicit setting counts."""
    assert configured("rediss://localhost/1").connection().ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    tls = configured("rediss://localhost/1?ssl_cert_reqs=none&ssl_ca_certs=/etc/ca.pem").connection().ssl
    assert tls == {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_ca_certs": "/etc/ca.pem"}


def test_sentinels_are_handed_on(configured: Callable[..., Celery]) -> None:
    """Kombu and RedBeat get every sentinel, the service's name, and the sentinels' credentials."""
    app = configured("sentinel://:hush@one:1,two/1?service=ops&sentinel_password=more")
    assert app.conf.broker_url == "sentinel://:hush@one:1/0;sentinel://:hush@two/0"
    assert app.conf.broker_transport_options["master_name"] == "ops"
    sentinel_options = app.conf.broker_transport_options["sentinel_kwargs"]
    assert (sentinel_options["password"], sentinel_options["retry"].get_retries()) == ("more", 0)
    assert json.dumps(app.connection().info())  # as 'inspect stats' sends it
    options = app.conf.redbeat_redis_options
    assert (options["sentinels"], options["service_name"]) == ([("one", 1), ("two", 26379)], "ops")
    assert options["sentinel_kwargs"] == sentinel_options


def test_rabbitmq_is_used_as_it_is(configured: Callable[..., Celery]) -> None:
    """Kombu gets URL and TLS, no options of Redis's transport, and shown settings have no password."""
    app = configured("redis://localhost:6379/1", WORKERMON_BROKER_URL="amqps://ops:hush@rabbit/watch")
    assert app.conf.broker_url == "amqps://ops:hush@rabbit/watch"
    assert app.conf.broker_use_ssl == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "rabbit"}
    assert app.conf.broker_transport_options == {"confirm_publish": True, "write_timeout": 4}
    assert isinstance(app.connection().transport, rabbitmq.TlsTransport)
    texts = [str(app.conf.table(with_defaults=True)), app.conf.humanize(), app.connection().as_uri()]
    assert not [text for text in texts if "hush" in text]
    assert app.connection().as_uri(include_password=True) == "amqps://ops:hush@rabbit:5671/watch"


def test_a_broker_of_its_own_is_used_as_it_is(configured: Callable[..., Celery]) -> None:
    """WORKERMON_BROKER_URL names server and database of the messages."""
    app = configured("redis://localhost/1", WORKERMON_BROKER_URL="redis://:hush@elsewhere:7/4")
    assert app.conf.broker_url == "redis://:hush@elsewhere:7/4"


def test_only_json_is_spoken_and_nothing_is_kept(configured: Callable[..., Celery]) -> None:
    """Only JSON is accepted, no result is stored, and a message is acknowledged after its work."""
    conf = configured("redis://localhost/1").conf
    assert conf.accept_content == ["json"]
    assert {conf.task_serializer, conf.result_serializer, conf.event_serializer} == {"json"}
    assert conf.result_backend is None
    assert (conf.task_acks_late, conf.task_reject_on_worker_lost, conf.worker_prefetch_multiplier) == (True, True, 1)


def test_a_task_is_given_again_only_when_it_cannot_run_any_more(configured: Callable[..., Celery]) -> None:
    """The visibility timeout lies above the hard time limit."""
    conf = configured("redis://localhost/1").conf
    assert conf.task_soft_time_limit < conf.task_time_limit < conf.broker_transport_options["visibility_timeout"]


@pytest.mark.parametrize(("least", "loop"), [("10s", 1.0), ("60s", 1.0), ("5s", 0.2), ("1s", 0.2)])
def test_beat_ticks_often_enough_and_keeps_its_lock(configured: Callable[..., Celery], least: str, loop: float) -> None:
    """Beat's loop is short if intervals are. The lock lasts at least five loops."""
    conf = configured("redis://localhost/1", WORKERMON_MIN_INTERVAL=least).conf
    assert conf.beat_max_loop_interval == loop
    assert conf.redbeat_lock_timeout >= max(5, 5 * loop)


def test_each_queue_gets_its_own_messages(configured: Callable[..., Celery]) -> None:
    """Every task's queue has an exchange and a key that no other queue shares."""
    app = configured("redis://localhost/1")
    assert {name: (queue.exchange.name, queue.routing_key) for name, queue in app.amqp.queues.items()} == {
        name: (name, name) for name in ("workermon.collect", "workermon.evaluate", "workermon.deliver")
    }
    for name in ("collect", "evaluate", "deliver"):
        assert app.amqp.router.route({}, f"workermon.{name}")["queue"].name == f"workermon.{name}"


def test_every_setting_is_one_that_celery_or_redbeat_knows(configured: Callable[..., Celery]) -> None:
    """No setting is misspelt."""
    configured("redis://localhost/1")
    ours_only = {name for name in vars(ours.configuration()) if not name.startswith("_")}
    unknown = {name for name in ours_only if name not in DEFAULTS}
    assert unknown == {
        f"redbeat_{name}" for name in ("key_prefix", "lock_timeout", "redis_options", "redis_url", "redis_use_ssl")
    }


def test_a_missing_server_is_an_error_only_when_settings_are_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Creating the application needs no server. The first access to its settings reports it missing."""
    monkeypatch.delenv("WORKERMON_REDIS_URL", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    app = Celery("test", loader=ours.Loader, set_as_current=False)
    with pytest.raises(errors.RedisUnavailable, match="WORKERMON_REDIS_URL is not set"):
        _ = app.conf.broker_url
