"""Where helper programs are, and which package has them."""

from __future__ import annotations

import os

from jubako.errors import NotFoundError

PACKAGES = {
    "pasta": "passt",
    "slirp4netns": "slirp4netns",
    "vpnkit": "vpnkit",
    "lxc-user-nic": "lxc",
}
OFF_PATH: dict[str, tuple[str, ...]] = {
    "lxc-user-nic": (
        "/usr/libexec/lxc/lxc-user-nic",
        "/usr/lib/lxc/lxc-user-nic",
        "/usr/lib/x86_64-linux-gnu/lxc/lxc-user-nic",
    )
}
"""Set-uid helpers that distributions keep off PATH."""
_SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find_program(name: str, known: str = "") -> str:
    """The absolute path of the program `name` (a name or a path). `known` is the helper that it stands for, where the
    user has named another file. Raises `NotFoundError` with the package's name."""
    for path in OFF_PATH.get(name, ()) + _candidates(name):
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    package = PACKAGES.get(known or name, "")
    hint = f"install the package {package}, or choose another network: --network none" if package else ""
    raise NotFoundError("find the program", name, reason="it is not installed", hint=hint)


def _candidates(name: str) -> tuple[str, ...]:
    if "/" in name:
        return (os.path.abspath(name),)
    places = (os.environ.get("PATH", "") + ":" + _SYSTEM).split(":")
    return tuple(f"{place}/{name}" for place in places if place.startswith("/"))
