"""Reading tar streams that somebody hostile may have written.

One pass, bounded memory, and every departure from the format is an error. The standard library's `tarfile` is made
for archives that one trusts: it reads an extended header of any size into memory, and it guesses where the format is
broken. Formats: POSIX ustar and pax (IEEE Std 1003.1, pax(1)), GNU long names, GNU sparse files (all four forms), old
V7. Names are bytes here: tar promises no encoding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

BLOCK = 512
CHUNK = 1 << 18
MAX_HEADER = 1 << 20  # one extended header; Go's archive/tar, which docker uses, has the same limit
MAX_SIZE = 1 << 62
_ZEROS = bytes(BLOCK)

FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = (
    "file",
    "hardlink",
    "symlink",
    "char",
    "block",
    "dir",
    "fifo",
)
_KINDS = {
    b"0": FILE,
    b"\0": FILE,
    b"7": FILE,  # "contiguous", a plain file for everybody
    b"S": FILE,  # GNU sparse
    b"1": HARD_LINK,
    b"2": SYMLINK,
    b"3": CHARACTER,
    b"4": BLOCK_DEVICE,
    b"5": DIRECTORY,
    b"6": FIFO,
}


class TarFault(Exception):
    """The stream is not a well-formed tar archive; the text says how and at which byte."""


class Member:
    """One member of an archive, as its headers say; `size` is that of the file, holes included."""

    __slots__ = (
        "gid",
        "kind",
        "link",
        "major",
        "minor",
        "mode",
        "mtime_ns",
        "name",
        "offset",
        "size",
        "sparse",
        "stored",
        "uid",
        "xattrs",
    )

    def __init__(self, name: bytes, kind: str, link: bytes) -> None:
        self.name = name
        self.kind = kind
        self.link = link
        self.mode = self.uid = self.gid = self.size = self.stored = self.mtime_ns = self.major = self.minor = (
            self.offset
        ) = 0
        self.xattrs: dict[bytes, bytes] = {}
        self.sparse: list[tuple[int, int]] | None = None

    @property
    def shown(self) -> str:
        """The name for messages, printable whatever it holds."""
        text = os.fsdecode(self.name)
        text = text if text.isprintable() else ascii(text)[1:-1]
        return text if len(text) <= 120 else f"{text[:60]}…{text[-40:]}"


class TarReader:
    """Iterates over the members of a stream.

    `read(n)` must give exactly n bytes, fewer only at the end. With `skip(n)` payloads that nobody reads are not read
    either (a seekable file). `require_end` wants the two zero blocks that end an archive, the only mark of completeness
    where no digest covers the stream.
    """

    def __init__(
        self, read: Callable[[int], bytes], *, skip: Callable[[int], None] | None = None, require_end: bool = True
    ) -> None:
        self._read = read
        self._skip = skip
        self._require_end = require_end
        self._left = 0  # of the current payload
        self._padding = 0
        self._globals: dict[bytes, bytes] = {}
        self.position = 0

    def __iter__(self) -> Iterator[Member]:
        while True:
            member = self._next()
            if member is None:
                return
            yield member

    def pieces(self, member: Member) -> Iterator[tuple[int, bytes]]:
        """The data of `member`, the one just met, as (offset in the file, bytes); holes are left out."""
        for offset, length in member.sparse if member.sparse is not None else ((0, member.size),):
            while length:
                chunk = self._take(min(length, CHUNK))
                yield offset, chunk
                offset += len(chunk)
                length -= len(chunk)

    def contents(self, member: Member, limit: int) -> bytes:
        """The whole data of a small member; more than `limit` bytes are a fault."""
        if member.size > limit or member.sparse is not None:
            raise TarFault(f"{member.shown} is larger than the {limit} bytes that such a file may have")
        return b"".join(chunk for _offset, chunk in self.pieces(member))

    def _take(self, count: int) -> bytes:
        chunk = self._exactly(count)
        self._left -= count
        return chunk

    def _exactly(self, count: int) -> bytes:
        chunk = self._read(count)
        self.position += len(chunk)
        if len(chunk) != count:
            raise TarFault(f"the archive ends in the middle of a member, at byte {self.position}")
        return chunk

    def _finish_payload(self) -> None:
        rest = self._left + self._padding
        self._left = self._padding = 0
        if self._skip is not None and rest:
            self._skip(rest)
            self.position += rest
            return
        while rest:
            rest -= len(self._exactly(min(rest, CHUNK)))

    def _next(self) -> Member | None:
        self._finish_payload()
        extended: dict[bytes, bytes] = dict(self._globals)
        sparse_pairs: list[bytes] = []
        long_name = long_link = None
        while True:
            header = self._read_header()
            if header is None:
                if long_name is not None or long_link is not None or extended != self._globals:
                    raise TarFault("the archive ends after an extended header")
                return None
            flag = header[156:157]
            if flag == b"x":
                _parse_pax(self._special(header), extended, sparse_pairs)
            elif flag == b"g":
                _parse_pax(self._special(header), self._globals, [])
                extended = {**self._globals, **extended}
            elif flag == b"L":
                long_name = self._special(header).split(b"\0", 1)[0]
            elif flag == b"K":
                long_link = self._special(header).split(b"\0", 1)[0]
            elif flag == b"V":  # GNU volume label
                self._start_payload(_size(header, {}))
                self._finish_payload()
            else:
                return self._member(header, flag, extended, sparse_pairs, long_name, long_link)

    def _read_header(self) -> bytes | None:
        block = self._read(BLOCK)
        self.position += len(block)
        if not block:
            if self._require_end and not self.position:
                raise TarFault("the archive is truncated: there is nothing in it")
            if self._require_end:
                raise TarFault(f"the archive is truncated: its end mark is missing at byte {self.position}")
            return None
        if len(block) != BLOCK:
            raise TarFault(f"the archive ends in the middle of a header, at byte {self.position}")
        if block == _ZEROS:
            second = self._read(BLOCK)
            self.position += len(second)
            if second and second != _ZEROS:
                raise TarFault(f"data follows a lone zero block, at byte {self.position - BLOCK}")
            return None
        try:
            stored = _number(block[148:156], "checksum")
        except TarFault as fault:
            if self.position > BLOCK:
                raise
            raise TarFault("it is no tar archive, and none in a compression that is known") from fault
        plain = 256 + sum(block) - sum(block[148:156])
        if stored != plain and stored != plain - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
            raise TarFault(f"no tar header at byte {self.position - BLOCK} (its checksum is wrong)")
        return block

    def _special(self, header: bytes) -> bytes:
        size = _size(header, {})
        if size > MAX_HEADER:
            raise TarFault(
                f"an extended header of {size} bytes, at byte {self.position - BLOCK}; {MAX_HEADER} are allowed"
            )
        self._start_payload(size)
        data = self._take(size)
        self._finish_payload()
        return data

    def _start_payload(self, size: int) -> None:
        self._left = size
        self._padding = -size % BLOCK

    def _member(
        self,
        header: bytes,
        flag: bytes,
        pax: dict[bytes, bytes],
        sparse_pairs: list[bytes],
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> Member:
        name = header[:100].split(b"\0", 1)[0]
        if header[257:263] == b"ustar\0":
            prefix = header[345:500].split(b"\0", 1)[0]
            name = prefix + b"/" + name if prefix else name
        name = long_name if long_name is not None else name
        name = pax.get(b"GNU.sparse.name") or pax.get(b"path") or name
        link = long_link if long_link is not None else header[157:257].split(b"\0", 1)[0]
        link = pax.get(b"linkpath") or link
        kind = _KINDS.get(flag, "")
        if kind == FILE and flag != b"S" and name.endswith(b"/"):  # how V7 wrote directories
            kind = DIRECTORY
        member = Member(name, kind, link)
        if not kind:
            raise TarFault(f"{member.shown} is of the unknown type {flag!r}")
        if b"\0" in name or b"\0" in link:
            raise TarFault(f"{member.shown}: a name holds a zero byte")
        member.mode = _number(header[100:108], "mode") & 0o7777
        member.uid = _decimal(pax[b"uid"], "uid") if b"uid" in pax else _number(header[108:116], "uid")
        member.gid = _decimal(pax[b"gid"], "gid") if b"gid" in pax else _number(header[116:124], "gid")
        member.mtime_ns = _time(pax[b"mtime"]) if b"mtime" in pax else _number(header[136:148], "mtime") * 10**9
        if kind in (CHARACTER, BLOCK_DEVICE):
            member.major, member.minor = _number(header[329:337], "major"), _number(header[337:345], "minor")
        for key, value in pax.items():
            if key.startswith(b"SCHILY.xattr."):
                member.xattrs[key[13:]] = value
        if kind == FILE:
            member.size = member.stored = _size(header, pax)
        member.offset = self.position
        self._start_payload(member.stored)
        if kind == FILE and (flag == b"S" or b"GNU.sparse.major" in pax or b"GNU.sparse.map" in pax or sparse_pairs):
            self._read_sparse(member, header, flag, pax, sparse_pairs)
        return member

    def _read_sparse(
        self, member: Member, header: bytes, flag: bytes, pax: dict[bytes, bytes], pairs: list[bytes]
    ) -> None:
        if flag == b"S":
            numbers, member.size = self._old_sparse(header)
            member.offset = self.position
        elif pax.get(b"GNU.sparse.major") == b"1":
            member.size = _decimal(pax.get(b"GNU.sparse.realsize", b""), "GNU.sparse.realsize")
            numbers = self._sparse_map_in_data(member)
        else:
            member.size = _decimal(
                pax.get(b"GNU.sparse.size") or pax.get(b"GNU.sparse.realsize", b""), "GNU.sparse.size"
            )
            listed = pax[b"GNU.sparse.map"].split(b",") if b"GNU.sparse.map" in pax else pairs
            numbers = [_decimal(number, "GNU.sparse.map") for number in listed if number]
        if len(numbers) % 2:
            raise TarFault(f"{member.shown}: its map of holes has an odd number of entries")
        sparse = [(start, length) for start, length in zip(numbers[::2], numbers[1::2], strict=True) if length]
        end = 0
        for start, length in sparse:
            if start < end:
                raise TarFault(f"{member.shown}: its map of holes overlaps itself")
            end = start + length
        if end > member.size or sum(length for _start, length in sparse) != self._left:
            raise TarFault(f"{member.shown}: its map of holes does not fit its size")
        member.sparse = sparse

    def _old_sparse(self, header: bytes) -> tuple[list[int], int]:
        numbers: list[int] = []
        self._padding, left, self._left = 0, self._left, 0  # the extension blocks come before the payload
        area, more = header[386:482], header[482:483] not in (b"\0", b"0", b"")
        while True:
            for at in range(0, len(area), 24):
                if area[at : at + 24].strip(b"\0 "):
                    numbers += [_number(area[at : at + 12], "offset"), _number(area[at + 12 : at + 24], "length")]
            if not more:
                break
            if len(numbers) * 8 > MAX_HEADER:
                raise TarFault("a map of holes is too large")
            block = self._exactly(BLOCK)
            area, more = block[:504], block[504:505] not in (b"\0", b"0")
        self._start_payload(left)
        return numbers, _number(header[483:495], "size")

    def _sparse_map_in_data(self, member: Member) -> list[int]:
        text, wanted = b"", -1
        while wanted < 0 or text.count(b"\n") < wanted:
            if self._left < BLOCK or len(text) > MAX_HEADER:
                raise TarFault(f"{member.shown}: its map of holes is cut off")
            text += self._take(BLOCK)
            if wanted < 0 and b"\n" in text:
                wanted = 1 + 2 * _decimal(text.split(b"\n", 1)[0], "GNU.sparse map")
        return [_decimal(line, "GNU.sparse map") for line in text.split(b"\n")[1:wanted]]


def _parse_pax(data: bytes, into: dict[bytes, bytes], sparse_pairs: list[bytes]) -> None:
    """The records `LENGTH KEY=VALUE\\n` of an extended header; an empty value takes a key back."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 21)
        if space < 0:
            if not data[at:].strip(b"\0"):
                return
            raise TarFault("an extended header is malformed: a record has no length")
        length = _decimal(data[at:space], "record length")
        record = data[space + 1 : at + length]
        key, equals, value = record[:-1].partition(b"=")
        if (
            at + length > len(data)
            or length <= space - at + 1
            or record[-1:] != b"\n"
            or not equals
            or not key
            or b"\0" in key
        ):
            raise TarFault("an extended header is malformed: a record does not end where it says")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            sparse_pairs.append(value)
        elif value or key.startswith(b"SCHILY.xattr."):
            into[key] = value
        else:
            into.pop(key, None)
        at += length


