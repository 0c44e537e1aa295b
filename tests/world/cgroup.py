"""A private view of cgroup v2 with a group delegated to the account: what systemd gives a user, on machines without it.

Made as root in a mount namespace of its own: the machine's cgroup mounts are neither used nor changed, only one child
group of the cgroup2 hierarchy's root is added and removed again (cgroup-v2, "Delegation Containment").
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from world.account import Account

GROUPS = "jubako-test-"
"""How the names of the tests' own groups begin."""

_ENTER = """
set -e
umount --recursive /sys/fs/cgroup 2>/dev/null || umount --lazy /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo 0 > "/sys/fs/cgroup/$0/session/cgroup.procs"
exec "$@"
"""


@contextmanager
def delegated_group(account: Account) -> Iterator[tuple[str, ...]]:
    """The prefix that runs a command in the group's leaf `session`, seeing only cgroup v2; still as root."""
    top = cgroup2_mount()
    group = Path(tempfile.mkdtemp(prefix=GROUPS, dir=top))  # a process id may be another one's too, in a container
    group.chmod(0o755)
    (group / "session").mkdir()
    try:
        for controller in (group / "cgroup.controllers").read_text().split():
            _try_to_write(group / "cgroup.subtree_control", f"+{controller}")
        for directory in (group, group / "session"):
            os.chown(directory, account.uid, account.gid)
            for file in ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
                os.chown(directory / file, account.uid, account.gid)
        yield ("unshare", "--mount", "--propagation", "private", "sh", "-c", _ENTER, group.name)
    finally:
        subprocess.run(("sh", "-c", 'echo 1 > "$0/cgroup.kill"', group), stderr=subprocess.DEVNULL)
        while "populated 1" in (group / "cgroup.events").read_text():
            time.sleep(0.01)
        for path, _, _ in os.walk(group, topdown=False):
            os.rmdir(path)


class View:
    """A private view of cgroup v2, and Python in it: `view(code, …)` is what `code` prints as JSON."""

    def __init__(self, prefix: tuple[str, ...], account: Account) -> None:
        self.prefix = prefix
        self.account = account
        self.group = Path("/sys/fs/cgroup", prefix[-1])
        """The delegated group, as the view has it; the code starts in its leaf `session`."""
        self.there = cgroup2_mount() / prefix[-1]
        """The same, as the machine has it."""

    def __call__(self, code: str, *arguments: str, root: bool = False, before: str = "") -> Any:
        """Run as the account, or as `root`; `arguments` are `sys.argv[1:]`. What fails in the code fails here."""
        identity = () if root else self.account.prefix
        command = (*self.prefix, *identity, sys.executable, "-c", _PRELUDE + before + textwrap.dedent(code), *arguments)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")


_PRELUDE = """
import json, os, sys, time
from jubako.errors import JubakoError
def answer(value): print(json.dumps(value))
"""


def cgroup2_mount() -> Path:
    """Where the machine has cgroup v2 mounted: all of /sys/fs/cgroup, or `unified` on a hybrid machine."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            return Path(line.split()[4])
    raise LookupError("no cgroup2 mount on this machine")


def _try_to_write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError:  # a controller that is in use elsewhere: the group works without it
        pass
