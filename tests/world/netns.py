"""A small world of networks, made by an ordinary user, for what connects a network namespace with its host.

    internet (203.0.113.1, 2001:db8:1::1) ── veth ── host (198.51.100.2, 2001:db8::2) ── the driver ── inside

*Host* is a user, network and mount namespace: its user namespace stands for the base of a user, its network for the
machine's own. *Internet* has the servers. A *supervisor* is the first process of a PID namespace, root of that user
namespace, and sees the machine's /proc, as jubako's own; *inside* is a network namespace of a nested user namespace.
So no test depends on the machine's network, and none can reach it.

What is inside is asked through probes (see `PROBES`): functions that run in a child which has entered the namespace.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

INTERNET, INTERNET6 = "203.0.113.1", "2001:db8:1::1"
HOST, HOST6 = "198.51.100.2", "2001:db8::2"
PORT = 7000
"""Where the internet answers with `internet FROM`, by TCP and UDP, and all addresses of the host with `host`."""
LOOPBACK_PORT = 8000
"""Where only the host's loopback addresses (127.0.0.1, ::1, 127.0.0.53) answer."""
RESOLVER = "203.0.113.53"
LOCAL_RESOLVER = "127.0.0.53"
ANSWERS = {RESOLVER: "192.0.2.1", LOCAL_RESOLVER: "192.0.2.53"}
"""What the two name servers answer, whatever the question."""
ALLOWANCE = 20.0
"""Seconds after which something that should happen is said not to."""
UNREACHABLE = 0.3
"""Seconds for which a probe waits for an answer that it should not get. What counts is what the other side heard."""


def lives(pid: int) -> bool:
    """Whether the process has not ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether `condition()` becomes true within the time that everything here gets."""
    until = time.monotonic() + ALLOWANCE
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False


class Host:
    """The host and the internet. `resolv_conf` is what the host's programs read as /etc/resolv.conf. Without `base`
    (for root only) there is no user namespace around it, as for containers of the machine's root."""

    def __init__(self, directory: Path, *, routes: bool = True, ipv6: bool = True, base: bool = True) -> None:
        self.directory = directory
        self.resolv_conf = directory / "resolv.conf"
        self.set_resolver(RESOLVER)
        self._base = base
        own_users = ("--map-root-user", "--map-auto") if base else ()
        into = ("unshare", *own_users, "--net", "--mount", "--")
        self._process = _start(into, "host", str(self.resolv_conf), str(int(routes)), str(int(ipv6)))
        self.pid = self._process.pid
        _answer(self._process)

    def set_resolver(self, *addresses: str) -> None:
        self.resolv_conf.write_text("".join(f"nameserver {address}\n" for address in addresses))

    def heard(self) -> list[str]:
        """What arrived at the host's loopback since the last time one asked: `PROTOCOL ADDRESS`."""
        return list(_ask(self._process, {})["heard"])

    def ask(self, probe: str, *arguments: object) -> Any:
        """What a probe answers on the host."""
        return _ask(self._process, {"probe": probe, "arguments": arguments})["answer"]

    def supervisor(self, env: dict[str, str] | None = None) -> Supervisor:
        return Supervisor(self.pid, env, base=self._base)

    def close(self) -> None:
        _end(self._process)


class Supervisor:
    """A process that runs drivers. `pid` is its own, as the machine counts."""

    def __init__(self, host: int, env: dict[str, str] | None = None, *, base: bool = True) -> None:
        users = ("--user",) if base else ()
        into = ("nsenter", "--target", str(host), *users, "--net", "--mount", "--wdns=/", "--")
        inner = ("unshare", "--pid", "--fork", "--kill-child", "--")
        self._process = _start((*into, *inner), "supervise", env=env)
        self.pid: int = _answer(self._process)["pid"]

    def connect(self, directory: Path, **options: object) -> dict[str, Any]:
        """Make a namespace and connect it: the link, the helpers' pids and so on, or `error` and `kind`."""
        return self.ask("connect", directory=str(directory), options=options)

    def ask(self, what: str, **arguments: object) -> dict[str, Any]:
        return _ask(self._process, {"what": what, **arguments})

    def inside(self, probe: str, *arguments: object) -> Any:
        """What the probe answers; an `OSError` of it as one line of text that begins with its name."""
        return self.ask("inside", probe=probe, arguments=arguments)["answer"]

    def kill(self) -> None:
        """SIGKILL, as the kernel's killer of those who take too much memory would."""
        os.kill(self.pid, 9)
        _end(self._process)

    def close(self) -> None:
        _end(self._process)


