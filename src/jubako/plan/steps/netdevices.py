"""The step for `linux.netDevices`: OCI runtime-spec 1.3, config-linux.md, "Network Devices"; rtnetlink(7)."""

from __future__ import annotations

import _socket
import errno
import os

from jubako.linux import rtnetlink
from jubako.linux.clone import CLONE_NEWNET, open_namespace, setns
from jubako.plan.step import RUNTIME, Slots, Step, quote, step


@step(actor=RUNTIME)
class MoveNetDevice(Step):
    """A network device of the host's becomes the container's own, with its addresses, and comes up there."""

    device: str
    name: str

    needs = ("init_pid",)

    def apply(self, slots: Slots) -> None:
        index = rtnetlink.device_index(self.device)
        namespace = open_namespace(slots["init_pid"], "network")
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        pid = os.fork()  # most of it can be done in the device's new namespace only, so a child enters that
        if pid == 0:
            code = 255
            try:
                self._move(index, own, namespace)
                code = 0
            except OSError as failure:
                code = failure.errno or 255
            finally:
                os._exit(code)
        os.close(own)
        os.close(namespace)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            number = code if 0 < code < 255 else errno.EIO
            raise OSError(number, os.strerror(number), self.name)

    def _move(self, index: int, own: int, namespace: int) -> None:
        addresses = rtnetlink.list_addresses(index)
        setns(namespace, CLONE_NEWNET)
        before = dict(_socket.if_nameindex())
        if self.name in before.values():  # the kernel would tell only when the device has been moved, and is lost
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), self.name)
        setns(own, CLONE_NEWNET)
        rtnetlink.move_device(index, namespace, self.name)
        setns(namespace, CLONE_NEWNET)
        # Its number may be another one there, and its name too, where it was given as a template such as "eth%d".
        for there, name in _socket.if_nameindex():
            if there not in before:
                for address in addresses:
                    rtnetlink.add_address(there, address)
                rtnetlink.set_up(there, name)
                return
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), self.name)

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
