#!/usr/bin/python3
"""A stand-in for vpnkit, of which no package is to be had: it takes vpnkit's command line, speaks its wire protocol on
the socket, and answers on the Ethernet behind it as vpnkit would, with ordinary sockets of its own.

It knows ARP, DHCP, ICMP echo, UDP and as much of TCP as a reliable link takes. The router is 192.168.65.1, which hands
questions for names to the host's resolver; the host is 192.168.65.2 unless `--host-ip 0.0.0.0` is given; other
addresses are reached as they are. `--stand-in FAULT` is for the tests: see `FAULTS`.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable

ROUTER, HOST, CLIENT = "192.168.65.1", "192.168.65.2", "192.168.65.3"
HOST_MAC, CLIENT_MAC = bytes.fromhex("f6165ee6d3d1"), bytes.fromhex("025000000001")
FAULTS = ("refuse", "exit", "mute", "garbage", "no-address", "small", "junk-frames")
SEGMENT = 1400
ARP, IPV4, ICMP, TCP, UDP = 0x0806, 0x0800, 1, 6, 17
FIN, SYN, RST, ACK = 1, 2, 4, 16


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def resolver() -> str:
    with open("/etc/resolv.conf") as lines:
        return next(line.split()[1] for line in lines if line.startswith("nameserver"))


class Flow:
    """One TCP connection from inside, carried by a socket of ours."""

    def __init__(self, outer: Ethernet, key: tuple[str, int, str, int], first: int, window: int) -> None:
        self.outer, self.key = outer, key
        self.mine = self.acknowledged = 1000
        self.theirs = (first + 1) & 0xFFFFFFFF
        self.window, self.scale = window, 0
        self.waiting = bytearray()
        self.ended = self.said_so = False
        self.socket = socket.socket()
        self.socket.setblocking(False)

    def open(self, target: str) -> None:
        self.socket.connect_ex((target, self.key[3]))
        self.outer.watch(self.socket, selectors.EVENT_WRITE, self.opened)

    def opened(self) -> None:
        if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return self.close(RST | ACK)
        self.send(SYN | ACK)
        self.mine += 1
        self.outer.watch(self.socket, selectors.EVENT_READ, self.readable)

    def send(self, flags: int, data: bytes = b"") -> None:
        source, port, target, target_port = self.key
        offset = 5 << 12
        header = struct.pack(
            "!HHIIHHHH", target_port, port, self.mine & 0xFFFFFFFF, self.theirs, offset | flags, 0xFFFF, 0, 0
        )
        pseudo = socket.inet_aton(target) + socket.inet_aton(source) + struct.pack("!BBH", 0, TCP, len(header + data))
        value = checksum(pseudo + header + data)
        self.outer.send_ip(TCP, target, source, header[:16] + struct.pack("!H", value) + header[18:] + data)

    def readable(self) -> None:
        try:
            data = self.socket.recv(SEGMENT * 32)
        except OSError:
            return self.close(RST | ACK)
        if data:
            self.waiting += data
        else:
            self.ended = True
        self.outer.forget(self.socket)
        self.push()

    def push(self) -> None:
        """Send what the window takes; read on once all of it is on its way."""
        while self.waiting and self.mine - self.acknowledged + SEGMENT <= self.window << self.scale:
            piece = bytes(self.waiting[:SEGMENT])
            del self.waiting[:SEGMENT]
            self.send(ACK, piece)
            self.mine += len(piece)
        if self.waiting or self.said_so:
            return
        if self.ended:
            self.send(FIN | ACK)
            self.mine += 1
            self.said_so = True
        else:
            self.outer.watch(self.socket, selectors.EVENT_READ, self.readable)

    def take(self, flags: int, sequence: int, acknowledged: int, window: int, data: bytes) -> None:
        if flags & RST:
            return self.close(0)
        if flags & ACK:
            self.acknowledged, self.window = max(self.acknowledged, acknowledged), window
        if sequence == self.theirs and (data or flags & FIN):
            if data:
                self.socket.setblocking(True)
                try:
                    self.socket.sendall(data)
                except OSError:
                    return self.close(RST | ACK)
                self.socket.setblocking(False)
            if flags & FIN:
                try:
                    self.socket.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
            self.theirs = (self.theirs + len(data) + bool(flags & FIN)) & 0xFFFFFFFF
            self.send(ACK)
        elif data or flags & FIN:
            self.send(ACK)
        self.push()

    def close(self, flags: int) -> None:
        if flags:
            self.send(flags)
        self.outer.forget(self.socket)
        self.socket.close()
        self.outer.flows.pop(self.key, None)


class Ethernet:
    """One client's link."""

    def __init__(self, client: socket.socket, options: argparse.Namespace, chooser: selectors.BaseSelector) -> None:
        self.client, self.options, self.chooser = client, options, chooser
        self.host = options.host_ip
        self.flows: dict[tuple[str, int, str, int], Flow] = {}
        self.relays: dict[tuple[str, int, str, int], socket.socket] = {}
        self.stream = bytearray()
        self.identification = 0

    def watch(self, what: socket.socket, events: int, call: Callable[[], None]) -> None:
        self.forget(what)
        self.chooser.register(what, events, call)

    def forget(self, what: socket.socket) -> None:
        try:
            self.chooser.unregister(what)
        except (KeyError, ValueError):
            pass

    def readable(self) -> None:
        piece = self.client.recv(1 << 16)
        if not piece:
            raise SystemExit(0)
        self.stream += piece
        while len(self.stream) >= 2:
            end = 2 + int.from_bytes(self.stream[:2], "little")
            if len(self.stream) < end:
                return
            frame = bytes(self.stream[2:end])
            del self.stream[:end]
            self.take(frame)

    def take(self, frame: bytes) -> None:
        (kind,) = struct.unpack_from("!H", frame, 12)
        if kind == ARP:
            self.answer_arp(frame[14:])
        elif kind == IPV4 and len(frame) >= 34:
            packet = frame[14:]
            packet = packet[: int.from_bytes(packet[2:4], "big")]
            source, target = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
            inside = packet[(packet[0] & 15) * 4 :]
            take = {ICMP: self.answer_echo, UDP: self.take_udp, TCP: self.take_tcp}.get(packet[9])
            if take is not None and not int.from_bytes(packet[6:8], "big") & 0x3FFF:
                take(source, target, inside)

    def send_frame(self, kind: int, payload: bytes) -> None:
        frame = CLIENT_MAC + HOST_MAC + struct.pack("!H", kind) + payload
        self.client.sendall(struct.pack("<H", len(frame)) + frame)

    def send_ip(self, protocol: int, source: str, target: str, payload: bytes) -> None:
        self.identification = (self.identification + 1) & 0xFFFF
        head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), self.identification, 0x4000, 64, protocol)
        addresses = socket.inet_aton(source) + socket.inet_aton(target)
        value = checksum(head + b"\0\0" + addresses)
        self.send_frame(IPV4, head + struct.pack("!H", value) + addresses + payload)

    def send_udp(self, source: tuple[str, int], target: tuple[str, int], data: bytes) -> None:
        header = struct.pack("!HHHH", source[1], target[1], 8 + len(data), 0)
        self.send_ip(UDP, source[0], target[0], header + data)

    def answer_arp(self, request: bytes) -> None:
        operation, wanted = int.from_bytes(request[6:8], "big"), socket.inet_ntoa(request[24:28])
        if operation == 1 and wanted in (ROUTER, self.host):
            reply = request[:6] + b"\0\2" + HOST_MAC + request[24:28] + request[8:18]
            self.send_frame(ARP, reply)

    def answer_echo(self, source: str, target: str, message: bytes) -> None:
        if target in (ROUTER, self.host) and message[0] == 8:
            body = b"\0\0\0\0" + message[4:]
            self.send_ip(ICMP, target, source, body[:2] + struct.pack("!H", checksum(body)) + body[4:])

    def real(self, target: str, port: int) -> str:
        """Where an address is that is seen in a frame; empty for nowhere. Loopback addresses are not spared: it is for
        others to keep them away."""
        if target == ROUTER:
            return resolver() if port == 53 else ""
        return "127.0.0.1" if target == self.host else target

    def take_udp(self, source: str, target: str, segment: bytes) -> None:
        port, target_port = struct.unpack_from("!HH", segment)
        data = segment[8:]
        if target_port == 67:
            return self.answer_dhcp(data)
        if not self.real(target, target_port):
            return None
        key = (source, port, target, target_port)
        if key not in self.relays:
            relay = self.relays[key] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            relay.connect((self.real(target, target_port), target_port))

            def back() -> None:
                try:
                    data = relay.recv(1 << 16)
                except OSError:
                    return
                self.send_udp((target, target_port), (source, port), data)

            self.watch(relay, selectors.EVENT_READ, back)
        try:
            self.relays[key].send(data)
        except OSError:
            pass
        return None

    def answer_dhcp(self, request: bytes) -> None:
        if self.options.stand_in == "no-address":
            return
        if self.options.stand_in == "junk-frames":
            for junk in (b"", b"\0" * 13, os.urandom(60), CLIENT_MAC + HOST_MAC + b"\x08\0" + b"\x45" * 40):
                self.client.sendall(struct.pack("<H", len(junk)) + junk)
        place, kind = 240, 0
        while place < len(request) and request[place] != 255:
            if request[place] == 53:
                kind = request[place + 2]
            place += 2 + request[place + 1] if request[place] else 1
        answer = {1: 2, 3: 5}[kind]
        router = socket.inet_aton(ROUTER)
        body = b"\2\1\6\0" + request[4:8] + bytes(8) + socket.inet_aton(CLIENT) + bytes(8) + request[28:44] + bytes(192)
        body += b"\x63\x82\x53\x63" + bytes((53, 1, answer)) + b"\x36\4" + router + b"\x01\4\xff\xff\xff\0"
        body += b"\x03\4" + router + b"\x06\4" + router + b"\x33\4\0\0\x1c\x20\xff"
        self.send_udp((ROUTER, 67), ("255.255.255.255", 68), body)

    def take_tcp(self, source: str, target: str, segment: bytes) -> None:
        port, target_port, sequence, acknowledged, bits, window = struct.unpack_from("!HHIIHH", segment)
        key = (source, port, target, target_port)
        flags, data = bits & 0x3F, segment[(bits >> 12) * 4 :]
        flow = self.flows.get(key)
        if flow is not None:
            return flow.take(flags, sequence, acknowledged, window, data)
        if flags & SYN:
            flow = Flow(self, key, sequence, window)
            if self.real(target, target_port):
                self.flows[key] = flow
                flow.open(self.real(target, target_port))
            else:
                flow.close(RST | ACK)
        return None


