#!/usr/bin/env python3
"""A container from a warm launcher against `bwrap` with the same namespaces and mounts, in one run, as a ratio.

    python3 bench/warm_launcher.py [--rounds 200] [--rootfs DIR]

All run /bin/true of the same busybox root in new user, mount, pid, network, ipc, uts and cgroup namespaces. `bwrap`
has /proc, /dev and the root only; `bwrap, all the same` has what a container of jubako has: /sys, shm, mqueue, the
three files of /etc, each masked and read-only path, and the same system call filter. Timed is all of it: from the
request (for bwrap: from posix_spawn of the program, which makes no copy of this process) to the exit code. They
alternate, so that noise meets all alike. CPU is what processors spent on it; it is counted for all of the launcher's
processes, but for bwrap only without those of the container that the kernel reaps.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jubako
from jubako.spec.defaults import MASKED_PATHS, READONLY_PATHS

BWRAP = (
    "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--uid", "0", "--gid", "0", "--cap-drop", "ALL",
    "--hostname", "box", "--chdir", "/", "--bind", "{root}", "/", "--proc", "/proc", "--dev", "/dev",
)  # fmt: skip
SAME = "bwrap, all the same"
FILTER = 9
"""The descriptor that bwrap reads the filter from."""
FILTER_FILE = f"{os.path.dirname(jubako.__file__)}/data/seccomp/{os.uname().machine}.bpf"
FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--rootfs", help="a root file system with /bin/true; one of busybox is made otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jubako-bench-") as directory:
        root = options.rootfs or make_root(Path(directory))
        report(measure(root, options.rounds))


def make_root(directory: Path) -> str:
    """A busybox root file system."""
    busybox = shutil.which("busybox")
    if busybox is None:
        sys.exit("busybox is needed (package busybox-static), or --rootfs")
    for name in ("bin", "dev", "proc", "sys", "tmp", "etc"):
        (directory / name).mkdir(parents=True)
    for path in FILES:
        (directory / path[1:]).touch()
    shutil.copy(busybox, directory / "bin/busybox")
    for name in ("sh", "true", "sleep"):
        (directory / "bin" / name).symlink_to("busybox")
    return str(directory)


def measure(root: str, rounds: int) -> dict[str, Series]:
    """The series by name."""
    program = shutil.which("bwrap")
    if program is None:
        sys.exit("bwrap is needed (package bubblewrap)")
    small = [*(word.format(root=root) for word in BWRAP), "/bin/true"]
    same = [*small[:-1], *same_mounts(), "--seccomp", str(FILTER), "/bin/true"]
    null = os.open("/dev/null", os.O_RDWR)
    with jubako.Sandbox(rootfs=root) as sandbox:

        def run_in_sandbox() -> None:
            result = sandbox.run(["/bin/true"], stdin=null, stdout=null, stderr=null)
            assert result.exit_code == 0, result

        every = {
            "bwrap": Series(lambda: spawn(program, small), cpu_of_children),
            SAME: Series(lambda: spawn(program, same), cpu_of_children),
            "jubako, warm launcher": Series(run_in_sandbox, lambda: cpu_of(sandbox.launcher_pid)),
            "/bin/true alone": Series(lambda: spawn(f"{root}/bin/busybox", ["true"]), cpu_of_children),
        }
        for _round in range(5):
            for series in every.values():
                series.work()
        for _round in range(rounds):
            for series in every.values():
                series.measure()
    os.close(null)
    return every


class Series:
    """Times of one kind of work, in milliseconds."""

    def __init__(self, work: Callable[[], None], cpu: Callable[[], float]) -> None:
        self.work = work
        self.cpu = cpu
        self.times: list[float] = []
        self.spent = 0.0

    def measure(self) -> None:
        """Do the work once."""
        spent = self.cpu() + time.process_time()
        began = time.perf_counter()
        self.work()
        self.times.append((time.perf_counter() - began) * 1000)
        self.spent += (self.cpu() + time.process_time() - spent) * 1000


def same_mounts() -> list[str]:
    """The mounts that a container of jubako has besides, in bwrap's words."""
    words = ["--ro-bind", "/sys", "/sys", "--tmpfs", "/dev/shm", "--mqueue", "/dev/mqueue", "--tmpfs", "/sys/fs/cgroup"]
    for path in FILES:
        words += ["--ro-bind", "/etc/hosts", path]
    for path in READONLY_PATHS:
        if os.path.exists(path):
            words += ["--ro-bind", path, path]
    for path in MASKED_PATHS:
        if os.path.isdir(path):
            words += ["--tmpfs", path]
        elif os.path.exists(path):
            words += ["--ro-bind", "/dev/null", path]
    return words


def cpu_of_children() -> float:
    """Seconds of CPU that this process's ended children took."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def cpu_of(pid: int) -> float:
    """Seconds of CPU that process `pid` and its ended children took (proc(5), in ticks: good on average only)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def spawn(program: str, arguments: list[str]) -> None:
    opened = [(os.POSIX_SPAWN_OPEN, FILTER, FILTER_FILE, os.O_RDONLY, 0)]
    pid = os.posix_spawn(program, arguments, os.environ, file_actions=opened)
    _pid, status = os.waitpid(pid, 0)
    assert status == 0, f"{program}: {status}"


def report(every: dict[str, Series]) -> None:
    base = statistics.median(every[SAME].times)
    print(f"{'':24} {'median':>8} {'mean':>8} {'best':>8} {'CPU':>8}   median, of bwrap with all the same")
    for name, series in every.items():
        middle, count = statistics.median(series.times), len(series.times)
        mean, best = statistics.mean(series.times), min(series.times)
        print(f"{name:24} {middle:8.2f} {mean:8.2f} {best:8.2f} {series.spent / count:8.2f}   {middle / base:.2f}")


if __name__ == "__main__":
    main()
