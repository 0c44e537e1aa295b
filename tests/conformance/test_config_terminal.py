"""config.md, "Process": `terminal` and `consoleSize`, with --console-socket and in front."""

from __future__ import annotations

import shlex
import socket
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world.bundle import Bundle
from world.console import ConsoleSocket
from world.rule import rule
from world.runtime import Runtime
from world.terminal import Terminal


@pytest.fixture
def console_socket(place: Path) -> Iterator[ConsoleSocket]:
    with ConsoleSocket(place) as found:
        yield found


@pytest.fixture
def tty_bundle(bundle: Bundle) -> Bundle:
    bundle.process["terminal"] = True
    return bundle


@rule(
    "config.md", "Process", "MUST", "With `terminal` the three standard streams are a pseudoterminal of the container."
)
@rule("command line", "create", "common", "--console-socket gets the master side, one descriptor, by SCM_RIGHTS.")
def test_the_streams_are_a_terminal(runtime: Runtime, tty_bundle: Bundle, console_socket: ConsoleSocket):
    probe = tty_bundle.use_probe()
    tty_bundle.sh(f"tty; tty 0<&1; tty 0<&2; ls /dev/pts; {probe} controlling; read line; echo got $line; exit 3")
    box = runtime.create(tty_bundle, "--console-socket", str(console_socket.path))
    console = console_socket.accept()
    box.start()
    console.read_until("yes")
    console.send("something\n")
    said = console.read_to_end().replace("\r", "").splitlines()
    assert said[:3] == ["/dev/pts/0"] * 3
    assert "got something" in said
    assert box.output == ""


@rule("config.md", "Process", "MUST", "The terminal is the controlling one of the process, which leads its session.")
def test_the_terminal_controls_the_process(runtime: Runtime, tty_bundle: Bundle, console_socket: ConsoleSocket):
    tty_bundle.args(tty_bundle.use_probe(), "controlling")
    box = runtime.create(tty_bundle, "--console-socket", str(console_socket.path))
    console = console_socket.accept()
    box.start()
    assert console.read_to_end().strip() == "yes leader"


@rule("config.md", "Process", "MUST", "Keys that send signals do so to the container's foreground group.")
def test_keys_send_signals(runtime: Runtime, tty_bundle: Bundle, console_socket: ConsoleSocket):
    tty_bundle.sh("trap 'echo interrupted; exit' INT; echo ready; while :; do sleep 0.02; done")
    box = runtime.create(tty_bundle, "--console-socket", str(console_socket.path))
    console = console_socket.accept()
    box.start()
    console.read_until("ready")
    console.send("\x03")
    console.read_until("interrupted")


@rule("config.md", "Process", "MUST", "`consoleSize` is the size of the terminal.")
def test_the_size_of_the_terminal(runtime: Runtime, tty_bundle: Bundle, console_socket: ConsoleSocket):
    tty_bundle.process["consoleSize"] = {"height": 33, "width": 101}
    tty_bundle.args("stty", "size")
    box = runtime.create(tty_bundle, "--console-socket", str(console_socket.path))
    console = console_socket.accept()
    assert console.size == (33, 101)
    box.start()
    assert console.read_to_end().strip() == "33 101"


@rule("config.md", "Process", "MUST", "`consoleSize` is ignored when there is no terminal.")
def test_the_size_of_no_terminal(runtime: Runtime, bundle: Bundle):
    bundle.process["consoleSize"] = {"height": 33, "width": 101}
    bundle.sh("tty || echo none")
    assert "none" in runtime.run(bundle).stdout


@rule("config-linux.md", "Default Devices", "MUST", "With `terminal` /dev/console is the container's terminal.")
def test_the_console_device(runtime: Runtime, tty_bundle: Bundle, console_socket: ConsoleSocket):
    tty_bundle.sh("echo through the console > /dev/console; stat -c '%t:%T' /dev/console /dev/pts/0")
    box = runtime.create(tty_bundle, "--console-socket", str(console_socket.path))
    console = console_socket.accept()
    box.start()
    first, *numbers = console.read_to_end().replace("\r", "").splitlines()
    assert first == "through the console"
    assert numbers[0] == numbers[1]


