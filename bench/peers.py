"""The programs that jubako is compared with, each made to run /bin/true in the same root file system.

Each has a few ways to be called, since machines differ (cgroup v1 and v2, with and without delegation); the first that
works is measured, and one that does not work is left out with the reason that it gave.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from warm_launcher import BWRAP, same_mounts


@dataclass(frozen=True)
class Peer:
    """A program to compare with: how it is called, or why it cannot be."""

    name: str
    argv: tuple[str, ...] = ()
    version: str = ""
    missing: str = ""


def find_peers(root: str, directory: Path, environment: Mapping[str, str]) -> list[Peer]:
    """All of them, tried once."""
    ways = {
        "bwrap, same mounts": [(*(word.format(root=root) for word in BWRAP), *same_mounts(), "/bin/true")],
        "crun run": list(_runtime("crun", root, directory, (("--cgroup-manager=disabled",), ()))),
        "runc run": list(_runtime("runc", root, directory, ((),))),
        "podman run --network none": list(_podman(root, directory)),
    }
    return [_first_that_works(name, calls, environment) for name, calls in ways.items()]


def _first_that_works(name: str, calls: list[tuple[str, ...]], environment: Mapping[str, str]) -> Peer:
    program = name.replace(",", "").split()[0]
    if shutil.which(program, path=environment.get("PATH")) is None:
        return Peer(name, missing="not installed")
    reason = ""
    for argv in calls:
        done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode == 0:
            return Peer(name, argv, _version(program, environment))
        reason = reason or (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return Peer(name, missing=reason)


def _version(program: str, environment: Mapping[str, str]) -> str:
    said = subprocess.run((program, "--version"), env=environment, capture_output=True, text=True).stdout
    return next((word for word in said.replace(",", " ").split() if word[:1].isdigit()), "")


def _runtime(program: str, root: str, directory: Path, flags: tuple[tuple[str, ...], ...]) -> Iterator[tuple[str, ...]]:
    """An OCI runtime on a bundle of its own, as its `spec --rootless` writes it, but with /bin/true and no terminal."""
    bundle = directory / program
    bundle.mkdir()
    if shutil.which(program) is None:
        return
    subprocess.run((program, "spec", "--rootless"), cwd=bundle, check=True, capture_output=True)
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    config["process"].update(terminal=False, args=["/bin/true"])
    config["root"] = {"path": root, "readonly": False}
    path.write_text(json.dumps(config))
    for given in flags:
        places = ("--root", f"{directory}/{program}-state", *given)
        yield (program, *places, "run", "--bundle", str(bundle), f"bench-{os.getpid()}")


def _podman(root: str, directory: Path) -> Iterator[tuple[str, ...]]:
    places = (
        "podman",
        "--root",
        f"{directory}/podman",
        "--runroot",
        f"{directory}/podman-run",
        "--storage-driver",
        "vfs",
    )
    for runtime in (("--runtime", "crun", "--cgroup-manager", "cgroupfs"), ("--runtime", "runc"), ()):
        for cgroups in (("--cgroups=disabled",), ()):
            run = ("run", "--rm", "--network", "none", *cgroups, "--rootfs", root, "/bin/true")
            yield (*places, "--storage-driver", "vfs", *runtime, *run)


def end_podman(directory: Path, environment: Mapping[str, str]) -> None:
    """End podman's pause process, which belongs to this run's directories, and what it kept with other owners."""
    if shutil.which("podman") is None:
        return
    for words in (("unshare", "rm", "-rf", f"{directory}/podman", f"{directory}/podman-run"), ("system", "migrate")):
        places = ("podman", "--root", f"{directory}/podman-end", "--runroot", f"{directory}/podman-end-run")
        subprocess.run((*places, *words), env=environment, stdin=subprocess.DEVNULL, capture_output=True)
