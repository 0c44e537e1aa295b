"""Things that are tried rather than guessed: each in a forked child with a deadline, in namespaces that end with it.

Kernel versions and sysctls say what ought to work; seccomp filters, security modules, containers around us and masked
paths decide what does. A trial is a function of this module that returns a word of detail or raises `OSError`;
`jubako.doctor.trial.attempt` runs it. Whatever it mounts lives in the child's own mount namespace and goes with it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal

from jubako.doctor.trial import MESSAGE
from jubako.linux import clone, mount, prctl
from jubako.linux.libc import libc, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# ---- namespaces


def user_namespace() -> str:
    """A user namespace that holds real powers: maps written, and a tmpfs mounted (AppArmor may allow only those)."""
    enter_user_namespace(clone.CLONE_NEWNS)
    mount.mount("tmpfs", some_directory(), "tmpfs", mount.MS_NOSUID | mount.MS_NODEV, "size=64k")
    return "unshare, uid_map, gid_map and a tmpfs mount work"


def nested_user_namespace() -> str:
    """A user namespace below another one, as every container has it below the user's base namespace."""
    enter_user_namespace()
    enter_user_namespace(clone.CLONE_NEWNS, uid=0, gid=0)
    return "a user namespace in a user namespace works"


def namespace(kind: str) -> str:
    """One kind of namespace, owned by a new user namespace."""
    enter_user_namespace()
    clone.unshare(clone.FLAGS[kind])
    return "works"


def fresh_mount(kind: str) -> str:
    """A new file system of the kinds that a container needs, with the namespaces that the kernel wants for it."""
    needs, options, target = {
        "proc": (clone.CLONE_NEWPID, None, "/proc"),
        "sysfs": (clone.CLONE_NEWNET, None, "/sys"),
        "mqueue": (clone.CLONE_NEWIPC, None, None),
        "devpts": (0, "newinstance,ptmxmode=0666,mode=0620", None),
        "cgroup2": (clone.CLONE_NEWCGROUP, None, None),
    }[kind]
    enter_user_namespace(clone.CLONE_NEWNS | needs)
    place = target or some_directory()
    flags = mount.MS_NOSUID | mount.MS_NOEXEC
    if kind == "sysfs":  # as containers get it; where the existing one is read-only, no other may be mounted
        flags |= mount.MS_NODEV | mount.MS_RDONLY
    _in_a_child_of_the_new_pid_namespace(lambda: mount.mount(kind, place, kind, flags, options))
    return f"mount of {kind} works"


def enter_user_namespace(further: int = 0, uid: int | None = None, gid: int | None = None) -> None:
    """Become root of a new user namespace with a single-id map, and make the other namespaces of `further` below it."""
    uid = os.getuid() if uid is None else uid
    gid = os.getgid() if gid is None else gid
    clone.unshare(clone.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        _write(f"/proc/self/{name}", text)
    if further:
        clone.unshare(further)
    if further & clone.CLONE_NEWNS:
        mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)


def some_directory() -> str:
    """A directory that exists on any machine and that the trial's own mount namespace may cover."""
    for path in ("/tmp", "/mnt", "/dev", "/usr"):
        if os.path.isdir(path):
            return path
    return "/"


