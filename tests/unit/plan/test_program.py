"""Finding the program as execvp(3) would, saying why it cannot run, and never being led to our own interpreter."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from jubako.errors import JubakoError, NotExecutableError, ProgramNotFoundError
from jubako.linux import mount
from jubako.linux.clone import CLONE_NEWNS, CLONE_NEWUSER
from jubako.plan import program
from jubako.plan.program import find_program, program_error
from unit.linux.forked import in_child


def executable(path: Path, content: bytes = b"\x7fELF", mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def elf(machine: int, order: str = "little") -> bytes:
    return b"\x7fELF\x02" + (b"\x01" if order == "little" else b"\x02") + bytes(12) + machine.to_bytes(2, order)  # type: ignore[arg-type]


def refused(name: str, *environment: str) -> JubakoError:
    with pytest.raises(JubakoError) as caught:
        find_program(name, environment)
    return caught.value


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = str(executable(tmp_path / "prog"))
    assert find_program(path, ()).path == path


def test_a_name_is_searched_along_the_programs_own_path(tmp_path: Path) -> None:
    executable(tmp_path / "b/prog")
    executable(tmp_path / "c/prog")
    search = f"PATH={tmp_path}/a:{tmp_path}/b:{tmp_path}/c"
    assert find_program("prog", ("A=1", search)).path == f"{tmp_path}/b/prog"


def test_an_empty_part_of_the_path_is_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path / "prog")
    monkeypatch.chdir(tmp_path)
    assert find_program("prog", ("PATH=:/none",)).path == "./prog"


def test_without_a_path_the_usual_places_are_searched() -> None:
    assert find_program("sh", ()).path in ("/usr/bin/sh", "/bin/sh", "/usr/local/bin/sh")


def test_what_cannot_be_executed_is_passed_over_for_what_can(tmp_path: Path) -> None:
    executable(tmp_path / "a/prog", mode=0o644)
    (tmp_path / "b/prog").mkdir(parents=True)
    executable(tmp_path / "c/prog")
    assert find_program("prog", (f"PATH={tmp_path}/a:{tmp_path}/b:{tmp_path}/c",)).path == f"{tmp_path}/c/prog"


def test_a_program_that_is_nowhere_is_127_with_the_path_that_was_searched(tmp_path: Path) -> None:
    error = refused("prog", f"PATH={tmp_path}")
    assert isinstance(error, ProgramNotFoundError)
    assert (error.exit_code, error.errno) == (127, errno.ENOENT)
    assert str(tmp_path) in error.hint
    assert refused(f"{tmp_path}/none").exit_code == 127
    assert refused(f"{tmp_path}/none/deeper").exit_code == 127
    assert refused("").exit_code == 127


def test_a_program_that_is_there_and_cannot_run_is_126_with_the_reason(tmp_path: Path) -> None:
    executable(tmp_path / "plain", mode=0o644)
    os.mkfifo(tmp_path / "fifo", 0o755)
    for name, said in (("plain", "chmod +x"), (".", "is a directory"), ("fifo", "not a regular file")):
        error = refused(f"{tmp_path}/{name}")
        assert isinstance(error, NotExecutableError)
        assert error.exit_code == 126
        assert said in error.hint
    error = refused("plain", f"PATH={tmp_path}:/none")
    assert error.exit_code == 126


def test_a_script_is_known_with_its_interpreter_and_argument(tmp_path: Path) -> None:
    script = executable(tmp_path / "script", b"#! /bin/sh  -e -x \nexit\n")
    found = find_program(str(script), ())
    assert (found.interpreter, found.interpreter_argument, found.path) == ("/bin/sh", "-e -x", str(script))
    arguments, directory, name = found.open_place((str(script), "one", "two"))
    assert arguments == ("/bin/sh", "-e -x", str(script), "one", "two")
    assert os.path.samestat(os.stat(name, dir_fd=directory, follow_symlinks=False), os.stat("/bin/sh"))
    assert not os.get_inheritable(directory)
    os.close(directory)


def test_a_program_itself_is_executed_by_its_name_in_its_directory(tmp_path: Path) -> None:
    path = executable(tmp_path / "prog")
    arguments, directory, name = find_program(str(path), ()).open_place(("other name", "x"))
    assert (arguments, name) == (("other name", "x"), "prog")
    assert os.path.samestat(os.fstat(directory), tmp_path.stat())
    os.close(directory)


def test_a_missing_interpreter_is_127_and_named(tmp_path: Path) -> None:
    script = executable(tmp_path / "script", b"#!/no/such/perl -w\n")
    for error in (refused(str(script)), refused("script", f"PATH={tmp_path}:/bin")):
        assert error.exit_code == 127
        assert "interpreter /no/such/perl is not in the container" in str(error)
    crlf = executable(tmp_path / "dos", b"#!/bin/sh\r\nexit\r\n")
    assert "/bin/sh\r" in str(refused(str(crlf)))


def test_an_interpreter_line_without_one_is_refused(tmp_path: Path) -> None:
    for line in (b"#!", b"#! \n", b"#!\t\nx"):
        error = refused(str(executable(tmp_path / "script", line)))
        assert error.exit_code == 126
        assert "names no interpreter" in str(error)


def test_scripts_of_scripts_are_followed_as_far_as_the_kernel_goes(tmp_path: Path) -> None:
    executable(tmp_path / "s0", b"#!/bin/sh\n")
    for number in range(1, 7):
        executable(tmp_path / f"s{number}", f"#!{tmp_path}/s{number - 1}\n".encode())
    assert find_program(f"{tmp_path}/s3", ()).interpreter == f"{tmp_path}/s2"
    assert refused(f"{tmp_path}/s6").errno == errno.ELOOP


def test_a_program_for_another_machine_is_refused_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "MACHINE", "x86_64")
    monkeypatch.setattr(program, "_binfmt_misc", lambda: False)
    foreign = executable(tmp_path / "foreign", elf(183))
    error = refused(str(foreign))
    assert (error.exit_code, error.errno) == (126, errno.ENOEXEC)
    assert "built for aarch64, and this machine is x86_64" in error.reason
    assert "s390x" in refused(str(executable(tmp_path / "big", elf(22, "big")))).reason
    for machine in (62, 3):
        find_program(str(executable(tmp_path / "ours", elf(machine))), ())
    monkeypatch.setattr(program, "_binfmt_misc", lambda: True)
    find_program(str(foreign), ())


@pytest.fixture(params=["openat2", "an older kernel"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With openat2(2), and without it."""
    if request.param != "openat2":
        monkeypatch.setattr(program, "openat2", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "none")))
    return str(request.param)