def _start(into: tuple[str, ...], *role: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    command = (*into, sys.executable, "-m", "world.netns", *role)
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, **(env or {}), "PYTHONPATH": paths}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _ask(process: subprocess.Popen[bytes], request: dict[str, object]) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    return _answer(process)


def _answer(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the process of the test's network ended"
    answer: dict[str, Any] = json.loads(line)
    assert "broken" not in answer, answer["broken"]
    return answer


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None and not stream.closed:
            stream.close()
    process.wait(ALLOWANCE)


# --- the host and the internet: what runs in their namespaces ---------------------------------------------------------


def _run_host(resolv_conf: str, routes: str, ipv6: str) -> None:
    from jubako.linux.clone import CLONE_NEWNET
    from jubako.linux.libc import syscall

    heard: list[str] = []
    up, ready = os.pipe()
    go, begin = os.pipe()
    internet = os.fork()
    if internet == 0:
        syscall("unshare", CLONE_NEWNET)
        os.close(begin)
        os.write(ready, b".")
        os.close(up)
        os.read(go, 1)
        _run_internet(ready, go)
    os.close(ready)
    os.close(go)
    assert os.read(up, 1)
    _ip("link", "set", "lo", "up")
    _ip("link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", str(internet))
    _ip("address", "add", f"{HOST}/24", "dev", "v0")
    if ipv6 == "1":
        _ip("address", "add", f"{HOST6}/64", "dev", "v0", "nodad")
    _ip("link", "set", "v0", "up")
    if routes == "1":
        _ip("route", "add", "default", "via", "198.51.100.1")
        if ipv6 == "1":
            _ip("route", "add", "default", "via", "2001:db8::1")
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")
    subprocess.run(("mount", "--bind", resolv_conf, "/etc/resolv.conf"), check=True)
    subprocess.run(("mount", "--make-rshared", "/"), check=True)  # as systemd makes the machine's own
    os.write(begin, b".")
    assert os.read(up, 1), "the internet did not come up"
    for address in ("127.0.0.1", "::1", LOCAL_RESOLVER):
        _serve(address, LOOPBACK_PORT, lambda _peer: b"host loopback", heard)
    for address in ("0.0.0.0", "::"):
        _serve(address, PORT, lambda _peer: b"host")
    _serve_names(LOCAL_RESOLVER)
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request:
            print(json.dumps({"answer": _run_probe(**request)}), flush=True)
        else:
            print(json.dumps({"heard": heard}), flush=True)
            heard.clear()
    os.kill(internet, 9)
    os.waitpid(internet, 0)
    os._exit(0)


def _run_internet(ready: int, host: int) -> None:
    _ip("link", "set", "lo", "up")
    _ip("address", "add", "198.51.100.1/24", "dev", "v1")
    _ip("address", "add", "2001:db8::1/64", "dev", "v1", "nodad")
    _ip("link", "set", "v1", "up")
    for address in (f"{INTERNET}/32", f"{RESOLVER}/32", f"{INTERNET6}/128"):
        _ip("address", "add", address, "dev", "lo", *(("nodad",) if ":" in address else ()))
    for address in (INTERNET, INTERNET6):
        _serve(address, PORT, lambda peer: b"internet " + peer.encode())
    _serve_names(RESOLVER)
    os.write(ready, b".")
    os.read(host, 1)  # until the host is gone
    os._exit(0)


def _ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True)


