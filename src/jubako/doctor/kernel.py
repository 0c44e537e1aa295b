"""The kernel: its age, its machine, and each newer system call that jubako uses when it is there.

Every call is really made, with arguments that it must refuse, since a filter around us may hide what the version
promises.
"""

from __future__ import annotations

import errno

from jubako.doctor.finding import Finding, note, ok, problem
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.doctor.host import Host

OLDEST = (5, 10)
MACHINES = ("x86_64", "aarch64")


@record
class Call:
    """One system call: since which kernel, and what is done without it."""

    name: str
    since: str
    fallback: str


CALLS = (
    Call("clone3", "5.3", "clone is used, and the process is moved into its group afterwards"),
    Call("openat2", "5.6", "paths in a container's root are walked one component at a time"),
    Call("pidfd_open", "5.3", "processes are watched by pid and start time"),
    Call("pidfd_getfd", "5.6", "descriptors travel over sockets only"),
    Call("close_range", "5.9", "descriptors are closed one by one"),
    Call("open_tree", "5.2", "mounts are bound by path"),
    Call("mount_setattr", "5.12", "read-only trees are remounted one mount at a time, and nothing is id-mapped"),
)


def version(host: Host) -> Finding:
    """Is the kernel at least 5.10?"""
    name = "kernel"
    numbers = host.release.split("-")[0].split("+")[0].split(".")[:2]
    try:
        found = (int(numbers[0]), int(numbers[1]))
    except (ValueError, IndexError):
        return note(name, f"{host.release}: cannot be compared", f"uname: {host.release}")
    if found < OLDEST:
        return problem(
            name,
            f"{host.release} is older than {OLDEST[0]}.{OLDEST[1]}, the oldest that works",
            f"uname: {host.release}",
            remedy="# Upgrade the kernel, then reboot",
        )
    return ok(name, host.release, f"uname: {host.release}")


def machine(host: Host) -> Finding:
    """Is this a processor for which the system calls' numbers are known?"""
    if host.machine in MACHINES:
        return ok("processor", host.machine, f"uname: {host.machine}")
    return problem(
        "processor", f"{host.machine} is not supported, only {' and '.join(MACHINES)}", f"uname: {host.machine}"
    )


def _check(call: Call) -> Callable[[Host], Finding]:
    def check(host: Host) -> Finding:
        trial = host.attempt("system_call", call.name)
        evidence = f"tried {call.name}: {trial}"
        if trial.ok:
            return ok(call.name, "there", evidence)
        if trial.errno == errno.EPERM:
            summary = f"forbidden by a filter: {call.fallback}"
            remedy = (
                "# Let the filter answer ENOSYS, as newer engines do; in a docker container:\n"
                "docker run --security-opt seccomp=unconfined IMAGE"
            )
            return note(call.name, summary, evidence, remedy=remedy)
        return note(call.name, f"not there (Linux {call.since}): {call.fallback}", evidence)

    check.__name__ = call.name
    check.__doc__ = f"Is {call.name}(2) there (Linux {call.since})? Without it, {call.fallback}."
    return check


CHECKS: tuple[Callable[[Host], Finding], ...] = (version, machine, *(_check(call) for call in CALLS))
