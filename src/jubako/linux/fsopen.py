"""A new file system that is mounted nowhere yet: fsopen(2), fsconfig(2), fsmount(2) (Linux 5.2).

What comes out is a descriptor of a detached mount: it can be filled, changed and looked at before move_mount(2) puts it
where the container sees it, and it is known to be that file system, whatever lies at any path.
"""

from __future__ import annotations

import errno
import os

from jubako.linux import foreign as ctypes
from jubako.linux.libc import SYS, check, libc

FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6

STRING_MOST = 255  # fsconfig(2) takes no longer value; mount(2) has a page for all of them


def new_mount(kind: str, source: str, options: tuple[str, ...], attributes: int = 0) -> int:
    """A detached mount of a new `kind` with `options` ("mode=755", "ro"), as a descriptor (`O_PATH`).

    `attributes` are `MOUNT_ATTR_*`. An error's text is what the kernel says about it, where it says something.
    """
    context = _fsopen(kind)
    try:
        try:
            if source:
                _fsconfig(context, FSCONFIG_SET_STRING, "source", source)
            for option in options:
                name, equals, value = option.partition("=")
                command = FSCONFIG_SET_STRING if equals else FSCONFIG_SET_FLAG
                _fsconfig(context, command, name, value if equals else None)
            _fsconfig(context, FSCONFIG_CMD_CREATE, None, None)
        except OSError as failure:
            failure.strerror = _complaint(context) or failure.strerror
            raise
        number = libc.syscall(
            SYS["fsmount"], ctypes.c_int(context), ctypes.c_uint(FSMOUNT_CLOEXEC), ctypes.c_uint(attributes)
        )
        return check(number, "fsmount", kind)
    finally:
        os.close(context)


def fits(source: str, options: tuple[str, ...]) -> bool:
    """Whether fsconfig(2) takes all of these values."""
    values = (source, *(option.partition("=")[2] for option in options))
    return all(len(os.fsencode(value)) <= STRING_MOST for value in values)


def split_options(data: str) -> tuple[str, ...]:
    """The options of mount(2)'s string. Commas in double quotes are part of a value, and the quotes are not."""
    options: list[str] = []
    current, quoted = "", False
    for character in data:
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            options.append(current)
            current = ""
        else:
            current += character
    options.append(current)
    return tuple(option for option in options if option)


def _fsopen(kind: str) -> int:
    number = libc.syscall(SYS["fsopen"], os.fsencode(kind), ctypes.c_uint(FSOPEN_CLOEXEC))
    return check(number, "fsopen", kind)


def _fsconfig(context: int, command: int, key: str | None, value: str | None) -> None:
    arguments = (
        ctypes.c_int(context),
        ctypes.c_uint(command),
        None if key is None else os.fsencode(key),
        None if value is None else os.fsencode(value),
        ctypes.c_int(0),
    )
    shown = "" if key is None else key if value is None else f"{key}={value}"
    check(libc.syscall(SYS["fsconfig"], *arguments), "fsconfig", shown)


def _complaint(context: int) -> str:
    """The kernel's own words on what is wrong: "tmpfs: Bad value for 'size'"."""
    words: list[str] = []
    while len(words) < 8:
        try:
            line = os.read(context, 1024)
        except OSError as failure:
            if failure.errno == errno.EINTR:
                continue
            break
        words.append(line.decode(errors="replace").partition(" ")[2].strip())
    return "; ".join(words)