def _serve(address: str, port: int, answer: Callable[[str], bytes], heard: list[str] | None = None) -> None:
    """Answer on TCP and UDP, and say so to whoever connects."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        listener = socket.socket(family, kind)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        work = _stream if kind == socket.SOCK_STREAM else _datagrams
        threading.Thread(target=work, args=(listener, answer, heard), daemon=True).start()


def _stream(listener: socket.socket, answer: Callable[[str], bytes], heard: list[str] | None) -> None:
    listener.listen(64)
    while True:
        connection, peer = listener.accept()
        if heard is not None:
            heard.append(f"tcp {listener.getsockname()[0]}")
        try:
            connection.sendall(answer(peer[0]))
        except OSError:
            pass
        connection.close()


def _datagrams(listener: socket.socket, answer: Callable[[str], bytes], heard: list[str] | None) -> None:
    while True:
        _data, peer = listener.recvfrom(65535)
        if heard is not None:
            heard.append(f"udp {listener.getsockname()[0]}")
        listener.sendto(answer(peer[0]), peer)


def _serve_names(address: str) -> None:
    """A name server that has one answer."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, 53))
    tcp = socket.create_server((address, 53))
    threading.Thread(target=_names_by_udp, args=(udp, ANSWERS[address]), daemon=True).start()
    threading.Thread(target=_names_by_tcp, args=(tcp, ANSWERS[address]), daemon=True).start()


def _names_by_udp(server: socket.socket, answer: str) -> None:
    while True:
        query, peer = server.recvfrom(4096)
        server.sendto(_resolve(query, answer), peer)


def _names_by_tcp(server: socket.socket, answer: str) -> None:
    while True:
        connection, _peer = server.accept()
        query = connection.recv(4096)
        reply = _resolve(query[2:], answer)
        connection.sendall(struct.pack(">H", len(reply)) + reply)
        connection.close()


def _resolve(query: bytes, answer: str) -> bytes:
    end = query.index(b"\0", 12) + 5
    header = query[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
    return header + query[12:end] + b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(answer)


# --- the supervisor ---------------------------------------------------------------------------------------------------


class _Inside:
    """A network namespace in a user namespace of its own, held by a process that waits."""

    def __init__(self, nested: bool = True) -> None:
        from jubako.linux.clone import CLONE_NEWNET, CLONE_NEWUSER, clone
        from jubako.linux.netlink import set_link_up
        from jubako.linux.pidfd import host_pid

        waits, self._holds = os.pipe()
        pid, pidfd = clone(CLONE_NEWNET | (CLONE_NEWUSER if nested else 0))
        if pid == 0:
            os.close(self._holds)
            set_link_up("lo")
            os.read(waits, 1)
            os._exit(0)
        os.close(waits)
        place = f"/proc/{host_pid(pidfd)}"
        os.close(pidfd)
        self.nested = nested
        for kind in ("uid", "gid") if nested else ():
            Path(place, f"{kind}_map").write_text("0 0 1\n1 1 1000\n")
        self.network = os.open(f"{place}/ns/net", os.O_RDONLY)
        self.user = os.open(f"{place}/ns/user", os.O_RDONLY)

    def run(self, probe: str, arguments: list[Any]) -> Any:
        """The answer of a probe, from a child that has entered."""
        from jubako.linux.clone import CLONE_NEWNET, CLONE_NEWUSER, setns

        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                if self.nested:
                    setns(self.user, CLONE_NEWUSER)
                setns(self.network, CLONE_NEWNET)
                answer = _run_probe(probe, arguments)
            except BaseException as failure:
                answer = f"broken: {failure!r}"
            os.write(writer, json.dumps(answer).encode())
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as stream:
            answer = json.loads(stream.read())
        os.waitpid(pid, 0)
        return answer


def _run_supervisor() -> None:
    with open("/proc/self/stat") as file:  # the machine's /proc
        print(json.dumps({"pid": int(file.read().split()[0])}), flush=True)
    world: dict[str, Any] = {"helpers": []}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _COMMANDS[request.pop("what")](world, **request)
        except BaseException as failure:
            import traceback

            answer = {"broken": "".join(traceback.format_exception(failure))}
        print(json.dumps(answer), flush=True)
    os._exit(0)


def _connect(world: dict[str, Any], directory: str, options: dict[str, Any]) -> dict[str, Any]:
    from jubako.errors import JubakoError
    from jubako.linux.pidfd import host_pid
    from jubako.net.choose import find_driver
    from jubako.net.link import NetworkOptions, Where
    from jubako.net.parse import parse_network
    from jubako.record import as_dict

    inside = world["inside"] = _Inside(options.pop("nested", True))
    before = sorted(os.listdir("/proc/self/fd"))
    world["mounts"] = Path("/proc/self/mountinfo").read_text()
    if "value" in options:
        chosen = parse_network(options["value"])
    else:
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in options.items()
        }
        chosen = NetworkOptions(**given)
    try:
        driver = find_driver(chosen)
        plan = driver.plan()
        connection = driver.connect(Where(inside.network, directory))
    except JubakoError as failure:
        after = sorted(os.listdir("/proc/self/fd"))
        return {"error": str(failure), "kind": type(failure).__name__, "descriptors": len(after) - len(before)}
    world["helpers"] = list(connection.helpers)
    return {
        "link": as_dict(connection.link),
        "plan": as_dict(plan),
        "explain": driver.explain(),
        "api": connection.api,
        "helpers": [host_pid(helper.pidfd) for helper in connection.helpers],
        # A helper has two of its own.
        "descriptors": len(os.listdir("/proc/self/fd")) - len(before) - 2 * len(connection.helpers),
    }


