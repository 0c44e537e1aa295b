"""The runtime's own program and processes: CVE-2019-5736, CVE-2016-9962.

The interpreter is a copy that belongs to the caller, who is root in the container: the dangerous case.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks.conftest import every_kernel
from world.bundle import Bundle
from world.command import installed_command
from world.rule import only_root, only_rootless
from world.runtime import Container, Runtime, end

PYTHON = "/usr/bin/python3"
SPY = """
while [ ! -e /stop ]; do for p in /proc/[0-9]*; do
    case ${p#/proc/} in 1) continue;; esac
    readlink $p/exe $p/cwd $p/root $p/fd/*
    grep -a . $p/maps; tr '\\0' '\\n' < $p/environ
    (echo x >> $p/exe) && echo WRITTEN $p
    dd if=$p/mem bs=1 count=1 skip=4198400 && echo READ $p
done; done > /seen 2> /dev/null
"""


@pytest.fixture
def runtime(runtime: Runtime, place: Path) -> Iterator[Runtime]:
    """The runtime, run by an interpreter of the caller's own, which is as it was at the end."""
    interpreter = place / "own-python"
    shutil.copy(os.path.realpath(PYTHON), interpreter)
    os.chown(interpreter, runtime.account.uid, runtime.account.gid)
    main = next(Path(installed_command()).parent.parent.glob("lib/python3*/site-packages/jubako/__main__.py"))
    runtime.program = f"{interpreter} -I -S {main} oci"
    before = hashlib.sha256(interpreter.read_bytes()).hexdigest()
    yield runtime
    assert hashlib.sha256(interpreter.read_bytes()).hexdigest() == before, "the interpreter was overwritten"


def with_own_ids(bundle: Bundle) -> None:
    """A user namespace for the container of the host's root."""
    bundle.namespace("user")
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    bundle.linux.update(uidMappings=mapping, gidMappings=mapping)


def lay_traps(bundle: Bundle) -> tuple[str, ...]:
    """Programs in the root that are, or are interpreted by, whatever process starts them."""
    for name, target in (("exe", "/proc/self/exe"), ("task", "/proc/thread-self/exe"), ("one", "/proc/1/exe")):
        (bundle.rootfs / name).symlink_to(target)
    for name, interpreter in (("direct", "/proc/self/exe"), ("linked", "/exe")):
        (bundle.rootfs / name).write_text(f"#!{interpreter}\nprint('interpreter')\n")
        (bundle.rootfs / name).chmod(0o755)
    return ("/proc/self/exe", "/exe", "/task", "/one", "/direct", "/linked")


@every_kernel
def test_cve_2019_5736_the_interpreter_is_never_the_containers_program(runtime: Runtime, bundle: Bundle) -> None:
    for program in lay_traps(bundle):
        bundle.args(program, "-c", "print('interpreter')")
        told = runtime.run(bundle, check=False)
        assert told.exit_code != 0, (program, told)
        assert "interpreter\n" not in told.stdout, (program, told)
        assert "execute" in told.stderr, (program, told)


@every_kernel
def test_cve_2019_5736_nor_one_that_joins(runtime: Runtime, bundle: Bundle) -> None:
    traps = lay_traps(bundle)
    bundle.sh("echo ready; exec sleep 100")
    box = runtime.start_new(bundle)
    box.read_until("ready")
    for program in traps:
        told = box.exec(program, "-c", "print('interpreter')", check=False)
        assert told.exit_code == 255, (program, told)
        assert "interpreter\n" not in told.stdout, (program, told)


@every_kernel
def test_cve_2019_5736_nor_a_hook_in_the_container(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sh("echo ran")
    for program in lay_traps(bundle):
        bundle.config["hooks"] = {}
        bundle.hook("startContainer", program, "-c", "print('interpreter')")
        told = runtime.run(bundle, check=False)
        assert told.exit_code != 0, (program, told)
        assert told.stdout == "", (program, told)
    bundle.config["hooks"] = {}
    bundle.hook("startContainer", bundle.script("fine", "echo hook", inside=True))
    assert runtime.run(bundle).stdout == "hook\nran\n"


def test_cve_2019_5736_and_2016_9962_nothing_of_a_process_that_joins_can_be_opened(
    runtime: Runtime, bundle: Bundle, place: Path
) -> None:
    (bundle.rootfs / "spy").write_text(SPY)
    bundle.config["root"]["readonly"] = False
    # where the container's root is the host's, the right to trace is the host's too, and hides nothing
    bundle.capabilities([*(["CAP_SYS_PTRACE"] if runtime.account.uid else []), "CAP_DAC_OVERRIDE", "CAP_KILL"])
    bundle.sh("sleep 100 & echo ready; . /spy")
    box = runtime.start_new(bundle)
    box.read_until("ready")
    for _ in range(8):
        told = box.exec("sh", "-c", "exit 3", env={"SECRET": "of-the-caller"}, check=False)
        assert told.exit_code == 3, told
    pid = box.pid
    (bundle.rootfs / "stop").write_text("")
    box.wait(pid)
    seen = (bundle.rootfs / "seen").read_text(errors="replace")
    assert "/bin/busybox" in seen, "the spy saw nobody at all"
    assert "of-the-caller" not in seen
    for path in ("own-python", "site-packages", str(runtime.root), str(bundle.path)):
        assert path not in seen, [line for line in seen.splitlines() if path in line]


# --- the process that waits for its start -----------------------------------------------------------------------------


@pytest.fixture
def waiting(runtime: Runtime, bundle: Bundle) -> Container:
    """A container that was created, with the right to trace what it can see."""
    bundle.capabilities(["CAP_SYS_PTRACE", "CAP_KILL", "CAP_DAC_OVERRIDE"])
    bundle.args("/bin/sh", "-c", "exit 7")
    return runtime.create(bundle)


def test_the_waiting_process_holds_its_streams_and_what_start_needs(waiting: Container, runtime: Runtime) -> None:
    if runtime.account.uid:
        assert subprocess.run(("ls", f"/proc/{waiting.pid}/fd"), capture_output=True).returncode != 0, "it is readable"
        return
    held = {number: os.readlink(f"/proc/{waiting.pid}/fd/{number}") for number in os.listdir(f"/proc/{waiting.pid}/fd")}
    rest = sorted(target for number, target in held.items() if number not in ("0", "1", "2"))
    sockets = [target for target in rest if target.startswith("socket:")]
    assert [target for target in rest if target not in sockets] == [f"{runtime.root}/{waiting.id}/waiting"], held
    assert len(sockets) == 2, held
    assert os.readlink(f"/proc/{waiting.pid}/cwd") == "/"


@only_root
def test_the_waiting_process_cannot_be_looked_into(runtime: Runtime, bundle: Bundle) -> None:
    """By a program that joins before the start, with the right to trace in the container's user namespace."""
    with_own_ids(bundle)
    bundle.capabilities(["CAP_SYS_PTRACE", "CAP_KILL", "CAP_DAC_OVERRIDE"])
    waiting = runtime.create(bundle)
    names = ("exe", "cwd", "root", "fd/0", "maps", "environ", "mem", "auxv")
    look = "{ readlink /proc/1/$n || head -c 1 /proc/1/$n; } && echo GOT $n"
    script = f"readlink /proc/self/exe; for n in $@; do {look}; done"
    shown = waiting.exec("sh", "-c", script, "sh", *names, check=False)
    assert "/bin/busybox" in shown.stdout, "the attacker did not run"
    assert "GOT" not in shown.stdout
    assert shown.stderr.count("denied") + shown.stderr.count("not permitted") >= len(names) - 3, shown


@only_rootless
def test_the_waiting_process_cannot_be_traced_by_the_same_user(waiting: Container, runtime: Runtime) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    pid = waiting.pid
    assert libc.ptrace(16, pid, None, None) == -1
    assert ctypes.get_errno() == errno.EPERM
    with pytest.raises(PermissionError):
        os.open(f"/proc/{pid}/mem", os.O_RDONLY)


def test_a_container_that_another_joins_cannot_trace_it(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    """A second container in the user and PID namespaces of the first, as in a pod: the first lies in wait."""
    if runtime.account.uid == 0:
        with_own_ids(bundle)
    seen = place / "seen"
    seen.mkdir()
    seen.chmod(0o777)
    (bundle.rootfs / "spy").write_text(SPY.replace("/seen", "/out/seen").replace("/stop", "/out/stop"))
    (bundle.rootfs / "out").mkdir()
    bundle.mount("/out", "bind", seen, ["bind"])
    bundle.capabilities(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_KILL"])
    bundle.sh("sleep 100 & echo ready; . /spy")
    spy = runtime.start_new(bundle)
    spy.read_until("ready")
    for kind in ("user", "pid", "ipc"):
        bundle.namespace(kind, f"/proc/{spy.pid}/ns/{'user' if kind == 'user' else kind}")
    bundle.linux.pop("uidMappings", None)
    bundle.linux.pop("gidMappings", None)
    bundle.sh("exec sleep 100")
    made = 0
    for _ in range(6):
        box = runtime.create(bundle, check=False)
        made += box.created.exit_code == 0
        runtime("delete", "--force", box.id)
    assert made == 6, box.created
    pid = spy.pid
    (seen / "stop").write_text("")
    spy.wait(pid)
    text = (seen / "seen").read_text(errors="replace")
    assert "/bin/busybox" in text, "the spy saw nobody at all"
    for path in ("own-python", "site-packages", str(runtime.root), "WRITTEN"):
        assert path not in text, [line for line in text.splitlines() if path in line]
    end(pid)
