"""Steps that make the container's root and enter it: mount_namespaces(7), pivot_root(2), overlayfs of the kernel's
documentation.

The new root is put together on an empty directory (the *stage*) of the container's private mount namespace. From
`OpenRoot` on, every target is a descriptor below the slot `root`, since whoever filled the root may be hostile.
"""

from __future__ import annotations

import errno
import os

from jubako.linux import mount as mnt
from jubako.linux.binding import bind, set_attributes
from jubako.linux.openat2 import make_directory_in
from jubako.plan.step import Slots, Step, quote, step

_PROPAGATION = {
    "private": mnt.MS_PRIVATE,
    "slave": mnt.MS_SLAVE,
    "shared": mnt.MS_SHARED,
    "unbindable": mnt.MS_UNBINDABLE,
}


def propagation_flags(name: str) -> int:
    """The mount(2) flags of a propagation as mount(8) spells it: "rslave" is MS_SLAVE|MS_REC."""
    kind = _PROPAGATION.get(name)
    if kind is not None:
        return kind
    return _PROPAGATION[name[1:]] | mnt.MS_REC


@step()
class OpenPaths(Step):
    """What lies in directories of the caller's own is opened now: the container's root will not get there."""

    paths: tuple[str, ...]

    def apply(self, slots: Slots) -> None:
        for path in self.paths:
            slots["path:" + path] = os.open(path, os.O_PATH | os.O_CLOEXEC)

    def call(self) -> str:
        return "; ".join(f"open({quote(path)}, O_PATH)" for path in self.paths)

    def operation(self) -> str:
        return "open"


@step()
class DetachMounts(Step):
    """What is mounted in the container must not reach the host; the host's mounts may still arrive until the pivot."""

    def apply(self, slots: Slots) -> None:
        mnt.mount(None, "/", None, mnt.MS_REC | mnt.MS_SLAVE)

    def call(self) -> str:
        return 'mount(NULL, "/", NULL, MS_REC|MS_SLAVE, NULL)'

    def subject(self) -> str:
        return "/"


@step()
class PrepareMasks(Step):
    """An empty read-only directory and the verified null device: what masked paths will be covered with."""

    stage: str

    produces = ("mask_directory", "mask_file")

    def apply(self, slots: Slots) -> None:
        stage = slots.path(self.stage)
        mnt.mount(
            "tmpfs", stage, "tmpfs", mnt.MS_RDONLY | mnt.MS_NOSUID | mnt.MS_NODEV | mnt.MS_NOEXEC, "size=0,mode=555"
        )
        slots["mask_directory"] = os.open(stage, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        slots["mask_file"] = open_device("/dev/null", 1, 3)

    def call(self) -> str:
        flags = mnt.flag_names(mnt.MS_RDONLY | mnt.MS_NOSUID | mnt.MS_NODEV | mnt.MS_NOEXEC)
        return (
            f'mount("tmpfs", {quote(self.stage)}, "tmpfs", {flags}, "size=0,mode=555"); '
            f'open({quote(self.stage)}, O_PATH|O_DIRECTORY); open("/dev/null", O_PATH|O_NOFOLLOW); fstat(fd)'
        )

    def subject(self) -> str:
        return self.stage


@step()
class BindRoot(Step):
    """The directory becomes a mount of its own, which pivot_root wants; it is written to directly."""

    source: str
    stage: str

    def apply(self, slots: Slots) -> None:
        mnt.mount(slots.path(self.source), slots.path(self.stage), None, mnt.MS_BIND | mnt.MS_REC)

    def call(self) -> str:
        return f"mount({quote(self.source)}, {quote(self.stage)}, NULL, MS_BIND|MS_REC, NULL)"

    def operation(self) -> str:
        return "bind the root file system"

    def subject(self) -> str:
        return self.source


@step()
class BindRootInPlace(Step):
    """The directory becomes a mount of its own where it lies, so that hooks find the container's mounts below it."""

    path: str

    produces = ("root",)

    def apply(self, slots: Slots) -> None:
        path = slots.path(self.path)
        try:
            tree = mnt.open_tree(mnt.AT_FDCWD, path, mnt.OPEN_TREE_CLONE | mnt.AT_RECURSIVE)
        except OSError as failure:
            if failure.errno != errno.ENOSYS:
                raise
            mnt.mount(path, path, None, mnt.MS_BIND | mnt.MS_REC)
            mnt.mount(None, self.path, None, mnt.MS_REC | mnt.MS_PRIVATE)
            slots["root"] = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            return
        place = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # move_mount follows no link at a path's end
        try:
            mnt.move_mount(tree, place)
        finally:
            os.close(place)
        mnt.mount(None, f"/proc/self/fd/{tree}", None, mnt.MS_REC | mnt.MS_PRIVATE)
        slots["root"] = tree

    def call(self) -> str:
        return (
            f"open_tree(AT_FDCWD, {quote(self.path)}, OPEN_TREE_CLONE|AT_RECURSIVE); "
            f'move_mount(tree, "", AT_FDCWD, {quote(self.path)}, MOVE_MOUNT_F_EMPTY_PATH); '
            f"mount(NULL, {quote(self.path)}, NULL, MS_REC|MS_PRIVATE, NULL)"
        )

    def operation(self) -> str:
        return "bind the root file system"

    def subject(self) -> str:
        return self.path


@step()
class AttachRoot(Step):
    """The id-mapped copy that a privileged parent made of the directory becomes the root's mount."""

    slot: str
    source: str
    stage: str

    def apply(self, slots: Slots) -> None:
        mnt.move_mount(slots[self.slot], mnt.AT_FDCWD, slots.path(self.stage))
        slots.close(self.slot)

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.slot,)

    def call(self) -> str:
        return f'move_mount({self.slot}, "", AT_FDCWD, {quote(self.stage)}, MOVE_MOUNT_F_EMPTY_PATH)'

    def subject(self) -> str:
        return self.source


