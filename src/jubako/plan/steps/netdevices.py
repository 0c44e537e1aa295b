"""The step for `linux.netDevices`: OCI runtime-spec 1.3, config-linux.md, "Network Devices"; rtnetlink(7).

What the new name would be is asked in the container's namespace before the device is moved: the kernel moves first and
renames then, and a device that is left in a namespace that ends is gone, unless it is a physical one.
"""

from __future__ import annotations

import errno
import os

from jubako.linux import rtnetlink
from jubako.linux.clone import CLONE_NEWNET, open_namespace, setns
from jubako.plan.step import RUNTIME, Slots, Step, quote, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


@step(actor=RUNTIME)
class MoveNetDevice(Step):
    """A network device of the host's becomes the container's own, with its addresses, and comes up there."""

    device: str
    name: str
    """Its name there; `%d` in it is the first number that is free."""

    needs = ("init_pid",)

    def apply(self, slots: Slots) -> None:
        namespace = open_namespace(slots["init_pid"], "network")
        try:
            index = rtnetlink.device_index(self.device)
            addresses = rtnetlink.list_addresses(index)
            name = in_namespace(namespace, lambda: rtnetlink.free_name(self.name))
            rtnetlink.move_device(index, namespace, name)
            in_namespace(namespace, lambda: _configure(name, addresses))
        finally:
            os.close(namespace)

    def call(self) -> str:
        device, name = quote(self.device), quote(self.name)
        return (
            f"RTM_GETADDR({device}); RTM_NEWLINK({device}, {{IFLA_NET_NS_FD=fd, IFLA_IFNAME={name}}}); fork(); "
            f"setns(fd, CLONE_NEWNET); RTM_NEWADDR({name}, address); RTM_NEWLINK({name}, IFF_UP)"
        )

    def operation(self) -> str:
        return "move the network device"

    def subject(self) -> str:
        return quote(self.device)[1:-1]

    def hint(self, errno_: int) -> str:
        return {
            errno.ENODEV: "the host has no such device",
            errno.EEXIST: f"the container has a device {quote(self.name)[1:-1]} already",
            errno.EPERM: "only the host's root can move its devices",
            errno.EINVAL: "this kind of device cannot leave its network namespace",
        }.get(errno_, "")


def in_namespace(namespace: int, work: Callable[[], str]) -> str:
    """What `work` answers in the network namespace, which a child of its own enters; its `OSError` is ours."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            setns(namespace, CLONE_NEWNET)
            os.write(writer, os.fsencode(work()))
            code = 0
        except OSError as failure:
            code = failure.errno or 255
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = os.fsdecode(file.read())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        number = code if 0 < code < 255 else errno.EIO
        raise OSError(number, os.strerror(number), answer)
    return answer


def _configure(name: str, addresses: tuple[rtnetlink.Address, ...]) -> str:
    index = rtnetlink.device_index(name)
    for address in addresses:
        rtnetlink.add_address(index, address)
    rtnetlink.set_up(index, name)
    return name
