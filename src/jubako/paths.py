"""Where jubako keeps things: what lasts (data), what ends with the boot (run), what can be made again (cache).

XDG Base Directory Specification for users; /var/lib and /run for root. A user without XDG_RUNTIME_DIR (su, cron, batch
jobs) gets a directory below /tmp whose owner and mode are checked, since anybody may make one there. The cache lies
with the data and not in ~/.cache, which people show to their containers: it holds code and filters that are trusted.
"""

from __future__ import annotations

import os
import stat

from jubako.errors import JubakoError
from jubako.record import record


@record
class Paths:
    """The three directories, absolute; `make_directory` makes them."""

    data: str
    run: str
    cache: str

    @property
    def containers(self) -> str:
        """One directory a container: its document, its state, its log, its writable layer."""
        return self.data + "/containers"

    @property
    def names(self) -> str:
        """One link a name, to the container's id: making it is what reserves the name."""
        return self.data + "/names"

    @property
    def stage(self) -> str:
        """An empty directory on which a container's root is put together, in its own mount namespace."""
        return self.run + "/stage"

    @property
    def foreign_proc(self) -> str:
        """Another empty directory, for the /proc of a joined PID namespace."""
        return self.run + "/proc"

    def run_of(self, identifier: str) -> str:
        """The directory for a running container's sockets and generated files."""
        return f"{self.run}/containers/{identifier}"


def find_paths(data: str = "", run: str = "") -> Paths:
    """The directories of this process's user; `data` and `run` (flags) win over JUBAKO_ROOT and JUBAKO_RUN. Nothing is
    made but what lies in /tmp, where somebody else could make it."""
    environment = os.environ
    data = data or environment.get("JUBAKO_ROOT", "")
    run = run or environment.get("JUBAKO_RUN", "")
    if os.getuid() == 0 and os.access("/var/lib", os.W_OK):  # root of a user namespace (unshare -r) is a user outside
        home, runtime = "/var/lib/jubako", "/run/jubako"
    else:
        home = (environment.get("XDG_DATA_HOME") or _home() + "/.local/share") + "/jubako"
        runtime = environment.get("XDG_RUNTIME_DIR", "")
        runtime = runtime + "/jubako" if _usable(runtime) else ""
    run = run or runtime or _claim(f"/tmp/jubako-{os.getuid()}", 0o711)
    data = os.path.abspath(data or home)
    return Paths(data, os.path.abspath(run), data + "/cache")


def make_directory(path: str, mode: int = 0o700) -> str:
    """Make `path` with its parents; refuse one that is not this user's or that others may write."""
    try:
        try:
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
            os.mkdir(path, mode)
            os.chmod(path, mode)
        except FileExistsError:
            pass
        status = os.lstat(path)
    except OSError as failure:
        raise JubakoError.from_os_error(
            "make directory", path, failure, "choose another place with --root or JUBAKO_ROOT, or JUBAKO_RUN"
        ) from failure
    return _own(path, status)


def _own(path: str, status: os.stat_result) -> str:
    """`path`, unless it is no directory or anybody else may write to it."""
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise JubakoError(
            "use directory",
            path,
            reason="it is not a directory of this user alone",
            hint="somebody else may have made it: remove it, or set XDG_RUNTIME_DIR or JUBAKO_RUN",
        )
    return path


def _claim(path: str, mode: int) -> str:
    """A directory of /tmp, made before anything is looked for in it: from then on its sticky bit keeps everybody else
    from putting another there, in which our names would lead to files of this user's or to sockets of theirs."""
    try:
        try:
            os.mkdir(path, mode)
            os.chmod(path, mode)
        except FileExistsError:
            pass
        status = os.lstat(path)
    except OSError:  # whoever needs it will say so
        return path
    return _own(path, status)


def make_run_directories(paths: Paths) -> None:
    """The run directory and its two empty directories; it must be passable for the containers' id range."""
    make_directory(paths.run, 0o711)
    if os.stat(paths.run).st_mode & 0o777 != 0o711:
        os.chmod(paths.run, 0o711)
    for path in (paths.stage, paths.foreign_proc):
        make_directory(path, 0o755)
    make_directory(paths.run + "/containers", 0o711 if os.getuid() == 0 else 0o700)


def _home() -> str:
    home = os.environ.get("HOME", "")
    if home.startswith("/"):
        return home
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return _claim(f"/tmp/jubako-{os.getuid()}-home", 0o700)


def _usable(runtime: str) -> bool:
    try:
        return runtime.startswith("/") and os.stat(runtime).st_uid == os.getuid()
    except OSError:
        return False
