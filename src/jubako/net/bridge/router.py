"""The router of the bridge networks: the process that answers containers' supervisors and does as they ask.

It lives in the keeper's network namespace, is root of the base user namespace, and so has all rights over the network
namespaces of the user's containers. It serves one request after the other; none takes longer than some milliseconds
but the first ones, which wait for the uplink and for rules to be set.
"""

from __future__ import annotations

import os
import select
import time

from jubako.errors import JubakoError, NotFoundError, UsageError
from jubako.linux import scm
from jubako.linux.netlink import set_link_up
from jubako.linux.rlimit import get_rlimit, set_rlimit
from jubako.net.bridge import wire
from jubako.net.bridge.keeper import remove_keeper_directory, tell
from jubako.net.bridge.members import Member
from jubako.net.bridge.names import NameServer
from jubako.net.bridge.network import load_network
from jubako.net.bridge.switch import Switch
from jubako.net.bridge.sysctl import Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.paths import Paths

UPLINK_SECONDS = 30.0
_LOCK_MILLISECONDS = 50
_PAUSE = 0.02
_MEMBERS_AT_ONCE = 64
"""A packet holds no more than some hundred."""
_NAME_SERVERS = 20
"""How often the name server is started anew before that is given up."""
_NOTICES, _NOTICE_SECONDS = 30, 60.0


def run_router(
    paths: Paths, directory: str, listener: scm.Socket, control: scm.Socket, ready: int, first: scm.Socket
) -> int:
    """Serve until the last connection has ended, of which `first` is there already; then the keeper's directory is
    removed."""
    try:
        router = Router(paths, directory, listener, control)
        router.connections[first.fileno()] = first
    except (JubakoError, OSError) as failure:
        remove_keeper_directory(directory)
        text = str(failure).replace("\n", "; ")
        tell(ready, f"start\0000\0{text}")
        return 1
    tell(ready, "+")
    os.close(ready)
    router.serve()
    return 0


