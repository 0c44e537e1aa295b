"""The port driver of slirp4netns itself, over its API socket: slirp4netns(1), "API socket". One JSON object each way.

It speaks IPv4 only, to the address that the container has on its device: what listens on loopback inside is not
reached. All addresses of the host are therefore those of IPv4 here. The server inside sees the gateway (10.0.2.2) for
clients on the host's loopback, and others with their own address.
"""

from __future__ import annotations

import _socket
import errno

from jubako import jsontext
from jubako.errors import JubakoError, UsageError
from jubako.net.ports.listening import check_free
from jubako.net.ports.spec import PortSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.net.helper import Helper
    from jubako.net.link import Link, PortForwarder

_SECONDS = 10.0
_LONGEST = 1 << 20
_TRIES = 8


def open_slirp4netns(api: str, link: Link) -> PortForwarder:
    """Ports through the slirp4netns whose API socket is at the path `api`. It starts nothing."""
    return Slirp4netnsForwarder(api, link)


class Slirp4netnsForwarder:
    """Ports that slirp4netns forwards."""

    helpers: tuple[Helper, ...] = ()
    descriptors: tuple[int, ...] = ()

    def __init__(self, api: str, link: Link) -> None:
        self.api = api
        inside = [address.partition("/")[0] for address in link.addresses if ":" not in address]
        self.inside = inside[0] if inside else "10.0.2.100"
        self.numbers: dict[PortSpec, int] = {}

    def add(self, port: PortSpec) -> PortSpec:
        """Forward it; the port as it is published. Raises `UsageError` for IPv6, `JubakoError`."""
        if ":" in port.host_address or ":" in port.address or port.protocol.endswith("6"):
            raise UsageError(
                "publish",
                str(port),
                reason="slirp4netns forwards IPv4 only",
                hint="choose the port driver builtin, or an IPv4 address",
            )
        wanted = PortSpec(
            port.host_address or "0.0.0.0", port.host_port, port.address or self.inside, port.port, port.protocol[:3]
        )
        for turn in range(_TRIES):
            number = check_free(wanted)  # slirp4netns would not say why it cannot
            arguments = {
                "proto": wanted.protocol,
                "host_addr": wanted.host_address,
                "host_port": number,
                "guest_addr": wanted.address,
                "guest_port": wanted.port,
            }
            try:
                done = self._ask("add_hostfwd", arguments, f"publish {port}")
            except JubakoError:
                if port.host_port or turn + 1 == _TRIES:
                    raise
                continue  # somebody was faster
            break
        published = PortSpec(port.host_address, number, port.address, port.port, port.protocol)
        self.numbers[published] = int(done["id"])
        return published

    def remove(self, port: PortSpec) -> None:
        """Take no new connections."""
        if port not in self.numbers:
            raise JubakoError("stop publishing", str(port), errno=errno.ENOENT)
        self._ask("remove_hostfwd", {"id": self.numbers[port]}, f"stop publishing {port}")
        del self.numbers[port]

    def listed(self) -> tuple[PortSpec, ...]:
        """What slirp4netns itself says that it forwards, whoever has asked for it."""
        entries = self._ask("list_hostfwd", {}, "list published ports")["entries"]
        return tuple(
            PortSpec(
                str(entry["host_addr"]),
                int(entry["host_port"]),
                str(entry["guest_addr"]),
                int(entry["guest_port"]),
                str(entry["proto"]),
            )
            for entry in entries
        )

    def close(self) -> None:
        """Remove all ports, if slirp4netns is still there; it is not ours to end."""
        for port in list(self.numbers):
            try:
                self.remove(port)
            except JubakoError:
                pass

    def _ask(self, execute: str, arguments: dict[str, Any], operation: str) -> Any:
        socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            socket.settimeout(_SECONDS)
            socket.connect(self.api)
            socket.send(jsontext.dumps({"execute": execute, "arguments": arguments}).encode())
            socket.shutdown(_socket.SHUT_WR)
            text = b""
            while data := socket.recv(1 << 16):
                text += data
                if len(text) > _LONGEST:
                    raise OSError(errno.EMSGSIZE, "the answer is too long")
        except OSError as failure:
            raise JubakoError.from_os_error(operation, "through slirp4netns", failure) from failure
        finally:
            socket.close()
        try:
            answer = jsontext.loads(text)
            if "return" in answer:
                return answer["return"]
            reason = str(answer["error"]["desc"])
        except (ValueError, KeyError, TypeError):
            reason = f"its answer is not understood: {text[:200]!r}"
        raise JubakoError(operation, "through slirp4netns", reason=reason)