def _run_inside(world: dict[str, Any], probe: str, arguments: list[Any]) -> dict[str, Any]:
    return {"answer": world["inside"].run(probe, arguments)}


def _look(world: dict[str, Any]) -> dict[str, Any]:
    """Which helpers are over, and whether the host's mounts are as they were before."""
    same = Path("/proc/self/mountinfo").read_text() == world["mounts"]
    return {"over": [helper.is_over() for helper in world["helpers"]], "mounts": same}


def _end_helpers(world: dict[str, Any]) -> dict[str, Any]:
    for helper in world["helpers"]:
        helper.end()
    world["helpers"] = []
    return {}


def _compare_owner(world: dict[str, Any], pid: int) -> dict[str, Any]:
    """Whether the process is in the user namespace that the network belongs to."""
    there = os.stat(f"/proc/{pid}/ns/user")
    return {"same": os.path.samestat(there, os.fstat(world["inside"].user))}


_COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "connect": _connect,
    "inside": _run_inside,
    "look": _look,
    "end": _end_helpers,
    "owner": _compare_owner,
}

# --- probes -----------------------------------------------------------------------------------------------------------


def _run_probe(probe: str, arguments: list[Any]) -> Any:
    try:
        return PROBES[probe](*arguments)
    except OSError as failure:
        return f"{type(failure).__name__}: {failure}"


def _listen(port: int) -> bool:
    """Answer `inside` at this port, by TCP and UDP, from a process of its own, until the supervisor ends."""
    up, ready = os.pipe()
    if os.fork() == 0:
        os.dup2(ready, 1)
        os.closerange(2, 1 << 10)
        _serve("0.0.0.0", port, lambda _peer: b"inside")
        os.write(1, b".")
        while True:
            time.sleep(3600)
    return os.read(up, 1) == b"."


def _tcp(address: str, port: int, seconds: float = ALLOWANCE) -> str:
    with socket.create_connection((address, port), timeout=seconds) as connection:
        return connection.recv(4096).decode()


def _udp(address: str, port: int, seconds: float = ALLOWANCE, size: int = 5) -> str:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(seconds)
        sender.connect((address, port))
        sender.send(bytes(size))
        return sender.recv(4096).decode()


