"""Decompressing streams, whatever they are called.

The first bytes decide, not the name or the media type: docker, podman and skopeo do the same. Output is produced in
bounded pieces, so a small archive that expands to a huge one costs disk space at most, never memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from jubako.errors import JubakoError

PIECE = 1 << 18
_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"))
XZ_MEMORY = 1 << 29


class CompressionFault(Exception):
    """The compressed stream is corrupt or cut off."""


def detect(head: bytes) -> str:
    """`gzip`, `zstd`, `xz`, `bzip2`, or an empty string for none of these."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    # A zstd stream may begin with skippable frames (0x184D2A50 to 5F), as zstd:chunked layers do.
    if len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
        return "zstd"
    return ""


def decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces of the stream without its compression; an uncompressed one passes as it is.

    Raises `CompressionFault` when it is corrupt or ends early.
    """
    head = b""
    while len(head) < 6:
        chunk = next(chunks, b"")
        if not chunk:
            break
        head += chunk
    kind = detect(head)
    stream = _chain(head, chunks)
    if not kind:
        yield from stream
        return
    make, faults = _decoder(kind)
    decoder: Any = None
    for chunk in stream:
        data = chunk
        while data:
            if decoder is None:
                if not data.strip(b"\0"):
                    break  # padding after the last frame
                decoder = make()
            try:
                piece = decoder.decompress(data, PIECE)
                data = b""
                while True:
                    if piece:
                        yield piece
                    if decoder.eof:
                        data = decoder.unused_data
                        decoder = None
                        break
                    if decoder.needs_input:
                        break
                    piece = decoder.decompress(b"", PIECE)
            except faults as fault:
                raise CompressionFault(f"the {kind} stream is corrupt: {fault}") from None
    if decoder is not None:
        raise CompressionFault(f"the {kind} stream is cut off")


def _chain(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from rest


def _decoder(kind: str) -> tuple[Callable[[], Any], tuple[type[Exception], ...]]:
    if kind == "gzip":
        import zlib

        return _Gzip, (zlib.error,)
    if kind == "xz":
        import lzma

        return lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY), (lzma.LZMAError,)
    if kind == "bzip2":
        import bz2

        return bz2.BZ2Decompressor, (OSError, ValueError)
    return _zstd()


class _Gzip:
    """zlib's object with the interface of the other decompressors."""

    def __init__(self) -> None:
        import zlib

        self._object = zlib.decompressobj(wbits=31)
        self._data = b""

    def decompress(self, data: bytes, limit: int) -> bytes:
        piece = self._object.decompress(self._data + data if self._data else data, limit)
        self._data = self._object.unconsumed_tail
        self._full = len(piece) >= limit
        return piece

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def needs_input(self) -> bool:
        return not self._data and not self._full

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data


def _zstd() -> tuple[Callable[[], Any], tuple[type[Exception], ...]]:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
    except ImportError:
        try:
            from backports import zstd  # type: ignore[import-not-found,no-redef,unused-ignore]
        except ImportError:
            raise JubakoError(
                "decompress",
                "zstd stream",
                reason="this Python has no zstd",
                hint="install the package backports.zstd, or decompress it first with `zstd -d`",
            ) from None
    return zstd.ZstdDecompressor, (zstd.ZstdError,)


class Compressor:
    """gzip, fast rather than tight, for layers that came uncompressed; the header holds no time, so equal input
    gives equal output on one machine."""

    def __init__(self) -> None:
        import zlib

        self._object: Any = zlib.compressobj(1, zlib.DEFLATED, 31)
        try:
            from isal import isal_zlib  # type: ignore[import-not-found,unused-ignore]  # five times as fast
        except ImportError:
            return
        self._object = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)

    def add(self, data: bytes) -> bytes:
        return bytes(self._object.compress(data))

    def finish(self) -> bytes:
        return bytes(self._object.flush())


def chunks_of(fd: int, size: int = PIECE) -> Iterator[bytes]:
    """What can be read from `fd` until its end."""
    while chunk := os.read(fd, size):
        yield chunk
