"""Bad input gets one clear error of one shape, the right exit code, and leaves nothing behind (see `clean`)."""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from world.command import Command, Result
from world.refusal import refused

Run = Callable[..., Result]


# --- images and roots -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nosuch", "nosuch:tag", "registry.example/no/such@sha256:" + "0" * 64, "hosts"])
def test_an_unknown_image(name: str, run: Run) -> None:
    refused(run(name, "true"), name.partition("@")[0], "hint:")


@pytest.mark.parametrize("name", ["UPPER", "a//b", "-", "a:b:c", "x@sha256:short", "", " ", "../x", "a\nb"])
def test_an_impossible_image_name(name: str, run: Run) -> None:
    refused(run("--", name, "true"))


def test_no_image_at_all(run: Run) -> None:
    refused(run(), "no image and no --rootfs is given", "hint:")


def test_a_root_file_system_that_is_missing_a_file_or_unreadable(tmp_path: Path, run: Run) -> None:
    refused(run("--rootfs", tmp_path / "missing", "true"), f"{tmp_path}/missing: No such file or directory (ENOENT)")
    (tmp_path / "file").write_text("")
    refused(run("--rootfs", tmp_path / "file", "true"), f"{tmp_path}/file", "not a directory")
    (tmp_path / "closed").mkdir(mode=0o000)
    refused(run("--rootfs", tmp_path / "closed", "true"), f"{tmp_path}/closed")
    (tmp_path / "closed").chmod(0o700)
    refused(run("--rootfs", tmp_path / "missing:O", "true"), f"{tmp_path}/missing")


def test_the_root_of_somebody_else(run: Run) -> None:
    refused(run("--rootfs", "/etc", "true"), "hint:")
    refused(run("--rootfs", "/proc/1/root", "true"), "/proc/1/root")


# --- programs ---------------------------------------------------------------------------------------------------------


def test_a_program_that_is_not_there(rootfs: Path, run: Run) -> None:
    refused(run("--rootfs", rootfs, "nosuch"), "execute nosuch: No such file or directory (ENOENT)", "PATH", code=127)
    refused(run("--rootfs", rootfs, "/no/such"), "execute /no/such: No such file", code=127)
    refused(run("--rootfs", rootfs, "./nosuch"), "execute ./nosuch: No such file", code=127)
    refused(run("--rootfs", rootfs, "/test.txt/x"), "execute /test.txt/x:", code=127)


def test_a_program_that_is_a_directory(rootfs: Path, run: Run) -> None:
    refused(run("--rootfs", rootfs, "/bin"), "execute /bin: Is a directory (EISDIR)", code=126)


def test_a_program_that_is_not_executable(rootfs: Path, run: Run) -> None:
    refused(run("--rootfs", rootfs, "/test.txt"), "execute /test.txt: Permission denied (EACCES)", "chmod +x", code=126)
    (rootfs / "closed").write_text("#!/bin/sh\n")
    (rootfs / "closed").chmod(0o700)
    refused(
        run("--user", "alice", "--rootfs", rootfs, "/closed"), "execute /closed: Permission denied (EACCES)", code=126
    )


def test_a_program_that_is_no_program(rootfs: Path, run: Run) -> None:
    (rootfs / "noise").write_bytes(bytes(range(256)))
    (rootfs / "empty").write_bytes(b"")
    os.mkfifo(rootfs / "fifo")
    for name in ("noise", "empty", "fifo"):
        (rootfs / name).chmod(0o755)
        refused(run("--rootfs", rootfs, f"/{name}", timeout=20), f"execute /{name}:", code=126)


def test_a_program_of_another_architecture(rootfs: Path, run: Run) -> None:
    machine, name = (183, "aarch64") if os.uname().machine == "x86_64" else (62, "x86_64")
    elf = bytearray((rootfs / "bin/busybox").read_bytes()[:64])
    elf[18:20] = struct.pack("<H", machine)
    (rootfs / "foreign").write_bytes(bytes(elf))
    (rootfs / "foreign").chmod(0o755)
    refused(run("--rootfs", rootfs, "/foreign"), "execute /foreign:", f"built for {name}", "(ENOEXEC)", code=126)


def test_a_script_whose_interpreter_is_missing(rootfs: Path, run: Run) -> None:
    (rootfs / "script").write_text("#!/usr/bin/nosuch -x\n")
    (rootfs / "looped").write_text("#!/looped\n")
    (rootfs / "nameless").write_text("#!\n")
    for name in ("script", "looped", "nameless"):
        (rootfs / name).chmod(0o755)
    refused(run("--rootfs", rootfs, "/script"), "/usr/bin/nosuch", "interpreter", code=127)
    refused(run("--rootfs", rootfs, "/looped"), "execute /looped:", code=126)
    refused(run("--rootfs", rootfs, "/nameless"), "/nameless", code=126)


