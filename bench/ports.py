"""Published ports: jubako's builtin driver against RootlessKit's builtin (Go, splice), by iperf3, in turns in one run.

What counts is the ratio of medians. `--direct` adds a connection that goes through nothing, for scale.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

ADDRESS = "127.0.0.1"
CASES = {
    "upload, 1 stream": (),
    "download, 1 stream": ("-R",),
    "upload, 4 streams": ("-P", "4"),
    "download, 4 streams": ("-P", "4", "-R"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--direct", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--case", default="")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.workers)
        return
    source = str(Path(__file__).resolve().parents[1] / "src")
    environment = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", source)}
    commands = {
        "jubako": (sys.executable, __file__, "--serve", "5301", "--workers", str(arguments.workers)),
        "rootlesskit": (
            *("rootlesskit", "--net=slirp4netns", "--port-driver=builtin"),
            *("-p", f"{ADDRESS}:5302:5302/tcp", "iperf3", "-s", "-p", "5302"),
        ),
    }
    if arguments.direct:
        commands["direct"] = ("iperf3", "-s", "-p", "5303")
    ports = {"jubako": 5301, "rootlesskit": 5302, "direct": 5303}
    running = []
    try:
        for command in commands.values():
            started = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
            running.append(started)
        for name in commands:
            await_server(ports[name])
        report(commands, ports, arguments)
    finally:
        for each in running:
            try:
                os.killpg(each.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        for each in running:
            each.wait()


def report(commands: dict[str, tuple[str, ...]], ports: dict[str, int], arguments: argparse.Namespace) -> None:
    print(f"{'Gbit/s, medians':22}" + "".join(f"{name:>14}" for name in commands) + f"{'ratio':>10}")
    for case, flags in CASES.items():
        if arguments.case not in case:
            continue
        found: dict[str, list[float]] = {name: [] for name in commands}
        for _turn in range(arguments.rounds):
            for name in commands:
                found[name].append(measure(ports[name], flags, arguments.seconds))
        medians = {name: statistics.median(values) for name, values in found.items()}
        ratio = medians["jubako"] / medians["rootlesskit"]
        print(f"{case:22}" + "".join(f"{value:14.2f}" for value in medians.values()) + f"{ratio:10.2f}", flush=True)


def measure(port: int, flags: tuple[str, ...], seconds: int) -> float:
    """Gbit/s of what has arrived."""
    command = ("iperf3", "-c", ADDRESS, "-p", str(port), "-t", str(seconds), "-J", *flags)
    for _turn in range(50):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9
        time.sleep(0.2)  # the server has not finished with the last one
    raise RuntimeError(f"iperf3: {done.stdout[-300:]}")


def await_server(port: int) -> None:
    for _turn in range(100):
        try:
            with socket.create_connection((ADDRESS, port), 2) as connection:
                connection.settimeout(0.2)
                try:
                    if connection.recv(1) == b"":
                        raise ConnectionError
                except TimeoutError:
                    return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"nobody listens on port {port}")


def serve(port: int, workers: int) -> None:
    """iperf3 in a network namespace with nothing but lo, and a port that leads to it."""
    from jubako.linux.clone import CLONE_NEWNET, CLONE_NEWUSER, unshare
    from jubako.linux.netlink import set_link_up
    from jubako.net.link import Link, Where
    from jubako.net.ports.builtin import open_builtin
    from jubako.net.ports.spec import PortSpec

    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path(f"/proc/self/{name}").write_text(text)
    mine, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        unshare(CLONE_NEWNET)
        set_link_up("lo")
        socket.send_fds(theirs, [b"x"], [os.open("/proc/self/ns/net", os.O_RDONLY)])
        program = shutil.which("iperf3")
        assert program, "the package iperf3 is missing"
        os.execv(program, ("iperf3", "-s", "-p", str(port)))
    _data, (namespace,), _flags, _address = socket.recv_fds(mine, 1, 1)
    forwarder = open_builtin(Where(namespace, ""), Link("none"), workers=workers)
    forwarder.add(PortSpec(ADDRESS, port, "", port))
    os.waitpid(child, 0)
    forwarder.close()


if __name__ == "__main__":
    main()
