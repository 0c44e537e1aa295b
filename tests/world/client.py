"""An engine's client in the house, driven with our runtime: `podman("run", …)` as a user types it.

What a test leaves in the house is compared as the machine is (see `traces`): processes, mounts, cgroups, runtime state.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from world.account import Account, myself
from world.command import Command
from world.house import House

STATE_DIRECTORIES = ("run/jubako", "run/crun", "run/runc", "run/containerd/runc", "run/docker/runtime-runc")
"""Where runtimes keep a directory for each container, below the house's root or an account's run-time directory."""

_SETTLE_SECONDS = 5.0
_PACKAGES = "usr/local/lib/python3.13/dist-packages"


def client(house: House, account: Account | None, *argv: str) -> Command:
    """`argv` with whatever a test adds, inside the house: as root (None), or as an account."""
    return Command(account or myself(), Path("/"), (*house.prefix(account), *argv[:-1]), program=argv[-1])


def install_runtime(house: House) -> str:
    """Put the installed jubako where the house's own Python finds it; the path of its `jubako-runtime` inside."""
    command = Path(os.environ["JUBAKO_TEST_COMMAND"]).resolve()
    (package,) = command.parents[1].glob("lib/python3*/site-packages/jubako")
    shutil.copytree(package, house.path(f"{_PACKAGES}/jubako"), ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("jubako", "jubako-runtime", "rootlesskit", "rootlessctl", "rootlesskit-docker-proxy"):
        shutil.copy(command.with_name(name), house.path(f"usr/local/bin/{name}"))
    compiled = ("python3", "-m", "compileall", "-q", f"/{_PACKAGES}/jubako")
    subprocess.run((*house.prefix(), *compiled), check=True)
    return "/usr/local/bin/jubako-runtime"


# --- what is left -----------------------------------------------------------------------------------------------------


def look(house: House, accounts: tuple[Account, ...]) -> set[str]:
    """One line for each thing in the house that a test might leave behind."""
    return {*_processes(house), *_mounts(house), *_cgroups(house), *_states(house, accounts)}


def left_since(house: House, accounts: tuple[Account, ...], before: set[str]) -> list[str]:
    """What is new in the house, after a short time to settle."""
    until = time.monotonic() + _SETTLE_SECONDS
    while left := look(house, accounts) - before:
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    return sorted(left)


def _processes(house: House) -> Iterator[str]:
    proc = house.path("proc")
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        try:
            state = (proc / name / "stat").read_text(errors="replace").rpartition(") ")[2][0]
            command = (proc / name / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX" and command:
            yield f"process {name} {command[:150]}"


def _mounts(house: House) -> Iterator[str]:
    for line in Path(f"/proc/{house.pid}/mountinfo").read_text().splitlines():
        yield f"mount {line.split()[4]}"


def _cgroups(house: House) -> Iterator[str]:
    for directory, _, _ in os.walk(house.group):
        yield f"cgroup {directory.removeprefix(str(house.group))}"


def _states(house: House, accounts: tuple[Account, ...]) -> Iterator[str]:
    places = [
        *STATE_DIRECTORIES,
        *(f"{each.runtime_directory}/{Path(d).name}" for each in accounts for d in STATE_DIRECTORIES),
    ]
    for place in places:
        for path, directories, files in os.walk(house.path(place)):
            if ".cache" in directories:  # crun's translated seccomp profiles
                directories.remove(".cache")
            for name in (*directories, *files):
                yield f"state {path.removeprefix(str(house.root))}/{name}"
