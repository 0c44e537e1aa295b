"""Copy-up: a directory of the host becomes writable, and what is written stays in here.

The form is RootlessKit's: the directory as it was lies in `DIR/.roN`, DIR itself is a tmpfs, and each entry a link into
it. A relative link further down that leads out of DIR would lead elsewhere from `.roN`, one directory deeper. So the
directories on the way to such a link are made anew, and the link as it was.
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.errors import JubakoError
from jubako.linux import mount
from jubako.plan.step import INIT, Slots, Step, quote, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_ENTRIES = 50_000
"""How many names are looked at for links that lead out: a fifth of a second."""


@step(actor=INIT)
class FindLinksOut(Step):
    """Links below the directories that lead out of them; read while the supervisor connects the network."""

    directories: tuple[str, ...]

    produces = ("links_out",)

    def apply(self, slots: Slots) -> None:
        slots["links_out"] = {directory: find_links_out(directory) for directory in self.directories}

    def call(self) -> str:
        return "; ".join(f"getdents64, readlink: all below {quote(path)}" for path in self.directories)

    def operation(self) -> str:
        return "look for links in"

    def subject(self) -> str:
        return ", ".join(self.directories)


@step(actor=INIT)
class CopyUp(Step):
    """Make the directory writable: what it held moves to `.roN`, and a link leads to each entry."""

    path: str
    number: int

    needs = ("links_out",)

    def apply(self, slots: Slots) -> None:
        mode = _mode_of(self.path)
        tree = mount.open_tree(mount.AT_FDCWD, self.path, mount.OPEN_TREE_CLONE | mount.AT_RECURSIVE)
        try:
            mount.mount("none", self.path, "tmpfs", 0, f"mode={mode:o}")
            below = f".ro{self.number}"
            os.mkdir(f"{self.path}/{below}", 0o700)
            mount.move_mount(tree, mount.AT_FDCWD, f"{self.path}/{below}")
        finally:
            os.close(tree)
        link_entries(self.path, below, slots["links_out"][self.path])

    def call(self) -> str:
        path, hidden = quote(self.path), quote(f"{self.path}/.ro{self.number}")
        return (
            f'open_tree(AT_FDCWD, {path}, OPEN_TREE_CLONE|AT_RECURSIVE); mount("none", {path}, "tmpfs", 0, "mode=…");'
            f' mkdir({hidden}); move_mount(tree, "", AT_FDCWD, {hidden}, MOVE_MOUNT_F_EMPTY_PATH);'
            f" symlink(.ro{self.number}/NAME, {quote(self.path + '/NAME')}) for each entry"
        )

    def operation(self) -> str:
        return "copy up"

    def subject(self) -> str:
        return self.path


@step(actor=INIT)
class CopyUpOverlay(Step):
    """Make the directory writable: an overlay with a tmpfs above; what is mounted below it is mounted again."""

    path: str

    def apply(self, slots: Slots) -> None:
        _mode_of(self.path)
        if not _is_mapped(os.stat(self.path)):
            raise JubakoError(
                "copy up", self.path, reason="it belongs to an id of the host that the fake root does not have, and an"
                " overlay keeps owners", hint="use --copy-up-mode=tmpfs+symlink",
            )  # fmt: skip
        submounts = _submounts(self.path)
        lower, upper, work = (f"{self.path}/{name}" for name in ("lower", "upper", "work"))
        trees: list[tuple[int, str]] = []
        tree = mount.open_tree(mount.AT_FDCWD, self.path, mount.OPEN_TREE_CLONE)
        try:
            for point in submounts:
                trees.append((mount.open_tree(-100, point, mount.OPEN_TREE_CLONE | mount.AT_RECURSIVE), point))
            status = os.stat(self.path)
            mount.mount("none", self.path, "tmpfs", 0, "mode=755")
            for directory in (lower, upper, work):
                os.mkdir(directory, 0o755)
            os.chmod(upper, stat.S_IMODE(status.st_mode))
            os.chown(upper, status.st_uid, status.st_gid)
            mount.move_mount(tree, mount.AT_FDCWD, lower)
            options = f"lowerdir={lower},upperdir={upper},workdir={work},userxattr"
            mount.mount("overlay", self.path, "overlay", 0, options)
            for fd, point in trees:
                mount.move_mount(fd, mount.AT_FDCWD, point)
        finally:
            for fd in (tree, *(fd for fd, _point in trees)):
                os.close(fd)

    def call(self) -> str:
        path = quote(self.path)
        return (
            f'mount("none", {path}, "tmpfs", 0, "mode=755"); move_mount(tree, {quote(self.path + "/lower")});'
            f' mount("overlay", {path}, "overlay", 0, "lowerdir=…,upperdir=…,workdir=…,userxattr")'
        )

    def operation(self) -> str:
        return "copy up"

    def subject(self) -> str:
        return self.path

    def hint(self, errno_: int) -> str:
        return "this kernel or directory cannot have an overlay here: use --copy-up-mode=tmpfs+symlink"


def find_links_out(top: str) -> frozenset[str]:
    """The directories below `top`, relative to it, on the way to a relative link that leads out of `top`."""
    found: set[str] = set()
    mounted = {point[len(top) + 1 :] for point in _submounts(top)}
    left = MOST_ENTRIES
    waiting = [("", 0)]
    while waiting and left > 0:
        directory, depth = waiting.pop()
        for name, is_link in _entries(f"{top}/{directory}", waiting, directory, depth, mounted):
            left -= 1
            if is_link and depth and leads_out(_target(f"{top}/{directory}/{name}"), depth):
                _add_with_parents(found, directory)
    if waiting:
        text = f"jubako: warning: {top} holds so much that not all relative links out of it were looked for\n"
        os.write(2, text.encode(errors="surrogateescape"))
    return frozenset(found)


def leads_out(target: str, depth: int) -> bool:
    """Whether the link's target, seen from `depth` directories below the top, climbs above the top."""
    if not target or target.startswith("/"):
        return False
    for part in target.split("/"):
        if part == "..":
            depth -= 1
            if depth < 0:
                return True
        elif part not in ("", "."):
            depth += 1
    return False


