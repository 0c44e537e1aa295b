"""`podman run` with our runtime: streams, exit codes, terminals, users, what a container may do and see."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable

import pytest

from world.account import Account
from world.box import eventually
from world.command import Command
from world.terminal import END_OF_FILE, INTERRUPT


def test_output_and_exit_code_come_through(podman: Command) -> None:
    result = podman("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)


@pytest.mark.parametrize(
    ("program", "code"), [(("/nowhere",), 127), (("nowhere",), 127), (("/etc/passwd",), 126), (("/etc",), 126)]
)
def test_a_program_that_cannot_be_started_has_the_shells_exit_code(
    podman: Command, program: tuple[str, ...], code: int
) -> None:
    result = podman("run", "--rm", "busybox", *program)
    assert result.exit_code == code, str(result)
    assert program[0] in result.stderr


def test_standard_input_reaches_the_program_and_ends(podman: Command) -> None:
    data = "".join(f"line {number}\n" for number in range(20_000))
    result = podman("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo end", input=data, check=True)
    assert result.stdout == data + "end\n"


def test_a_terminal_has_its_size_and_ends_lines_once(podman: Command) -> None:
    terminal = podman.terminal(
        "run", "--rm", "-it", "busybox", "sh", "-c", "stty size; tty; echo; read -r x", rows=33, columns=99
    )
    text = terminal.read_until("/dev/.*\r\n")
    assert "33 99\r\n" in text
    assert "\r\r\n" not in text
    terminal.send("x\n")
    assert terminal.wait() == 0


def test_a_terminal_follows_a_change_of_its_size(podman: Command) -> None:
    terminal = podman.terminal("run", "--rm", "-it", "busybox", "sh")
    terminal.send("echo rea''dy\n")
    terminal.read_until("ready\r\n")
    terminal.resize(40, 123)
    terminal.send("while [ \"$(stty size)\" != '40 123' ]; do sleep 0.1; done; echo see''n\n")
    terminal.read_until("seen\r\n")
    terminal.send("exit 4\n")
    assert terminal.wait() == 4


def test_the_end_of_file_is_typed_in_a_terminal(podman: Command) -> None:
    terminal = podman.terminal("run", "--rm", "-it", "busybox", "cat")
    terminal.send("word\n")
    terminal.read_until("word\r\nword\r\n")
    terminal.send(END_OF_FILE)
    assert terminal.wait() == 0


def test_ctrl_c_in_a_terminal_interrupts_the_program(podman: Command) -> None:
    terminal = podman.terminal(
        "run", "--rm", "-it", "busybox", "sh", "-c", "trap 'exit 42' INT; echo ready; while :; do sleep 0.1; done"
    )
    terminal.read_until("ready")
    terminal.send(INTERRUPT)
    assert terminal.wait() == 42


def test_without_a_terminal_signals_are_passed_on(podman: Command) -> None:
    running = podman.start(
        "run",
        "--name",
        "signalled",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 43' TERM; echo ready; while :; do sleep 0.1; done",
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    podman("kill", "--signal", "TERM", "signalled", check=True)
    assert running.wait(20) == 43


def test_users_groups_environment_and_directory_are_as_asked(podman: Command) -> None:
    result = podman(
        *("run", "--rm", "--user", "1000:29", "--group-add", "10", "--env", "WORD=a b", "--workdir", "/home/alice"),
        *("--hostname", "box", "--ulimit", "nofile=77:88", "busybox"),
        *("sh", "-c", 'id -u; id -g; id -G; echo "$WORD"; pwd; hostname; ulimit -n; ulimit -Hn; echo "$HOME"; umask'),
        check=True,
    )
    assert result.lines == ["1000", "29", "29 10", "a b", "/home/alice", "box", "77", "88", "/home/alice", "0022"]


def test_a_working_directory_that_is_missing_is_made_or_refused(podman: Command) -> None:
    result = podman("run", "--rm", "--workdir", "/not/there", "busybox", "pwd")
    assert result.exit_code in (126, 127)
    assert "/not/there" in result.stderr


def test_read_only_roots_still_have_places_to_write(podman: Command) -> None:
    script = "touch /file 2>/dev/null && echo written; touch /tmp/file /dev/shm/file /run/file && echo temporary"
    result = podman("run", "--rm", "--read-only", "busybox", "sh", "-c", script)
    assert result.stdout == "temporary\n", str(result)


def test_init_reaps_and_passes_signals_on(podman: Command) -> None:
    podman(
        "run",
        "-d",
        "--init",
        "--name",
        "inited",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 44' TERM; while :; do sleep 0.1; done",
        check=True,
    )
    assert "catatonit" in podman("exec", "inited", "cat", "/proc/1/cmdline", check=True).stdout or (
        "podman-init" in podman("exec", "inited", "cat", "/proc/1/cmdline", check=True).stdout
    )
    podman("stop", "inited", check=True)
    assert podman("wait", "inited", check=True).stdout == "44\n"


def test_volumes_and_temporary_file_systems_are_mounted_as_asked(podman: Command) -> None:
    script = (
        "echo kept >/data/file; touch /ro/file 2>/dev/null && echo written;"
        "grep -c ' /scratch tmpfs' /proc/mounts; df -k /scratch | tail -1 | awk '{print $2}'"
    )
    options = ("-v", "jar:/data", "-v", "jar:/ro:ro", "--tmpfs", "/scratch:size=2m,mode=1777")
    result = podman("run", "--rm", *options, "busybox", "sh", "-c", script, check=True)
    assert result.lines == ["1", "2048"]
    result = podman("run", "--rm", "-v", "jar:/data", "busybox", "cat", "/data/file", check=True)
    podman("volume", "rm", "jar", check=True)
    assert result.stdout == "kept\n"


def test_a_directory_of_the_host_is_bound(podman: Command) -> None:
    script = "test -x /host/bin/podman && grep ' /host ' /proc/self/mountinfo | cut -d' ' -f6 | cut -d, -f1"
    result = podman("run", "--rm", "-v", "/usr:/host:ro", "busybox", "sh", "-c", script)
    assert result.stdout == "ro\n", str(result)


def test_the_default_confinement_is_in_force(podman: Command) -> None:
    status = podman("run", "--rm", "busybox", "cat", "/proc/self/status", check=True).stdout
    assert "Seccomp:\t2\n" in status
    assert "CapEff:\t00000000800405fb\n" in status  # podman's eleven
    script = (
        "mount -t tmpfs none /mnt; head -c1 /proc/kcore; ls /proc/acpi /sys/firmware; echo 1 >/proc/sys/kernel/printk"
    )
    result = podman("run", "--rm", "busybox", "sh", "-c", script)
    assert result.stdout == "/proc/acpi:\n\n/sys/firmware:\n", str(result)
    assert result.exit_code == 1


def test_capabilities_and_new_privileges_can_be_taken_away_and_given(podman: Command) -> None:
    options = ("--cap-drop", "all", "--cap-add", "net_bind_service", "--security-opt", "no-new-privileges")
    status = podman("run", "--rm", *options, "busybox", "cat", "/proc/self/status", check=True).stdout
    assert "CapEff:\t0000000000000400\n" in status
    assert "CapBnd:\t0000000000000400\n" in status
    assert "NoNewPrivs:\t1\n" in status


def test_a_privileged_container_has_every_capability_of_its_user_namespace(podman: Command) -> None:
    script = "grep Seccomp: /proc/self/status; mount -t tmpfs none /mnt && echo mounted; test -c /dev/fuse && echo fuse"
    result = podman("run", "--rm", "--privileged", "busybox", "sh", "-c", script, check=True)
    assert result.lines == ["Seccomp:\t0", "mounted", "fuse"]


def test_a_seccomp_profile_of_ones_own_is_used(podman: Command, house_file: Callable[[str, str], str]) -> None:
    refused = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}
    profile = house_file("profile.json", json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]}))
    result = podman("run", "--rm", "--security-opt", f"seccomp={profile}", "busybox", "mkdir", "/made")
    assert "Operation not supported" in result.stderr, str(result)


def test_system_settings_of_its_namespaces_are_written(podman: Command) -> None:
    options = ("--sysctl", "net.ipv4.ip_unprivileged_port_start=80", "--sysctl", "kernel.msgmax=9000")
    result = podman(
        "run",
        "--rm",
        *options,
        "busybox",
        "cat",
        "/proc/sys/net/ipv4/ip_unprivileged_port_start",
        "/proc/sys/kernel/msgmax",
        check=True,
    )
    assert result.lines == ["80", "9000"]


def test_the_hosts_namespaces_can_be_used(podman: Command) -> None:
    options = ("--pid=host", "--network=host", "--ipc=host", "--uts=host", "--cgroupns=host")
    result = podman("run", "--rm", *options, "busybox", "sh", "-c", "hostname; cat /proc/1/comm", check=True)
    assert result.lines == ["house", "catatonit"]


def test_preserved_descriptors_reach_the_program(podman: Command) -> None:
    read, write = os.pipe()
    os.set_inheritable(read, True)
    os.write(write, b"through three\n")
    os.close(write)
    run = f'exec podman "$0" run --rm --preserve-fds=1 busybox sh -c "cat <&3" 3<&{read}'
    argv = (*podman.prefix[:-1], "bash", "-c", run, podman.program)
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, pass_fds=(read,))
    finally:
        os.close(read)
    assert done.stdout == "through three\n", done.stderr


def test_keep_id_is_the_user_inside_who_one_is_outside(rootless_podman: Command, ordinary_account: Account) -> None:
    uid = ordinary_account.uid
    result = rootless_podman(
        "run",
        "--rm",
        "--userns=keep-id",
        "busybox",
        "sh",
        "-c",
        "id -u; awk '{print $1, $2, $3}' /proc/self/uid_map",
        check=True,
    )
    assert result.lines[0] == str(uid)
    assert f"{uid} 0 1" in result.lines


def test_an_own_range_of_ids_is_mapped_for_root(root_podman: Command) -> None:
    options = ("--uidmap", "0:200000:1000", "--gidmap", "0:300000:1000")
    result = root_podman(
        "run",
        "--rm",
        *options,
        "busybox",
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map /proc/self/gid_map; stat -c %u:%g /bin/busybox",
        check=True,
    )
    assert [line.split() for line in result.lines] == [["0"], ["0", "200000", "1000"], ["0", "300000", "1000"], ["0:0"]]


def test_a_device_is_there_and_may_be_used(podman: Command) -> None:
    result = podman(
        "run",
        "--rm",
        "--device",
        "/dev/fuse",
        "busybox",
        "sh",
        "-c",
        "test -c /dev/fuse && : </dev/fuse && echo opened",
    )
    assert result.stdout == "opened\n", str(result)


def test_a_container_for_systemd_has_its_places(podman: Command) -> None:
    places = "/run|/tmp|/run/lock|/var/log/journal"
    script = f"grep -c -E ' ({places}) tmpfs rw' /proc/mounts; mkdir /sys/fs/cgroup/x && echo made"
    result = podman("run", "--rm", "--systemd=always", "busybox", "sh", "-c", script)
    assert result.lines == ["4", "made"], str(result)


def test_supplementary_groups_can_be_kept(rootless_podman: Command) -> None:
    result = rootless_podman("run", "--rm", "--group-add=keep-groups", "busybox", "id", "-u")
    assert result.stdout == "0\n", str(result)


def test_two_hundred_kilobytes_of_environment_and_arguments_arrive(podman: Command) -> None:
    long = "x" * 100_000
    result = podman(
        "run", "--rm", "--env", f"LONG={long}", "busybox", "sh", "-c", "echo ${#LONG} ${#1}", "sh", long, check=True
    )
    assert result.stdout == "100000 100000\n"


def test_the_container_is_gone_from_cgroups_when_it_ends(podman: Command) -> None:
    podman("run", "-d", "--name", "brief", "busybox", "sleep", "0.2", check=True)
    podman("wait", "brief", check=True)
    assert eventually(lambda: podman("inspect", "--format", "{{.State.Status}}", "brief").stdout == "exited\n")
