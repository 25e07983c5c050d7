"""A parsed Redis URL, in the forms for redis-py, Celery and RedBeat."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

_LOGIN = ("username", "password")
#: TLS options in a URL of sentinels, as in the URL of a server (``rediss://``).
_TLS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
_YES_OR_NO = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _service(query: dict[str, str]) -> str:
    service_name = query.pop("service_name", "mymaster")
    return query.pop("service", service_name)


def _tls_of_sentinels(query: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take TLS out of the query of ``sentinel://``; return it for the server, and for the sentinels.

    Any TLS option switches it on. The sentinels use it too unless ``sentinel_ssl`` is false.
    """
    options: dict[str, Any] = {name: query.pop(name) for name in _TLS if name in query}
    use_tls = _boolean(query.pop("ssl", "true" if options else "false"))
    of_sentinels = _boolean(query.pop("sentinel_ssl", str(use_tls).lower()))
    if "ssl_check_hostname" in options:
        options["ssl_check_hostname"] = _boolean(options["ssl_check_hostname"])
    options.setdefault("ssl_cert_reqs", "required")
    return (options if use_tls else {}), ({"ssl": True, **options} if of_sentinels else {})


def _boolean(text: str) -> bool:
    if (value := _YES_OR_NO.get(text.lower())) is None:
        raise ValueError("neither true nor false")
    return value


class RedisAddress(NamedTuple):
    """A parsed Redis URL, so that its credentials can be passed on separately.

    ``hosts`` are those of the sentinels if ``service`` (the master's group) is given. ``sentinel`` has their own
    options (``username``, ``password``, and TLS in redis-py's form); ``tls`` is the same for the server that they name,
    empty without TLS. ``path`` is that of a unix socket.
    """

    scheme: str
    hosts: tuple[str, ...]
    path: str
    username: str
    password: str
    database: int
    service: str
    sentinel: dict[str, Any]
    tls: dict[str, Any]
    query: dict[str, str]

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Parse a URL whose scheme is one of ``SCHEMES``. Credentials and database may be in its query too.

        Raises ``ValueError`` if ``ssl``, ``sentinel_ssl`` or ``ssl_check_hostname`` is neither true nor false.
        """
        parts = urlsplit(url)
        credentials, _, address = parts.netloc.rpartition("@")
        username, _, password = credentials.partition(":")
        query = dict(parse_qsl(parts.query))
        socket = parts.scheme == "unix"
        database = query.pop("db", "" if socket else parts.path.strip("/"))
        sentinel: dict[str, Any] = {
            name: query.pop(f"sentinel_{name}") for name in _LOGIN if f"sentinel_{name}" in query
        }
        tls = dict[str, Any]()
        if parts.scheme == "sentinel":
            tls, of_sentinels = _tls_of_sentinels(query)
            sentinel |= of_sentinels
        return cls(
            scheme=parts.scheme,
            hosts=() if socket else tuple((address or "localhost").split(",")),
            path=unquote(parts.path) if socket else "",
            username=query.pop("username", "") or unquote(username),
            password=query.pop("password", "") or unquote(password),
            database=int(database) if database.isdecimal() else 0,
            service=_service(query) if parts.scheme == "sentinel" else "",
            sentinel=sentinel,
            tls=tls,
            query=query,
        )

    @property
    def _credentials(self) -> str:
        credentials = quote(self.username, safe="") + (f":{quote(self.password, safe='')}" if self.password else "")
        return f"{credentials}@" if credentials else ""

    @property
    def kombu_url(self) -> str:
        """Return it as Celery's transport wants it, credentials included."""
        if self.scheme == "unix":
            return f"redis+socket://{self._credentials}{quote(self.path)}?virtual_host={self.database}"
        if self.scheme == "sentinel":
            return ";".join(f"sentinel://{self._credentials}{host}/{self.database}" for host in self.hosts)
        query = {name: value for name, value in self.query.items() if name.startswith("ssl_")}
        if self.scheme == "rediss":
            # Without this option Kombu would verify nothing.
            query.setdefault("ssl_cert_reqs", "required")
        options = f"?{urlencode(query)}" if query else ""
        return f"{self.scheme}://{self._credentials}{self.hosts[0]}/{self.database}{options}"

    @property
    def redbeat_url(self) -> str:
        """Return it as RedBeat wants it, without credentials."""
        if self.scheme == "sentinel":
            # The options name them all. Celery prints this URL when beat starts, and fails if it names several ports.
            return f"redis-sentinel://{self.hosts[0]}"
        place = quote(self.path) if self.scheme == "unix" else f"{self.hosts[0]}/{self.database}"
        query = dict(self.query, db=str(self.database)) if self.scheme == "unix" else self.query
        return f"{self.scheme}://{place}" + (f"?{urlencode(query)}" if query else "")

    @property
    def redbeat_options(self) -> dict[str, Any]:
        """Return what RedBeat needs beside the URL: the credentials, and where the sentinels are."""
        options: dict[str, Any] = {}
        if self.username:
            options["username"] = self.username
        if self.password:
            options["password"] = self.password
        if self.scheme == "sentinel":
            pairs = [host.partition(":") for host in self.hosts]
            options["sentinels"] = [(host, int(port or 26379)) for host, _, port in pairs]
            options["service_name"] = self.service
            options["db"] = self.database
            if self.sentinel:
                options["sentinel_kwargs"] = self.sentinel
        return options
