"""What a document needs of this host: its filter compiled, the security modules that it names, engines' annotations."""

from __future__ import annotations

from jubako.paths import find_paths
from jubako.plan.attributes import Modules, gather_modules
from jubako.spec.types import Spec


def compile_filter(spec: Spec) -> tuple[bytes, int]:
    """The document's system call filter, compiled or from the cache; empty where it has none."""
    if spec.linux.seccomp is None:
        return b"", 0
    from jubako.plan.seccomp import custom_filter

    found = custom_filter(spec.linux.seccomp, find_paths().cache + "/seccomp", listening=listens(spec))
    return found.program, found.flags


def listens(spec: Spec) -> bool:
    """Whether somebody outside answers some of the program's system calls."""
    if spec.linux.seccomp is None or not spec.linux.seccomp.listener_path:
        return False
    from jubako.plan.seccomp import wants_listener

    return wants_listener(spec.linux.seccomp)


def find_modules(spec: Spec) -> Modules:
    """The facts about security modules and resctrl, looked for only where the document has need of them."""
    linux, process = spec.linux, spec.process
    if not (process.apparmor_profile or process.selinux_label or linux.mount_label or linux.intel_rdt):
        return Modules()
    return gather_modules()


def label_option(spec: Spec) -> str:
    """By which mount option labels are given: crun's annotation, which podman sets."""
    return dict(spec.annotations).get("run.oci.mount_context_type", "context")


def keeps_groups(spec: Spec) -> bool:
    """crun's annotation, which podman sets for `--group-add keep-groups`."""
    return dict(spec.annotations).get("run.oci.keep_original_groups") == "1"
