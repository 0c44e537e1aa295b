"""Walkthrough 5: ports of the host that lead into a fake root, and the REST API through which they come and go."""

from __future__ import annotations

import json
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from jubako.net.choose import has_default_route
from world import programs, vpnkit_peer
from world.box import eventually
from world.command import Command
from world.fakeroot import FakeRoot, UnixConnection, ask, named, open_fake_root
from world.refusal import refused

SERVER = """
import socket, threading
def tcp(address, family):
    with socket.create_server((address, 7000), family=family) as server:
        while True:
            peer, name = server.accept()
            peer.sendall(f"hello {name[0]}".encode())
            peer.close()
def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", 7000))
        while True:
            data, name = server.recvfrom(100)
            server.sendto(b"re " + data, name)
for work in (lambda: tcp("0.0.0.0", socket.AF_INET), lambda: tcp("::1", socket.AF_INET6), udp):
    threading.Thread(target=work, daemon=True).start()
import sys
print("served", flush=True)
sys.stdin.read()
"""


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def greeting(port: int, address: str = "127.0.0.1") -> str:
    """What the server inside says to who connects to the host's port; empty where nobody is reached."""
    try:
        with socket.create_connection((address, port), timeout=10) as client:
            return client.recv(100).decode()
    except OSError:
        return ""