@pytest.mark.parametrize(
    "path",
    ["/proc/self/exe", "/proc/thread-self/exe", "/proc/self/fd/FD", "/proc/self/root/bin/sh", "/proc/1/../self/exe"],
)
def test_what_a_magic_link_leads_to_is_never_executed(tmp_path: Path, way: str, path: str) -> None:
    fd = os.open("/bin/sh", os.O_PATH)
    try:
        path = path.replace("FD", str(fd))
        (tmp_path / "link").symlink_to(path)
        (tmp_path / "link to it").symlink_to("./link")
        script = executable(tmp_path / "script", f"#!{path}\n".encode())
        for name in (path, f"{tmp_path}/link", f"{tmp_path}/link to it", str(script)):
            error = refused(name)
            assert (error.exit_code, error.errno) == (126, errno.ELOOP), name
            assert "magic link" in error.hint
    finally:
        os.close(fd)


def test_usual_links_are_followed_to_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    executable(tmp_path / "deep/er/prog")
    (tmp_path / "dir").symlink_to("deep/er")
    (tmp_path / "up").symlink_to(f"{tmp_path}/dir/../../dir/prog")
    monkeypatch.chdir(tmp_path / "deep")
    for path in (f"{tmp_path}/up", f"{tmp_path}//dir/./prog", "../up", "er/prog"):
        _arguments, directory, name = find_program(path, ()).open_place((path,))
        assert name == "prog"
        assert os.path.samestat(os.fstat(directory), os.stat(tmp_path / "deep/er"))
        os.close(directory)
    (tmp_path / "loop").symlink_to("loop")
    assert refused(f"{tmp_path}/loop").errno == errno.ELOOP
    assert refused(f"{tmp_path}/dir/none").exit_code == 127
    assert refused(f"{tmp_path}/up/none").exit_code == 127


def test_without_openat2_nothing_below_proc_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "openat2", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "none")))
    (tmp_path / "link").symlink_to("/proc/version")
    assert refused(f"{tmp_path}/link").errno == errno.ELOOP
    assert refused("/proc/version").errno == errno.ELOOP
    assert refused("/proc").errno == errno.ELOOP


def test_a_proc_that_is_mounted_elsewhere_is_known_for_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    def look() -> int:
        (tmp_path / "p").mkdir()
        mount.mount("/proc", str(tmp_path / "p"), None, mount.MS_BIND | mount.MS_REC)
        return refused(f"{tmp_path}/p/self/exe").errno

    assert in_child(look, CLONE_NEWUSER | CLONE_NEWNS) == errno.ELOOP


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(errno.ENOENT, 127, "ld.so"), (errno.ENOTDIR, 127, "ld.so"), (errno.E2BIG, 126, "arguments"),
     (errno.ENOEXEC, 126, "neither an ELF"), (errno.EACCES, 126, "noexec"), (errno.EPERM, 126, "filter"),
     (errno.EIO, 126, "")],
)  # fmt: skip
def test_what_execve_itself_refuses_is_told(number: int, code: int, said: str) -> None:
    error = program_error("prog", number)
    assert (error.exit_code, error.errno) == (code, number)
    assert said in error.hint
