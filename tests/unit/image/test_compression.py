"""Streams are decompressed by what they are, in bounded pieces, and never end early unnoticed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from jubako.image.compression import PIECE, CompressionFault, Compressor, decompressed

zstd = pytest.importorskip("backports.zstd", reason="needs the package backports.zstd")
DATA = bytes(range(256)) * 5000
FORMS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


def pieces(data: bytes, size: int = 1000) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_every_form_is_recognised_by_its_first_bytes(form: str, size: int) -> None:
    data = DATA if size > 7 else DATA[:4000]
    assert b"".join(decompressed(pieces(FORMS[form](data), size))) == data


@pytest.mark.parametrize("form", [form for form in FORMS if form != "plain"])
def test_several_streams_one_after_the_other_are_one(form: str) -> None:
    data = FORMS[form](b"first ") + FORMS[form](b"second") + bytes(512)
    assert b"".join(decompressed(pieces(data))) == b"first second"


@pytest.mark.parametrize("form", [form for form in FORMS if form != "plain"])
def test_a_stream_that_is_cut_off_is_a_fault(form: str) -> None:
    with pytest.raises(CompressionFault, match=r"cut off|corrupt"):
        list(decompressed(pieces(FORMS[form](DATA)[:-6])))


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("plain", "zstd")])
def test_a_damaged_stream_is_a_fault(form: str) -> None:
    data = bytearray(FORMS[form](DATA))
    for at in range(len(data) // 2, len(data) // 2 + 8):
        data[at] ^= 0xFF
    with pytest.raises(CompressionFault):
        list(decompressed(pieces(bytes(data))))


@pytest.mark.parametrize("form", [form for form in FORMS if form != "plain"])
def test_a_small_archive_that_expands_to_a_huge_one_needs_no_memory(form: str) -> None:
    bomb = FORMS[form](bytes(64 << 20))
    tracemalloc.start()
    total = largest = 0
    for piece in decompressed(pieces(bomb, 1 << 18)):
        total += len(piece)
        largest = max(largest, len(piece))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 64 << 20
    assert largest <= PIECE
    assert peak < 24 << 20


def test_skippable_frames_before_a_zstd_stream_are_skipped() -> None:
    frame = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    assert b"".join(decompressed(pieces(frame + zstd.compress(b"text")))) == b"text"


def test_nothing_at_all_is_an_empty_stream() -> None:
    assert list(decompressed(iter(()))) == []


def test_what_is_compressed_here_is_gzip_and_always_the_same() -> None:
    def compress() -> bytes:
        compressor = Compressor()
        return compressor.add(DATA[:100]) + compressor.add(DATA[100:]) + compressor.finish()

    assert gzip.decompress(compress()) == DATA
    assert compress() == compress()
