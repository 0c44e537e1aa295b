"""Steps for config.json's `mounts` as the specification has them: mount(2), fsopen(2), open_tree(2), mount_setattr(2).

The root that is mounted into may be in somebody else's hands at this very moment (a volume shared with another
container). So a target is opened below the root and used by its descriptor, and afterwards the path is opened again:
if it does not lead to the mount just made, somebody exchanged it meanwhile (CVE-2021-30465, CVE-2023-28642). The
mount points of proc, sysfs and /dev must be plain directories (CVE-2019-19921, CVE-2023-27561).
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.linux import mount as mnt
from jubako.linux.binding import attach_changed, bind_changed, mount_ids, set_attributes
from jubako.linux.fsopen import fits, new_mount
from jubako.linux.openat2 import open_in
from jubako.plan.mount_options import ONLY_CLASSIC, attributes_of
from jubako.plan.step import Slots, Step, quote, step
from jubako.plan.steps.copy_up import copy_directory
from jubako.plan.steps.targets import (
    check_target,
    directory_for,
    exchanged,
    keep_mount,
    reopen,
    target_for,
)

_UNMAKEABLE = (
    errno.EROFS, errno.EACCES, errno.ENOENT, errno.EPERM, errno.EOVERFLOW, errno.ELOOP, errno.ENOTDIR, errno.EISDIR,
)  # fmt: skip
_PLAIN_KINDS = ("proc", "sysfs")

Changes = tuple[tuple[int, int, int, bool], ...]


@step()
class MountNew(Step):
    """A new file system, made and changed before it is attached, where the path still leads to it afterwards."""

    kind: str
    source: str
    target: str
    flags: int = 0
    """mount(2)'s."""
    words: tuple[str, ...] = ()
    """Those of `flags` that are the file system's own, as fsconfig(2) names them."""
    data: tuple[str, ...] = ()
    changes: Changes = ()
    copy_up: bool = False
    reason: str = ""
    held: str = ""
    """The slot that holds the mount for `FinishReadOnly`, if it is to become read-only."""

    needs = ("root",)

    def apply(self, slots: Slots) -> None:
        plain = self.kind in _PLAIN_KINDS or self.target == "/dev"
        data = self._data(slots)
        target = directory_for(slots, self.target, plain)
        try:
            tree = self._make(data)
            if tree >= 0 and not self._attach(slots, target, plain, tree):
                tree = -1
            if tree < 0:
                tree = self._mount(slots, target, plain, data)
            if self.held:
                slots[self.held] = os.dup(tree)
            keep_mount(slots, self.target, tree)
        finally:
            os.close(target)

    def _attach(self, slots: Slots, target: int, plain: bool, tree: int) -> bool:
        """Whether the detached file system is where it belongs; False, and closed, where the kernel cannot attach."""
        try:
            self._fill(target, tree)
            attach_changed(tree, target, ((*self._attributes(), 0, False), *self.changes))
            check_target(slots, self.target, tree, plain)
        except OSError as failure:
            os.close(tree)
            if failure.errno == errno.ENOSYS:
                return False
            raise
        return True

    def _data(self, slots: Slots) -> tuple[str, ...]:
        """The options; a tmpfs that says nothing of its mode gets that of the directory it covers, as in runc."""
        if self.kind != "tmpfs" or any(option.startswith("mode=") for option in self.data):
            return self.data
        try:
            fd = open_in(slots["root"], self.target, os.O_PATH | os.O_DIRECTORY)
        except OSError:
            return self.data
        try:
            return (*self.data, f"mode={stat.S_IMODE(os.fstat(fd).st_mode):04o}")
        finally:
            os.close(fd)

    def _make(self, data: tuple[str, ...]) -> int:
        """The detached file system; -1 where the kernel's old interface has to do."""
        options = (*self.words, *data)
        if self.kind == "overlay" or self.flags & ONLY_CLASSIC or not fits(self.source, options):
            return -1
        try:
            return new_mount(self.kind, self.source, options)
        except OSError as failure:
            if failure.errno != errno.ENOSYS:
                raise
        return -1

    def _mount(self, slots: Slots, target: int, plain: bool, options: tuple[str, ...]) -> int:
        content = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target) if self.copy_up else -1
        try:
            data = ",".join(f'"{one}"' if "," in one and one.startswith("context=") else one for one in options)
            before = mount_ids()
            mnt.mount(self.source or self.kind, f"/proc/self/fd/{target}", self.kind, self.flags, data or None)
            tree = reopen(slots, self.target, plain)
            try:
                if mnt.mount_id(tree) in before:
                    raise exchanged(self.target)
                if content >= 0:
                    copy_directory(content, tree)
                for set_, clear, propagation, recursive in ((*self._attributes(), 0, False), *self.changes):
                    if set_ or clear or propagation:
                        set_attributes(tree, set_=set_, clear=clear, propagation=propagation, recursive=recursive)
            except OSError:
                os.close(tree)
                raise
            return tree
        finally:
            if content >= 0:
                os.close(content)

    def _fill(self, target: int, tree: int) -> None:
        if self.copy_up:
            content = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target)
            try:
                copy_directory(content, tree)
            finally:
                os.close(content)

    def _attributes(self) -> tuple[int, int]:
        return attributes_of(self.flags, 0)

    def call(self) -> str:
        options = ", ".join(quote(one) for one in (*self.words, *self.data))
        copied = "; copy what the directory holds" if self.copy_up else ""
        attributes = mnt.attr_names(self._attributes()[0])
        return (
            f"fsopen({quote(self.kind)}); fsconfig(source={quote(self.source or self.kind)}"
            f"{', ' if options else ''}{options}); fsmount(){copied}; "
            f'mount_setattr(tree, {{attr_set={attributes}}}); move_mount(tree, "", AT_FDCWD, {quote(self.target)})'
        )

    def purpose(self) -> str:
        return self.reason[0].upper() + self.reason[1:] if self.reason else self.why

    def operation(self) -> str:
        return f"mount {quote(self.kind)[1:-1]} on"

    def subject(self) -> str:
        return quote(self.target)[1:-1]

    def hint(self, errno_: int) -> str:
        if self.kind in ("proc", "sysfs") and errno_ == errno.EPERM:
            return f"the kernel refuses a new {self.kind} where the existing one is partly covered: bind it instead"
        if errno_ == errno.ELOOP:
            return "the mount point must be a plain directory, and a symbolic link leads there"
        if self.kind == "devpts" and errno_ == errno.EINVAL:
            return "gid= must be a group that is mapped in the container"
        return ""


