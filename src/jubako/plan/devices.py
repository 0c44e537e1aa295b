"""Which device nodes a bundle's container gets, and how: OCI runtime-spec 1.3, config-linux.md, "Devices"."""

from __future__ import annotations

from jubako.plan.host import LINKS, STANDARD_DEVICES, Host
from jubako.plan.mount_options import read_options
from jubako.plan.namespaces import NamespaceSet
from jubako.plan.oci_mounts import target_of
from jubako.plan.step import Step
from jubako.plan.steps import devices as steps
from jubako.spec.types import Device, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def plan_devices(spec: Spec, spaces: NamespaceSet, host: Host) -> Iterator[Step]:
    """The nodes and links, of init after all mounts and before anything is masked.

    Where /dev is bound from the host its devices are there, and nothing is made in it, as runc has it. The console is
    the terminal's.
    """
    wanted = list(spec.linux.devices)
    if not _is_dev_bound(spec):
        named = {device.path for device in wanted}
        found = host.devices or STANDARD_DEVICES
        wanted[:0] = [Device(path, "c", major, minor) for path, major, minor in found if path not in named]
    real = host.privileged and not spaces.nested and "user" not in spaces.joined
    for device in wanted:
        if real or device.type == "p":
            mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
            yield steps.MakeNode(
                device.path, device.type, device.major, device.minor, mode, device.uid or 0, device.gid or 0
            )
        else:
            yield steps.BindNode(device.path, device.type, device.major, device.minor)
    if not _is_dev_bound(spec):
        yield steps.LinkDevices(LINKS)


def _is_dev_bound(spec: Spec) -> bool:
    for mount in spec.mounts:
        options = read_options(mount.options)
        if target_of(mount) == "/dev" and (options.bind or mount.type == "bind") and not options.remount:
            return True
    return False
