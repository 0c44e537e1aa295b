"""Steps that mount something below the container's root: mount(2), and config.json's `mounts`, `maskedPaths`,
`readonlyPaths` and `devices` (OCI runtime-spec 1.2, config and config-linux).

Every target is opened below the slot `root` with openat2(2) and used through its descriptor only.
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.errors import JubakoError
from jubako.linux import mount as mnt
from jubako.linux.binding import attach, bind, clone_tree
from jubako.linux.openat2 import is_directory, make_directory_in, make_file_in, open_in
from jubako.plan.step import SUPERVISOR, Slots, Step, printable, quote, step
from jubako.plan.steps.rootfs import open_device

_PURPOSES = {
    "tmpfs /dev": "a /dev of the container's own: the few devices that every program expects are bound into it next",
    "tmpfs /dev/shm": "shared memory (shm_open) of the container's own",
    "devpts": "terminals of the container's own: none of the host's can be opened or typed into",
    "tmpfs /sys/fs/cgroup": "an empty cover: the host's control groups do not show",
    "mqueue": "POSIX message queues of the container's IPC namespace",
    "cgroup2": "control groups, seen from the container's own group downwards",
    "tmpfs": "files in memory, gone with the container",
    "ramfs": "files in memory, gone with the container",
}
_READ_ONLY = mnt.MOUNT_ATTR_RDONLY | mnt.MOUNT_ATTR_NOSUID | mnt.MOUNT_ATTR_NODEV | mnt.MOUNT_ATTR_NOEXEC
_UNMAKEABLE = (
    errno.EROFS, errno.EACCES, errno.ENOENT, errno.EPERM, errno.EOVERFLOW, errno.ELOOP, errno.ENOTDIR, errno.EISDIR,
)  # fmt: skip


@step()
class MountFileSystem(Step):
    """A file system of the kernel's own, new for this container."""

    kind: str
    target: str
    flags: int
    data: str = ""
    reason: str = ""

    needs = ("root",)

    def apply(self, slots: Slots) -> None:
        fd = _directory(slots, self.target)
        try:
            mnt.mount(self.kind, f"/proc/self/fd/{fd}", self.kind, self.flags, self.data or None)
        finally:
            os.close(fd)

    def call(self) -> str:
        data = quote(self.data) if self.data else "NULL"
        return f'mount("{self.kind}", {quote(self.target)}, "{self.kind}", {mnt.flag_names(self.flags)}, {data})'

    def purpose(self) -> str:
        purpose = self.reason or _PURPOSES.get(f"{self.kind} {self.target}") or _PURPOSES.get(self.kind)
        return purpose[0].upper() + purpose[1:] if purpose else self.why

    def operation(self) -> str:
        return f"mount {self.kind} on"

    def subject(self) -> str:
        return self.target

    def hint(self, errno_: int) -> str:
        if self.kind in ("proc", "sysfs") and errno_ == errno.EPERM:
            return (
                f"the kernel refuses a new {self.kind} where the existing one is partly covered, as inside a docker"
                f" container: start that one with --security-opt systempaths=unconfined, or pass"
                f" {'--pid host' if self.kind == 'proc' else '--network host'}"
            )
        return ""


@step()
class BindMount(Step):
    """Part of the host's tree, shown inside; a missing target is made, a file as a file."""

    source: str
    target: str
    recursive: bool = True
    set: int = 0
    clear: int = 0
    propagation: int = mnt.MS_PRIVATE
    recursive_attributes: bool = True
    optional: bool = False
    """Leave it out where the target is missing and cannot be made: a file of ours in a read-only /etc."""

    needs = ("root",)

    def apply(self, slots: Slots) -> None:
        try:
            fd = _target_like(slots, slots.path(self.source), self.target, self.source)
        except OSError as failure:
            if self.optional and failure.errno in _UNMAKEABLE:
                return
            raise
        try:
            bind(
                slots.path(self.source), fd, recursive=self.recursive, set_=self.set, clear=self.clear,
                propagation=self.propagation, recursive_attributes=self.recursive_attributes,
            )  # fmt: skip
        finally:
            os.close(fd)

    def call(self) -> str:
        return clone_and_attach(
            self.source, self.target, self.recursive, self.set, self.clear, self.propagation, self.recursive_attributes
        )

    def purpose(self) -> str:
        state = "read-only" if self.set & mnt.MOUNT_ATTR_RDONLY else "writable for whoever may write it outside"
        left_out = "; left out where it cannot be made" if self.optional else "; a missing target is made"
        return f"A part of the host's tree is shown inside, {state}{left_out}"

    def operation(self) -> str:
        return f"bind {self.source} to"

    def subject(self) -> str:
        return self.target

    def hint(self, errno_: int) -> str:
        if errno_ in (errno.EROFS, errno.EACCES):
            return f"{self.target} does not exist in the root file system and cannot be made there"
        if errno_ == errno.EINVAL and not self.recursive:
            return "the source has mounts below it that must not be uncovered: use rbind"
        if errno_ == errno.EPERM and self.clear:
            return "the source's mount has flags that the kernel does not let a user namespace clear"
        return ""