def test_a_link_that_leads_nowhere_or_to_itself(rootfs: Path, run: Run) -> None:
    (rootfs / "dangling").symlink_to("/no/where")
    (rootfs / "circle").symlink_to("circle")
    refused(run("--rootfs", rootfs, "/dangling"), "execute /dangling", code=127)
    refused(run("--rootfs", rootfs, "/circle"), "execute /circle: Too many levels of symbolic links (ELOOP)", code=126)


def test_an_empty_command(rootfs: Path, run: Run) -> None:
    refused(run("--rootfs", rootfs), "there is no command to run")
    refused(run("--rootfs", rootfs, ""), "the command's name is empty")


# --- volumes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("/no/such/source:/x", ("/no/such/source: No such file or directory (ENOENT)",)),
        ("./nosuch:/x", ("nosuch: No such file or directory (ENOENT)",)),
        ("/etc:relative", ("relative",)),
        ("/etc:/x/../y", ("..",)),
        ("/etc:../../x", ("..",)),
        ("/etc:/", ()),
        ("/etc:/x:nosuchoption", ("'nosuchoption'",)),
        ("/etc:/x:ro,rw", ("ro and rw",)),
        ("/etc:/x:rslave,rshared", ("rslave and rshared",)),
        ("/etc:/x:ro:more", ("colons",)),
        (":/x", ()),
        ("/etc:", ()),
        ("", ()),
    ],
)
def test_a_bad_volume(value: str, words: tuple[str, ...], rootfs: Path, run: Run) -> None:
    before = sorted(os.listdir(rootfs))
    refused(run("-v", value, "--rootfs", rootfs, "true"), *words)
    assert sorted(os.listdir(rootfs)) == before


@pytest.mark.parametrize(
    "value",
    [
        "type=bind,source=/no/such,target=/x", "type=bind,source=/etc", "type=bind,target=/x", "type=nosuch,target=/x",
        "type=tmpfs,target=x", "type=tmpfs,target=/x,tmpfs-size=big", "type=bind,source=/etc,target=/x,nosuch", "",
        'type="', "type=bind,source=/etc,target=/x,bind-propagation=sideways", "type=tmpfs,target=/a/../b",
    ],
)  # fmt: skip
def test_a_bad_mount(value: str, rootfs: Path, run: Run) -> None:
    refused(run("--mount", value, "--rootfs", rootfs, "true"))


def test_a_file_over_a_directory_and_a_directory_over_a_file(rootfs: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").write_text("")
    refused(run("-v", f"{tmp_path}/file:/etc", "--rootfs", rootfs, "true"), "/etc")
    refused(run("-v", f"{tmp_path}:/test.txt", "--rootfs", rootfs, "true"), "/test.txt")


def test_a_source_that_may_not_be_entered(rootfs: Path, run: Run) -> None:
    with pytest.raises(PermissionError):
        os.listdir("/root")
    refused(run("-v", "/root/inner:/x", "--rootfs", rootfs, "true"), "/root/inner", "(EACCES)")


def test_a_bad_device(rootfs: Path, tmp_path: Path, run: Run) -> None:
    refused(run("--device", "/dev/nosuch", "--rootfs", rootfs, "true"), "/dev/nosuch")
    (tmp_path / "file").write_text("")
    refused(run("--device", f"{tmp_path}/file", "--rootfs", rootfs, "true"), "not a device")
    refused(run("--device", "/dev/null:/dev/x:q", "--rootfs", rootfs, "true"), "permissions")


# --- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--uidmap", "0:0:0"), ()),
        (("--uidmap", "0:0:10", "--uidmap", "5:100:10"), ("5",)),
        (("--uidmap", "0:0:10", "--uidmap", "100:5:10"), ("5",)),
        (("--uidmap", "0:0:100000000"), ()),
        (("--uidmap", "0:65537:10"), ()),
        (("--uidmap", "0:@0:1"), ()),
        (("--uidmap", "0:@4294967290:1"), ()),
        (("--uidmap", "0"), ()),
        (("--uidmap", "a:b:c"), ()),
        (("--uidmap", "0:-1:1"), ()),
        (("--uidmap", "0:0:1:1"), ()),
        (("--userns", "nosuch"), ("nosuch", "keep-id")),
        (("--userns", "auto:size=0"), ("size",)),
        (("--userns", "auto:size=99999999"), ()),
        (("--userns", "auto:nosuch=1"), ("nosuch",)),
        (("--userns", "keep-id:uid=x"), ("'x'",)),
        (("--userns", "host", "--uidmap", "0:0:1"), ()),
        (("--userns", "ns:/no/such"), ("/no/such",)),
        (("--userns", "container:nosuch"), ("nosuch",)),
    ],
)
def test_a_bad_map(flags: tuple[str, ...], words: tuple[str, ...], rootfs: Path, run: Run) -> None:
    refused(run(*flags, "--rootfs", rootfs, "true"), *words)


