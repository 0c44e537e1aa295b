"""The tar reader: every form that real programs write, and nothing that is malformed."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.image.tarstream import DIRECTORY, FIFO, FILE, HARD_LINK, SYMLINK, Member, TarFault, TarReader


def read_all(data: bytes, **options: bool) -> list[tuple[Member, bytes]]:
    reader = TarReader(io.BytesIO(data).read, **options)
    found = []
    for member in reader:
        content = bytearray(member.size if member.kind == FILE and member.size < 1 << 24 else 0)
        if member.kind == FILE:
            for offset, piece in reader.pieces(member):
                content[offset : offset + len(piece)] = piece
        found.append((member, bytes(content)))
    return found


def archive(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def entry(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def raw_header(name: bytes = b"x", size: bytes = b"00000000000\0", flag: bytes = b"0") -> bytes:
    header = bytearray(512)
    header[: len(name)] = name
    header[100:108] = b"0000644\0"
    header[108:116] = header[116:124] = b"0000000\0"
    header[124:136] = size
    header[136:148] = b"00000000000\0"
    header[156:157] = flag
    header[257:265] = b"ustar\x0000"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_the_standard_library_writes_is_read_back(form: int) -> None:
    data = archive(
        (entry("d", type=tarfile.DIRTYPE, mode=0o1777), b""),
        (entry("d/" + "n" * 90, mode=0o4755, uid=1000, gid=7, mtime=1_600_000_000), b"hello" * 1000),
        (entry("l", type=tarfile.SYMTYPE, linkname="d/../x"), b""),
        (entry("h", type=tarfile.LNKTYPE, linkname="d/f"), b""),
        (entry("p", type=tarfile.FIFOTYPE), b""),
        form=form,
    )
    found = read_all(data)
    assert [member.kind for member, _ in found] == [DIRECTORY, FILE, SYMLINK, HARD_LINK, FIFO]
    file, content = found[1]
    assert (file.name, file.mode, file.uid, file.gid) == (b"d/" + b"n" * 90, 0o4755, 1000, 7)
    assert file.mtime_ns == 1_600_000_000 * 10**9
    assert content == b"hello" * 1000
    assert found[2][0].link == b"d/../x"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_large_ids_and_times_before_1970_are_kept(form: int) -> None:
    name, link = "a/" * 200 + "f", "t" * 300
    data = archive((entry(name, type=tarfile.SYMTYPE, linkname=link, uid=1 << 31, mtime=-5), b""), form=form)
    member, _ = read_all(data)[0]
    assert (member.name, member.link, member.uid) == (name.encode(), link.encode(), 1 << 31)
    assert member.mtime_ns == -5 * 10**9


def test_fractions_of_a_second_and_attributes_come_from_the_extended_header() -> None:
    info = entry("f")
    info.pax_headers = {"mtime": "12.000000345", "SCHILY.xattr.user.x": "a=b\nc"}
    member, _ = read_all(archive((info, b"")))[0]
    assert member.mtime_ns == 12_000_000_345
    assert member.xattrs == {b"user.x": b"a=b\nc"}


@pytest.mark.parametrize(
    "options", [("--format=gnu",), *[("--format=pax", f"--sparse-version={v}") for v in ("0.0", "0.1", "1.0")]]
)
def test_the_holes_of_gnu_tar_are_holes_again(tmp_path: Path, options: tuple[str, ...]) -> None:
    content = bytearray(30 << 16)
    with open(tmp_path / "sparse", "wb") as file:
        for number in range(30):  # more holes than one header holds
            file.seek(number << 16)
            file.write(b"data %d" % number)
            content[number << 16 : (number << 16) + len(b"data %d" % number)] = b"data %d" % number
        file.truncate(30 << 16)
    (tmp_path / "after").write_text("after")
    made = subprocess.run(
        ("tar", "-C", tmp_path, "--sparse", *options, "-cf", "-", "sparse", "after"), capture_output=True
    )
    assert made.returncode == 0, made.stderr
    (sparse, data), (after, text) = read_all(made.stdout)
    assert (sparse.name, sparse.size) == (b"sparse", 30 << 16)
    assert sparse.sparse is not None
    assert data == bytes(content)
    assert (after.name, text) == (b"after", b"after")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (archive((entry("f"), b"x" * 600))[:700], "in the middle of a member"),
        (archive((entry("f"), b"x" * 600))[:300], "in the middle of a header"),
        (archive((entry("f"), b"x"))[:1024], "end mark is missing"),
        (b"not a tar archive at all".ljust(512, b"!"), "no tar archive"),
        (raw_header()[:100] + b"9" + raw_header()[101:], "checksum is wrong"),
        (raw_header() + bytes(512) + raw_header(), "lone zero block"),
        (raw_header(flag=b"Z"), "unknown type"),
        (raw_header(size=b"\xff" * 11 + b"\xfe"), "size is -2"),
        (raw_header(size=b"77777777777\0", flag=b"x"), "extended header of"),
        (raw_header(size=b"77777777777\0", flag=b"L"), "extended header of"),
        (raw_header(size=b"00000000012\0", flag=b"x") + b"99 a=b\n".ljust(512, b"\0"), "does not end where it says"),
        (raw_header(size=b"00000000007\0", flag=b"x") + b"0 a=b\n\n".ljust(512, b"\0"), "does not end where it says"),
        (
            raw_header(size=b"00000000006\0", flag=b"x") + b"6 a=b\n".ljust(512, b"\0") + bytes(1024),
            "after an extended",
        ),
        (
            raw_header(size=b"00000000013\0", flag=b"x") + b"11 size=-1\n".ljust(512, b"\0") + raw_header(),
            "not a number",
        ),
    ],
)
def test_a_malformed_archive_is_a_fault_and_never_a_guess(data: bytes, reason: str) -> None:
    with pytest.raises(TarFault, match=reason):
        read_all(data)


def test_a_missing_end_mark_is_forgiven_where_a_digest_covers_the_stream() -> None:
    whole = archive((entry("f"), b"x"))
    assert len(read_all(whole[:1024], require_end=False)) == 1


def test_a_map_of_holes_that_lies_about_the_size_is_refused() -> None:
    info = entry("f")
    info.pax_headers = {"GNU.sparse.map": "0,5,3,5", "GNU.sparse.size": "20", "GNU.sparse.name": "f"}
    with pytest.raises(TarFault, match="overlaps"):
        read_all(archive((info, b"0123456789")))
    info.pax_headers["GNU.sparse.map"] = "0,5,100,5"
    with pytest.raises(TarFault, match="does not fit"):
        read_all(archive((info, b"0123456789")))


def test_payloads_that_nobody_reads_are_skipped() -> None:
    data = archive((entry("a"), b"x" * 5000), (entry("b"), b"y"))
    file = io.BytesIO(data)
    reader = TarReader(file.read, skip=lambda count: file.seek(count, os.SEEK_CUR) and None)
    assert [member.name for member in reader] == [b"a", b"b"]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damage_is_a_fault_or_harmless_but_never_another_exception(data: st.DataObject) -> None:
    info = entry("some/file", uid=1000)
    info.pax_headers = {"SCHILY.xattr.user.x": "y", "mtime": "1.5"}
    whole = bytearray(archive((info, b"x" * 700), (entry("l" * 120, type=tarfile.SYMTYPE, linkname="t"), b"")))
    for _change in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    del whole[data.draw(st.integers(0, len(whole))) :]
    try:
        read_all(bytes(whole))
    except TarFault:
        pass
