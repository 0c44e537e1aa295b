"""Gathering the facts of the host that the planner asks for: few system calls, since every start pays for them."""

from __future__ import annotations

import os
import stat

from jubako.ids.base_ids import BaseIds
from jubako.linux import caps
from jubako.paths import Paths
from jubako.plan.host import STANDARD_DEVICES, Host, HostTree
from jubako.record import replace

# What programs write to, as in a freshly installed system; everything else of the host is read-only or not there.
_FRESH = (
    ("/home", 0o755), ("/mnt", 0o755), ("/proc", 0o555), ("/sys", 0o555), ("/dev", 0o755), ("/root", 0o700),
    ("/run", 0o755), ("/run/lock", 0o1777), ("/srv", 0o755), ("/tmp", 0o1777), ("/var", 0o755), ("/var/cache", 0o755),
    ("/var/lib", 0o755), ("/var/log", 0o755), ("/var/spool", 0o755), ("/var/tmp", 0o1777),
)  # fmt: skip
_FRESH_LINKS = (("/var/run", "/run"), ("/var/lock", "/run/lock"))
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32", "lib", "etc", "opt", "nix")


def gather_host(paths: Paths, ids: BaseIds, *, host_image: bool) -> Host:
    """The facts, as of now; the host's tree only where the container's root is the host itself."""
    facts = gather_facts(paths.stage, paths.foreign_proc, setgroups_denied=ids.setgroups_deny)
    return replace(
        facts,
        privileged=facts.privileged and ids.writer != "single",
        tree=read_host_tree() if host_image else HostTree(),
        base_uid_map=ids.uids.text(),
        base_gid_map=ids.gids.text(),
    )


def gather_facts(stage: str, foreign_proc: str, *, setgroups_denied: bool) -> Host:
    """What holds for every container of this process: no ids, no tree."""
    return Host(
        stage=stage,
        foreign_proc=foreign_proc,
        privileged=os.geteuid() == 0 and is_whole(),
        setgroups_denied=setgroups_denied,
        cgroup2=_has_cgroup2(),
        last_cap=caps.last_cap(),
        devices=tuple(device for device in STANDARD_DEVICES if _is_device(*device)),
        interpreter_writable=is_interpreter_writable(),
    )


def read_host_tree() -> HostTree:
    """How the host's root directory looks: real directories are bound, links (merged /usr) are repeated."""
    binds: list[str] = []
    links: list[tuple[str, str]] = []
    with os.scandir("/") as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = entry.name
            if name not in _SYSTEM and not (name.startswith("lib") and entry.is_symlink()):
                continue
            if entry.is_symlink():
                links.append(("/" + name, os.readlink("/" + name)))
            elif entry.is_dir():
                binds.append("/" + name)
    home = os.environ.get("HOME", "")
    hidden = tuple(h for h in (home,) if h.rstrip("/") and any((h + "/").startswith(path + "/") for path in binds))
    return HostTree(tuple(binds), (*links, *_FRESH_LINKS), _FRESH, hidden)


def is_interpreter_writable() -> bool:
    """Whether an id that containers have could write the file this interpreter runs from (CVE-2019-5736).

    A distribution's python3 belongs to the host's root, whom no container of an ordinary user has; one installed
    in a home directory belongs to the user, who is root in the container.
    """
    try:
        status = os.stat("/proc/self/exe")
    except OSError:
        return True
    return status.st_uid != 0 or os.getuid() == 0 or bool(status.st_mode & 0o022)


def _is_device(path: str, major: int, minor: int) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(major, minor)


def _has_cgroup2() -> bool:
    with open("/proc/filesystems", "rb", buffering=0) as file:
        return b"\tcgroup2\n" in file.read(1 << 14)


def is_whole() -> bool:
    """Whether this process is in the host's own user namespace, where every id is itself."""
    with open("/proc/self/uid_map", "rb", buffering=0) as file:
        return file.read(64).split() == [b"0", b"0", b"4294967295"]
