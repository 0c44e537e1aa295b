"""Published ports as they are written: docker's and podman's `-p`, and RootlessKit's `IP:PORT[:IP]:PORT/PROTOCOL`.

Numbers are decimal and ASCII, addresses numeric, IPv6 in brackets. A port of 0 is never written: what is left out is
chosen.
"""

from __future__ import annotations

import _socket

from jubako.errors import UsageError
from jubako.net.ports.spec import PortSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_IN_RANGE = 4096
"""Each port of a range is a listening socket, and rules in the container."""

_PUBLISH = "publish a port"
_FORM = "[IP:]HOST[-HOST]:CONTAINER[-CONTAINER][/tcp|udp], CONTAINER or IP::CONTAINER; IPv6 in brackets"
_FORM_ROOTLESSKIT = "IP:PORT[:CHILD-IP]:PORT/PROTOCOL, a port or a range, as 0.0.0.0:8080:80/tcp; IPv6 in brackets"


def parse_publish(value: str) -> tuple[PortSpec, ...]:
    """The ports of one `-p` of docker and podman; a host port that is left out is 0: any free one. `UsageError`."""
    text, protocol = _split_protocol(value, ("tcp", "udp"), "tcp")
    parts = _split(value, text, _FORM)
    address, rest = _leading_address(value, parts)
    if len(rest) > 2 or (address and len(rest) < 2):
        raise _refused(value, "it has too many or too few parts", _FORM)
    inside = _range(value, rest[-1], "container port")
    if len(rest) == 1 or not rest[0]:
        if len(rest) == 2 and not address:
            raise _refused(value, "the host port is empty", f"write {rest[-1]} alone for any free one, or {_FORM}")
        outside = [0] * len(inside)
    else:
        outside = list(_range(value, rest[0], "host port"))
    return tuple(PortSpec(address, host, "", port, protocol) for host, port in _pairs(value, outside, list(inside)))


def parse_rootlesskit(value: str) -> tuple[PortSpec, ...]:
    """A port as RootlessKit's `--publish` and `rootlessctl add-ports` have it, or, beyond that, a range on both sides.
    Raises `UsageError`."""
    known = ("tcp", "tcp4", "tcp6", "udp", "udp4", "udp6")
    if "/" not in value:
        raise _refused(value, "the protocol is missing", _FORM_ROOTLESSKIT)
    text, protocol = _split_protocol(value, known, "")
    parts = _split(value, text, _FORM_ROOTLESSKIT)
    if len(parts) not in (3, 4):
        raise _refused(value, f"it has {len(parts)} parts", _FORM_ROOTLESSKIT)
    address = check_address(value, parts[0], protocol)
    child = check_address(value, parts[2], protocol) if len(parts) == 4 else ""
    outside, inside = _range(value, parts[1], "port"), _range(value, parts[-1], "port")
    return tuple(
        PortSpec(address, host, child, port, protocol) for host, port in _pairs(value, list(outside), list(inside))
    )


def format_rootlesskit(port: PortSpec) -> str:
    """The text that `parse_rootlesskit` takes; all addresses of the host are written 0.0.0.0, or [::] for IPv6 only."""
    host = port.host_address or ("::" if port.protocol.endswith("6") else "0.0.0.0")
    child = f"{_bracketed(port.address)}:" if port.address else ""
    return f"{_bracketed(host)}:{port.host_port}:{child}{port.port}/{port.protocol}"


def check_address(value: str, text: str, protocol: str) -> str:
    """A numeric address (IPv6 with or without brackets here), in its usual spelling, that goes with the protocol."""
    bare = text.removeprefix("[").removesuffix("]") if text.startswith("[") and text.endswith("]") else text
    family = _socket.AF_INET6 if ":" in bare else _socket.AF_INET
    if "%" in bare:
        raise _refused(value, f"a scope in an address is not supported: {text!r}")
    try:
        packed = _socket.inet_pton(family, bare)
    except (OSError, ValueError):
        raise _refused(
            value, f"{text!r} is not a numeric address", "names such as localhost are not looked up"
        ) from None
    if family == _socket.AF_INET6 and packed.startswith(bytes(10) + b"\xff\xff"):
        raise _refused(value, f"{text!r} is an IPv4 address in disguise", "write it as IPv4")
    if packed[0] >= 224 and (family == _socket.AF_INET or packed[0] == 255):
        raise _refused(value, f"{text!r} is an address of many hosts")
    if protocol.endswith("4" if family == _socket.AF_INET6 else "6"):
        raise _refused(value, f"{text!r} does not go with {protocol}")
    return _socket.inet_ntop(family, packed)


def _split_protocol(value: str, known: tuple[str, ...], default: str) -> tuple[str, str]:
    text, slash, protocol = value.partition("/")
    if not slash:
        return text, default
    if protocol == "sctp":
        raise _refused(value, "SCTP cannot be forwarded: only tcp and udp can")
    if protocol not in known:
        reason = f"{protocol!r} is not a protocol" if protocol else "the protocol is empty"
        raise _refused(value, reason, "one of " + ", ".join(known))
    return text, protocol


def _split(value: str, text: str, form: str) -> list[str]:
    """The parts between colons, but for those in brackets."""
    parts, inside = [""], False
    for character in text:
        if character in "[]":
            if inside is (character == "[") or (character == "[" and parts[-1]):
                raise _refused(value, "its brackets do not match", form)
            inside = not inside
        elif parts[-1].endswith("]") and character != ":":
            raise _refused(value, "something follows the bracket", form)
        if character == ":" and not inside:
            parts.append("")
        else:
            parts[-1] += character
    if inside:
        raise _refused(value, "its brackets do not match", form)
    if len(parts) > 4:
        raise _refused(value, "it has too many parts", "an IPv6 address stands in brackets: [::1]:8080:80")
    return parts


def _leading_address(value: str, parts: list[str]) -> tuple[str, list[str]]:
    if len(parts) < 3 and not parts[0].startswith("["):
        return "", parts
    if not parts[0]:
        raise _refused(value, "the address is empty", _FORM)
    return check_address(value, parts[0], ""), parts[1:]


def _range(value: str, text: str, what: str) -> range:
    first, dash, last = text.partition("-")
    low = _port(value, first, what)
    high = _port(value, last, what) if dash else low
    if high < low:
        raise _refused(value, f"the {what}s {text} run backwards")
    if high - low >= MOST_IN_RANGE:
        raise _refused(value, f"{high - low + 1} ports are too many", f"at most {MOST_IN_RANGE} at a time")
    return range(low, high + 1)


def _pairs(value: str, outside: list[int], inside: list[int]) -> Iterator[tuple[int, int]]:
    if len(outside) != len(inside):
        reason = f"the host's range has {len(outside)} ports and the container's {len(inside)}"
        raise _refused(value, reason, "give both the same length")
    return zip(outside, inside, strict=True)


def _port(value: str, text: str, what: str) -> int:
    if not text:
        raise _refused(value, f"the {what} is empty")
    if not (text.isascii() and text.isdigit()):
        raise _refused(value, f"the {what} {text!r} is not a number")
    if len(text) > 20:
        raise _refused(value, f"the {what} has {len(text)} digits")
    if len(text) > 5 or not 1 <= int(text) <= 65535:
        hint = "leave the host port out for any free one" if not text.strip("0") else ""
        raise _refused(value, f"the {what} {text} is not from 1 to 65535", hint)
    return int(text)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _refused(value: str, reason: str, hint: str = "") -> UsageError:
    return UsageError(_PUBLISH, repr(value), reason=reason, hint=hint)