def echo(port: int) -> bytes:
    """What the server inside sends back; a datagram may be lost, so it is sent again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        for _ in range(20):
            client.sendto(b"datagram", ("127.0.0.1", port))
            try:
                return client.recv(100)
            except TimeoutError:
                continue
    return b""


def serve(jubako: Command, state: Path, *flags: str) -> FakeRoot:
    programs.require("slirp4netns")
    flags = ("--net=slirp4netns", "--copy-up=/etc", *flags)
    root = open_fake_root(jubako, state, *flags, command=("/usr/bin/python3", "-c", SERVER))
    assert root.running.stdout is not None
    assert root.running.stdout.readline() == "served\n"
    return root


@pytest.fixture(scope="module")
def shared(account: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeRoot]:
    """One with the port driver builtin, for tests that do not end it."""
    directory = tmp_path_factory.mktemp("shared")
    jubako = Command(account, directory)  # type: ignore[arg-type]
    root = serve(jubako, directory / "state", "--port-driver=builtin")
    yield root
    code = root.close()
    jubako.close()
    assert code == 0


@pytest.fixture(autouse=True)
def _shared_first(shared: FakeRoot) -> None:
    """So that it is no trace of the test that happens to want it first."""


@pytest.mark.parametrize("driver", ["builtin", "slirp4netns"])
def test_a_published_port_leads_inside(jubako: Command, tmp_path: Path, driver: str) -> None:
    tcp, udp = free_port(), free_port(socket.SOCK_DGRAM)
    ports = ("-p", f"127.0.0.1:{tcp}:7000/tcp", "--publish", f"127.0.0.1:{udp}:7000/udp")
    root = serve(jubako, tmp_path / "state", f"--port-driver={driver}", *ports)
    assert greeting(tcp).startswith("hello ")
    assert echo(udp) == b"re datagram"
    info = root.ask("GET", "/v1/info")[1]
    assert info["networkDriver"] == {"driver": "slirp4netns", "dns": ["10.0.2.3"], "childIP": "10.0.2.100"}
    assert info["portDriver"]["driver"] == driver
    assert {"tcp", "tcp4", "udp", "udp4"} <= set(info["portDriver"]["protos"])
    assert ("tcp6" in info["portDriver"]["protos"]) == (driver == "builtin")
    assert info["portDriver"].get("disallowLoopbackChildIP", False) == (driver == "slirp4netns")
    assert root.close() == 0
    assert greeting(tcp) == ""


def test_a_port_in_use_is_told_and_nothing_started(jubako: Command, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}:80/tcp"
        flags = ("--net=slirp4netns", "--disable-host-loopback", "--port-driver=builtin", "-p", taken)
        result = jubako("rootless", *flags, "touch", tmp_path / "ran")
    refused(result, "EADDRINUSE")
    assert not (tmp_path / "ran").exists()


def test_ports_come_and_go_by_the_client(jubako: Command, shared: FakeRoot) -> None:
    control = named(jubako, "rootlessctl")
    socket_flag = f"--socket={shared.state}/api.sock"
    first, second = free_port(), free_port()
    added = control(socket_flag, "add-ports", f"127.0.0.1:{first}:7000/tcp", f"[::1]:{second}:7000/tcp", check=True)
    numbers = added.stdout.split()
    assert greeting(first).startswith("hello")
    assert greeting(second, "::1").startswith("hello")
    listed = control(socket_flag, "list-ports", "--json", check=True)
    entries = [json.loads(line) for line in listed.lines]
    assert {"id": int(numbers[0]), "spec": {
        "proto": "tcp", "parentIP": "127.0.0.1", "parentPort": first, "childPort": 7000}} in entries  # fmt: skip
    table = control(socket_flag, "list-ports", check=True).lines
    assert table[0].split() == ["ID", "PROTO", "PARENTIP", "PARENTPORT", "CHILDIP", "CHILDPORT"]
    assert [numbers[0], "tcp", "127.0.0.1", str(first), "7000"] in [line.split() for line in table]
    again = control(socket_flag, "add-ports", f"127.0.0.1:{first}:7000/tcp")
    refused(again, f"conflict with ID {numbers[0]}")
    assert control(socket_flag, "remove-ports", *numbers, check=True).stdout.split() == numbers
    assert greeting(first) == greeting(second, "::1") == ""
    refused(control(socket_flag, "remove-ports", numbers[0]), "no such ID")
    refused(control(socket_flag, "remove-ports", "one"), "no number")
    refused(control(socket_flag, "add-ports", "nonsense"), "nonsense")
    refused(control(socket_flag, "add-ports"), "PORT is missing")


def test_the_original_client_talks_to_ours(jubako: Command, shared: FakeRoot) -> None:
    program = programs.require("rootlessctl", "rootlesskit")
    if Path(program).resolve().parent == Path(jubako.program).resolve().parent:
        program = programs.require("/usr/bin/rootlessctl", "rootlesskit")
    original = Command(jubako.account, jubako.cwd, (), jubako.env, program)
    ours = named(jubako, "rootlessctl")
    flag = f"--socket={shared.state}/api.sock"
    port = free_port()
    number = original(flag, "add-ports", f"127.0.0.1:{port}:7000/tcp", check=True).stdout.strip()
    assert greeting(port).startswith("hello")
    for words in (("info",), ("info", "--json"), ("list-ports", "--json")):
        assert original(flag, *words, check=True).stdout == ours(flag, *words, check=True).stdout
    theirs, mine = (client(flag, "list-ports", check=True).lines for client in (original, ours))
    assert [line.split() for line in theirs] == [line.split() for line in mine]
    assert original(flag, "remove-ports", number, check=True).stdout.strip() == number
    assert original(flag, "remove-ports", number).exit_code != 0


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "value was expected"), (b"nonsense", "value was expected"), (b"[]", "no object"), (b"null", "no object"),
        (b'{"proto": 6}', "proto is no string"), (b"{}", "unknown proto"), (b'{"proto": "icmp"}', "unknown proto"),
        (b'{"proto": "tcp", "parentPort": "80", "childPort": 80}', "parentPort is no whole number"),
        (b'{"proto": "tcp", "parentPort": 80.5, "childPort": 80}', "parentPort is no whole number"),
        (b'{"proto": "tcp", "parentPort": true, "childPort": 80}', "parentPort is no whole number"),
        (b'{"proto": "tcp", "parentPort": 65536, "childPort": 80}', "parentPort is not between"),
        (b'{"proto": "tcp", "parentPort": -1, "childPort": 80}', "parentPort is not between"),
        (b'{"proto": "tcp", "parentPort": 80}', "childPort is not between"),
        (b'{"proto": "tcp", "parentPort": 80, "childPort": 80, "parentIP": "localhost"}', "numeric address"),
        (b'{"proto": "tcp4", "parentPort": 80, "childPort": 80, "parentIP": "::1"}', "tcp4"),
        (b'{"proto": "sctp", "parentPort": 80, "childPort": 80}', "sctp"),
        (b"[" * 100_000, ""), (b'{"proto": "\xff"}', ""), (b'{"proto": "tcp"', ""),
    ],
)  # fmt: skip
def test_what_is_no_port_is_refused_with_a_reason(shared: FakeRoot, document: bytes, words: str) -> None:
    status, answer = shared.ask("POST", "/v1/ports", document)
    assert status == 400
    assert words in answer["message"]
    assert shared.ask("GET", "/v1/ports")[0] == 200


@pytest.mark.parametrize("number", ["x", "-1", "999999999999999999999", "4/5", "", "%31", "٣"])
def test_a_port_that_is_no_number_is_not_removed(shared: FakeRoot, number: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(shared.state / "api.sock"))
        client.sendall(f"DELETE /v1/ports/{number} HTTP/1.1\r\n\r\n".encode())
        assert client.recv(100).split()[1] in (b"400", b"404")


def test_no_client_keeps_others_waiting(shared: FakeRoot) -> None:
    port = free_port()
    spec = {"proto": "tcp", "parentIP": "127.0.0.1", "parentPort": port, "childPort": 7000}
    number = shared.ask("POST", "/v1/ports", spec)[1]["id"]
    path = str(shared.state / "api.sock")
    slow: list[socket.socket] = []
    for count in range(300):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        client.connect(path)
        client.sendall((b"", b"POST /v1/ports HTTP/1.1\r\nContent-Length: 10\r\n\r\n{", b"GET /v1/in")[count % 3])
        slow.append(client)
    assert shared.ask("GET", "/v1/info")[0] == 200
    assert greeting(port).startswith("hello")
    for client in slow:
        client.close()
    assert shared.ask("DELETE", f"/v1/ports/{number}") == (200, None)


def test_a_connection_takes_many_requests_one_by_one_and_at_once(shared: FakeRoot) -> None:
    connection = UnixConnection(shared.state / "api.sock")
    for _ in range(5):
        connection.request("GET", "/v1/info")
        assert json.loads(connection.getresponse().read())["childPID"] == shared.program
    connection.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(shared.state / "api.sock"))
        client.sendall(b"GET /v1/info HTTP/1.1\r\n\r\n" * 20 + b"GET /v1/ports HTTP/1.1\r\nConnection: close\r\n\r\n")
        data = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert data.count(b"HTTP/1.1 200 OK") == 21
    assert data.count(b"childPID") == 20


def test_bodies_in_chunks_of_any_size_and_too_large_ones(shared: FakeRoot) -> None:
    port = free_port()
    text = json.dumps({"proto": "tcp", "parentIP": "127.0.0.1", "parentPort": port, "childPort": 7000}).encode()
    connection = UnixConnection(shared.state / "api.sock")
    connection.request("POST", "/v1/ports", iter([text[:5], text[5:6], text[6:]]), encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 201
    number = json.loads(answer.read())["id"]
    connection.close()
    assert shared.ask("DELETE", f"/v1/ports/{number}")[0] == 200
    connection = UnixConnection(shared.state / "api.sock")
    connection.request("POST", "/v1/ports", b"[" + b" " * (10 << 20))
    answer = connection.getresponse()
    assert answer.status == 400
    assert "too large" in json.loads(answer.read())["message"]
    connection.request("GET", "/v1/info")
    assert connection.getresponse().status == 200, "and the connection goes on"
    connection.close()
    try:  # it is cut off at once, and may be so while it is still sent
        assert ask(shared.state / "api.sock", "POST", "/v1/ports", b"x" * (65 << 20))[0] == 400
    except OSError:
        pass
    assert shared.ask("GET", "/v1/info")[0] == 200


def test_docker_proxy_publishes_until_it_is_ended(jubako: Command, shared: FakeRoot) -> None:
    port = free_port()
    proxy = named(jubako, "rootlesskit-docker-proxy")
    enter = ("nsenter", f"--target={shared.program}", "--user", "--net", "--preserve-credentials")
    words = ("-container-ip", "127.0.0.1", "-container-port=7000", "-host-ip", "127.0.0.1", "-host-port", str(port))
    script = 'exec "$0" "$@" 3>&1'
    inside = Command(jubako.account, jubako.cwd, (*enter, "sh", "-c", script), jubako.env, proxy.program)
    environment = {"ROOTLESSKIT_STATE_DIR": str(shared.state)}
    running = inside.start(*words, "-proto", "tcp", env=environment)
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "0\n"
        assert eventually(lambda: greeting(port).startswith("hello"), 10)
        assert [entry["spec"]["parentPort"] for entry in shared.ask("GET", "/v1/ports")[1]] == [port]
        second = inside(*words, "-proto", "tcp", env=environment)
        assert second.stdout.startswith("1\n")
        assert "conflict" in second.stdout
        running.send_signal(signal.SIGINT)
        assert running.wait(10) == 0
        assert shared.ask("GET", "/v1/ports")[1] == []
        assert greeting(port) == ""
    finally:
        inside.close()
    wrong = inside("-container-port=x", env=environment)
    assert wrong.exit_code == 125
    for bad in (("-host-port", "1"), ("-host-port", "0", "-container-port", "80")):
        assert inside(*bad, env=environment).stdout.startswith("1\n")


# --- 5.3, as far as it is the fake root's: each network is connected, and told ----------------------------------------


@pytest.fixture
def networks(tmp_path: Path) -> dict[str, tuple[tuple[str, ...], str, str]]:
    """The flags for each network, its device's address and its name server."""
    stand_in = tmp_path / "vpnkit"
    shutil.copyfile(vpnkit_peer.__file__, stand_in)
    stand_in.chmod(0o755)
    return {
        "slirp4netns": ((), "10.0.2.100/24", "10.0.2.3"),
        "slirp4netns, other addresses": (("--cidr=10.9.8.0/24", "--ifname=up0"), "10.9.8.100/24", "10.9.8.3"),
        "slirp4netns, confined": (
            ("--slirp4netns-sandbox=auto", "--slirp4netns-seccomp=auto"), "10.0.2.100/24", "10.0.2.3",
        ),
        "pasta": ((), "10.0.2.100/24", "10.0.2.3"),
        "pasta, smaller packets": (("--mtu=1400",), "10.0.2.100/24", "10.0.2.3"),
        "vpnkit": ((f"--vpnkit-binary={stand_in}",), "192.168.65.3/24", "192.168.65.1"),
    }  # fmt: skip


