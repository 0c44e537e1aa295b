"""How requests are read and written anew: `jubako.net.proxy.http` and `socks`."""

from __future__ import annotations

import pytest

from jubako.net.proxy import http, socks
from jubako.net.proxy.addresses import Address


def head(*lines: str) -> bytes:
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def test_a_tunnel_is_read():
    request = http.read_request(head("CONNECT Example.org:443 HTTP/1.1", "Host: Example.org:443"))
    assert (request.host, request.port, request.is_tunnel) == ("example.org", 443, True)
    request = http.read_request(head("CONNECT [2606:4700::1111]:443 HTTP/1.0"))
    assert (str(request.host), request.port) == ("2606:4700::1111", 443)


def test_a_request_goes_on_in_origin_form_with_a_host_and_without_what_is_for_the_proxy():
    request = http.read_request(
        head(
            "GET http://Example.org:8080/a?b=http://c/ HTTP/1.1",
            "hOST: example.org:8080",
            "Proxy-Authorization: Basic c2VjcmV0",
            "Proxy-Connection: keep-alive",
            "Connection: keep-alive, X-Private",
            "Keep-Alive: timeout=5",
            "TE: trailers",
            "Upgrade: h2c",
            "X-Private: 1",
            "Accept: */*",
        )
    )
    assert (request.host, request.port, request.body) == ("example.org", 8080, 0)
    expected = ("GET /a?b=http://c/ HTTP/1.1", "Host: Example.org:8080", "Accept: */*", "Connection: close")
    assert request.head == head(*expected)


@pytest.mark.parametrize(
    ("target", "path"),
    [("http://e.org", "/"), ("HTTP://e.org?x", "/?x"), ("http://e.org/?", "/?"), ("http://e.org//x", "//x")],
)
def test_the_path_is_what_follows_the_host(target, path):
    assert http.read_request(head(f"GET {target} HTTP/1.1", "Host: e.org")).head.split(b" ")[1] == path.encode()


def test_a_chunked_body_is_announced_and_a_length_kept():
    request = http.read_request(head("POST http://e.org/ HTTP/1.1", "Host: e.org", "Transfer-Encoding: chunked"))
    assert request.body == -1
    assert b"Transfer-Encoding: chunked" in request.head
    request = http.read_request(head("POST http://e.org/ HTTP/1.1", "Host: e.org", "Content-Length: 12"))
    assert request.body == 12
    assert b"Content-Length: 12" in request.head


