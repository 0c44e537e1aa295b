"""Bundles for an OCI runtime: a directory with a small busybox root file system and a `config.json` to change.

The configuration is what `runc spec` writes, but for the terminal, the mount of the cgroup file system and the device
rules, which depend on the machine; for an ordinary user it has a user namespace too. Tests change it as plain data:

bundle = bundles()
bundle.sh("hostname; exec sleep 100")      # the program is a shell
bundle.process["umask"] = 0o27
bundle.mount("/data", "tmpfs", options=["ro"])
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from world.account import Account, subordinate_ids

CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list"),
    *("/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"),
)
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
MOUNTS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("/proc", "proc", "proc", ()),
    ("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    ("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")),
    ("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=65536k")),
    ("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    ("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
)
APPLETS = (
    *("sh", "cat", "ls", "echo", "sleep", "true", "false", "id", "env", "pwd", "mount", "umount", "mkdir", "touch"),
    *("stat", "readlink", "hostname", "uname", "chmod", "chown", "rm", "ln", "test", "kill", "head", "tail", "wc"),
    *("grep", "sed", "tr", "cut", "sort", "ip", "ps", "tty", "stty", "dd", "nice", "mknod", "cp", "mv", "find"),
    *("dnsdomainname", "date", "seq", "trap", "printf", "od", "su", "taskset", "dmesg", "nproc", "xargs", "sysctl"),
)


@dataclass
class Bundle:
    """`config` is written by `write`, which `Runtime` calls before each command that takes the bundle."""

    path: Path
    config: dict[str, Any]
    probe: Path | None = None
    """A static program that tells what a shell cannot; see `probe.c`."""
    written: bool = field(default=False)

    @property
    def rootfs(self) -> Path:
        return self.path / "rootfs"

    @property
    def process(self) -> dict[str, Any]:
        section: dict[str, Any] = self.config["process"]
        return section

    @property
    def linux(self) -> dict[str, Any]:
        section: dict[str, Any] = self.config["linux"]
        return section

    @property
    def mounts(self) -> list[dict[str, Any]]:
        section: list[dict[str, Any]] = self.config["mounts"]
        return section

    def args(self, *argv: str) -> None:
        """The program and its arguments."""
        self.process["args"] = list(argv)

    def sh(self, script: str) -> None:
        """The program is a shell that runs `script`."""
        self.args("/bin/sh", "-c", script)

    def mount(
        self,
        destination: str,
        kind: str | None = None,
        source: str | os.PathLike[str] | None = None,
        options: Sequence[str] = (),
        **more: Any,
    ) -> dict[str, Any]:
        """Add an entry to `mounts`; a field that is None is left out."""
        entry: dict[str, Any] = {"destination": destination}
        if kind is not None:
            entry["type"] = kind
        if source is not None:
            entry["source"] = os.fspath(source)
        if options:
            entry["options"] = list(options)
        entry.update(more)
        self.mounts.append(entry)
        return entry

    def unmount(self, destination: str) -> None:
        """Take the mounts at and below `destination` out of the configuration."""
        self.config["mounts"] = [
            entry for entry in self.mounts if not (entry["destination"] + "/").startswith(destination + "/")
        ]

    def namespace(self, kind: str, path: str | None = None) -> None:
        """Ask for a namespace, a new one or the one of `path`."""
        self.no_namespace(kind)
        self.linux["namespaces"].append({"type": kind} | ({"path": path} if path else {}))

    def no_namespace(self, kind: str) -> None:
        self.linux["namespaces"] = [each for each in self.linux["namespaces"] if each["type"] != kind]

    def capabilities(self, names: Iterable[str], *sets: str) -> None:
        """The named sets, or without names the three usual ones, become `names`."""
        for each in sets or ("bounding", "effective", "permitted"):
            self.process["capabilities"][each] = list(names)

    def hook(self, kind: str, path: str | os.PathLike[str], *args: str, **more: Any) -> None:
        """Add a hook; `args` are its arguments after its name."""
        entry: dict[str, Any] = {"path": os.fspath(path), "args": [Path(path).name, *args], **more}
        self.config.setdefault("hooks", {}).setdefault(kind, []).append(entry)

    def script(self, name: str, text: str, inside: bool = False) -> str:
        """An executable shell script in the bundle, or in /bin of the root file system; its path for a hook."""
        place = self.rootfs / "bin" / name if inside else self.path / name
        place.write_text(f"#!/bin/sh\n{text}\n")
        place.chmod(0o755)
        return f"/bin/{name}" if inside else str(place)

    def use_probe(self) -> str:
        """Put the probe into the root file system; its path there."""
        assert self.probe is not None
        place = self.rootfs / "bin/probe"
        if not place.exists():
            os.link(self.probe, place)
        return "/bin/probe"

    def write(self) -> None:
        (self.path / "config.json").write_text(json.dumps(self.config, indent=1))
        self.written = True


def make_bundle(path: Path, busybox: Path, account: Account, probe: Path | None, maps: str = "one") -> Bundle:
    """Fill the new directory `path`. `maps`: for an ordinary user `one` id or all that the account has (`all`)."""
    path.mkdir()
    path.chmod(0o755)
    make_root(path / "rootfs", busybox)
    config = default_config()
    if account.uid:
        config["linux"]["namespaces"].append({"type": "user"})
        uids, gids = id_maps(account, maps)
        config["linux"] |= {"uidMappings": uids, "gidMappings": gids}
    return Bundle(path, config, probe)


def default_config() -> dict[str, Any]:
    """A configuration as root has it."""
    namespaces = ("pid", "network", "ipc", "uts", "mount", "cgroup")
    return copy.deepcopy(
        {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": False,
                "user": {"uid": 0, "gid": 0},
                "args": ["sh"],
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
                "cwd": "/",
                "capabilities": {each: list(CAPABILITIES) for each in ("bounding", "effective", "permitted")},
                "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
                "noNewPrivileges": True,
            },
            "root": {"path": "rootfs", "readonly": True},
            "hostname": "bundle",
            "mounts": [
                {"destination": where, "type": kind, "source": source} | ({"options": list(options)} if options else {})
                for where, kind, source, options in MOUNTS
            ],
            "linux": {
                "namespaces": [{"type": each} for each in namespaces],
                "maskedPaths": list(MASKED),
                "readonlyPaths": list(READONLY),
            },
        }
    )


def id_maps(account: Account, maps: str) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """The uid and gid mappings that make the account root inside."""
    uids = [(0, account.uid, 1)]
    gids = [(0, account.gid, 1)]
    if maps == "all":
        start, count = account.ranges[0]
        uids.append((1, start, count))
        start, count = subordinate_ids("/etc/subgid", account.name, account.uid)[0]
        gids.append((1, start, count))
    return mapping(*uids), mapping(*gids)


def mapping(*rows: tuple[int, int, int]) -> list[dict[str, int]]:
    """(inside, outside, size) as the specification writes it."""
    return [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in rows]


def make_root(root: Path, busybox: Path) -> None:
    """A root file system with a link to the program `busybox`, which must not be written to."""
    for directory in ("bin", "etc", "proc", "sys", "dev", "tmp", "root", "run", "mnt", "home/alice"):
        (root / directory).mkdir(parents=True, mode=0o755)
    (root / "tmp").chmod(0o1777)
    os.link(busybox, root / "bin/busybox")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nalice:x:1000:\n")
    (root / "test.txt").write_text("a file of the root file system\n")
