"""The origin of a request: its address, and what a trusted proxy says about it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from workermon import settings
from workermon.config import addresses

#: Headers that a proxy adds. On a request from no trusted proxy they show that an unnamed proxy exists.
_FORWARDING = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The sender of a request. ``hosts`` are the names under which it may have requested this page."""

    address: str
    is_proxy: bool
    is_forwarded: bool
    is_secure: bool
    hosts: tuple[str, ...]


def of(app_settings: settings.Settings, scope: Scope) -> Peer:
    """Return the sender of a request. Only named proxies may change it by a header."""
    headers = Headers(scope=scope)
    client = scope.get("client")
    direct = str(client[0]) if client else "unknown"
    is_proxy = _within(direct, app_settings.web_networks)
    hosts = [headers.get("host", "")]
    secure = scope.get("scheme") == "https"
    address = direct
    if is_proxy:
        address = _origin(headers.getlist("x-forwarded-for"), app_settings, direct)
        hosts += [name for value in headers.getlist("x-forwarded-host") if (name := value.split(",")[-1].strip())]
        secure = secure or headers.get("x-forwarded-proto", "").split(",")[-1].strip().lower() == "https"
    return Peer(
        address=address,
        is_proxy=is_proxy,
        is_forwarded=any(name in headers for name in _FORWARDING),
        is_secure=secure,
        hosts=tuple(hosts),
    )


def _origin(values: Iterable[str], app_settings: settings.Settings, direct: str) -> str:
    """Return the last address that is not one of our proxies. A client may have invented those before it."""
    for text in reversed([part.strip() for value in values for part in value.split(",")]):
        try:
            ipaddress.ip_address(text)
        except ValueError:
            break
        if not _within(text, app_settings.web_networks):
            return text
    return direct


def _within(address: str, networks: Iterable[settings.Network]) -> bool:
    parsed = addresses.parse(address)
    return parsed is not None and any(parsed in network for network in networks)