HOST = "Host: e.org"
POST = "POST http://e.org/ HTTP/1.1"
GET = "GET http://e.org/ HTTP/1.1"
BAD = {
    "two Hosts": (GET, HOST, "Host: evil.net"),
    "two equal Hosts": (GET, HOST, HOST),
    "no Host": (GET,),
    "an empty Host": (GET, "Host:"),
    "another Host": (GET, "Host: evil.net"),
    "another port": (GET, "Host: e.org:8080"),
    "both lengths": (POST, HOST, "Content-Length: 3", "Transfer-Encoding: chunked"),
    "two lengths": (POST, HOST, "Content-Length: 3", "Content-Length: 4"),
    "a list of lengths": (POST, HOST, "Content-Length: 3, 3"),
    "a signed length": (POST, HOST, "Content-Length: +3"),
    "a hexadecimal length": (POST, HOST, "Content-Length: 0x3"),
    "another coding": (POST, HOST, "Transfer-Encoding: gzip, chunked"),
    "two codings": (POST, HOST, "Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    "a disguised coding": (POST, HOST, "Transfer-Encoding: xchunked"),
    "a coding in HTTP/1.0": ("POST http://e.org/ HTTP/1.0", HOST, "Transfer-Encoding: chunked"),
    "a blank before the colon": (GET, HOST, "Content-Length : 3"),
    "a folded line": (GET, HOST, "X: 1", " Host: evil.net"),
    "no field": (GET, HOST, "nonsense"),
    "a bare line feed": (GET, HOST, "X: 1\nHost: evil.net"),
    "a bare carriage return": (GET, HOST, "X: 1\rHost: evil.net"),
    "a NUL": (GET, HOST, "X: \0"),
    "a Connection that takes the length": (POST, HOST, "Content-Length: 3", "Connection: Content-Length"),
    "a Connection that takes the Host": (GET, HOST, "Connection: host"),
    "user information": ("GET http://e.org@evil.net/ HTTP/1.1", "Host: evil.net"),
    "a password": ("GET http://a:b@e.org/ HTTP/1.1", HOST),
    "percent-encoding": ("GET http://e%2eorg/ HTTP/1.1", "Host: e%2eorg"),
    "a backslash": ("GET http://e.org\\.evil.net/ HTTP/1.1", HOST),
    "a fragment": ("GET http://e.org/#@evil.net HTTP/1.1", HOST),
    "a fragment in the host": ("GET http://e.org#@evil.net/ HTTP/1.1", HOST),
    "an empty port": ("GET http://e.org:/ HTTP/1.1", HOST),
    "a port out of range": ("GET http://e.org:65616/ HTTP/1.1", "Host: e.org:65616"),
    "a port 0": ("CONNECT e.org:0 HTTP/1.1", HOST),
    "an endless port": (f"CONNECT e.org:{'4' * 30} HTTP/1.1", HOST),
    "no port": ("CONNECT e.org HTTP/1.1", HOST),
    "a scheme in CONNECT": ("CONNECT http://e.org:80 HTTP/1.1", HOST),
    "a body in CONNECT": ("CONNECT e.org:443 HTTP/1.1", HOST, "Content-Length: 3"),
    "another scheme": ("GET https://e.org/ HTTP/1.1", HOST),
    "a file": ("GET file:///etc/passwd HTTP/1.1", HOST),
    "no target for a proxy": ("GET / HTTP/1.1", HOST),
    "an asterisk": ("OPTIONS * HTTP/1.1", HOST),
    "HTTP/2": ("PRI * HTTP/2.0",),
    "HTTP/0.9": ("GET http://e.org/",),
    "two blanks": ("GET  http://e.org/ HTTP/1.1", HOST),
    "a tab": ("GET\thttp://e.org/\tHTTP/1.1", HOST),
    "a raw octet in the path": ("GET http://e.org/\xff HTTP/1.1", HOST),
    "a short address": ("GET http://127.1/ HTTP/1.1", "Host: 127.1"),
    "a hexadecimal address": ("CONNECT 0x7f.1:80 HTTP/1.1", "Host: 0x7f.1"),
    "a decimal address": ("CONNECT 2130706433:80 HTTP/1.1", "Host: 2130706433"),
    "a zone": ("CONNECT [fe80::1%25eth0]:80 HTTP/1.1", HOST),
    "an address without brackets": ("CONNECT ::1:80 HTTP/1.1", HOST),
    "letters that are not ASCII": ("CONNECT b\xfccher.example:443 HTTP/1.1", HOST),
}


@pytest.mark.parametrize("lines", BAD.values(), ids=BAD)
def test_a_request_that_could_mean_two_things_is_refused(lines):
    with pytest.raises(http.BadMessage) as refusal:
        http.read_request(head(*lines))
    assert refusal.value.code in (400, 501)


def test_too_many_fields_and_too_long_a_head_are_refused():
    with pytest.raises(http.BadMessage) as refusal:
        http.read_request(head(GET, HOST, *(f"X-{number}: 1" for number in range(200))))
    assert refusal.value.code == 431
    with pytest.raises(http.BadMessage) as refusal:
        http.find_head(b"GET http://e.org/" + b"a" * http.LONGEST_HEAD)
    assert refusal.value.code == 431


def test_a_response_ends_its_connection():
    status, text = http.read_response(head("HTTP/1.1 200 OK", "Connection: keep-alive", "Keep-Alive: 5", "X: 1"))
    assert status == 200
    assert text == head("HTTP/1.1 200 OK", "X: 1", "Connection: close")
    assert http.read_response(head("HTTP/1.1 100 Continue"))[1] == head("HTTP/1.1 100 Continue")


@pytest.mark.parametrize("line", ["HTTP/2 200", "200 OK", "HTTP/1.1 20", "HTTP/1.1 abc", "SSH-2.0-OpenSSH"])
def test_what_is_no_response_is_refused(line):
    with pytest.raises(http.BadMessage):
        http.read_response(head(line))


BODY = b"5;x=y\r\nhello\r\n0010\r\n" + b"\r\n0\r\n\r\n" + b"012345678" + b"\r\n0\r\nTrailer: 1\r\n\r\n"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_the_end_of_a_chunked_body_is_found_however_it_comes(step):
    chunks = http.Chunks()
    data = BODY + b"GET /next"
    taken = 0
    for at in range(0, len(data), step):
        taken += chunks.take(data[at : at + step])
    assert chunks.is_over
    assert taken == len(BODY)


@pytest.mark.parametrize(
    "body",
    [b"\r\n", b"x\r\n", b"-1\r\n", b"0x5\r\nhello", b"5\nhello", b"5\r\nhello!\r\n", b"5\r\nhello\n",
     b"1" * 16 + b"\r\n", b"5;" + b"x" * 2000, b"0\r\n" + b"A: 1\r\n" * 3000, b"5\r\nhello\rX"],
)  # fmt: skip
def test_a_chunked_body_that_is_none_is_refused(body):
    with pytest.raises(http.BadMessage):
        http.Chunks().take(body)


# --- SOCKS ------------------------------------------------------------------------------------------------------------


def name_request(name: bytes, port: int = 443) -> bytes:
    return b"\x05\x01\x00\x03" + bytes((len(name),)) + name + port.to_bytes(2, "big")


@pytest.mark.parametrize(
    ("data", "host"),
    [
        (name_request(b"Example.org"), "example.org"),
        (b"\x05\x01\x00\x01\x7f\x00\x00\x01\x01\xbb", Address(32, 0x7F000001)),
        (b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x01\xbb", Address(128, 1)),
        (name_request(b"127.0.0.1"), Address(32, 0x7F000001)),
        (name_request(b"::1"), Address(128, 1)),
    ],
)
def test_a_socks_request_is_read_once_it_is_whole(data, host):
    assert all(socks.read_request(data[:length]) is None for length in range(len(data)))
    request = socks.read_request(data + b"early")
    assert request is not None
    assert (request.host, request.port, request.length) == (host, 443, len(data))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x04\x01\x00\x01\x7f\x00\x00\x01\x00\x50", socks.FAILED),
        (b"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", socks.NO_COMMAND),
        (b"\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50", socks.NO_COMMAND),
        (b"\x05\x01\x00\x02\x7f\x00\x00\x01\x00\x50", socks.NO_KIND),
        (b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x00", socks.FAILED),
        (name_request(b""), socks.FAILED),
        (name_request(b"example.org\0.evil.net"), socks.FAILED),
        (name_request(b"127.1"), socks.FAILED),
        (name_request("bücher.example".encode()), socks.FAILED),
        (name_request(b"a" * 255), socks.FAILED),
    ],
)
def test_a_socks_request_that_cannot_be_granted_is_refused(data, code):
    with pytest.raises(socks.BadRequest) as refusal:
        socks.read_request(data)
    assert refusal.value.code == code


def test_a_socks_client_has_to_offer_to_do_without_a_password():
    assert socks.read_greeting(b"\x05") is None
    assert socks.read_greeting(b"\x05\x02\x00") is None
    assert socks.read_greeting(b"\x05\x02\x02\x00x") == (socks.NO_AUTHENTICATION, 4)
    assert socks.read_greeting(b"\x05\x01\x02") == (socks.NO_METHOD, 3)
    assert socks.read_greeting(b"\x05\x00") == (socks.NO_METHOD, 2)
