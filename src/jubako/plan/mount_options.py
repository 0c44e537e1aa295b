"""config.json's mount options: every name of the specification's table, what it sets, clears or says otherwise.

OCI runtime-spec 1.3, config.md, "Linux mount options"; mount(8), mount(2), mount_setattr(2). Where the options of
`jubako run` give a flag to all mounts of a bind, the document's plain flags hold for the mount itself, and only the
forms with an `r` before them reach the mounts below it.
"""

from __future__ import annotations

from jubako.linux import mount as mnt
from jubako.record import record

PROPAGATIONS = {
    "private": mnt.MS_PRIVATE,
    "slave": mnt.MS_SLAVE,
    "shared": mnt.MS_SHARED,
    "unbindable": mnt.MS_UNBINDABLE,
    "rprivate": mnt.MS_PRIVATE | mnt.MS_REC,
    "rslave": mnt.MS_SLAVE | mnt.MS_REC,
    "rshared": mnt.MS_SHARED | mnt.MS_REC,
    "runbindable": mnt.MS_UNBINDABLE | mnt.MS_REC,
}
# (flag of mount(2), whether the option clears it)
_FLAGS = {
    "ro": (mnt.MS_RDONLY, False),
    "rw": (mnt.MS_RDONLY, True),
    "nosuid": (mnt.MS_NOSUID, False),
    "suid": (mnt.MS_NOSUID, True),
    "nodev": (mnt.MS_NODEV, False),
    "dev": (mnt.MS_NODEV, True),
    "noexec": (mnt.MS_NOEXEC, False),
    "exec": (mnt.MS_NOEXEC, True),
    "nosymfollow": (mnt.MS_NOSYMFOLLOW, False),
    "symfollow": (mnt.MS_NOSYMFOLLOW, True),
    "noatime": (mnt.MS_NOATIME, False),
    "atime": (mnt.MS_NOATIME, True),
    "nodiratime": (mnt.MS_NODIRATIME, False),
    "diratime": (mnt.MS_NODIRATIME, True),
    "relatime": (mnt.MS_RELATIME, False),
    "norelatime": (mnt.MS_RELATIME, True),
    "strictatime": (mnt.MS_STRICTATIME, False),
    "nostrictatime": (mnt.MS_STRICTATIME, True),
    "sync": (mnt.MS_SYNCHRONOUS, False),
    "async": (mnt.MS_SYNCHRONOUS, True),
    "dirsync": (mnt.MS_DIRSYNC, False),
    "lazytime": (mnt.MS_LAZYTIME, False),
    "nolazytime": (mnt.MS_LAZYTIME, True),
    "mand": (mnt.MS_MANDLOCK, False),
    "nomand": (mnt.MS_MANDLOCK, True),
    "iversion": (mnt.MS_I_VERSION, False),
    "noiversion": (mnt.MS_I_VERSION, True),
    "acl": (mnt.MS_POSIXACL, False),
    "noacl": (mnt.MS_POSIXACL, True),
    "silent": (mnt.MS_SILENT, False),
    "loud": (mnt.MS_SILENT, True),
}
_ATTRIBUTES = {
    mnt.MS_RDONLY: mnt.MOUNT_ATTR_RDONLY,
    mnt.MS_NOSUID: mnt.MOUNT_ATTR_NOSUID,
    mnt.MS_NODEV: mnt.MOUNT_ATTR_NODEV,
    mnt.MS_NOEXEC: mnt.MOUNT_ATTR_NOEXEC,
    mnt.MS_NOSYMFOLLOW: mnt.MOUNT_ATTR_NOSYMFOLLOW,
    mnt.MS_NODIRATIME: mnt.MOUNT_ATTR_NODIRATIME,
}
_TIMES = {
    mnt.MS_NOATIME: mnt.MOUNT_ATTR_NOATIME,
    mnt.MS_RELATIME: mnt.MOUNT_ATTR_RELATIME,
    mnt.MS_STRICTATIME: mnt.MOUNT_ATTR_STRICTATIME,
}
_RECURSIVE = {f"r{name}": way for name, way in _FLAGS.items() if way[0] in _ATTRIBUTES or way[0] in _TIMES}
_OTHERS = ("bind", "rbind", "defaults", "remount", "tmpcopyup", "idmap", "ridmap")

