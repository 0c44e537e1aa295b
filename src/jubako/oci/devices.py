"""The container's device rules, in force for its control group: OCI runtime-spec 1.3, "Allowed Device list".

Entries hold in the order listed, and all that is not allowed is refused, as with runc and crun; the devices that every
container has come last, so that no list can take them away. In a user namespace nothing is loaded: no node can be made
there, which is what the rules are for.
"""

from __future__ import annotations

import errno
import os

from jubako.errors import JubakoError, UsageError
from jubako.linux import bpf_devices
from jubako.linux.bpf_devices import ACCESS, BLOCK, CHARACTER, EVERYTHING, MKNOD, Rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.spec.resources import DeviceRule

ALWAYS = (
    Rule(True, CHARACTER, access=MKNOD),
    Rule(True, BLOCK, access=MKNOD),
    Rule(True, CHARACTER, 1, 3),  # null
    Rule(True, CHARACTER, 1, 5),  # zero
    Rule(True, CHARACTER, 1, 7),  # full
    Rule(True, CHARACTER, 1, 8),  # random
    Rule(True, CHARACTER, 1, 9),  # urandom
    Rule(True, CHARACTER, 5, 0),  # tty
    Rule(True, CHARACTER, 5, 1),  # console
    Rule(True, CHARACTER, 5, 2),  # ptmx
    Rule(True, CHARACTER, 136),  # pts/*
)
"""What every container may use (config-linux, "Default Devices"), and the making of nodes, which gives no access."""

_KINDS = {"": 0, "a": 0, "b": BLOCK, "c": CHARACTER}
_HINT = "loading a device filter needs CAP_BPF or CAP_SYS_ADMIN, and a kernel with CONFIG_CGROUP_BPF"


def read_rules(rules: tuple[DeviceRule, ...], at: str = "linux.resources") -> tuple[Rule, ...]:
    """`rules` as the filter knows them. Raises `UsageError` with the JSON path of what is wrong."""
    return tuple(_read(rules, f"{at}.devices" if at else "devices"))


def _read(rules: tuple[DeviceRule, ...], at: str) -> Iterator[Rule]:
    for position, rule in enumerate(rules):
        if rule.type not in _KINDS:
            raise UsageError("read", f"{at}[{position}].type", reason=f"must be a, b or c, not {rule.type!r}")
        access = 0
        for letter in rule.access:
            if letter not in ACCESS:
                raise UsageError(
                    "read", f"{at}[{position}].access", reason=f"must be of r, w and m, not {rule.access!r}"
                )
            access |= ACCESS[letter]
        for name, number in (("major", rule.major), ("minor", rule.minor)):
            if number is not None and number < -1:
                raise UsageError("read", f"{at}[{position}].{name}", reason=f"must not be negative: {number}")
        yield Rule(rule.allow, _KINDS[rule.type], _number(rule.major), _number(rule.minor), access or EVERYTHING)


def _number(number: int | None) -> int | None:
    return None if number is None or number < 0 else number  # runc and crun take -1 for all


def restrict_devices(group: str, rules: tuple[Rule, ...]) -> None:
    """Put `rules` and the devices of every container in force for the group's directory, in place of any before."""
    directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        program = bpf_devices.load(bpf_devices.compile_rules((*rules, *ALWAYS)))
        try:
            bpf_devices.attach(directory, program)
        finally:
            os.close(program)
    except OSError as failure:
        hint = f"{len(rules)} device rules are too many" if failure.errno == errno.E2BIG else _HINT
        raise JubakoError.from_os_error("restrict the devices of", group, failure, hint) from failure
    finally:
        os.close(directory)
