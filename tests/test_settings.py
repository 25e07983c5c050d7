"""Settings: every variable is validated at the start, and no secret is shown."""

from __future__ import annotations

import os
import re
import ssl
import threading
from pathlib import Path

import pytest

from workermon import errors, models, settings
from workermon.on_celery import broker
from workermon.settings import amqp_address, redis_address


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder without workermon's variables."""
    for name in [name for name in os.environ if name.startswith("WORKERMON_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused() -> str:
    """Return the one-line error of the settings."""
    with pytest.raises(errors.InvalidInput) as caught:
        settings.load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("variable", ["WORKERMON_REDIS_URL", "WORKERMON_BROKER_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "redis://u:hunter2/secret@127.0.0.1:6379/1",
        "redis://u:hunter2?secret@127.0.0.1:6379/1",
        "redis://u:hunter2#secret@127.0.0.1:6379/1",
        "redis://:hunter2/secret@127.0.0.1:6379/1",
        "redis://:6379/hunter2@127.0.0.1:6379/1",
        "rediss://u:hunter2/secret@127.0.0.1:6379/1",
        "sentinel://u:hunter2/secret@a:26379,b:26379/1?service=x",
        "redis://u:[hunter2@127.0.0.1:6379/1",
        "redis://127.0.0.1:hunter2/1",
        "redis://127.0.0.1:99999/1",
        "redis://127.0.0.1:0/1",
        "redis://127.0.0.1:6379/hunter2",
        "redis://127.0.0.1:6379/²",
        "redis://u:hunter2\n@127.0.0.1:6379/1",
        "http://u:hunter2@127.0.0.1/1",
    ],
)
def test_no_piece_of_a_password_is_shown(monkeypatch: pytest.MonkeyPatch, variable: str, url: str) -> None:
    """A URL that cannot be parsed is refused by its variable's name, without any part of it."""
    monkeypatch.setenv(variable, url)
    error = refused()
    assert error.startswith(f"{variable}: ")
    assert "hunter2" not in error
    assert "secret" not in error


def test_the_error_shows_how_to_escape_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error shows how to escape those characters."""
    monkeypatch.setenv("WORKERMON_REDIS_URL", "redis://u:hunter2/secret@127.0.0.1:6379/1")
    assert "%2F" in refused()


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:p%2Fw%40@127.0.0.1:6379/1", "redis://host", "redis://host/99999", "rediss://h:1/0?ssl_cert_reqs=none",
        "redis://[::1]:6379/1", "redis://:p:w@h:6379/1", "sentinel://u:p@a:26379,b/1?service=x", "unix:///run/r.sock?db=3",
        "redis://h:6379?db=2", "redis://u:p@w@h:6379/1", "redis://@h/1", "redis://:6379/1",
    ],
)  # fmt: skip
def test_a_url_as_it_should_be_passes(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Every form of URL on the page of commands is valid."""
    monkeypatch.setenv("WORKERMON_REDIS_URL", url)
    assert settings.load().state_url == url


def test_a_url_that_is_shown_hides_what_could_be_secret() -> None:
    """A URL with an unescaped password is not shown at all."""
    assert settings.masked("redis://u:hunter2@h:1/1?x=hunter2") == "redis://u:***@h:1/1?x=***"
    for url in ("redis://u:hunter2/secret@h:1/1", "redis://u:hunter2#x@h:1/1", "redis://u:[hunter2@h"):
        assert settings.masked(url) == "***"


@pytest.mark.parametrize("url", ["example.com", "ftp://example.com", "https://", "https://a b/", "https://h:x/", "h\n"])
def test_the_heartbeat_is_a_web_address(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """An invalid address is refused at the start. It is not shown, because it is a secret."""
    monkeypatch.setenv("WORKERMON_HEARTBEAT_URL", url)
    assert refused() == (
        "WORKERMON_HEARTBEAT_URL: is not a URL such as https://example.com/ping; see docs/reference/settings.md"
    )
    monkeypatch.setenv("WORKERMON_HEARTBEAT_URL", "https://example.com:8443/ping/x?y=z")
    assert settings.load().heartbeat_url is not None


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m"])
def test_the_channel_is_printable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The channel's name has to be printable, because logs and terminals show it."""
    monkeypatch.setenv("WORKERMON_CHANNEL", name)
    assert refused().startswith("WORKERMON_CHANNEL: ")


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable counts as unset, even over a line of ``.env``."""
    Path(".env").write_text("WORKERMON_HEARTBEAT_URL=https://example.com/\n")
    for name in settings.Settings.model_fields:
        monkeypatch.setenv(f"WORKERMON_{name.upper()}", "")
    assert settings.load() == settings.Settings.model_construct()


def test_a_file_of_settings_that_is_no_text_is_named() -> None:
    """A ``.env`` file in another encoding is refused by its name."""
    Path(".env").write_bytes("WORKERMON_CHANNEL=caf\u00e9\n".encode("latin-1"))
    assert refused() == ".env: it is not UTF-8 text; save it as UTF-8"


def test_a_line_of_it_that_says_nothing_is_named() -> None:
    """A line without an assignment is refused by its number."""
    Path(".env").write_text('# ours\nWORKERMON_INTERVAL=30s\nthis is "no setting\n')
    assert refused() == ".env: line 3 cannot be read; write NAME=value, one a line"


def test_a_sound_file_of_settings_is_read() -> None:
    """Comments, quotes, ``export``, empty lines and other programs' variables are allowed."""
    Path(".env").write_text("# ours\n\nexport WORKERMON_INTERVAL='30s'\nOTHER=\"a b\"\nEMPTY=\nNAME\n")
    assert settings.load().interval == 30


# --- secrets -----------------------------------------------------------------------------------------------------


def secret_of(file: Path | str, folders: Path | None = None) -> str:
    """Read the secret from a file. ``folders`` are the allowed folders, by default any."""
    app_settings = settings.Settings(secrets_dir=str(folders) if folders else "/")
    return app_settings.secret(models.SecretRef(file=str(file)))


def why_not(ref: models.SecretRef, **variables: str) -> str:
    """Return why a secret is not given away."""
    with pytest.raises(errors.InvalidInput) as caught:
        settings.Settings.model_validate(variables).secret(ref)
    return str(caught.value)


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "aws_session_token", "WORKERMON_REDIS_URL"])
def test_credentials_of_the_node_are_never_given_away(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting allows a variable that configures AWS or workermon: a config file could have it sent anywhere."""
    monkeypatch.setenv(name, "redis://:hunter2@host")
    error = why_not(models.SecretRef(env=name), secrets=f"*,{name}", redis_url="redis://h/1")
    assert error == (
        f"secret {name}: variables named AWS_* and WORKERMON_* are never given away; give the secret another name"
    )


def test_the_node_decides_which_variables_it_gives_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """WORKERMON_SECRETS lists names and globs. Others are refused in one line without the value."""
    monkeypatch.setenv("OPS_SECRET", "hunter2")
    monkeypatch.setenv("DATABASE_URL", "postgres://hunter2")
    app_settings = settings.Settings(secrets="PAGER, OPS_*")
    assert app_settings.secret(models.SecretRef(env="OPS_SECRET")) == "hunter2"
    error = why_not(models.SecretRef(env="DATABASE_URL"), secrets="PAGER, OPS_*")
    assert error.startswith("secret DATABASE_URL: WORKERMON_SECRETS does not allow this name here; ")
    assert "hunter2" not in error


def test_a_secret_file_lies_below_an_allowed_folder(elsewhere: Path) -> None:
    """A file elsewhere, a path with .. and a link out of the folder are refused."""
    folder, outside = elsewhere / "secrets", elsewhere / "shadow"
    folder.mkdir()
    outside.write_text("root:hunter2")
    (folder / "token").write_text("ours\n")
    (folder / "link").symlink_to(outside)
    (folder / "current").symlink_to("token")
    assert secret_of(folder / "token", folder) == secret_of("token", folder) == secret_of("current", folder) == "ours"
    for name in (outside, folder / ".." / "shadow", folder / "link", "../shadow", "/etc/shadow", "link"):
        error = why_not(models.SecretRef(file=str(name)), secrets_dir=str(folder))
        assert error.startswith(f"secret file {name}: it is not below a folder of WORKERMON_SECRETS_DIR; ")
        assert "hunter2" not in error


def test_secrets_are_looked_for_where_platforms_mount_them(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless said otherwise, files lie in /run/secrets or in 'secrets' of this user's configuration folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(elsewhere))
    assert settings.Settings().secret_folders == (Path("/run/secrets"), elsewhere / "workermon" / "secrets")
    (elsewhere / "workermon" / "secrets").mkdir(parents=True)
    (elsewhere / "workermon" / "secrets" / "token").write_text("ours")
    assert settings.Settings().secret(models.SecretRef(file="token")) == "ours"
    assert settings.Settings(secrets_dir="a:/b").secret_folders == (Path("a"), Path("/b"))


def test_a_secret_file_is_read(elsewhere: Path) -> None:
    """The secret is the line in the file."""
    (elsewhere / "token").write_text("hunter2\n")
    assert secret_of(elsewhere / "token") == "hunter2"


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "large", "bytes", "missing", "empty"])
def test_a_secret_file_that_is_none_is_refused_at_once(elsewhere: Path, kind: str) -> None:
    """A folder, a pipe without a writer, an endless device or a large file causes no wait."""
    file = elsewhere / "token"
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file = Path("/dev/zero")
    elif kind == "large":
        file.write_text("x" * (settings.MAX_SECRET_SIZE + 1))
    elif kind == "bytes":
        file.write_bytes(b"\xff")
    elif kind == "empty":
        file.touch()
    caught: list[errors.InvalidInput] = []

    def read() -> None:
        try:
            secret_of(file)
        except errors.InvalidInput as why:
            caught.append(why)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(30)
    assert len(caught) == 1
    assert str(caught[0]).startswith(f"secret file {file}: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOST", "a b"),
        ("HOST", "http://127.0.0.1"),
        ("HOST", "127.0.0.1:8650"),
        ("HOST", "300.1.1.1"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "x"),
        ("PROXIES", "10.0.0.1/8"),
        ("PROXIES", "proxy.example"),
        ("USER_HEADER", "X-User"),  # without a proxy that it is believed from
        ("USER_HEADER", "X User"),
        ("USER_HEADER", "Cookie"),
        ("USER_ROLE", "root"),
    ],
)
def test_settings_of_the_page_are_validated(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """An invalid value is refused with the name of its variable."""
    if value == "Cookie":
        monkeypatch.setenv("WORKERMON_WEB_PROXIES", "10.0.0.0/8")
    monkeypatch.setenv(f"WORKERMON_WEB_{name}", value)
    assert refused().startswith(f"WORKERMON_WEB_{name}: ")


def test_the_page_is_for_this_machine_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset or empty, the page listens on loopback and trusts no proxy. Networks of both families are valid."""
    monkeypatch.setenv("WORKERMON_WEB_HOST", "")
    app_settings = settings.load()
    assert (app_settings.web_host, app_settings.web_port, app_settings.web_networks, app_settings.web_user_role) == (
        "127.0.0.1",
        8650,
        (),
        "viewer",
    )
    monkeypatch.setenv("WORKERMON_WEB_HOST", "[::1]")
    monkeypatch.setenv("WORKERMON_WEB_PROXIES", "10.0.0.0/8, fd00::/8,192.0.2.7")
    app_settings = settings.load()
    assert app_settings.web_host == "::1"
    assert [str(network) for network in app_settings.web_networks] == ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"]


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("[::1]", True), ("LocalHost", True), ("0.0.0.0", False),
     ("10.0.0.1", False), ("localhost.example", False), ("::", False), ("", False)],
)  # fmt: skip
def test_loopback_is_known(host: str, is_local: bool) -> None:
    """Only addresses that this machine alone reaches are loopback."""
    assert settings.is_loopback(host) is is_local