@step()
class BindTree(Step):
    """Part of the host's tree, shown inside with its attributes from the first instant; a missing target is made."""

    source: str
    target: str
    recursive: bool = True
    changes: Changes = ()
    optional: bool = False

    needs = ("root",)

    def apply(self, slots: Slots) -> None:
        source = slots.path(self.source)
        try:
            target = target_for(slots, source, self.target, self.source)
        except OSError as failure:
            if self.optional and failure.errno in _UNMAKEABLE:
                return
            raise
        try:
            tree = bind_changed(source, target, recursive=self.recursive, changes=self.changes)
        finally:
            os.close(target)
        try:
            check_target(slots, self.target, tree, False)
        except OSError:
            os.close(tree)
            raise
        keep_mount(slots, self.target, tree)

    def call(self) -> str:
        flags = "OPEN_TREE_CLONE" + ("|AT_RECURSIVE" if self.recursive else "")
        moved = f'move_mount(tree, "", AT_FDCWD, {quote(self.target)}, MOVE_MOUNT_F_EMPTY_PATH)'
        return f"open_tree(AT_FDCWD, {quote(self.source)}, {flags}); {changed(self.changes)}{moved}"

    def purpose(self) -> str:
        return f"A part of the host's tree is shown inside, {_state(self.changes)}; a missing target is made"

    def operation(self) -> str:
        return f"bind {quote(self.source)[1:-1]} to"

    def subject(self) -> str:
        return quote(self.target)[1:-1]

    def hint(self, errno_: int) -> str:
        return bind_hint(self.target, errno_, self.recursive, any(clear for _set, clear, *_rest in self.changes))


