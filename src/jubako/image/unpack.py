"""One layer's tar stream becomes a directory that overlayfs can use, however hostile the stream is.

Runs in a child inside the base user namespace, so files get their subordinate owners. Each member's parent directory
is opened below the layer's root with `RESOLVE_BENEATH`: neither `..` nor a symbolic link made by an earlier member
leads outside. The member itself is made by name in that directory and never followed. OCI whiteouts (image-spec 1.1,
layer.md, "Whiteouts") become overlayfs' own: a 0:0 character device for a removed name, `user.overlay.opaque` for a
directory that hides what is below.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

from jubako.errors import JubakoError
from jubako.image.ownership import Ownership
from jubako.image.remove import remove_tree
from jubako.image.tarstream import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    HARD_LINK,
    SYMLINK,
    Member,
    TarFault,
    TarReader,
)
from jubako.image.xattrs import OPAQUE, set_xattrs
from jubako.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2

WHITEOUT = ".wh."
WHITEOUT_META = ".wh..wh."
WHITEOUT_OPAQUE = ".wh..wh..opq"
_HANDLE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_TIME_LIMITS = (-(1 << 31) * 10**9, (1 << 34) * 10**9)


def unpack_inside(
    stream: int, directory: int, what: str, skip_devices: bool, squash: bool, require_end: bool
) -> dict[str, Any]:
    """Unpack the tar stream read from `stream` into the empty `directory`; the function for `image.inbase`.

    `what` names the archive in messages. `require_end` wants the archive's end mark, where no digest covers the
    stream. Returns `size` (bytes of file data), `members`, `hides_all`, `top` (names there) and `warnings`.
    """
    with open(stream, "rb", buffering=1 << 18, closefd=False) as file:
        unpacker = Unpacker(directory, Ownership.of_this_process(squash), what, skip_devices=skip_devices)
        reader = TarReader(file.read, require_end=require_end)
        try:
            unpacker.unpack(reader)
        except TarFault as fault:
            raise JubakoError("unpack", what, reason=str(fault)) from None
        finally:
            unpacker.close()
        while file.read(1 << 18):  # what follows the end mark belongs to the digest, not to the tree
            pass
    return {
        "size": unpacker.size,
        "members": unpacker.members,
        "hides_all": unpacker.hides_all,
        "top": [os.fsencode(name).decode("utf-8", "replace") for name in sorted(os.listdir(directory))[:256]],
        "warnings": [*unpacker.ownership.warnings(), *unpacker.warnings.values()],
    }


class Unpacker:
    """The state of one layer being unpacked: the root, the parent directory in use, what must be done last."""

    def __init__(self, root: int, ownership: Ownership, what: str, *, skip_devices: bool) -> None:
        self.root = root
        self.ownership = ownership
        self.what = what
        self.skip_devices = skip_devices
        self.size = self.members = 0
        self.hides_all = False
        self.warnings: dict[str, str] = {}
        self._parent_name = ""
        self._parent = os.dup(root)
        self._directory_times: dict[str, int] = {}

    def close(self) -> None:
        os.close(self._parent)

    def unpack(self, reader: TarReader) -> None:
        """Place every member; then give the directories their times, which placing files has changed."""
        for member in reader:
            self.members += 1
            try:
                self._place(reader, member)
            except OSError as failure:
                raise self._failure(member, failure) from None
        for path in sorted(self._directory_times, reverse=True):
            self._set_directory_time(path, self._directory_times[path])

    def _place(self, reader: TarReader, member: Member) -> None:
        parent_name, name = self._split(member, member.name)
        if not name:
            if member.kind != DIRECTORY:
                raise self._refuse(member, "it takes the place of the root itself")
            self._finish_directory(member, self.root, ".", "")
            return
        if member.kind in (CHARACTER, BLOCK_DEVICE) and not self._accept_device(member):
            return
        if self._is_bookkeeping(member, parent_name, name):
            return
        parent = self._enter(member, parent_name)
        if name.startswith(WHITEOUT):
            self._whiteout(member, parent_name, parent, name)
        elif member.kind == DIRECTORY:
            self._directory(member, parent, parent_name, name)
        else:
            self._replace(member, reader, parent, parent_name, name)

    def _is_bookkeeping(self, member: Member, parent_name: str, name: str) -> bool:
        """Whether the member belongs to aufs itself (`.wh..wh.plnk`, `.wh..wh.orph`), as in layers of old."""
        parents = [part for part in parent_name.split("/") if part.startswith(WHITEOUT)]
        if any(part.startswith(WHITEOUT_META) for part in parents):
            return True
        if parents:
            raise self._refuse(member, "a whiteout stands where its path needs a directory")
        return name.startswith(WHITEOUT_META) and name != WHITEOUT_OPAQUE

    def _replace(self, member: Member, reader: TarReader, parent: int, parent_name: str, name: str) -> None:
        """Make anything but a directory; what an earlier member left under that name goes first."""
        if member.kind == HARD_LINK:
            self._hard_link(member, parent_name, name)
            return
        try:
            self._make(member, reader, parent, name)
        except FileExistsError:
            self._clear(parent, parent_name, name)
            self._make(member, reader, parent, name)

    def _make(self, member: Member, reader: TarReader, parent: int, name: str) -> None:
        if member.kind == FILE:
            self._file(member, reader, parent, name)
            return
        if member.kind == SYMLINK:
            os.symlink(os.fsdecode(member.link), name, dir_fd=parent)
        elif member.kind == FIFO:
            os.mkfifo(name, 0o600, dir_fd=parent)
        uid, gid = self._owner(member)
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        if member.kind != SYMLINK:
            os.chmod(name, member.mode, dir_fd=parent)
        self._set_time(member.mtime_ns, name, parent)

    def _file(self, member: Member, reader: TarReader, parent: int, name: str) -> None:
        uid, gid = self._owner(member)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
        try:
            at = 0
            for offset, chunk in reader.pieces(member):
                if offset != at:
                    os.lseek(fd, offset, os.SEEK_SET)
                at = offset + len(chunk)
                while chunk:
                    chunk = chunk[os.write(fd, chunk) :]
            if at < member.size:
                os.ftruncate(fd, member.size)
            self.size += member.size
            os.fchown(fd, uid, gid)
            if member.xattrs:
                self._set_xattrs(member, fd)
            os.fchmod(fd, member.mode)  # after the owner: chown(2) takes set-uid bits away
            os.utime(fd, ns=_times(member.mtime_ns))
        finally:
            os.close(fd)

    def _hard_link(self, member: Member, parent_name: str, name: str) -> None:
        target_parent, target = self._split(member, member.link)
        if not target:
            raise self._refuse(member, "it is a hard link to the root")
        if (target_parent, target) == (parent_name, name):
            raise self._refuse(member, "it is a hard link to itself")
        try:
            source = os.dup(self._enter(member, target_parent, make=False))
        except FileNotFoundError:
            raise self._no_link_target(member) from None
        try:
            mode = os.stat(target, dir_fd=source, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode) or stat.S_ISCHR(mode):  # a character device here is a whiteout of ours
                raise self._refuse(member, f"it is a hard link to {_shown(member.link)}, which is no file")
            parent = self._enter(member, parent_name)
            try:
                os.link(target, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                self._clear(parent, parent_name, name)
                os.link(target, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise self._no_link_target(member) from None
        finally:
            os.close(source)

    def _no_link_target(self, member: Member) -> JubakoError:
        return self._refuse(member, f"it is a hard link to {_shown(member.link)}, which the layer has not")

    def _directory(self, member: Member, parent: int, parent_name: str, name: str) -> None:
        fd = self._own_directory(parent, parent_name, name)
        try:
            self._finish_directory(member, fd, name, _join(parent_name, name))
        finally:
            os.close(fd)

    def _own_directory(self, parent: int, parent_name: str, name: str, mode: int = 0o700) -> int:
        """The directory `name`, kept if it is one already. One that replaces a whiteout hides what is below it."""
        hides = False
        try:
            os.mkdir(name, mode, dir_fd=parent)
        except FileExistsError:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            if not stat.S_ISDIR(found):
                hides = stat.S_ISCHR(found)
                self._clear(parent, parent_name, name)
                os.mkdir(name, mode, dir_fd=parent)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        if hides:
            self._set_opaque(fd)
        return fd

    def _finish_directory(self, member: Member, fd: int, name: str, path: str) -> None:
        uid, gid = self._owner(member)
        os.chown(fd, uid, gid)
        if member.xattrs:
            self._set_xattrs(member, fd)
        os.chmod(fd, member.mode)
        self._directory_times[path] = member.mtime_ns

    def _whiteout(self, member: Member, parent_name: str, parent: int, name: str) -> None:
        if name == WHITEOUT_OPAQUE:
            if not parent_name:
                self.hides_all = True
                return
            fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
            try:
                self._set_opaque(fd)
            finally:
                os.close(fd)
            return
        hidden = name[len(WHITEOUT) :]
        if hidden in ("", ".", ".."):
            raise self._refuse(member, "it is a whiteout of no name")
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:  # the layer brings its own: a file hides by itself, a directory must say so
            if stat.S_ISDIR(os.stat(hidden, dir_fd=parent, follow_symlinks=False).st_mode):
                fd = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
                try:
                    self._set_opaque(fd)
                finally:
                    os.close(fd)

    def _set_opaque(self, fd: int) -> None:
        os.setxattr(fd, OPAQUE, b"y")

    def _set_xattrs(self, member: Member, fd: int) -> None:
        for note in set_xattrs(fd, member.xattrs):
            self.warnings.setdefault(note, f"{note} (first met at {member.shown})")

    def _accept_device(self, member: Member) -> bool:
        if not self.skip_devices:
            raise self._refuse(
                member,
                f"it is a device node ({member.kind} {member.major}:{member.minor}), which a container cannot have",
                "every container gets the standard devices: make the archive without /dev, or pass --skip-devices",
            )
        self.warnings.setdefault("devices", f"device nodes were left out (first met at {member.shown})")
        return False

    def _owner(self, member: Member) -> tuple[int, int]:
        fault = self.ownership.fault(member.uid, member.gid)
        if fault is not None:
            raise self._refuse(member, *fault)
        return self.ownership.map(member.uid, member.gid)

    def _split(self, member: Member, path: bytes) -> tuple[str, str]:
        """Parent and last component of a member's path, without `.`; anything that leads outside is refused."""
        text = os.fsdecode(path)
        if text.startswith("/"):
            hint = "archives of images hold relative paths only"
            raise self._refuse(member, f"{_shown(path)} is an absolute path", hint)
        parts = [part for part in text.split("/") if part and part != "."]
        if ".." in parts:
            raise self._refuse(member, f"{_shown(path)} leads outside with '..'")
        if not text:
            raise self._refuse(member, "its name is empty")
        return "/".join(parts[:-1]), parts[-1] if parts else ""

    def _enter(self, member: Member, path: str, make: bool = True) -> int:
        """A descriptor of the directory `path` below the root, kept for the next member of the same directory."""
        if path == self._parent_name:
            return self._parent
        fd = self._open_below(member, path, make)
        os.close(self._parent)
        self._parent, self._parent_name = fd, path
        return fd

    def _open_below(self, member: Member, path: str, make: bool) -> int:
        """A descriptor of the directory `path`; what is missing of it is made, from the deepest directory there is."""
        parts = path.split("/") if path else []
        known = len(parts)
        while (fd := self._try_open(member, "/".join(parts[:known]))) is None:
            if not make:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            known -= 1
        try:
            for at in range(known, len(parts)):
                below = self._make_below(member, fd, "/".join(parts[:at]), parts[at])
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _try_open(self, member: Member, path: str) -> int | None:
        try:
            return open_beneath(self.root, path) if path else os.dup(self.root)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as failure:
            if failure.errno not in (errno.EXDEV, errno.ELOOP):
                raise
        reason = "its path goes through a symbolic link that leads outside or in circles"
        raise self._refuse(member, reason, "the archive is hostile or damaged")

    def _make_below(self, member: Member, fd: int, path: str, name: str) -> int:
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            found = stat.S_IFDIR
        if not stat.S_ISDIR(found) and not stat.S_ISCHR(found):  # a whiteout may become a directory, a file may not
            raise self._refuse(
                member, f"{_shown(os.fsencode(_join(path, name)))} stands where its path needs a directory"
            )
        return self._own_directory(fd, path, name, 0o755)

    def _clear(self, parent: int, parent_name: str, name: str) -> None:
        """Remove what an earlier member made; directories that are gone keep no time and no open descriptor."""
        path = _join(parent_name, name)
        if self._parent_name == path or self._parent_name.startswith(path + "/"):
            os.close(self._parent)
            self._parent, self._parent_name = os.dup(self.root), ""
        for known in [known for known in self._directory_times if known == path or known.startswith(path + "/")]:
            del self._directory_times[known]
        remove_tree(parent, name)

    def _set_directory_time(self, path: str, mtime_ns: int) -> None:
        try:
            fd = open_beneath(self.root, path) if path else os.dup(self.root)
        except OSError:  # known by a name through a link that a later member replaced
            return
        try:
            os.utime(".", ns=_times(mtime_ns), dir_fd=fd)
        finally:
            os.close(fd)

    def _set_time(self, mtime_ns: int, name: str, parent: int) -> None:
        os.utime(name, ns=_times(mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _refuse(self, member: Member, reason: str, hint: str = "") -> JubakoError:
        return JubakoError("unpack", f"{self.what}, member {member.shown}", reason=reason, hint=hint)

    def _failure(self, member: Member, failure: OSError) -> JubakoError:
        hint = ""
        if failure.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "nothing was kept; make room on the file system of the image store, or move it with --root DIR"
        elif failure.errno == errno.EPERM and os.path.basename(member.name).startswith(b".wh."):
            hint = "this kernel lets nobody make whiteouts in a user namespace (before Linux 5.8)"
        return JubakoError.from_os_error("unpack", f"{self.what}, member {member.shown}", failure, hint)


def open_beneath(root: int, path: str) -> int:
    """An `O_PATH` descriptor of the directory `path`; symbolic links may lead about below `root`, never out of it."""
    try:
        return openat2(root, path, _HANDLE, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    except OSError as failure:
        if failure.errno != errno.ENOSYS:
            raise
    fd = os.dup(root)  # without openat2, no link is followed at all
    try:
        for part in path.split("/"):
            below = os.open(part, _HANDLE | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = below
    except OSError as failure:
        is_link = failure.errno == errno.ENOTDIR and _is_link(fd, part)
        os.close(fd)
        if is_link:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
        raise
    return fd


def _is_link(dir_fd: int, name: str) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode)


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name


def _times(mtime_ns: int) -> tuple[int, int]:
    clamped = min(max(mtime_ns, _TIME_LIMITS[0]), _TIME_LIMITS[1])
    return clamped, clamped


def _shown(path: bytes) -> str:
    text = os.fsdecode(path)
    return text[:120] if text.isprintable() else ascii(text)[1:-1][:120]