def shake_hands(client: socket.socket, options: argparse.Namespace) -> None:
    hello = exactly(client, 49)
    if options.stand_in == "mute":
        time.sleep(3600)
    if options.stand_in == "garbage":
        hello = b"HTTP/1.0 400 Bad Request\r\n".ljust(49)
    client.sendall(hello)
    command = exactly(client, 41)
    if options.stand_in == "refuse":
        reason = b"no more addresses"
        client.sendall((bytes((2, len(reason))) + reason).ljust(258, b"\0"))
        return
    assert command[0] == 1, command
    mtu = 576 if options.stand_in == "small" else options.mtu
    client.sendall((b"\1" + struct.pack("<HH", mtu, mtu + 50) + CLIENT_MAC).ljust(258, b"\0"))


def exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        if not piece:
            raise SystemExit(0)
        data += piece
    return data


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ethernet", required=True)
    parser.add_argument("--mtu", type=int, required=True)
    parser.add_argument("--host-ip", default=HOST)
    parser.add_argument("--stand-in", choices=FAULTS)
    options = parser.parse_args()
    if options.stand_in == "exit":
        sys.exit("vpnkit: Fatal error: cannot open the configuration")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(options.ethernet)
    listener.listen()
    client, _address = listener.accept()
    shake_hands(client, options)
    chooser = selectors.DefaultSelector()
    link = Ethernet(client, options, chooser)
    link.watch(client, selectors.EVENT_READ, link.readable)
    while True:
        for key, _events in chooser.select():
            key.data()


if __name__ == "__main__":
    main()
