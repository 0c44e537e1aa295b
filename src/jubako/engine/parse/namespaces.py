"""Which namespaces are the container's own, the host's or another container's: `--pid`, `--ipc`, `--ns` and kin.

The spellings are docker's and podman's; the types' names are those of OCI, and `--ns` takes unshare(1)'s and lsns(8)'s
as well. The user namespace has a grammar of its own: `ids.modes`.
"""

from __future__ import annotations

from jubako.engine.parse.sizes import refuse
from jubako.errors import UsageError
from jubako.record import record
from jubako.spec.types import TimeOffset

PRIVATE, HOST, CONTAINER, PATH, NONE, DRIVER = "private", "host", "container", "ns", "none", "driver"

TYPES = {
    "pid": "pid",
    "ipc": "ipc",
    "uts": "uts",
    "net": "network",
    "network": "network",
    "cgroup": "cgroup",
    "time": "time",
    "user": "user",
    "mnt": "mount",
    "mount": "mount",
}


@record
class Choice:
    """What was said about one namespace; `target` is the container's name or the path, or what the network is to be
    connected by. `flag` said it."""

    type: str
    mode: str = PRIVATE
    target: str = ""
    flag: str = ""


def parse_namespace(kind: str, value: str, flag: str) -> Choice:
    """The value of `--pid`, `--ipc`, `--uts`, `--network`, `--cgroupns` for the namespace `kind`."""
    mode, colon, target = value.partition(":")
    if mode in (CONTAINER, PATH) and target:
        if mode == PATH and not target.startswith("/"):
            raise refuse(flag, value, f"the path {target!r} must be absolute")
        return Choice(kind, mode, target, flag)
    if not colon:
        if mode == HOST or (mode == PRIVATE and (kind, flag) != ("network", "network")):
            return Choice(kind, mode, "", flag)
        if mode == NONE and kind == "network":
            return Choice(kind, PRIVATE, "", flag)
        if kind == "ipc" and mode in (NONE, "shareable"):
            return Choice(kind, NONE if mode == NONE else PRIVATE, "", flag)
    if kind == "network" and flag == "network":  # whether there is such a driver is the network's to say
        return Choice(kind, DRIVER, "default" if value == PRIVATE else value, flag)
    extra = "none, " if kind in ("network", "ipc") else ""
    raise refuse(flag, value, "there is no such mode", f"{extra}private, host, container:NAME or ns:PATH")


def parse_ns(value: str) -> Choice:
    """The value of `--ns`: TYPE=private, TYPE=host, TYPE=PATH, TYPE=container:NAME; for net and ipc also TYPE=none."""
    name, equals, rest = value.partition("=")
    kind = TYPES.get(name, "")
    if not equals or not rest:
        raise refuse("ns", value, "must be TYPE=private, TYPE=host or TYPE=PATH")
    if not kind:
        raise refuse("ns", value, f"there is no namespace {name!r}", f"one of {', '.join(TYPES)}")
    if kind == "mount" and rest != PRIVATE:
        raise refuse("ns", value, "a container always has a mount namespace of its own")
    if kind == "user":
        raise refuse("ns", value, "the user namespace has its own flag", "--userns host, --userns ns:PATH, ...")
    if rest.startswith("/"):
        return Choice(kind, PATH, rest, "ns")
    return parse_namespace(kind, rest, "ns")


def choose_namespaces(choices: tuple[Choice, ...]) -> dict[str, Choice]:
    """The choices by type; two different ones for the same type are an error."""
    chosen: dict[str, Choice] = {}
    for choice in choices:
        other = chosen.setdefault(choice.type, choice)
        if (other.mode, other.target) != (choice.mode, choice.target):
            raise UsageError(
                f"combine --{other.flag} and --{choice.flag}",
                f"for the {choice.type} namespace",
                reason=f"one says {_show(other)}, the other {_show(choice)}",
            )
    return chosen


def parse_time_offsets(values: tuple[str, ...]) -> tuple[TimeOffset, ...]:
    """`--time-offset monotonic=SECONDS,boottime=SECONDS`; seconds may be negative and have a fraction."""
    offsets: dict[str, TimeOffset] = {}
    for value in values:
        for part in value.split(","):
            clock, equals, amount = part.partition("=")
            if not equals or clock not in ("monotonic", "boottime"):
                raise refuse("time-offset", value, f"{part!r} must be monotonic=SECONDS or boottime=SECONDS")
            offsets[clock] = _offset(clock, amount, value)
    return tuple(offsets.values())


def _offset(clock: str, amount: str, value: str) -> TimeOffset:
    whole, dot, fraction = amount.removeprefix("-").removeprefix("+").partition(".")
    right = whole.isascii() and whole.isdigit() and len(whole) < 19
    if not right or (dot and not (fraction.isascii() and fraction.isdigit())):
        raise refuse("time-offset", value, f"{amount!r} is not a number of seconds")
    nanoseconds = int(whole) * 1_000_000_000 + int((fraction + "000000000")[:9])
    # The kernel wants the fraction counted upwards: -1.5 is -2 seconds and 500,000,000 nanoseconds.
    secs, nanosecs = divmod(-nanoseconds if amount.startswith("-") else nanoseconds, 1_000_000_000)
    return TimeOffset(clock, secs, nanosecs)


def _show(choice: Choice) -> str:
    return f"{choice.mode}:{choice.target}" if choice.target else choice.mode
