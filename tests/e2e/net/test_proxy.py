"""The network driver `proxy`: real programs in a real namespace, with servers on the host and beyond it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world import programs
from world.proxyns import LOCAL_PORT, METADATA, OPEN_PORT, OWN, PRIVATE, PUBLIC, PUBLIC6, ProxiedNamespace

ALLOW = (
    "good.example", "*.wild.example", "six.example", "mixed.example", "only-bad.example:*", "private.example",
    "metadata.example", "loop.example:*", "own.example:*", "good.example:7777", "gone.example",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    for name, package in (("curl", "curl"), ("ip", "iproute2"), ("openssl", "openssl"), ("nsenter", "util-linux")):
        programs.require(name, package)


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedNamespace]:
    """A namespace with the rules of `ALLOW`."""
    namespace = ProxiedNamespace(tmp_path_factory.mktemp("proxied"), ALLOW)
    yield namespace
    namespace.end()


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Callable[..., ProxiedNamespace]]:
    """`namespace(RULE…)`: one with rules of its own."""
    opened: list[ProxiedNamespace] = []

    def start(*allow: str) -> ProxiedNamespace:
        opened.append(ProxiedNamespace(tmp_path / str(len(opened)), allow))
        return opened[-1]

    yield start
    for each in opened:
        each.end()


def await_status(namespace: ProxiedNamespace, kind: str, host: str) -> int:
    """How often `host` is counted, once it is."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = namespace.status()["hosts"][kind].get(host, 0)
        if found:
            return int(found)
        time.sleep(0.05)
    pytest.fail(f"{host} is not among {namespace.status()}")


def test_there_is_no_other_way_out(inside):
    for address in (PUBLIC, PRIVATE, OWN):
        done = inside.curl("--noproxy", "*", f"http://{address}/")
        assert done.returncode == 7  # could not connect
    assert inside.run("ip", "-brief", "link").stdout.split()[0] == "lo"


def test_curl_reaches_an_allowed_host_by_the_variables_alone(inside):
    done = inside.curl("http://good.example/hello")
    assert done.stdout.startswith(f"reached at {PUBLIC}\nGET /hello HTTP/1.1\n"), done.stderr
    assert "Proxy-" not in done.stdout
    assert await_status(inside, "allowed", "good.example:80")


@pytest.mark.parametrize("way", [(), ("--proxy", "socks5h://127.0.0.1:3128")], ids=["variables", "socks"])
def test_https_goes_through_from_end_to_end(inside, way):
    done = inside.curl(*way, "--cacert", f"{inside.directory}/certificate.pem", "https://good.example/secure")
    assert done.stdout.startswith(f"reached at {PUBLIC}\nGET /secure HTTP/1.1\n"), done.stderr
    assert await_status(inside, "allowed", "good.example:443")
    assert inside.curl(*way, "https://other.example/").returncode != 0


@pytest.mark.parametrize(
    "way",
    [
        ("--proxytunnel", "--proxy", "http://127.0.0.1:3128"),
        ("--proxy", "socks5h://127.0.0.1:3128"),
        ("--proxytunnel", "--proxy", "http://[::1]:3128"),
        ("--proxy", "socks5h://[::1]:3128"),
    ],
    ids=lambda way: way[-1],
)
def test_an_allowed_host_is_reached_through_a_tunnel(inside, way):
    done = inside.curl(*way, "http://good.example/tunnel")
    assert done.stdout.startswith(f"reached at {PUBLIC}\nGET /tunnel HTTP/1.1\n"), done.stderr


def test_python_reaches_an_allowed_host_by_the_variables_alone(inside):
    script = "import urllib.request as r; print(r.urlopen('http://a.wild.example/py').read().decode())"
    done = inside.run("/usr/bin/python3", "-c", script)
    assert done.stdout.startswith(f"reached at {PUBLIC}\nGET /py"), done.stderr


def test_an_allowed_host_is_reached_by_its_ipv6_address(inside):
    assert inside.curl("http://six.example/").stdout.startswith(f"reached at {PUBLIC6}\n")


def test_a_body_arrives_whole_plain_and_chunked(inside, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"Z" * 1_000_000)
    for fields in ((), ("--header", "Transfer-Encoding: chunked")):
        done = inside.curl(*fields, "--data-binary", f"@{body}", "http://good.example/")
        assert done.stdout.count("Z") == 1_000_000, done.stderr


@pytest.mark.parametrize("url", ["http://other.example/", "http://wild.example/", "http://good.example:8080/"])
def test_what_no_rule_names_is_refused_and_not_even_looked_up(inside, url):
    before = inside.asked()
    done = inside.curl("--write-out", "%{http_code}", url)
    assert done.stdout.endswith("403")
    assert "no --allow names this host and port" in done.stdout
    socks = inside.curl("--proxy", "socks5h://127.0.0.1:3128", url)
    assert socks.returncode == 97  # refused by the proxy
    assert inside.asked() == before


@pytest.mark.parametrize(
    "url",
    [
        f"http://{PUBLIC}/", f"http://[{PUBLIC6}]/", f"http://{OWN}:{OPEN_PORT}/", f"http://127.0.0.1:{LOCAL_PORT}/",
        f"http://[::1]:{LOCAL_PORT}/", f"http://[::ffff:127.0.0.1]:{LOCAL_PORT}/", f"http://{METADATA}/",
        f"http://0.0.0.0:{LOCAL_PORT}/", "http://169.254.169.254/latest/meta-data/", f"http://localhost:{LOCAL_PORT}/",
    ],
)  # fmt: skip
def test_an_address_is_refused_where_only_names_are_allowed(inside, url):
    for way in (("http://127.0.0.1:3128",), ("http://127.0.0.1:3128", "--proxytunnel"), ("socks5h://127.0.0.1:3128",)):
        done = inside.curl("--noproxy", "", "--proxy", *way, url)
        assert "secret" not in done.stdout
        assert "reached" not in done.stdout


