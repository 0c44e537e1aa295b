"""`--ulimit NAME=SOFT[:HARD]`, in the names of ulimit(1) as docker and podman have them."""

from __future__ import annotations

from jubako.engine.parse.sizes import is_digits, refuse
from jubako.spec.types import RLIM_INFINITY, Rlimit

NAMES = (
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
)


def parse_ulimits(values: tuple[str, ...]) -> tuple[Rlimit, ...]:
    """The limits to set; the last one of a name counts. `host` keeps the caller's, which is what not asking does."""
    limits: dict[str, Rlimit] = {}
    for value in values:
        if value == "host":
            continue
        limit = _parse(value)
        limits[limit.type] = limit
    return tuple(limits.values())


def _parse(value: str) -> Rlimit:
    name, equals, rest = value.partition("=")
    name = name.lower().removeprefix("rlimit_")
    if not equals:
        raise refuse("ulimit", value, "must be NAME=SOFT[:HARD]", "as in --ulimit nofile=1024:2048")
    if name not in NAMES:
        raise refuse("ulimit", value, f"there is no limit {name!r}", f"one of {', '.join(NAMES)}")
    first, colon, second = rest.partition(":")
    soft = _amount(first, value)
    hard = _amount(second, value) if colon else soft
    if soft > hard:
        raise refuse("ulimit", value, f"the soft limit {first} is above the hard limit {second}")
    return Rlimit(f"RLIMIT_{name.upper()}", hard, soft)


def _amount(text: str, value: str) -> int:
    if text in ("-1", "unlimited"):
        return RLIM_INFINITY
    if is_digits(text) and len(text) <= 20 and int(text) <= RLIM_INFINITY:
        return int(text)
    raise refuse("ulimit", value, f"{text!r} is not a number, -1 or unlimited")
