"""The network driver `proxy`: a loopback device, and on it a proxy of ours that lets through what `--allow` names.

It needs no program and no device. The listening sockets are made inside the namespace, and served by a helper of ours
outside of it: an HTTP proxy (RFC 9110, CONNECT too) and a SOCKS 5 proxy (RFC 1928) at one port. Programs find it by the
variables that curl, git, pip, apt and most others read. There is no other way out: a program that does not know proxies
reaches nothing, and neither does one that would like to reach more.
"""

from __future__ import annotations

import _socket
import os

from jubako.errors import UsageError
from jubako.linux import rtnetlink
from jubako.linux.caps import capset
from jubako.linux.title import set_title
from jubako.net.enter import inside
from jubako.net.helper import await_ready, start_function
from jubako.net.link import Connection, Link
from jubako.net.proxy.rules import parse_rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.link import NetworkOptions, Where
    from jubako.net.proxy.rules import Rule

PORT = 3128
"""Where proxies are by custom. A fixed one: nothing else can be there yet, in a namespace that is new."""
_BACKLOG = 128
_HOME = "localhost,127.0.0.1,::1"
_NOT_OURS = ("mtu", "cidr", "device", "ipv6", "program", "arguments", "bridge", "sandbox", "seccomp")


class Driver:
    """See the module."""

    name = "proxy"
    ports = ("builtin",)

    def __init__(self, options: NetworkOptions) -> None:
        for name in _NOT_OURS:
            if getattr(options, name):
                raise UsageError("use", "network proxy", reason=f"it has no option {name}")
        if options.host_loopback:
            hint = "name what may be reached: --allow 127.0.0.1:PORT"
            reason = "it does not open the host's loopback as a whole"
            raise UsageError("use", "network proxy", reason=reason, hint=hint)
        self._rules = parse_rules(options.rules)

    def plan(self) -> Link:
        # Not socks5h for all_proxy: many programs take that as a reason to fail at once, since they lack a library for
        # it (Python's httpx and requests). The same port speaks SOCKS to whoever asks for it by name.
        url = f"http://127.0.0.1:{PORT}"
        variables = (("http_proxy", url), ("https_proxy", url), ("all_proxy", url), ("no_proxy", _HOME))
        both = tuple(pair for name, value in variables for pair in ((name, value), (name.upper(), value)))
        return Link(self.name, device="lo", addresses=("127.0.0.1/8", "::1/128"), environment=both)

    def explain(self) -> tuple[str, ...]:
        listens = f"a proxy of jubako's own listens at 127.0.0.1:{PORT} inside, for HTTP, CONNECT and SOCKS 5"
        return (listens, *(map(_explain, self._rules.rules) if self._rules.rules else ("it lets nothing through",)))

    def connect(self, where: Where) -> Connection:
        _text, listeners = inside(where, _listen, "make the proxy's sockets")
        ready, writer = os.pipe2(os.O_CLOEXEC)
        try:
            helper = start_function("proxy", lambda: self._serve(listeners, where, writer), keep=(*listeners, writer))
            os.close(writer)
            writer = -1
            await_ready(helper, ready)
        finally:
            for fd in (*listeners, ready, writer):
                if fd >= 0:
                    os.close(fd)
        return Connection(self.plan(), (helper,))

    def _serve(self, listeners: list[int], where: Where, ready: int) -> int:
        from jubako.net.proxy.serve import prepare
        from jubako.net.proxy.tally import STATUS, Tally

        set_title("jubako-proxy")
        os.set_blocking(2, False)  # whoever does not read its words does not stop it
        server = prepare(tuple(listeners), self._rules, Tally(f"{where.directory}/{STATUS}"))
        capset(0, 0, 0)
        os.write(ready, b"+")
        os.close(ready)
        server.run()


def _listen() -> tuple[bytes, tuple[int, ...]]:
    """Sockets that listen on the loopback addresses of this namespace, of IPv6 where there is any."""
    rtnetlink.set_up(rtnetlink.device_index("lo"), "lo")
    listeners = [_bind(_socket.AF_INET, "127.0.0.1")]
    try:
        listeners.append(_bind(_socket.AF_INET6, "::1"))
    except OSError:  # the kernel has no IPv6, or it is switched off in there
        pass
    return b"", tuple(listeners)


def _bind(family: int, address: str) -> int:
    socket = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    socket.bind((address, PORT))
    socket.listen(_BACKLOG)
    return socket.detach()


def _explain(rule: Rule) -> str:
    ports = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in rule.ports)
    what = rule.name or rule.network
    return f"it lets through {what}, port{'s' if len(rule.ports) > 1 or '-' in ports else ''} {ports}"
