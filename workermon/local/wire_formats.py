"""AWS's wire formats: CBOR (``rpc-v2-cbor``), form parameters (``query`` and ``ec2``) and XML.

Only what the simulated endpoint needs. Anything unknown raises ``ValueError``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

#: Maximum nesting of a request. The deepest real one has seven levels.
_DEPTH = 32


class Moment(int):
    """A time, in whole seconds since 1970, which each protocol writes in its own way."""


# --- CBOR (RFC 8949) ---------------------------------------------------------------------------------------------


def to_cbor(value: Any) -> bytes:
    """Write a value of dicts, lists, strings, numbers, booleans and ``Moment``."""
    out = bytearray()
    _write(out, value)
    return bytes(out)


def _write(out: bytearray, value: Any) -> None:
    if value is None:
        out.append(0xF6)
    elif value is True or value is False:
        out.append(0xF5 if value else 0xF4)
    elif isinstance(value, Moment):
        out.append(0xC1)
        _head(out, 0, int(value))
    elif isinstance(value, float):
        out.append(0xFB)
        out += struct.pack(">d", value)
    elif isinstance(value, int):
        _head(out, *((0, value) if value >= 0 else (1, -1 - value)))
    elif isinstance(value, str):
        text = value.encode()
        _head(out, 3, len(text))
        out += text
    elif isinstance(value, list | tuple):
        _head(out, 4, len(value))
        for item in value:
            _write(out, item)
    elif isinstance(value, dict):
        _head(out, 5, len(value))
        for key, item in value.items():
            _write(out, key)
            _write(out, item)
    else:
        raise TypeError(f"no CBOR for {type(value).__name__}")


def _head(out: bytearray, major: int, number: int) -> None:
    if number < 24:
        out.append(major << 5 | number)
        return
    for info, (size, code) in enumerate(((8, "B"), (16, "H"), (32, "I"), (64, "Q")), start=24):
        if number < 1 << size:
            out.append(major << 5 | info)
            out += struct.pack(">" + code, number)
            return
    raise ValueError("number too large for CBOR")


def from_cbor(data: bytes) -> Any:
    """Parse one value; a time becomes a number. Raises ``ValueError`` for anything that is not complete CBOR."""
    try:
        value, end = _read(data, 0, 0)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise ValueError(f"malformed CBOR: {error}") from None
    if end != len(data):
        raise ValueError("malformed CBOR: more than one value")
    return value


_BREAK = object()


def _read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth > _DEPTH:
        raise ValueError("malformed CBOR: nested too deep")
    major, info = data[at] >> 5, data[at] & 31
    at += 1
    if major == 7:
        return _read_simple(data, at, info)
    if info < 24:
        number: int | None = info
    elif info < 28:
        size = 1 << info - 24
        number = int.from_bytes(_slice(data, at, size), "big")
        at += size
    elif info == 31 and major in (2, 3, 4, 5):
        number = None  # of indefinite length, up to a break
    else:
        raise ValueError("malformed CBOR: reserved length")
    if major == 0:
        return number, at
    if major == 1:
        assert number is not None
        return -1 - number, at
    if major in (2, 3):
        if number is None:
            parts, at = _read_items(data, at, None, depth)
            return (b"" if major == 2 else "").join(parts), at
        text = _slice(data, at, number)
        return (text if major == 2 else text.decode()), at + number
    if major == 4:
        return _read_items(data, at, number, depth)
    if major == 5:
        flat, at = _read_items(data, at, None if number is None else 2 * number, depth)
        if len(flat) % 2:
            raise ValueError("malformed CBOR: a key without a value")
        return dict(zip(flat[::2], flat[1::2], strict=True)), at
    return _read(data, at, depth + 1)  # a tag: the only one in use marks a number as a time


def _read_items(data: bytes, at: int, count: int | None, depth: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    while count is None or len(items) < count:
        item, at = _read(data, at, depth + 1)
        if item is _BREAK:
            if count is None:
                break
            raise ValueError("malformed CBOR: a break inside")
        items.append(item)
    return items, at


def _read_simple(data: bytes, at: int, info: int) -> tuple[Any, int]:
    if info in (20, 21):
        return info == 21, at
    if info in (22, 23):
        return None, at
    if info in (25, 26, 27):
        size, code = {25: (2, ">e"), 26: (4, ">f"), 27: (8, ">d")}[info]
        return struct.unpack(code, _slice(data, at, size))[0], at + size
    if info == 31:
        return _BREAK, at
    raise ValueError("malformed CBOR: unknown simple value")


def _slice(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError("malformed CBOR: cut short")
    return data[at : at + size]


# --- form parameters ---------------------------------------------------------------------------------------------


def from_form(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Nest ``A.1.B=x`` or ``A.member.1.B=x`` as ``{"A": [{"B": "x"}]}``."""
    root: dict[str, Any] = {}
    for name, value in pairs:
        parts = [part for part in name.split(".") if part != "member"]
        node = root
        for part in parts[:-1][:_DEPTH]:
            inner = node.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ValueError(f"parameter {name} is both a value and a structure")
            node = inner
        node[parts[-1] if parts else name] = value
    return {key: _as_list(value) for key, value in root.items()}


def _as_list(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _as_list(item) for key, item in value.items()}
    if inner and all(key.isdigit() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


# --- XML ---------------------------------------------------------------------------------------------------------


def to_xml(tag: str, value: Any, *, item: str) -> str:
    """Write a value as an element. A list's entries are each called ``item``. ``None`` is left out."""
    if value is None:
        return ""
    if isinstance(value, dict):
        inside = "".join(to_xml(key, element, item=item) for key, element in value.items())
    elif isinstance(value, list | tuple):
        inside = "".join(to_xml(item, element, item=item) for element in value)
    elif isinstance(value, bool):
        inside = "true" if value else "false"
    elif isinstance(value, Moment):
        inside = datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z")
    else:
        inside = escape(str(value))
    return f"<{tag}>{inside}</{tag}>"


def moment(value: Any) -> float:
    """Parse a time as any of the protocols writes it: a number, or ISO 8601."""
    if isinstance(value, int | float):
        return float(value)
    try:
        return float(value)
    except ValueError:
        pass
    parsed = datetime.fromisoformat(value)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