class Router:
    """The connections, the members behind them, and the switch that connects those."""

    def __init__(self, paths: Paths, directory: str, listener: scm.Socket, control: scm.Socket) -> None:
        self.paths = paths
        self.directory = directory
        self.listener = listener
        self.control = control
        _, most = get_rlimit("RLIMIT_NOFILE")
        set_rlimit("RLIMIT_NOFILE", most, most)  # two or three for each container
        set_link_up("lo")
        sysctl = Sysctl(paths.foreign_proc)
        sysctl.set("net/ipv4/ip_forward", "1")
        sysctl.try_to_set("net/ipv6/conf/all/forwarding", "1")
        self.names = NameServer(paths.stage)
        self.switch = Switch(directory, sysctl, self.names)
        self.connections: dict[int, scm.Socket] = {}
        self.members: dict[str, Member] = {}
        self.uplink = ""
        """How far the way out is: nothing, `requested`, `planned` or `up`."""
        self.wanted: dict[str, Any] = {}
        self.failure: dict[str, Any] = {}
        self.name_servers = 0
        self.notices: list[float] = []
        self.over = False

    def serve(self) -> None:
        """The loop."""
        while not self.over:
            poller = select.poll()
            for fd in self._watched():
                poller.register(fd, select.POLLIN)
            alone = not self.connections and not self.members
            for fd, _event in poller.poll(_LOCK_MILLISECONDS if alone else None):
                try:
                    self._serve(fd)
                except (JubakoError, OSError) as failure:  # what goes wrong for one is not the end of all others
                    self._notice(f"the router of bridge networks could not serve: {failure}")
                    time.sleep(_PAUSE)
            if not self.connections and not self.members:
                self._try_to_end()

    def _watched(self) -> list[int]:
        found = [self.listener.fileno(), self.control.fileno(), self.names.helper.pidfd, *self.connections]
        if self.names.helper.words >= 0:
            found.append(self.names.helper.words)
        return found + [member.life for member in self.members.values() if member.life >= 0]

    def _serve(self, fd: int) -> None:
        if fd == self.listener.fileno():
            connection = scm.accept(self.listener)
            self.connections[connection.fileno()] = connection
        elif fd == self.control.fileno():
            self._hear_keeper()
        elif fd == self.names.helper.pidfd:
            self._revive_names()
        elif fd == self.names.helper.words:
            words = self.names.helper.read()
            if words:
                self._notice(words.decode(errors="replace").strip())
            elif not self.names.helper.is_over():
                os.close(self.names.helper.words)
                self.names.helper.words = -1
        elif fd in self.connections:
            self._hear(fd)
        else:
            for member in [one for one in self.members.values() if one.life == fd]:
                self._drop(member)

    # --- who connects -------------------------------------------------------------------------------------------------

    def _hear(self, fd: int) -> None:
        connection = self.connections[fd]
        descriptors: tuple[int, ...] = ()
        try:
            document, descriptors = wire.receive(connection)
        except (OSError, ValueError):
            document = None
        if document is None:
            self._hang_up(fd)
            return
        try:
            answer = self._answer(fd, document, list(descriptors))
        except (JubakoError, OSError) as failure:
            answer = wire.failure_document(failure)
        except Exception as failure:  # one request that goes wrong takes nobody else's network away
            cause = f"{type(failure).__name__}: {failure}"
            answer = wire.failure_document(JubakoError("serve a request", str(document.get("do")), reason=cause))
        try:
            wire.send(connection, answer)
        except OSError:  # its end is heard next
            pass

    def _hang_up(self, fd: int) -> None:
        self.connections.pop(fd).close()
        for member in [one for one in self.members.values() if one.connection == fd]:
            member.connection = -1
            if member.life < 0:
                self._drop(member)

    def _answer(self, fd: int, document: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        what = document.get("do")
        try:
            if what == "reserve":
                return self._reserve(fd, document)
            if what == "attach":
                return self._attach(fd, descriptors)
            if what == "add":
                return self._add(document)
            if what == "remove":
                return self._remove(document)
            if what == "members":
                return self._list(int(document.get("after", 0)))
            raise UsageError("serve a request", str(what), reason="there is no such request")
        finally:
            for left in descriptors:
                os.close(left)

    def _reserve(self, fd: int, document: dict[str, Any]) -> dict[str, Any]:
        member = Member(str(document["id"]), str(document["name"]), fd)
        before = self.members.get(member.id)
        if before is not None:  # it was started again, before we heard of its end
            self._drop(before)
        self._want_uplink(document)
        try:
            for wish in document["wishes"]:
                member.join(self.switch, wish)
        except BaseException:
            member.leave_all(self.switch)
            raise
        self.members[member.id] = member
        return self._given(member)

    def _attach(self, fd: int, descriptors: list[int]) -> dict[str, Any]:
        member = next((one for one in self.members.values() if one.connection == fd), None)
        if member is None or not descriptors:
            raise UsageError("attach", "a container", reason="it has reserved nothing, or gives no namespace")
        self._await_uplink(member)
        member.hold(self.switch, descriptors)
        member.attach(self.switch)
        return self._given(member)

    def _add(self, document: dict[str, Any]) -> dict[str, Any]:
        member = self._member(document)
        self._want_uplink(document)
        joined = member.join(self.switch, document["wishes"][0])
        try:
            self._await_uplink(member)
            member.attach(self.switch)
        except BaseException:
            member.leave(self.switch, joined)
            raise
        return self._given(member)

    def _remove(self, document: dict[str, Any]) -> dict[str, Any]:
        member = self._member(document)
        if document["network"] not in member.ports:
            raise NotFoundError("disconnect", member.name, reason=f"it is not on the network {document['network']}")
        member.leave(self.switch, document["network"])
        return self._given(member)

    def _list(self, after: int) -> dict[str, Any]:
        """Members from this number on, as many as go into one answer."""
        chosen = list(self.members.values())[after : after + _MEMBERS_AT_ONCE]
        more = after + len(chosen) < len(self.members)
        return {"members": [member.describe() for member in chosen], "more": more}

    def _member(self, document: dict[str, Any]) -> Member:
        member = self.members.get(str(document["id"]))
        if member is None or member.namespace < 0:
            raise NotFoundError("find container", str(document["id"])[:12], reason="it is on no bridge network now")
        return member

    def _given(self, member: Member) -> dict[str, Any]:
        return {**member.describe(), "dns": member.name_servers(self.switch), "host": self.switch.host(member)}

    def _drop(self, member: Member) -> None:
        self.members.pop(member.id, None)
        member.leave_all(self.switch)

    # --- the way out --------------------------------------------------------------------------------------------------

    def _want_uplink(self, document: dict[str, Any]) -> None:
        """Have the way out made, if one of the networks has one and it is not being made already."""
        self.wanted = document.get("uplink") or self.wanted
        if any(not load_network(wish["network"]).internal for wish in document["wishes"]):
            self._request_uplink()
            self._await(("planned", "up"))

    def _await_uplink(self, member: Member) -> None:
        """Wait until the way out is there, if the member is on a network that has one."""
        if self.switch.leads_outside(member.ports):
            self._request_uplink()
            self._await(("up",))

    def _request_uplink(self) -> None:
        if not self.uplink:
            self.failure = {}
            self.uplink = "requested"
            wire.send(self.control, {"uplink": self.wanted})

    def _await(self, states: tuple[str, ...]) -> None:
        deadline = time.monotonic() + UPLINK_SECONDS
        while self.uplink not in states:
            poller = select.poll()
            poller.register(self.control.fileno(), select.POLLIN)
            if self.failure:
                failure, self.failure = self.failure, {}
                wire.raise_failure(failure)
            if not poller.poll(max(int((deadline - time.monotonic()) * 1000), 0)):
                raise JubakoError("connect bridge networks with the outside", reason="the uplink was not ready in time")
            self._hear_keeper()

    def _hear_keeper(self) -> None:
        document, _ = wire.receive(self.control)
        if document is None:
            os._exit(1)
        if "notice" in document:
            self._notice(document["notice"])
        elif "planned" in document or "up" in document:
            self.uplink = "up" if "up" in document else "planned"
            self.switch.set_uplink(document[self.uplink])
        elif "error" in document:
            self.uplink = ""
            self.failure = document

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _revive_names(self) -> None:
        self.name_servers += 1
        words = self.names.revive() if self.name_servers <= _NAME_SERVERS else "again and again"
        self._notice(f"the name server of bridge networks has ended: {words}")
        if self.name_servers > _NAME_SERVERS:
            self.over = True  # networks without names are not what was asked for

    def _notice(self, text: str) -> None:
        """Tell all supervisors, which write it into their logs; but not without end."""
        now = time.monotonic()
        self.notices = [moment for moment in self.notices if now - moment < _NOTICE_SECONDS]
        if len(self.notices) >= _NOTICES:
            return
        self.notices.append(now)
        for member in self.members.values():
            connection = self.connections.get(member.connection)
            if connection is not None:
                try:
                    connection.setblocking(False)
                    wire.send(connection, {"notice": text})
                except OSError:  # it reads nothing, or is gone
                    pass
                finally:
                    connection.setblocking(True)

    def _try_to_end(self) -> None:
        """End, unless somebody is just coming: who finds no keeper takes the lock before he makes one."""
        from jubako.net.bridge.keeper import KeeperLock

        lock = KeeperLock(self.paths)
        if not lock.take(wait=False):
            return
        os.unlink(f"{self.directory}/{wire.SOCKET}")
        poller = select.poll()
        poller.register(self.listener.fileno(), select.POLLIN)
        while poller.poll(0):  # he gets no answer, and tries again
            scm.accept(self.listener).close()
        remove_keeper_directory(self.directory)
        self.over = True