def _in_a_child_of_the_new_pid_namespace(function: Callable[[], None]) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            prctl.set_parent_death_signal(signal.SIGKILL)
            function()
        except OSError as failure:
            subject = failure.filename or ""
            os.write(writer, f"{failure.errno}\0{getattr(failure, 'call', '')}\0{subject}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    message = os.read(reader, MESSAGE)
    os.waitpid(pid, 0)
    if message:
        number, call, subject = message.decode().split("\0")
        again = OSError(int(number), os.strerror(int(number)), subject)
        again.call = call  # type: ignore[attr-defined]
        raise again


def _write(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as failure:
        failure.filename = path
        failure.call = "write"  # type: ignore[attr-defined]
        raise


# ---- id maps


def id_map(uid_map: str, gid_map: str, newuidmap: str, newgidmap: str) -> str:
    """The whole base map, written as `jubako run` does it: by newuidmap and newgidmap, or directly without them."""
    ready_reader, ready_writer = os.pipe()
    hold_reader, hold_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(hold_writer)
            prctl.set_parent_death_signal(signal.SIGKILL)
            clone.unshare(clone.CLONE_NEWUSER)
            os.write(ready_writer, b"0")
            os.read(hold_reader, 1)
        except OSError as failure:
            os.write(ready_writer, str(failure.errno).encode())
        finally:
            os._exit(0)
    os.close(ready_writer)
    try:
        number = int(os.read(ready_reader, 16) or b"5")
        if number:
            raise OSError(number, os.strerror(number), "CLONE_NEWUSER")
        for name, text, helper in (("uid_map", uid_map, newuidmap), ("gid_map", gid_map, newgidmap)):
            if helper:
                _run([helper, str(pid), *text.split()])
            else:
                _write(f"/proc/{pid}/{name}", text)
        return f"uid_map of a new namespace: {uid_map.strip().replace(chr(10), ', ')}"
    finally:
        os.close(hold_writer)
        os.waitpid(pid, 0)


def _run(argv: list[str]) -> None:
    """Run a helper; its complaint becomes the error's text."""
    reader, writer = os.pipe()
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 2)])
    os.close(writer)
    said = os.read(reader, MESSAGE).decode(errors="replace").strip()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(errno.EPERM, said or f"exit status {code}", " ".join(argv[:1]))


def getsubids(program: str, user: str, option: str) -> str:
    """The ranges that a directory service gives to the user, as "START:COUNT" words; it may take its time or hang."""
    from jubako.errors import JubakoError
    from jubako.ids.subordinate import ask_getsubids

    try:
        ranges = ask_getsubids(program, user, *([option] if option else []))
    except JubakoError as failure:
        raise OSError(failure.errno or errno.EIO, str(failure)) from None
    return " ".join(f"{entry.start}:{entry.count}" for entry in ranges)


# ---- storage


def overlay() -> str:
    """An overlay in a user namespace on a tmpfs: a whiteout, a copy-up and an opaque directory really happen."""
    enter_user_namespace(clone.CLONE_NEWNS)
    base = some_directory()
    mount.mount("tmpfs", base, "tmpfs", 0, "size=1m")
    return _use_overlay(base)


def overlay_on(directory: str) -> str:
    """The same with the upper layer in `directory`, a fresh one on the store's file system that the caller removes."""
    enter_user_namespace(clone.CLONE_NEWNS)
    return _use_overlay(directory)


def _use_overlay(base: str) -> str:
    lower, upper, work, merged = (f"{base}/{name}" for name in ("lower", "upper", WORK, "merged"))
    for path in (lower, upper, work, merged, f"{lower}/directory"):
        os.mkdir(path)
    os.close(os.open(f"{lower}/file", os.O_CREAT | os.O_WRONLY, 0o644))
    layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
    how = "userxattr"
    try:
        mount.mount("overlay", merged, "overlay", 0, f"{layers},userxattr")
    except OSError as failure:
        if (
            failure.errno != errno.EINVAL
        ):  # before 5.11 the option is unknown; some distributions allowed overlays anyhow
            raise
        mount.mount("overlay", merged, "overlay", 0, layers)
        how = "without userxattr"
    try:
        os.chmod(f"{merged}/file", 0o600)
        os.unlink(f"{merged}/file")
        os.rmdir(f"{merged}/directory")
        os.mkdir(f"{merged}/directory")
    finally:
        mount.umount(merged, mount.MNT_DETACH)
    return f"overlay mount, copy-up, whiteout and opaque directory work ({how})"


WORK = "work"
"""Overlayfs's own directory, which it leaves with contents of mode 0."""


