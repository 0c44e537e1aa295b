"""Networks without root: throughput, ports, connections, start-up and memory, beside RootlessKit in the same run.

    ./dev bench-network [--rounds N] [--seconds N] [--only start,outgoing,incoming,connections,memory]

Everything runs as `jubako rootless` and as `rootlesskit` with the same helper program, in turns; what counts is the
ratio of medians. iperf3's server (client, for incoming) is on the host's loopback, which is given as a scale.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOOPBACK = "127.0.0.1"
GATEWAY = "10.0.2.2"
SIZES = (1500, 65520)
PARTS = ("start", "outgoing", "incoming", "connections", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--only", default=",".join(PARTS))
    arguments = parser.parse_args()
    jubako, other = shutil.which("jubako"), _others("rootlesskit")
    if jubako is None or other is None:
        sys.exit("jubako and rootlesskit are needed: ./dev bench-network installs them")
    tools = {"jubako": (jubako, "rootless"), "rootlesskit": (other,)}
    for part in arguments.only.split(","):
        {
            "start": _start, "outgoing": _outgoing, "incoming": _incoming, "connections": _connections,
            "memory": _memory,
        }[part](tools, arguments.rounds, arguments.seconds)  # fmt: skip


def _others(name: str) -> str | None:
    """The program of this name that is not ours."""
    mine = str(Path(sys.executable).parent)
    places = [place for place in os.environ["PATH"].split(":") if place != mine]
    return shutil.which(name, path=":".join([*places, "/usr/bin"]))


Tools = dict[str, tuple[str, ...]]


def _start(tools: Tools, rounds: int, _seconds: int) -> None:
    cases = {
        "host": ("--net=host",),
        "slirp4netns": ("--net=slirp4netns",),
        "slirp4netns, copy-up /etc": ("--net=slirp4netns", "--copy-up=/etc"),
        "pasta": ("--net=pasta",),
    }
    _title("start-up of `true`, ms", tools)
    for case, flags in cases.items():
        found = _in_turns({name: lambda t=tool, f=flags: _seconds_of(*t, *f, "true") for name, tool in tools.items()
                           if name == "jubako" or case != "pasta"}, rounds * 4)  # fmt: skip
        _row(case, {name: value * 1000 for name, value in found.items()}, 1)


def _outgoing(tools: Tools, rounds: int, seconds: int) -> None:
    _title("outgoing, Gbit/s", tools)
    with _serving(5401):
        _row("loopback", _in_turns({"jubako": lambda: _iperf(LOOPBACK, 5401, seconds)}, rounds))
    for net in ("slirp4netns", "pasta"):
        for size in SIZES:
            flags = (f"--net={net}", f"--mtu={size}")
            with _serving(5402):
                found = _in_turns(
                    {name: lambda t=tool, f=flags: _iperf(GATEWAY, 5402, seconds, (*t, *f))
                     for name, tool in tools.items() if name == "jubako" or net != "pasta"}, rounds
                )  # fmt: skip
            _row(f"{net}, MTU {size}", found)


def _incoming(tools: Tools, rounds: int, seconds: int) -> None:
    _title("incoming, Gbit/s", tools)
    for driver in ("builtin", "slirp4netns"):
        for streams in (1, 4):
            for back in (False, True):
                extra = (*(("-P", str(streams)) if streams > 1 else ()), *(("-R",) if back else ()))
                with _published(tools, driver, ("iperf3", "-s", "-p")) as ports:
                    cases = {
                        name: lambda p=port, e=extra: _iperf(LOOPBACK, p, seconds, (), e)
                        for name, port in ports.items()
                    }
                    found = _in_turns(cases, rounds)
                way = "to the client" if back else "to the server"
                _row(f"{driver}, {streams} stream{'s' if streams > 1 else ''} {way}", found)


def _connections(tools: Tools, rounds: int, seconds: int) -> None:
    _title("connections a second", tools)
    server = (sys.executable, __file__, "--serve-connections")
    for driver in ("builtin", "slirp4netns"):
        with _published(tools, driver, server) as ports:
            found = _in_turns({name: lambda p=port: _connect(p, seconds) for name, port in ports.items()}, rounds)
        _row(driver, found, 0)


def _memory(tools: Tools, _rounds: int, _seconds: int) -> None:
    _title("resident memory of all its processes, MB", tools)
    for case, flags in {
        "host": (),
        "slirp4netns": ("--net=slirp4netns",),
        "slirp4netns, builtin ports": ("--net=slirp4netns", "--port-driver=builtin"),
    }.items():
        found = {}
        for name, tool in tools.items():
            running = subprocess.Popen((*tool, *flags, "sleep", "100"), stderr=subprocess.DEVNULL)
            time.sleep(1)
            found[name] = sum(_proportional(pid) for pid in _family(running.pid)) / 1024
            running.terminate()
            running.wait()
        _row(case, found, 1)


# --- one measurement --------------------------------------------------------------------------------------------------


def _in_turns(cases: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _turn in range(rounds):
        for name, measure in cases.items():
            found[name].append(measure())
    return {name: statistics.median(values) for name, values in found.items()}


def _seconds_of(*command: str) -> float:
    begun = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - begun


def _iperf(address: str, port: int, seconds: int, around: tuple[str, ...] = (), extra: tuple[str, ...] = ()) -> float:
    """Gbit/s of what has arrived."""
    command = (*around, "iperf3", "-c", address, "-p", str(port), "-t", str(seconds), "-J", *extra)
    said = ""
    for _turn in range(20):
        done = subprocess.run(command, capture_output=True, text=True)
        said = done.stdout
        if done.returncode == 0:
            return float(json.loads(said)["end"]["sum_received"]["bits_per_second"]) / 1e9
        time.sleep(0.2)  # the server has not finished with the last one
    raise RuntimeError(f"iperf3: {said[-300:]}")


def _connect(port: int, seconds: int) -> float:
    """Connections one after another, each with one byte there and back."""
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.create_connection((LOOPBACK, port)) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
        count += 1
    return count / seconds


@contextmanager
def _serving(port: int) -> Iterator[None]:
    running = subprocess.Popen(("iperf3", "-s", "-B", LOOPBACK, "-p", str(port)), stdout=subprocess.DEVNULL)
    try:
        _await(port)
        yield
    finally:
        running.kill()
        running.wait()


@contextmanager
def _published(tools: Tools, driver: str, server: tuple[str, ...]) -> Iterator[dict[str, int]]:
    """A server behind a published port of each tool."""
    ports = {name: 5410 + number for number, name in enumerate(tools)}
    running = []
    try:
        for name, tool in tools.items():
            publish = f"{LOOPBACK}:{ports[name]}:{ports[name]}/tcp"
            flags = ("--net=slirp4netns", "--mtu=65520", f"--port-driver={driver}", "-p", publish)
            started = subprocess.Popen(
                (*tool, *flags, *server, str(ports[name])), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            running.append(started)
        for port in ports.values():
            _await(port)
        yield ports
    finally:
        for each in running:
            each.send_signal(signal.SIGTERM)
        for each in running:
            each.wait()


def _await(port: int) -> None:
    """Until who connects is not sent away again: a port driver listens before the server inside does."""
    for _turn in range(100):
        try:
            with socket.create_connection((LOOPBACK, port), 2) as connection:
                connection.settimeout(0.3)
                try:
                    if connection.recv(1) == b"":
                        raise ConnectionError
                except TimeoutError:
                    return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"nobody listens at port {port}")


def _serve_connections(port: int) -> None:
    with socket.create_server(("0.0.0.0", port), backlog=512) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                if connection.recv(1):
                    connection.sendall(b"x")


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _family(int(child)))]


def _proportional(pid: int) -> int:
    """The process's share of memory (proc_pid_smaps(5), `Pss`), in KiB; what cannot be read counts as resident."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) for line in status if line.startswith("VmRSS:")), 0)


# --- the tables -------------------------------------------------------------------------------------------------------


def _title(text: str, tools: Tools) -> None:
    print(f"\n{text:44}" + "".join(f"{name:>14}" for name in tools) + f"{'ratio':>8}", flush=True)


def _row(name: str, values: dict[str, float], digits: int = 2) -> None:
    tools = ("jubako", "rootlesskit")
    cells = "".join(f"{values[tool]:14.{digits}f}" if tool in values else f"{'-':>14}" for tool in tools)
    ratio = f"{values['jubako'] / values['rootlesskit']:8.2f}" if "rootlesskit" in values else ""
    print(f"{name:44}{cells}{ratio}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve-connections"]:
        _serve_connections(int(sys.argv[2]))
    main()
