"""The Redis client: its errors, and its connections."""

from __future__ import annotations

import contextlib
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.support.free_ports import free_port
from tests.support.present import present
from tests.support.waiting import eventually
from workermon import errors, ports
from workermon.on_redis import channel, client, costs, keys, sweep_backlog
from workermon.pipeline import stopping


def _refusal(url: str) -> errors.RedisUnavailable:
    connection = client.connect(url)
    with pytest.raises(errors.RedisUnavailable) as caught, client.guard(connection):
        connection.ping()
    connection.close()
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return caught.value


def _quick_refusal(url: str, within: float) -> errors.RedisUnavailable:
    """Return a refusal that came within so many seconds. A busy machine may need several tries."""

    def refused() -> errors.RedisUnavailable | None:
        began = time.monotonic()
        refusal = _refusal(url)
        return refusal if time.monotonic() - began < within else None

    return present(eventually(refused, description=f"a refusal within {within} s"))


def _exhaust(listening: Iterator[str | None]) -> None:
    until = time.monotonic() + 30
    for _ in listening:
        assert time.monotonic() < until, "it went on for 30 s"


def test_a_server_that_is_gone_is_named_within_three_seconds() -> None:
    """The line names the server, the reason and what to do, never the password."""
    port = free_port()
    refusal = _quick_refusal(f"redis://user:s3cret@127.0.0.1:{port}/1", 3)
    assert str(refusal) == (f"Redis at 127.0.0.1:{port}: connection refused; start it, or correct WORKERMON_REDIS_URL")
    assert refusal.exit_code == 4


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a server accepts but never answers, the command ends after one time limit, without retries."""
    monkeypatch.setattr(client, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        refusal = _quick_refusal(f"redis://:s3cret@127.0.0.1:{mute.getsockname()[1]}/1", 2)
    assert refusal.reason == "no answer in time"


def test_what_answers_but_is_no_redis_is_said_so() -> None:
    """A web server behind the port is a wrong URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    accepted, _ = server.accept()
                    with accepted:
                        accepted.recv(1000)
                        accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        assert "not Redis" in _refusal(f"redis://:s3cret@127.0.0.1:{server.getsockname()[1]}/1").reason


def test_a_wrong_password_is_no_outage(redis_url: str) -> None:
    """The error says to correct the URL, and shows neither the wrong nor the right password."""
    address = redis_url.rpartition("@")[2]
    for url in (f"redis://:s3cret@{address}", f"redis://{address}"):
        refusal = _quick_refusal(url, 2)
        assert refusal.reason == "it refuses user or password"
        assert redis_url.split(":")[2].partition("@")[0] not in str(refusal)


def test_sentinels_that_are_gone_are_named_without_their_options() -> None:
    """redis-py's own text shows how it connects."""
    refusal = _refusal(f"sentinel://u:s3cret@127.0.0.1:{free_port()},127.0.0.1:{free_port()}/2?service=mymaster")
    assert "no sentinel names a master" in refusal.reason
    assert "ConnectionPool" not in str(refusal)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h:s3cret/1",
        "redis://:s3cret@h:6379/1?colour=blue",
        "redis://:s3cret@h/1?socket_timeout=soon",
        "sentinel://:s3cret@h:26379/1?colour=blue",
        "sentinel://:s3cret@h:26379/one",
        "http://:s3cret@h/",
        "",
    ],
)
def test_a_url_that_means_nothing_is_refused_without_showing_it(url: str) -> None:
    """An invalid URL is not shown, because any part of it may be a password."""
    with pytest.raises(errors.InvalidInput) as caught:
        client.connect(url)
    assert "s3cret" not in str(caught.value)


def test_a_url_is_read_whole() -> None:
    """Escapes, database, TLS, sockets and Sentinel's list arrive where redis-py wants them."""

    def options(url: str) -> dict[str, Any]:
        return client.connect(url).connection_pool.connection_kwargs

    parsed = options("redis://us%40er:p%3Aw@host:7000/3")
    assert (parsed["username"], parsed["password"], parsed["host"], parsed["port"], parsed["db"]) == (
        "us@er", "p:w", "host", 7000, 3,
    )  # fmt: skip
    assert parsed["socket_timeout"] == client.TIMEOUT
    assert options("redis://h/1?socket_timeout=9")["socket_timeout"] == 9
    assert options("redis://h/1?decode_responses=true")["decode_responses"] is False
    assert client.connect("rediss://h").connection_pool.connection_class is redis.SSLConnection
    assert options("unix:///run/redis.sock?db=2")["path"] == "/run/redis.sock"
    pool: Any = client.connect(
        "sentinel://u:p%3Aw@one:1,[::1]:2,three/4?service=main&sentinel_password=sp"
    ).connection_pool
    assert (pool.service_name, pool.connection_kwargs["password"], pool.connection_kwargs["db"]) == ("main", "p:w", 4)
    sentinels = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(sentinel["host"], sentinel["port"], sentinel["password"]) for sentinel in sentinels] == [
        ("one", 1, "sp"), ("::1", 2, "sp"), ("three", 26379, "sp"),
    ]  # fmt: skip