@pytest.mark.parametrize("spelled", ["CERT_REQUIRED", "required", "cert_required"])
def test_certificates_are_asked_for_as_celery_spells_it(monkeypatch: pytest.MonkeyPatch, spelled: str) -> None:
    """Celery's, Python's and redis-py's words for verification mean the same."""
    monkeypatch.setenv("WORKERMON_REDIS_URL", f"rediss://:p@host:6380/1?ssl_cert_reqs={spelled}")
    app_settings = settings.load()
    assert app_settings.state_url == "rediss://:p@host:6380/1?ssl_cert_reqs=required"
    assert redis_address.RedisAddress.parse(app_settings.broker).kombu_url.endswith("ssl_cert_reqs=required")


def test_tls_of_sentinels_goes_to_both_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any TLS option enables TLS for server and sentinels. sentinel_ssl=false excludes the sentinels."""
    url = "sentinel://:p@one:26379,two:26379/1?service=main"
    parse = redis_address.RedisAddress.parse
    assert (parse(url).tls, parse(url).sentinel) == ({}, {})
    tls = {"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False, "ssl_cert_reqs": "required"}
    parsed = parse(url + "&ssl_ca_certs=/ca.pem&ssl_check_hostname=no")
    assert (parsed.tls, parsed.sentinel, parsed.query) == (tls, {"ssl": True, **tls}, {})
    server = parse(url + "&ssl=true&sentinel_ssl=false")
    assert (server.tls, server.sentinel) == ({"ssl_cert_reqs": "required"}, {})
    monkeypatch.setenv("WORKERMON_REDIS_URL", url + "&ssl=perhaps")
    with pytest.raises(errors.InvalidInput, match="needs true or false for ssl, sentinel_ssl and ssl_check_hostname"):
        settings.load()


@pytest.mark.parametrize(("version", "is_refused"), [("6.0.16", True), ("6.2.0", False), ("", False)])
def test_the_brokers_version_is_checked(version: str, is_refused: bool) -> None:
    """On a broker that is too old, node and beat end with its version and the required one."""

    class Server:
        def info(self, section: str) -> dict[str, str]:
            return {"redis_version": version}

    if not is_refused:
        broker.check_server(Server(), "broker")
        return
    with pytest.raises(
        errors.RedisUnavailable, match=r"broker: it is too old \(Redis 6.0.16\); use Redis 6.2 or newer"
    ):
        broker.check_server(Server(), "broker")


def test_rabbitmq_may_be_the_broker_and_its_certificate_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host name is verified too, unless the URL disables verification."""
    monkeypatch.setenv("WORKERMON_REDIS_URL", "redis://host:6379/1")
    monkeypatch.setenv("WORKERMON_BROKER_URL", "amqps://u:p@rabbit:5671/watch?ssl_ca_certs=/ca.pem")
    app_settings = settings.load()
    assert app_settings.broker_is_rabbitmq
    parsed = amqp_address.AmqpAddress.parse(app_settings.broker)
    assert parsed.kombu_url == "amqps://u:p@rabbit:5671/watch"
    assert parsed.tls == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "rabbit", "ca_certs": "/ca.pem"}
    assert amqp_address.AmqpAddress.parse("amqps://rabbit?ssl_cert_reqs=CERT_NONE").tls == {"cert_reqs": ssl.CERT_NONE}
    assert amqp_address.AmqpAddress.parse("amqp://rabbit").tls == {}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqs://", "names SQS, whose client"),
        ("memory://", "names a broker in the memory of one process"),
        ("pyamqp://host", "names a transport that workermon is not tested with; Redis"),
        ("nonsense", "is not a URL such as redis://"),
        ("amqp://u:hush@host:port/", "needs a host, such as amqp://"),
        ("amqp://", "needs a host, such as amqp://"),
        ("amqp://u:hush@host/a/b", "at most one virtual host"),
        ("amqp://u:hu/sh@host/a", "cannot be parsed"),
        ("amqps://host/a?heartbeat=hush", "may end with ssl_ca_certs"),
        ("amqp://host/a?ssl_cert_reqs=none", "for amqps:// only"),
    ],
)
def test_what_cannot_be_the_broker_is_refused(monkeypatch: pytest.MonkeyPatch, url: str, reason: str) -> None:
    """One line gives the reason without the password. Its exit code is that of wrong usage."""
    monkeypatch.setenv("WORKERMON_REDIS_URL", "redis://host:6379/1")
    monkeypatch.setenv("WORKERMON_BROKER_URL", url)
    with pytest.raises(errors.InvalidInput, match=f"WORKERMON_BROKER_URL: .*{re.escape(reason)}") as caught:
        settings.load()
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_rabbitmq_cannot_hold_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """State and schedule are in Redis, whatever the broker is."""
    monkeypatch.setenv("WORKERMON_REDIS_URL", "amqp://host")
    with pytest.raises(errors.InvalidInput, match="can be the broker only"):
        settings.load()
