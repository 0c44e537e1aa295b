"""Which network driver: the default of this machine, and the module that has the one that was asked for.

The default is the best one whose helper is installed and can work here: pasta, which copies least; slirp4netns; and
jubako's own proxy, which needs nothing.
"""

from __future__ import annotations

import os

from jubako.errors import NotFoundError, UsageError
from jubako.net.programs import find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.link import Driver, NetworkOptions

_CLASSES = {
    "none": ("null", "NoNetwork"),
    "host": ("null", "HostNetwork"),
    "pasta": ("pasta", "Pasta"),
    "slirp4netns": ("slirp4netns", "Slirp4netns"),
    "vpnkit": ("vpnkit", "Vpnkit"),
    "lxc-user-nic": ("lxc_user_nic", "LxcUserNic"),
    "bridge": ("bridge", "Bridge"),
    "proxy": ("proxy", "Driver"),
}
"""The module in `jubako.net.drivers` and the class in it."""

DRIVERS = tuple(_CLASSES)

_TUN = "/dev/net/tun"


def default_driver() -> tuple[str, str]:
    """The driver that this machine has for those who name none, and why it is that one."""
    if not os.access(_TUN, os.R_OK | os.W_OK):
        return "proxy", f"{_TUN} cannot be opened, so no network of its own can be connected"
    if not _is_installed("slirp4netns"):
        if not _is_installed("pasta"):
            return "proxy", "neither pasta nor slirp4netns is installed"
        return "pasta", "pasta is installed"
    if not _is_installed("pasta"):
        return "slirp4netns", "pasta is not installed, slirp4netns is"
    if not has_default_route():
        return "slirp4netns", "the host has no default route, without which pasta does not start"
    return "pasta", "pasta is installed"


def find_driver(options: NetworkOptions) -> Driver:
    """The driver of `options`, which has taken them; its module is imported now. No name is the machine's default."""
    from jubako.record import replace

    if not options.driver:
        options = replace(options, driver=default_driver()[0])
    if options.driver not in _CLASSES:
        raise UsageError(
            "read --network",
            options.driver,
            reason="there is no such network driver",
            hint=f"one of {', '.join(_CLASSES)}",
        )
    module, name = _CLASSES[options.driver]
    driver: Driver = getattr(__import__(f"jubako.net.drivers.{module}", fromlist=(name,)), name)(options)
    return driver


def has_default_route(*, ipv6: bool = False) -> bool:
    """Whether the network namespace that we are in has a default route that is in use (proc_net(5), `route`)."""
    try:
        with open("/proc/net/ipv6_route" if ipv6 else "/proc/net/route", encoding="utf-8") as file:
            rows = [line.split() for line in file.read(1 << 20).splitlines()]
    except OSError:
        return False
    if ipv6:  # destination, its length, …, flags, device; the kernel keeps one of its own, which rejects (0x200)
        return any(
            len(row) == 10
            and int(row[0], 16) == 0
            and row[1] == "00"
            and row[9] != "lo"
            and not int(row[8], 16) & 0x200
            for row in rows
        )
    # device, destination, gateway, flags, …, mask
    return any(len(row) > 7 and row[1] == row[7] == "00000000" and int(row[3], 16) & 1 for row in rows)


def _is_installed(name: str) -> bool:
    try:
        find_program(name)
    except NotFoundError:
        return False
    return True
