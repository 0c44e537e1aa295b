"""The driver lxc-user-nic with LXC's own set-uid program, on a bridge that root has made in the test's own network.

An ordinary account runs the program; /etc/lxc, /run and /sys are the test's own in its mount namespace.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import NotFoundError, UsageError
from jubako.linux.clone import CLONE_NEWNET, CLONE_NEWNS, setns, unshare
from jubako.linux.prctl import set_no_new_privs
from jubako.net.drivers.lxc_user_nic import LxcUserNic
from jubako.net.link import NetworkOptions
from world import dhcp_server
from world.account import Account
from world.programs import require
from world.supervised import Refused, Supervised

pytestmark = pytest.mark.root

BRIDGE, OWN = "testbr0", "10.0.3.1"
ALLOWANCE = 40.0
PORT = 7000
ASK = f"import socket; print(socket.create_connection(('{OWN}', {PORT}), 20).recv(100).decode())"


def eventually(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + ALLOWANCE
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return False


class Bridge:
    """A machine's network with a bridge, a DHCP server and a server that says who asked."""

    def __init__(self, directory: Path, account: Account) -> None:
        self.account = account
        self.mode, self.log = directory / "mode", directory / "log"
        self.offer("10.0.3.50 3600")
        ready, tell = os.pipe()
        wait, self._holds = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._holds)
                self._be(tell, wait)
            finally:
                os._exit(1)
        os.close(tell)
        os.close(wait)
        assert os.read(ready, 1) == b"."
        os.close(ready)
        self.namespaces = [(os.open(f"/proc/{self.pid}/ns/{name}", os.O_RDONLY), flag) for name, flag in KINDS]

    def offer(self, mode: str) -> None:
        """What the DHCP server does from now on, see `world.dhcp_server`."""
        fresh = self.mode.with_suffix(".new")
        fresh.write_text(mode)
        fresh.rename(self.mode)

    def messages(self) -> list[str]:
        return self.log.read_text().splitlines()

    def run(self, *argv: str) -> str:
        """What the program prints on the machine."""
        into = ("nsenter", f"--net=/proc/{self.pid}/ns/net", f"--mount=/proc/{self.pid}/ns/mnt", "--", *argv)
        return subprocess.run(into, capture_output=True, text=True, check=True).stdout

    def devices(self) -> list[str]:
        """What is on the bridge."""
        return [entry["ifname"] for entry in json.loads(self.run("ip", "-j", "link", "show", "master", BRIDGE))]

    def become_user(self) -> None:
        """Go there, as the account."""
        for fd, flag in self.namespaces:
            setns(fd, flag)
        os.initgroups(self.account.name, self.account.gid)
        os.setresgid(*[self.account.gid] * 3)
        os.setresuid(*[self.account.uid] * 3)

    def close(self) -> None:
        os.close(self._holds)
        os.waitpid(self.pid, 0)
        for fd, _flag in self.namespaces:
            os.close(fd)

    def _be(self, tell: int, wait: int) -> None:
        unshare(CLONE_NEWNET | CLONE_NEWNS)
        for command in (
            "mount --make-rprivate /",
            "mount -t tmpfs none /etc/lxc",
            "mount -t tmpfs none /run",
            "mount -t sysfs none /sys",
            "ip link set lo up",
            f"ip link add {BRIDGE} type bridge",
            f"ip address add {OWN}/24 dev {BRIDGE}",
            f"ip link set {BRIDGE} up",
        ):
            subprocess.run(command.split(), check=True)
        Path("/etc/lxc/lxc-usernet").write_text(f"{self.account.name} veth {BRIDGE} 2\n")
        script = [sys.executable, dhcp_server.__file__, BRIDGE, OWN, str(self.mode), str(self.log)]
        server = subprocess.Popen(script, stdin=subprocess.DEVNULL)
        listener = socket.create_server((OWN, PORT))
        answering = os.fork()
        if answering == 0:
            while True:
                connection, peer = listener.accept()
                connection.sendall(f"hello {peer[0]}".encode())
                connection.close()
        while not self.log.exists():
            time.sleep(0.01)
        os.write(tell, b".")
        os.read(wait, 1)
        for pid in (server.pid, answering):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os._exit(0)


KINDS = (("net", CLONE_NEWNET), ("mnt", CLONE_NEWNS))


@pytest.fixture
def bridge(tmp_path: Path, ordinary_account: Account) -> Iterator[Bridge]:
    if not Path("/usr/libexec/lxc/lxc-user-nic").exists():
        require("lxc-user-nic", "lxc")
    made = Bridge(tmp_path, ordinary_account)
    yield made
    made.close()


Supervise = Callable[..., Supervised]


@pytest.fixture
def supervise(bridge: Bridge, tmp_path: Path) -> Iterator[Supervise]:
    """A namespace of the account's on that machine."""
    opened: list[Supervised] = []

    def start(driver: LxcUserNic | None, prepare: Callable[[], None] = lambda: None) -> Supervised:
        def both() -> None:
            bridge.become_user()
            prepare()

        opened.append(Supervised(tmp_path, both, driver.request() if driver else None))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def driver(**options: Any) -> LxcUserNic:
    return LxcUserNic(NetworkOptions(driver="lxc-user-nic", **{"bridge": BRIDGE, **options}))