def test_a_user_or_group_that_the_container_does_not_have(rootfs: Path, run: Run) -> None:
    refused(run("--user", "nosuch", "--rootfs", rootfs, "true"), "nosuch", "/etc/passwd")
    refused(run("--user", "alice:nosuch", "--rootfs", rootfs, "true"), "nosuch", "/etc/group")
    refused(run("--group-add", "nosuch", "--rootfs", rootfs, "true"), "nosuch", "/etc/group")
    refused(run("--user", "4000000", "--rootfs", rootfs, "true"), "not mapped")
    refused(run("--user", "99999999999", "--rootfs", rootfs, "true"))
    refused(run("--user", ":x:y", "--rootfs", rootfs, "true"))


def test_passwd_and_group_files_that_are_hostile(rootfs: Path, run: Run) -> None:
    (rootfs / "etc/passwd").unlink()
    os.mkfifo(rootfs / "etc/passwd")
    refused(run("--user", "alice", "--rootfs", rootfs, "true", timeout=20), "alice")
    (rootfs / "etc/passwd").unlink()
    (rootfs / "etc/passwd").symlink_to("/proc/self/environ")
    refused(run("--user", "alice", "--rootfs", rootfs, "true"), "alice")
    (rootfs / "etc/passwd").unlink()
    (rootfs / "etc/passwd").write_bytes(b"\xff\xfe\0:::\nalice:x:not-a-number:0:::\n" + b"a" * 100_000)
    refused(run("--user", "alice", "--rootfs", rootfs, "true"), "alice")


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--cap-add", "nosuch"), ("nosuch",)),
        (("--cap-drop", "CAP_NOSUCH"), ("NOSUCH",)),
        (("--ns", "nosuch=host"), ("nosuch",)),
        (("--ns", "net"), ()),
        (("--pid", "sideways"), ("sideways",)),
        (("--pid", "container:nosuch"), ("nosuch",)),
        (("--nosuch",), ("--nosuch",)),
        (("-Q",), ("-Q",)),
        (("--hostname", "two words"), ()),
        (("--hostname", "x" * 65), ()),
        (("--env", "=value"), ()),
        (("--env-file", "/no/such"), ("/no/such",)),
        (("--workdir", "relative"), ("relative",)),
        (("--umask", "9"), ()),
        (("--ulimit", "nosuch=1"), ("nosuch",)),
        (("--ulimit", "nofile=2:1"), ()),
        (("--stop-signal", "SIGNOSUCH"), ("NOSUCH",)),
        (("--tmpfs", "relative"), ("relative",)),
        (("--tmpfs", "/x:size=lots"), ("lots",)),
        (("--shm-size", "many"), ("many",)),
        (("--sysctl", "nosuch"), ("nosuch",)),
        (("--sysctl", "kernel.panic=1"), ("kernel.panic",)),
        (("--name", "bad/name"), ("bad/name",)),
        (("--security-opt", "nosuch=1"), ("nosuch",)),
        (("--security-opt", "seccomp=/no/such"), ("/no/such",)),
        (("--add-host", "nosuch"), ("nosuch",)),
        (("--dns", "not-an-address"), ("not-an-address",)),
        (("--time-offset", "wall=1"), ("wall",)),
        (("--propagation", "sideways"), ("sideways",)),
        (("--storage", "nosuch"), ("nosuch",)),
        (("--restart", "sometimes"), ("sometimes",)),
        (("--oom-score-adj", "2000"), ("2000",)),
        (("--memory", "1g"), ("hint:",)),
        (("--cidfile", "/etc/passwd"), ("/etc/passwd",)),
        (("-t", "--detach-keys", "nosuch"), ("nosuch",)),
        (("--label-file", "/no/such"), ("/no/such",)),
    ],
)
def test_an_unknown_word_or_an_impossible_value(
    flags: tuple[str, ...], words: tuple[str, ...], rootfs: Path, run: Run
) -> None:
    refused(run(*flags, "--rootfs", rootfs, "true"), *words)


@pytest.mark.parametrize(
    ("arguments", "words"), [(("nosuch",), ("nosuch",)), (("--nosuch",), ("--nosuch",)), (("ps", "extra"), ("extra",))]
)
def test_an_unknown_command_or_flag(arguments: tuple[str, ...], words: tuple[str, ...], jubako: Command) -> None:
    refused(jubako(*arguments), *words)


