"""Waiting for files to change: inotify(7)."""

from __future__ import annotations

import ctypes
import os
import select

from jubako.linux.libc import check, libc

IN_MODIFY = 0x002
IN_MOVED_FROM = 0x040
IN_MOVED_TO = 0x080
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_NONBLOCK = os.O_NONBLOCK
IN_CLOEXEC = os.O_CLOEXEC

_CHANGES = IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF


class Watcher:
    """Files and directories that are watched for changes; close it."""

    def __init__(self) -> None:
        self.fd = check(libc.inotify_init1(ctypes.c_int(IN_NONBLOCK | IN_CLOEXEC)), "inotify_init1")

    def watch(self, path: str) -> None:
        """Watch `path`, or in a directory what is made, moved, written and removed."""
        check(
            libc.inotify_add_watch(ctypes.c_int(self.fd), os.fsencode(path), ctypes.c_uint32(_CHANGES)),
            "inotify_add_watch",
            path,
        )

    def try_watch(self, path: str) -> bool:
        """`watch`, or False if `path` is not there."""
        try:
            self.watch(path)
        except FileNotFoundError:
            return False
        return True

    def wait(self, others: tuple[int, ...] = (), seconds: float | None = None) -> tuple[int, ...]:
        """Wait until something has changed or one of the descriptors `others` can be read; those that can."""
        poller = select.poll()
        for fd in (self.fd, *others):
            poller.register(fd, select.POLLIN)
        ready = tuple(fd for fd, _events in poller.poll(None if seconds is None else int(seconds * 1000)))
        if self.fd in ready:
            try:
                os.read(self.fd, 1 << 16)
            except BlockingIOError:
                pass
        return tuple(fd for fd in ready if fd != self.fd)

    def close(self) -> None:
        """Stop watching."""
        os.close(self.fd)
