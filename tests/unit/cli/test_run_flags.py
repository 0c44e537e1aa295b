"""`run`'s command line becomes the one request record, whole and unchanged."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import jubako
from jubako.cli.commands.exec import COMMAND as EXEC
from jubako.cli.commands.run import COMMAND
from jubako.cli.flags import LIST, NUMBER, SWITCH, field_of, parse
from jubako.cli.main import main
from jubako.cli.run_flags import CONTAINER_FLAGS, RUN_FLAGS, run_options
from jubako.engine.exec import ExecOptions
from jubako.engine.options import RunOptions
from jubako.errors import UsageError


def options(*argv: str) -> RunOptions:
    return run_options(parse(COMMAND, argv))


def test_every_field_of_a_request_can_be_said_on_the_command_line_and_the_other_way_round():
    fields = set(RunOptions.__annotations__) - {"image", "command"}
    assert {field_of(flag) for flag in RUN_FLAGS} == fields
    assert len({field_of(flag) for flag in RUN_FLAGS}) == len(RUN_FLAGS)


def test_flags_and_fields_agree_on_what_they_hold_and_on_the_defaults():
    request = RunOptions()
    for flag in RUN_FLAGS:
        default = getattr(request, field_of(flag))
        expected = {SWITCH: bool, LIST: tuple, NUMBER: (int, type(None))}.get(flag.kind, (str, type(None)))
        assert isinstance(default, expected), flag.names
        if flag.default is not None:
            assert flag.default == default, flag.names


def test_create_knows_every_flag_of_run_but_those_of_the_terminal_in_front():
    only_run = {field_of(flag) for flag in RUN_FLAGS} - {field_of(flag) for flag in CONTAINER_FLAGS}
    assert only_run == {"detach", "attach", "detach_keys", "sig_proxy"}


def test_nothing_but_an_image_asks_for_nothing_more_than_the_default_network(monkeypatch):
    monkeypatch.delenv("JUBAKO_NETWORK", raising=False)
    assert options("busybox") == RunOptions(image="busybox", network=("default",))
    assert options("--ns", "net=none", "busybox") == RunOptions(image="busybox", ns=("net=none",))
    monkeypatch.setenv("JUBAKO_NETWORK", "none")
    assert options("busybox") == RunOptions(image="busybox", network=("none",))
    assert options("--net", "host", "busybox").network == ("host",)


def test_a_long_docker_command_line_is_understood():
    asked = options(
        *shlex.split(
            "-itd --rm --name web -e A=1 -eB -v .:/src:ro --volume=/a:/b -w /src -u 1000:1000 -h box "
            "--cap-drop ALL --cap-add=NET_BIND_SERVICE --net host --pid=host -m 512m --cpus=1.5 -c 512 "
            "--ulimit nofile=1024:2048 --tmpfs /scratch:size=1m --read-only --init --pids-limit=-1 "
            "--security-opt no-new-privileges --label a=b --no-read-only-tmpfs --entrypoint= busybox sh -c 'echo $0'"
        ),
    )
    assert asked == RunOptions(
        image="busybox",
        command=("sh", "-c", "echo $0"),
        interactive=True,
        tty=True,
        detach=True,
        rm=True,
        name="web",
        env=("A=1", "B"),
        volume=(".:/src:ro", "/a:/b"),
        workdir="/src",
        user="1000:1000",
        hostname="box",
        cap_drop=("ALL",),
        cap_add=("NET_BIND_SERVICE",),
        network=("host",),
        pid="host",
        memory="512m",
        cpus="1.5",
        cpu_shares=512,
        ulimit=("nofile=1024:2048",),
        tmpfs=("/scratch:size=1m",),
        read_only=True,
        init=True,
        pids_limit=-1,
        security_opt=("no-new-privileges",),
        label=("a=b",),
        read_only_tmpfs=False,
        entrypoint="",
    )


def test_one_pair_of_dashes_behind_the_image_is_dropped():
    assert options("host", "--", "echo", "--", "x").command == ("echo", "--", "x")
    assert options("host", "--", "--", "x").command == ("--", "x")
    assert options("host", "--").command == ()


def test_with_a_rootfs_every_word_belongs_to_the_program():
    asked = options("--rootfs", "/r:O", "ls", "-l")
    assert (asked.rootfs, asked.image, asked.command) == ("/r:O", "", ("ls", "-l"))
    assert options("--rootfs=/r", "--", "ls").command == ("ls",)


def test_no_image_at_all_is_refused_with_a_way_on():
    with pytest.raises(UsageError, match="no image and no --rootfs") as caught:
        options("-it")
    assert "jubako run host" in caught.value.hint


def test_an_entrypoint_that_is_not_given_is_not_an_empty_one():
    assert options("busybox").entrypoint is None
    assert options("--entrypoint", "", "busybox").entrypoint == ""


def test_the_same_path_twice_is_no_request_for_two_roots():
    with pytest.raises(UsageError, match="given twice"):
        options("--rootfs", "/a", "--rootfs", "/b")


HEAVY = shlex.split(
    "typing dataclasses collections re json enum argparse pathlib contextlib functools subprocess socket "
    "logging tempfile shutil inspect asyncio threading selectors signal random warnings"
)


def test_reading_a_command_line_imports_nothing_heavy():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from jubako.cli import main, table, flags\n"
        "from jubako.cli.commands import run\n"
        "run.run_options(flags.parse(run.COMMAND, ['-it', '--rm', 'host', 'true']))\n"
        "print(*sys.modules)"
    )
    source = str(Path(jubako.__file__).parent.parent)
    listed = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, source],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert sorted(set(listed.stdout.split()) & set(HEAVY)) == []


def test_exec_can_say_all_that_the_engine_can_be_asked():
    fields = set(ExecOptions.__annotations__) - {"container", "command"}
    assert {field_of(flag) for flag in EXEC.flags} == fields
    defaults = ExecOptions("c", ())
    for flag in EXEC.flags:
        if flag.default is not None:
            assert flag.default == getattr(defaults, field_of(flag)), flag.names


def test_exec_takes_the_container_then_the_command(monkeypatch):
    asked = []
    monkeypatch.setattr("jubako.engine.exec.exec_in_container", lambda options: asked.append(options) or 7)
    assert main(["exec", "-it", "-e", "A=1", "web", "--", "ls", "-l"]) == 7
    assert main(["exec", "web", "-x", "--"]) == 7
    assert asked == [
        ExecOptions("web", ("ls", "-l"), interactive=True, tty=True, env=("A=1",)),
        ExecOptions("web", ("-x", "--")),
    ]
