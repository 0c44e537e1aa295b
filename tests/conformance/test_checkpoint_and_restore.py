"""`checkpoint` and `restore`, which the specification does not know: as runc and crun have them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world import programs
from world.bundle import Bundle
from world.console import ConsoleSocket
from world.criu import require_criu, tracks_memory
from world.rule import only_root, only_rootless
from world.runtime import Container, Runtime, end, wait_for_end

COUNTER = "i=0; while true; do i=$((i+1)); echo $i > /dev/shm/n; sleep 0.05; done"
"""What it counts is only in its memory: a shell that began anew would begin at 1."""


@pytest.fixture
def criu(runtime: Runtime, place: Path) -> Path:
    """A criu that works here, which the runtime uses."""
    program = require_criu(place)
    runtime.flags = (*runtime.flags, "--criu", str(program))
    return program


@pytest.fixture
def image(place: Path) -> Path:
    return place / "image"


@only_root
def test_a_restored_program_goes_on_where_it_was(runtime: Runtime, bundle: Bundle, criu: Path, image: Path) -> None:
    bundle.sh(COUNTER)
    box = runtime.start_new(bundle)
    count = counted(box, 5)
    pid = box.pid
    checkpoint(box, image)
    wait_for_end(pid)
    assert runtime("state", box.id).exit_code == 1, "the container is deleted, as runc and crun do it"

    again = restore(runtime, bundle, image)
    state = again.state
    assert (state["status"], state["bundle"]) == ("running", str(bundle.path))
    assert counted(again, count + 1) < count + 200
    assert again.exec("hostname").stdout == "bundle\n"


@only_root
def test_a_container_may_go_on_beside_its_checkpoint(runtime: Runtime, bundle: Bundle, criu: Path, image: Path) -> None:
    bundle.sh(COUNTER)
    box = runtime.start_new(bundle)
    counted(box, 2)
    checkpoint(box, image, "--leave-running")
    assert box.status == "running"
    counted(box, counted(box, 0) + 2)
    box.stop()
    box.delete()
    counted(restore(runtime, bundle, image), 2)


@pytest.mark.parametrize("who", [pytest.param("root in a cgroup", marks=pytest.mark.root)], indirect=True)
def test_a_paused_container_can_be_written_and_runs_again(
    runtime: Runtime, bundle: Bundle, criu: Path, image: Path
) -> None:
    bundle.sh(COUNTER)
    box = runtime.start_new(bundle)
    count = counted(box, 3)
    runtime("pause", box.id, check=True)
    checkpoint(box, image)
    again = restore(runtime, bundle, image)
    assert again.status == "running"
    counted(again, count + 1)
    runtime("pause", again.id, check=True)
    assert again.status == "paused"


@only_root
def test_a_restored_container_is_in_a_group_of_its_own(
    runtime: Runtime, bundle: Bundle, criu: Path, image: Path
) -> None:
    bundle.sh(COUNTER)
    box = runtime.start_new(bundle)
    counted(box, 1)
    checkpoint(box, image)
    again = restore(runtime, bundle, image)
    group = [line for line in again.proc("cgroup").splitlines() if line.startswith("0::")]
    assert group == [f"0::/jubako/{again.id}"]
    pids = json.loads(runtime("ps", "--format", "json", again.id, check=True).stdout)
    assert again.pid in pids


@only_root
def test_the_streams_are_those_of_who_restores(runtime: Runtime, bundle: Bundle, criu: Path, image: Path) -> None:
    bundle.sh("while true; do echo tick; echo tock >&2; sleep 0.05; done")
    box = runtime.start_new(bundle)
    box.read_until("tick")
    checkpoint(box, image)
    before = box.output
    again = restore(runtime, bundle, image)
    again.read_until("tick")
    assert "tock" in again.errors
    assert box.output == before


@only_root
def test_pipes_are_joined_again(runtime: Runtime, bundle: Bundle, criu: Path, image: Path) -> None:
    bundle.sh("read a; echo got $a; read b; echo then $b; exit 7")
    bundle.write()
    argv = runtime.argv("run", "--bundle", bundle.path, "first")
    with subprocess.Popen(argv, stdin=-1, stdout=-1, text=True, env=runtime.environment()) as first:
        assert first.stdin
        assert first.stdout
        first.stdin.write("one\n")
        first.stdin.flush()
        assert first.stdout.readline() == "got one\n"
        runtime("checkpoint", "--image-path", image, "first", check=True)
        first.stdin.close()
        assert first.wait(20) == 128 + 9, "criu has killed it"
    done = runtime("restore", "--bundle", bundle.path, "--image-path", image, "second", input="two\n", check=False)
    assert (done.exit_code, done.stdout) == (7, "then two\n"), str(done)
    assert runtime("state", "second").exit_code == 1, "who waits for the end deletes it, too"


@only_root
def test_a_terminal_goes_to_the_new_console_socket(
    runtime: Runtime, bundle: Bundle, criu: Path, image: Path, place: Path
) -> None:
    bundle.process["terminal"] = True
    bundle.sh("n=1; while read line; do n=$((n+1)); echo $line is $n; done")
    with ConsoleSocket(place) as socket:
        box = runtime.start_new(bundle, "--console-socket", str(socket.path))
        console = socket.accept()
        console.send("this\n")
        console.read_until("this is 2")
        checkpoint(box, image)
        again = restore(runtime, bundle, image, "--console-socket", str(socket.path))
        console = socket.accept()
        console.send("that\n")
        console.read_until("that is 3")
        assert again.exec("ls", "/dev/pts/0").stdout == "/dev/pts/0\n"


@only_root
def test_a_terminal_without_anyone_to_hold_it_is_refused(
    runtime: Runtime, bundle: Bundle, criu: Path, image: Path
) -> None:
    image.mkdir()
    bundle.process["terminal"] = True
    box = runtime.create(bundle, "--image-path", str(image), "--detach", command="restore", check=False)
    assert box.created.exit_code == 1
    assert "nobody would hold the terminal" in box.errors


@only_root
def test_the_hosts_files_are_bound_anew(runtime: Runtime, bundle: Bundle, criu: Path, image: Path, place: Path) -> None:
    source, other = place / "source", place / "other"
    for directory in (source, other):
        directory.mkdir()
        (directory / "name").write_text(directory.name)
    (bundle.rootfs / "link").symlink_to("data")
    bundle.mount("/link/deep", "bind", source, ["rbind", "ro"])
    bundle.mount("/file", "bind", source / "name", ["bind"])
    bundle.sh(COUNTER)
    box = runtime.start_new(bundle)
    counted(box, 1)
    checkpoint(box, image)
    bundle.mounts[-2]["source"] = str(other)
    again = restore(runtime, bundle, image)
    assert again.exec("cat", "/data/deep/name").stdout == "other"
    assert again.exec("cat", "/file").stdout == "source"
    assert again.exec("touch", "/data/deep/new", check=False).exit_code == 1, "it is still read-only"
    assert again.exec("cat", "/proc/keys").stdout == "", "it is still masked"


@only_root
def test_what_came_along_with_a_recursive_bind_comes_along_again(
    runtime: Runtime, bundle: Bundle, criu: Path, image: Path, place: Path, mounted: Callable[[Path], None]
) -> None:
    (place / "tree/below").mkdir(parents=True)
    mounted(place / "tree/below")
    (place / "tree/below/file").write_text("deep")
    bundle.mount("/tree", "bind", place / "tree", ["rbind"])
    bundle.sh(COUNTER)
    box = runtime.start_new(bundle)
    counted(box, 1)
    checkpoint(box, image)
    again = restore(runtime, bundle, image)
    assert again.exec("cat", "/tree/below/file").stdout == "deep"


@only_root
def test_a_missing_mount_point_is_made(
    runtime: Runtime, bundles: Callable[..., Bundle], criu: Path, image: Path, place: Path
) -> None:
    bundle, elsewhere = bundles(), bundles()
    for each in (bundle, elsewhere):
        each.mount("/made/for/it", "bind", place, ["rbind"])
        each.sh(COUNTER)
    box = runtime.start_new(bundle)
    counted(box, 1)
    checkpoint(box, image)
    again = restore(runtime, elsewhere, image)
    assert again.exec("ls", "/made/for/it").stdout.split() == sorted(os.listdir(place))


@only_root
def test_hooks_run_while_the_namespaces_are_new(
    runtime: Runtime, bundle: Bundle, criu: Path, image: Path, place: Path
) -> None:
    bundle.sh(COUNTER)
    box = runtime.start_new(bundle)
    counted(box, 1)
    checkpoint(box, image)
    for point in ("prestart", "createRuntime", "poststart"):
        bundle.hook(point, bundle.script(point, f"cat > {place}/{point}"))
    again = restore(runtime, bundle, image)
    for point in ("prestart", "createRuntime"):
        told = json.loads((place / point).read_text())
        assert (told["id"], told["status"], told["pid"]) == (again.id, "creating", again.pid)
    assert not (place / "poststart").exists(), "nothing is started"


@only_root
def test_a_hook_that_fails_ends_the_restore(runtime: Runtime, bundle: Bundle, criu: Path, image: Path) -> None:
    bundle.sh(COUNTER)
    box = runtime.start_new(bundle)
    counted(box, 1)
    checkpoint(box, image)
    bundle.hook("createRuntime", bundle.script("fails", "exit 3"))
    failed = runtime.create(bundle, "--image-path", str(image), "--detach", command="restore", check=False)
    assert failed.created.exit_code == 1
    assert "run the createRuntime hook" in failed.errors
    assert "exit code 3" in failed.errors
    assert runtime("state", failed.id).exit_code == 1


@only_root
def test_a_joined_network_namespace_is_joined_again(
    runtime: Runtime, bundle: Bundle, criu: Path, image: Path, network: str
) -> None:
    bundle.namespace("network", network)
    bundle.sh(COUNTER)
    box = runtime.start_new(bundle)
    counted(box, 1)
    checkpoint(box, image)
    again = restore(runtime, bundle, image)
    assert os.path.samestat(os.stat(f"/proc/{again.pid}/ns/net"), os.stat(network))


@only_root
def test_a_user_namespace_is_kept(runtime: Runtime, bundle: Bundle, criu: Path, image: Path) -> None:
    bundle.namespace("user")
    bundle.no_namespace("cgroup")  # criu up to 4.2 cannot restore both
    maps = [{"containerID": 0, "hostID": 200000, "size": 1000}]
    bundle.linux.update({"uidMappings": maps, "gidMappings": maps})
    for path in (bundle.rootfs, *bundle.rootfs.rglob("*")):
        os.lchown(path, 200000, 200000)
    bundle.sh(COUNTER)
    box = runtime.start_new(bundle)
    counted(box, 1)
    checkpoint(box, image)
    again = restore(runtime, bundle, image)
    assert again.proc("uid_map").split() == ["0", "200000", "1000"]
    assert again.exec("id", "-u").stdout == "0\n"


@only_root
def test_the_pid_file_names_the_restored_process(
    runtime: Runtime, bundle: Bundle, criu: Path, image: Path, place: Path
) -> None:
    bundle.sh(COUNTER)
    box = runtime.start_new(bundle)
    counted(box, 1)
    checkpoint(box, image, "--work-path", str(place / "work"))
    assert (place / "work/dump.log").exists()
    again = restore(runtime, bundle, image, "--pid-file", str(place / "pid"), "--work-path", str(place / "work"))
    assert (place / "pid").read_text() == str(again.pid)
    assert (place / "work/restore.log").exists()


@only_root
def test_what_criu_cannot_write_is_told_and_goes_on(runtime: Runtime, bundle: Bundle, criu: Path, image: Path) -> None:
    bundle.sh(
        f"dd if=/dev/zero of=/dev/shm/big bs=1M count=2 2>/dev/null; exec 3</dev/shm/big; rm /dev/shm/big; {COUNTER}"
    )
    box = runtime.start_new(bundle)
    counted(box, 1)
    done = runtime("checkpoint", "--image-path", image, box.id)
    assert done.exit_code == 1
    assert "ghost" in done.stderr
    assert f"{image}/dump.log" in done.stderr
    assert box.status == "running"
    counted(box, counted(box, 0) + 2)


@only_root
def test_a_checkpoint_that_is_none_is_refused(runtime: Runtime, bundle: Bundle, criu: Path, image: Path) -> None:
    image.mkdir()
    for path, word in ((image, "holds no checkpoint"), (image / "missing", "no such file or directory")):
        failed = runtime.create(bundle, "--image-path", str(path), "--detach", command="restore", check=False)
        assert failed.created.exit_code == 1
        assert word in failed.errors
        assert runtime("state", failed.id).exit_code == 1


@only_root
def test_memory_is_written_beforehand_where_the_kernel_can(
    runtime: Runtime, bundle: Bundle, criu: Path, image: Path, place: Path
) -> None:
    bundle.sh(COUNTER)
    box = runtime.start_new(bundle)
    counted(box, 1)
    done = runtime("checkpoint", "--pre-dump", "--image-path", place / "before", box.id)
    assert box.status == "running"
    if not tracks_memory(criu):
        assert done.exit_code == 1
        assert "does not tell which memory has changed" in done.stderr
        return
    assert done.exit_code == 0, str(done)
    checkpoint(box, image, "--parent-path", "../before")
    counted(restore(runtime, bundle, image), 2)


@only_root
def test_a_killed_restore_leaves_nothing_that_delete_does_not_find(
    runtime: Runtime, bundle: Bundle, criu: Path, image: Path, place: Path
) -> None:
    bundle.sh(COUNTER)
    box = runtime.start_new(bundle)
    counted(box, 1)
    checkpoint(box, image)
    asked = place / "asked"
    bundle.hook("createRuntime", bundle.script("waits", f"echo $$ > {asked}; exec sleep 60"))
    bundle.write()
    argv = runtime.argv("restore", "--bundle", bundle.path, "--image-path", image, "--detach", "killed")
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        until = time.monotonic() + 20
        while not asked.exists() or not asked.read_text().endswith("\n"):
            assert time.monotonic() < until
            time.sleep(0.01)
        started.kill()
    runtime("delete", "--force", "killed", check=True)
    assert runtime("state", "killed").exit_code == 1
    end(int(asked.read_text()))


@only_root
def test_only_what_runs_can_be_written(runtime: Runtime, bundle: Bundle, criu: Path, image: Path) -> None:
    bundle.sh("sleep 100")
    box = runtime.create(bundle)
    refused = runtime("checkpoint", "--image-path", image, box.id)
    assert (refused.exit_code, image.exists()) == (1, False)
    assert "created" in refused.stderr
    box.start()
    box.stop()
    assert "stopped" in runtime("checkpoint", "--image-path", image, box.id).stderr


@only_root
def test_without_criu_the_package_is_named(runtime: Runtime, bundle: Bundle, image: Path) -> None:
    runtime.flags = ("--criu", "/nonexistent/criu")
    bundle.sh("sleep 100")
    box = runtime.start_new(bundle)
    for done in (
        runtime("checkpoint", "--image-path", image, box.id),
        runtime("restore", "--bundle", bundle.path, "--image-path", image, "other"),
    ):
        assert done.exit_code == 1
        assert "the program /nonexistent/criu is not installed" in done.stderr
        assert "apt-get install criu" in done.stderr
    assert box.status == "running"


@only_root
def test_a_program_that_is_no_criu_is_told(runtime: Runtime, bundle: Bundle, image: Path) -> None:
    bundle.sh("sleep 100")
    box = runtime.start_new(bundle)
    for program, reason in (("/bin/false", "it ended at once"), ("/bin/ls", "No such file or directory")):
        runtime.flags = ("--criu", program)
        done = runtime("checkpoint", "--image-path", image, box.id)
        assert done.exit_code == 1
        assert "criu does not work here: " in done.stderr
        assert reason in done.stderr
    assert box.status == "running"


@only_root
def test_a_criu_that_is_too_old_for_the_kernel_is_told(runtime: Runtime, bundle: Bundle, image: Path) -> None:
    program = programs.require("criu")
    check = subprocess.run((program, "check"), capture_output=True, text=True)
    if "vDSO area bounds" not in check.stderr:
        pytest.skip("this machine's criu knows its kernel")
    bundle.sh("sleep 100")
    box = runtime.start_new(bundle)
    done = runtime("--criu", program, "checkpoint", "--image-path", image, box.id)
    assert done.exit_code == 1
    assert "criu before 4.1 does not know the address space of Linux 6.13" in done.stderr
    assert box.status == "running"


@only_rootless
def test_an_ordinary_user_is_told_that_criu_is_roots(runtime: Runtime, bundle: Bundle, image: Path) -> None:
    bundle.sh("sleep 100")
    box = runtime.start_new(bundle)
    done = runtime("checkpoint", "--image-path", image, box.id)
    assert done.exit_code == 1
    assert "CAP_SYS_ADMIN" in done.stderr
    assert "root's can" in done.stderr
    assert (box.status, image.exists()) == ("running", False)


@pytest.fixture
def network() -> Iterator[str]:
    """The path of a network namespace that somebody else has made."""
    command = (programs.require("unshare"), "--net", "sleep", "1000")
    with subprocess.Popen(command) as holder:
        path = f"/proc/{holder.pid}/ns/net"
        until = time.monotonic() + 20
        while os.path.samestat(os.stat(path), os.stat("/proc/self/ns/net")):
            assert time.monotonic() < until
            time.sleep(0.01)
        yield path
        holder.kill()


@pytest.fixture
def mounted() -> Iterator[Callable[[Path], None]]:
    """Mounts a tmpfs on a directory of the host until the test's end."""
    points: list[Path] = []

    def mount(point: Path) -> None:
        subprocess.run(("mount", "-t", "tmpfs", "tmpfs", point), check=True)
        points.append(point)

    yield mount
    for point in points:
        subprocess.run(("umount", point), check=True)


def checkpoint(box: Container, image: Path, *flags: str) -> None:
    box.runtime("checkpoint", "--image-path", image, *flags, box.id, check=True)


def restore(runtime: Runtime, bundle: Bundle, image: Path, *flags: str) -> Container:
    return runtime.create(bundle, "--image-path", str(image), "--detach", *flags, command="restore")


def counted(box: Container, least: int, timeout: float = 20) -> int:
    """How far the program has counted, when it has come to `least`."""
    until = time.monotonic() + timeout
    while True:
        text = box.exec("cat", "/dev/shm/n", check=False).stdout.strip()
        if text and int(text) >= least:
            return int(text)
        assert time.monotonic() < until, f"it counts no further than {text!r}: {box.errors}"
        time.sleep(0.02)