def _size(header: bytes, pax: dict[bytes, bytes]) -> int:
    size = _decimal(pax[b"size"], "size") if b"size" in pax else _number(header[124:136], "size")
    if not 0 <= size <= MAX_SIZE:
        raise TarFault(f"a member says that its size is {size}")
    return size


def _number(field: bytes, what: str) -> int:
    """A header's number: octal text, or base 256 where the first bit is set (GNU)."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        bits = 8 * len(field)
        return value - (1 << bits) if field[0] & 0x40 else value - (1 << (bits - 1))
    text = field.split(b"\0", 1)[0].strip(b" ") or field.strip(b"\0 ")
    if not text:
        return 0
    if text.strip(b"01234567"):
        raise TarFault(f"a header's {what} is not a number: {text!r}")
    return int(text, 8)


def _decimal(text: bytes, what: str) -> int:
    if not text.isdigit() or len(text) > 20:
        raise TarFault(f"an extended header's {what} is not a number: {text[:30]!r}")
    return int(text)


def _time(text: bytes) -> int:
    """A pax time, decimal seconds with a fraction, in nanoseconds."""
    sign = -1 if text.startswith(b"-") else 1
    whole, _, fraction = text.lstrip(b"-").partition(b".")
    seconds = _decimal(whole or b"0", "mtime")
    return sign * (seconds * 10**9 + _decimal((fraction + b"000000000")[:9], "mtime"))
