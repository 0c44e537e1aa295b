"""What a container says and hears: its log, followed or not, and those who attach to it."""

from __future__ import annotations

import re
import time

import pytest

from world.command import Command
from world.rest import at_rest, processor_ticks

ECHO = 'while read -r line; do echo "got $line"; [ "$line" = end ] && exit 5; done'


@pytest.fixture(autouse=True)
def _removed(jubako: Command):
    yield
    jubako("rm", "--all", "--force", check=True)


def ended(jubako: Command, name: str, script: str) -> None:
    jubako("run", "-d", "--name", name, "host", "--", "sh", "-c", script, check=True)
    jubako("wait", name, check=True)


def test_output_and_errors_come_back_on_their_own_streams(jubako):
    ended(jubako, "one", "echo out; echo err >&2; printf unfinished")
    result = jubako("logs", "one", check=True)
    assert (result.stdout, result.stderr) == ("out\nunfinished", "err\n")


def test_what_ran_in_the_foreground_is_logged_too(jubako):
    shown = jubako("run", "--name", "one", "host", "--", "echo", "hello")
    assert shown.stdout == jubako("logs", "one", check=True).stdout == "hello\n"


def test_a_container_without_a_log_says_so(jubako):
    jubako("run", "-d", "--name", "one", "--log-driver", "none", "host", "--", "true", check=True)
    result = jubako("logs", "one")
    assert result.exit_code == 125
    assert "it has none" in result.stderr


def test_long_and_binary_output_is_kept_byte_by_byte(jubako):
    ended(jubako, "one", "head -c 300000 /dev/zero | tr '\\0' x; printf '\\377\\n\\001'; echo; echo end")
    assert jubako("logs", "one", check=True).stdout == "x" * 300000 + "\\xff\n\x01\nend\n"


def test_tail_counts_lines(jubako):
    ended(jubako, "one", "for n in 1 2 3 4 5; do echo $n; done; printf 'half '; sleep 0.2; printf 'a line'")
    assert jubako("logs", "--tail", "2", "one", check=True).stdout == "5\nhalf a line"
    assert jubako("logs", "-n", "0", "one", check=True).stdout == ""
    assert jubako("logs", "-n", "all", "one", check=True).stdout == "1\n2\n3\n4\n5\nhalf a line"
    assert jubako("logs", "-n", "many", "one").exit_code == 125


def test_since_and_until_are_times_or_spans(jubako):
    ended(jubako, "one", "echo early; sleep 1.2; echo late")
    stamps = [line.split()[0] for line in jubako("logs", "-t", "one", check=True).lines]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}\+00:00", stamp) for stamp in stamps)
    assert jubako("logs", "--since", stamps[1], "one", check=True).stdout == "late\n"
    assert jubako("logs", "--until", stamps[0], "one", check=True).stdout == "early\n"
    assert jubako("logs", "--since", "1h", "one", check=True).stdout == "early\nlate\n"
    assert jubako("logs", "--until", "2d", "one", check=True).stdout == ""
    assert jubako("logs", "--since", "soon", "one").exit_code == 125


def test_following_shows_what_comes_and_ends_with_the_container(jubako):
    script = "echo 1; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo 2; echo e >&2; exit 3"
    jubako("run", "-d", "--name", "one", "host", "--", "sh", "-c", script, check=True)
    follower = jubako.start("logs", "-f", "one")
    assert follower.stdout is not None
    assert follower.stdout.readline() == "1\n"
    assert follower.poll() is None
    jubako("exec", "one", "touch", "/tmp/go", check=True)
    out, errors = follower.communicate(timeout=5)
    assert (out, errors, follower.returncode) == ("2\n", "e\n", 0)
    assert jubako("logs", "-f", "one", timeout=5).stdout == "1\n2\n"


