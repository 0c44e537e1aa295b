"""Bad input gets one clear error of one shape, the right exit code, and leaves nothing behind (which `clean` looks at)."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import struct
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world import archives
from world.account import Account
from world.box import eventually
from world.command import Command, Result
from world.traces import Directories

Run = Callable[..., Result]
OPERATION = re.compile(r"jubako: [a-z-][^\n]*\n(  (step|hint): [^\n]*\n|  step \d+ of \d+: \w+\n|  [^\n]+\n)*\Z")


def refused(result: Result, *words: str, code: int = 125) -> str:
    """That `result` is one error of ours: *operation, subject, cause*, and perhaps hints; the text."""
    assert result.exit_code == code, result
    assert result.stdout == "", result
    assert "Traceback" not in result.stderr, result
    assert "a fault in jubako" not in result.stderr, result
    assert "should not happen" not in result.stderr, result
    assert OPERATION.match(result.stderr), result
    assert result.stderr.count("jubako: ") == 1, result
    for word in words:
        assert word in result.stderr, f"no {word!r} in {result}"
    return result.stderr


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
    refused(run("--user", "alice", "--rootfs", rootfs, "/closed"), "execute /closed: Permission denied (EACCES)", code=126)


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
        (("--network", "bridge"), ("bridge", "not supported yet")),
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
    "text", ["not json", "[]", "{}", '{"defaultAction": "SCMP_ACT_NOSUCH"}', '{"defaultAction": 1}', '{"syscalls": 3}', "",
             '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"NO"}]}', "\0", "[" * 100_000],
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
    refused(run("--env-file", tmp_path / "env", "--rootfs", rootfs, "true"), "execute true:", "(E2BIG)", "larger", code=126)


def test_a_path_that_is_too_long(rootfs: Path, run: Run) -> None:
    long = "/" + "/".join(["d" * 200] * 30)
    refused(run("-v", f"/etc:{long}", "--rootfs", rootfs, "true"), "(ENAMETOOLONG)")
    refused(run("-v", f"/etc:/{'n' * 300}", "--rootfs", rootfs, "true"), "(ENAMETOOLONG)")


# --- archives ---------------------------------------------------------------------------------------------------------


def hostile(entry: Callable[[tarfile.TarFile], None]) -> bytes:
    """A layer with one hostile thing in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry(archive)
    return buffer.getvalue()