def idmapped_mount(path: str) -> str:
    """An id-mapped mount (Linux 5.12): of `path` as root, of a tmpfs in a user namespace where `path` is empty."""
    if path:
        clone.unshare(clone.CLONE_NEWNS)
        mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
        maps = "0 100000 65536"
    else:
        enter_user_namespace(clone.CLONE_NEWNS)
        path = some_directory()
        mount.mount("tmpfs", path, "tmpfs", 0, "size=64k")
        maps = "0 0 1"
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        prctl.set_parent_death_signal(signal.SIGKILL)
        clone.unshare(clone.CLONE_NEWUSER)
        os.write(writer, b".")
        signal.pause()
    try:
        os.read(reader, 1)
        _write(f"/proc/{pid}/uid_map", maps)
        _write(f"/proc/{pid}/gid_map", maps)
        userns = clone.open_namespace(pid, "user")
        tree = mount.open_tree(mount.AT_FDCWD, path, mount.OPEN_TREE_CLONE)
        mount.mount_setattr(tree, set_=mount.MOUNT_ATTR_IDMAP, userns_fd=userns)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return "works"


def nearest(path: str, top: str = "") -> str:
    """`path`, or the directory above it (not above `top`) that exists already."""
    while path not in ("/", top) and not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def file_system(path: str) -> str:
    """The file system's magic number (statfs(2)), free bytes, free and all inodes; may hang on a dead NFS."""
    buffer = (ctypes.c_long * 32)()
    if libc.statfs(os.fsencode(path), buffer) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    numbers = os.statvfs(path)
    magic = buffer[0] & 0xFFFFFFFF
    return f"{magic:#x} {numbers.f_bavail * numbers.f_frsize} {numbers.f_favail} {numbers.f_files}"


# ---- kernel


def system_call(name: str) -> str:
    """Whether a system call is there, asked with arguments that it must refuse; ENOSYS or a filter's EPERM come out."""
    arguments, expected = PROBES[name]
    try:
        result = syscall(name, *arguments)
    except OSError as failure:
        if failure.errno in expected:
            return "there"
        raise
    return f"there (version {result})" if name == "landlock_create_ruleset" else "there"


_BAD = (errno.EINVAL, errno.EBADF)
PROBES: dict[str, tuple[tuple[int | bytes | None, ...], tuple[int, ...]]] = {
    "clone3": ((0, 0), _BAD),
    "openat2": ((-1, b"", 0, 0), _BAD),
    "close_range": ((10, 0, 0), _BAD),
    "pidfd_open": ((-1, 0), _BAD),
    "pidfd_getfd": ((-1, -1, 0), _BAD),
    "open_tree": ((-1, b"", 0x7FFFFFFF), _BAD),
    "mount_setattr": ((-1, b"", 0, 0, 0), _BAD),
    "seccomp": ((2, 0, (ctypes.c_uint32 * 1)(0x7FFF0000)), _BAD),  # type: ignore[dict-item]
    "landlock_create_ruleset": ((0, 0, 1), (errno.EOPNOTSUPP,)),
    "keyctl": ((0x7FFFFFFF, 0, 0, 0, 0), (errno.EOPNOTSUPP,)),
}
"""Arguments that never do anything, and the errors by which a kernel shows that it knows the call."""


def libseccomp(name: str) -> str:
    """The version of the system's libseccomp (seccomp_version(3))."""
    try:
        library = ctypes.CDLL(name)
    except OSError as failure:
        raise OSError(errno.ENOENT, str(failure)) from None
    library.seccomp_version.restype = ctypes.POINTER(ctypes.c_uint * 3)
    return ".".join(str(number) for number in library.seccomp_version().contents)


def open_device(path: str, flags: int = os.O_RDWR) -> str:
    """Open a device as the caller may; nothing is read or written."""
    os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    return "opens"


TRIALS: dict[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        user_namespace, nested_user_namespace, namespace, fresh_mount, id_map, getsubids, overlay, overlay_on,
        idmapped_mount, nearest, file_system, system_call, libseccomp, open_device,
    )
}  # fmt: skip
