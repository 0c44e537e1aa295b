"""A JSON document becomes a checked `Spec`: `load(jsontext.loads(text))`.

What is wrong is told once, with its JSON path: "read config.json: process.args[0]: must be a string". A document of any
1.x version is taken, since refusing newer minor versions breaks every engine that writes one; properties that are not
known are ignored (OCI runtime-spec 1.3, config.md, "Extensibility").
"""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.record import replace
from jubako.spec import document
from jubako.spec.check import check, check_process, check_seccomp
from jubako.spec.shape import Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.spec.resources import Resources
    from jubako.spec.types import Mount, Process, Seccomp, Spec


def load(value: Any, subject: str = "config.json") -> Spec:
    """The container that `value`, a parsed config.json, describes.

    Raises `UsageError` with the JSON path to the first thing that is wrong.
    """
    try:
        spec: Spec = document.SPEC.read(value)
        if any(not mount.destination.startswith("/") for mount in spec.mounts):
            # Deprecated, and to be read as relative to the root (config.md, "Mounts").
            spec = replace(spec, mounts=tuple(_absolute(mount) for mount in spec.mounts))
        check(spec)
        return spec
    except Wrong as wrong:
        raise _error(subject, wrong) from None


def load_process(value: Any, subject: str = "process.json") -> Process:
    """The process that `value` describes, as engines hand it to `exec --process`."""
    try:
        process: Process = document.PROCESS.read(value)
        check_process(process)
        return process
    except Wrong as wrong:
        raise _error(subject, wrong) from None


def load_resources(value: Any, subject: str = "resources.json") -> Resources:
    """The limits that `value` describes, as engines hand them to `update --resources`."""
    try:
        resources: Resources = document.RESOURCES.read(value)
        return resources
    except Wrong as wrong:
        raise _error(subject, wrong) from None


def load_seccomp(value: Any, subject: str = "seccomp profile") -> Seccomp:
    """The filter that `value` describes, in OCI's form (docker's adds `archMap`, `includes` and `excludes`)."""
    try:
        seccomp: Seccomp = document.SECCOMP.read(value)
        check_seccomp(seccomp)
        return seccomp
    except Wrong as wrong:
        raise _error(subject, wrong) from None


def _error(subject: str, wrong: Wrong) -> UsageError:
    return UsageError("read", subject, reason=str(wrong))


def _absolute(mount: Mount) -> Mount:
    if mount.destination.startswith("/") or not mount.destination:
        return mount
    return replace(mount, destination="/" + mount.destination)
