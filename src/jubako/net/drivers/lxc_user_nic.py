"""lxc-user-nic: a veth pair on a bridge of the host, made by LXC's set-uid program for users whom the host's
administrator has named (lxc-usernet(5)); the address comes from the bridge's DHCP server and is kept by a helper.

The program is started by a process in the host's user namespace (`jubako.net.outside`). The veth pair ends with the
network namespace, and with it what the program has noted about it: it looks before it counts.
"""

from __future__ import annotations

import os
import stat
import time

from jubako.errors import JubakoError, UsageError
from jubako.linux import rtnetlink
from jubako.net import dhcp, dhcp_client, outside, tap
from jubako.net.enter import enter, inside
from jubako.net.helper import start_function
from jubako.net.layout import LEAST_MTU, check_mtu, is_device_name, refuse
from jubako.net.link import Connection, Link, NetworkOptions, Where
from jubako.net.programs import find_program
from jubako.record import replace

_BRIDGE = "lxcbr0"
_ALLOWED = "/etc/lxc/lxc-usernet"
_NOT_ALLOWED = "Quota reached"
_SHOWN_MTU = 1500


class LxcUserNic:
    """The driver `lxc-user-nic`."""

    name = "lxc-user-nic"
    ports: tuple[str, ...] = ("builtin",)

    def __init__(self, options: NetworkOptions) -> None:
        others = ("cidr", "ipv6", "host_loopback", "arguments", "rules", "sandbox", "seccomp")
        refuse(self.name, options, others, self.ports)
        check_mtu(options.mtu, ipv6=False, operation=f"read mtu of {self.name}")
        self.mtu = options.mtu
        self.device = options.device or "eth0"
        self.bridge = options.bridge or _BRIDGE
        for name in (self.device, self.bridge):
            if not is_device_name(name):
                raise UsageError(f"name a device for {self.name}", name, reason="no network device can be called so")
        self.program = find_program(options.program or self.name, self.name)

    def plan(self) -> Link:
        return Link(self.name, device=self.device, mtu=self.mtu or _SHOWN_MTU)

    def explain(self) -> tuple[str, ...]:
        return (
            f"{self.program} create /dev/null dummy PID veth {self.bridge} {self.device}, in the host's user namespace",
            f"DHCP on {self.device}, and a helper process that keeps the lease",
        )

    def request(self) -> outside.Request:
        """What the process in the host's user namespace is started for (`jubako.net.outside.start`)."""
        return outside.Request(self.program, self.bridge, self.device)

    def connect(self, where: Where) -> Connection:
        try:
            rtnetlink.device_index(self.bridge)
        except OSError as failure:
            hint = f"start it (systemctl start lxc-net makes {_BRIDGE}), or name another one"
            raise JubakoError("find the bridge", self.bridge, reason="there is none", hint=hint) from failure
        self._check_free(where)
        done = outside.ask(where.outside, self.request(), where.network)
        if done.code:
            raise self._refused(done)
        lease, mtu, begun = self._lease(where)
        helper = start_function(
            "dhcp", lambda: _keep(where, self.device, lease, begun), keep=(where.network, *_user(where))
        )
        link = replace(
            self.plan(),
            addresses=(f"{lease.address}/{lease.prefix}",),
            gateways=lease.routers,
            dns=lease.dns,
            mtu=mtu,
        )
        return Connection(link, (helper,))

    def _check_free(self, where: Where) -> None:
        """The program would leave its device behind, under another name, where this one is taken."""

        def look() -> tuple[bytes, tuple[int, ...]]:
            rtnetlink.free_name(self.device)
            return b"", ()

        inside(where, look, "make the device")

    def _lease(self, where: Where) -> tuple[dhcp.Answer, int, float]:
        """The device up and with an address. The bridge's MTU is the most that passes."""
        try:
            return self._ask_and_configure(where)
        except JubakoError:
            self._remove(where)
            raise

    def _ask_and_configure(self, where: Where) -> tuple[dhcp.Answer, int, float]:
        def open_wire() -> tuple[bytes, tuple[int, ...]]:
            most = tap.device_mtu(self.device)
            if self.mtu > most:
                raise JubakoError("use the MTU", str(self.mtu), reason=f"{self.bridge} has {most}")
            tap.configure(tap.Interface(self.device, mtu=self.mtu))
            socket, hardware_address = dhcp_client.open_wire(self.device)
            return hardware_address + (self.mtu or most).to_bytes(4, "big"), (socket.detach(),)

        text, (fd,) = inside(where, open_wire, f"set up {self.device}")
        hardware_address, mtu = text[:-4], int.from_bytes(text[-4:], "big")
        socket = dhcp_client.adopt(fd)
        try:
            begun = time.monotonic()
            lease = dhcp_client.acquire(dhcp_client.over(socket), hardware_address)
        finally:
            socket.close()
        if lease is None:
            hint = f"is a DHCP server running on {self.bridge}? lxc-net starts one (dnsmasq)"
            raise dhcp_client.no_answer("get an address on", self.bridge, hint)
        if not self.mtu and LEAST_MTU <= lease.mtu < mtu:
            mtu = lease.mtu

        def configure() -> tuple[bytes, tuple[int, ...]]:
            tap.configure(dhcp_client.interface(self.device, lease, mtu))
            return b"", ()

        inside(where, configure, f"give {self.device} its address")
        return lease, mtu, begun

    def _remove(self, where: Where) -> None:
        """Take the device away again: the caller keeps the namespace."""

        def remove() -> tuple[bytes, tuple[int, ...]]:
            rtnetlink.remove_device(rtnetlink.device_index(self.device), self.device)
            return b"", ()

        try:
            inside(where, remove, f"remove {self.device}")
        except JubakoError:
            pass

    def _refused(self, done: outside.Attempt) -> JubakoError:
        """The program's own words, without the places in its source, and what to do about the usual ones."""
        words = "; ".join(_without_place(line) for line in done.words.splitlines() if line.strip(" ;"))
        hint = ""
        if words.endswith(_NOT_ALLOWED) and (
            ";" not in words or _ALLOWED in words
        ):  # it says so after other failures too
            hint = f"root has to allow it, by this line in {_ALLOWED}: {_user_name()} veth {self.bridge} 10"
        elif not os.stat(self.program).st_mode & stat.S_ISUID:
            hint = f"it must be set-uid root: chmod u+s {self.program}"
        return JubakoError("run", self.program, reason=words or f"exit code {done.code}", hint=hint)


def _without_place(line: str) -> str:
    """`line` without `FILE.c: NUMBER: ` at its beginning."""
    _place, found, rest = line.partition(".c: ")
    return (rest.partition(": ")[2] or rest if found else line).strip()


def _keep(where: Where, device: str, lease: dhcp.Answer, begun: float) -> int:
    enter(where)
    return dhcp_client.keep(device, lease, begun)


def _user(where: Where) -> tuple[int, ...]:
    return (where.user,) if where.user >= 0 else ()


def _user_name() -> str:
    """The user as lxc-user-nic knows him: by the host's id, which a user namespace hides but in its map."""
    import pwd

    uid = os.getuid()
    with open("/proc/self/uid_map") as lines:
        for line in lines:
            first, host, count = (int(field) for field in line.split())
            if first <= uid < first + count:
                uid = host + uid - first
                break
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return "USER"
