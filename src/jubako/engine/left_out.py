"""What a container would not have, and why: the second half of `explain`.

A reader who knows only what is done has to guess at the rest: which namespaces are the host's, what the kernel does
not allow here, what was switched off by a flag.
"""

from __future__ import annotations

from jubako.engine.extras import Request
from jubako.engine.options import RunOptions
from jubako.engine.prepare import Prepared
from jubako.plan.mounts import parse_options
from jubako.plan.namespaces import namespaces_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_SHARED = {
    "user": "no user namespace of its own: the container's ids are those of {owner} (--userns host)",
    "pid": "no PID namespace: the container sees and may signal the caller's processes (--pid host)",
    "network": "no network namespace: the host's devices, addresses and abstract sockets are in reach (--network host)",
    "ipc": "no IPC namespace: the host's shared memory and message queues are in reach (--ipc host)",
    "uts": "no UTS namespace: the host's name is the container's (--uts host)",
    "cgroup": "no cgroup namespace: paths of control groups read as on the host (--cgroupns host)",
    "time": "no time namespace: the clocks since boot are the host's (--ns time=host)",
}


def notes_on(options: RunOptions, request: Request, prepared: Prepared, group: str) -> tuple[str, ...]:
    """Sentences, the most telling first."""
    return tuple(_notes(options, request, prepared, group))


def _notes(options: RunOptions, request: Request, prepared: Prepared, group: str) -> Iterator[str]:
    spec, extras = prepared.spec, request.extras
    spaces = namespaces_of(spec)
    privileged = prepared.host.privileged
    for kind, text in _SHARED.items():
        if kind not in spaces.new and kind not in spaces.joined:
            yield text.format(owner="the host itself" if privileged else "the base user namespace")
    if spaces.is_own("network") and extras.network is None:
        yield "no network but the loopback device: nothing outside can be reached, or reach in"
    if _wants_shared(request) and not (privileged and not spaces.nested):
        yield (
            "mounts made in the container do not reach the host, although shared is asked for: the kernel makes every"
            " mount that a less privileged namespace inherits a slave (mount_namespaces(7)), so container → host works"
            " only as root with --userns host; among namespaces made inside it is shared all the same"
        )
    if not extras.cgroups:
        yield "no control group (--cgroups disabled): no pause, no limits, no statistics"
    elif not group:
        from jubako.engine.cgroups import find_parent

        yield f"no control group: {find_parent()[1]}; so no pause, no limits, no statistics"
    if request.spec.linux.resources is not None:
        yield "no limits by control group: they are not supported yet, and --best-effort does without"
    process = spec.process
    if extras.seccomp == "unconfined":
        yield "no system call filter: it was switched off (--privileged or --security-opt seccomp=unconfined)"
    if not process.no_new_privileges:
        yield "no_new_privs is not set: set-uid programs and file capabilities have their force inside"
    if prepared.host.setgroups_denied:
        yield "supplementary groups cannot be changed inside: setgroups(2) is denied where only one group id is mapped"
    if not process.terminal:
        yield "no terminal (-t): a terminal of the host is never handed over, since whoever holds it can type into it"
    if not options.interactive:
        yield "no standard input (-i): the program reads /dev/null"
    if extras.no_pivot:
        yield "no pivot_root (--no-pivot): the old root is covered and left by chroot, which is the weaker way"
    if prepared.root.kind in ("directory", "tree"):
        yield f"no layer above {extras.root.path}: the container writes to it (DIR:O puts a throw-away one over it)"
    if extras.userns.mode == "auto":
        yield "no range of ids is reserved (--userns auto): it is chosen under a lock, and may be another then"


def _wants_shared(request: Request) -> bool:
    asked = [request.spec.linux.rootfs_propagation]
    asked += [parse_options(mount.options).propagation for mount in request.spec.mounts]
    return any(propagation in ("shared", "rshared") for propagation in asked)