def add(archive: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"") -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size, entry.mode = kind, link, len(data), 0o755
    entry.devmajor, entry.devminor = 8, 0
    archive.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize(
    "damage", ["noise", "empty", "truncated", "directory", "missing layer", "wrong digest", "not an archive of an image"]
)
def test_an_archive_that_is_corrupt(damage: str, docker_archive: Path, tmp_path: Path, jubako: Command) -> None:
    bad = tmp_path / "bad.tar"
    good = docker_archive.read_bytes()
    if damage == "noise":
        bad.write_bytes(os.urandom(100_000))
    elif damage == "empty":
        bad.write_bytes(b"")
    elif damage == "truncated":
        bad.write_bytes(good[: len(good) // 2])
    elif damage == "directory":
        bad.mkdir()
    elif damage == "not an archive of an image":
        archives.write_tar(bad, {"hello": b"world"})
    elif damage == "missing layer":
        layer = archives.files_layer({"f": "x"})
        archives.write_docker_archive(tmp_path / "whole.tar", [layer], ["bad:latest"])
        with tarfile.open(tmp_path / "whole.tar") as whole, tarfile.open(bad, "w") as part:
            for member in whole:
                if "layer.tar" not in member.name:
                    part.addfile(member, whole.extractfile(member))
    else:
        bad = archives.write_oci_layout(tmp_path / "layout", [archives.files_layer({"f": "x" * 9000})], compress=False)
        largest = max((bad / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
        largest.write_bytes(largest.read_bytes().replace(b"xx", b"yy"))
    text = refused(jubako("load", "-i", bad))
    assert "digest" in text or damage != "wrong digest", text
    assert "bad" not in jubako("images").stdout


@pytest.mark.parametrize(
    "trick",
    [
        lambda a: add(a, "../../escaped", data=b"x"),
        lambda a: add(a, "/../escaped", data=b"x"),
        lambda a: (add(a, "link", tarfile.SYMTYPE, "/tmp"), add(a, "link/jubako-escaped", data=b"x")),
        lambda a: (add(a, "link", tarfile.SYMTYPE, "../../../../../../tmp"), add(a, "link/jubako-escaped", data=b"x")),
        lambda a: (add(a, "hard", tarfile.LNKTYPE, "/etc/passwd"),),
        lambda a: (add(a, "hard", tarfile.LNKTYPE, "../../../../../../../etc/passwd"),),
        lambda a: (add(a, "d", tarfile.SYMTYPE, "."), add(a, "d/../../../jubako-escaped", data=b"x")),
    ],
)
def test_an_archive_that_wants_out(
    trick: Callable[[tarfile.TarFile], None], tmp_path: Path, jubako: Command, run: Run, busybox_layer: bytes
) -> None:
    bad = archives.write_docker_archive(tmp_path / "bad.tar", [busybox_layer, hostile(trick)], ["bad:latest"])
    told = jubako("load", "-i", bad)
    # either it is refused, or what it names lies inside of the image: never is anything written outside
    assert not [name for name in os.listdir("/tmp") if "escaped" in name]
    assert not list(Path(jubako.account.home).glob("**/*escaped")) or told.exit_code == 0
    if told.exit_code:
        refused(told)
        return
    try:
        shown = run("bad", "sh", "-c", "cat /hard /link/jubako-escaped /tmp/jubako-escaped /escaped 2>/dev/null")
        assert jubako.account.name not in shown.stdout, "no file of the host got in"
    finally:
        jubako("rmi", "bad", check=True)


def test_an_archive_with_device_nodes_gives_no_devices(
    tmp_path: Path, jubako: Command, run: Run, busybox_layer: bytes
) -> None:
    nodes = hostile(lambda a: (add(a, "sda", tarfile.BLKTYPE), add(a, "mem", tarfile.CHRTYPE)))  # type: ignore[arg-type,return-value]
    bad = archives.write_docker_archive(tmp_path / "bad.tar", [busybox_layer, nodes], ["bad:latest"])
    told = jubako("load", "-i", bad)
    if told.exit_code:
        refused(told)
        return
    try:
        shown = run("bad", "sh", "-c", "test -b /sda && echo device; test -c /mem && echo device; head -c1 /sda /mem")
        assert "device" not in shown.stdout, shown
    finally:
        jubako("rmi", "bad", check=True)


def test_a_file_system_archive_that_is_corrupt_is_not_imported(tmp_path: Path, jubako: Command) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(5000))
    refused(jubako("import", tmp_path / "noise", "mine"))
    refused(jubako("import", tmp_path / "missing", "mine"), "missing")
    refused(jubako("import", "-", "mine", input=b"\x1f\x8b\x08" + os.urandom(500)))
    assert "mine" not in jubako("images").stdout


def test_a_disk_that_is_full_while_loading(docker_archive: Path, tmp_path: Path, jubako: Command) -> None:
    for name in ("small", "run"):
        (tmp_path / name).mkdir(mode=0o700)
    script = (
        'mount -t tmpfs -o size=500k small "$0/small"; "$@"; code=$?;'
        ' find "$0/small" -type f -size +0 ! -name "*.lock" ! -name "*.json" | sed s/^/left:/;'
        ' JUBAKO_RUN="$0/run" "$1" system shutdown; exit $code'
    )
    argv = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(tmp_path))
    places = {"JUBAKO_ROOT": f"{tmp_path}/small", "JUBAKO_RUN": f"{tmp_path}/run"}
    done = subprocess.run(
        (*argv, *jubako.argv("load", "-i", docker_archive)),
        capture_output=True, text=True, env=jubako.environment(places), timeout=60,
    )  # fmt: skip
    refused(Result(argv, done.stdout, done.stderr, done.returncode), "No space left on device (ENOSPC)")


# --- killed -----------------------------------------------------------------------------------------------------------


def containers(jubako: Command) -> list[str]:
    return jubako("ps", "--all", "--quiet", "--no-trunc", check=True).stdout.split()


@pytest.fixture
def tidy(jubako: Command, directories: Directories) -> Iterator[None]:
    """What a killed command left is found by the commands that come next, and can be removed by them."""
    before = set(containers(jubako))
    yield
    for unborn in (directories.data / "containers").glob("*.new"):  # no state yet: its maker is given a minute
        os.utime(unborn, (time.time() - 120,) * 2)
    assert eventually(lambda: not [c for c in set(containers(jubako)) - before if jubako("rm", "--force", c).exit_code], 10)
    assert set(containers(jubako)) == before


def orphans() -> set[str]:
    """The children of the reaper: pytest itself, pauses of bases, and what has lost its parent."""
    reaper = os.environ.get("JUBAKO_TEST_REAPER", str(os.getpid()))
    return set(Path(f"/proc/{reaper}/task/{reaper}/children").read_text().split())


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("milliseconds", [0, 5, 10, 15, 20, 25, 30, 35, 40, 50, 60, 80, 120])
def test_the_command_killed_at_any_moment_leaves_nothing(milliseconds: int, rootfs: Path, jubako: Command) -> None:
    before = orphans()
    running = jubako.start("run", "--rm", "--rootfs", rootfs, "sleep", "100")
    time.sleep(milliseconds / 1000)
    running.kill()
    assert running.wait(10) == -9
    assert eventually(lambda: orphans() <= before, 5), "the supervisor ends when it sees that nobody waits for it"


@pytest.mark.usefixtures("tidy")
def test_the_children_of_the_command_killed_at_any_moment_end_it_with_an_error(rootfs: Path, jubako: Command) -> None:
    for attempt in range(12):
        running = jubako.start("run", "--rm", "--rootfs", rootfs, "sleep", "100")
        victims: list[int] = []

        def find(depth: int = attempt % 2, top: int = running.pid, found: list[int] = victims) -> bool:
            pid = top
            for _ in range(depth + 1):
                try:
                    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                except (FileNotFoundError, ProcessLookupError):
                    return False
                if not children:
                    return False
                pid = int(children[0])
            found.append(pid)
            return True

        assert eventually(find, 10)
        time.sleep(attempt * 0.002)
        os.kill(victims[0], signal.SIGKILL)
        code = running.wait(15)
        assert running.stderr is not None
        said = running.stderr.read()
        assert code in (125, 137), (attempt, code, said)
        assert "Traceback" not in said, said
        if code == 125:
            assert said.startswith("jubako: "), said


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("when", [1, 3, 10, 30, 60, 100, 150, 200, 300, 400, 500])
def test_whoever_makes_the_nth_system_call_killed_leaves_nothing(
    when: int, rootfs: Path, jubako: Command, account: Account, tmp_path: Path, program: Callable[..., str]
) -> None:
    # every process of a start is killed at its own n-th call of these: files, mounts, namespaces, messages
    calls = "%file,%network,%process,mount,umount2,move_mount,open_tree,mount_setattr,setns,unshare,write"
    traced = (program("strace"), "-f", "-qq", "-o", "/dev/null", "-e", f"inject={calls}:signal=KILL:when={when}")
    command = Command(account, tmp_path, traced)
    told = command("run", "--rm", "--rootfs", rootfs, "true", timeout=40)
    assert told.exit_code in (0, -9, 125, 137), told
    assert "Traceback" not in told.stderr, told


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("milliseconds", [1, 20, 60])
def test_loading_killed_at_any_moment_can_be_repeated(
    milliseconds: int, docker_archive: Path, jubako: Command, run: Run
) -> None:
    running = jubako.start("load", "-i", docker_archive)
    time.sleep(milliseconds / 1000)
    running.kill()
    running.wait(10)
    jubako("load", "-i", docker_archive, check=True)
    try:
        assert run("busybox", "echo", "whole").stdout == "whole\n"
    finally:
        jubako("rmi", "busybox", check=True)
        jubako("image", "prune", "--force")


# --- errno, as the shape has it ---------------------------------------------------------------------------------------


def test_every_error_can_be_had_as_a_value(jubako: Command, tmp_path: Path) -> None:
    text = refused(jubako("run", "--rm", "--rootfs", tmp_path / "missing", "true"))
    assert os.strerror(errno.ENOENT) in text
    assert json.loads(jubako("ps", "--json", check=True).stdout) == []
