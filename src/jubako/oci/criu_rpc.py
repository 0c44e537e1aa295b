"""The messages of `criu swrk`: criu's rpc.proto in the protocol buffers' wire format (protobuf.dev, "Encoding").

A message is a row of fields, each a number and a value: a number, text, or a message of its own. The handful that
`checkpoint` and `restore` need is told apart by the numbers below, which criu never changes.
"""

from __future__ import annotations

import os

from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Value = int | str | bytes | tuple[tuple[int, "Value"], ...]
    Message = tuple[tuple[int, Value], ...]

DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK, VERSION = 1, 2, 4, 6, 9, 10
"""criu_req_type"""

OPTIONS = {
    "images_dir_fd": 1,
    "pid": 2,
    "leave_running": 3,
    "ext_unix_sk": 4,
    "tcp_established": 5,
    "evasive_devices": 6,
    "shell_job": 7,
    "file_locks": 8,
    "log_level": 9,
    "log_file": 10,
    "ps": 11,
    "notify_scripts": 12,
    "root": 13,
    "parent_img": 14,
    "track_mem": 15,
    "auto_dedup": 16,
    "work_dir_fd": 17,
    "link_remap": 18,
    "ext_mnt": 23,
    "manage_cgroups": 24,
    "cg_root": 25,
    "rst_sibling": 26,
    "inherit_fd": 27,
    "skip_mnt": 31,
    "manage_cgroups_mode": 34,
    "external": 37,
    "empty_ns": 38,
    "join_ns": 39,
    "freeze_cgroup": 44,
    "tcp_skip_in_flight": 46,
    "lazy_pages": 48,
    "orphan_pts_master": 50,
    "config_file": 51,
    "tcp_close": 52,
    "lsm_profile": 53,
    "lsm_mount_context": 63,
    "network_lock": 64,
}
"""criu_opts"""

NAMESPACES = {"network": "net", "pid": "pid", "ipc": "ipc", "uts": "uts", "time": "time"}
"""How criu spells the types of namespaces that it can leave alone or join."""

CGROUP_MODES = {"ignore": 0, "soft": 3, "full": 4, "strict": 5}
NETWORK_LOCKS = {"iptables": 1, "nftables": 2, "skip": 3}

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TYPE, _OPTS, _NOTIFY_SUCCESS, _FEATURES = 1, 2, 3, 5


@record
class Answer:
    """What criu says. `script` names a moment (`NOTIFY`), `pid` the process that it or a restore is about."""

    kind: int
    success: bool
    script: str = ""
    pid: int = 0
    errno: int = 0
    text: str = ""
    mem_track: bool = False
    version: int = 0
    """As 10000 times the first, 100 times the second and the third number."""


def request(kind: int, options: Iterable[tuple[str, Value]] = ()) -> bytes:
    """A request of `kind` with criu's `options` by name. Switches that are off are left out."""
    fields = tuple((OPTIONS[name], value) for name, value in options if value is not False)
    message: Message = ((_TYPE, kind), (_OPTS, fields)) if fields else ((_TYPE, kind),)
    return encode(message)


def feature_request() -> bytes:
    """The question what this kernel can do."""
    return encode(((_TYPE, FEATURE_CHECK), (_FEATURES, ((1, 1),))))


def consent(success: bool) -> bytes:
    """The reply to a notification; without success criu gives up."""
    return encode(((_TYPE, NOTIFY), (_NOTIFY_SUCCESS, int(success))))


def pair(first: str, second: str | int) -> Message:
    """A message of two fields: a key and what it stands for."""
    return ((1, first), (2, second))


def read_answer(data: bytes) -> Answer:
    """What criu has sent. Raises `ValueError`."""
    fields = decode(data)
    notify, restored, dumped = (decode(_bytes(fields, number)) for number in (5, 4, 3))
    features, version = decode(_bytes(fields, 8)), decode(_bytes(fields, 10))
    errno = _number(fields, 7)
    return Answer(
        _number(fields, 1),
        bool(_number(fields, 2)),
        script=_bytes(notify, 1).decode("utf-8", "replace"),
        pid=_number(notify, 2) or _number(restored, 1) or _number(dumped, 2),
        errno=errno if errno < 1 << 31 else 0,
        text=_bytes(fields, 9).decode("utf-8", "replace"),
        mem_track=bool(_number(features, 1)),
        version=10000 * _number(version, 1) + 100 * _number(version, 2) + _number(version, 4),
    )


def encode(message: Message) -> bytes:
    """The message as bytes."""
    found = bytearray()
    for number, value in message:
        if isinstance(value, int):
            found += _varint(number << 3 | _VARINT) + _varint(value & (1 << 64) - 1)
            continue
        data = os.fsencode(value) if isinstance(value, str) else value if isinstance(value, bytes) else encode(value)
        found += _varint(number << 3 | _BYTES) + _varint(len(data)) + data
    return bytes(found)


def decode(data: bytes) -> dict[int, list[int | bytes]]:
    """The fields of a message by number, each with its values. Raises `ValueError`."""
    found: dict[int, list[int | bytes]] = {}
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        kind = key & 7
        value: int | bytes
        if kind == _VARINT:
            value, position = _read_varint(data, position)
        elif kind in (_BYTES, _FIXED64, _FIXED32):
            length, position = _read_varint(data, position) if kind == _BYTES else ({1: 8, 5: 4}[kind], position)
            value = data[position : position + length]
            position += length
            if position > len(data):
                raise ValueError("a field is cut short")
        else:
            raise ValueError(f"a field is of the unknown kind {kind}")
        found.setdefault(key >> 3, []).append(value)
    return found


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
    raise ValueError("a number is cut short")


def _number(fields: dict[int, list[int | bytes]], field: int) -> int:
    value = fields.get(field, [0])[-1]
    return value if isinstance(value, int) else 0


def _bytes(fields: dict[int, list[int | bytes]], field: int) -> bytes:
    value = fields.get(field, [b""])[-1]
    return value if isinstance(value, bytes) else b""