def test_a_name_that_is_taken(rootfs: Path, run: Run, box: Callable[..., object]) -> None:
    box("--name", "taken", "--rootfs", rootfs)
    refused(run("--name", "taken", "--rootfs", rootfs, "true"), "taken", "hint:")


def test_a_cidfile_that_exists_is_kept(rootfs: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "id").write_text("of another")
    refused(run("--cidfile", tmp_path / "id", "--rootfs", rootfs, "true"), f"{tmp_path}/id", "(EEXIST)")
    assert (tmp_path / "id").read_text() == "of another"


def test_a_cidfile_of_a_container_that_could_not_start_is_removed(rootfs: Path, tmp_path: Path, run: Run) -> None:
    refused(run("--cidfile", tmp_path / "id", "--rootfs", rootfs, "nosuch"), code=127)
    assert not (tmp_path / "id").exists()


@pytest.mark.parametrize(
    "text", ["not json", "[]", "{}", '{"defaultAction": "SCMP_ACT_NOSUCH"}', '{"defaultAction": 1}', '{"syscalls": 3}',
             "", '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"NO"}]}', "\0",
             "[" * 100_000],
)  # fmt: skip
def test_a_seccomp_profile_that_is_none(text: str, rootfs: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "profile.json").write_text(text)
    refused(run("--security-opt", f"seccomp={tmp_path}/profile.json", "--rootfs", rootfs, "true"), "profile.json")


def test_a_directory_as_any_standard_stream(rootfs: Path, jubako: Command) -> None:
    directory = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number, name in ((0, "input"), (1, "output")):
            streams = [subprocess.DEVNULL, subprocess.DEVNULL]
            streams[number] = directory
            done = subprocess.run(
                jubako.argv("run", "--rm", "-i", "--rootfs", rootfs, "true"),
                stdin=streams[0], stdout=streams[1], stderr=subprocess.PIPE, text=True, env=jubako.environment(),
            )  # fmt: skip
            assert done.returncode == 125, done
            assert f"use standard {name} (descriptor {number}): it is a directory" in done.stderr
    finally:
        os.close(directory)


def test_standard_streams_that_are_closed_stay_harmless(rootfs: Path, jubako: Command) -> None:
    script = 'exec "$@" 0<&- 1>&- 2>&-'
    argv = jubako.argv("run", "--rm", "--rootfs", rootfs, "sh", "-c", "echo lost; ls /proc/self/fd | wc -l; exit 4")
    done = subprocess.run(("sh", "-c", script, "sh", *argv), env=jubako.environment())
    assert done.returncode == 4


# --- too much ---------------------------------------------------------------------------------------------------------


def test_ten_thousand_arguments_arrive(rootfs: Path, run: Run) -> None:
    told = run("--rootfs", rootfs, "sh", "-c", 'echo $# "${10000}"', "sh", *map(str, range(10_000)))
    assert told.stdout == "10000 9999\n", told


def test_one_mebibyte_of_environment_arrives(rootfs: Path, tmp_path: Path, run: Run) -> None:
    count, size = 16, 64 * 1024
    (tmp_path / "env").write_text("".join(f"V{n}={'x' * (size - 5)}\n" for n in range(count)))
    told = run("--env-file", tmp_path / "env", "--rootfs", rootfs, "sh", "-c", "env | wc -c", check=True)
    assert int(told.stdout) > count * (size - 6)


def test_one_variable_that_is_larger_than_the_kernel_takes(rootfs: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "env").write_text(f"BIG={'x' * (1 << 20)}\n")
    refused(
        run("--env-file", tmp_path / "env", "--rootfs", rootfs, "true"), "execute true:", "(E2BIG)", "larger", code=126
    )


def test_a_path_that_is_too_long(rootfs: Path, run: Run) -> None:
    long = "/" + "/".join(["d" * 200] * 30)
    refused(run("-v", f"/etc:{long}", "--rootfs", rootfs, "true"), "(ENAMETOOLONG)")
    refused(run("-v", f"/etc:/{'n' * 300}", "--rootfs", rootfs, "true"), "(ENAMETOOLONG)")


# --- errno, as the shape has it ---------------------------------------------------------------------------------------


def test_every_error_can_be_had_as_a_value(jubako: Command, tmp_path: Path) -> None:
    text = refused(jubako("run", "--rm", "--rootfs", tmp_path / "missing", "true"))
    assert os.strerror(errno.ENOENT) in text
    assert json.loads(jubako("ps", "--json", check=True).stdout) == []