@step()
class AttachTree(Step):
    """A mount that was made before, id-mapped or by the host's root, is changed and attached."""

    slot: str
    source: str
    target: str
    changes: Changes = ()
    optional: bool = False

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("root", self.slot)

    def apply(self, slots: Slots) -> None:
        tree = slots[self.slot]
        try:
            target = target_for(slots, f"/proc/self/fd/{tree}", self.target, self.source)
        except OSError as failure:
            if self.optional and failure.errno in _UNMAKEABLE:
                slots.close(self.slot)
                return
            raise
        try:
            attach_changed(tree, target, self.changes)
        finally:
            os.close(target)
        check_target(slots, self.target, tree, False)
        keep_mount(slots, self.target, os.dup(tree))
        slots.close(self.slot)

    def call(self) -> str:
        moved = f'move_mount({self.slot}, "", AT_FDCWD, {quote(self.target)}, MOVE_MOUNT_F_EMPTY_PATH)'
        return changed(self.changes) + moved

    def operation(self) -> str:
        return f"attach {quote(self.source)[1:-1]} to"

    def subject(self) -> str:
        return quote(self.target)[1:-1]

    def hint(self, errno_: int) -> str:
        return bind_hint(self.target, errno_, True, any(clear for _set, clear, *_rest in self.changes))


@step()
class ChangeMount(Step):
    """What is mounted there already is given other attributes (remount)."""

    target: str
    changes: Changes
    flags: int = 0
    data: tuple[str, ...] = ()
    whole: bool = False
    """The file system itself is remounted, not only this mount of it."""

    needs = ("root",)

    def apply(self, slots: Slots) -> None:
        fd = open_in(slots["root"], self.target, os.O_PATH)
        try:
            if self.whole:
                data = ",".join(self.data)
                mnt.mount(None, f"/proc/self/fd/{fd}", None, mnt.MS_REMOUNT | self.flags, data or None)
            for set_, clear, propagation, recursive in self.changes:
                set_attributes(fd, set_=set_, clear=clear, propagation=propagation, recursive=recursive)
        finally:
            os.close(fd)

    def call(self) -> str:
        first = ""
        if self.whole:
            flags = mnt.flag_names(mnt.MS_REMOUNT | self.flags)
            first = f"mount(NULL, {quote(self.target)}, NULL, {flags}, {quote(','.join(self.data))}); "
        return first + (changed(self.changes).rstrip("; ") or f"openat2(root, {quote(self.target)}, O_PATH)")

    def operation(self) -> str:
        return "remount"

    def subject(self) -> str:
        return quote(self.target)[1:-1]

    def hint(self, errno_: int) -> str:
        return "nothing is mounted there" if errno_ == errno.EINVAL else ""


@step()
class FinishReadOnly(Step):
    """What was to be read-only becomes so now: until here mount points and devices had to be made in it.

    The mount is the one that was made, held in the slot `held`: its path may lead elsewhere by now.
    """

    target: str
    held: str

    def apply(self, slots: Slots) -> None:
        set_attributes(slots[self.held], set_=mnt.MOUNT_ATTR_RDONLY)
        slots.close(self.held)

    def call(self) -> str:
        return 'mount_setattr(tree, "", AT_EMPTY_PATH, {attr_set=MOUNT_ATTR_RDONLY})'

    def subject(self) -> str:
        return quote(self.target)[1:-1]


def changed(changes: Changes) -> str:
    """The calls of mount_setattr(2), for people."""
    text = ""
    for set_, clear, propagation, recursive in changes:
        inside = [f"attr_set={mnt.attr_names(set_)}"] if set_ else []
        inside += [f"attr_clr={mnt.attr_names(clear)}"] if clear else []
        inside += [f"propagation={mnt.flag_names(propagation)}"] if propagation else []
        deep = "|AT_RECURSIVE" if recursive else ""
        text += f'mount_setattr(tree, "", AT_EMPTY_PATH{deep}, {{{", ".join(inside)}}}); '
    return text


def bind_hint(target: str, errno_: int, recursive: bool, clears: bool) -> str:
    """What may help where a bind failed."""
    if errno_ in (errno.EROFS, errno.EACCES):
        return f"{quote(target)[1:-1]} does not exist in the root file system and cannot be made there"
    if errno_ == errno.EINVAL and not recursive:
        return "the source has mounts below it that must not be uncovered: use rbind"
    if errno_ == errno.EPERM and clears:
        return "the source's mount has flags that the kernel does not let a user namespace clear"
    return ""


def _state(changes: Changes) -> str:
    read_only = any(set_ & mnt.MOUNT_ATTR_RDONLY for set_, *_rest in changes)
    return "read-only" if read_only else "writable for whoever may write it outside"