@step()
class CloneShared(Step):
    """A copy of the source while it still is its peer: mounts made on it in the container reach the host (rshared)."""

    source: str
    slot: str
    recursive: bool = True

    @property
    def produces(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.slot,)

    def apply(self, slots: Slots) -> None:
        slots[self.slot] = clone_tree(self.source, -1, recursive=self.recursive)

    def call(self) -> str:
        recursive = "|AT_RECURSIVE" if self.recursive else ""
        return f"open_tree(AT_FDCWD, {quote(self.source)}, OPEN_TREE_CLONE{recursive})"

    def operation(self) -> str:
        return "share mounts with"

    def subject(self) -> str:
        return printable(self.source)


@step()
class AttachMount(Step):
    """A copy of the source that was made before, id-mapped or shared with the host, is attached."""

    slot: str
    source: str
    target: str
    set: int = 0
    clear: int = 0
    propagation: int = mnt.MS_PRIVATE
    optional: bool = False

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("root", self.slot)

    def apply(self, slots: Slots) -> None:
        tree = slots[self.slot]
        try:
            fd = _target_like(slots, f"/proc/self/fd/{tree}", self.target, self.source)
        except OSError as failure:
            if self.optional and failure.errno in _UNMAKEABLE:
                return
            raise
        try:
            attach(tree, fd, set_=self.set, clear=self.clear, propagation=self.propagation)
        finally:
            os.close(fd)
        slots.close(self.slot)

    def call(self) -> str:
        cleared = f", attr_clr={mnt.attr_names(self.clear)}" if self.clear else ""
        propagation = mnt.flag_names(self.propagation)
        attributes = f"{{attr_set={mnt.attr_names(self.set)}{cleared}, propagation={propagation}}}"
        return (
            f'mount_setattr({self.slot}, "", AT_EMPTY_PATH|AT_RECURSIVE, {attributes}); '
            f'move_mount({self.slot}, "", AT_FDCWD, {quote(self.target)}, MOVE_MOUNT_F_EMPTY_PATH)'
        )

    def operation(self) -> str:
        return f"attach {self.source} to"

    def subject(self) -> str:
        return self.target


@step()
class BindDevice(Step):
    """A device of the host: real device nodes cannot be made in a user namespace, so the host's is bound."""

    source: str
    target: str
    kind: str = "c"
    major: int = -1
    minor: int = -1
    read_only: bool = False

    needs = ("root",)

    def apply(self, slots: Slots) -> None:
        source = self._open()
        try:
            fd = make_file_in(slots["root"], self.target, 0o666)
            try:
                mnt.mount(f"/proc/self/fd/{source}", f"/proc/self/fd/{fd}", None, mnt.MS_BIND)
            finally:
                os.close(fd)
        finally:
            os.close(source)

    def _open(self) -> int:
        if self.major >= 0:
            return open_device(self.source, self.major, self.minor)
        fd = os.open(self.source, os.O_PATH | os.O_CLOEXEC)
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
            os.close(fd)
            raise OSError(errno.ENODEV, "not a device", self.source)
        return fd

    def call(self) -> str:
        return (
            f"open({quote(self.source)}, O_PATH|O_NOFOLLOW); fstat(fd); "
            f"mount(fd, {quote(self.target)}, NULL, MS_BIND, NULL)"
        )

    def purpose(self) -> str:
        number = f", once it is known to be the {self.major}:{self.minor} that it says" if self.major >= 0 else ""
        return f"A device cannot be made in a user namespace, so the host's is bound{number}"

    def operation(self) -> str:
        return f"bind device {self.source} to"

    def subject(self) -> str:
        return self.target


@step()
class MakeLinks(Step):
    """The links that every /dev has: to the standard streams and to the container's own terminals."""

    links: tuple[tuple[str, str], ...]

    needs = ("root",)

    def apply(self, slots: Slots) -> None:
        for path, target in self.links:
            parent, _, name = path.rpartition("/")
            fd = make_directory_in(slots["root"], parent or "/")
            try:
                os.symlink(target, name, dir_fd=fd)
            except FileExistsError:
                pass
            finally:
                os.close(fd)

    def call(self) -> str:
        return "; ".join(f"symlink({quote(target)}, {quote(path)})" for path, target in self.links)


