"""The machine as the checks see it: files below a root, an environment, an account, and things that are really tried.

Every fact that a check uses comes through `Host`, so a test lays out a small `/proc/sys` and `/etc` below a temporary
directory, says how the attempts end, and sees each finding without needing such a machine.
"""

from __future__ import annotations

import os
import stat

from jubako.doctor.trial import Trial, attempt
from jubako.doctor.trials import TRIALS, nearest
from jubako.paths import find_paths
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


@record
class MountPoint:
    """One line of /proc/self/mountinfo (proc_pid_mountinfo(5)); `super_options` are the file system's own."""

    path: str
    root: str
    kind: str
    source: str
    options: tuple[str, ...]
    super_options: tuple[str, ...]


class Host:
    """Facts about one machine for one account.

    `root` prefixes every path that is read. `attempts` gives the outcome of trials by name, alone or with the arguments
    behind it (see `jubako.doctor.trials`); what is not named there is really tried, unless `root` is another than "/":
    then it counts as a success.
    """

    def __init__(
        self,
        root: str = "/",
        *,
        environ: Mapping[str, str] | None = None,
        uid: int | None = None,
        gid: int | None = None,
        user: str | None = None,
        release: str | None = None,
        machine: str | None = None,
        store: str = "",
        runtime: str = "",
        attempts: Mapping[str, Trial] | None = None,
    ) -> None:
        names = os.uname()
        self.root = root
        self.environ = dict(os.environ if environ is None else environ)
        self.uid = os.getuid() if uid is None else uid
        self.gid = os.getgid() if gid is None else gid
        self.release = names.release if release is None else release
        self.machine = names.machine if machine is None else machine
        self.user = self._account()[0] if user is None else user
        self.home = self.environ.get("HOME") or self._account()[1] or "/"
        real = root == "/" and environ is None and uid is None
        paths = find_paths(store, runtime) if real else None
        self.store = paths.data if paths else store or self._default_store()
        self.runtime = paths.run if paths else runtime or self._default_runtime()
        self.attempts = dict(attempts or {})
        self._mounts: tuple[MountPoint, ...] | None = None
        self._nearest: dict[str, str] = {}

    # ---- files

    def path(self, path: str) -> str:
        """Where the machine's `path` lies for this process."""
        return path if self.root == "/" else self.root.rstrip("/") + path

    def read(self, path: str) -> str | None:
        """The text of a file, or None where it cannot be read."""
        try:
            with open(self.path(path), "rb") as file:
                return file.read(1 << 20).decode(errors="surrogateescape")
        except OSError:
            return None

    def stat(self, path: str) -> os.stat_result | None:
        """What stat(2) says, or None."""
        try:
            return os.stat(self.path(path))
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        """Whether something is there (symbolic links are followed)."""
        return self.stat(path) is not None

    def names(self, path: str) -> tuple[str, ...]:
        """The entries of a directory, sorted; none where it cannot be read."""
        try:
            return tuple(sorted(os.listdir(self.path(path))))
        except OSError:
            return ()

    def writable(self, path: str) -> bool:
        """Whether the account may write there."""
        if self.root == "/" and self.uid == os.getuid():
            return os.access(path, os.W_OK)
        found = self.stat(path)
        if found is None:
            return False
        if self.uid == 0:
            return True
        bit = stat.S_IWUSR if found.st_uid == self.uid else stat.S_IWGRP if found.st_gid == self.gid else stat.S_IWOTH
        return bool(found.st_mode & bit)

    def sysctl(self, name: str) -> str | None:
        """The value of "kernel.yama.ptrace_scope" and the like; None where this kernel has no such setting."""
        text = self.read("/proc/sys/" + name.replace(".", "/"))
        return None if text is None else text.strip()

    def number(self, name: str) -> int | None:
        """A sysctl that is one whole number."""
        try:
            return int(self.sysctl(name) or "")
        except ValueError:
            return None

    def status(self, field: str) -> str | None:
        """One field of /proc/self/status, such as "NoNewPrivs"."""
        for line in (self.read("/proc/self/status") or "").splitlines():
            if line.startswith(field + ":"):
                return line.partition(":")[2].strip()
        return None

    def which(self, program: str) -> str | None:
        """The program's path: PATH first, then where a distribution puts system programs."""
        for directory in (*self.environ.get("PATH", "").split(":"), *_SYSTEM_PATH):
            if not directory.startswith("/"):
                continue
            found = self.stat(f"{directory}/{program}")
            if found is not None and stat.S_ISREG(found.st_mode) and found.st_mode & 0o111:
                return f"{directory}/{program}"
        return None

    # ---- mounts

    def mounts(self) -> tuple[MountPoint, ...]:
        """Every mount of this namespace, oldest first."""
        if self._mounts is None:
            text = self.read("/proc/self/mountinfo") or ""
            self._mounts = tuple(_mount_point(line) for line in text.splitlines() if " - " in line)
        return self._mounts

    def mount_of(self, path: str) -> MountPoint | None:
        """The mount on which `path` lies, as far as its name tells."""
        best: MountPoint | None = None
        for mount in self.mounts():
            below = mount.path == "/" or path == mount.path or path.startswith(mount.path + "/")
            if below and (best is None or len(mount.path) >= len(best.path)):
                best = mount
        return best

    def nearest(self, path: str) -> str:
        """`path`, or the directory above it that exists already; empty where the file system does not answer.

        Looked up in a child, since nobody can be saved from a stat(2) on a network file system whose server is gone.
        """
        if path not in self._nearest:
            if self.root != "/" and "nearest" not in self.attempts:
                self._nearest[path] = (
                    nearest(self.path(path), self.root.rstrip("/"))[len(self.root.rstrip("/")) :] or "/"
                )
            else:
                trial = self.attempt("nearest", path)
                self._nearest[path] = trial.detail if trial.ok else ""
        return self._nearest[path]

    # ---- trials

    def attempt(self, name: str, *arguments: object) -> Trial:
        """Try something for real, in a child that takes every trace with it."""
        if name in self.attempts:
            return self.attempts[name]
        specific = " ".join([name, *map(str, arguments)])
        if specific in self.attempts:
            return self.attempts[specific]
        if self.root != "/":
            return Trial(0, "")
        return attempt(TRIALS[name], *arguments)

    # ---- the account

    @property
    def sudo(self) -> str:
        """What a command that needs root begins with."""
        return "" if self.uid == 0 else "sudo "

    def _account(self) -> tuple[str, str]:
        for line in (self.read("/etc/passwd") or "").splitlines():
            fields = line.split(":")
            if len(fields) >= 6 and fields[2] == str(self.uid):
                return fields[0], fields[5]
        if self.root == "/":  # an account of LDAP or SSSD
            import pwd

            try:
                entry = pwd.getpwuid(self.uid)
            except KeyError:
                return "", ""
            return entry.pw_name, entry.pw_dir
        return "", ""

    def _default_store(self) -> str:
        if self.environ.get("JUBAKO_ROOT"):
            return self.environ["JUBAKO_ROOT"]
        if self.uid == 0:
            return "/var/lib/jubako"
        return os.path.join(self.environ.get("XDG_DATA_HOME") or f"{self.home}/.local/share", "jubako")

    def _default_runtime(self) -> str:
        if self.environ.get("JUBAKO_RUN"):
            return self.environ["JUBAKO_RUN"]
        if self.uid == 0:
            return "/run/jubako"
        if self.environ.get("XDG_RUNTIME_DIR"):
            return self.environ["XDG_RUNTIME_DIR"] + "/jubako"
        return f"/tmp/jubako-{self.uid}"


def _mount_point(line: str) -> MountPoint:
    left, _, right = line.partition(" - ")
    fields, behind = left.split(), right.split()
    return MountPoint(
        path=_unescaped(fields[4]),
        root=_unescaped(fields[3]),
        kind=behind[0],
        source=_unescaped(behind[1]) if len(behind) > 1 else "",
        options=tuple(fields[5].split(",")),
        super_options=tuple(behind[2].split(",")) if len(behind) > 2 else (),
    )


def _unescaped(text: str) -> str:
    for escape, character in _ESCAPES:
        text = text.replace(escape, character)
    return text
