"""`./dev bench`: the ratios that jubako is to reach, measured in one run.

    python3 bench [--rounds N] [--warm-rounds N] [--json]

A container that runs /bin/true in a busybox root, as an ordinary user: `jubako run` as it is installed against bwrap,
crun, runc and podman, whole processes in turns; the warm launcher against bwrap; and the memory of a detached
container's supervisor. Absolute times say little on a shared machine; the ratios of one run do.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import warm_launcher
from measure import Times, take_turns
from memory import machine, supervisor_cost
from peers import Peer, end_podman, find_peers
from warm_launcher import SAME, Series

COMMAND = "jubako run"
BARE = "python3 -I -S -c pass"
TARGETS = {"crun run": 2.5, "podman run --network none": 0.3}
WARM_TARGET = 0.8
MEMORY_TARGET = 12.0  # MB


@dataclass(frozen=True)
class Figure:
    """One line of the table: a ratio or a size, with what it is to be at most."""

    what: str
    value: float
    target: float
    unit: str = ""

    @property
    def verdict(self) -> str:
        if self.value <= self.target:
            return "reached"
        return f"missed by {self.value / self.target - 1:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=40, help="turns of whole processes (40)")
    parser.add_argument("--warm-rounds", type=int, default=200, help="turns of the warm launcher (200)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if os.geteuid() == 0:
        sys.exit("bench: as an ordinary user, please: ./dev bench changes to one")
    installed = shutil.which("jubako")
    if installed is None:
        sys.exit("bench: jubako is not installed: use ./dev bench")
    directory = Path(tempfile.mkdtemp(prefix="jubako-bench-"))
    # podman's pause process keeps a mount namespace: one of this run's own sees what this run sees.
    runtime = directory / "run"
    runtime.mkdir(mode=0o700)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
    own = {**os.environ, "JUBAKO_ROOT": f"{directory}/data", "JUBAKO_RUN": f"{directory}/jubako"}
    try:
        root = warm_launcher.make_root(directory / "root")
        peers = find_peers(root, directory, environment)
        commands = {COMMAND: (installed, "run", "--rm", "--network", "none", "--rootfs", root, "/bin/true")}
        commands |= {peer.name: peer.argv for peer in peers if not peer.missing}
        commands[BARE] = (sys.executable, "-I", "-S", "-c", "pass")
        times = take_turns(commands, options.rounds, {**environment, **own})
        os.environ.update(own)
        warm = warm_launcher.measure(root, options.warm_rounds)
        cost = supervisor_cost(installed, root, own)
        if options.json:
            print(json.dumps(as_document(times, peers, warm, dataclasses.asdict(cost)), indent=2))
        else:
            report(times, peers, warm, cost.proportional, cost.alone)
    finally:
        subprocess.run((installed, "system", "shutdown"), env=own, capture_output=True)
        end_podman(directory, environment)
        shutil.rmtree(directory, ignore_errors=True)


def figures(times: dict[str, Times], warm: dict[str, Series], megabytes: float) -> list[Figure]:
    """What the issue of speed and memory is decided by."""
    found = [
        Figure(f"{COMMAND} / {name}", times[COMMAND].median / times[name].median, target)
        for name, target in TARGETS.items()
        if name in times
    ]
    launched, bwrap = (Times(name, tuple(warm[name].times)) for name in ("jubako, warm launcher", SAME))
    found.append(Figure(f"warm launcher / {SAME}", launched.median / bwrap.median, WARM_TARGET))
    found.append(Figure("a detached container's supervisor", megabytes, MEMORY_TARGET, " MB"))
    return found


def report(times: dict[str, Times], peers: list[Peer], warm: dict[str, Series], megabytes: float, alone: float) -> None:
    print(f"{machine()}, Python {sys.version.split()[0]}", end="\n\n")
    versions = {peer.name: peer.version for peer in peers}
    columns = f"{'version':>9} {'median ms':>10} {'quartiles':>14} {'best':>6}"
    print(f"{'whole process, /bin/true':28} {columns}   jubako run / it")
    for name, measured in times.items():
        low, high = measured.quartiles
        ratio = f"{times[COMMAND].median / measured.median:.2f}, best {times[COMMAND].best / measured.best:.2f}"
        ratio = "" if name == COMMAND else ratio
        spread = f"{low:.1f} to {high:.1f}"
        columns = f"{versions.get(name, ''):>9} {measured.median:10.1f} {spread:>14} {measured.best:6.1f}"
        print(f"{name:28} {columns}   {ratio}")
    for peer in peers:
        if peer.missing:
            print(f"{peer.name:28} left out: {peer.missing}")
    print("\nfrom a warm launcher")
    warm_launcher.report(warm)
    print(f"\n{'':36} {'measured':>9} {'at most':>9}")
    for figure in figures(times, warm, megabytes):
        measured, most = (f"{value:6.2f}{figure.unit:3}" for value in (figure.value, figure.target))
        print(f"{figure.what:36} {measured} {most}   {figure.verdict}")
    print(f"(the supervisor is of {alone:.1f} MB where it shares the interpreter with nobody)")


def as_document(
    times: dict[str, Times], peers: list[Peer], warm: dict[str, Series], cost: dict[str, float]
) -> dict[str, object]:
    """All of it, for programs."""
    return {
        "machine": machine(),
        "python": sys.version.split()[0],
        "milliseconds": {name: sorted(measured.times) for name, measured in times.items()},
        "warm_milliseconds": {name: sorted(series.times) for name, series in warm.items()},
        "supervisor_megabytes": cost,
        "peers": [dataclasses.asdict(peer) for peer in peers],
        "figures": [
            {**dataclasses.asdict(figure), "verdict": figure.verdict}
            for figure in figures(times, warm, cost["proportional"])
        ],
    }


if __name__ == "__main__":
    main()
