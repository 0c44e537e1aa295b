#!/usr/bin/python3
"""A DHCP server for the tests, that does what a file says: `dhcp_server.py DEVICE OWN-ADDRESS MODE-FILE LOG-FILE`.

The mode file has what to offer (`ADDRESS SECONDS`), with one more word: `refuse` for NAK to every request of a client
that has another address, `junk` for nonsense before each answer; an empty file is silence. Every message is a line
of the log: its kind and the address that the client has.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

NAMES = {1: "DISCOVER", 3: "REQUEST"}
OFFER, ACK, NAK = 2, 5, 6


def options_of(message: bytes) -> dict[int, bytes]:
    found, place = {}, 240
    while place < len(message) and message[place] != 255:
        if message[place] == 0:
            place += 1
            continue
        found[message[place]] = message[place + 2 : place + 2 + message[place + 1]]
        place += 2 + message[place + 1]
    return found


def answer(message: bytes, kind: int, address: str, seconds: int, own: bytes) -> bytes:
    given = socket.inet_aton("0.0.0.0" if kind == NAK else address)
    body = b"\2\1\6\0" + message[4:8] + b"\0\0\x80\0" + bytes(4) + given + bytes(8) + message[28:44] + bytes(192)
    body += b"\x63\x82\x53\x63" + bytes((53, 1, kind)) + b"\x36\4" + own
    if kind != NAK:
        body += b"\x33\4" + seconds.to_bytes(4, "big") + b"\x01\4\xff\xff\xff\0" + b"\3\4" + own + b"\6\4" + own
    return body + b"\xff"


def main() -> None:
    device, own, mode, log = sys.argv[1:]
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    server.bind(("0.0.0.0", 67))
    Path(log).touch()
    while True:
        message = server.recv(2048)
        kind = options_of(message)[53][0]
        has = socket.inet_ntoa(message[12:16])
        with open(log, "a") as file:
            file.write(f"{NAMES.get(kind, kind)} {has}\n")
        words = Path(mode).read_text().split()
        if not words:
            continue
        address, seconds = words[0], int(words[1])
        reply = OFFER if kind == 1 else ACK
        if "refuse" in words and has not in ("0.0.0.0", address):
            reply = NAK
        if "junk" in words:
            good = answer(message, reply, address, seconds, socket.inet_aton(own))
            for junk in (
                b"",
                os.urandom(300),
                good[:240],
                good[:-1] + b"\x06\xff",
                b"\1" + good[1:],
                good[:4] + bytes(200),
            ):
                server.sendto(junk, ("255.255.255.255", 68))
        server.sendto(answer(message, reply, address, seconds, socket.inet_aton(own)), ("255.255.255.255", 68))


if __name__ == "__main__":
    main()
