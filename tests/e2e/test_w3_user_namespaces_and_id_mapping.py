"""Walkthrough 3: who one is inside, who one is outside, and that root inside is nobody special outside."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from world import archives
from world.account import Account, remove_tree, subordinate_ids
from world.box import Box, id_map, open_box, own
from world.command import Command, Result

Run = Callable[..., Result]
OpenBox = Callable[..., Box]


def full_map(account: Account, kind: str) -> list[tuple[int, int, int]]:
    """`0 CALLER 1` and `1 START COUNT …`: the default map of an ordinary user, as the host sees it."""
    rows = [(0, account.uid if kind == "uid" else account.gid, 1)]
    for start, count in subordinate_ids(f"/etc/sub{kind}", account.name, account.uid):
        rows.append((rows[-1][0] + rows[-1][2], start, count))
    return rows


def outside_ids(box: Box) -> set[int]:
    """Every host uid that the container's map can reach."""
    return {uid for _, start, size in id_map(box.proc("uid_map")) for uid in range(start, start + size)}


# --- 3.1 nobody and root ----------------------------------------------------------------------------------------------


def test_3_1_by_default_one_is_root_inside(rootfs: Path, run: Run) -> None:
    assert run("--rootfs", rootfs, "id", check=True).stdout == "uid=0(root) gid=0(root) groups=0(root)\n"


def test_3_1_an_id_that_is_not_mapped_is_nobody_inside(rootfs: Path, run: Run, account: Account) -> None:
    # the directory belongs to the caller, who with nomap has no id in the container
    told = run("--userns", "nomap", "-v", f"{rootfs}:/x:ro", "host", "--", "stat", "-c", "%u:%g", "/x/test.txt")
    assert told.stdout == "65534:65534\n", told


# --- 3.2 one id -------------------------------------------------------------------------------------------------------


def test_3_2_root_inside_is_the_user_outside_and_so_are_the_files_it_makes(
    rootfs: Path, box: OpenBox, account: Account
) -> None:
    inside = box("--rootfs", rootfs)
    assert inside.ask("id -u") == "0"
    assert inside.status("Uid").split() == [str(account.uid)] * 4
    assert inside.status("Gid").split() == [str(account.gid)] * 4
    assert id_map(inside.proc("uid_map"))[0] == (0, account.uid, 1)
    inside.ask("touch /made; mkdir /made.d; ln -s made /link")
    for name in ("made", "made.d", "link"):
        assert (rootfs / name).lstat().st_uid == account.uid, name
    assert inside.namespace("user") != own("user")


# --- 3.3 ranges -------------------------------------------------------------------------------------------------------


def test_3_3_the_default_map_is_the_caller_and_the_subordinate_ranges(
    rootfs: Path, box: OpenBox, account: Account
) -> None:
    assert account.ranges
    inside = box("--rootfs", rootfs)
    assert id_map(inside.proc("uid_map")) == full_map(account, "uid")
    assert id_map(inside.proc("gid_map")) == full_map(account, "gid")
    assert inside.proc("setgroups").strip() == "allow"
    # inside, a nested namespace shows the ids of its parent, the base
    seen = id_map(inside.ask("cat /proc/self/uid_map"))
    assert [(first, size) for first, _, size in seen] == [(first, size) for first, _, size in full_map(account, "uid")]
    assert seen[0] == (0, 0, 1)


def test_3_3_ids_of_the_range_are_usable_inside_and_belong_to_the_range_outside(
    rootfs: Path, box: OpenBox, account: Account
) -> None:
    inside = box("--rootfs", rootfs)
    inside.ask("touch /tmp/alice; chown 1000:1000 /tmp/alice; su alice -c 'touch /tmp/by-alice'")
    start = account.ranges[0][0]
    for name in ("alice", "by-alice"):
        assert (rootfs / "tmp" / name).stat().st_uid == start + 999, name
    assert inside.ask("stat -c %u:%g /tmp/by-alice") == "1000:1000"


def test_3_3_user_names_and_groups_are_looked_up_in_the_container(rootfs: Path, run: Run) -> None:
    script = "id -u; id -g; grep Groups /proc/self/status"
    told = run("--user", "alice", "--rootfs", rootfs, "sh", "-c", script)
    assert told.stdout.split() == ["1000", "1000", "Groups:", "10", "29", "1000"], told
    told = run("--user", "1000:audio", "--rootfs", rootfs, "sh", "-c", script)
    assert told.stdout.split()[:2] == ["1000", "29"], told
    told = run("--user", "4321:1234", "--group-add", "wheel", "--rootfs", rootfs, "sh", "-c", script)
    assert told.stdout.split()[:2] == ["4321", "1234"], told
    assert "10" in told.stdout.split()[3:]
    assert run("--user", "alice", "--rootfs", rootfs, "sh", "-c", "echo $HOME").stdout == "/home/alice\n"


