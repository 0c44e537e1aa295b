"""pasta(1): a tap device whose connections become sockets of the host, one to one, without copying where it can.

It is told everything that it would otherwise copy from the host (addresses, gateway, name server) and forwards no
port in either direction unless asked. Above all `-T none -U none`: what connects to 127.0.0.1 inside would else be
spliced to the host's own loopback, whatever `--no-map-gw` says. It runs in the foreground, as our child, and writes its
pid when the device is configured, here into a FIFO. Recent versions close all descriptors but the first three, so the
namespaces come as those.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError
from jubako.linux.clone import owner_namespace
from jubako.net import addresses
from jubako.net.choose import has_default_route
from jubako.net.drivers import pasta_arguments
from jubako.net.guard import close_loopback_of
from jubako.net.helper import await_ready, start_function
from jubako.net.layout import Layout, refuse
from jubako.net.link import Connection, Link
from jubako.net.programs import find_program
from jubako.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from jubako.net.helper import Helper
    from jubako.net.link import NetworkOptions, Where

_READY = "pasta.ready"


class Pasta:
    """A network through pasta."""

    name = "pasta"
    ports: tuple[str, ...] = ("builtin", "implicit")

    def __init__(self, options: NetworkOptions) -> None:
        refuse(self.name, options, ("rules", "bridge", "sandbox", "seccomp"), self.ports)
        self._asked = pasta_arguments.read(options.arguments)
        if self._asked.ipv6:
            options = replace(options, ipv6=True)
        if self._asked.mtu:
            options = replace(options, mtu=self._asked.mtu)
        if self._asked.device:
            options = replace(options, device=self._asked.device)
        self._layout = Layout.of(self.name, options)
        self._program = find_program(options.program or self.name, self.name)
        self._options = options
        if options.ports == "implicit":
            _refuse_old(self._program)

    def plan(self) -> Link:
        asked = self._asked
        link = self._layout.link(self.name, host=self._reaches_host())
        four, six = list(link.addresses[:1]), list(link.addresses[1:])
        if asked.address:
            four = [f"{asked.address}/{asked.prefix or 24}"]
        elif asked.prefix:
            four = [f"{four[0].partition('/')[0]}/{asked.prefix}"]
        if asked.address6:
            six = [f"{asked.address6}/{addresses.PREFIX6}"]
        gateways = (asked.gateway or link.gateways[0], *((asked.gateway6 or addresses.GATEWAY6,) if six else ()))
        host = (asked.host_loopback or gateways[0]) if self._reaches_host() else ""
        if asked.only == "6":
            four, gateways = [], gateways[1:]
        return replace(link, addresses=(*four, *six), gateways=gateways, dns=self._resolvers(), host=host)

    def explain(self) -> tuple[str, ...]:
        return (" ".join(self._command("NETNS", "USERNS", f"RUN/{_READY}")),)

    def connect(self, where: Where) -> Connection:
        self._refuse_missing_routes()
        try:
            helper = self._start(where)
        except OSError as failure:
            raise JubakoError.from_os_error("start", self.name, failure) from failure
        if not self._reaches_host():
            close_loopback_of(helper)
        return Connection(self.plan(), (helper,))

    def _start(self, where: Where) -> Helper:
        """The program, once its device is configured."""
        fifo = f"{where.directory}/{_READY}"
        if os.path.lexists(fifo):  # of a supervisor that was killed
            os.unlink(fifo)
        os.mkfifo(fifo, 0o600)
        ready = owner = -1
        try:
            ready = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            owner = _owner(where)
            command = self._command("/proc/self/fd/0", "/proc/self/fd/1" if owner >= 0 else "", fifo)

            def run() -> NoReturn:
                os.dup2(where.network, 0)
                if owner >= 0:
                    os.dup2(owner, 1)
                os.execv(command[0], command)

            helper = start_function(self.name, run, keep=(where.network, *((owner,) if owner >= 0 else ())))
            if not await_ready(helper, ready):
                raise helper.failure()
        finally:
            os.unlink(fifo)
            for fd in (ready, owner):
                if fd >= 0:
                    os.close(fd)
        return helper

    def _command(self, network: str, user: str, ready: str) -> tuple[str, ...]:
        asked, layout, link = self._asked, self._layout, self.plan()
        words = [self._program, "--foreground", "--quiet", "--config-net", "--ns-ifname", layout.device]
        words += ["--mtu", str(layout.mtu)]
        for address in link.addresses:
            text, _, prefix = address.partition("/")
            words += ["--address", text]
            if ":" not in text:
                words += ["--netmask", prefix]
        for gateway in link.gateways:
            words += ["--gateway", gateway]
        for resolver in link.dns:
            words += ["--dns-forward", resolver]
        if not self._reaches_host() or asked.host_loopback:
            words.append("--no-map-gw")
        if asked.only or not any(":" in address for address in link.addresses):
            words.append("--ipv6-only" if asked.only == "6" else "--ipv4-only")
        for flag in ("-t", "-u", "-T", "-U"):
            if flag not in asked.forwards:
                implicit = self._options.ports == "implicit" and flag in ("-t", "-u")
                words += [flag, "auto" if implicit else "none"]
        words += asked.others
        # Root of the supervisor's namespace stays what it is, or it could not join the other one any more.
        words += ["--runas", "0:0", "--no-netns-quit", "--pid", ready, "--netns", network]
        return (*words, *(("--userns", user) if user else ()))

    def _reaches_host(self) -> bool:
        return bool(self._options.host_loopback or self._asked.maps_gateway or self._asked.host_loopback)

    def _resolvers(self) -> tuple[str, ...]:
        return self._asked.dns_forward or (
            (addresses.DNS6,) if self._asked.only == "6" else (self._layout.network.host(addresses.DNS),)
        )

    def _refuse_missing_routes(self) -> None:
        """pasta takes a device of the host as its pattern; without one it fails, or gives other addresses than ours."""
        if self._asked.template:
            return
        wanted = {"": (False, True) if self._layout.ipv6 else (False,), "4": (False,), "6": (True,)}[self._asked.only]
        for ipv6 in wanted:
            if not has_default_route(ipv6=ipv6):
                raise JubakoError(
                    "start",
                    self.name,
                    reason=f"the host has no default route for IPv{6 if ipv6 else 4}, which pasta takes as its pattern",
                    hint="leave IPv6 out, or use --network slirp4netns"
                    if ipv6
                    else "connect the host, name a device of its own with --network pasta:-i,DEVICE, "
                    "or use --network slirp4netns",
                )


def _refuse_old(program: str) -> None:
    """Versions of 2023 take `auto` and open nothing; the option is of those that were seen to work."""
    import subprocess

    told = subprocess.run((program, "--help"), check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    if b"--map-host-loopback" not in told.stdout + told.stderr:
        raise JubakoError(
            "forward ports by",
            program,
            reason="it is too old to open by itself the ports that are bound inside",
            hint="use the port driver builtin, or pasta of 2024-08 or later",
        )


def _owner(where: Where) -> int:
    """A descriptor of the user namespace that owns the network namespace, to be closed; -1 where that is our own.

    pasta joins it and so keeps no right over anything else of ours.
    """
    owner = os.dup(where.user) if where.user >= 0 else owner_namespace(where.network)
    if os.path.samestat(os.fstat(owner), os.stat("/proc/self/ns/user")):
        os.close(owner)
        return -1
    return owner
