"""config.md, "Process", "POSIX process" and "User": the program, its directory, environment, limits and ids."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from world.bundle import Bundle
from world.rule import only_root, only_rootless, rule
from world.runtime import Runtime

LIMITS = {
    "RLIMIT_AS": 1 << 32,
    "RLIMIT_CORE": 4096,
    "RLIMIT_CPU": 1000,
    "RLIMIT_DATA": 1 << 32,
    "RLIMIT_FSIZE": 1 << 30,
    "RLIMIT_LOCKS": 77,
    "RLIMIT_MEMLOCK": 32768,
    "RLIMIT_MSGQUEUE": 4096,
    "RLIMIT_NICE": 0,
    "RLIMIT_NOFILE": 512,
    "RLIMIT_NPROC": 1000,
    "RLIMIT_RSS": 1 << 30,
    "RLIMIT_RTPRIO": 0,
    "RLIMIT_RTTIME": 1_000_000,
    "RLIMIT_SIGPENDING": 100,
    "RLIMIT_STACK": 4 << 20,
}
NUMBERS = {
    **dict(
        zip(
            ["CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS"], range(10), strict=True
        )
    ),
    **dict(zip(["LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"], range(10, 16), strict=True)),
}
"""As <asm-generic/resource.h> has them."""


# --- process ----------------------------------------------------------------------------------------------------------


@rule("config.md", "Process", "MUST", "`args` is the program and its arguments, as execvp(3) takes them.")
def test_the_arguments(runtime: Runtime, bundle: Bundle):
    words = ["printf", "<%s>\\n", "", "two words", "ü", "-n", "$HOME", "*", "a\nb"]
    bundle.args(*words)
    assert runtime.run(bundle).stdout == "".join(f"<{word}>\n" for word in words[2:])


@rule("config.md", "Process", "MUST", "A program without a slash is looked up in the PATH of `env`.")
def test_the_program_is_looked_up_in_the_path(runtime: Runtime, bundle: Bundle):
    bundle.process["env"] = ["PATH=/nowhere:/opt/tools:/bin"]
    (bundle.rootfs / "opt/tools").mkdir(parents=True)
    (bundle.rootfs / "opt/tools/greet").write_text("#!/bin/sh\necho hello from $0\n")
    (bundle.rootfs / "opt/tools/greet").chmod(0o755)
    bundle.args("greet")
    assert runtime.run(bundle).stdout == "hello from /opt/tools/greet\n"


@rule("config.md", "Process", "MUST", "A program with a slash is relative to `cwd`.")
def test_the_program_is_relative_to_the_directory(runtime: Runtime, bundle: Bundle):
    bundle.process["cwd"] = "/bin"
    bundle.args("./echo", "here")
    assert runtime.run(bundle).stdout == "here\n"


@rule("config.md", "Process", "MUST", "At least one entry of `args` is required.")
@pytest.mark.parametrize("args", [None, [], [""]], ids=str)
def test_a_program_is_needed(runtime: Runtime, bundle: Bundle, args: list[str] | None):
    bundle.process["args"] = args
    if args is None:
        del bundle.process["args"]
    runtime.refuses(bundle)


@rule("command line", "create", "common", "A program that cannot be executed is an error of `create` already.")
@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program", "/etc", "/test.txt", "./test.txt"])
def test_a_program_that_cannot_be_executed(runtime: Runtime, bundle: Bundle, program: str):
    bundle.args(program)
    assert program in runtime.refuses(bundle)


@rule("config.md", "Process", "MUST", "`cwd` is the program's working directory.")
@pytest.mark.parametrize("cwd", ["/", "/tmp", "/dev/shm", "/home/../tmp/."])
def test_the_working_directory(runtime: Runtime, bundle: Bundle, cwd: str):
    bundle.process["cwd"] = cwd
    bundle.args("readlink", "/proc/self/cwd")
    assert runtime.run(bundle).stdout == {"/home/../tmp/.": "/tmp"}.get(cwd, cwd) + "\n"


@rule("config.md", "Process", "MUST", "`cwd` is required and an absolute path.")
@pytest.mark.parametrize("cwd", [None, "", "tmp", "./tmp"])
def test_the_working_directory_is_absolute(runtime: Runtime, bundle: Bundle, cwd: str | None):
    bundle.process["cwd"] = cwd
    if cwd is None:
        del bundle.process["cwd"]
    assert "cwd" in runtime.refuses(bundle)


@rule("config.md", "Process", "MUST", "`env` is the environment, with nothing of the runtime's own.")
def test_the_environment(runtime: Runtime, bundle: Bundle):
    given = ["PATH=/bin", "HOME=/tmp", "EMPTY=", "EQUALS=a=b=c", "SPACE=a b", "ünï=✓", "lower_case=1"]
    bundle.process["env"] = given
    bundle.args("env")
    result = runtime.run(bundle, env={"JUBAKO_OUTSIDE": "leaked"})
    assert sorted(result.lines) == sorted(given)


@rule("command line", "Environment", "common", "Of several entries of one name the last one counts.")
def test_the_last_of_several_variables_counts(runtime: Runtime, bundle: Bundle):
    bundle.process["env"] += ["KEY=one", "KEY=two", "KEY=three"]
    assert runtime.says(bundle, "echo $KEY; env | grep -c ^KEY=") == "three\n1"


@rule("command line", "Environment", "common", "Without a HOME it is taken from the container's /etc/passwd.")
@pytest.mark.parametrize("entry", [(), ("HOME=",)], ids=["absent", "empty"])
def test_home_is_filled_in(runtime: Runtime, bundles: Callable[..., Bundle], entry: tuple[str, ...]):
    bundle = bundles(maps="all")
    bundle.process["env"] += entry
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    assert runtime.says(bundle, "echo $HOME") == "/home/alice"


@rule("config.md", "Process", "MUST", "`commandLine` is for Windows and ignored.")
def test_the_command_line_of_windows_is_ignored(runtime: Runtime, bundle: Bundle):
    bundle.process["commandLine"] = "echo windows"
    assert runtime.says(bundle, "echo linux") == "linux"


# --- limits -----------------------------------------------------------------------------------------------------------


@rule("config.md", "POSIX process", "MUST", "Each entry of `rlimits` is what getrlimit(2) says inside.")
def test_limits(runtime: Runtime, bundle: Bundle):
    wanted = []
    for name in sorted(LIMITS):
        most = resource.getrlimit(NUMBERS[name.removeprefix("RLIMIT_")])[1]
        hard = LIMITS[name] if most == resource.RLIM_INFINITY else min(LIMITS[name], most)
        wanted.append({"type": name, "soft": hard // 2, "hard": hard})
    bundle.process["rlimits"] = wanted
    probe = bundle.use_probe()
    said = runtime.says(bundle, ";".join(f"{probe} limit {NUMBERS[name[7:]]}" for name in sorted(LIMITS)))
    assert said.splitlines() == [f"{each['soft']} {each['hard']}" for each in wanted]


@rule("config.md", "POSIX process", "MUST", "The largest number stands for no limit.")
def test_no_limit(runtime: Runtime, bundle: Bundle):
    bundle.process["rlimits"] = [{"type": "RLIMIT_FSIZE", "soft": 1000, "hard": 2**64 - 1}]
    bundle.args(bundle.use_probe(), "limit", str(resource.RLIMIT_FSIZE))
    assert runtime.run(bundle).stdout == f"1000 {2**64 - 1}\n"


@rule("config.md", "POSIX process", "MUST", "A type that the kernel does not know is an error.")
@pytest.mark.parametrize("name", ["RLIMIT_NONE", "NOFILE", "rlimit_nofile", ""])
def test_an_unknown_limit(runtime: Runtime, bundle: Bundle, name: str):
    bundle.process["rlimits"] = [{"type": name, "soft": 1, "hard": 1}]
    assert "process.rlimits[0].type" in runtime.refuses(bundle)


@rule("config.md", "POSIX process", "MUST", "Two entries of the same type are an error.")
def test_a_limit_twice(runtime: Runtime, bundle: Bundle):
    bundle.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": each, "hard": each} for each in (1, 2)]
    assert "RLIMIT_CORE" in runtime.refuses(bundle)


@rule("config.md", "Valid values", "MUST", "A soft limit above the hard one is an error.")
def test_a_soft_limit_above_the_hard_one(runtime: Runtime, bundle: Bundle):
    bundle.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]
    runtime.refuses(bundle)


@only_rootless
@rule("runtime.md", "Lifecycle", "MUST", "A limit that may not be raised is an error, not a lower limit.")
def test_a_limit_that_cannot_be_raised(runtime: Runtime, bundle: Bundle):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": most + 1, "hard": most + 1}]
    assert "RLIMIT_NOFILE" in runtime.fails(bundle)


# --- user -------------------------------------------------------------------------------------------------------------


@rule("config.md", "User", "MUST", "`uid` and `gid` are the ids of the process in the container's user namespace.")
@pytest.mark.parametrize("ids", [(0, 0), (1000, 1000), (7, 9), (65534, 0)], ids=str)
def test_the_user(runtime: Runtime, bundles: Callable[..., Bundle], ids: tuple[int, int]):
    bundle = bundles(maps="all")
    bundle.process["user"] = {"uid": ids[0], "gid": ids[1]}
    said = runtime.says(bundle, "grep -E '^(Uid|Gid):' /proc/self/status | tr '\\t' ' '")
    assert said == "Uid: {0} {0} {0} {0}\nGid: {1} {1} {1} {1}".format(*ids)


@rule("config.md", "User", "MUST", "`additionalGids` are the supplementary groups.")
@pytest.mark.parametrize("groups", [[5, 6], [0, 1000, 65534], list(range(100, 140))], ids=len)
def test_supplementary_groups(runtime: Runtime, bundles: Callable[..., Bundle], groups: list[int]):
    bundle = bundles(maps="all")
    bundle.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": groups}
    said = runtime.says(bundle, "grep ^Groups: /proc/self/status").split()[1:]
    assert {*map(int, said), 1000} == {*groups, 1000}  # the process's own group may be among them


@rule("config.md", "User", "MUST", "Without `additionalGids` the process has no supplementary group of the caller's.")
def test_no_supplementary_groups(runtime: Runtime, bundles: Callable[..., Bundle]):
    bundle = bundles(maps="all")
    assert set(runtime.says(bundle, "grep ^Groups: /proc/self/status").split()[1:]) <= {"0"}


@rule("config.md", "User", "MUST", "`umask` is the process's umask.")
@pytest.mark.parametrize("mask", [0, 0o22, 0o77, 0o777])
def test_the_umask(runtime: Runtime, bundle: Bundle, mask: int):
    bundle.process["user"]["umask"] = mask
    assert int(runtime.says(bundle, "umask"), 8) == mask


@rule("config.md", "User", "SHOULD", "Without `umask` it is the caller's, where that is the usual 0022.")
def test_the_umask_of_the_caller(runtime: Runtime, bundle: Bundle):
    assert runtime.says(bundle, "umask") == "0022"


@only_rootless
@rule("runtime.md", "Lifecycle", "MUST", "An id that is not mapped is an error.")
@pytest.mark.parametrize(
    "user", [{"uid": 5, "gid": 0}, {"uid": 0, "gid": 5}, {"uid": 0, "gid": 0, "additionalGids": [5]}], ids=str
)
def test_an_id_that_is_not_mapped(runtime: Runtime, bundle: Bundle, user: dict[str, Any]):
    bundle.process["user"] = user
    runtime.fails(bundle)


@rule("config.md", "Valid values", "MUST", "Ids that the kernel cannot have are refused.")
@pytest.mark.parametrize("number", [-1, 2**32 - 1, 2**32, 1.5, "0"])
@pytest.mark.parametrize("field", ["uid", "gid"])
def test_an_id_out_of_range(runtime: Runtime, bundle: Bundle, field: str, number: object):
    bundle.process["user"][field] = number
    assert f"process.user.{field}" in runtime.refuses(bundle)


@only_root
@rule("config.md", "User", "MUST", "Files that the process makes belong to `uid` and `gid`.")
def test_files_belong_to_the_user(runtime: Runtime, bundle: Bundle, place: Path):
    shared = place / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    bundle.mount("/mnt", "none", shared, ["bind"])
    bundle.process["user"] = {"uid": 1234, "gid": 4321, "umask": 0o27}
    runtime.says(bundle, "touch /mnt/file")
    found = (shared / "file").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (1234, 4321, 0o640)
