"""The host's loopback kept out of reach of what is sent by hand: a filter on the tap device itself.

A user-mode network stack makes a socket of the host for every destination that it sees in a frame. The kernel inside
never sends a frame to 127.0.0.1, but a program with CAP_NET_RAW or CAP_NET_ADMIN there writes what it likes, and
slirp4netns and older versions of pasta then connect to the host's own loopback, whatever they were told. So the device
drops such frames before the helper reads them: a classic filter (TUNATTACHFILTER), as for a packet socket. It hangs on
the helper's own descriptor of the device, which nobody inside can open; that is fetched with pidfd_getfd(2), as the
helper's parent with all rights over it may.
"""

from __future__ import annotations

import fcntl
import os
from _struct import pack

from jubako.errors import JubakoError
from jubako.linux import foreign as ctypes
from jubako.linux.libc import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.helper import Helper

_TUNATTACHFILTER = 0x401054D5
_TUNGETIFF = 0x800454D2
_IFF_TAP = 0x0002
_FIRST, _END = 3, 128
"""Among these numbers the helpers have their device; they have a dozen descriptors at that time."""

_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30
_IF_EQUAL, _RETURN = 0x15, 0x06
_ALL = 0x40000

# Destinations: IPv4 at offset 30 of the frame, IPv6 at 38. A frame too short for a load is dropped by the kernel. Jumps
# count from the next instruction.
_PROGRAM = (
    (_LOAD_HALF, 0, 0, 12),
    (_IF_EQUAL, 0, 3, 0x0800),
    (_LOAD_BYTE, 0, 0, 30),
    (_IF_EQUAL, 12, 0, 127),  # 127.0.0.0/8
    (_IF_EQUAL, 11, 10, 0),  # 0.0.0.0 is this host as well
    (_IF_EQUAL, 0, 9, 0x86DD),
    (_LOAD_WORD, 0, 0, 38),
    (_IF_EQUAL, 0, 7, 0),
    (_LOAD_WORD, 0, 0, 42),
    (_IF_EQUAL, 0, 5, 0),
    (_LOAD_HALF, 0, 0, 46),
    (_IF_EQUAL, 0, 3, 0),
    (_LOAD_HALF, 0, 0, 48),
    (_IF_EQUAL, 2, 0, 0),  # ::1, :: and ::a.b.c.d
    (_IF_EQUAL, 1, 0, 0xFFFF),  # ::ffff:a.b.c.d
    (_RETURN, 0, 0, _ALL),
    (_RETURN, 0, 0, 0),
)


def close_loopback(tap: int) -> None:
    """Let no frame to a loopback address, or to one that means this host, out of the tap device of this descriptor."""
    text = b"".join(pack("=HBBI", *instruction) for instruction in _PROGRAM)
    code = ctypes.create_string_buffer(text, len(text))
    fcntl.ioctl(tap, _TUNATTACHFILTER, pack("@HP", len(_PROGRAM), ctypes.addressof(code)))


def close_loopback_of(helper: Helper) -> None:
    """The same for the device that a helper has opened. Raises where it cannot be done; then the helper is ended."""
    try:
        tap = _find_tap(helper.program)
        try:
            close_loopback(tap)
        finally:
            os.close(tap)
    except OSError as failure:
        helper.end()
        raise JubakoError(
            "keep the host's loopback out of reach of",
            helper.name,
            errno=failure.errno or 0,
            hint="where what is inside may reach the services of the host's loopback, say so: "
            "slirp4netns:allow_host_loopback=true or pasta:--map-gw",
        ) from None


def _find_tap(pidfd: int) -> int:
    """A copy of the descriptor with which that process holds its tap device."""
    for number in range(_FIRST, _END):
        try:
            fd = syscall("pidfd_getfd", pidfd, number, 0, subject=f"descriptor {number}")
        except OSError as failure:
            if failure.errno == 9:  # EBADF: it has none of this number
                continue
            raise
        try:
            flags = fcntl.ioctl(fd, _TUNGETIFF, bytes(40))
            if int.from_bytes(flags[16:18], "little") & _IFF_TAP:
                return fd
        except OSError:  # ENOTTY: not a tap device
            pass
        os.close(fd)
    raise FileNotFoundError(2, "it has no tap device")
