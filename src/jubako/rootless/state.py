"""The state directory: `lock child_pid api.sock netns resolv.conf hosts`, as RootlessKit has it.

Whoever holds the lock owns the directory; it is wiped at the start, since a process that was killed could not, and
removed at the end. The supervisor is given the lock's descriptors: the directory is in use until it is gone, too.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from jubako.errors import JubakoError

LOCK, CHILD_PID, API_SOCKET, NETNS, RESOLV_CONF, HOSTS = (
    "lock", "child_pid", "api.sock", "netns", "resolv.conf", "hosts",
)  # fmt: skip
LOCKS = 2
"""How many descriptors keep it locked."""
_LONGEST_SOCKET = 107
_USE = "use the state directory"


def name_temporary() -> str:
    """A name for a state directory of this call alone."""
    place = os.environ.get("TMPDIR", "")
    return f"{place if place.startswith('/') else '/tmp'}/rootlesskit{int.from_bytes(os.urandom(4), 'little')}"


def check_length(directory: str) -> None:
    """Refuse a path that leaves no room for the socket's name (unix(7))."""
    longest = len(os.fsencode(f"{directory}/{API_SOCKET}"))
    if longest > _LONGEST_SOCKET:
        reason = f"the path of its socket has {longest} bytes, and the kernel takes {_LONGEST_SOCKET}"
        raise JubakoError(_USE, directory, reason=reason, hint="choose a shorter --state-dir")


class StateDirectory:
    """A state directory: `prepare` makes, locks and empties it, `remove` takes it away."""

    def __init__(self, path: str, temporary: bool) -> None:
        self.path = path
        self.temporary = temporary
        self._locks: list[int] = []

    def prepare(self) -> None:
        """Have it, locked and empty. Raises `JubakoError`, and then nothing of it was changed."""
        try:
            if self.temporary:
                os.mkdir(self.path, 0o700)
            else:
                os.makedirs(self.path, 0o755, exist_ok=True)
            self._take()
        except OSError as failure:
            self.let_go()
            raise _told(self.path, failure) from failure
        except JubakoError:
            self.let_go()
            raise

    def _take(self) -> None:
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._locks.append(directory)
        names = set(os.listdir(directory))
        if names and LOCK not in names:
            raise JubakoError(
                _USE, self.path, reason="it holds files, and they are not those of a fake root",
                hint="it would be wiped: choose an empty directory, or one that does not exist",
            )  # fmt: skip
        # For systemd-tmpfiles(8), which leaves alone what is locked like this.
        fcntl.flock(directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
        lock = os.open(self.file(LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._locks.append(lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JubakoError(
                _USE, self.path, reason="another fake root runs with it",
                hint="choose another --state-dir, or end that one",
            ) from None  # fmt: skip
        for name in names - {LOCK}:
            remove_tree(self.file(name))

    def file(self, name: str) -> str:
        """The path of one of its files."""
        return f"{self.path}/{name}"

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Make a file of it."""
        try:
            fd = os.open(self.file(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                os.write(fd, text.encode(errors="surrogateescape"))
            finally:
                os.close(fd)
        except OSError as failure:
            raise JubakoError.from_os_error("write", self.file(name), failure) from failure

    def descriptors(self) -> tuple[int, ...]:
        """What keeps it locked."""
        return tuple(self._locks)

    def adopt(self, locks: tuple[int, ...]) -> None:
        """Be the one that another process has prepared, whose descriptors `locks` are."""
        self._locks = list(locks)

    def remove(self) -> None:
        """Take it away, and the lock last; whatever cannot be removed is left for the next to wipe. Nothing happens
        where it is not ours; a temporary one can be nobody else's."""
        if not self._locks and not self.temporary:
            return
        try:
            for name in sorted(os.listdir(self.path), key=lambda name: name == LOCK):
                remove_tree(self.file(name))
            os.rmdir(self.path)
        except OSError:
            pass
        self.let_go()

    def let_go(self) -> None:
        """Give the lock back."""
        while self._locks:
            os.close(self._locks.pop())


def remove_tree(path: str) -> None:
    """Remove a file, a link or a directory with all that is in it; no link is followed."""
    try:
        is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_directory:
        os.unlink(path)
        return
    for name in os.listdir(path):
        remove_tree(f"{path}/{name}")
    os.rmdir(path)


def _told(path: str, failure: OSError) -> JubakoError:
    hint = ""
    if failure.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "choose a --state-dir that you may write to, such as one below $XDG_RUNTIME_DIR"
    elif failure.errno in (errno.ENOTDIR, errno.EEXIST, errno.ELOOP):
        hint = "it has to be a directory, or not to exist"
    told = os.fsdecode(failure.filename) if isinstance(failure.filename, str | bytes) else path
    return JubakoError.from_os_error(_USE, told, failure, hint)