@pytest.mark.parametrize("detached", [False, True], ids=["", "detached"])
@pytest.mark.parametrize(
    "name",
    [
        "slirp4netns", "slirp4netns, other addresses", "slirp4netns, confined", "pasta", "pasta, smaller packets",
        "vpnkit",
    ],
)  # fmt: skip
def test_each_network_is_connected_and_told(
    jubako: Command, tmp_path: Path, networks: dict[str, tuple[tuple[str, ...], str, str]], name: str, detached: bool
) -> None:
    flags, address, server = networks[name]
    driver = name.partition(",")[0]
    if driver != "vpnkit":
        programs.require(driver, {"pasta": "passt"}.get(driver, ""))
    if driver == "pasta" and not has_default_route():
        pytest.skip("pasta wants a default route")
    state = tmp_path / "state"
    more = ("--detach-netns",) if detached else ("--copy-up=/etc",)
    root = open_fake_root(jubako, state, f"--net={driver}", "--disable-host-loopback", *flags, *more)
    where = f"/proc/{root.program}/root{state}/netns" if detached else f"/proc/{root.program}/ns/net"
    enter = ("nsenter", f"--target={root.program}", "--user", "--preserve-credentials", f"--net={where}")
    shown = Command(jubako.account, jubako.cwd, enter, jubako.env, "ip")("-json", "address", check=True).json
    device = next(each for each in shown if each["ifname"] != "lo")
    inet = next(each for each in device["addr_info"] if each["family"] == "inet")
    assert f"{inet['local']}/{inet['prefixlen']}" == address
    assert device["ifname"] == ("up0" if "--ifname=up0" in flags else "tap0")
    mtu = 1400 if "--mtu=1400" in flags else 1500 if driver == "vpnkit" else 65520
    assert device["mtu"] == mtu
    told = {"driver": driver, "dns": [server], "childIP": address.partition("/")[0]}
    assert root.ask("GET", "/v1/info")[1]["networkDriver"] == told
    resolv = f"{state}/resolv.conf" if detached else f"/proc/{root.program}/root/etc/resolv.conf"
    assert Path(resolv).read_text().startswith(f"nameserver {server}\n")
    if detached:
        assert Path(f"/proc/{root.program}/root/etc/resolv.conf").read_text() == Path("/etc/resolv.conf").read_text()
    assert root.close() == 0