@step()
class KeepRootPrivate(Step):
    """What the host mounts below the directory from now on does not appear inside, unless --propagation asks for it."""

    stage: str

    def apply(self, slots: Slots) -> None:
        mnt.mount(None, slots.path(self.stage), None, mnt.MS_REC | mnt.MS_PRIVATE)

    def call(self) -> str:
        return f"mount(NULL, {quote(self.stage)}, NULL, MS_REC|MS_PRIVATE, NULL)"

    def subject(self) -> str:
        return self.stage


@step()
class MountOverlay(Step):
    """Read-only layers below, a writable one on top: the image stays as it is (overlayfs)."""

    lower: tuple[str, ...]
    """Topmost first, as overlayfs wants them."""
    upper: str
    work: str
    stage: str
    volatile: bool = False
    target: str = ""
    """A directory below the root, instead of the stage: a volume under a throw-away layer."""
    flags: int = 0

    def apply(self, slots: Slots) -> None:
        # By descriptor: no path needs escaping or runs into the option string's limit of a page, and mountinfo inside
        # does not tell where on the host the layers are.
        opened: list[int] = []
        try:
            for path in (self.upper, self.work, *self.lower):
                opened.append(os.open(slots.path(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            upper, work, *lower = (f"/proc/self/fd/{fd}" for fd in opened)
            place = slots.path(self.stage)
            if self.target:
                opened.append(make_directory_in(slots["root"], self.target))
                place = f"/proc/self/fd/{opened[-1]}"
            mnt.mount("overlay", place, "overlay", self.flags, self._data(":".join(lower), upper, work))
        finally:
            for fd in opened:
                os.close(fd)

    def _data(self, lower: str, upper: str, work: str) -> str:
        data = f"lowerdir={lower},upperdir={upper},workdir={work},userxattr"
        return data + ",volatile" if self.volatile else data

    def call(self) -> str:
        data = self._data(":".join(self.lower), self.upper, self.work)
        return f'mount("overlay", {quote(self.subject())}, "overlay", {mnt.flag_names(self.flags)}, {quote(data)})'

    def operation(self) -> str:
        return "mount overlay on"

    def subject(self) -> str:
        return self.target or self.stage

    def hint(self, errno_: int) -> str:
        if errno_ in (errno.EPERM, errno.ENODEV):
            return (
                "this kernel mounts no overlayfs in a user namespace (it takes 5.11);"
                " install fuse-overlayfs or pass --storage copy"
            )
        if errno_ == errno.EINVAL:
            return "the layer may lie on a file system without extended attributes (NFS?): try --root on a local disk"
        return ""


@step()
class MountHostRoot(Step):
    """An empty root in memory, to hang the host's own system directories into."""

    stage: str

    def apply(self, slots: Slots) -> None:
        mnt.mount("tmpfs", slots.path(self.stage), "tmpfs", mnt.MS_NOSUID | mnt.MS_NODEV, "mode=755")

    def call(self) -> str:
        return f'mount("tmpfs", {quote(self.stage)}, "tmpfs", MS_NOSUID|MS_NODEV, "mode=755")'

    def subject(self) -> str:
        return self.stage


@step()
class OpenRoot(Step):
    """Hold the new root by a descriptor: from here on every target is looked up below it."""

    stage: str

    produces = ("root",)

    def apply(self, slots: Slots) -> None:
        slots["root"] = os.open(slots.path(self.stage), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def call(self) -> str:
        return f"open({quote(self.stage)}, O_PATH|O_DIRECTORY)"

    def subject(self) -> str:
        return self.stage


@step()
class PopulateHostRoot(Step):
    """The host's system directories read-only, and fresh ones where programs write; homes and secrets stay out."""

    binds: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    fresh: tuple[tuple[str, int], ...]
    existing: bool = False
    """The root is a layer that may hold some of this from an earlier start."""

    needs = ("root",)

    def apply(self, slots: Slots) -> None:
        root = slots["root"]
        for path, mode in self.fresh:
            name = path.lstrip("/")
            try:
                os.mkdir(name, dir_fd=root)
                os.chmod(name, mode, dir_fd=root)
            except FileExistsError:
                if not self.existing:
                    raise
        for path, target in self.links:
            try:
                os.symlink(target, path.lstrip("/"), dir_fd=root)
            except FileExistsError:
                if not self.existing:
                    raise
        for path in self.binds:
            name = path.lstrip("/")
            os.mkdir(name, 0o755, dir_fd=root)
            fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
            try:
                bind(
                    path, fd, set_=mnt.MOUNT_ATTR_RDONLY | mnt.MOUNT_ATTR_NOSUID | mnt.MOUNT_ATTR_NODEV,
                    propagation=mnt.MS_PRIVATE,
                )  # fmt: skip
            finally:
                os.close(fd)

    def call(self) -> str:
        from jubako.plan.steps.mounts import clone_and_attach

        calls = [f"mkdir({quote(path)}, {mode:04o})" for path, mode in self.fresh]
        calls += [f"symlink({quote(target)}, {quote(path)})" for path, target in self.links]
        read_only = mnt.MOUNT_ATTR_RDONLY | mnt.MOUNT_ATTR_NOSUID | mnt.MOUNT_ATTR_NODEV
        for path in self.binds:
            calls.append(clone_and_attach(path, path, True, read_only, 0, mnt.MS_PRIVATE, True))
        return "; ".join(calls)

    def operation(self) -> str:
        return "bind the host's system directories"


@step()
class PivotRoot(Step):
    """The new root replaces the host's tree, which is detached at once: nothing of it stays reachable."""

    needs = ("root",)

    def apply(self, slots: Slots) -> None:
        os.fchdir(slots["root"])
        mnt.pivot_root(".", ".")
        mnt.umount(".", mnt.MNT_DETACH)
        os.chdir("/")
        for name in ("mask_directory", "mask_file", "root"):
            slots.close(name)

    def call(self) -> str:
        return 'fchdir(root); pivot_root(".", "."); umount2(".", MNT_DETACH); chdir("/")'

    def hint(self, errno_: int) -> str:
        return "a root on an initramfs cannot be pivoted: pass --no-pivot" if errno_ == errno.EINVAL else ""


@step()
class MoveRoot(Step):
    """Without pivot_root (an initramfs): move the new root over the old one and chroot into it."""

    needs = ("root",)

    def apply(self, slots: Slots) -> None:
        os.fchdir(slots["root"])
        for point in _other_mounts():
            try:
                mnt.umount(point, mnt.MNT_DETACH)
            except OSError:  # locked together with the rest by the user namespace: covered below
                continue
        os.fchdir(slots["root"])
        mnt.mount(".", "/", None, mnt.MS_MOVE)
        os.chroot(".")
        os.chdir("/")
        for name in ("mask_directory", "mask_file", "root"):
            slots.close(name)

    def call(self) -> str:
        return 'fchdir(root); mount(".", "/", NULL, MS_MOVE, NULL); chroot("."); chdir("/")'


@step()
class SetRootPropagation(Step):
    """Whether mounts made in the container travel, and to whom (mount_namespaces(7))."""

    propagation: str

    def apply(self, slots: Slots) -> None:
        mnt.mount(None, "/", None, propagation_flags(self.propagation))

    def call(self) -> str:
        return f'mount(NULL, "/", NULL, {mnt.flag_names(propagation_flags(self.propagation))}, NULL)'

    def subject(self) -> str:
        return self.propagation


@step()
class MakeRootReadOnly(Step):
    """The root mount becomes read-only; what is mounted below it keeps its own state."""

    def apply(self, slots: Slots) -> None:
        fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            set_attributes(fd, set_=mnt.MOUNT_ATTR_RDONLY, path="/")
        finally:
            os.close(fd)

    def call(self) -> str:
        return 'mount_setattr(AT_FDCWD, "/", 0, {attr_set=MOUNT_ATTR_RDONLY})'


def open_device(path: str, major: int, minor: int) -> int:
    """A descriptor (`O_PATH`) of a character device, verified by its number: a path alone proves nothing."""
    import stat

    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(fd)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(major, minor):
        os.close(fd)
        raise OSError(errno.ENODEV, f"not the character device {major}:{minor}", path)
    return fd


def _other_mounts() -> list[str]:
    with open("/proc/self/mountinfo", "rb", buffering=0) as file:
        text = b"".join(iter(lambda: file.read(1 << 16), b""))
    points = [os.fsdecode(line.split()[4]) for line in text.splitlines()]
    here = os.getcwd()
    kept = ("/proc", here + "/")
    return [point for point in reversed(points) if point != "/" and not (point + "/").startswith(kept)]
