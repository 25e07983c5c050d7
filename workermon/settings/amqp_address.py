"""The parsed URL of a RabbitMQ, in Kombu's form."""

from __future__ import annotations

import re
import ssl
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit, urlunsplit

SCHEMES = ("amqp", "amqps")

#: TLS options of the URL, with py-amqp's names for the files.
_FILES = {"ssl_ca_certs": "ca_certs", "ssl_certfile": "certfile", "ssl_keyfile": "keyfile"}
_CERT_REQS = {"required": ssl.CERT_REQUIRED, "none": ssl.CERT_NONE}


class AmqpAddress(NamedTuple):
    """A parsed ``amqp://`` or ``amqps://`` URL: for Kombu, credentials included, and TLS in py-amqp's form."""

    kombu_url: str
    tls: dict[str, Any]

    @classmethod
    def parse(cls, url: str) -> AmqpAddress:
        """Parse a URL. Raises ``ValueError`` with the reason, which shows no part of it.

        >>> AmqpAddress.parse("amqps://u:p@rabbit:5671/watch?ssl_ca_certs=/ca.pem").tls["server_hostname"]
        'rabbit'
        """
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        files = {name: query.pop(option) for option, name in _FILES.items() if option in query}
        verification = query.pop("ssl_cert_reqs", "required").lower().removeprefix("cert_")
        if query or verification not in _CERT_REQS or (parts.query and parts.scheme != "amqps"):
            raise ValueError(
                "may end with ssl_ca_certs, ssl_certfile, ssl_keyfile and ssl_cert_reqs=none, for amqps:// only"
            )
        if not parts.hostname or not re.fullmatch(r"/?|/[^/]+|//", parts.path):
            raise ValueError("needs one host and at most one virtual host, such as amqp://user:password@host:5672/name")
        return cls(
            kombu_url=urlunsplit(parts._replace(query="")),
            tls={} if parts.scheme == "amqp" else _verified(parts.hostname, _CERT_REQS[verification], files),
        )


def _verified(host: str, cert_reqs: ssl.VerifyMode, files: dict[str, str]) -> dict[str, Any]:
    # py-amqp compares the certificate with the host only if it is given here.
    tls_options = {"server_hostname": host} if cert_reqs is ssl.CERT_REQUIRED else {}
    return {"cert_reqs": int(cert_reqs), **tls_options, **files}
