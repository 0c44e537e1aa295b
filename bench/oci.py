"""`./dev bench-oci`: the OCI runtime against crun and runc, on one and the same bundle, in one run.

    python3 bench/oci.py [--rounds N] [--many N] [--json]

`run`, the whole cycle of create, start and delete, and `exec`, each with /bin/true in a busybox root: whole processes
in turns. Then many containers at once, and what a container costs that waits for its start. Started by root it measures
root's containers, else those of an ordinary user.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import warm_launcher
from measure import run
from memory import machine, proportional_memory

OURS = "jubako-runtime"
TARGETS = {("run", "runc"): 1.0, ("cycle", "crun"): 2.5, ("cycle", "runc"): 1.4, ("exec", "runc"): 1.0}
_WARM_UP = 3


@dataclass(frozen=True)
class Runtime:
    """One runtime: how its commands begin."""

    name: str
    prefix: tuple[str, ...]
    version: str

    def __call__(self, *words: str) -> tuple[str, ...]:
        return (*self.prefix, *words)


@dataclass(frozen=True)
class Series:
    """Milliseconds of one operation with one runtime."""

    operation: str
    runtime: str
    times: tuple[float, ...]

    def percentile(self, hundredth: int) -> float:
        return statistics.quantiles(self.times, n=100, method="inclusive")[hundredth - 1]


@dataclass(frozen=True)
class Many:
    """Many containers made at once, and ended at once: seconds; and the megabytes of one that waits. `failed` of them
    could not be made (a user's quota of keyrings, say)."""

    runtime: str
    failed: int
    create: float
    delete: float
    waiting: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench-oci", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=100, help="turns (100)")
    parser.add_argument("--many", type=int, default=200, help="containers at once (200)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="jubako-bench-"))
    try:
        root = warm_launcher.make_root(directory / "root")
        bundles = {name: make_bundle(directory / name, root, args) for name, args in PROGRAMS.items()}
        runtimes = find_runtimes(directory, bundles["true"])
        series = measure(runtimes, bundles, options.rounds)
        many = [make_many(runtime, bundles["true"], options.many) for runtime in runtimes]
        if options.json:
            document = {"machine": machine(), "series": [*map(asdict, series)], "many": [*map(asdict, many)]}
            print(json.dumps(document))
        else:
            report(series, many, runtimes, options.many)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


PROGRAMS = {"true": ["/bin/true"], "sleep": ["/bin/sleep", "1000"]}


def make_bundle(directory: Path, root: str, arguments: list[str]) -> Path:
    """A bundle as `runc spec` writes it, which all three understand, without a terminal."""
    directory.mkdir()
    words = ("runc", "spec", *(("--rootless",) if os.geteuid() else ()))
    subprocess.run(words, cwd=directory, check=True, capture_output=True)
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["process"].update(terminal=False, args=arguments)
    config["root"] = {"path": root, "readonly": True}
    path.write_text(json.dumps(config))
    return directory


def find_runtimes(directory: Path, bundle: Path) -> list[Runtime]:
    """Those that are there and can run the bundle; ours has to."""
    found = []
    for name in (OURS, "crun", "runc"):
        path = shutil.which(name)
        if path is None:
            continue
        for flags in (("--cgroup-manager=disabled",), ()) if name == "crun" and os.geteuid() else ((),):
            prefix = (path, "--root", f"{directory}/{name}-state", *flags)
            words = (*prefix, "run", "--bundle", str(bundle), "trial")
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.returncode == 0:
                said = subprocess.run((path, "--version"), capture_output=True, text=True).stdout.split()
                found.append(Runtime(name, prefix, next((word for word in said if word[:1].isdigit()), "")))
                break
        else:
            print(f"{name} is left out: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}", file=sys.stderr)
    return found


def measure(runtimes: Sequence[Runtime], bundles: dict[str, Path], rounds: int) -> list[Series]:
    """All operations with all runtimes, in turns."""
    times: dict[tuple[str, str], list[float]] = {}
    environment = dict(os.environ)
    for runtime in runtimes:
        start_detached(runtime, bundles["sleep"], "stays")
    try:
        for turn in range(rounds + _WARM_UP):
            for runtime in runtimes:
                bundle = str(bundles["true"])
                taken = {
                    "run": run(runtime("run", "--bundle", bundle, f"r{turn}"), environment),
                    "create": run(runtime("create", "--bundle", bundle, f"c{turn}"), environment),
                    "start": run(runtime("start", f"c{turn}"), environment),
                    "delete": run(runtime("delete", "--force", f"c{turn}"), environment),
                    "exec": run(runtime("exec", "stays", "/bin/true"), environment),
                }
                taken["cycle"] = taken["create"] + taken["start"] + taken["delete"]
                if turn >= _WARM_UP:
                    for operation, value in taken.items():
                        times.setdefault((operation, runtime.name), []).append(value)
    finally:
        for runtime in runtimes:
            subprocess.run(runtime("delete", "--force", "stays"), capture_output=True)
    return [Series(operation, name, tuple(values)) for (operation, name), values in times.items()]


def start_detached(runtime: Runtime, bundle: Path, identifier: str) -> None:
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    words = runtime("run", "--detach", "--bundle", str(bundle), identifier)
    subprocess.run(words, check=True, **quiet)  # type: ignore[call-overload]


def make_many(runtime: Runtime, bundle: Path, count: int) -> Many:
    """`count` containers created at once, each by a process of its own, and all deleted at once."""
    names = [f"m{number}" for number in range(count)]
    files = {name: bundle / f"{name}.pid" for name in names}
    words = [("create", "--bundle", str(bundle), "--pid-file", str(file), name) for name, file in files.items()]
    create, failed = together([runtime(*each) for each in words])
    pids = [int(file.read_text()) for file in files.values() if file.exists()]
    waiting = sum(proportional_memory(pid) for pid in pids) / max(1, len(pids))
    delete, _failed = together([runtime("delete", "--force", name) for name in names])
    for file in files.values():
        file.unlink(missing_ok=True)
    return Many(runtime.name, failed, create, delete, waiting)


def together(commands: Sequence[tuple[str, ...]]) -> tuple[float, int]:
    """Seconds for all of them side by side, and how many failed."""
    began = time.perf_counter()
    null = subprocess.DEVNULL
    running = [subprocess.Popen(words, stdin=null, stdout=null, stderr=null) for words in commands]
    failed = sum(process.wait() != 0 for process in running)
    return time.perf_counter() - began, failed


def report(series: list[Series], many: list[Many], runtimes: Sequence[Runtime], count: int) -> None:
    who = "an ordinary user" if os.geteuid() else "root"
    print(f"{machine()}, Python {sys.version.split()[0]}, as {who}")
    print(", ".join(f"{runtime.name} {runtime.version}" for runtime in runtimes), end="\n\n")
    found = {(one.operation, one.runtime): one for one in series}
    print(f"{'milliseconds':10}" + "".join(f"{runtime.name + ' p50':>20}{'p99':>8}" for runtime in runtimes))
    for operation in ("run", "create", "start", "delete", "cycle", "exec"):
        cells = [found[operation, runtime.name] for runtime in runtimes]
        print(f"{operation:10}" + "".join(f"{one.percentile(50):20.1f}{one.percentile(99):8.1f}" for one in cells))
    print(f"\n{count} at once")
    for one in many:
        size = "hidden" if one.waiting != one.waiting else f"{one.waiting:.1f} MB"
        lost = f", but {one.failed} could not be made" if one.failed else ""
        print(f"{one.runtime:16} create {one.create:6.2f} s   delete {one.delete:6.2f} s   waiting: {size} each{lost}")
    print(f"\n{'':28} {'measured':>9} {'at most':>9}")
    for (operation, peer), most in TARGETS.items():
        if (operation, peer) not in found:
            continue
        ratio = found[operation, OURS].percentile(50) / found[operation, peer].percentile(50)
        verdict = "reached" if ratio <= most else f"missed by {ratio / most - 1:.0%}"
        print(f"{f'{operation}: {OURS} / {peer}':28} {ratio:9.2f} {most:9.2f}   {verdict}")


if __name__ == "__main__":
    main()