# --- 3.4 powerless outside --------------------------------------------------------------------------------------------


def test_3_4_root_inside_cannot_read_the_hosts_shadow(run: Run) -> None:
    with pytest.raises(PermissionError):
        Path("/etc/shadow").read_text()
    assert run("host", "--", "id", "-u").stdout == "0\n"
    told = run("--privileged", "host", "--", "cat", "/etc/shadow")
    assert told.exit_code == 1
    assert told.stdout == ""
    assert "Permission denied" in told.stderr
    brought = run(
        "--privileged", "-v", "/etc:/host-etc", "host", "--", "sh", "-c", "cat /host-etc/shadow; touch /host-etc/x"
    )
    assert brought.stdout == ""
    assert brought.stderr.count("Permission denied") == 2


def test_3_4_root_inside_cannot_reboot_the_host(run: Run) -> None:
    # CAD_OFF changes nothing but asks for the same right (reboot(2)); all capabilities, no filter
    script = "import ctypes; libc = ctypes.CDLL(None, use_errno=True);print(libc.reboot(0), ctypes.get_errno())"
    for flags in ((), ("--privileged",), ("--cap-add", "sys_boot"), ("--security-opt", "seccomp=unconfined")):
        told = run(*flags, "host", "--", "/usr/bin/python3", "-c", script)
        assert told.stdout.split()[0] == "-1", (flags, told)


def test_3_4_root_inside_cannot_signal_or_see_processes_of_the_host(rootfs: Path, box: OpenBox) -> None:
    sleeper = subprocess.Popen(("sleep", "100"))
    try:
        inside = box("--pid", "host", "--userns", "auto", "--cap-add", "all", "host")
        assert "not permitted" in inside.ask(f"kill -9 {sleeper.pid}")
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


# --- 3.5 podman's spellings -------------------------------------------------------------------------------------------


def test_3_5_userns_auto_with_a_mapping_gives_that_id_and_a_range(rootfs: Path, box: OpenBox, account: Account) -> None:
    # podman reads the middle number as a position in the caller's ids where it is rootless: 0 is the caller
    inside = box("--userns", "auto:uidmapping=0:0:1,gidmapping=0:0:1", "--rootfs", rootfs)
    rows = id_map(inside.proc("uid_map"))
    assert rows[0] == (0, account.uid, 1)
    assert all(account.owns(outside) for _, outside, _ in rows)
    assert inside.ask("id -u") == "0"


def test_3_5_userns_auto_takes_the_callers_own_id_by_its_number_as_well(
    rootfs: Path, box: OpenBox, account: Account
) -> None:
    inside = box("--userns", f"auto:uidmapping=0:{account.uid}:1", "--rootfs", rootfs)
    assert (0, 1) in [(first, size) for first, _, size in id_map(inside.proc("uid_map"))]
    assert inside.ask("id -u") == "0"


def test_3_5_keep_id_is_the_caller_on_both_sides(rootfs: Path, box: OpenBox, account: Account) -> None:
    inside = box("--userns", "keep-id", "--rootfs", rootfs)
    assert inside.ask("id -u; id -g").split() == [str(account.uid), str(account.gid)]
    assert inside.status("Uid").split() == [str(account.uid)] * 4
    row = next(row for row in id_map(inside.proc("uid_map")) if row[0] == account.uid)
    assert row == (account.uid, account.uid, 1)
    inside.ask("touch /tmp/kept")
    assert (rootfs / "tmp/kept").stat().st_uid == account.uid


def test_3_5_keep_id_takes_another_number(rootfs: Path, box: OpenBox, account: Account) -> None:
    inside = box("--userns", "keep-id:uid=1000,gid=1000", "--rootfs", rootfs)
    assert inside.ask("id") == "uid=1000(alice) gid=1000(alice) groups=1000(alice)"
    assert inside.status("Uid").split() == [str(account.uid)] * 4


def test_3_5_nomap_leaves_the_caller_out(run: Run, box: OpenBox, account: Account) -> None:
    inside = box("--userns", "nomap", "host")
    assert inside.ask("id -u") == "0"
    assert account.uid not in outside_ids(inside)
    assert inside.status("Uid").split()[0] != str(account.uid)


def test_3_5_maps_are_positions_in_the_callers_ids(rootfs: Path, box: OpenBox, account: Account) -> None:
    start = account.ranges[0][0]
    inside = box("--uidmap", "0:5:10", "--uidmap", "10:0:1", "--gidmap", "0:5:10", "host")
    assert sorted(id_map(inside.proc("uid_map"))) == [(0, start + 4, 10), (10, account.uid, 1)]
    other = box("--uidmap", f"0:@{account.uid}:1", "--gidmap", f"0:@{account.gid}:1", "host")
    assert id_map(other.proc("uid_map")) == [(0, account.uid, 1)]