@step()
class MaskPath(Step):
    """Cover what would tell about, or act on, the whole machine; a path that is not there needs no cover."""

    path: str

    needs = ("root", "mask_directory", "mask_file")

    def apply(self, slots: Slots) -> None:
        fd = _existing(slots, self.path)
        if fd is None:
            return
        try:
            source = slots["mask_directory" if is_directory(fd) else "mask_file"]
            mnt.mount(f"/proc/self/fd/{source}", f"/proc/self/fd/{fd}", None, mnt.MS_BIND)
        finally:
            os.close(fd)

    def call(self) -> str:
        return f"openat2(root, {quote(self.path)}, O_PATH, RESOLVE_IN_ROOT); mount(mask, fd, NULL, MS_BIND, NULL)"

    def subject(self) -> str:
        return self.path


@step()
class MakeReadOnly(Step):
    """Settings of the whole machine can be read, not written."""

    path: str

    needs = ("root",)

    def apply(self, slots: Slots) -> None:
        fd = _existing(slots, self.path)
        if fd is None:
            return
        try:
            bind(
                "", fd, source_fd=fd, propagation=mnt.MS_PRIVATE,
                set_=_READ_ONLY,
            )  # fmt: skip
        finally:
            os.close(fd)

    def call(self) -> str:
        return clone_and_attach(self.path, self.path, True, _READ_ONLY, 0, mnt.MS_PRIVATE, True)

    def subject(self) -> str:
        return self.path


@step(actor=SUPERVISOR)
class MountForeignProc(Step):
    """A /proc of the joined PID namespace, made by a short-lived process inside it: only such a one may."""

    stage: str

    def apply(self, slots: Slots) -> None:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                mnt.mount("proc", self.stage, "proc", mnt.MS_NOSUID | mnt.MS_NODEV | mnt.MS_NOEXEC)
                code = 0
            except OSError as failure:
                code = failure.errno or 1
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            raise OSError(code, os.strerror(code), self.stage)

    def call(self) -> str:
        return f'fork(); mount("proc", {quote(self.stage)}, "proc", MS_NOSUID|MS_NODEV|MS_NOEXEC, NULL)'

    def operation(self) -> str:
        return "mount proc of the joined PID namespace on"

    def subject(self) -> str:
        return self.stage


def clone_and_attach(
    source: str, target: str, recursive: bool, set_: int, clear: int, propagation: int, recursive_attributes: bool
) -> str:
    """The system calls of a bind in the new mount interface, for people."""
    flags = "OPEN_TREE_CLONE" + ("|AT_RECURSIVE" if recursive else "")
    cleared = f", attr_clr={mnt.attr_names(clear)}" if clear else ""
    attributes = f"{{attr_set={mnt.attr_names(set_)}{cleared}, propagation={mnt.flag_names(propagation)}}}"
    deep = "|AT_RECURSIVE" if recursive_attributes else ""
    return (
        f"open_tree(AT_FDCWD, {quote(source)}, {flags}); "
        f'mount_setattr(tree, "", AT_EMPTY_PATH{deep}, {attributes}); '
        f'move_mount(tree, "", AT_FDCWD, {quote(target)}, MOVE_MOUNT_F_EMPTY_PATH)'
    )


def _directory(slots: Slots, path: str, mode: int = 0o755) -> int:
    try:
        return make_directory_in(slots["root"], path, mode)
    except OSError as failure:
        raise _unmakeable(path, failure) from failure


def _target_like(slots: Slots, source: str, target: str, name: str) -> int:
    """The target's descriptor: a directory if the source is one, else a file; `name` is how users call the source."""
    try:
        directory = stat.S_ISDIR(os.stat(source).st_mode)
    except OSError as failure:
        raise JubakoError.from_os_error(f"bind to {target} the source", name, failure) from failure
    if directory:
        return make_directory_in(slots["root"], target)
    fd = make_file_in(slots["root"], target)
    if is_directory(fd):
        os.close(fd)
        raise OSError(errno.EISDIR, "a file cannot cover a directory", target)
    return fd


def _existing(slots: Slots, path: str) -> int | None:
    try:
        return open_in(*slots.base(path), os.O_PATH)
    except OSError as failure:
        if failure.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return None
        raise


def _unmakeable(path: str, failure: OSError) -> JubakoError:
    hint = ""
    if failure.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        hint = (
            "it is missing and cannot be made where it would be: make it first, or for a --rootfs pass DIR:O for a"
            " throw-away layer"
        )
    return JubakoError.from_os_error("make the mount point", path, failure, hint)
