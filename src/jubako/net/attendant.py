"""What the supervisor does for a container's network while the program runs: helpers that end, ports that come and go.

A helper that ends does not end the container: its loss is written to the log, and `reload` connects anew. The log is
`network.log` in the container's directory; what helpers write goes there too, up to a limit.
"""

from __future__ import annotations

import os
import time

from jubako.errors import JubakoError, UsageError
from jubako.net.ports.publish import publish
from jubako.net.ports.spec import PortSpec
from jubako.plan.step import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from jubako.net.helper import Helper
    from jubako.net.link import Connection, Driver, PortForwarder, Where

LOG = "network.log"
PORTS_FILE = "ports"
"""In the run directory: what is published now, for whoever lists containers."""
_LOG_LIMIT = 1 << 16

PUBLISH, UNPUBLISH, RELOAD, STATUS = "publish", "unpublish", "reload", "status"
"""What a client may ask the supervisor for."""


class Attendant:
    """One container's network, in its supervisor. Connects when it is made. Raises `JubakoError`; then nothing of it is
    left."""

    def __init__(
        self, driver: Driver, where: Where, ports: tuple[PortSpec, ...], port_driver: str, log: str = ""
    ) -> None:
        self.driver = driver
        self.where = where
        self.port_driver = port_driver
        self.log = log
        self.ports: list[PortSpec] = list(ports)
        self.lost: list[str] = []
        self.connection: Connection = driver.connect(where)
        self.forwarder: PortForwarder | None = None
        try:
            if ports:
                self._publish()
        except BaseException:
            self.close()
            raise

    # --- the supervisor's loop

    def descriptors(self) -> tuple[int, ...]:
        """What has to stay open."""
        kept = [self.where.network, self.where.user, self.where.outside]
        for helper in self._helpers():
            kept += [helper.pidfd, helper.words, helper.program]
        kept += self.forwarder.descriptors if self.forwarder is not None else ()
        kept += [self._keeper()]
        return tuple(fd for fd in kept if fd >= 0)

    def watched(self) -> tuple[int, ...]:
        """What the loop waits for: helpers that write or end."""
        carried = [fd for helper in self._helpers() for fd in (helper.pidfd, helper.words)]
        return tuple(fd for fd in (self._keeper(), *carried) if fd >= 0)

    def attend(self, ready: dict[int, int]) -> None:
        """Log what helpers wrote, and which ended."""
        keeper = self.connection.keeper
        if keeper is not None and self._keeper() in ready:
            self._write(keeper.read_notice(), "keeper")
            if keeper.fileno() < 0:
                self.lost.append("keeper")
        for helper in self._helpers():
            if helper.words in ready:
                text = helper.read()
                if text:
                    self._write(text.decode(errors="replace"), helper.name)
                else:
                    os.close(helper.words)
                    helper.words = -1
            if helper.pidfd in ready:
                helper.end()
                self.lost.append(helper.name)
                self._write("it ended; 'jubako network reload' connects again", helper.name)

    def answer(self, verb: str, text: str) -> str:
        """Do what a client asks for; the answer's text. Raises `JubakoError`."""
        if verb == PUBLISH:
            return write_lines(self._add(parse_lines(text)))
        if verb == UNPUBLISH:
            for port in parse_lines(text):
                self._remove(port)
            return ""
        if verb == RELOAD:
            self.reload()
            return ""
        if verb == STATUS:
            return self._status()
        raise UsageError("ask the supervisor", verb, reason="it knows no such word")

    def _status(self) -> str:
        link = self.connection.link
        words = {
            "driver": link.driver, "device": link.device, "mtu": str(link.mtu), "addresses": " ".join(link.addresses),
            "gateways": " ".join(link.gateways), "dns": " ".join(link.dns), "lost": ",".join(self.lost),
        }  # fmt: skip
        return "".join(f"{name} {text}\n" for name, text in words.items())

    def reload(self) -> None:
        """End what is left of the network's helpers, and connect again, with the same ports."""
        if self.connection.keeper is None:
            self.close()
            self.connection = self.driver.connect(self.where)
        else:  # who asks for it has connected the namespace already (engine.networks)
            self._close_forwarder()
        self.lost = []
        if self.ports:
            self._publish()
        self._write("connected again", self.driver.name)

    def close(self) -> None:
        """End all helpers."""
        self._close_forwarder()
        if self._keeper() >= 0 and self.connection.keeper is not None:
            self.connection.keeper.close()
        for helper in self.connection.helpers:
            if helper.pidfd >= 0:
                helper.end()

    def _keeper(self) -> int:
        return self.connection.keeper.fileno() if self.connection.keeper is not None else -1

    # --- ports

    def _close_forwarder(self) -> None:
        if self.forwarder is not None:
            self.forwarder.close()
            self.forwarder = None

    def _publish(self) -> None:
        self._open()
        assert self.forwarder is not None
        self.ports = list(publish(self.forwarder, self.ports))
        self._tell()

    def _open(self) -> None:
        if self.forwarder is None:
            from jubako.net.ports.forward import open_forwarder

            self.forwarder = open_forwarder(self.port_driver, self.where, self.connection, tuple(self.ports))

    def _add(self, ports: tuple[PortSpec, ...]) -> tuple[PortSpec, ...]:
        self._open()
        assert self.forwarder is not None
        added = publish(self.forwarder, ports)
        self.ports += added
        self._tell()
        return added

    def _remove(self, port: PortSpec) -> None:
        if port not in self.ports or self.forwarder is None:
            raise JubakoError("unpublish", str(port), reason="it is not published", hint="jubako port shows what is")
        self.forwarder.remove(port)
        self.ports.remove(port)
        self._tell()

    def _tell(self) -> None:
        path = f"{self.where.directory}/{PORTS_FILE}"
        fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, write_lines(self.ports).encode())
        finally:
            os.close(fd)
        os.rename(path + ".new", path)

    # --- the log

    def _helpers(self) -> tuple[Helper, ...]:
        forwarder = self.forwarder.helpers if self.forwarder is not None else ()
        return tuple(helper for helper in (*self.connection.helpers, *forwarder) if helper.pidfd >= 0)

    def _write(self, text: str, name: str) -> None:
        if not self.log:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        lines = "".join(f"{now} {name}: {printable(line)}\n" for line in text.splitlines() if line.strip())
        try:
            fd = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(fd).st_size > _LOG_LIMIT:
                    os.ftruncate(fd, 0)
                os.write(fd, lines.encode("utf-8", "surrogateescape"))
            finally:
                os.close(fd)
        except OSError:  # a full disk must not end the container
            return


def write_lines(ports: Iterable[PortSpec]) -> str:
    """Ports as lines of fields, for a client."""
    return "".join(
        f"{port.host_address} {port.host_port} {port.address} {port.port} {port.protocol}\n" for port in ports
    )


def parse_lines(text: str) -> tuple[PortSpec, ...]:
    """What `write_lines` wrote."""
    fields = (line.split(" ") for line in text.splitlines())
    return tuple(
        PortSpec(host, int(host_port), address, int(port), protocol)
        for host, host_port, address, port, protocol in fields
    )