def link_entries(top: str, below: str, anew: frozenset[str], directory: str = "", depth: int = 0) -> None:
    """Make a link in `top/directory` for each entry of `top/below/directory`; the directories in `anew` are made."""
    source = f"{top}/{below}/{directory}"
    up = "../" * depth
    with os.scandir(source) as entries:
        for entry in entries:
            path = f"{directory}/{entry.name}" if directory else entry.name
            if path in anew and entry.is_dir(follow_symlinks=False):
                os.mkdir(f"{top}/{path}", stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode) | 0o700)
                link_entries(top, below, anew, path, depth + 1)
            elif entry.is_symlink():
                os.symlink(os.readlink(entry.path), f"{top}/{path}")
            else:
                os.symlink(f"{up}{below}/{path}", f"{top}/{path}")


def _entries(
    place: str, waiting: list[tuple[str, int]], directory: str, depth: int, mounted: set[str]
) -> Iterator[tuple[str, bool]]:
    """(name, whether a link) of each entry; directories go to `waiting`, if they are not of another file system."""
    try:
        entries = os.scandir(place)
    except OSError:  # what the user may not read, nobody in there may
        return
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                path = f"{directory}/{entry.name}" if directory else entry.name
                if path not in mounted:
                    waiting.append((path, depth + 1))
            yield entry.name, entry.is_symlink()


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _add_with_parents(found: set[str], directory: str) -> None:
    while directory:
        found.add(directory)
        directory = directory.rpartition("/")[0]


def _submounts(top: str) -> list[str]:
    """The mount points below `top` that lie in no other one below it."""
    points: list[str] = []
    for _number, _parent, point in sorted(mount.mount_table(), key=lambda row: row[2]):
        if point.startswith(top + "/") and not any(point == p or point.startswith(p + "/") for p in points):
            points.append(point)
    return points


def _mode_of(path: str) -> int:
    status = os.stat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return stat.S_IMODE(status.st_mode)


def _is_mapped(status: os.stat_result) -> bool:
    with open("/proc/sys/kernel/overflowuid") as file:
        return status.st_uid != int(file.read())
