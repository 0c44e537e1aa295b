"""Which extended attributes of an archive's files are kept.

Some names are commands to a file system: `overlay.*` decides what an overlay shows, fuse-overlayfs takes owners from
`user.containers.override_stat`. An archive must not speak in them. Others cannot be set in a user namespace at all.
File capabilities are kept; the kernel ties them to the namespace's root (capabilities(7), "Namespaced file
capabilities").
"""

from __future__ import annotations

import errno
import os
import struct

OPAQUE = "user.overlay.opaque"
CAPABILITY = "security.capability"
_FORGED = ("user.overlay.", "trusted.overlay.", "user.fuseoverlayfs.", "user.containers.", "security.fuseoverlayfs.")
_QUIET = ("security.", "trusted.", "system.nfs4_acl", "btrfs.")  # labels and marks of the machine it was made on
_VFS_CAP_REVISION_MASK = 0xFF000000
_VFS_CAP_REVISION_2 = 0x02000000
_VFS_CAP_REVISION_3 = 0x03000000


def set_xattrs(fd: int, attributes: dict[bytes, bytes]) -> list[str]:
    """Give the file behind `fd` those of `attributes` that it may have; one note for each kind left out."""
    notes = []
    for raw, value in attributes.items():
        name = os.fsdecode(raw)
        if "\0" in name or not name.partition(".")[2]:
            notes.append("extended attributes with malformed names were left out")
        elif name.startswith(_FORGED):
            notes.append(f"attributes that only an overlay may set were left out: {name}")
        elif name == CAPABILITY:
            notes += _set(fd, name, _without_root_id(value))
        elif not name.startswith(_QUIET):
            notes += _set(fd, name, value)
    return notes


def _set(fd: int, name: str, value: bytes) -> list[str]:
    try:
        os.setxattr(fd, name, value)
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EDQUOT) and len(value) < 2048:
            raise
        shown = name if name.isprintable() and len(name) < 80 else "?"
        return [f"the extended attribute {shown} could not be kept: {os.strerror(failure.errno or 0)}"]
    return []


def _without_root_id(value: bytes) -> bytes:
    """A version 3 capability names the root of the namespace it was made in, which means nothing here."""
    if len(value) == 24:
        (magic,) = struct.unpack_from("<I", value)
        if magic & _VFS_CAP_REVISION_MASK == _VFS_CAP_REVISION_3:
            flags = magic & ~_VFS_CAP_REVISION_MASK
            return struct.pack("<I", _VFS_CAP_REVISION_2 | flags) + value[4:20]
    return value
