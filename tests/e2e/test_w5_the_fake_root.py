"""Walkthrough 5, RootlessKit: the fake root, by its own name and by the original's."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from world import programs
from world.account import Account
from world.command import Command
from world.fakeroot import FakeRoot, ask, named, open_fake_root
from world.refusal import refused

Open = Callable[..., FakeRoot]


@pytest.fixture
def fake_root(jubako: Command, tmp_path: Path) -> Open:
    """`fake_root(FLAGS…)`: one that runs, with the state directory `state`."""

    def start(*flags: str, **options: tuple[str, ...]) -> FakeRoot:
        return open_fake_root(jubako, tmp_path / "state", *flags, **options)

    return start


@pytest.fixture(params=["jubako rootless", "rootlesskit"])
def rootless(request: pytest.FixtureRequest, jubako: Command) -> Command:
    """The command under both names: `rootless(FLAGS, COMMAND…)`."""
    if request.param == "rootlesskit":
        return named(jubako, "rootlesskit")
    return Command(jubako.account, jubako.cwd, (*jubako.prefix, jubako.program), jubako.env, "rootless")


# --- 5.1: root with the full subordinate map --------------------------------------------------------------------------


def test_the_command_is_root_with_the_full_subordinate_map(rootless: Command, account: Account) -> None:
    result = rootless("sh", "-c", "cat /proc/self/uid_map; echo --; cat /proc/self/gid_map; id -u; id -g", check=True)
    start, count = account.ranges[0]
    uids, _, rest = result.stdout.partition("--\n")
    rows = [line.split() for line in uids.splitlines()]
    assert rows[0] == ["0", str(account.uid), "1"]
    assert rows[1] == ["1", str(start), str(count)]
    lines = rest.splitlines()
    assert [line.split() for line in lines[:2]] == [["0", str(account.gid), "1"], ["1", str(start), str(count)]]
    assert lines[2:] == ["0", "0"]


def test_its_user_namespace_lies_in_the_hosts_own(fake_root: Open) -> None:
    root = fake_root()
    seen = Path(f"/proc/{root.program}/uid_map").read_text().split()
    assert seen[:3] == ["0", str(os.getuid()), "1"], "seen from the host it is the same map: nothing lies between"
    assert root.close() == 0


def test_a_file_made_inside_is_the_callers_and_one_given_away_a_subordinate_ids(
    jubako: Command, account: Account, tmp_path: Path
) -> None:
    own, given = tmp_path / "own", tmp_path / "given"
    jubako("rootless", "sh", "-c", f"touch {own} {given}; chown 1000:1000 {given}", check=True)
    start, _count = account.ranges[0]
    assert own.stat().st_uid == account.uid
    assert given.stat().st_uid == start + 999
    jubako("rootless", "rm", given, check=True)


def test_it_tells_the_command_who_called_and_where_its_state_is(rootless: Command, account: Account) -> None:
    result = rootless("--state-dir=state", "sh", "-c", "env | grep ^ROOTLESSKIT_ | sort", check=True)
    assert result.lines == [
        f"ROOTLESSKIT_PARENT_EGID={account.gid}",
        f"ROOTLESSKIT_PARENT_EUID={account.uid}",
        f"ROOTLESSKIT_STATE_DIR={rootless.cwd}/state",
    ]


@pytest.mark.parametrize("flags", [(), ("--pidns",), ("--pidns", "--reaper=false")], ids=["plain", "reaper", "first"])
@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_the_exit_code_is_the_commands(rootless: Command, flags: tuple[str, ...], script: str, code: int) -> None:
    if "--reaper=false" in flags and "kill" in script:
        script = f"exec 2>&-; sh -c '{script}'; exit $?"  # the first process of a PID namespace kills itself in vain
    result = rootless(*flags, "sh", "-c", script)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", "")


@pytest.mark.parametrize("flags", [(), ("--pidns",)], ids=["plain", "pidns"])
def test_a_command_that_cannot_be_had_is_told_with_127_or_126(jubako: Command, flags: tuple[str, ...]) -> None:
    refused(jubako("rootless", *flags, "nowhere-to-be-found"), "nowhere-to-be-found", "PATH", code=127)
    refused(jubako("rootless", *flags, "/nowhere/true"), "/nowhere/true", code=127)
    refused(jubako("rootless", *flags, "/etc/passwd"), "/etc/passwd: Permission denied (EACCES)", code=126)


def test_streams_directory_and_descriptors_are_the_callers(jubako: Command, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"through 3")
        os.close(writer)
        script = f"cat; pwd; cat /proc/self/fd/{reader}; echo to stderr >&2"
        result = jubako("rootless", "sh", "-c", script, input="from stdin\n", cwd=tmp_path, pass_fds=(reader,))
    finally:
        os.close(reader)
    assert result.stdout == f"from stdin\n{tmp_path}\nthrough 3"
    assert result.stderr == "to stderr\n"


@pytest.mark.parametrize("flags", [(), ("--pidns",)], ids=["plain", "pidns"])
def test_descriptors_of_systemd_come_with_the_pid_of_who_takes_them(jubako: Command, flags: tuple[str, ...]) -> None:
    # LISTEN_PID names the process that was started: sh becomes it.
    listens = 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@" 3</dev/null'
    by_sh = Command(jubako.account, jubako.cwd, ("sh", "-c", listens), jubako.env, jubako.program)
    script = "echo $$ $LISTEN_PID $LISTEN_FDS; readlink /proc/self/fd/3"
    result = by_sh("rootless", *flags, "sh", "-c", script, check=True)
    pid, told, number = result.lines[0].split()
    assert (told, number, result.lines[1]) == (pid, "1", "/dev/null")


def test_descriptors_meant_for_another_process_are_none_of_its_business(jubako: Command) -> None:
    result = jubako("rootless", "sh", "-c", "echo $LISTEN_PID", env={"LISTEN_FDS": "1", "LISTEN_PID": "1"}, check=True)
    assert result.stdout == "1\n"


def test_without_newuidmap_there_is_one_id_and_a_word_about_it(jubako: Command, account: Account) -> None:
    setpriv = programs.require("setpriv", "util-linux")
    powerless = Command(jubako.account, jubako.cwd, (setpriv, "--no-new-privs"), jubako.env, jubako.program)
    result = powerless("rootless", "sh", "-c", "cat /proc/self/uid_map; cat /proc/self/setgroups; id -u")
    assert result.exit_code == 0, result
    assert result.stdout.split() == ["0", str(account.uid), "1", "deny", "0"]
    assert "warning: this process has NoNewPrivs" in result.stderr
    assert "hint:" in result.stderr


@pytest.mark.parametrize("source", ["auto", "static", "dynamic"])
def test_subordinate_ids_are_found_wherever_they_are_asked_for(jubako: Command, account: Account, source: str) -> None:
    if source == "dynamic":
        programs.require("getsubids", "uidmap")
    result = jubako("rootless", f"--subid-source={source}", "cat", "/proc/self/uid_map", check=True)
    assert result.lines[1].split() == ["1", *map(str, account.ranges[0])]


def test_a_fake_root_in_a_fake_root_gives_what_it_has(jubako: Command) -> None:
    result = jubako("rootless", jubako.program, "rootless", "cat", "/proc/self/uid_map", check=True)
    assert [line.split()[:2] for line in result.lines] == [["0", "0"], ["1", "1"]]


@pytest.mark.root
def test_the_hosts_root_keeps_its_id_and_has_none_of_its_rights(jubako: Command) -> None:
    result = jubako("rootless", "sh", "-c", "cat /proc/self/uid_map; mknod /tmp/nothing b 1 1", check=False)
    assert result.lines[0].split() == ["0", "0", "1"]
    assert int(result.lines[1].split()[1]) > 65536
    assert result.exit_code == 1
    assert "not permitted" in result.stderr


# --- 5.2: copy-up -----------------------------------------------------------------------------------------------------


def test_etc_becomes_writable_and_the_hosts_stays(rootless: Command) -> None:
    before = sorted(os.listdir("/etc"))
    script = "echo mine >/etc/jubako-was-here && rm /etc/passwd && echo root:x:0:0::/: >/etc/passwd && cat /etc/passwd"
    result = rootless("--copy-up=/etc", "sh", "-c", script, check=True)
    assert result.stdout == "root:x:0:0::/:\n"
    assert sorted(os.listdir("/etc")) == before


def test_copy_up_has_the_form_of_the_original(jubako: Command, tmp_path: Path) -> None:
    top = make_tree(tmp_path)
    script = f"cd {top}; find . -maxdepth 1 ! -name . -printf '%f %y %l\\n' | sort; stat -c %a .; stat -f -c %T ."
    result = jubako("rootless", f"--copy-up={top}", "sh", "-c", script, check=True)
    hidden = next(line.split()[0] for line in result.lines if line.startswith(".ro"))
    assert re.fullmatch(r"\.ro\d+", hidden)
    assert [line.rstrip() for line in result.lines] == [
        f"{hidden} d",
        "absolute l /etc/hostname",
        "conf d",
        f"file l {hidden}/file",
        f"plain l {hidden}/plain",
        "relative l ../outside",
        "755",
        "tmpfs",
    ]


def make_tree(tmp_path: Path) -> Path:
    """`top` with a file, links, a directory with a link out of it (`conf`), and one without (`plain`)."""
    top = tmp_path / "top"
    (top / "conf/deep").mkdir(parents=True)
    (top / "plain").mkdir()
    (tmp_path / "outside").write_text("outside\n")
    (top / "file").write_text("file\n")
    (top / "absolute").symlink_to("/etc/hostname")
    (top / "relative").symlink_to("../outside")
    (top / "conf/out").symlink_to("../../outside")
    (top / "conf/in").symlink_to("../file")
    (top / "conf/deep/out").symlink_to("../../../outside")
    (top / "conf/other").write_text("other\n")
    (top / "plain/up").symlink_to("../file")
    (top / "plain/deep").mkdir()
    (top / "plain/deep/below").symlink_to("../up")
    return top


def test_links_lead_where_they_led_also_out_of_a_directory_below(jubako: Command, tmp_path: Path) -> None:
    top = make_tree(tmp_path)
    names = ("file", "relative", "conf/out", "conf/in", "conf/deep/out", "conf/other", "plain/up", "plain/deep/below")
    expected = [(top / name).read_text() for name in names]
    command = ("sh", "-c", f"cd {top} && cat {' '.join(names)} && echo more >conf/new")
    result = jubako("rootless", f"--copy-up={top}", *command, check=True)
    assert result.stdout == "".join(expected)
    assert not (top / "conf/new").exists()


def test_what_is_mounted_below_a_copied_directory_is_still_there(jubako: Command, tmp_path: Path) -> None:
    (tmp_path / "top/point").mkdir(parents=True)
    inner = f"mount -t tmpfs none {tmp_path}/top/point && echo there >{tmp_path}/top/point/file &&"
    inner += f" exec {jubako.program} rootless --copy-up={tmp_path}/top cat {tmp_path}/top/point/file"
    assert jubako("rootless", "sh", "-c", inner, check=True).stdout == "there\n"


def test_several_directories_are_copied_up_one_a_flag_or_with_commas(jubako: Command) -> None:
    script = "touch /etc/a /run/b && stat -f -c %T /etc /run"
    both = ("--copy-up=/etc", "--copy-up=/run")
    for flags in (both, ("--copy-up=/etc,/run",), ("--copy-up=/run/", "--copy-up", "/etc")):
        assert jubako("rootless", *flags, "sh", "-c", script, check=True).lines == ["tmpfs", "tmpfs"]


def test_a_state_directory_below_run_is_reached_when_run_is_copied_up(jubako: Command, account: Account) -> None:
    state = Path(account.runtime_directory, "a-fake-root")
    result = jubako(
        "rootless", f"--state-dir={state}", "--copy-up=/run", "--copy-up=/etc", "--net=none",
        "sh", "-c", "ls $ROOTLESSKIT_STATE_DIR", check=True,
    )  # fmt: skip
    assert result.stdout.split() == ["api.sock", "child_pid", "lock"]
    assert not state.exists()


def test_an_overlay_keeps_the_callers_own_directory_as_it_is(jubako: Command, tmp_path: Path) -> None:
    top = make_tree(tmp_path)
    script = f"cd {top} && cat conf/out && echo changed >file && cat file"
    result = jubako("rootless", f"--copy-up={top}", "--copy-up-mode=overlay", "sh", "-c", script)
    if result.exit_code == 125:
        assert "use --copy-up-mode=tmpfs+symlink" in result.stderr, result
    else:
        assert result.stdout == "outside\nchanged\n", result
    assert (top / "file").read_text() == "file\n"


def test_what_cannot_be_copied_up_is_refused(jubako: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    def ask_for(*flags: str) -> object:
        return jubako("rootless", *flags, "true")

    refused(ask_for("--copy-up=/tmp"), "/tmp cannot be copied up")
    refused(ask_for("--copy-up=/tmp/"), "/tmp cannot be copied up")
    refused(ask_for("--copy-up=/"), "--copy-up")
    refused(ask_for("--copy-up=etc"), "--copy-up", "absolute path")
    refused(ask_for("--copy-up="), "--copy-up")
    refused(ask_for(f"--copy-up={tmp_path}/file"), f"copy up {tmp_path}/file: Not a directory (ENOTDIR)")
    refused(ask_for(f"--copy-up={tmp_path}/missing"), "missing: No such file or directory (ENOENT)")
    for propagation in ("shared", "rshared"):
        refused(ask_for("--copy-up=/etc", f"--propagation={propagation}"), "cannot be moved", "--propagation=rslave")
    if os.getuid():
        refused(ask_for("--copy-up=/etc", "--copy-up-mode=overlay"), "copy up /etc", "tmpfs+symlink")


# --- 5.5: namespaces --------------------------------------------------------------------------------------------------

KINDS = ("mnt", "net", "pid", "cgroup", "uts", "ipc", "user")


@pytest.mark.parametrize(
    ("flag", "kind"),
    [
        ("--pidns", "pid"), ("--cgroupns", "cgroup"), ("--utsns", "uts"), ("--ipcns", "ipc"), ("--net=none", "net"),
        ("", ""),
    ],
)
def test_only_the_namespaces_asked_for_are_new(jubako: Command, flag: str, kind: str) -> None:
    script = f"for kind in {' '.join(KINDS)}; do readlink /proc/self/ns/$kind; done"
    flags = (flag,) if flag else ()
    inside = dict(zip(KINDS, jubako("rootless", *flags, "sh", "-c", script, check=True).lines, strict=True))
    outside = {name: os.readlink(f"/proc/self/ns/{name}") for name in KINDS}
    assert {name for name in KINDS if inside[name] != outside[name]} == {"user", "mnt", kind} - {""}


def test_a_reaper_is_the_first_process_and_buries_orphans(jubako: Command) -> None:
    script = "sh -c 'sleep 0.2 & exec true'; sleep 0.5; cat /proc/1/comm; grep -h ^State /proc/[0-9]*/status"
    result = jubako("rootless", "--pidns", "sh", "-c", script, check=True)
    assert result.lines[0].startswith("rootlesskit")
    assert "Z" not in {line.split()[1] for line in result.lines[1:]}
    alone = jubako("rootless", "--pidns", "--reaper=false", "sh", "-c", "echo $$", check=True)
    assert alone.stdout == "1\n"


def test_a_network_of_ones_own_shows_its_devices_in_sys(jubako: Command) -> None:
    result = jubako("rootless", "--net=none", "sh", "-c", "ls /sys/class/net; ls /sys/fs/cgroup | wc -l", check=True)
    assert result.lines[0] == "lo"
    assert int(result.lines[1]) > 0, "the control groups stay where they were"


@pytest.mark.parametrize("name", ["private", "rprivate", "slave", "rslave", "shared", "rshared"])
def test_mounts_pass_as_the_propagation_says(jubako: Command, name: str) -> None:
    result = jubako("rootless", f"--propagation={name}", "sh", "-c", "grep ' / / ' /proc/self/mountinfo", check=True)
    tags = result.stdout.partition(" - ")[0].split()[6:]
    assert any(tag.startswith("shared:") for tag in tags) == name.endswith("shared")
    if name.endswith("private"):
        assert tags == []


def test_a_detached_network_is_found_at_netns_and_the_command_stays_outside(fake_root: Open, tmp_path: Path) -> None:
    state = tmp_path / "state"
    script = "readlink /proc/self/ns/net; nsenter --net=$ROOTLESSKIT_STATE_DIR/netns readlink /proc/self/ns/net; "
    script += "nsenter --net=$ROOTLESSKIT_STATE_DIR/netns cat /sys/class/net/lo/flags; echo end; cat"
    root = fake_root("--net=none", "--detach-netns", command=("sh", "-c", script))
    assert root.running.stdout is not None
    lines = [line.strip() for line in iter(root.running.stdout.readline, "end\n")]
    assert lines[0] == os.readlink("/proc/self/ns/net") != lines[1]
    assert (state / "netns").is_file()
    seen = os.stat(f"/proc/{root.program}/root{state}/netns")
    assert lines[1] == f"net:[{seen.st_ino}]", "and from outside through the process's root"
    assert root.close() == 0


@pytest.mark.root
def test_a_control_group_is_evacuated(jubako: Command, tmp_path: Path) -> None:
    group = cgroup2() / "jubako-test-evacuated"
    group.mkdir()
    joins = f'echo $$ >{group}/cgroup.procs; exec "$0" "$@"'
    inside = Command(jubako.account, jubako.cwd, ("sh", "-c", joins), jubako.env, jubako.program)
    try:
        flags = ("--pidns", "--cgroupns", "--evacuate-cgroup2=below")
        script = "cat /proc/self/cgroup | grep ^0::; stat -f -c %T /sys/fs/cgroup; ls -d /sys/fs/cgroup/below"
        result = inside("rootless", *flags, "sh", "-c", script, check=True)
        assert result.lines == ["0::/below", "cgroup2fs", "/sys/fs/cgroup/below"]
    finally:
        time.sleep(0.2)
        for below in (group / "below", group):
            if below.exists():
                below.rmdir()


def cgroup2() -> Path:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2":
            return Path(fields[4])
    pytest.skip("no control groups of version 2 here")


# --- 5.5: the state directory -----------------------------------------------------------------------------------------


def test_the_state_directory_is_there_from_the_start_and_gone_at_the_end(fake_root: Open) -> None:
    root = fake_root()
    assert sorted(os.listdir(root.state)) == ["api.sock", "child_pid", "lock"]
    assert os.readlink(f"/proc/{root.program}/ns/user") != os.readlink("/proc/self/ns/user")
    assert (root.state / "child_pid").stat().st_mode & 0o777 == 0o444
    assert (root.state / "api.sock").stat().st_mode & 0o777 == 0o600
    assert root.close() == 0
    assert not root.state.exists()


def test_a_temporary_state_directory_is_the_callers_alone_and_gone_at_the_end(jubako: Command, tmp_path: Path) -> None:
    script = "stat -c '%a %n' $ROOTLESSKIT_STATE_DIR"
    result = jubako("rootless", "sh", "-c", script, env={"TMPDIR": str(tmp_path)}, check=True)
    mode, path = result.stdout.split()
    assert mode == "700"
    assert Path(path).parent == tmp_path
    assert not Path(path).exists()


def test_what_a_killed_one_left_in_the_state_directory_is_wiped(jubako: Command, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "directory").mkdir(parents=True)
    for name in ("lock", "child_pid", "netns", "directory/file"):
        (state / name).touch()
    result = jubako("rootless", f"--state-dir={state}", "ls", state, check=True)
    assert result.stdout.split() == ["api.sock", "child_pid", "lock"]


def test_a_state_directory_that_cannot_be_used_is_refused(jubako: Command, fake_root: Open, tmp_path: Path) -> None:
    root = fake_root()
    refused(jubako("rootless", f"--state-dir={root.state}", "true"), "another fake root runs with it")
    assert root.ask("GET", "/v1/info")[0] == 200, "and the one that runs is not disturbed"
    assert root.close() == 0
    (tmp_path / "home").mkdir()
    (tmp_path / "home/precious").touch()
    refused(jubako("rootless", f"--state-dir={tmp_path}/home", "true"), "not those of a fake root")
    assert (tmp_path / "home/precious").exists()
    refused(jubako("rootless", f"--state-dir={tmp_path}/home/precious", "true"), "EEXIST")
    refused(jubako("rootless", f"--state-dir={tmp_path}/{'long' * 30}", "true"), "kernel takes 107", "--state-dir")
    if os.getuid():
        refused(jubako("rootless", "--state-dir=/etc/rootless", "true"), "/etc/rootless: Permission denied (EACCES)")


# --- 5.5: signals, terminals, and ends --------------------------------------------------------------------------------

_TELLS = 'for s in HUP INT QUIT USR1 USR2 TERM; do trap "echo $s" $s; done; echo ready; while :; do sleep 0.02; done'


@pytest.mark.parametrize("flags", [(), ("--pidns",)], ids=["plain", "pidns"])
def test_signals_are_passed_on_once(fake_root: Open, flags: tuple[str, ...]) -> None:
    root = fake_root(*flags, command=("sh", "-c", _TELLS))
    assert root.running.stdout is not None
    assert root.running.stdout.readline() == "ready\n"
    for name in ("HUP", "USR1", "USR2", "INT", "QUIT", "TERM"):
        root.running.send_signal(getattr(signal, f"SIG{name}"))
        assert root.running.stdout.readline() == f"{name}\n"
    for name in ("CHLD", "URG", "WINCH", "PIPE"):
        root.running.send_signal(getattr(signal, f"SIG{name}"))
    root.running.send_signal(signal.SIGUSR1)
    assert root.running.stdout.readline() == "USR1\n"
    os.kill(root.program, signal.SIGKILL)
    assert root.running.wait(10) == 137


def test_what_the_caller_ignores_stays_ignored(jubako: Command) -> None:
    ignores = "trap '' HUP; exec \"$0\" \"$@\""
    by_sh = Command(jubako.account, jubako.cwd, ("sh", "-c", ignores), jubako.env, jubako.program)
    script = "kill -HUP $PPID; kill -HUP $$; echo still here; grep SigIgn /proc/self/status"
    result = by_sh("rootless", "sh", "-c", script)
    assert result.lines[0] == "still here", result
    assert int(result.lines[1].split()[1], 16) == 1, "HUP, and neither PIPE nor XFSZ, which Python ignores"


@pytest.mark.parametrize("flags", [(), ("--pidns",)], ids=["plain", "pidns"])
def test_ctrl_c_is_heard_once(jubako: Command, flags: tuple[str, ...]) -> None:
    script = "trap 'echo heard' INT; echo ready; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; done; echo end"
    terminal = jubako.terminal("rootless", *flags, "sh", "-c", script)
    terminal.read_until("ready")
    terminal.send("\x03")
    terminal.read_until("end")
    assert terminal.wait() == 0
    assert terminal.output.count("heard") == 1


@pytest.mark.parametrize("flags", [(), ("--pidns",)], ids=["plain", "pidns"])
def test_ctrl_z_stops_it_and_fg_lets_it_go_on(jubako: Command, flags: tuple[str, ...]) -> None:
    programs.require("bash")
    shell = Command(jubako.account, jubako.cwd, (), jubako.env, "bash")
    terminal = shell.terminal("--norc", "--noediting", "-i", env={"PS1": "$ ", "HISTFILE": "/dev/null"})
    try:
        terminal.read_until(r"\$ ")
        terminal.send(f"{jubako.program} rootless {' '.join(flags)} sh -c 'echo began; exec cat'\n")
        terminal.read_until("^began")
        terminal.send("\x1a")
        terminal.read_until("Stopped")
        terminal.read_until(r"\$ ")
        terminal.send("fg\n")
        terminal.read_until("rootless .*cat")
        terminal.send("typed\n")
        terminal.read_until("typed\r\ntyped")
        terminal.send("\x04")
        terminal.read_until(r"\$ ")
        terminal.send("echo code $?\n")
        terminal.read_until("code 0")
        terminal.send("exit\n")
        terminal.wait()
    finally:
        shell.close()


def test_a_shell_inside_has_job_control(jubako: Command) -> None:
    programs.require("bash")
    shell = ("bash", "--norc", "--noediting", "-i")
    terminal = jubako.terminal("rootless", *shell, env={"PS1": "# ", "HISTFILE": "/dev/null"})
    terminal.read_until("# ")
    assert "no job control" not in terminal.output
    terminal.send("sleep 60\n")
    terminal.read_until("sleep")
    time.sleep(0.2)
    terminal.send("\x03")
    terminal.read_until("# ")
    terminal.send("echo code $?; exit 5\n")
    terminal.read_until("code 130")
    assert terminal.wait() == 5


# --- 5.5: the REST API and its client ---------------------------------------------------------------------------------


def test_info_tells_what_it_is(fake_root: Open) -> None:
    root = fake_root("--net=none")
    status, info = root.ask("GET", "/v1/info")
    assert status == 200
    assert re.fullmatch(r"3\.\d+\.\d+\+jubako.*", info.pop("version"))
    assert info == {
        "apiVersion": "1.1.1",
        "stateDir": str(root.state),
        "childPID": root.program,
        "networkDriver": {"driver": "none"},
    }
    assert root.close() == 0


def test_the_client_says_the_same_from_inside_and_from_outside(jubako: Command, fake_root: Open) -> None:
    control = named(jubako, "rootlessctl")
    root = fake_root()
    outside = control(f"--socket={root.state}/api.sock", "info", "--json", check=True)
    assert outside.json == root.ask("GET", "/v1/info")[1]
    text = control(f"--socket={root.state}/api.sock", "info", check=True)
    assert f"- Child PID: {root.program}" in text.lines
    assert f"- State Directory: {root.state}" in text.lines
    assert root.close() == 0
    inside = jubako("rootless", control.program, "info", check=True)
    assert inside.lines[0] == "- REST API version: 1.1.1"


def test_without_a_port_driver_ports_are_refused_as_the_original_does(jubako: Command, fake_root: Open) -> None:
    root = fake_root()
    for method, target in (("GET", "/v1/ports"), ("POST", "/v1/ports"), ("DELETE", "/v1/ports/1")):
        status, document = root.ask(method, target)
        assert status == 400
        assert "no PortDriver is available" in document["message"]
    control = named(jubako, "rootlessctl")
    refused(control("--socket", root.state / "api.sock", "list-ports"), "no PortDriver is available")
    refused(control("--socket", root.state / "nothing", "list-ports"), "No such file or directory")
    refused(control("list-ports"), "ROOTLESSKIT_STATE_DIR")
    refused(control("no-such-verb"), "list-ports")
    assert root.close() == 0


def test_what_is_no_request_is_answered_and_the_next_one_too(fake_root: Open) -> None:
    root = fake_root()
    path = root.state / "api.sock"
    assert root.ask("GET", "/")[0] == 404
    assert root.ask("GET", "/v2/info")[0] == 404
    assert root.ask("PUT", "/v1/info")[0] == 405
    assert root.ask("POST", "/v1/ports", b"x" * (10 << 20))[0] == 400
    length = b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"
    for nonsense in (b"\0\xff\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"x" * 100_000, length):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(path))
            client.sendall(nonsense)
            assert client.recv(100).startswith(b"HTTP/1.1 400")
    assert ask(path, "GET", "/v1/info")[0] == 200
    assert root.close() == 0


# --- nonsense ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flag",
    [
        "--net=nonsense", "--net=gvisor-tap-vsock", "--mtu=x", "--mtu=-1", "--mtu=65522", "--cidr=nonsense",
        "--cidr=10.0.2.0/24", "--net=pasta --cidr=10.0.2.100/24", "--ifname=a", "--net=none --ifname=a/b", "--ipv6",
        "--net=none --ipv6", "--detach-netns", "--slirp4netns-sandbox=maybe", "--slirp4netns-seccomp=maybe",
        "--net=slirp4netns --slirp4netns-binary=/nonsense", "--net=pasta --pasta-binary=nonsense",
        "--copy-up-mode=nonsense", "--propagation=nonsense", "--port-driver=nonsense", "--port-driver=builtin",
        "--net=none --port-driver=builtin", "--net=pasta --port-driver=slirp4netns",
        "--net=slirp4netns --port-driver=implicit", "-p 127.0.0.1:80:80/tcp", "--net=slirp4netns -p nonsense",
        "--source-ip-transparent=maybe", "--reaper=maybe", "--reaper=true", "--evacuate-cgroup2=x",
        "--pidns --evacuate-cgroup2=x", "--pidns --cgroupns --evacuate-cgroup2=a/b", "--subid-source=nonsense",
        "--print-semver=nonsense", "--pidns=maybe", "--nonsense", "--state-dir", "--debug=maybe",
    ],
)  # fmt: skip
def test_nonsense_is_refused_before_anything_is_made(jubako: Command, tmp_path: Path, flag: str) -> None:
    words = flag.split(" ") if flag != "--state-dir" else []
    command = (f"touch {tmp_path}/ran",)
    result = jubako("rootless", *words, "sh", "-c", *command) if words else jubako("rootless", flag)
    refused(result)
    assert not (tmp_path / "ran").exists()


def test_no_command_is_refused(rootless: Command) -> None:
    refused(rootless(), "no command")
    refused(rootless("--net=none"), "no command")


def test_explain_prints_the_steps_and_takes_none(jubako: Command, tmp_path: Path) -> None:
    state = tmp_path / "state"
    flags = ("--explain", f"--state-dir={state}", "--copy-up=/etc", "--net=none", "--pidns")
    result = jubako("rootless", *flags, "touch", tmp_path / "ran", check=True)
    for call in ("clone(CLONE_NEWUSER|CLONE_NEWPID", "unshare(CLONE_NEWNS|CLONE_NEWNET)", "execve(", "move_mount("):
        assert call in result.stdout
    assert not state.exists()
    assert not (tmp_path / "ran").exists()
    refused(jubako("rootless", "--explain", "--propagation=shared", "--copy-up=/etc", "true"))


def test_versions(jubako: Command) -> None:
    kit, control = named(jubako, "rootlesskit"), named(jubako, "rootlessctl")
    assert re.fullmatch(r"rootlesskit version 3\.\d+\.\d+\+jubako\S+\n", kit("--version", check=True).stdout)
    assert kit("--print-semver", "major", check=True).stdout == "3\n"
    assert kit("--print-semver=minor", check=True).stdout.strip().isdigit()
    assert control("--version", check=True).stdout.startswith("rootlessctl version 3.")
    assert "--detach-netns" in kit("--help", check=True).stdout, "dockerd-rootless.sh looks for it there"


# --- names and errors -------------------------------------------------------------------------------------------------

_RESOLV = "nameserver 127.0.0.53\nsearch one.test two.test\noptions ndots:2 edns0\n"


@pytest.mark.parametrize("copied", [(), ("/etc",), ("/run",), ("/etc", "/run")], ids=["none", "etc", "run", "both"])
def test_names_are_asked_of_the_network_also_where_resolv_conf_is_a_link_into_run(
    jubako: Command, tmp_path: Path, copied: tuple[str, ...]
) -> None:
    programs.require("slirp4netns")
    (tmp_path / "resolv.conf").write_text(_RESOLV)
    inner = " ".join((jubako.program, "rootless --net=slirp4netns", *(f"--copy-up={path}" for path in copied)))
    script = f"mkdir -p /run/of/test && cp {tmp_path}/resolv.conf /run/of/test/stub.conf && rm -f /etc/resolv.conf &&"
    script += f" ln -s ../run/of/test/stub.conf /etc/resolv.conf && {inner} sh -c 'cat /etc/resolv.conf; echo --;"
    script += " cat /etc/hosts; getent hosts $(uname -n)'"
    result = jubako("rootless", "--copy-up=/etc", "--copy-up=/run", "sh", "-c", script, check=True)
    text, _, hosts = result.stdout.partition("--\n")
    assert text == "nameserver 10.0.2.3\nsearch one.test two.test\noptions ndots:2 edns0\n"
    assert hosts.splitlines()[-1].split() in (["127.0.0.1", os.uname().nodename], ["::1", os.uname().nodename])


def test_a_resolv_conf_that_cannot_be_replaced_is_told(jubako: Command) -> None:
    programs.require("slirp4netns")
    inner = f"{jubako.program} rootless --net=slirp4netns --disable-host-loopback true"
    script = f"rm -f /etc/resolv.conf; ln -s /nowhere /etc/resolv.conf; {inner}"
    result = jubako("rootless", "--copy-up=/etc", "sh", "-c", script)
    refused(result, "/etc/resolv.conf", "a link that leads nowhere", "--copy-up=/etc")


def test_where_user_namespaces_are_forbidden_the_error_has_the_remedy(jubako: Command) -> None:
    script = f"echo 0 >/proc/sys/user/max_user_namespaces && {jubako.program} rootless true"
    result = jubako("rootless", "sh", "-c", script)
    text = refused(result, "make a user namespace", "user.max_user_namespaces")
    assert "sysctl -w user.max_user_namespaces=" in text
    assert "CloneKeeper" in text


def test_the_original_and_ours_leave_and_tell_the_same(jubako: Command, tmp_path: Path) -> None:
    """What is compared: the files of the state directory, their kinds, and what the command finds."""
    original = programs.require("/usr/bin/rootlesskit", "rootlesskit")
    script = "cd $ROOTLESSKIT_STATE_DIR; stat -c '%n %F' *; id; env | grep ^ROOTLESSKIT; pwd; cat /proc/self/uid_map;"
    script += " find /etc -maxdepth 1 -name '[a-q]*' -printf '%f %y\n' | sort; cat /etc/resolv.conf;"
    script += " ls -d /etc/.ro* | wc -l"
    flags = ("--net=slirp4netns", "--copy-up=/etc", "--disable-host-loopback", "--state-dir=state")
    ours = jubako("rootless", *flags, "sh", "-c", script, check=True)
    theirs = Command(jubako.account, jubako.cwd, (), jubako.env, original)(*flags, "sh", "-c", script, check=True)
    mine = [line for line in ours.lines if not line.startswith(("slirp4netns.sock ", "hosts ", "resolv.conf "))]
    known = [line for line in theirs.lines if not line.startswith(("hosts ", "resolv.conf "))]
    assert mine == known
