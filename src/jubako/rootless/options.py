"""What the fake root was asked for, and what of it cannot be: checked before anything is made."""

from __future__ import annotations

import os

from jubako.errors import UsageError
from jubako.linux import mount
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.link import NetworkOptions
    from jubako.net.ports.spec import PortSpec

HOST, NONE = "host", "none"
NETWORKS = (HOST, NONE, "pasta", "slirp4netns", "vpnkit", "lxc-user-nic")
BUILTIN, SLIRP, IMPLICIT = "builtin", "slirp4netns", "implicit"
PORT_DRIVERS = (NONE, IMPLICIT, BUILTIN, SLIRP)
PROPAGATIONS = {
    "private": mount.MS_PRIVATE,
    "rprivate": mount.MS_PRIVATE | mount.MS_REC,
    "slave": mount.MS_SLAVE,
    "rslave": mount.MS_SLAVE | mount.MS_REC,
    "shared": mount.MS_SHARED,
    "rshared": mount.MS_SHARED | mount.MS_REC,
}
SYMLINKS, OVERLAY = "tmpfs+symlink", "overlay"
AUTO, DYNAMIC, STATIC = "auto", "dynamic", "static"
_WITHOUT_ADDRESSES = (HOST, NONE, "vpnkit", "lxc-user-nic")
_HIGHEST_MTU = 65521


@record
class RootlessOptions:
    """One call of `jubako rootless`. `network` has what goes to the driver; `state_dir` is empty for a temporary one.

    `source_transparent` keeps the address of whoever connects to a published port. `listen` is how many descriptors
    from 3 on systemd has passed to this process.
    """

    command: tuple[str, ...]
    network: NetworkOptions
    state_dir: str = ""
    copy_up: tuple[str, ...] = ()
    copy_up_mode: str = SYMLINKS
    propagation: str = "rprivate"
    port_driver: str = NONE
    publish: tuple[PortSpec, ...] = ()
    source_transparent: bool = True
    detach_network: bool = False
    pid: bool = False
    cgroup: bool = False
    uts: bool = False
    ipc: bool = False
    reaper: bool = False
    evacuate: str = ""
    subid_source: str = AUTO
    debug: bool = False

    @property
    def driver(self) -> str:
        """The network's name."""
        return self.network.driver


def check_options(options: RootlessOptions) -> None:
    """Raise `UsageError` for what cannot be together."""
    _check_network(options)
    _check_ports(options)
    if options.reaper and not options.pid:
        raise _refusal("--reaper=true", "it reaps in a PID namespace of its own", "add --pidns")
    if options.evacuate:
        missing = [flag for flag, given in (("--pidns", options.pid), ("--cgroupns", options.cgroup)) if not given]
        if missing:
            raise _refusal("--evacuate-cgroup2", f"it needs {' and '.join(missing)}", f"add {' '.join(missing)}")
        if "/" in options.evacuate or options.evacuate in (".", "..") or "\n" in options.evacuate:
            raise _refusal("--evacuate-cgroup2", f"{options.evacuate!r} is no name of one group")
    for directory in options.copy_up:
        _check_copy_up(options, directory)


def copied_directories(options: RootlessOptions) -> tuple[str, ...]:
    """The directories to copy up, each once, as plain paths."""
    return tuple(dict.fromkeys(_plain(path) for path in options.copy_up))


def _plain(path: str) -> str:
    return os.path.normpath("/" + path.lstrip("/"))  # two slashes at the beginning would stay


def _check_network(options: RootlessOptions) -> None:
    network = options.network
    if not 0 <= network.mtu <= _HIGHEST_MTU:
        raise _refusal("--mtu", f"{network.mtu} is not between 0 and {_HIGHEST_MTU}")
    if network.cidr and network.driver in _WITHOUT_ADDRESSES:
        raise _refusal("--cidr", f"the network {network.driver} has no addresses to choose", "use pasta or slirp4netns")
    if network.ipv6 and network.driver not in ("pasta", "slirp4netns"):
        raise _refusal("--ipv6", f"the network {network.driver} has none to add", "use pasta or slirp4netns")
    device = network.device
    if device and network.driver == HOST:
        raise _refusal("--ifname", "the host's network keeps its own devices", "choose another --net")
    if device and (len(device.encode()) > 15 or "/" in device or device in (".", "..") or len(device.split()) != 1):
        raise _refusal("--ifname", f"{device!r} is no name of a network device (15 bytes, no slash, no space)")
    if options.detach_network and network.driver == HOST:
        raise _refusal("--detach-netns", "the host's network is nothing to detach from", "choose another --net")


def _check_ports(options: RootlessOptions) -> None:
    driver, network = options.port_driver, options.driver
    if driver == NONE:
        if options.publish:
            raise _refusal("--publish", "the port driver is none", "add --port-driver=builtin")
        return
    if network in (HOST, NONE):
        why = "every port is the host's already" if network == HOST else "no network leads there"
        raise _refusal(f"--port-driver={driver}", f"with --net={network}, {why}", "use --net=pasta or slirp4netns")
    if driver == SLIRP and network != SLIRP:
        raise _refusal(f"--port-driver={driver}", "it is a part of slirp4netns", "add --net=slirp4netns")
    if driver == IMPLICIT:
        if network != "pasta":
            raise _refusal(f"--port-driver={driver}", "only pasta forwards ports by itself", "add --net=pasta")
        if options.publish:
            raise _refusal("--publish", "the port driver implicit forwards what is listened at, and takes no orders")


def _check_copy_up(options: RootlessOptions, directory: str) -> None:
    clean = _plain(directory)
    if not directory.startswith("/") or clean == "/":
        raise _refusal("--copy-up", f"{directory!r} is not an absolute path of a directory below /")
    if "/tmp" in (clean, os.path.realpath(clean)):
        raise _refusal("--copy-up", "/tmp cannot be copied up: the state directory may lie there", "choose another one")
    if "shared" in options.propagation:
        hint = "use --propagation=rslave: what the host mounts appears, and nothing goes back"
        raise _refusal("--copy-up", f"with --propagation={options.propagation} a mount cannot be moved", hint)


def _refusal(flag: str, reason: str, hint: str = "") -> UsageError:
    return UsageError("rootless", flag, reason=reason, hint=hint)