def device(namespace: Supervised, name: str = "eth0") -> dict[str, Any]:
    found = json.loads(namespace.run("ip", "-j", "address", "show", "dev", name).stdout)[0]
    scopes = [entry for entry in found["addr_info"] if entry["scope"] == "global"]
    return {
        "mtu": found["mtu"],
        "addresses": [f"{entry['local']}/{entry['prefixlen']}" for entry in scopes if entry["family"] == "inet"],
        "up": "UP" in found["flags"],
    }


# --- connected --------------------------------------------------------------------------------------------------------


def test_the_namespace_is_on_the_bridge_with_an_address_from_its_server(bridge: Bridge, supervise: Supervise) -> None:
    nic = driver()
    namespace = supervise(nic)
    before = namespace.descriptors()
    link = namespace.connect(nic)
    assert (link.device, link.addresses, link.mtu) == ("eth0", ("10.0.3.50/24",), 1500)
    assert (link.gateways, link.dns) == ((OWN,), (OWN,))
    assert device(namespace) == {"mtu": 1500, "addresses": ["10.0.3.50/24"], "up": True}
    assert f"default via {OWN} dev eth0" in namespace.run("ip", "route").stdout
    done = namespace.run(sys.executable, "-c", ASK)
    assert done.stdout == "hello 10.0.3.50\n", done.stderr
    assert len(bridge.devices()) == 1
    assert len(namespace.descriptors() - before) == 2  # those of the helper that keeps the lease


def test_device_and_mtu_are_as_asked(supervise: Supervise) -> None:
    nic = driver(device="net7", mtu=1400)
    namespace = supervise(nic)
    assert namespace.connect(nic).mtu == 1400
    assert device(namespace, "net7") == {"mtu": 1400, "addresses": ["10.0.3.50/24"], "up": True}
    assert namespace.run(sys.executable, "-c", ASK).stdout == "hello 10.0.3.50\n"


def test_an_mtu_that_the_bridge_does_not_have_is_refused(bridge: Bridge, supervise: Supervise) -> None:
    nic = driver(mtu=9000)
    namespace = supervise(nic)
    with pytest.raises(Refused, match=f"{BRIDGE} has 1500"):
        namespace.connect(nic)
    assert namespace.run("ip", "link", "show", "dev", "eth0").returncode != 0
    assert eventually(lambda: bridge.devices() == [])


def test_nonsense_from_the_servers_place_is_passed_over(bridge: Bridge, supervise: Supervise) -> None:
    bridge.offer("10.0.3.50 3600 junk")
    nic = driver()
    assert supervise(nic).connect(nic).addresses == ("10.0.3.50/24",)


# --- the lease --------------------------------------------------------------------------------------------------------


def test_a_lease_is_renewed_before_it_ends(bridge: Bridge, supervise: Supervise) -> None:
    bridge.offer("10.0.3.50 4")
    nic = driver()
    namespace = supervise(nic)
    namespace.connect(nic)
    assert eventually(lambda: bridge.messages().count("REQUEST 10.0.3.50") >= 2)
    assert device(namespace)["addresses"] == ["10.0.3.50/24"]
    assert bridge.messages().count("DISCOVER 0.0.0.0") == 1


def test_a_lease_that_is_refused_is_given_up_for_another(bridge: Bridge, supervise: Supervise) -> None:
    bridge.offer("10.0.3.50 4")
    nic = driver()
    namespace = supervise(nic)
    namespace.connect(nic)
    bridge.offer("10.0.3.51 3600 refuse")
    assert eventually(lambda: device(namespace)["addresses"] == ["10.0.3.51/24"])
    assert eventually(lambda: f"default via {OWN}" in namespace.run("ip", "route").stdout)


def test_a_lease_that_nobody_renews_is_given_up_at_its_end(bridge: Bridge, supervise: Supervise) -> None:
    bridge.offer("10.0.3.50 4")
    nic = driver()
    namespace = supervise(nic)
    namespace.connect(nic)
    bridge.offer("")
    assert eventually(lambda: device(namespace)["addresses"] == [])
    bridge.offer("10.0.3.50 3600")
    assert eventually(lambda: device(namespace)["addresses"] == ["10.0.3.50/24"])


def test_who_deletes_the_device_inside_ends_the_helper_and_nothing_else(bridge: Bridge, supervise: Supervise) -> None:
    bridge.offer("10.0.3.50 4")
    nic = driver()
    namespace = supervise(nic)
    namespace.connect(nic)
    assert namespace.run("ip", "link", "delete", "eth0").returncode == 0
    assert namespace.over("dhcp") == "the device is gone\n"
    assert bridge.devices() == []


# --- refused ----------------------------------------------------------------------------------------------------------