def test_following_does_not_busy_the_processor(jubako):
    jubako("run", "-d", "--name", "one", "host", "--", "sleep", "60", check=True)
    follower = jubako.start("logs", "-f", "one")
    at_rest(follower.pid)
    before = processor_ticks(follower.pid)
    time.sleep(0.7)
    assert processor_ticks(follower.pid) - before <= 1


def test_attach_brings_input_output_and_the_exit_code(jubako):
    jubako("run", "-d", "-i", "--name", "one", "host", "--", "sh", "-c", ECHO, check=True)
    client = jubako.start("attach", "one")
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write("hello\n")
    client.stdin.flush()
    assert client.stdout.readline() == "got hello\n"
    watcher = jubako.start("attach", "--no-stdin", "one")
    at_rest(watcher.pid)
    out, _errors = client.communicate("end\n", timeout=5)
    assert (out, client.returncode) == ("got end\n", 5)
    assert watcher.communicate(timeout=5)[0] == "got end\n"
    assert watcher.returncode == 5


def test_a_client_that_is_killed_leaves_the_container_running(jubako):
    jubako("run", "-d", "-i", "--name", "one", "host", "--", "sh", "-c", ECHO, check=True)
    client = jubako.start("attach", "one")
    at_rest(client.pid)
    client.kill()
    client.wait(5)
    assert jubako("attach", "one", input="end\n").stdout == "got end\n"


def test_signals_reach_the_program_unless_proxying_is_off(jubako):
    script = "trap 'exit 9' INT; echo ready; while :; do sleep 0.05; done"
    jubako("run", "-d", "--name", "one", "host", "--", "sh", "-c", script, check=True)
    deaf = jubako.start("attach", "--sig-proxy=false", "one")
    proxy = jubako.start("attach", "one")
    at_rest(deaf.pid)
    at_rest(proxy.pid)
    deaf.send_signal(2)
    assert deaf.wait(5) in (130, -2)
    assert jubako("ps", "-q").stdout != ""
    proxy.send_signal(2)
    assert proxy.wait(5) == 9


def test_a_terminal_is_attached_resized_and_left_alone_by_its_keys(jubako):
    jubako("run", "-d", "-it", "--name", "one", "host", "--", "sh", check=True)
    terminal = jubako.terminal("attach", "one", rows=33, columns=101)
    modes = terminal.modes()
    terminal.send("stty size; echo mark-$((40+2))\n")
    assert "33 101" in terminal.read_until("mark-42")
    terminal.resize(20, 60)
    terminal.send("sleep 0.2; stty size; echo mark-$((50+2))\n")
    assert "20 60" in terminal.read_until("mark-52")
    terminal.send("\x10\x11")
    assert terminal.wait() == 0
    assert terminal.modes() == modes
    assert jubako("ps", "-q").stdout != ""
    again = jubako.terminal("attach", "--detach-keys", "ctrl-x,x", "one")
    again.send("echo mark-$((60+2))\n")
    again.read_until("mark-62")
    again.send("exit 4\n")
    assert again.wait() == 4


def test_a_log_with_a_size_keeps_what_came_last(jubako, directories):
    script = "n=0; while [ $n -lt 6000 ]; do n=$((n+1)); echo line-number-$n; done"
    flags = ("--name", "one", "--log-opt", "max-size=64k")
    jubako("run", "-d", *flags, "host", "--", "sh", "-c", script, check=True)
    jubako("wait", "one", check=True)
    lines = jubako("logs", "one", check=True).lines
    assert lines[-1] == "line-number-6000"
    assert lines == [f"line-number-{n}" for n in range(6001 - len(lines), 6001)]
    (container,) = (directories.data / "containers").iterdir()
    assert sum(log.stat().st_size for log in container.glob("log*")) < 5 * 64 * 1024
    for wrong in (("--log-opt", "size=3"), ("--log-opt", "max-size=big"), ("--log-driver", "journald")):
        assert jubako("run", "--rm", *wrong, "host", "--", "true").exit_code == 125
