"""A small root file system, made from the machine's static busybox."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from world import programs

DIRECTORIES = (
    *("bin", "sbin", "usr/bin", "usr/sbin", "etc", "home/alice", "root", "tmp", "var/tmp"),
    *("proc", "sys", "dev", "run", "mnt"),
)
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
alice:x:1000:1000:Alice:/home/alice:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
GROUP = """\
root:x:0:
daemon:x:1:
wheel:x:10:alice
audio:x:29:alice,daemon
alice:x:1000:
nogroup:x:65534:
"""


def make_busybox_rootfs(root: Path) -> Path:
    """Fill `root` with busybox, a link for each of its applets, users and groups; owned by the caller, writable."""
    busybox = static_busybox()
    for directory in DIRECTORIES:
        (root / directory).mkdir(parents=True)
    for directory in ("tmp", "var/tmp"):
        (root / directory).chmod(0o1777)
    shutil.copy(busybox, root / "bin/busybox")
    (root / "bin/busybox").chmod(0o755)
    applets = subprocess.run((busybox, "--list-full"), capture_output=True, text=True, check=True).stdout.split()
    for applet in applets:
        link = root / applet
        if link.parent.is_dir() and not os.path.lexists(link):
            link.symlink_to(os.path.relpath(root / "bin/busybox", link.parent))
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    (root / "etc/hostname").write_text("from-the-image\n")
    (root / "test.txt").write_text("a file of the root file system\n")
    return root


def static_busybox() -> str:
    for name in ("busybox", "busybox.static", "busybox-static"):
        path = programs.find(name)
        if path is not None and b"/ld-linux" not in Path(path).read_bytes()[:4096]:
            return path
    return programs.require("static busybox", "busybox-static")


def copy_with_libraries(program: str, root: Path) -> None:
    """What the walkthrough does by hand: the program to /bin, and the libraries that ldd(1) names to their places."""
    (root / "bin").mkdir(exist_ok=True, parents=True)
    shutil.copy(program, root / "bin")
    said = subprocess.run(("ldd", program), capture_output=True, text=True, check=True).stdout
    for word in said.split():
        if word.startswith("/"):
            place = root / word.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, place)
