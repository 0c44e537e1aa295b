"""Settings of a network namespace: `/proc/sys/net`, which shows those of the process that looks.

Where the machine's /proc/sys cannot be written, within a container of docker say, a /proc of our own is mounted, in
the keeper's own mount namespace.
"""

from __future__ import annotations

import errno
import os

from jubako.errors import JubakoError
from jubako.linux import mount

_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


class Sysctl:
    """Writes settings of whatever network namespace the process is in. `spare` is an empty directory to mount on."""

    def __init__(self, spare: str) -> None:
        self.spare = spare
        self.root = "/proc/sys"

    def set(self, name: str, value: str) -> None:
        """Set `net/ipv4/ip_forward`, say. Raises `JubakoError` where it is refused."""
        try:
            _write(f"{self.root}/{name}", value)
        except OSError as failure:
            if failure.errno not in _REFUSED or self.root != "/proc/sys":
                raise JubakoError.from_os_error("set", name, failure) from failure
            self._mount(name, failure)
            self.set(name, value)

    def try_to_set(self, name: str, value: str) -> None:
        """The same for what the kernel may lack, IPv6 say."""
        try:
            self.set(name, value)
        except JubakoError as failure:
            if failure.errno != errno.ENOENT:
                raise

    def _mount(self, name: str, refusal: OSError) -> None:
        flags = mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC
        try:
            mount.mount("proc", self.spare, "proc", flags)
        except OSError:
            raise JubakoError.from_os_error(
                "set", name, refusal, "/proc/sys cannot be written here, and no other /proc be mounted"
            ) from refusal
        self.root = self.spare + "/sys"


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
