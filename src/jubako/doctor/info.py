"""What `jubako info` tells: what this jubako is, what it chose on this machine, and why.

Each choice is an object with `name` and `why`. What cannot be read is tried, as the doctor does it.
"""

from __future__ import annotations

import os
import sys

from jubako import __version__
from jubako.doctor import ids, storage
from jubako.doctor.cgroups import WANTED, delegated_group, groups_of
from jubako.doctor.host import Host
from jubako.doctor.kernel import CALLS
from jubako.doctor.programs import find
from jubako.errors import JubakoError
from jubako.ids import base as bases
from jubako.paths import Paths, find_paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WRITERS = {
    bases.WITH_HELPERS: "the account has subordinate ids, and newuidmap and newgidmap have the power to map them",
    bases.DIRECTLY: "a privileged account writes its maps itself",
    bases.SINGLE: "an id of one's own is all that may be mapped without subordinate ids or newuidmap",
}


def gather(host: Host | None = None, paths: Paths | None = None) -> dict[str, Any]:
    """Everything, as plain data for `--json` and templates."""
    machine = Host() if host is None else host
    places = find_paths() if paths is None else paths
    answers = bool(machine.nearest(machine.store))
    return {
        "version": _version(machine),
        "user": {"name": machine.user, "uid": machine.uid, "gid": machine.gid, "rootless": machine.uid != 0},
        "ids": id_choice(machine),
        "storage": storage_choice(machine),
        "network": network_choice(machine),
        "cgroups": cgroup_choice(machine),
        "seccomp": seccomp_choice(machine),
        "security": _security(machine),
        "paths": {"data": places.data, "run": places.run, "cache": places.cache},
        "images": {"total": count_images(places) if answers else 0},
        "containers": count_containers(places) if answers else {"total": 0},
        "features": _features(machine),
    }


def _version(host: Host) -> dict[str, str]:
    return {
        "jubako": __version__,
        "python": sys.version.split()[0],
        "interpreter": sys.executable,
        "kernel": host.release,
        "machine": host.machine,
        "distribution": _distribution(host),
    }