def test_3_5_capabilities_are_added_in_podmans_spelling(rootfs: Path, run: Run) -> None:
    for name in ("NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_net_admin"):
        told = run("--cap-add", name, "--rootfs", rootfs, "sh", "-c", "ip link set lo down && echo done")
        assert told.stdout == "done\n", told
    assert "done" not in run("--rootfs", rootfs, "sh", "-c", "ip link set lo down && echo done").stdout


def test_3_5_a_device_of_the_host_is_brought_in(rootfs: Path, box: OpenBox) -> None:
    assert os.path.exists("/dev/fuse")
    inside = box("--device", "/dev/fuse", "--device", "/dev/zero:/dev/nought:rwm", "--rootfs", rootfs)
    number = os.stat("/dev/fuse").st_rdev
    assert os.stat(f"/proc/{inside.pid}/root/dev/fuse").st_rdev == number
    assert inside.ask("dd if=/dev/nought bs=4 count=1 2>/dev/null | od -An -tx1").split() == ["00"] * 4
    assert inside.ask("test -c /dev/fuse && echo device") == "device"
    assert "fuse" not in box("--rootfs", rootfs).ask("ls /dev")


# --- 3.6 a range of its own -------------------------------------------------------------------------------------------


def test_3_6_two_containers_with_auto_never_share_a_host_uid(rootfs: Path, box: OpenBox, account: Account) -> None:
    first = box("--userns", "auto:size=1000", "host")
    second = box("--userns", "auto:size=1000", "host")
    third = box("--userns", "auto", "host")
    sets = [outside_ids(each) for each in (first, second, third)]
    assert len(sets[0]) == len(sets[1]) == 1000
    assert not sets[0] & sets[1]
    assert not (sets[0] | sets[1]) & sets[2]
    assert all(account.owns(uid) and uid != account.uid for each in sets for uid in each)
    assert [each.ask("id -u") for each in (first, second, third)] == ["0"] * 3
    assert int(first.status("Uid").split()[0]) in sets[0]


def test_3_6_a_range_is_given_back_when_its_container_is_removed(box: OpenBox) -> None:
    first = box("--userns", "auto:size=60000", "host")
    taken = outside_ids(first)
    first.close()
    again = box("--userns", "auto:size=60000", "host")
    assert outside_ids(again) == taken


def test_3_6_when_no_range_is_left_the_refusal_says_so(box: OpenBox, run: Run) -> None:
    box("--userns", "auto:size=60000", "host")
    told = run("--userns", "auto:size=60000", "host", "--", "true")
    assert told.exit_code == 125
    assert "subordinate" in told.stderr or "ids" in told.stderr, told


# --- 3.7 files of many ids --------------------------------------------------------------------------------------------


def test_3_7_an_image_whose_files_belong_to_many_ids_keeps_them(
    jubako: Command, busybox_rootfs: Path, tmp_path: Path, run: Run, account: Account
) -> None:
    def owned(entry: archives.tarfile.TarInfo) -> archives.tarfile.TarInfo:
        if entry.name.startswith("home/alice"):
            entry.uid = entry.gid = 1000
        return entry

    saved = archives.write_docker_archive(
        tmp_path / "many.tar", [archives.layer(busybox_rootfs, owned)], ["many:latest"]
    )
    jubako("load", "-i", saved, check=True)
    try:
        told = run("many", "stat", "-c", "%u:%g %n", "/home/alice", "/bin/busybox", check=True)
        assert told.lines == ["1000:1000 /home/alice", "0:0 /bin/busybox"]
        made = run("--user", "alice", "many", "sh", "-c", "echo mine > ~/file && stat -c %u ~/file", check=True)
        assert made.stdout == "1000\n"
        moved = run("--userns", "auto", "many", "stat", "-c", "%u:%g %n", "/home/alice", "/bin/busybox", check=True)
        assert moved.lines == ["1000:1000 /home/alice", "0:0 /bin/busybox"]
    finally:
        jubako("rmi", "many", check=True)
    storage = jubako("info", "--json", check=True).json["storage"]
    assert any(word in str(storage) for word in ("overlay", "fuse-overlayfs", "copy"))


# --- as the host's root -----------------------------------------------------------------------------------------------


@pytest.fixture
def open_tmp(tmp_path: Path) -> Path:
    """The test's directory, which ids of containers may pass through."""
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o711)
    return tmp_path