def counting(hour: str, number: int) -> costs.CountRequest:
    """Return a call that adds to a count."""
    return costs.CountRequest(hour=hour, totals=keys.COST_TOTALS, at=1, lifetime=60, counts=["call", number])


def test_a_script_survives_a_server_that_forgot_it(redis_client: redis.Redis) -> None:
    """After a restart the first call sends it again, alone and among many, and each call counts once."""
    hour = keys.costs(0)
    assert client.run(redis_client, counting(hour, 2)) == 1
    redis_client.script_flush()
    assert client.run(redis_client, counting(hour, 2)) == 1
    assert redis_client.hget(hour, "call") == b"4"
    redis_client.script_flush()
    assert client.run_many(redis_client, [counting(hour, 1)] * 3) == [1, 1, 1]
    assert redis_client.hget(hour, "call") == b"7"
    assert client.run_many(redis_client, []) == []


def test_a_script_s_own_error_is_one_line(redis_client: redis.Redis) -> None:
    """Also among many that went well."""
    redis_client.set(keys.costs(0), 1, ex=60)
    for calls in (1, 2):
        with pytest.raises(errors.RedisUnavailable, match="it refuses a command") as caught:
            client.run_many(redis_client, [counting(keys.costs(0), 1)] * calls)
        assert "\n" not in str(caught.value)


def test_a_feed_whose_connection_breaks_says_so(redis_url: str, redis_client: redis.Redis) -> None:
    """redis-py would subscribe anew and hide that messages were lost."""
    with contextlib.closing(client.connect(redis_url)) as connection:
        listening = channel.RedisFeed(connection, "workermon:metrics").listen(timeout=0.05)
        assert next(listening) is None
        redis_client.publish("workermon:metrics", b"\xff text")
        assert next(listening) == "\ufffd text"
        redis_client.client_kill_filter(_type="pubsub")
        with pytest.raises(errors.RedisUnavailable, match="the connection broke"):
            _exhaust(listening)


def test_a_feed_that_may_not_wait_reads_whole_messages(redis_url: str, redis_client: redis.Redis) -> None:
    """A partly received message is waited for."""
    with contextlib.closing(client.connect(redis_url)) as connection:
        listening = channel.RedisFeed(connection, "workermon:metrics").listen(timeout=0.0)
        assert next(listening) is None
        texts = [str(number) * 4_000_000 for number in range(3)]
        for text in texts:
            redis_client.publish("workermon:metrics", text)
        received: list[str] = []
        deadline = time.monotonic() + 30
        while len(received) < len(texts) and time.monotonic() < deadline:
            received += filter(None, [next(listening)])
        assert received == texts


