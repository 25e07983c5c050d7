"""Which addresses are public: only these can be contacted by a channel without ``allow_private``."""

from __future__ import annotations

import ipaddress

#: Networks that some Python versions' ``ipaddress`` calls global although they are not, or lead elsewhere: NAT64 (RFC
#: 6052, 8215), 6to4 (RFC 3056, 7526), protocol assignments (RFC 6890), site-local (RFC 3879), documentation (RFC 9637),
#: segment routing (RFC 9602).
_OTHER_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "192.88.99.0/24", "192.0.0.0/24", "fec0::/10", "3fff::/20",
        "5f00::/16",
    )
)  # fmt: skip


def parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an IP address; an IPv4 address written as IPv6 becomes IPv4. ``None`` for anything else.

    >>> parse("::ffff:10.0.0.1"), parse("example.com")
    (IPv4Address('10.0.0.1'), None)
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip


def is_public(address: str) -> bool:
    """Return whether an IP address is public: neither private nor leading elsewhere.

    >>> is_public("93.184.215.14"), is_public("169.254.169.254"), is_public("::ffff:10.0.0.1"), is_public("fec0::1")
    (True, False, False, False)
    """
    ip = parse(address)
    if ip is None:
        return False
    if ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_loopback or ip.is_link_local:
        return False
    return ip.is_global and not any(ip.version == net.version and ip in net for net in _OTHER_NETWORKS)


def is_private(host: str) -> bool:
    """Return whether a host is a literal address that is not public. A name may lead anywhere.

    >>> is_private("10.0.0.1"), is_private("example.com")
    (True, False)
    """
    return parse(host) is not None and not is_public(host)
