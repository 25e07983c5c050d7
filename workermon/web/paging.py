"""Cursors of the API's lists: opaque texts that name the last row already returned."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json

from workermon import errors, views

#: Rows of a page: the default, and the maximum.
DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
#: Characters. Our longest cursor has a third of this.
MAX_CURSOR_LENGTH = 4096
#: Bytes of the digest that distinguishes our cursors from invalid ones. It is no secret: a cursor grants nothing.
DIGEST_LENGTH = 6


def encode(listing: str, position: views.Position | None) -> str | None:
    """Return the cursor that continues after a position of a list; ``None`` stays ``None``.

    >>> decode("workers", encode("workers", ("render-07", 1.5)))
    ('render-07', 1.5)
    """
    if position is None:
        return None
    content = json.dumps(position, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(_digest(listing, content) + content).rstrip(b"=").decode()


def decode(listing: str, cursor: str | None) -> views.Position | None:
    """Return the position in a cursor of this list. Raises ``errors.InvalidInput`` for any other text."""
    if cursor is None:
        return None
    try:
        if len(cursor) > MAX_CURSOR_LENGTH:
            raise ValueError
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, content = raw[:DIGEST_LENGTH], raw[DIGEST_LENGTH:]
        position = json.loads(content.decode("utf-8", "surrogatepass")) if digest == _digest(listing, content) else None
        if not isinstance(position, list) or not all(isinstance(part, str | int | float) for part in position):
            raise ValueError
        return tuple(position)
    except (binascii.Error, ValueError, RecursionError):
        raise errors.InvalidInput("cursor", "is not a cursor of this list", "begin without a cursor") from None


def _digest(listing: str, content: bytes) -> bytes:
    return hashlib.sha256(listing.encode() + b"\0" + content).digest()[:DIGEST_LENGTH]