MOUNT_OPTIONS = tuple(sorted({*_FLAGS, *_RECURSIVE, *PROPAGATIONS, *_OTHERS}))
"""Every option with a meaning of its own, for `features`; what is none of these is handed to the file system."""

# What fsconfig(2) knows of the flags of a file system itself; the rest are a mount's own.
_OF_FILE_SYSTEM = {
    mnt.MS_RDONLY: "ro",
    mnt.MS_SYNCHRONOUS: "sync",
    mnt.MS_DIRSYNC: "dirsync",
    mnt.MS_LAZYTIME: "lazytime",
    mnt.MS_MANDLOCK: "mand",
}
"""fsconfig(2) has no word for MS_I_VERSION: a file system that counts versions does so by itself, others cannot."""

ONLY_CLASSIC = mnt.MS_I_VERSION | mnt.MS_POSIXACL
"""Flags of a file system that only mount(2) takes."""


@record
class Options:
    """The options of one mount, sorted by what they are for.

    `flags` and `cleared` are mount(2)'s; `recursive_set` and `recursive_cleared` mount_setattr(2)'s, for the mounts
    below too; `propagations` are mount(2)'s, in their order, since several can hold ("slave" and "shared").
    """

    flags: int = 0
    cleared: int = 0
    recursive_set: int = 0
    recursive_cleared: int = 0
    propagations: tuple[int, ...] = ()
    data: tuple[str, ...] = ()
    bind: bool = False
    recursive: bool = False
    remount: bool = False
    copy_up: bool = False
    id_map: str = ""
    optional: bool = False

    def attributes(self) -> tuple[int, int]:
        """(what to set, what to clear) of the mount itself with mount_setattr(2)."""
        return attributes_of(self.flags, self.cleared)

    def of_file_system(self) -> tuple[str, ...]:
        """The flags that fsconfig(2) takes, by their names."""
        return tuple(name for flag, name in _OF_FILE_SYSTEM.items() if self.flags & flag)


def read_options(options: tuple[str, ...]) -> Options:
    """Sort `options`; of two that contradict each other the later one holds."""
    flags = cleared = recursive_set = recursive_cleared = 0
    propagations: list[int] = []
    data: list[str] = []
    for option in options:
        if option in _FLAGS:
            flag, clears = _FLAGS[option]
            if clears:
                flags, cleared = flags & ~flag, cleared | flag
            else:
                flags, cleared = flags & ~_rivals(flag) | flag, cleared & ~flag
        elif option in _RECURSIVE:
            flag, clears = _RECURSIVE[option]
            set_, clear = attributes_of(0 if clears else flag, flag if clears else 0)
            recursive_set = recursive_set & ~clear & ~set_ | set_
            recursive_cleared = recursive_cleared & ~set_ | clear
        elif option in PROPAGATIONS:
            propagations.append(PROPAGATIONS[option])
        elif option not in _OTHERS and option != "nofail":
            data.append(option)
    given = frozenset(options)
    return Options(
        flags, cleared, recursive_set, recursive_cleared, tuple(dict.fromkeys(propagations)), tuple(data),
        bind="bind" in given or "rbind" in given,
        recursive="rbind" in given,
        remount="remount" in given,
        copy_up="tmpcopyup" in given,
        id_map="ridmap" if "ridmap" in given else "idmap" if "idmap" in given else "",
        optional="nofail" in given,
    )  # fmt: skip


def attributes_of(flags: int, cleared: int) -> tuple[int, int]:
    """mount(2)'s flags as (what to set, what to clear) with mount_setattr(2).

    How times are kept is one number there, so all of it is cleared before one is set; without one, relatime holds.
    """
    set_ = clear = 0
    for flag, attribute in _ATTRIBUTES.items():
        if flags & flag:
            set_ |= attribute
        elif cleared & flag:
            clear |= attribute
    for flag, attribute in _TIMES.items():
        if flags & flag:
            set_ |= attribute
        if (flags | cleared) & flag:
            clear |= mnt.MOUNT_ATTR__ATIME
    return set_, clear


def _rivals(flag: int) -> int:
    """The flags that go when `flag` comes: of the three ways to keep times only one holds."""
    return mnt.MS_NOATIME | mnt.MS_RELATIME | mnt.MS_STRICTATIME if flag in _TIMES else 0
