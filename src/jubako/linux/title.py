"""What ps(1) shows as a process's command line: proc(5), /proc/PID/cmdline and the fields arg_start, arg_end of stat.

A child that goes on in its parent's interpreter shows its parent's arguments, which may name files of the host; whoever
shares its PID namespace can read them.
"""

from __future__ import annotations

from jubako.linux import foreign as ctypes
from jubako.linux.prctl import set_name


def set_title(title: str) -> None:
    """Show `title` instead of the arguments, cut to the room that they take. Without /proc nothing changes."""
    set_name(title)
    try:
        with open("/proc/self/stat", "rb", buffering=0) as file:
            fields = file.read(4096).rpartition(b")")[2].split()
    except OSError:
        return
    start, end = int(fields[45]), int(fields[46])
    if not 0 < start < end:
        return
    room = end - start
    ctypes.memset(start, 0, room)
    ctypes.memmove(start, title.encode()[: room - 1], min(len(title.encode()), room - 1))
