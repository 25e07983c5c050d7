"""Protects against other pages in the same browser that write in the name of this page's user."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request

from workermon.web import client_address, problem_details

#: Where a form, or our script, puts the token.
FIELD = "csrf"
HEADER = "X-CSRF-Token"


def token(key: str, subject: str) -> str:
    """Return the token of a session, of a user named by a proxy, or of the user of this machine."""
    return hmac.new(key.encode(), subject.encode(), hashlib.sha256).hexdigest()


def check_origin(request: Request, peer: client_address.Peer) -> None:
    """Refuse a request from another page. Raises ``problem_details.Refused``."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    own_origins = {_place(f"http://{host}") for host in peer.hosts} | {_place(f"https://{host}") for host in peer.hosts}
    if (site is not None and site not in ("same-origin", "none")) or (
        origin is not None and _place(origin) not in own_origins
    ):
        raise _refused("another site sent this", "open the page itself, and do it there")


def check_token(request: Request, expected: str) -> None:
    """Refuse a write without the token of its page. Raises ``problem_details.Refused``."""
    sent_token = request.headers.get(HEADER) or _field(request)
    if not hmac.compare_digest(sent_token.encode("utf-8", "replace"), expected.encode()):
        raise _refused("its CSRF token is missing or old", "reload the page, and do it again")


def is_browser(request: Request) -> bool:
    """Return whether a browser sent a request: today's browsers mark their writes."""
    return any(name in request.headers for name in ("origin", "sec-fetch-site", "sec-fetch-mode", "cookie", "referer"))


def _field(request: Request) -> str:
    """Return the token in a form, whose body was read before (limits)."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return ""
    body: bytes = getattr(request.state, "body", b"")
    return parse_qs(body.decode("utf-8", "replace"), max_num_fields=100).get(FIELD, [""])[0]


def _place(url: str) -> str:
    """Return host and port of a URL, without a default port."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return url
    return f"{parts.hostname}:{port}" if parts.hostname else url


def _refused(reason: str, todo: str) -> problem_details.Refused:
    return problem_details.Refused(403, "write", reason, todo)