@pytest.mark.parametrize(
    "host", ["127.1", "0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.1.", "%31%32%37.0.0.1"]
)
@pytest.mark.parametrize("kind", ["plain", "tunnel", "socks"])
def test_an_address_in_disguise_is_refused_even_where_its_plain_form_is_allowed(namespace, host, kind):
    """As raw bytes, since curl tidies such hosts up."""
    script = """
import socket, sys
kind, host, port = sys.argv[1:]
s = socket.create_connection(('127.0.0.1', 3128))
if kind == 'socks':
    s.sendall(b'\\5\\1\\0\\5\\1\\0\\3' + bytes((len(host),)) + host.encode() + int(port).to_bytes(2, 'big'))
elif kind == 'tunnel':
    s.sendall(f'CONNECT {host}:{port} HTTP/1.1\\r\\nHost: {host}:{port}\\r\\n\\r\\nGET / HTTP/1.1\\r\\n\\r\\n'.encode())
else:
    s.sendall(f'GET http://{host}:{port}/ HTTP/1.1\\r\\nHost: {host}:{port}\\r\\n\\r\\n'.encode())
said = b''
while data := s.recv(1000): said += data
print(said)
"""
    opened = namespace(f"127.0.0.1:{LOCAL_PORT}")
    done = opened.run("/usr/bin/python3", "-c", script, kind, host, str(LOCAL_PORT))
    assert "secret" not in done.stdout
    assert (" 400 " if kind != "socks" else r"\x05\x00\x05\x01") in done.stdout


@pytest.mark.parametrize(
    "url",
    [
        "http://private.example/", "http://metadata.example/", f"http://loop.example:{LOCAL_PORT}/",
        f"http://own.example:{OPEN_PORT}/", f"http://only-bad.example:{OPEN_PORT}/",
    ],
)  # fmt: skip
def test_a_name_that_leads_to_a_private_or_own_address_is_refused(inside, url):
    for way in ((), ("--proxytunnel",)):
        done = inside.curl(*way, "--write-out", "%{http_connect} %{http_code}", url)
        assert "403" in done.stdout
        assert "secret" not in done.stdout
        assert "reached" not in done.stdout


def test_of_several_addresses_only_the_allowed_one_is_connected_to(inside):
    assert inside.curl("http://mixed.example/").stdout.startswith(f"reached at {PUBLIC}\n")


def test_a_name_that_does_not_exist_is_told(inside):
    done = inside.curl("--write-out", "%{http_code}", "http://gone.example/")
    assert done.stdout.endswith("502")
    assert "Name or service not known" in done.stdout
    assert "gone.example" in inside.asked()
    assert not any("trap" in name for name in inside.asked())


def test_a_rule_for_an_address_opens_that_address(namespace):
    named = (f"127.0.0.1:{LOCAL_PORT}", f"{OWN}:{OPEN_PORT}", "10.9.8.0/24")
    opened = namespace(*named, "private.example", "0.0.0.0/0:80")
    assert opened.curl("--noproxy", "", f"http://127.0.0.1:{LOCAL_PORT}/").stdout == "secret of the host's loopback"
    assert opened.curl(f"http://{OWN}:{OPEN_PORT}/").stdout == "secret of the host"
    assert opened.curl(f"http://{PRIVATE}/").stdout.startswith(f"reached at {PRIVATE}\n")
    assert opened.curl("http://private.example/").stdout.startswith(f"reached at {PRIVATE}\n")
    assert opened.curl(f"http://{PUBLIC}/").stdout.startswith(f"reached at {PUBLIC}\n")
    assert "403" in opened.curl("--write-out", "%{http_code}", f"http://{METADATA}/").stdout


def test_without_a_rule_nothing_is_let_through(namespace):
    opened = namespace()
    for url in ("http://good.example/", f"http://{PUBLIC}/"):
        assert opened.curl("--write-out", "%{http_code}", url).stdout.endswith("403")
    assert await_status(opened, "refused", "good.example:80") == 1
    assert opened.asked() == []


def test_the_helper_has_no_rights_over_anything_and_ends_with_who_started_it(namespace):
    opened = namespace()
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{opened.helper_pid}/status").read_text().splitlines())
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["Name"] == "jubako-proxy"
    sockets = [
        os.readlink(f"/proc/{opened.helper_pid}/fd/{fd}") for fd in os.listdir(f"/proc/{opened.helper_pid}/fd")
    ]
    assert sum(link.startswith("socket:") for link in sockets) == 2  # its listeners, and nothing of its parent's


def test_a_container_that_floods_the_proxy_is_still_served(inside):
    """More connections at once than there are places; each is answered in its turn."""
    script = """
import resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
idle = []
for _ in range(600):
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(('127.0.0.1', 3128))
    idle.append(s)
for s in idle: s.close()
s = socket.create_connection(('127.0.0.1', 3128), timeout=20)
s.sendall(b'CONNECT good.example:7777 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\nhello')
said = b''
while not said.endswith(b'hello'): said += s.recv(100)
print('served')
"""
    assert inside.run("/usr/bin/python3", "-c", script).stdout == "served\n"


def test_the_status_tells_all_that_is_counted(inside):
    inside.curl("http://good.example/")
    await_status(inside, "allowed", "good.example:80")
    status = inside.status()
    assert {"connections", "allowed", "refused", "failed", "hosts", "reasons"} == set(status)