@rule(
    "command line",
    "Terminals",
    "common",
    "A new terminal ends lines as every new one does, for engines' clients are raw.",
)
def test_lines_end_with_carriage_returns(runtime: Runtime, tty_bundle: Bundle, console_socket: ConsoleSocket):
    tty_bundle.args("printf", "one\\ntwo\\n")
    box = runtime.create(tty_bundle, "--console-socket", str(console_socket.path))
    console = console_socket.accept()
    assert console.output_modes & termios.ONLCR
    box.start()
    assert console.read_to_end() == "one\r\ntwo\r\n"


@rule("config-linux.md", "Default Devices", "MUST", "The terminal belongs to the user of the process.")
def test_the_terminal_belongs_to_the_user(
    runtime: Runtime, bundles: Callable[..., Bundle], console_socket: ConsoleSocket
):
    bundle = bundles(maps="all")
    bundle.process.update({"terminal": True, "user": {"uid": 1000, "gid": 1000}})
    bundle.sh("stat -c %u /dev/pts/0; echo reopened > /dev/tty")
    box = runtime.create(bundle, "--console-socket", str(console_socket.path))
    console = console_socket.accept()
    box.start()
    assert console.read_to_end().split() == ["1000", "reopened"]


@rule("command line", "create", "common", "`create` with a terminal needs --console-socket.")
def test_a_terminal_needs_a_socket(runtime: Runtime, tty_bundle: Bundle):
    assert "console" in runtime.refuses(tty_bundle)


@rule("command line", "create", "common", "A console socket that nobody listens at is an error.")
@pytest.mark.parametrize("kind", ["missing", "a file", "closed"])
def test_a_console_socket_that_is_none(runtime: Runtime, tty_bundle: Bundle, place: Path, kind: str):
    path = place / "socket"
    if kind == "a file":
        path.touch()
    elif kind == "closed":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
    box = runtime.create(tty_bundle, "--console-socket", str(path), check=False)
    assert box.created.exit_code != 0
    assert runtime("state", box.id).exit_code != 0


@rule("command line", "run", "common", "In front, `run` joins the caller's terminal with the container's.")
def test_run_in_a_terminal(runtime: Runtime, tty_bundle: Bundle):
    tty_bundle.sh("tty; stty size; read line; echo got $line; exit 5")
    tty_bundle.write()
    terminal = runtime.terminal("run", "--bundle", tty_bundle.path, "jubako-test-tty", rows=40, columns=132)
    assert "/dev/pts/0" in terminal.read_until("40 132")
    terminal.send("hello\n")
    terminal.read_until("got hello")
    assert terminal.wait() == 5


@rule("command line", "run", "common", "`run` gives the caller's terminal back as it was.")
def test_run_restores_the_terminal(runtime: Runtime, tty_bundle: Bundle):
    tty_bundle.args("stty", "size")
    tty_bundle.write()
    argv = runtime.argv("run", "--bundle", tty_bundle.path, "jubako-test-tty")
    script = f"stty -a > before; {shlex.join(argv)}; stty -a > after; cmp before after && echo same"
    terminal = Terminal(("sh", "-c", script), 24, 80, runtime.environment(), runtime.cwd)
    try:
        terminal.read_until("same")
    finally:
        terminal.close()


@rule("command line", "run", "common", "A change of the caller's window reaches the container.")
def test_the_window_changes(runtime: Runtime, tty_bundle: Bundle):
    tty_bundle.sh("echo ready; while [ \"$(stty size)\" != '50 150' ]; do sleep 0.02; done; echo resized")
    tty_bundle.write()
    terminal = runtime.terminal("run", "--bundle", tty_bundle.path, "jubako-test-tty")
    terminal.read_until("ready")
    terminal.resize(50, 150)
    terminal.read_until("resized")
    assert terminal.wait() == 0
