"""A machine on paper: a small tree of files in which all is well, for one test to spoil in one place."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from jubako.doctor.host import Host
from jubako.doctor.trials import Trial

UID, GID = 1000, 1000

MOUNTINFO = """\
20 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
21 20 0:5 / /proc rw,relatime - proc proc rw
22 20 0:6 / /sys rw,relatime - sysfs sysfs rw
23 22 0:7 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw
"""

FILES = {
    "/etc/passwd": "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n",
    "/etc/group": "root:x:0:\nalice:x:1000:\n",
    "/etc/subuid": "alice:100000:65536\n",
    "/etc/subgid": "alice:100000:65536\n",
    "/etc/os-release": 'PRETTY_NAME="Paper Linux 1"\n',
    "/proc/self/mountinfo": MOUNTINFO,
    "/proc/self/status": "NoNewPrivs:\t0\nSeccomp:\t0\nCapEff:\t0\nCapBnd:\t1ff\n",
    "/proc/sys/user/max_user_namespaces": "60000\n",
}

Machine = Callable[..., Host]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """`machine(files, attempts, environ, **fields)`: the machine on paper, changed; a file of None is taken away."""

    def build(
        files: Mapping[str, str | None] | None = None,
        attempts: Mapping[str, Trial] | None = None,
        environ: Mapping[str, str] | None = None,
        **fields: object,
    ) -> Host:
        for path, text in {**FILES, **(files or {})}.items():
            if text is None:
                continue
            place = tmp_path / path.lstrip("/")
            if text == "DIRECTORY":
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        (tmp_path / "home/alice").mkdir(parents=True, exist_ok=True)
        given = {"PATH": "/usr/bin", "HOME": "/home/alice", **(environ or {})}
        options: dict[str, object] = {"uid": UID, "gid": GID, "release": "6.1.0", "machine": "x86_64", **fields}
        return Host(str(tmp_path), environ=given, attempts=attempts, **options)  # type: ignore[arg-type]

    return build


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, int], None]:
    """`program(path, mode)` puts a program there."""

    def put(path: str, mode: int = 0o755) -> None:
        place = tmp_path / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("#!/bin/sh\n")
        os.chmod(place, mode)

    return put


@pytest.fixture
def refused() -> Trial:
    return Trial(errno.EPERM, "unshare user: Operation not permitted (EPERM)")
