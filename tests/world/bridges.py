"""Containers on bridge networks, as far as the network is concerned: a supervisor and two namespaces each.

A *commander* stands for a user's commands: in the user namespace of `world.netns.Host`, which stands for the user's
base, or outside of one, where it makes the base. It reserves places and starts *supervisors*, each the first process of
a PID namespace, which hold the connection to the keeper as jubako's own do. In every container a server answers its
name on `PORT` by TCP and UDP. What is inside is asked through the probes of `world.netns` and some more.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from world import netns
from world.netns import ALLOWANCE, PROBES, UNREACHABLE

PORT = 9000
A, PTR, AAAA = 1, 12, 28


class Bridges:
    """The commander. With `host` it is within that one's namespaces, else it makes a base of its own."""

    def __init__(self, directory: Path, host: netns.Host | None = None, *, nft: bool = True) -> None:
        self.directory = directory
        into: tuple[str, ...] = ()
        if host is not None:
            users = ("--user",) if os.getuid() else ()  # root's host has no user namespace of its own
            into = ("nsenter", "--target", str(host.pid), *users, "--net", "--mount", "--wdns=/", "--")
        command = (*into, sys.executable, "-m", "world.bridges", str(directory), str(int(host is None)), str(int(nft)))
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {**os.environ, "PYTHONPATH": paths}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )
        self.ask("ready")

    def ask(self, what: str, **arguments: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the commander ended"
        answer = json.loads(line)
        assert "broken" not in answer, answer["broken"]
        return answer["answer"]

    def network(self, name: str, **options: object) -> dict[str, Any]:
        """Make a network: its document."""
        made: dict[str, Any] = self.ask("network", name=name, options=options)
        return made

    def start(self, name: str, *networks: str, **options: object) -> dict[str, Any]:
        """Start a container: its `link` and `places`, or `error`."""
        made: dict[str, Any] = self.ask("start", name=name, networks=networks, options=options)
        return made

    def inside(self, name: str, probe: str, *arguments: object) -> Any:
        """What the probe answers in a container; an `OSError` of it as one line of text that begins with its name."""
        return self.ask("inside", name=name, probe=probe, arguments=arguments)

    def kill(self, name: str) -> None:
        """SIGKILL for the container's supervisor."""
        self.ask("kill", name=name)

    def keeper(self) -> dict[str, int]:
        """The keeper's processes, as the machine counts, by what they call themselves; nothing if there are none."""
        found: dict[str, int] = self.ask("keeper")
        return found

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait(ALLOWANCE)


# --- the commander ----------------------------------------------------------------------------------------------------


class _Container:
    def __init__(self, pid: int, link: Any, answer: dict[str, Any], namespaces: tuple[int, ...]) -> None:
        self.pid = pid
        self.socket = link
        self.answer = answer
        self.user, self.network = namespaces
        self.nested = True  # for the probes of `world.netns`


class _Commander:
    def __init__(self, directory: str, *, outside: bool, nft: bool) -> None:
        from jubako.paths import Paths

        if not nft:
            _hide_nft()
        self.paths = Paths(f"{directory}/data", f"{directory}/run", f"{directory}/cache")
        self.base = None
        if outside and os.getuid():
            from jubako.runtime.base import open_base

            self.base = open_base(self.paths)
        self.networks: dict[str, Any] = {}
        self.containers: dict[str, _Container] = {}

    def ready(self) -> None:
        """Nothing to do."""

    def network(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        from ipaddress import ip_network

        from jubako.net.bridge.network import dump_network, make_network

        taken = [ip_network(subnet.cidr) for network in self.networks.values() for subnet in network.subnets]
        wanted: dict[str, Any] = {key: _tuple(value) for key, value in options.items()}
        self.networks[name] = make_network(name, taken, **wanted)
        return dump_network(self.networks[name])

    def start(self, name: str, networks: list[str], options: dict[str, Any]) -> dict[str, Any]:
        return self.start_all([name], networks, options)[0]

    def start_all(self, names: list[str], networks: list[str], options: dict[str, Any]) -> list[dict[str, Any]]:
        """Start containers at once, each from a process of its own."""
        begun = [(name, *self._begin(name, networks, options)) for name in names]
        answers = []
        for name, pid, link in begun:
            from jubako.linux import scm

            data, namespaces = scm.receive(link)
            answer = json.loads(data)
            if "error" in answer:
                os.waitpid(pid, 0)
                link.close()
            else:
                self.containers[name] = _Container(pid, link, answer, namespaces)
            answers.append(answer)
        return answers

    def _begin(self, name: str, networks: list[str], options: dict[str, Any]) -> tuple[int, Any]:
        from jubako.linux import scm
        from jubako.linux.clone import CLONE_NEWPID, CLONE_NEWUSER, clone, setns

        here, there = scm.pair()
        pid = os.fork()
        if pid:
            there.close()
            return pid, here
        # This process is the container's command: it reserves, and clones the supervisor.
        here.close()
        try:
            reservation = self._reserve(name, networks, options)
            if self.base is not None:
                from jubako.linux.prctl import set_dumpable
                from jubako.runtime.base import become_root

                setns(self.base.fd, CLONE_NEWUSER)
                set_dumpable(True)
                become_root(self.base.ids)
            child, pidfd = clone(CLONE_NEWPID)
            if child == 0:
                _supervise(name, reservation, there, json.dumps({"made": reservation.made}))
            reservation.close()
            there.close()
            os.close(pidfd)
            os.waitpid(child, 0)
        except BaseException as failure:
            scm.send(there, json.dumps({"error": str(failure), "kind": type(failure).__name__}).encode())
        finally:
            os._exit(0)

    def _reserve(self, name: str, networks: list[str], options: dict[str, Any]) -> Any:
        from jubako.net.bridge import client
        from jubako.net.link import NetworkOptions

        identifier = options.pop("id", "") or os.urandom(32).hex()
        uplink = options.pop("uplink", None)
        wishes = tuple(
            client.Wish(self.networks[network], **{key: _tuple(value) for key, value in options.items()})
            for network in networks
        )
        chosen = NetworkOptions(**uplink) if uplink else None
        return client.reserve(self.paths, self.base, identifier, name, wishes, chosen)

    def inside(self, name: str, probe: str, arguments: list[Any]) -> Any:
        from jubako.linux.clone import CLONE_NEWUSER, setns

        if self.base is None:
            return netns._Inside.run(self.containers[name], probe, arguments)  # type: ignore[arg-type]
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            setns(self.base.fd, CLONE_NEWUSER)
            answer = netns._Inside.run(self.containers[name], probe, arguments)  # type: ignore[arg-type]
            os.write(writer, json.dumps(answer).encode())
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as stream:
            text = stream.read()
        os.waitpid(pid, 0)
        return json.loads(text)

    def kill(self, name: str) -> None:
        """The supervisor is the only child of its command."""
        container = self.containers.pop(name)
        os.kill(_child_of(container.pid), 9)
        os.waitpid(container.pid, 0)
        container.socket.close()
        os.close(container.user)
        os.close(container.network)

    def notices(self, name: str) -> list[str]:
        """What the keeper has said to the container's supervisor."""
        from jubako.linux import scm

        self.containers[name].socket.send(b"notices")
        data, _ = scm.receive(self.containers[name].socket)
        return list(json.loads(data))

    def reconnect(self, name: str, networks: list[str]) -> dict[str, Any]:
        """What `jubako network reload` does for one container: connect it again, with the addresses that it had."""
        from jubako.linux.pidfd import open_pidfd
        from jubako.net.bridge import client

        container = self.containers[name]
        places = container.answer["places"]
        wishes = tuple(
            client.Wish(
                self.networks[place["network"]],
                tuple(address.partition("/")[0] for address in place["addresses"]),
                place["hardware"],
                tuple(place["aliases"]),
                place["device"],
            )
            for place in places
        )
        made = client.reserve(self.paths, self.base, os.urandom(32).hex(), name, wishes)
        life = open_pidfd(_child_of(container.pid))
        made.attach(container.network, life)
        os.close(life)
        made.close()
        return {"places": [dict(place.__dict__) for place in made.places], "made": made.made}

    def connect(self, name: str, network: str, options: dict[str, Any]) -> list[dict[str, Any]]:
        from jubako.net.bridge import client

        wish = client.Wish(self.networks[network], **{key: _tuple(value) for key, value in options.items()})
        return [dict(place.__dict__) for place in client.connect(self.paths, self._id(name), wish)]

    def disconnect(self, name: str, network: str) -> list[dict[str, Any]]:
        from jubako.net.bridge import client

        return [dict(place.__dict__) for place in client.disconnect(self.paths, self._id(name), network)]

    def neighbours(self) -> list[str]:
        from jubako.net.bridge import client

        return sorted(one.name for one in client.neighbours(self.paths))

    def _id(self, name: str) -> str:
        from jubako.net.bridge import client

        return next(one.id for one in client.neighbours(self.paths) if one.name == name)

    def keeper(self) -> dict[str, int]:
        """By SO_PEERCRED of the keeper's socket, which is its first process's, and /proc."""
        from jubako.linux import scm
        from jubako.net.bridge import wire
        from jubako.net.bridge.keeper import keeper_directory

        try:
            connection = scm.connect(keeper_directory(self.paths, self.base), wire.SOCKET)
        except OSError:
            return {}
        pid, _uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        connection.close()
        found = {"keeper": pid}
        waiting = [pid]
        while waiting:
            for child in _children_of(waiting.pop(0)):
                waiting.append(child)
                comm = Path(f"/proc/{child}/comm").read_text().strip()
                name = "router" if "router" in comm else "names" if "name" in comm else "uplink"
                found.setdefault(name, child)  # the router's comes before that of whoever holds its helper
        return found

    def left(self) -> list[str]:
        """What keepers have in the run directory."""
        return [name for name in os.listdir(self.paths.run) if name.startswith("bridge-")]

    def tidy(self) -> None:
        from jubako.net.bridge import client

        client.tidy(self.paths)

    def close(self) -> None:
        from jubako.runtime.base import end_base

        for name in list(self.containers):
            self.kill(name)
        if self.base is not None:
            end_base(self.paths)


def _supervise(name: str, reservation: Any, link: Any, more: str) -> None:
    """The supervisor: it makes the container's namespaces, has them connected, and stays."""
    from jubako.linux import scm

    notices: list[str] = []
    try:
        inside = netns._Inside()
        if os.fork() == 0:
            _serve_name(inside, name)
        reservation.attach(inside.network)
        answer = {
            "link": dict(reservation.link().__dict__),
            "places": [dict(place.__dict__) for place in reservation.places],
            **json.loads(more),
        }
        scm.send(link, json.dumps(answer).encode(), (inside.user, inside.network))
        while True:
            poller = select.poll()
            poller.register(link.fileno(), select.POLLIN)
            if reservation.fileno() >= 0:
                poller.register(reservation.fileno(), select.POLLIN)
            for fd, _event in poller.poll():
                if fd != link.fileno():
                    notices.append(reservation.read_notice())
                    continue
                data, _ = scm.receive(link)
                if not data:
                    os._exit(0)
                scm.send(link, json.dumps(notices).encode())
    except BaseException as failure:
        scm.send(link, json.dumps({"error": str(failure), "kind": type(failure).__name__}).encode())
    finally:
        os._exit(0)


def _serve_name(inside: Any, name: str) -> None:
    from jubako.linux.clone import CLONE_NEWNET, CLONE_NEWUSER, setns

    try:
        setns(inside.user, CLONE_NEWUSER)
        setns(inside.network, CLONE_NEWNET)
        for address in ("0.0.0.0", "::"):
            netns._serve(address, PORT, lambda peer: f"{name} {peer}".encode())
        select.poll().poll()
    finally:
        os._exit(0)


def _hide_nft() -> None:
    """As where only iptables is installed."""
    from jubako.errors import NotFoundError
    from jubako.net import programs

    real = programs.find_program

    def find(name: str, known: str = "") -> str:
        if name == "nft":
            raise NotFoundError("find the program", name)
        return real(name, known)

    programs.find_program = find


def _child_of(pid: int) -> int:
    (child,) = _children_of(pid)
    return child


def _children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value


# --- probes -----------------------------------------------------------------------------------------------------------


def query(name: str, kind: int = A, identifier: int = 4660) -> bytes:
    """A question for `name`."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".") if label)
    return struct.pack(">6H", identifier, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def read_answer(data: bytes) -> dict[str, Any]:
    """The code and the values of an answer whose records repeat the question's name by a pointer."""
    _, flags, _, count, _, _ = struct.unpack(">6H", data[:12])
    place = data.index(b"\0", 12) + 5
    values = []
    for _ in range(count):
        kind, _cls, _ttl, length = struct.unpack(">HHIH", data[place + 2 : place + 12])
        value = data[place + 12 : place + 12 + length]
        place += 12 + length
        if kind in (A, AAAA):
            values.append(socket.inet_ntop(socket.AF_INET if kind == A else socket.AF_INET6, value))
        else:
            values.append(value[1 : 1 + value[0]].decode())
    return {"code": flags & 15, "values": sorted(values), "cut": bool(flags & 0x0200)}


def _lookup(
    server: str, name: str, kind: int = A, transport: str = "udp", seconds: float = ALLOWANCE
) -> dict[str, Any]:
    """What the name server answers."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM) as asker:
        asker.settimeout(seconds)
        asker.connect((server, 53))
        if transport == "udp":
            asker.send(query(name, kind))
            return read_answer(asker.recv(65535))
        data = query(name, kind)
        asker.sendall(struct.pack(">H", len(data)) + data)
        with asker.makefile("rb") as stream:
            (length,) = struct.unpack(">H", stream.read(2))
            return read_answer(stream.read(length))


def _flood(server: str, datagrams: list[str], times: int) -> int:
    """Send these datagrams (in hexadecimal digits) again and again, as fast as they go."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((server, 53))
        for _ in range(times):
            for text in datagrams:
                try:
                    sender.send(bytes.fromhex(text))
                except OSError:
                    pass
    return times


def _streams(server: str, texts: list[str]) -> int:
    """Open a connection for each text, send it, and close without waiting for anything."""
    sent = 0
    for text in texts:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sender:
            sender.settimeout(ALLOWANCE)
            try:
                sender.connect((server, 53))
                sender.sendall(bytes.fromhex(text))
                sent += 1
            except OSError:
                pass
    return sent


def _hold(server: str, number: int) -> int:
    """How many of so many idle connections the name server keeps."""
    held = []
    for _ in range(number):
        sender = socket.create_connection((server, 53), ALLOWANCE)
        sender.settimeout(UNREACHABLE)
        held.append(sender)
    kept = 0
    for sender in held:
        try:
            sender.recv(1)
        except TimeoutError:
            kept += 1
        except OSError:
            pass
        sender.close()
    return kept


def _setting(name: str) -> str:
    return Path("/proc/sys/net", name).read_text().strip()


PROBES.update(lookup=_lookup, flood=_flood, streams=_streams, hold=_hold, setting=_setting)


def main() -> None:
    directory, outside, nft = sys.argv[1:]
    commander = _Commander(directory, outside=outside == "1", nft=nft == "1")
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"answer": getattr(commander, request.pop("what"))(**request)}
        except BaseException as failure:
            import traceback

            answer = {"broken": "".join(traceback.format_exception(failure))}
        print(json.dumps(answer), flush=True)
    commander.close()
    os._exit(0)


if __name__ == "__main__":
    main()