def _ping(address: str, seconds: float = ALLOWANCE) -> bool:
    """Whether an echo request (RFC 792) is answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.settimeout(seconds)
        body = struct.pack(">BBHHH", 8, 0, 0, 77, 1) + b"jubako"
        raw.sendto(body[:2] + struct.pack(">H", _checksum(body)) + body[4:], (address, 0))
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            packet, _peer = raw.recvfrom(4096)
            if packet[20] == 0 and packet.endswith(b"jubako"):
                return True
    return False


def _name(address: str, transport: str = "udp", seconds: float = ALLOWANCE) -> str:
    """What the name server at `address` answers."""
    query = struct.pack(">HHHHHH", 4660, 0x0100, 1, 0, 0, 0) + b"\4host\7example\0" + struct.pack(">HH", 1, 1)
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as asker:
        asker.settimeout(seconds)
        asker.connect((address, 53))
        if transport == "udp":
            asker.send(query)
            reply = asker.recv(4096)
        else:
            asker.sendall(struct.pack(">H", len(query)) + query)
            reply = asker.recv(4096)[2:]
    return socket.inet_ntoa(reply[-4:])


def _program(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=ALLOWANCE)
    return done.stdout + done.stderr


def _device(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_program("ip", "-j", "address", "show", "dev", name))[0]
    scopes = [entry for entry in found["addr_info"] if entry["scope"] == "global"]
    return {
        "mtu": found["mtu"],
        "addresses": [f"{entry['local']}/{entry['prefixlen']}" for entry in scopes],
        "up": "UP" in found["flags"],
    }


def _routers(family: str) -> list[str]:
    return [row["gateway"] for row in json.loads(_program("ip", "-j", family, "route", "show", "default"))]


def _forge(device: str, gateway: str, target: str, port: int, kind: str) -> str:
    """Send a UDP datagram or a TCP SYN to `target` in a frame made by hand, as no honest kernel would send it."""
    try:
        _udp(gateway, 9, 0.2)  # the kernel asks for the router's address in the link
    except OSError:
        pass
    six = ":" in target
    own = json.loads(_program("ip", "-j", "address", "show", "dev", device))[0]
    neighbours = json.loads(_program("ip", "-j", "neighbour", "show", "dev", device))
    there = next((entry["lladdr"] for entry in neighbours if "lladdr" in entry), "52:55:0a:00:02:02")
    family = "inet6" if six else "inet"
    source = next(
        entry["local"] for entry in own["addr_info"] if entry["family"] == family and entry["scope"] == "global"
    )
    pack = (lambda text: socket.inet_pton(socket.AF_INET6, text)) if six else socket.inet_aton
    if kind == "udp":
        number, body = 17, struct.pack(">HHHH", 4000, port, 13, 0) + b"forge"
    else:
        number, body = 6, struct.pack(">HHIIBBHHH", 4000, port, 1, 0, 5 << 4, 2, 65535, 0, 0)
    pseudo = (
        pack(source)
        + pack(target)
        + (struct.pack(">II", len(body), number) if six else struct.pack(">HH", number, len(body)))
    )
    place = 6 if number == 17 else 16
    body = body[:place] + struct.pack(">H", _checksum(pseudo + body)) + body[place + 2 :]
    if six:
        head = struct.pack(">IHBB", 6 << 28, len(body), number, 64) + pack(source) + pack(target)
    else:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, number, 0) + pack(source) + pack(target)
        head = head[:10] + struct.pack(">H", _checksum(head)) + head[12:]
    ethernet = bytes.fromhex((there + own["address"]).replace(":", "")) + struct.pack(">H", 0x86DD if six else 0x0800)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((device, 0))
        for _ in range(3):
            raw.send(ethernet + head + body)
            time.sleep(0.05)
    return there


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


PROBES: dict[str, Callable[..., Any]] = {
    "listen": _listen,
    "tcp": _tcp,
    "udp": _udp,
    "ping": _ping,
    "name": _name,
    "program": _program,
    "device": _device,
    "routers": _routers,
    "forge": _forge,
}


if __name__ == "__main__":
    if sys.argv[1] == "host":
        _run_host(*sys.argv[2:])
    else:
        _run_supervisor()
