"""`import jubako`: what `run`, `start` and `Sandbox` do, from a caller's own process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import jubako
from jubako.sandbox.sandbox import close_shared


@pytest.fixture(autouse=True)
def _no_launcher_stays(_leaves_nothing: None) -> Iterator[None]:
    yield
    close_shared()


def test_a_run_gives_back_output_and_exit_code() -> None:
    result = jubako.run(["id", "-u"])
    assert (result.stdout, result.stderr, result.exit_code) == ("0\n", "", 0)
    assert result.ok


def test_an_exit_code_is_a_value_and_with_check_an_error() -> None:
    command = ["sh", "-c", "echo out; echo err >&2; exit 3"]
    result = jubako.run(command)
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)
    with pytest.raises(jubako.ProgramError) as caught:
        jubako.run(command, check=True)
    assert caught.value.exit_code == 3
    assert caught.value.result.stdout == "out\n"


def test_bytes_go_in_and_come_out() -> None:
    data = bytes(range(256)) * 20_000
    assert jubako.run(["cat"], input=data, text=False).stdout == data


def test_each_call_has_a_fresh_container() -> None:
    assert jubako.run(["touch", "/tmp/mark"]).ok
    assert not jubako.run(["test", "-e", "/tmp/mark"]).ok


def test_the_environment_is_what_was_said_and_no_more() -> None:
    os.environ["JUBAKO_TEST_SECRET"] = "x"
    try:
        result = jubako.run(["env"], env={"A": "b c"})
    finally:
        del os.environ["JUBAKO_TEST_SECRET"]
    names = {line.partition("=")[0] for line in result.stdout.splitlines()}
    assert "A=b c" in result.stdout.splitlines()
    assert names == {"PATH", "HOME", "HOSTNAME", "container", "A"}


def test_ten_thousand_arguments_and_a_mebibyte_of_environment_arrive() -> None:
    assert len(jubako.run(["echo", *["a" * 9] * 10_000]).stdout) == 100_000
    many = {f"V{number}": "x" * 1000 for number in range(1000)}
    assert jubako.run(["sh", "-c", "env | grep -c ^V"], env=many).stdout == "1000\n"


def test_only_the_standard_streams_reach_the_program() -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        listed = jubako.run(["sh", "-c", "ls /proc/$$/fd"]).stdout.split()
    finally:
        os.close(reader)
        os.close(writer)
    assert listed == ["0", "1", "2"]


def test_a_file_as_input_is_relayed_and_cannot_be_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_text("precious\n")
    with path.open() as file:
        result = jubako.run(["sh", "-c", "cat; echo spoiled > /proc/self/fd/0"], stdin=file)
    assert result.stdout == "precious\n"
    assert path.read_text() == "precious\n"


def test_a_directory_as_input_is_refused() -> None:
    directory = os.open("/", os.O_RDONLY)
    try:
        with pytest.raises(jubako.UsageError, match="it is a directory"):
            jubako.run(["ls"], stdin=directory)
    finally:
        os.close(directory)


def test_output_can_go_to_a_file_and_errors_with_it(tmp_path: Path) -> None:
    path = tmp_path / "output"
    with path.open("w") as file:
        result = jubako.run(["sh", "-c", "echo a; echo b >&2"], stdout=file, stderr=jubako.STDOUT)
    assert (result.stdout, result.stderr) == ("", "")
    assert path.read_text() == "a\nb\n"


def test_a_time_limit_kills_and_keeps_what_was_said() -> None:
    with pytest.raises(jubako.TimeLimitError) as caught:
        jubako.run(["sh", "-c", "echo partial; sleep 60"], timeout=1.0)
    assert caught.value.stdout == "partial\n"


def test_a_limit_of_output_ends_a_program_that_writes_for_ever() -> None:
    result = jubako.run(["yes"], output_limit=1000)
    assert result.truncated
    assert len(result.stdout) == 1000
    assert result.exit_code == 137


@pytest.mark.parametrize(
    ("command", "kind", "code"),
    [
        (["no-such-program"], jubako.ProgramNotFoundError, 127),
        (["/etc/passwd"], jubako.NotExecutableError, 126),
        (["/etc"], jubako.NotExecutableError, 126),
    ],
)
def test_a_program_that_cannot_start_is_an_error_of_its_own(
    command: list[str], kind: type[jubako.JubakoError], code: int
) -> None:
    with pytest.raises(kind) as caught:
        jubako.run(command)
    assert caught.value.exit_code == code
    assert caught.value.operation == "execute"


def test_options_that_cannot_be_are_refused_with_a_hint() -> None:
    with pytest.raises(jubako.UsageError, match="did you mean image"):
        jubako.run(["id"], imge="host")  # type: ignore[call-overload]
    with pytest.raises(jubako.UsageError, match="no such capability"):
        jubako.run(["id"], cap_add=["NOPE"])
    with pytest.raises(jubako.UsageError, match="sequence of arguments"):
        jubako.run("id -u")
    with pytest.raises(jubako.NotFoundError, match="no such image"):
        jubako.run(["id"], image="no-such-image")
    with pytest.raises(jubako.NotFoundError, match="No such file"):
        jubako.run(["id"], volumes={"/no/such/source": "/mnt"})


def test_a_volume_is_read_only_where_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("data")
    result = jubako.run(["sh", "-c", "cat /in/in; echo x > /in/new"], volumes={tmp_path: "/in:ro"})
    assert result.stdout == "data"
    assert "Read-only file system" in result.stderr
    assert os.listdir(tmp_path) == ["in"]


def test_what_is_made_in_a_volume_belongs_to_the_caller(tmp_path: Path) -> None:
    jubako.run(["sh", "-c", "echo x > /out/made"], volumes={tmp_path: "/out"}, check=True)
    assert (tmp_path / "made").stat().st_uid == os.getuid()


def test_a_root_file_system_below_a_throw_away_layer_stays_as_it_is(rootfs: Path) -> None:
    before = sorted(os.listdir(rootfs / "bin"))
    script = "echo hi > /bin/new && rm /bin/ls && cat /bin/new; test -e /bin/ls"
    result = jubako.run(["/bin/sh", "-c", script], rootfs=f"{rootfs}:O")
    assert (result.stdout, result.exit_code) == ("hi\n", 1), result
    assert sorted(os.listdir(rootfs / "bin")) == before


def test_the_network_is_off_unless_it_is_asked_for() -> None:
    assert jubako.run(["ls", "/sys/class/net"]).stdout.split() == ["lo"]
    assert set(jubako.run(["ls", "/sys/class/net"], network="host").stdout.split()) == set(os.listdir("/sys/class/net"))


@pytest.mark.parametrize("options", [{"pid": "host"}, {"time_offset": ["boottime=1000000"]}, {"init": True}])
def test_what_needs_a_supervisor_of_its_own_works_and_ends(options: dict[str, object]) -> None:
    result = jubako.run(["sh", "-c", "sleep 1000 & echo up; exit 7"], **options)  # type: ignore[call-overload]
    assert (result.stdout, result.exit_code) == ("up\n", 7)


def test_a_container_that_was_started_can_be_talked_to_signalled_and_waited_for() -> None:
    script = "trap 'echo bye; exit 5' TERM; read line; echo got $line; while :; do sleep 0.05; done"
    with jubako.start(["sh", "-c", script], stdin=jubako.PIPE, stdout=jubako.PIPE) as container:
        assert container.stdin is not None
        assert container.stdout is not None
        assert Path(f"/proc/{container.pid}/status").exists()
        container.stdin.write(b"word\n")
        assert container.stdout.readline() == b"got word\n"
        assert container.poll() is None
        container.send_signal(15)
        assert container.wait(10) == 5
        assert container.stdout.read() == b"bye\n"


def test_a_started_container_is_killed_when_its_block_ends() -> None:
    with jubako.start(["sleep", "1000"]) as container, pytest.raises(jubako.TimeLimitError):
        container.wait(0.1)
    assert container.exit_code == 137


def test_start_raises_what_prevents_the_program() -> None:
    with pytest.raises(jubako.ProgramNotFoundError):
        jubako.start(["no-such-program"])


def test_a_sandbox_keeps_its_options_and_adds_the_calls_environment() -> None:
    with jubako.Sandbox(env={"A": "1", "B": "1"}, workdir="/srv", hostname="box") as sandbox:
        result = sandbox.run(["sh", "-c", "echo $A $B $(pwd) $(hostname)"], env={"B": "2"})
        assert result.stdout == "1 2 /srv box\n"
    with pytest.raises(jubako.JubakoError, match="closed"):
        sandbox.run(["true"])


def test_a_network_is_connected_when_it_is_asked_for():
    assert jubako.run(["cat", "/sys/class/net/tap0/mtu"], network="pasta").stdout == "65520\n"
    told = jubako.run(["printenv", "https_proxy"], network="proxy", allow=["example.org"])
    assert told.stdout == "http://127.0.0.1:3128\n"
    with pytest.raises(jubako.JubakoError, match="on no bridge"):
        jubako.run(["true"], network="bridge")
