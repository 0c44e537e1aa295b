"""The document that `spec` writes: as runc's and crun's, or with a user namespace, for an ordinary user to run."""

from __future__ import annotations

import os

from jubako import jsontext
from jubako.errors import JubakoError, UsageError
from jubako.record import replace
from jubako.spec.defaults import default
from jubako.spec.dump import dump
from jubako.spec.types import Capabilities, Mount, Namespace, Rlimit, Spec

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")


def write_example(bundle: str, name: str, *, rootless: bool) -> None:
    """Write the document into the directory `bundle`. Raises `UsageError` where there is one already."""
    path = os.path.join(bundle, name)
    spec = example()
    if rootless:
        spec = _rootless(spec)
    text = jsontext.dumps(dump(spec), 2) + "\n"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise UsageError("write", path, reason="the file exists", hint="remove it first, or give another") from None
    except OSError as failure:
        raise JubakoError.from_os_error("write", path, failure) from failure
    with open(fd, "wb") as file:
        file.write(text.encode())


def example() -> Spec:
    """A shell with a terminal in `rootfs`."""
    spec = default(("sh",))
    sets = Capabilities(bounding=_CAPABILITIES, effective=_CAPABILITIES, permitted=_CAPABILITIES)
    process = replace(
        spec.process,
        terminal=True,
        env=(*spec.process.env, "TERM=xterm"),
        capabilities=sets,
        rlimits=(Rlimit("RLIMIT_NOFILE", 1024, 1024),),
    )
    return replace(spec, process=process, root=replace(spec.root, readonly=True))


def _rootless(spec: Spec) -> Spec:
    from jubako.ids.base import find_base
    from jubako.oci.ids import mappings

    base = find_base()
    namespaces = tuple(one for one in spec.linux.namespaces if one.type != "network")
    linux = replace(
        spec.linux,
        namespaces=(*namespaces, Namespace("user")),
        uid_mappings=mappings(base.uids),
        gid_mappings=mappings(base.gids),
    )
    return replace(spec, linux=linux, mounts=tuple(_without_network(mount) for mount in spec.mounts))


def _without_network(mount: Mount) -> Mount:
    """/sys can be mounted only with a network namespace of one's own: the host's is shown."""
    if mount.type != "sysfs":
        return mount
    return Mount(mount.destination, "none", "/sys", ("rbind", "nosuid", "noexec", "nodev", "ro"))
