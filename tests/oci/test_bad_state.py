"""A state directory that is damaged, foreign, full or read-only: every command says so in one error, and
`delete --force` removes what is left of the container, and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oci.conftest import call, left
from world.account import Account
from world.bundle import Bundle
from world.faults import NEVER, faults_of, never_of
from world.runtime import Container, Runtime, new_id, wait_for_end

READERS: tuple[tuple[str, ...], ...] = (
    ("state",),
    ("start",),
    ("kill", "TERM"),
    ("delete",),
    ("exec", "true"),
    ("ps",),
    ("pause",),
    ("resume",),
    ("update", "--pids-limit", "5"),
    ("events", "--stats"),
)


@pytest.fixture
def box(runtime: Runtime, bundle: Bundle) -> Container:
    bundle.sh("sleep 1000 & exec sleep 1000")
    return runtime.start_new(bundle)


def directory_of(box: Container) -> Path:
    return box.runtime.root / box.id


def ask_all(box: Container) -> list[str]:
    """What is wrong with the answers of all commands that read the state."""
    faults = []
    for command, *words in READERS:
        flags, rest = (words, []) if command in ("update", "events") else ([], words)
        result = call(box.runtime, command, *flags, box.id, *rest, timeout=20)
        faults += [f"{fault}: {result}" for fault in faults_of(result)]
    listed = call(box.runtime, "list", "--format", "json")
    if listed.exit_code or never_of(listed) or "warning" not in listed.stderr:
        faults.append(f"list: {listed}")
    return faults


def delete(box: Container) -> None:
    """`delete --force` removes it whatever its state, with all of its processes."""
    result = call(box.runtime, "delete", "--force", box.id, timeout=20)
    assert never_of(result) == []
    assert result.exit_code == 0, result
    assert left(box.runtime) == []
    box.runtime.containers.clear()


def change(box: Container, **fields: Any) -> None:
    path = directory_of(box) / "state.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, **fields}))


# --- state.json -------------------------------------------------------------------------------------------------------


def truncate(box: Container) -> None:
    path = directory_of(box) / "state.json"
    os.truncate(path, path.stat().st_size // 2)


def empty(box: Container) -> None:
    os.truncate(directory_of(box) / "state.json", 0)


def remove(box: Container) -> None:
    (directory_of(box) / "state.json").unlink()


def noise(box: Container) -> None:
    (directory_of(box) / "state.json").write_bytes(bytes(range(256)))


def another_kind(box: Container) -> None:
    (directory_of(box) / "state.json").write_text("[1, 2]")


def deep(box: Container) -> None:
    (directory_of(box) / "state.json").write_text("[" * 1_000_000)


def as_directory(box: Container) -> None:
    remove(box)
    (directory_of(box) / "state.json" / "deeper").mkdir(parents=True)
    (directory_of(box) / "state.json" / "deeper" / "file").write_text("")


def as_link(box: Container) -> None:
    remove(box)
    (directory_of(box) / "state.json").symlink_to("/etc/passwd")


def as_loop(box: Container) -> None:
    remove(box)
    (directory_of(box) / "state.json").symlink_to("state.json")


def as_pipe(box: Container) -> None:
    remove(box)
    os.mkfifo(directory_of(box) / "state.json")


def wrong_types(box: Container) -> None:
    change(box, pid="1")


def wrong_annotations(box: Container) -> None:
    change(box, annotations=["x"])


def missing_field(box: Container) -> None:
    document = json.loads((directory_of(box) / "state.json").read_text())
    del document["bundle"]
    (directory_of(box) / "state.json").write_text(json.dumps(document))


DAMAGES: tuple[Callable[[Container], None], ...] = (
    truncate,
    empty,
    remove,
    noise,
    another_kind,
    deep,
    as_directory,
    as_link,
    as_loop,
    as_pipe,
    wrong_types,
    wrong_annotations,
    missing_field,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_state_is_told_and_a_forced_delete_ends_the_container(
    damage: Callable[[Container], None], box: Container
) -> None:
    pid = box.pid
    damage(box)
    assert ask_all(box) == []
    delete(box)
    wait_for_end(pid, 1)


def test_a_damaged_state_of_a_container_that_waits(runtime: Runtime, bundle: Bundle) -> None:
    box = runtime.create(bundle)
    pid = box.pid
    truncate(box)
    assert ask_all(box) == []
    delete(box)
    wait_for_end(pid, 1)


def test_a_state_that_names_a_process_of_somebody_else_ends_nothing(box: Container) -> None:
    pid = box.pid
    box.stop()
    victim = subprocess.Popen(("sleep", "1000"))
    try:
        for number in (victim.pid, -1, -victim.pid, 2**40):
            change(box, pid=number)
            result = call(box.runtime, "kill", box.id, "KILL")
            assert faults_of(result) == [], result
        change(box, pid=victim.pid)
        delete(box)
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()
    wait_for_end(pid, 1)


@pytest.mark.parametrize("group", ["/", "/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/etc", "nowhere", "/no/such"])
def test_a_state_that_names_a_control_group_which_is_none(group: str, box: Container, place: Path) -> None:
    """Nothing of it is killed or removed, and there is no hang."""
    pid, real = box.pid, json.loads((directory_of(box) / "state.json").read_text())["cgroup"]
    change(box, cgroup=group, inside=group)
    for command, *words in (("kill", "--all", "TERM"), ("pause",), ("ps",), ("events", "--stats")):
        flags, rest = (words, []) if command == "events" else ([], words)
        result = call(box.runtime, command, *flags, box.id, *rest, timeout=20)
        assert never_of(result) == [], result
    result = call(box.runtime, "delete", "--force", box.id, timeout=30)
    assert never_of(result) == []
    assert result.exit_code == 0, result
    assert left(box.runtime) == []
    box.runtime.containers.clear()
    wait_for_end(pid, 2)
    remove_group(real)


def test_hooks_that_are_damaged_are_only_told(runtime: Runtime, bundle: Bundle) -> None:
    for hooks in ('{"poststop": 1}', '{"poststop": [1]}', '{"poststop": [{"path": 5}]}', '{"poststop"', '["poststop"]'):
        box = runtime.create(bundle)
        change(box, hooks=hooks)
        result = call(runtime, "delete", "--force", box.id)
        assert never_of(result) == [], result
        assert result.exit_code == 0
        assert "warning" in result.stderr
        assert left(runtime) == []


# --- the other files --------------------------------------------------------------------------------------------------


def test_config_json_missing_or_damaged_is_told_by_exec_and_by_nobody_else(box: Container) -> None:
    path = directory_of(box) / "config.json"
    path.write_text("{")
    assert faults_of(call(box.runtime, "exec", box.id, "true"), "config.json") == []
    path.unlink()
    assert faults_of(call(box.runtime, "exec", box.id, "true"), "config.json", "ENOENT") == []
    path.mkdir()
    assert faults_of(call(box.runtime, "exec", box.id, "true"), "config.json") == []
    assert box.status == "running"
    delete(box)


def test_the_other_files_are_missing_or_of_another_kind(runtime: Runtime, bundle: Bundle) -> None:
    for name in ("lock", "waiting", "start"):
        for kind in ("missing", "directory", "link", "file") if name == "lock" else ("missing", "link"):
            box = runtime.create(bundle)
            path = directory_of(box) / name
            path.unlink()
            if kind == "directory":
                (path / "x").mkdir(parents=True)
            elif kind == "link":
                path.symlink_to("/etc/passwd")
            elif kind == "file":
                path.write_text("x" * 5000)
            for command in ("state", "start"):
                result = call(runtime, command, box.id, timeout=20)
                assert never_of(result) == [], (name, kind, result)
            delete(box)


def test_the_directory_is_a_file_or_a_link(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    bundle.write()
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / "precious").write_text("")
    runtime.root.mkdir(mode=0o700)
    for kind in ("file", "link", "loop"):
        name = new_id()
        path = runtime.root / name
        if kind == "file":
            path.write_text("")
        else:
            path.symlink_to(place / "elsewhere" if kind == "link" else path)
        for command, *words in (("state",), ("start",), ("kill", "TERM"), ("delete",), ("exec", "true")):
            result = call(runtime, command, name, *words)
            assert faults_of(result) == [], (kind, result)
        assert faults_of(call(runtime, "create", "--bundle", bundle.path, name), "already exists") == []
        result = call(runtime, "delete", "--force", name)
        assert never_of(result) == [], (kind, result)
        assert os.listdir(place / "elsewhere") == ["precious"], "nothing behind the link is touched"
        path.unlink(missing_ok=True)


# --- directories that cannot be used ----------------------------------------------------------------------------------


def test_a_state_directory_that_is_none(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    bundle.write()
    (place / "file").write_text("")
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    (place / "loop").symlink_to("loop")
    for root in ("file", "file/below", "open", "loop", "x" * 300):
        other = Runtime(runtime.account, place, runtime.prefix, root=place / root)
        assert faults_of(call(other, "create", "--bundle", bundle.path, new_id()), str(place)) == []
        for command, *words in (("state",), ("kill", "TERM"), ("start",)):
            assert faults_of(call(other, command, "nosuch", *words)) == []
        assert never_of(call(other, "list")) == []
    assert os.listdir(place / "open") == []


def test_the_state_directory_of_another_user(
    runtime: Runtime, bundle: Bundle, place: Path, runtime_account: Account, who: str
) -> None:
    root = Path("/") if who == "rootless" else Path("/run/user")
    bundle.write()
    if who == "root":
        root = place / "theirs"
        root.mkdir(mode=0o755)
        os.chown(root, 1, 1)
    other = Runtime(runtime.account, place, runtime.prefix, root=root)
    result = call(other, "create", "--bundle", bundle.path, "jubako-foreign")
    assert faults_of(result, str(root)) == []
    assert not (root / "jubako-foreign").exists()


def test_a_read_only_state_directory(runtime: Runtime, bundle: Bundle, box: Container) -> None:
    pid = box.pid
    in_namespace(
        runtime,
        box,
        f"mount --bind {runtime.root} {runtime.root} && mount -o remount,bind,ro {runtime.root}",
        ("state", 0, ()),
        ("list", 0, ()),
        ("start", 1, ("EROFS",)),
        ("delete --force", 1, ("EROFS",)),
        (f"create --bundle {bundle.path}", 1, ("EROFS", "jubako-second")),
    )
    delete(box)
    wait_for_end(pid, 1)


def test_a_full_disk(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    """Of every size, up to that which suffices: the container cannot be made, and nothing is left."""
    for name in ("uidMappings", "gidMappings"):  # of the user namespace in which the disk is mounted
        if name in bundle.linux:
            bundle.linux[name][0]["hostID"] = 0
    bundle.write()
    runtime.root.mkdir(mode=0o700)
    for blocks in range(1, 12):
        name = new_id()
        create = quoted(runtime, "create", "--bundle", bundle.path, name)
        forced = quoted(runtime, "delete", "--force", name)
        script = (
            f"mount -t tmpfs -o size={blocks * 4}k,nr_inodes=100,mode=700 full {runtime.root}; "
            f"{create} >/dev/null 2>{place}/said; echo $? $(ls {runtime.root}); "
            f"{forced} >&2; echo $? $(ls {runtime.root})"
        )
        done = unshared(runtime, script)
        first, second = done.stdout.splitlines()
        said = (place / "said").read_text()
        assert second == "0", done
        assert not [word for word in NEVER if word in said + done.stderr], said
        if first.startswith("0"):
            assert blocks > 1
            break
        assert first == "1", (blocks, done, said)
        assert "ENOSPC" in said
    else:
        pytest.fail("a disk of 44 KiB is not enough")


def quoted(runtime: Runtime, *words: str | os.PathLike[str]) -> str:
    import shlex

    return shlex.join(runtime.argv(*words))


def unshared(runtime: Runtime, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a mount namespace of its own; for an ordinary user as root of a user namespace."""
    how = ("unshare", "--mount") if runtime.account.uid == 0 else ("unshare", "--map-root-user", "--mount")
    return subprocess.run(
        (*how, "sh", "-c", script), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        env=runtime.environment(), cwd=runtime.cwd,
    )  # fmt: skip