@pytest.mark.root
def test_3_7_as_root_the_containers_root_is_not_the_hosts_root(jubako: Command, rootfs: Path, open_tmp: Path) -> None:
    inside = open_box(jubako, "--rootfs", rootfs)
    try:
        assert inside.ask("id -u") == "0"
        uid = int(inside.status("Uid").split()[0])
        assert uid >= 65536, "a private high range"
        rows = id_map(inside.proc("uid_map"))  # as many ids as there are: not to be listed one by one
        assert min(outside for _, outside, _ in rows) > 0
        assert rows[0][:2] == (0, uid)
        assert inside.namespace("user") != own("user")
    finally:
        inside.close()


@pytest.mark.root
def test_3_7_as_root_a_rootfs_is_shown_through_an_id_mapped_mount(
    jubako: Command, rootfs: Path, open_tmp: Path
) -> None:
    os.chown(rootfs / "home/alice", 1000, 1000)
    inside = open_box(jubako, "--rootfs", rootfs)
    try:
        assert inside.ask("stat -c %u:%g /home/alice /bin/busybox").split() == ["1000:1000", "0:0"]
        inside.ask("touch /made; su alice -c 'touch /home/alice/made'")
        # without chown: on disk the owners are the ids as the container sees them
        assert (rootfs / "made").stat().st_uid == 0
        assert (rootfs / "home/alice/made").stat().st_uid == 1000
        assert "idmapped" in inside.proc("mountinfo").splitlines()[0]
    finally:
        inside.close()


@pytest.mark.root
def test_3_7_as_root_files_in_a_volume_keep_their_owners(jubako: Command, rootfs: Path, open_tmp: Path) -> None:
    (open_tmp / "volume").mkdir(mode=0o777)
    (open_tmp / "volume/given").write_text("")
    os.chown(open_tmp / "volume/given", 1234, 1234)
    script = "stat -c %u /v/given; touch /v/made; stat -c %u /v/made"
    told = jubako("run", "--rm", "-v", f"{open_tmp}/volume:/v", "--rootfs", rootfs, "sh", "-c", script, check=True)
    assert told.stdout.split() == ["1234", "0"]
    assert (open_tmp / "volume/made").stat().st_uid == 0
    assert (open_tmp / "volume/given").stat().st_uid == 1234


@pytest.mark.root
def test_3_7_as_root_the_host_image_does_not_show_what_only_root_may_read(jubako: Command) -> None:
    told = jubako("run", "--rm", "host", "--", "cat", "/etc/shadow")
    assert told.stdout == ""
    assert "Permission denied" in told.stderr
    secret = Path("/root/.jubako-test-secret")
    secret.write_text("secret")
    try:
        told = jubako("run", "--rm", "host", "--", "ls", "-A", "/root")
        assert "secret" not in told.stdout
    finally:
        secret.unlink()


@pytest.mark.root
def test_3_7_as_root_with_userns_host_the_containers_root_is_the_hosts(
    jubako: Command, rootfs: Path, open_tmp: Path
) -> None:
    inside = open_box(jubako, "--userns", "host", "--rootfs", rootfs)
    try:
        assert inside.namespace("user") == own("user")
        assert inside.status("Uid").split() == ["0"] * 4
        inside.ask("touch /made")
        assert (rootfs / "made").stat().st_uid == 0
        assert "Permission denied" not in inside.ask("ls /root")
    finally:
        inside.close()


@pytest.mark.root
def test_3_7_as_root_two_containers_with_auto_share_no_uid(jubako: Command) -> None:
    first = open_box(jubako, "--userns", "auto:size=1000", "host")
    second = open_box(jubako, "--userns", "auto:size=1000", "host")
    try:
        assert not outside_ids(first) & outside_ids(second)
        assert 0 not in outside_ids(first) | outside_ids(second)
    finally:
        first.close()
        second.close()


def test_3_7_a_throw_away_layer_lets_root_inside_change_files_of_the_caller(rootfs: Path, run: Run) -> None:
    before = (rootfs / "test.txt").read_text()
    script = (
        "echo changed > /test.txt; rm -r /home/alice; chown 1000 /etc/passwd; cat /test.txt; stat -c %u /etc/passwd"
    )
    assert run("--rootfs", f"{rootfs}:O", "sh", "-c", script, check=True).stdout.split() == ["changed", "1000"]
    assert (rootfs / "test.txt").read_text() == before
    assert (rootfs / "home/alice").is_dir()


def test_3_7_files_that_containers_made_can_be_removed_by_their_user(tmp_path: Path, rootfs: Path, run: Run) -> None:
    made = tmp_path / "made"
    made.mkdir()
    run("-v", f"{made}:/made", "--rootfs", rootfs, "sh", "-c", "mkdir /made/d; touch /made/d/f; chown -R 1000 /made/d")
    with pytest.raises(PermissionError):
        shutil.rmtree(made / "d")
    remove_tree(made)
    assert not made.exists()
