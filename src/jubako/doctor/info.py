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
from jubako.engine.cgroups import find_parent
from jubako.errors import JubakoError
from jubako.ids import base_ids
from jubako.image.storage import StorageFacts, choose_storage
from jubako.linux.cgroup import is_frozen
from jubako.paths import Paths, find_paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WRITERS = {
    base_ids.WITH_HELPERS: "the account has subordinate ids, and newuidmap and newgidmap have the power to map them",
    base_ids.DIRECTLY: "a privileged account writes its maps itself",
    base_ids.SINGLE: "an id of one's own is all that may be mapped without subordinate ids or newuidmap",
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
    tried = host.attempt("overlay")
    checked = storage.overlay(host)
    obstacle = "" if checked.status == "ok" else str(tried) if not tried.ok else checked.evidence[-1]
    program = find(host, "fuse-overlayfs") or ""
    fuse = host.attempt("open_device", host.path("/dev/fuse"))
    fuse_obstacle = "" if program and fuse.ok else str(fuse) if program else "the program is not installed"
    chosen = choose_storage(StorageFacts(obstacle, program, fuse_obstacle))
    return {"name": chosen.kind, "why": chosen.reason, **found}


def network_choice(host: Host) -> dict[str, Any]:
    """The network of a container where nothing is asked, and what else may be asked for."""
    from jubako.net.choose import default_driver

    joined = host.attempt("namespace", "network")
    programs = (("pasta", "passt"), ("slirp4netns", "slirp4netns"), ("lxc-user-nic", "lxc"), ("vpnkit", "vpnkit"))
    found = {program: find(host, program) for program, _package in programs}
    if not joined.ok:
        name, why = "none", str(joined)
    elif host.root == "/":
        name, why = default_driver()
    else:
        name = next((program for program in ("pasta", "slirp4netns") if found[program]), "proxy")
        why = found[name] or "" if name != "proxy" else "neither pasta nor slirp4netns is installed"
    filters = find(host, "nft") or find(host, "iptables")
    uplink = found["pasta"] or found["slirp4netns"]
    drivers = [
        {
            "name": "bridge",
            "available": bool(filters),
            "why": f"{filters} for its rules, {uplink or 'nothing'} for its way out" if filters else "install nftables",
        },
        *(
            {"name": program, "available": bool(found[program]), "why": found[program] or f"install {package}"}
            for program, package in programs
        ),
        {"name": "proxy", "available": joined.ok, "why": "jubako's own: only what --allow names can be reached"},
        {"name": "none", "available": joined.ok, "why": "a loopback device only" if joined.ok else str(joined)},
        {"name": "host", "available": True, "why": "the host's own network; needs nothing"},
        {"name": "container:NAME", "available": True, "why": "the network of another container of this account"},
        {"name": "ns:PATH", "available": True, "why": "a network namespace that a file names"},
    ]
    asked = os.environ.get("JUBAKO_NETWORK", "")
    if asked and asked != "default":
        name, why = asked, "JUBAKO_NETWORK says so"
    return {"name": name, "why": f"the default of 'jubako run': {why}", "drivers": drivers}


def cgroup_choice(host: Host) -> dict[str, Any]:
    """Who makes a container's control group, and which controllers it may use."""
    groups = groups_of(host)
    found: dict[str, Any] = {"version": groups.version, "own": groups.own, "controllers": []}
    place, reason = _parent_group(host)
    if not place:
        return {"name": "none", "why": f"{reason}: limits and pause are refused", **found}
    controllers = (host.read(f"{place}/cgroup.controllers") or "").split()
    missing = [controller for controller in WANTED if controller not in controllers]
    lacks = f"; not delegated: {' '.join(missing)}" if missing else ""
    return {"name": "cgroupfs", "why": f"{reason}{lacks}", **found, "own": place, "controllers": controllers}


def _parent_group(host: Host) -> tuple[str, str]:
    if host.root == "/" and host.uid == os.getuid():
        return find_parent()
    place = delegated_group(host)
    if place:
        return place, "below the caller's own group, which this user may write"
    return "", f"{groups_of(host).own} is not writable by uid {host.uid}"


def seccomp_choice(host: Host) -> dict[str, Any]:
    """Which filter containers get, and what compiles those of one's own."""
    there = host.attempt("system_call", "seccomp")
    library = host.attempt("libseccomp", "libseccomp.so.2")
    from jubako.plan.shipped_filters import shipped_path

    path = shipped_path(host.machine, "")
    compiled = os.path.exists(path)
    why = f"the shipped profile, compiled for {host.machine}" if compiled else "the shipped profile"
    return {
        "name": "default" if there.ok else "none",
        "why": why if there.ok else str(there),
        "compiled": path if compiled else "",
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
    """How many containers there are, all and by their status."""
    from jubako.engine.store import list_containers

    try:
        containers = list_containers(paths)
    except (OSError, JubakoError):
        containers = []
    found = {"total": len(containers), "running": 0, "paused": 0}
    for container in containers:
        status = "paused" if is_frozen(str(container.document.get("cgroup", ""))) else container.state.status
        found[status] = found.get(status, 0) + 1
    return found
