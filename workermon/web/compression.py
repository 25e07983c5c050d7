"""Large bodies stored compressed: each part is compressed alone, in any order, and joined at the end."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

#: Speed matters: the bodies are repetitive, and still shrink to a tenth.
_LEVEL: Final = 1
#: Bytes of the plain body in memory at the same time.
_PIECE: Final = 1 << 18
#: The header of a gzip file without name and time (RFC 1952), and the block that ends the compressed data.
_HEAD, _LAST_BLOCK = b"\x1f\x8b\x08\0\0\0\0\0\x04\xff", b"\x03\0"


class Part(NamedTuple):
    """A part of a body: its compressed blocks, and checksum and size in bytes of the plain text."""

    blocks: bytes
    checksum: int
    size: int


class Compressor:
    """Compresses one part, piece by piece."""

    def __init__(self) -> None:
        self._stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._blocks: list[bytes] = []
        self._checksum = self._size = 0

    def add(self, piece: bytes) -> None:
        """Add a piece."""
        self._checksum = zlib.crc32(piece, self._checksum)
        self._size += len(piece)
        self._blocks.append(self._stream.compress(piece))

    def part(self) -> Part:
        """Return the added pieces. The blocks end with a whole byte, so that others may follow."""
        self._blocks.append(self._stream.flush(zlib.Z_SYNC_FLUSH))
        return Part(b"".join(self._blocks), self._checksum, self._size)


def part(plain: bytes) -> Part:
    """Return a small part."""
    compressor = Compressor()
    compressor.add(plain)
    return compressor.part()


def size(parts: Sequence[Part]) -> int:
    """Return how many bytes the plain body has."""
    return sum(fragment.size for fragment in parts)


def gzipped(parts: Sequence[Part]) -> bytes:
    """Return the body as one gzip file.

    >>> zlib.decompress(gzipped([part(b"one "), part(b"two")]), wbits=31)
    b'one two'
    """
    checksum = 0
    for fragment in parts:
        checksum = _joined(checksum, fragment.checksum, fragment.size)
    end = struct.pack("<LL", checksum, size(parts) & 0xFFFFFFFF)
    return b"".join([_HEAD, *(fragment.blocks for fragment in parts), _LAST_BLOCK, end])


def plain(parts: Sequence[Part]) -> Iterator[bytes]:
    """Yield the plain body in pieces.

    >>> b"".join(plain([part(b"one "), part(b"two")]))
    b'one two'
    """
    for fragment in parts:
        stream, compressed = zlib.decompressobj(-zlib.MAX_WBITS), fragment.blocks
        while piece := stream.decompress(compressed, _PIECE):
            yield piece
            compressed = stream.unconsumed_tail


# Checksums are remainders of polynomials over bits, written from the highest bit down: 1 << 31 is 1, 1 << 30 is x.
_DIVISOR: Final = 0xEDB88320


def _joined(first: int, second: int, length: int) -> int:
    """Return the checksum of two texts by their own ones; ``length``: bytes of the second (zlib's crc32_combine)."""
    shift, power = 1 << 31, 1 << 23  # of one byte: x to the 8th
    while length:
        if length & 1:
            shift = _product(shift, power)
        power = _product(power, power)
        length >>= 1
    return _product(shift, first) ^ second


def _product(first: int, second: int) -> int:
    product = 0
    for bit in range(31, -1, -1):
        if first >> bit & 1:
            product ^= second
        second = second >> 1 ^ (_DIVISOR if second & 1 else 0)
    return product
