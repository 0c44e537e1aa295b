"""Making and joining namespaces: clone(2), unshare(2), setns(2), namespaces(7).

`clone` starts a child that goes on in this interpreter, in new namespaces from its first instruction. It is for
single-threaded processes only: the C library's fork handlers do not run.
"""

from __future__ import annotations

import errno
import os

from jubako.linux import foreign as ctypes
from jubako.linux.libc import SYS, check, error, libc

CLONE_NEWTIME = 0x00000080
CLONE_FILES = 0x00000400
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

FLAGS = {
    "user": CLONE_NEWUSER,
    "mount": CLONE_NEWNS,
    "pid": CLONE_NEWPID,
    "network": CLONE_NEWNET,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
}
"""The OCI runtime-spec's namespace types and the kernel's flags."""

PROC_NAMES = {"mount": "mnt", "network": "net"}
"""Where `/proc/PID/ns` spells a type otherwise than the OCI runtime-spec."""

_SIGCHLD = 17
_NS_GET_USERNS = 0xB701
_NS_GET_PARENT = 0xB702
_NS_GET_NSTYPE = 0xB703


def clone(flags: int, cgroup: int = -1) -> tuple[int, int]:
    """Fork into the new namespaces of `flags`; (0, -1) in the child, (pid, pidfd) in the parent.

    The pid is as seen from the caller's PID namespace. With `CLONE_PARENT` the child is the caller's sibling, and only
    the caller's parent can wait for it. `CLONE_NEWTIME` wants clone3(2), since clone(2) has no room for that flag;
    where a filter around us answers ENOSYS, unshare(2) takes it beforehand, for this and all later children.

    `cgroup` is a descriptor of the directory of the control group that the child is born into (Linux 5.7). That costs
    nothing, where a move waits for all CPUs, some ten milliseconds. ENOSYS where it cannot be.
    """
    pid = -1
    ctypes.pythonapi.PyOS_BeforeFork()  # from Python 3.13 on the child gives back the locks that this takes
    try:
        pid, pidfd = _clone(flags, cgroup)
    finally:
        if pid == 0:
            ctypes.pythonapi.PyOS_AfterFork_Child()
        else:
            ctypes.pythonapi.PyOS_AfterFork_Parent()
    return pid, pidfd


def _clone(flags: int, cgroup: int) -> tuple[int, int]:
    pidfd = ctypes.c_int(-1)
    pid = -1
    if cgroup >= 0:
        pid = _clone3(flags | CLONE_INTO_CGROUP, pidfd, cgroup)
        if pid < 0:
            raise error(errno.ENOSYS, "clone3", "CLONE_INTO_CGROUP")
    elif flags & CLONE_NEWTIME:
        pid = _clone3(flags, pidfd)
        if pid < 0:
            unshare(CLONE_NEWTIME)
            flags &= ~CLONE_NEWTIME
    if pid < 0:
        pid = check(
            libc.syscall(SYS["clone"], ctypes.c_ulong(flags | CLONE_PIDFD | _SIGCHLD), 0, ctypes.byref(pidfd), 0, 0),
            "clone",
            namespace_names(flags),
        )
    return pid, pidfd.value if pid else -1


def clone_beside() -> int:
    """Fork a child that shares the table of descriptors until one of the two executes a program; 0 in the child.

    It ends without a signal, and no plain wait(2) of whatever this process becomes will find it.
    """
    pid = check(libc.syscall(SYS["clone"], ctypes.c_ulong(CLONE_FILES), 0, 0, 0, 0), "clone", "CLONE_FILES")
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    return pid


def _clone3(flags: int, pidfd: ctypes.c_int, cgroup: int = 0) -> int:
    """clone3(2) with `flags`; -1 where the call is not to be had, `OSError` for every other failure."""
    signal = 0 if flags & CLONE_PARENT else _SIGCHLD  # a sibling has its cloner's signal, and clone3 wants none said
    # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
    # set_tid_size, cgroup. Kernels before 5.7 know the first eight only, and answer E2BIG when others are used.
    values = (flags | CLONE_PIDFD, ctypes.addressof(pidfd), 0, 0, signal, 0, 0, 0, 0, 0, cgroup)
    arguments = (ctypes.c_uint64 * 11)(*values)
    size = ctypes.c_size_t(8 * (11 if flags & CLONE_INTO_CGROUP else 8))
    pid: int = libc.syscall(SYS["clone3"], ctypes.byref(arguments), size)
    if pid < 0 and ctypes.get_errno() not in (errno.ENOSYS, errno.E2BIG):
        raise error(ctypes.get_errno(), "clone3", namespace_names(flags))
    return pid


def unshare(flags: int) -> None:
    """Move the caller (for pid and time: its next children) into new namespaces (unshare(2))."""
    check(libc.unshare(ctypes.c_int(flags)), "unshare", namespace_names(flags))


def setns(fd: int, flags: int = 0) -> None:
    """Join the namespace that `fd` names, or with a pidfd (Linux 5.8) all those in `flags` (setns(2))."""
    check(libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)), "setns", namespace_names(flags) or f"descriptor {fd}")


def parent_namespace(fd: int) -> int:
    """A descriptor of the user namespace around the user namespace `fd` (ioctl_ns(2), `NS_GET_PARENT`).

    EPERM where that lies outside of the caller's own.
    """
    import fcntl

    return fcntl.ioctl(fd, _NS_GET_PARENT)


def owner_namespace(fd: int) -> int:
    """A descriptor of the user namespace that owns the namespace `fd` (ioctl_ns(2), `NS_GET_USERNS`).

    EPERM where that lies outside of the caller's own.
    """
    import fcntl

    return fcntl.ioctl(fd, _NS_GET_USERNS)


def is_owned_by(fd: int, user: os.stat_result) -> bool:
    """Whether the user namespace of which `user` is the status owns the namespace `fd`."""
    owner = owner_namespace(fd)
    try:
        return os.path.samestat(os.fstat(owner), user)
    finally:
        os.close(owner)


def namespace_names(flags: int) -> str:
    """`flags` in words, for messages: "user, mount, pid"."""
    return ", ".join(name for name, flag in FLAGS.items() if flags & flag)


def flag_names(flags: int) -> str:
    """`flags` as the kernel spells them: "CLONE_NEWUSER|CLONE_NEWNS"."""
    names = [name for name, value in globals().items() if name.startswith("CLONE_") and flags & value]
    return "|".join(names) or "0"


def namespace_path(pid: int | str, kind: str) -> str:
    """The file of `/proc` for one namespace of a process; `kind` is the OCI runtime-spec's word."""
    return f"/proc/{pid}/ns/{PROC_NAMES.get(kind, kind)}"


def open_namespace(pid: int | str, kind: str) -> int:
    """A descriptor that keeps a namespace of the process `pid` alive and can be joined."""
    return os.open(namespace_path(pid, kind), os.O_RDONLY | os.O_CLOEXEC)


def namespace_type(fd: int) -> int:
    """Which kind of namespace `fd` is, as its `CLONE_NEW…` flag (ioctl_ns(2), `NS_GET_NSTYPE`)."""
    import fcntl

    return fcntl.ioctl(fd, _NS_GET_NSTYPE)
