"""What a hostile container, a hostile neighbour, or a machine in a bad way must not be able to do."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world.account import Account
from world.command import Command
from world.traces import Directories


@pytest.fixture(autouse=True)
def _removed(jubako: Command) -> Iterator[None]:
    yield
    jubako("rm", "--all", "--force", check=True)


def within(jubako: Command, script: str) -> Command:
    """The same command, begun by a shell that does `script` first."""
    return Command(jubako.account, jubako.cwd, ("sh", "-c", script + '; exec "$@"', "sh"))


def supervisor(jubako: Command, name: str) -> int:
    return int(jubako("inspect", "--format", "{{.Jubako.SupervisorPid}}", name, check=True).stdout)


def settled(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


# --- what the caller's process is like --------------------------------------------------------------------------------


def test_a_strict_umask_does_not_close_the_generated_files_to_the_programs_user(jubako: Command) -> None:
    strict = within(jubako, "umask 077")
    told = strict("run", "--rm", "--user", "1000", "host", "--", "sh", "-c", "cat /etc/hosts; umask")
    assert told.exit_code == 0, told
    assert told.lines[-1] == "0022"


def test_an_open_umask_does_not_open_the_control_socket(jubako: Command, directories: Directories) -> None:
    made = within(jubako, "umask 000")("run", "-d", "host", "--", "sleep", "60", check=True)
    mode = os.stat(directories.run / "containers" / made.stdout[:16] / "control").st_mode
    assert stat.S_ISSOCK(mode)
    assert mode & 0o022 == 0, "to connect one must be able to write"


def test_a_container_can_be_run_from_a_directory_that_was_removed(jubako: Command, tmp_path: Path) -> None:
    gone = within(jubako, f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir ../gone")
    told = gone("run", "--rm", "host", "--", "pwd")
    assert (told.stdout, told.exit_code) == ("/\n", 0), told
    told = gone("run", "--rm", "-v", ".:/x", "host", "--", "true")
    assert told.exit_code == 125
    assert "was removed" in told.stderr


def test_output_that_finds_a_full_disk_is_not_lost_in_silence(jubako: Command) -> None:
    with open("/dev/full", "wb") as full:
        running = jubako.start("run", "host", "--", "sh", "-c", "echo lost", stdout=full)
        assert running.stderr is not None
        assert "output is lost: No space left on device" in running.stderr.read()
        running.wait(10)


def test_a_signal_that_was_ignored_from_the_start_is_not_passed_on(jubako: Command) -> None:
    script = "trap 'echo heard' HUP; echo ready; sleep 1; echo survived"
    ignoring = within(jubako, "trap '' HUP")
    running = ignoring.start("run", "--rm", "host", "--", "sh", "-c", script)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    running.send_signal(1)
    assert running.stdout.read() == "survived\n"
    assert running.wait(10) == 0


def test_a_base_made_within_another_user_namespace_is_not_taken_for_ours(jubako: Command) -> None:
    """It has one id only: what runs after it would silently have less than was asked for."""
    jubako("run", "--rm", "host", "--", "true", check=True)
    before = jubako("run", "--rm", "host", "--", "cat", "/proc/self/uid_map", check=True).stdout
    place = jubako.cwd / "run"
    shared = {"JUBAKO_RUN": str(place)}
    nested = Command(jubako.account, jubako.cwd, ("unshare", "--user", "--map-root-user"), shared)
    ours = Command(jubako.account, jubako.cwd, (), shared)
    try:
        nested("run", "--rm", "host", "--", "true", check=True)
        inner = int((place / "base").read_text().split()[0])
        assert ours("run", "--rm", "host", "--", "cat", "/proc/self/uid_map", check=True).stdout == before
        os.kill(inner, 9)
    finally:
        ours("system", "shutdown")


def test_a_cidfile_does_not_outlive_a_container_that_could_not_be_made(jubako: Command, tmp_path: Path) -> None:
    too_many = ("--userns", "auto:size=4000000000")
    assert jubako("run", "--rm", "--cidfile", tmp_path / "id", *too_many, "host", "--", "true").exit_code == 125
    assert not (tmp_path / "id").exists()


def test_json_for_a_terminal_holds_nothing_that_steers_it(jubako: Command) -> None:
    label = "\x9b31m\x1b]0;title\x07\x7f=1"
    jubako("create", "--name", "one", "--label", label, "host", "--", "true", check=True)
    told = jubako("inspect", "one", check=True)
    assert label.partition("=")[0] in told.json[0]["Config"]["Labels"]
    assert all(character.isprintable() for character in told.stdout.replace("\n", ""))


def test_a_passwd_file_of_terabytes_is_not_read_to_its_end(jubako: Command, rootfs: Path) -> None:
    with open(rootfs / "etc/passwd", "ab") as file:
        os.truncate(file.fileno(), 3 << 40)
    told = jubako("run", "--rm", "--rootfs", rootfs, "--user", "1000", "echo", "here", timeout=20)
    assert told.stdout == "here\n", told


# --- the supervisor ---------------------------------------------------------------------------------------------------


def test_no_number_of_clients_ends_a_container_and_none_leaves_a_descriptor_behind(jubako: Command) -> None:
    few = within(jubako, "ulimit -n 64")
    few("run", "-d", "--name", "one", "host", "--", "sleep", "600", check=True)
    held = Path(f"/proc/{supervisor(jubako, 'one')}/fd")
    before = len(os.listdir(held))
    clients = [jubako.start("attach", "one", stdin=subprocess.DEVNULL) for _ in range(20)]
    assert settled(lambda: len(os.listdir(held)) > 50)
    for client in clients:
        client.kill()
        client.wait()
    assert settled(lambda: len(os.listdir(held)) == before), os.listdir(held)
    assert jubako("exec", "one", "echo", "here", check=True).stdout == "here\n"


def test_a_process_that_outlives_the_program_in_a_shared_pid_namespace_cannot_keep_the_supervisor(
    jubako: Command,
) -> None:
    script = "yes & sleep 0.2"
    told = jubako("run", "-d", "--pid", "host", "--name", "one", "host", "--", "sh", "-c", script, check=True)
    assert told.stderr == ""
    assert jubako("wait", "one", timeout=20, check=True).stdout == "0\n"


# --- files of ours that were damaged ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["state.json", "container.json", "config.json"])
def test_a_damaged_container_can_be_listed_and_removed_and_is_in_nobodys_way(
    jubako: Command, directories: Directories, name: str
) -> None:
    made = jubako("create", "--name", "bad", "host", "--", "true", check=True).stdout.strip()
    jubako("create", "--name", "good", "host", "--", "true", check=True)
    (directories.data / "containers" / made / name).write_text("")
    listed = jubako("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}", check=True).lines
    assert len(listed) == 2
    if name != "config.json":
        assert f"{made} damaged" in listed
    jubako("start", "-a", "good", check=True)
    jubako("rm", "-f", "bad", check=True)
    jubako("create", "--name", "bad", "host", "--", "true", check=True)


def test_what_a_later_version_adds_to_the_state_is_left_alone(jubako: Command, directories: Directories) -> None:
    made = jubako("create", "--name", "one", "host", "--", "echo", "hello", check=True).stdout.strip()
    state = directories.data / "containers" / made / "state.json"
    state.write_text(state.read_text().replace("{", '{"of_a_later_version": 1, ', 1))
    assert jubako("start", "-a", "one", check=True).stdout == "hello\n"


# --- other users of the machine ---------------------------------------------------------------------------------------


@pytest.mark.root
def test_roots_containers_cannot_be_reached_by_other_users(
    jubako: Command, ordinary_account: Account, directories: Directories, rootfs: Path
) -> None:
    """A set-uid file in a layer belongs to an id of the container: whoever could run it would be that one."""
    script = "cp /bin/busybox /mine; chmod 4755 /mine; sleep 600"
    made = jubako("run", "-d", "--rootfs", f"{rootfs}:O", "sh", "-c", script, check=True).stdout.strip()
    mine = directories.data / "containers" / made / "layer/upper/mine"
    assert settled(lambda: mine.exists() and bool(mine.stat().st_mode & stat.S_ISUID))
    found = subprocess.run([*ordinary_account.prefix, str(mine), "true"], capture_output=True, text=True, check=False)
    assert found.returncode != 0
    assert "ermission denied" in found.stderr


def test_a_directory_or_a_loop_where_a_generated_file_would_go_is_left_as_it_is(jubako: Command, rootfs: Path) -> None:
    for name in ("hosts", "resolv.conf"):
        (rootfs / "etc" / name).unlink(missing_ok=True)
    (rootfs / "etc/hosts").mkdir()
    (rootfs / "etc/resolv.conf").symlink_to("resolv.conf")
    told = jubako("run", "--rm", "--rootfs", str(rootfs), "ls", "-ld", "/etc/hosts")
    assert told.exit_code == 0, told
    assert told.stdout.startswith("d")


def test_a_file_bound_over_a_directory_is_refused_and_said_so(jubako: Command, rootfs: Path) -> None:
    told = jubako("run", "--rm", "-v", "/etc/hostname:/etc", "--rootfs", str(rootfs), "true")
    assert told.exit_code == 125
    assert "a file cannot cover a directory (EISDIR)" in told.stderr
