"""As whom the tests' commands run: the one who runs pytest, or from root's pass the end-to-end account.

`./dev test` as root makes an unprivileged account with subordinate ids and runs pytest twice: as that account, and
as root for the tests marked `root`. As an ordinary user everything runs as oneself.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int
    home: str
    ranges: tuple[tuple[int, int], ...]
    """Subordinate uids as (start, count)."""

    def owns(self, uid: int) -> bool:
        """Whether `uid` is the account's own or one of its subordinate ids."""
        return uid == self.uid or any(start <= uid < start + count for start, count in self.ranges)

    @property
    def runtime_directory(self) -> str:
        if self.uid == os.getuid() and os.environ.get("XDG_RUNTIME_DIR"):
            return os.environ["XDG_RUNTIME_DIR"]
        return f"/run/user/{self.uid}"

    @property
    def prefix(self) -> tuple[str, ...]:
        """What to put before a command to run it as this account in a clean environment; nothing for oneself."""
        if self.uid == os.getuid():
            return ()
        identity = ("--reuid", str(self.uid), "--regid", str(self.gid), "--init-groups", "--inh-caps=-all")
        variables = {
            "HOME": self.home,
            "USER": self.name,
            "LOGNAME": self.name,
            "SHELL": "/bin/sh",
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": self.runtime_directory,
            "JUBAKO_NETWORK": "none",
        }
        return ("setpriv", *identity, "env", "-i", *(f"{name}={value}" for name, value in variables.items()))


def myself() -> Account:
    return by_uid(os.getuid())


def ordinary() -> Account | None:
    """The unprivileged account that tests may use; None where root runs pytest by hand without naming one."""
    if os.getuid() != 0:
        return myself()
    name = os.environ.get("JUBAKO_TEST_ACCOUNT")
    return by_uid(pwd.getpwnam(name).pw_uid) if name else None


def by_uid(uid: int) -> Account:
    entry = pwd.getpwuid(uid)
    return Account(entry.pw_name, uid, entry.pw_gid, entry.pw_dir, subordinate_ids("/etc/subuid", entry.pw_name, uid))


def subordinate_ids(path: str, name: str, uid: int) -> tuple[tuple[int, int], ...]:
    """The ranges that `path` (subuid(5), subgid(5)) gives to an account, by name or by number."""
    try:
        with open(path) as lines:
            fields = [line.strip().split(":") for line in lines]
    except FileNotFoundError:
        return ()
    return tuple((int(f[1]), int(f[2])) for f in fields if len(f) == 3 and f[0] in (name, str(uid)))


def run_as_namespace_root(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run `argv` as root of a user namespace with all of one's subordinate ids: may remove what containers made."""
    if os.getuid() == 0:
        return subprocess.run(argv, capture_output=True, text=True)
    help_page = subprocess.run(("unshare", "--help"), capture_output=True, text=True).stdout
    into = ("unshare", "--map-root-user", "--map-auto", "--") if "--map-auto" in help_page else ("podman", "unshare")
    return subprocess.run((*into, *argv), capture_output=True, text=True, timeout=60)


def remove_tree(path: str | os.PathLike[str]) -> None:
    """Remove a directory tree whose files may belong to subordinate ids."""
    done = run_as_namespace_root("rm", "-rf", "--", os.fspath(path))
    assert done.returncode == 0, done.stderr
