"""A machine within the machine: another Debian's root file system in namespaces of its own, for daemons and clients.

It has its own mounts, pids, network, IPC objects, host name and cgroup v2 view; what it writes lies in memory. So
whatever engines start, mount, bridge or filter is gone with the house, which is ended by killing its first process.
The machine sees one more cgroup and its processes. Needs root.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from world.account import Account, subordinate_ids
from world.cgroup import GROUPS, cgroup2_mount

ADDRESS = "192.0.2.1"
"""The house's own address, besides loopback."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# $1: the root file system, $2: a directory for the house. Runs in the new namespaces, as their first process.
_BUILD = """
set -e
mount -t tmpfs -o mode=755 house "$2"
cd "$2"
mkdir upper work root
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" house root
cd root
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755,nosuid dev dev
mkdir dev/pts dev/shm dev/mqueue dev/net
mount --bind /dev/pts dev/pts
mount -t mqueue -o nosuid,nodev,noexec mqueue dev/mqueue
for device in null zero full random urandom tty console ptmx fuse net/tun; do
    cp -a "/dev/$device" "dev/$device"
done
chmod 666 dev/ptmx dev/fuse dev/net/tun
ln -s /proc/self/fd dev/fd
for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%:*}" "dev/${number#*:}"; done
for place in run tmp home var/lib/containers var/lib/containerd var/lib/docker dev/shm; do
    mkdir -p "$place"
    mount -t tmpfs -o mode=755 "${place##*/}" "$place"
done
chmod 1777 tmp dev/shm
mkdir -p run/lock run/user
ip link set lo up
# An interface towards nowhere, which pasta copies and without which getaddrinfo(3) finds no address to listen at.
ip link add eth0 type veth peer name nowhere
ip link set nowhere up
ip link set eth0 up
ip address add 192.0.2.1/24 dev eth0
ip route add default via 192.0.2.2
echo 127.0.0.1 localhost house >etc/hosts
echo nameserver 127.0.0.1 >etc/resolv.conf
hostname house
pivot_root . mnt
umount --lazy /mnt
mount --make-rshared /
exec catatonit -P
"""

_DOOR = """#!/bin/sh
echo 0 >{leaf}/cgroup.procs &&
    exec nsenter --target {pid} --mount --pid --net --ipc --uts --cgroup -- {words} "$@"
"""


@dataclass
class House:
    """`pid` is the first process as the machine counts; `root` is its root directory, seen from outside."""

    pid: int
    group: Path
    scratch: Path
    running: subprocess.Popen[bytes]

    @property
    def root(self) -> Path:
        return Path(f"/proc/{self.pid}/root")

    def path(self, inside: str | os.PathLike[str]) -> Path:
        """The same file as seen from outside."""
        return self.root / os.fspath(inside).lstrip("/")

    def prefix(self, account: Account | None = None) -> tuple[str, ...]:
        """What runs a command inside: as root, or as `account` in the cgroup that is delegated to it."""
        return (str(self.scratch / f"house-{account.uid if account else 0}"),)  # short: it begins every failure's text

    def close(self) -> None:
        self.running.kill()  # unshare's --kill-child ends the first process, and that all others
        self.running.wait(30)
        _remove_group(self.group)


def build_house(root: Path, accounts: tuple[Account, ...], scratch: Path) -> House:
    """The house over the file system `root`, which stays as it is; each account gets its name, ids and directories."""
    group = Path(tempfile.mkdtemp(prefix=GROUPS, dir=cgroup2_mount()))
    group.chmod(0o755)
    enter = f'echo 0 >{group}/cgroup.procs; exec "$@"'
    unshare = ("unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child")
    build = ("--propagation", "private", "sh", "-c", _BUILD, "sh", str(root), str(scratch))
    running = subprocess.Popen(("sh", "-c", enter, "sh", *unshare, *build), stdin=subprocess.DEVNULL)
    house = House(_first_process(running), group, scratch, running)
    for name in ("init", "system"):
        (group / name).mkdir()
    for pid in (house.pid, running.pid):  # a group with controllers for its children has no processes of its own
        (group / "init/cgroup.procs").write_text(str(pid))
    _hand_on_controllers(group)
    _write_door(house, 0, "system", ("env", "-i", "HOME=/root", "USER=root", "LOGNAME=root", "LANG=C.UTF-8"))
    for account in accounts:
        _move_in(house, account)
        _write_door(house, account.uid, f"user-{account.uid}/session", (*account.prefix, "env"))
    return house


def _first_process(running: subprocess.Popen[bytes]) -> int:
    """The pid of the house's first process once the house is built and it waits."""
    until = time.monotonic() + 30
    while running.poll() is None and time.monotonic() < until:
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text() == "catatonit\n":
            return int(children[0])
        time.sleep(0.01)
    running.kill()
    raise AssertionError("the house could not be built")


def _write_door(house: House, uid: int, leaf: str, identity: tuple[str, ...]) -> None:
    """The script that runs its arguments inside as that user; what they start is in the group `leaf`."""
    door = house.scratch / f"house-{uid}"
    words = shlex.join((*identity, f"PATH={PATH}"))
    door.write_text(_DOOR.format(leaf=house.group / leaf, pid=house.pid, words=words))
    door.chmod(0o755)


def _move_in(house: House, account: Account) -> None:
    """Its name, subordinate ids, home and run-time directory, and a cgroup delegated to it (cgroup-v2)."""
    for file, line in (
        ("etc/passwd", f"{account.name}:x:{account.uid}:{account.gid}::{account.home}:/bin/sh"),
        ("etc/group", f"{account.name}:x:{account.gid}:"),
    ):
        with open(house.path(file), "a") as lines:
            lines.write(line + "\n")
    for file in ("etc/subuid", "etc/subgid"):
        ranges = subordinate_ids(f"/{file}", account.name, account.uid)
        house.path(file).write_text("".join(f"{account.name}:{start}:{count}\n" for start, count in ranges))
    for directory in (account.home, account.runtime_directory):
        house.path(directory).mkdir(parents=True, mode=0o700)
        os.chown(house.path(directory), account.uid, account.gid)
    delegated = house.group / f"user-{account.uid}"
    delegated.mkdir()
    (delegated / "session").mkdir()
    _hand_on_controllers(delegated)
    for group in (delegated, delegated / "session"):
        for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
            os.chown(group / name, account.uid, account.gid)


def _hand_on_controllers(group: Path) -> None:
    for controller in (group / "cgroup.controllers").read_text().split():
        try:
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:  # one that is in use elsewhere: the group works without it
            pass


def _remove_group(group: Path) -> None:
    (group / "cgroup.kill").write_text("1")
    until = time.monotonic() + 10
    while "populated 1" in (group / "cgroup.events").read_text() and time.monotonic() < until:
        time.sleep(0.02)
    for path, _, _ in os.walk(group, topdown=False):
        os.rmdir(path)