def _distribution(host: Host) -> str:
    for line in (host.read("/etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip("\"'")
    return "unknown"


def id_choice(host: Host) -> dict[str, Any]:
    """The base user namespace's maps, and who writes them."""
    try:
        chosen = ids.base_ids(host)
    except JubakoError as failure:
        return {"name": "none", "why": str(failure).splitlines()[0], "uid_map": [], "gid_map": [], "lost": []}
    return {
        "name": chosen.writer,
        "why": _WRITERS[chosen.writer],
        "uid_map": chosen.uids.text().split("\n")[: len(chosen.uids.entries)],
        "gid_map": chosen.gids.text().split("\n")[: len(chosen.gids.entries)],
        "lost": [str(loss) for loss in chosen.lost],
    }


def storage_choice(host: Host) -> dict[str, Any]:
    """How layers are stacked: the first that works of overlay, fuse-overlayfs and copy."""
    place = host.nearest(host.store)
    below, trial = storage.file_system_of(host, place)
    found: dict[str, Any] = {
        "path": host.store,
        "file_system": below.name if below else str(trial),
        "free_bytes": below.free if below else 0,
    }
    checked = storage.overlay(host)
    tried = host.attempt("overlay")
    why = checked.evidence[-1] if tried.ok else str(tried)
    fuse = find(host, "fuse-overlayfs")
    if checked.status == "ok":
        return {"name": "overlay", "why": "the kernel's overlay works in a user namespace here", **found}
    if fuse and host.attempt("open_device", host.path("/dev/fuse")).ok:
        return {
            "name": "fuse-overlayfs",
            "why": f"{fuse} is there, and the kernel's overlay is not usable: {why}",
            **found,
        }
    return {"name": "copy", "why": f"neither overlay ({why}) nor fuse-overlayfs can be used", **found}


def network_choice(host: Host) -> dict[str, Any]:
    """The network of a container where nothing is asked, and what else may be asked for."""
    joined = host.attempt("namespace", "network")
    drivers = [
        {"name": "none", "available": joined.ok, "why": "a loopback device only" if joined.ok else str(joined)},
        {"name": "host", "available": True, "why": "the host's own network; needs nothing"},
        {"name": "container:NAME", "available": True, "why": "the network of another container of this account"},
        {"name": "ns:PATH", "available": True, "why": "a network namespace that a file names"},
    ]
    return {
        "name": "none",
        "why": "the default: a container reaches nothing unless it is asked for",
        "drivers": drivers,
    }


def cgroup_choice(host: Host) -> dict[str, Any]:
    """Who makes a container's control group, and which controllers it may use."""
    groups = groups_of(host)
    found: dict[str, Any] = {"version": groups.version, "own": groups.own, "controllers": []}
    if not groups.mount:
        return {"name": "none", "why": f"no version 2 hierarchy is mounted ({groups.version})", **found}
    place = delegated_group(host)
    if not place and host.exists(f"/run/user/{host.uid}/systemd/private"):
        return {"name": "systemd", "why": "the account's systemd manager gives a scope", **found}
    if not place:
        return {
            "name": "none",
            "why": f"{groups.own} is not writable by uid {host.uid}: limits and pause are refused",
            **found,
        }
    controllers = (host.read(f"{place}/cgroup.controllers") or "").split()
    missing = [controller for controller in WANTED if controller not in controllers]
    lacks = f", which lacks {' '.join(missing)}" if missing else ""
    return {
        "name": "cgroupfs",
        "why": f"groups may be made below {place}{lacks}",
        **found,
        "own": place,
        "controllers": controllers,
    }


def seccomp_choice(host: Host) -> dict[str, Any]:
    """Which filter containers get, and what compiles those of one's own."""
    there = host.attempt("system_call", "seccomp")
    library = host.attempt("libseccomp", "libseccomp.so.2")
    from jubako.plan.seccomp import shipped_path

    shipped = shipped_path(host.machine, "strict")
    path = shipped if os.path.exists(shipped) else ""
    return {
        "name": "default" if there.ok else "none",
        "why": "the shipped profile, compiled for this processor"
        if path
        else "the shipped profile"
        if there.ok
        else str(there),
        "compiled": path,
        "libseccomp": library.detail if library.ok else "",
        "profiles": "of one's own too" if library.ok else f"only the shipped one ({library})",
    }


def _security(host: Host) -> dict[str, Any]:
    landlock = host.attempt("system_call", "landlock_create_ruleset")
    return {
        "apparmor": (host.read("/sys/module/apparmor/parameters/enabled") or "N").strip() == "Y",
        "selinux": (host.read("/sys/fs/selinux/enforce") or "").strip() == "1",
        "landlock": landlock.detail.removeprefix("there ").strip("()") if landlock.ok else "",
        "no_new_privileges": host.status("NoNewPrivs") == "1",
    }


def _features(host: Host) -> dict[str, bool]:
    """What the kernel lets this account do, each really tried."""
    found = {call.name: host.attempt("system_call", call.name).ok for call in CALLS}
    found["user_namespace"] = host.attempt("user_namespace").ok
    found["time_namespace"] = host.attempt("namespace", "time").ok
    found["overlay_in_user_namespace"] = host.attempt("overlay").ok
    path = (host.nearest(host.store) or "/") if host.uid == 0 else ""
    found["idmapped_mounts"] = host.attempt("idmapped_mount", path).ok
    return found


def count_images(paths: Paths) -> int:
    """How many images are in the store."""
    from jubako.image.resolve import list_ids

    try:
        return len(list_ids(paths))
    except (OSError, JubakoError):
        return 0


def count_containers(paths: Paths) -> dict[str, int]:
    """How many containers there are, by their status."""
    names = _entries(paths.containers)
    found = {"total": len(names), "running": 0}
    for name in names:
        status = _status(f"{paths.containers}/{name}")
        found[status] = found.get(status, 0) + 1
    return found


def _status(_directory: str) -> str:
    return "unknown"


def _entries(directory: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except OSError:
        return []