def in_namespace(runtime: Runtime, box: Container, prepare: str, *calls: tuple[str, int, tuple[str, ...]]) -> None:
    lines = [prepare]
    for number, (command, _code, _texts) in enumerate(calls):
        name = {"create": ["jubako-second"], "list": []}.get(command.split()[0], [box.id])
        lines.append(f"{quoted(runtime, *command.split(), *name)} >{box.bundle.path}/{number}.said 2>&1; echo $?")
    done = unshared(runtime, "\n".join(lines))
    codes = done.stdout.split()
    assert len(codes) == len(calls), done
    for number, (command, code, texts) in enumerate(calls):
        said = (box.bundle.path / f"{number}.said").read_text()
        assert int(codes[number]) == code, (command, said)
        assert not [word for word in NEVER if word in said], said
        for text in texts:
            assert text in said, (command, said)


def test_the_state_directory_is_gone_while_the_container_runs(runtime: Runtime, box: Container) -> None:
    """Nothing knows of it any more: to be found by its engine only."""
    pid, group = box.pid, json.loads((directory_of(box) / "state.json").read_text())["cgroup"]
    shutil.rmtree(directory_of(box))
    assert faults_of(call(runtime, "state", box.id), "does not exist") == []
    assert call(runtime, "delete", "--force", box.id).exit_code == 0
    os.kill(pid, 9)
    wait_for_end(pid)
    remove_group(group)
    runtime.containers.clear()


def remove_group(group: str) -> None:
    """Remove a group that no container knows any more, and root's parent of all groups if it was the last."""
    if not group:
        return
    os.rmdir(group)
    parent = os.path.dirname(group)
    if os.path.basename(parent) == "jubako" and not any(entry.is_dir() for entry in os.scandir(parent)):
        os.rmdir(parent)
