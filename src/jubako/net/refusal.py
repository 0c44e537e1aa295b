"""Options that a network driver does not know are refused, never ignored."""

from __future__ import annotations

from jubako.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.link import NetworkOptions

_WORDS = {
    "cidr": "a network of one's own choice (cidr)",
    "ipv6": "IPv6 (ipv6)",
    "host_loopback": "the host's loopback addresses (host-loopback)",
    "arguments": "arguments for its program",
    "rules": "rules of what may be reached (allow)",
    "bridge": "a bridge",
    "sandbox": "a sandbox of its program",
    "seccomp": "a filter of its program (seccomp)",
}


def refuse_all_but(options: NetworkOptions, known: tuple[str, ...]) -> None:
    """Raises `UsageError` for the first option that is set and not among `known`."""
    for name, value in options.__dict__.items():
        if value and name != "driver" and name not in known:
            raise UsageError("use the network", options.driver, reason=f"it knows no {_WORDS.get(name, name)}")