def test_who_is_not_allowed_is_told_the_line_that_allows_it(bridge: Bridge, supervise: Supervise) -> None:
    bridge.run("sh", "-c", "echo somebody veth other0 10 >/etc/lxc/lxc-usernet")
    nic = driver()
    line = f"/etc/lxc/lxc-usernet: {bridge.account.name} veth {BRIDGE} 10"
    with pytest.raises(Refused, match=f"Quota reached\n  hint: root has to allow it, by this line in {line}"):
        supervise(nic).connect(nic)
    bridge.run("rm", "/etc/lxc/lxc-usernet")
    with pytest.raises(Refused, match=f'Failed to open "/etc/lxc/lxc-usernet"[^\n]*\n  hint: root has [^\n]*{line}'):
        supervise(nic).connect(nic)


def test_one_more_than_allowed_is_refused_and_counts_again_when_one_ends(bridge: Bridge, supervise: Supervise) -> None:
    nic = driver()
    first, second, third = (supervise(nic) for _ in range(3))
    for number, each in enumerate((first, second)):
        bridge.offer(f"10.0.3.6{number} 3600")
        each.connect(nic)
    with pytest.raises(Refused, match="Quota reached"):
        third.connect(nic)
    first.kill()
    assert eventually(lambda: len(bridge.devices()) == 1)
    bridge.offer("10.0.3.62 3600")
    assert third.connect(nic).addresses == ("10.0.3.62/24",)


def test_a_bridge_that_is_not_there_is_said(supervise: Supervise) -> None:
    nic = driver(bridge="nobr0")
    with pytest.raises(Refused, match="find the bridge nobr0: there is none\n  hint: start it"):
        supervise(nic).connect(nic)


def test_a_bridge_without_a_server_leaves_nothing(bridge: Bridge, supervise: Supervise) -> None:
    bridge.offer("")
    nic = driver()
    namespace = supervise(nic)
    before = namespace.descriptors()
    with pytest.raises(Refused, match="no DHCP server answered\n  hint: is a DHCP server running"):
        namespace.connect(nic)
    assert namespace.helpers() == []
    assert namespace.descriptors() == before
    assert eventually(lambda: bridge.devices() == [])


def test_a_caller_who_may_gain_no_privileges_is_told_so(supervise: Supervise) -> None:
    nic = driver()
    with pytest.raises(Refused, match="no_new_privs"):
        supervise(nic, set_no_new_privs).connect(nic)


def test_without_a_process_outside_it_is_refused(supervise: Supervise) -> None:
    with pytest.raises(Refused, match="a set-uid program has no rights in a user namespace"):
        supervise(None).connect(driver())


def test_the_process_that_is_shown_to_the_program_is_out_of_the_containers_reach(
    supervise: Supervise, tmp_path: Path
) -> None:
    """It is in the network namespace, but in the base's user namespace: no root of a container may trace it."""
    program = Path("/var/tmp") / f"nic-{os.getpid()}"
    program.write_text("#!/bin/sh\nreadlink /proc/$4/ns/user /proc/$4/ns/net\nexit 1\n")
    program.chmod(0o755)
    try:
        nic = driver(program=str(program))
        namespace = supervise(nic)
        with pytest.raises(Refused) as refused:
            namespace.connect(nic)
    finally:
        program.unlink()
    base = os.readlink(f"/proc/{namespace.supervisor}/ns/user")
    inside = namespace.run("readlink", "/proc/self/ns/user", "/proc/self/ns/net").stdout.split()
    assert f"{base}; {inside[1]}" in str(refused.value)
    assert base != inside[0]


def test_a_device_name_that_is_taken_is_refused(bridge: Bridge, supervise: Supervise) -> None:
    nic = driver()
    namespace = supervise(nic)
    namespace.run("ip", "link", "add", "eth0", "type", "bridge")
    with pytest.raises(Refused, match=r"make the device eth0: File exists \(EEXIST\)"):
        namespace.connect(nic)
    assert bridge.devices() == []
    assert "veth" not in namespace.run("ip", "link").stdout


@pytest.mark.parametrize(
    "options",
    [{"cidr": "10.9.0.0/24"}, {"ipv6": True}, {"host_loopback": True}, {"rules": ("a.example",)}, {"sandbox": "true"},
     {"seccomp": "true"}, {"arguments": ("-x",)}, {"mtu": 70000}, {"device": "a/b"}, {"bridge": "-x"}],
)  # fmt: skip
def test_what_it_cannot_do_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        driver(**options)


def test_a_program_that_is_not_installed_is_named_with_its_package() -> None:
    with pytest.raises(NotFoundError, match="install the package lxc"):
        driver(program="/nowhere/lxc-user-nic")


# --- nothing is left --------------------------------------------------------------------------------------------------


def test_a_killed_supervisor_leaves_neither_helper_nor_device(bridge: Bridge, supervise: Supervise) -> None:
    nic = driver()
    namespace = supervise(nic)
    namespace.connect(nic)
    ((name, pid),) = namespace.helpers()
    assert name == "dhcp"
    namespace.kill()  # waits for the process outside as well
    assert eventually(lambda: not Path(f"/proc/{pid}").exists() and bridge.devices() == [])
