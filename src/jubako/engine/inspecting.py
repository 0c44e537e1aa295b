"""`inspect`: a container as docker and podman describe one, under the same names, with what only we know at the end."""

from __future__ import annotations

from datetime import UTC, datetime

from jubako.engine import store
from jubako.engine.launch import read_request
from jubako.paths import Paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.engine.extras import ContainerExtras
    from jubako.spec.types import Mount, Spec

_NEVER = "0001-01-01T00:00:00Z"  # Go's zero time, which clients of docker expect


def inspect_container(paths: Paths, container: store.Container) -> dict[str, Any]:
    """Everything known of the container."""
    document, state = container.document, container.state
    request = read_request(container)
    spec, extras = request.spec, request.extras
    command = [str(word) for word in document["command"]]
    return {
        "Id": container.id,
        "Name": container.name,
        "Created": _moment(state.created),
        "Path": command[0] if command else "",
        "Args": command[1:],
        "State": _state(state),
        "Image": document["image_id"],
        "ImageName": document["image"],
        "LogPath": container.directory + "/log" if document["log"] else "",
        "HostnamePath": store.run_directory(paths, container.id) + "/hostname" if container.running else "",
        "Driver": extras.root.kind,
        "Config": _config(document, spec, extras),
        "HostConfig": _host_config(document, spec, extras),
        "NetworkSettings": _network(paths, container, extras),
        "Mounts": [_mount(mount) for mount in spec.mounts if mount.type == "bind" or "bind" in mount.options],
        "Jubako": {
            "Directory": container.directory,
            "RunDirectory": store.run_directory(paths, container.id),
            "RootKind": extras.root.kind,
            "RootPath": extras.root.path,
            "Cgroup": state.cgroup,
            "SupervisorPid": state.monitor,
            "Namespaces": {each.type: each.path or "private" for each in spec.linux.namespaces},
            "Ids": document.get("ids"),
        },
    }


def _network(paths: Paths, container: store.Container, extras: ContainerExtras) -> dict[str, Any]:
    """How the container is connected now, under docker's names; the rest is ours."""
    if extras.network is None:
        return {"Ports": {}}
    asked = extras.network.options
    found: dict[str, Any] = {"Driver": asked.driver, "Ports": {}}
    if not container.running:
        return found
    from jubako.engine.ports import network_status, published_ports
    from jubako.errors import JubakoError

    for port in published_ports(paths, container):
        at = found["Ports"].setdefault(f"{port.port}/{port.protocol}", [])
        at.append({"HostIp": port.host_address or "0.0.0.0", "HostPort": str(port.host_port)})
    try:
        status = network_status(paths, container)
    except JubakoError:  # it ends just now
        return found
    if status["Driver"] == "proxy":
        from jubako.net.proxy.tally import read_status

        status["Proxy"] = read_status(store.run_directory(paths, container.id))
    return {**found, **status}


def _state(state: store.State) -> dict[str, Any]:
    return {
        "Status": state.status,
        "Running": state.status in (store.RUNNING, store.PAUSED),
        "Paused": state.status == store.PAUSED,
        "Pid": state.pid,
        "ExitCode": max(state.exit_code, 0),
        "Error": state.error,
        "StartedAt": _moment(state.started),
        "FinishedAt": _moment(state.finished),
    }


def _config(document: dict[str, Any], spec: Spec, extras: ContainerExtras) -> dict[str, Any]:
    process = spec.process
    user = process.user
    return {
        "Hostname": spec.hostname,
        "Domainname": spec.domainname,
        "User": user.username or (f"{user.uid}:{user.gid}" if user.uid or user.gid else ""),
        "Tty": process.terminal,
        "OpenStdin": bool(document["interactive"]),
        "Env": list(process.env),
        "Cmd": list(process.args),
        "Image": document["image"],
        "WorkingDir": process.cwd,
        "Labels": dict(extras.labels),
        "StopSignal": extras.stop_signal,
        "StopTimeout": extras.stop_timeout,
        "Timeout": extras.timeout,
    }


def _host_config(document: dict[str, Any], spec: Spec, extras: ContainerExtras) -> dict[str, Any]:
    sets = spec.process.capabilities
    return {
        "AutoRemove": bool(document["rm"]),
        "Binds": [f"{mount.source}:{mount.destination}" for mount in spec.mounts if mount.type == "bind"],
        "Capabilities": sorted(sets.bounding) if sets is not None else [],
        "NetworkMode": _mode(spec, extras, "network", extras.network.options.driver if extras.network else "none"),
        "PidMode": _mode(spec, extras, "pid"),
        "IpcMode": _mode(spec, extras, "ipc"),
        "UTSMode": _mode(spec, extras, "uts"),
        "CgroupMode": _mode(spec, extras, "cgroup"),
        "UsernsMode": extras.userns.mode,
        "ReadonlyRootfs": spec.root.readonly,
        "Init": extras.init,
        "NoNewPrivileges": spec.process.no_new_privileges,
        "SecurityOpt": [f"seccomp={extras.seccomp}"],
        "Ulimits": [{"Name": each.type, "Soft": each.soft, "Hard": each.hard} for each in spec.process.rlimits],
        "RestartPolicy": {"Name": extras.restart.policy, "MaximumRetryCount": extras.restart.retries},
        "CgroupParent": extras.cgroup_parent,
        "LogConfig": {"Type": "k8s-file" if document["log"] else "none"},
    }


def _mode(spec: Spec, extras: ContainerExtras, kind: str, own: str = "private") -> str:
    """How the container has a namespace, in docker's words."""
    for join in extras.joins:
        if join.type == kind:
            return f"container:{join.container}"
    for namespace in spec.linux.namespaces:
        if namespace.type == kind:
            return f"ns:{namespace.path}" if namespace.path else own
    return "host"


def _mount(mount: Mount) -> dict[str, Any]:
    options = set(mount.options)
    spread = next((each for each in mount.options if each.lstrip("r") in ("private", "slave", "shared")), "")
    return {
        "Type": "bind",
        "Source": mount.source,
        "Destination": mount.destination,
        "Mode": ",".join(mount.options),
        "RW": not options & {"ro", "rro"},
        "Propagation": spread or "rprivate",
    }


def _moment(nanoseconds: int) -> str:
    if not nanoseconds:
        return _NEVER
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