def test_a_feed_that_falls_silent_says_so(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed without messages pings the server, and fails if that is gone."""
    monkeypatch.setattr(channel, "PING_AFTER", 1.0)
    monkeypatch.setattr(channel, "PONG_WITHIN", 1.0)
    with contextlib.closing(client.connect(redis_url)) as connection:
        listening = channel.RedisFeed(connection, "workermon:metrics").listen(timeout=0.05)
        began = time.monotonic()
        while time.monotonic() - began < 2.2:
            assert next(listening) is None
        monkeypatch.setattr(redis.client.PubSub, "ping", lambda self: None)
        with pytest.raises(errors.RedisUnavailable, match="fell silent"):
            _exhaust(listening)


def test_a_stop_ends_a_feed_at_once(redis_url: str) -> None:
    """Also one that would wait for minutes."""
    stop, seen = stopping.Stop(), list[str | None]()
    with contextlib.closing(client.connect(redis_url)) as connection:
        listening = channel.RedisFeed(connection, "workermon:metrics").listen(timeout=600.0, until=stop.fileno())

        def listen() -> None:
            for message in listening:
                seen.append(message)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        stop.set()
        thread.join(60)
        assert not thread.is_alive()
    assert seen in ([], [None])


def test_a_feed_that_can_be_stopped_reads_what_arrived_together(redis_url: str, redis_client: redis.Redis) -> None:
    """It waits for the connection and the stop only after it has handed over all that was received."""
    stop = stopping.Stop()
    with contextlib.closing(client.connect(redis_url)) as connection:
        feed = channel.RedisFeed(connection, "workermon:metrics")
        waits = iter([0.05])
        listening = feed.listen(timeout=lambda: next(waits, 600.0), until=stop.fileno())
        assert next(listening) is None
        with redis_client.pipeline() as pipeline:
            for number in range(100):
                pipeline.publish("workermon:metrics", str(number))
            pipeline.execute()
        assert [next(listening) for _ in range(100)] == [str(number) for number in range(100)]
        stop.set()
        assert list(listening) == []


def test_a_stop_can_be_withdrawn(redis_url: str) -> None:
    """The next wait for it lasts again."""
    stop = stopping.Stop()
    for _ in range(3):
        stop.set()
    stop.clear()
    assert not stop.is_set()
    with contextlib.closing(client.connect(redis_url)) as connection:
        listening = channel.RedisFeed(connection, "workermon:metrics").listen(timeout=0.05, until=stop.fileno())
        assert [next(listening) for _ in range(3)] == [None] * 3


# --- connections are kept ------------------------------------------------------------------------------------------


@pytest.fixture
def connected(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give a client that waits briefly for an answer."""
    monkeypatch.setattr(client, "TIMEOUT", 0.5)
    with contextlib.closing(client.connect(redis_url)) as connection:
        yield connection


def test_a_connection_is_kept(connected: Any) -> None:
    """Commands and pipelines go over the same connection, and their replies are those of redis-py."""
    number = connected.execute_command("CLIENT", "ID")
    connected.hset("a", mapping={"b": "1"})
    connected.expire("a", 60)
    with connected.pipeline(transaction=False) as pipe:
        pipe.hgetall("a")
        pipe.execute_command("CLIENT", "ID")
        assert pipe.execute() == [{b"b": b"1"}, number]
    assert connected.hgetall("a") == {b"b": b"1"}
    assert connected.execute_command("CLIENT", "ID") == number


def test_a_kept_connection_that_broke_is_replaced(connected: Any) -> None:
    """If the kept connection breaks, the commands are repeated on a new one."""
    for pipelined in (False, True):
        number = connected.execute_command("CLIENT", "ID")
        with contextlib.closing(redis.Redis(connection_pool=connected.connection_pool)) as second_client:
            second_client.execute_command("CLIENT", "KILL", "ID", number)
        if pipelined:
            with connected.pipeline(transaction=False) as pipe:
                pipe.set("a", "1", ex=60)
                pipe.execute_command("CLIENT", "ID")
                assert pipe.execute()[1] != number
        else:
            assert connected.set("a", "1", ex=60)
            assert connected.execute_command("CLIENT", "ID") != number


def test_an_answer_that_comes_too_late_is_nobodys(connected: Any) -> None:
    """A command that takes too long fails once. Its answer is not taken for that of the next one."""
    began = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        connected.execute_command("BLPOP", "empty", "40")
    assert time.monotonic() - began < 30
    connected.rpush("empty", "late")
    connected.expire("empty", 60)
    assert connected.get("a") is None


def test_an_error_of_a_command_leaves_the_others_of_a_pipeline(connected: Any) -> None:
    """All commands run. The first error is raised after all replies, or returned in its place."""
    connected.set("text", "a", ex=60)
    for raises in (True, False):
        with connected.pipeline(transaction=False) as pipe:
            pipe.execute_command("INCR", "text")
            pipe.set("after", str(raises), ex=60)
            if raises:
                with pytest.raises(redis.ResponseError, match=r"Command # 1 \(INCR text\)"):
                    pipe.execute()
            else:
                assert isinstance(pipe.execute(raise_on_error=False)[0], redis.ResponseError)
        assert connected.get("after") == str(raises).encode()


def test_threads_do_not_wait_for_one_another(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a command waits for its answer, another thread's command has a connection of its own."""
    monkeypatch.setattr(client, "TIMEOUT", 60.0)
    with contextlib.closing(client.connect(redis_url)) as connected:
        connected.ping()
        thread = threading.Thread(target=connected.execute_command, args=("BLPOP", "waited for", "30"))
        thread.start()
        eventually(lambda: connected.info("clients")["blocked_clients"], within=30)
        connected.rpush("waited for", "it")
        thread.join(30)
        assert not thread.is_alive()


def test_a_forked_process_has_connections_of_its_own(connected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes on one connection would read each other's answers."""
    number = connected.execute_command("CLIENT", "ID")
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert connected.execute_command("CLIENT", "ID") != number


def test_after_a_failover_no_idle_connection_is_used_again(connected: Any) -> None:
    """An error about the server's state closes all idle connections, so the address is resolved again."""
    number = connected.execute_command("CLIENT", "ID")
    with pytest.raises(errors.RedisUnavailable), client.guard(connected):
        raise redis.exceptions.ReadOnlyError("it is a replica")
    assert connected.execute_command("CLIENT", "ID") != number


def test_a_command_on_a_key_of_another_type_mends_it(connected: Any) -> None:
    """The key is set aside."""
    connected.set(keys.PENDING, "text")
    claim = ports.LeaseClaim("listener", "me", 60)
    assert present(sweep_backlog.RedisSweepBacklog(connected).look(claim, 0.0, 3.0, works=True)).pending == 0
    assert not connected.exists(keys.PENDING)


def test_a_transaction_that_only_reads_mends_it_too(connected: Any) -> None:
    """It is repeated without the key. One that writes has written by then, and is not repeated."""
    connected.set(keys.PENDING, "text")
    with connected.pipeline(transaction=True) as pipe:
        pipe.zrange(keys.PENDING, 0, -1)
        pipe.get(keys.SCHEMA)
        assert pipe.execute() == [[], None]
    connected.set(keys.PENDING, "text")
    with connected.pipeline(transaction=True) as pipe:
        pipe.incr("workermon:outbox:fence")
        pipe.zrange(keys.PENDING, 0, -1)
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            pipe.execute()
    assert connected.get("workermon:outbox:fence") == b"1"
