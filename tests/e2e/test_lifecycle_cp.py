"""Copying files in and out of containers, also of those that would like the copy to go elsewhere."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from world.command import Command


@pytest.fixture(autouse=True)
def _removed(jubako: Command):
    yield
    jubako("rm", "--all", "--force", check=True)


@pytest.fixture
def web(jubako: Command, busybox_rootfs: Path, tmp_path: Path) -> str:
    """A running container with a layer of its own and a volume at /volume."""
    (tmp_path / "volume").mkdir()
    flags = ("--name", "web", "--stop-timeout", "0", "-v", f"{tmp_path}/volume:/volume")
    jubako("run", "-d", *flags, "--rootfs", f"{busybox_rootfs}:O", "sleep", "600", check=True)
    return "web"


def inside(jubako: Command, script: str) -> str:
    return jubako("exec", "web", "sh", "-c", script, check=True).stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "sub/deep").mkdir(parents=True)
    (top / "file").write_text("text\n")
    (top / "sub/program").write_text("#!/bin/sh\necho ran\n")
    (top / "sub/program").chmod(0o755)
    (top / "link").symlink_to("sub/program")
    (top / "absolute").symlink_to("/etc/passwd")
    os.link(top / "file", top / "hard")
    os.utime(top / "file", (1_000_000_000, 1_000_000_000))
    (top / "sub/deep").chmod(0o500)
    return top


def test_a_tree_goes_in_and_comes_out_as_it_was(jubako, web, tree, tmp_path):
    jubako("cp", tree, f"{web}:/srv", check=True)
    assert inside(jubako, "cd /srv && ls -1 && stat -c '%u:%g %a %Y' file && ./link") == (
        "absolute\nfile\nhard\nlink\nsub\n0:0 644 1000000000\nran\n"
    )
    shown = inside(jubako, "cd /srv; readlink absolute; readlink link; stat -c %h file; stat -c %a sub/deep")
    assert shown.split() == ["/etc/passwd", "sub/program", "2", "500"]
    jubako("cp", f"{web}:/srv", tmp_path / "back", check=True)
    assert subprocess.run(("diff", "-r", "--no-dereference", tree, tmp_path / "back")).returncode == 0
    copied = (tmp_path / "back/file").stat()
    assert (copied.st_uid, copied.st_mtime, copied.st_nlink) == (os.getuid(), 1_000_000_000, 2)
    for path in (tmp_path / "back/sub/deep", tree / "sub/deep"):
        path.chmod(0o700)


def test_names_follow_dockers_rules(jubako, web, tree, tmp_path):
    inside(jubako, "mkdir /into")
    jubako("cp", tree / "file", "web:/into", check=True)
    jubako("cp", tree / "file", "web:/into/other", check=True)
    jubako("cp", tree, "web:/into/", check=True)
    jubako("cp", f"{tree}/.", "web:/into/contents", check=True)
    assert inside(jubako, "ls /into").split() == ["contents", "file", "other", "tree"]
    assert inside(jubako, "ls /into/contents").split() == ["absolute", "file", "hard", "link", "sub"]
    out = tmp_path / "out"
    out.mkdir()
    jubako("cp", "web:/into/file", out, check=True)
    jubako("cp", "web:/into/contents/.", out, check=True)
    jubako("cp", "web:/into/contents/sub/program", out / "renamed", check=True)
    assert sorted(path.name for path in out.iterdir()) == [
        "absolute", "file", "hard", "link", "renamed", "sub",
    ]  # fmt: skip
    for source, target in (
        ("web:/no/such", out),
        (tmp_path / "nothing", "web:/"),
        (tree / "file", "web:/no/such/place"),
        (tree / "file", "web:/missing/"),
        (tree, "web:/into/file"),
        ("web:/into", out / "file"),
        ("web:/a", "web:/b"),
        (tree, out),
        (tree, "nobody:/"),
    ):
        result = jubako("cp", source, target)
        assert result.exit_code == 125, (source, target)
        assert result.stderr.startswith("jubako: "), (source, target)
        assert "this should not happen" not in result.stderr
    for path in (tree / "sub/deep", out / "sub/deep"):
        path.chmod(0o700)


def test_tar_streams_go_both_ways(jubako, web, tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo("dir/file")
        member.size, member.uid, member.gid = 3, 7, 8
        archive.addfile(member, io.BytesIO(b"abc"))
    jubako("cp", "-", "web:/tmp", input=stream.getvalue(), check=True)
    assert inside(jubako, "cat /tmp/dir/file; stat -c ' %u:%g' /tmp/dir/file") == "abc 7:8\n"
    with open(tmp_path / "out.tar", "wb") as target:
        subprocess.run(jubako.argv("cp", "web:/tmp/dir", "-"), stdout=target, check=True)
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert archive.getnames() == ["dir", "dir/file"]
        assert (archive.getmember("dir/file").uid, archive.getmember("dir/file").gid) == (7, 8)
    assert jubako("cp", "-", "web:/tmp", input=b"no archive" * 100).exit_code == 125


def test_archive_mode_keeps_owners_and_a_link_is_followed_when_asked(jubako, web, tree, tmp_path):
    jubako("cp", "-a", tree / "file", "web:/tmp/kept", check=True)
    assert inside(jubako, "stat -c %u /tmp/kept") == f"{os.getuid()}\n"
    jubako("cp", tree / "link", "web:/tmp/", check=True)
    assert inside(jubako, "readlink /tmp/link") == "sub/program\n"
    jubako("cp", "-L", tree / "link", "web:/tmp/followed", check=True)
    assert inside(jubako, "sh /tmp/followed") == "ran\n"
    inside(jubako, "ln -s /etc/passwd /tmp/users")
    jubako("cp", "-L", "web:/tmp/users", tmp_path / "users", check=True)
    assert (tmp_path / "users").read_text().startswith("root:x:0:0:root:/root:/bin/sh\ndaemon")
    (tree / "sub/deep").chmod(0o700)


def test_volumes_are_seen_and_a_mounted_file_is_written_in_place(jubako, web, tmp_path):
    (tmp_path / "new").write_text("127.0.0.1 here\n")
    jubako("cp", tmp_path / "new", "web:/volume/new", check=True)
    assert (tmp_path / "volume/new").read_text() == "127.0.0.1 here\n"
    jubako("cp", tmp_path / "new", "web:/etc/hosts", check=True)
    assert inside(jubako, "cat /etc/hosts") == "127.0.0.1 here\n"


def test_a_container_that_does_not_run_gives_and_takes_files_of_its_layer(jubako, web, tree, tmp_path):
    inside(jubako, "echo made > /root/made; chown 3:4 /root/made")
    jubako("stop", web, check=True)
    jubako("cp", "web:/root/made", tmp_path / "made", check=True)
    assert (tmp_path / "made").read_text() == "made\n"
    jubako("cp", tree / "file", "web:/root/given", check=True)
    refused = jubako("cp", tree / "file", "web:/volume/hidden")
    assert refused.exit_code == 125
    assert "volume" in refused.stderr
    jubako("start", web, check=True)
    assert inside(jubako, "cat /root/given; stat -c %u /root/given; stat -c %u:%g /root/made") == "text\n0\n3:4\n"
    (tree / "sub/deep").chmod(0o700)


def test_a_container_never_started_has_its_files_already(jubako, busybox_rootfs, tmp_path):
    jubako("create", "--name", "web", "--rootfs", f"{busybox_rootfs}:O", "cat", "/given", check=True)
    (tmp_path / "given").write_text("given\n")
    jubako("cp", tmp_path / "given", "web:/given", check=True)
    jubako("cp", "web:/test.txt", tmp_path / "test.txt", check=True)
    assert (tmp_path / "test.txt").read_text() == (busybox_rootfs / "test.txt").read_text()
    assert jubako("start", "-a", "web").stdout == "given\n"


def test_links_of_a_container_lead_nowhere_outside_of_it(jubako, web, tmp_path):
    """CVE-2018-15664: docker's cp followed what the container had put in the way."""
    secret = tmp_path / "secret"
    secret.write_text("of the host\n")
    outside = tmp_path / "outside"
    outside.mkdir()
    inside(
        jubako,
        f"mkdir -p /tmp/a; ln -s {secret} /tmp/a/stolen; ln -s {outside} /tmp/door; ln -s ../../../../.. /tmp/up",
    )
    for source in ("web:/tmp/a/stolen", f"web:/tmp/up{secret}", f"web:{secret}", "web:/proc/1/root/tmp"):
        result = jubako("cp", "-L", source, tmp_path / "got")
        assert result.exit_code == 125, source
        assert not os.path.lexists(tmp_path / "got")
    (tmp_path / "file").write_text("x")
    result = jubako("cp", tmp_path / "file", "web:/tmp/door/file")
    assert result.exit_code == 125
    assert list(outside.iterdir()) == []
    inside(jubako, f"mkdir -p {outside}")
    jubako("cp", tmp_path / "file", "web:/tmp/door/file", check=True)
    assert list(outside.iterdir()) == []
    assert inside(jubako, f"cat {outside}/file") == "x"


def test_a_link_in_the_way_of_what_comes_out_is_not_followed(jubako, web, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    target = tmp_path / "target"
    (target / "dir").mkdir(parents=True)
    (target / "dir/sub").symlink_to(outside)
    (target / "dir/kept").symlink_to(outside / "kept")
    inside(jubako, "mkdir -p /tmp/dir/sub; echo evil > /tmp/dir/sub/file; echo evil > /tmp/dir/kept")
    result = jubako("cp", "web:/tmp/dir", target)
    assert result.exit_code == 125
    assert sorted(path.name for path in outside.iterdir()) == ["kept"]
    assert (outside / "kept").read_text() == "kept"


def test_an_archive_cannot_climb_out_of_its_target(jubako, web):
    def packed(*members: tuple[str, bytes, str]) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name, kind, link in members:
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, link
                archive.addfile(member)
        return stream.getvalue()

    for hostile in (
        packed(("../climbed", tarfile.REGTYPE, "")),
        packed(("door", tarfile.SYMTYPE, "/root"), ("door/climbed", tarfile.REGTYPE, "")),
        packed(("hard", tarfile.LNKTYPE, "../../etc/passwd")),
    ):
        assert jubako("cp", "-", "web:/tmp", input=hostile).exit_code == 125
    assert inside(jubako, "find / -xdev -name climbed -o -xdev -name hard") == ""


def test_special_files_are_left_out_with_a_warning(jubako, web, tmp_path):
    inside(jubako, "mkdir /tmp/d; mkfifo /tmp/d/fifo; echo x > /tmp/d/file; chmod 6755 /tmp/d/file")
    jubako("cp", "web:/tmp/d", tmp_path, check=True)
    assert (tmp_path / "d/fifo").is_fifo()
    assert (tmp_path / "d/file").stat().st_mode & 0o7777 == 0o755
    result = jubako("cp", "web:/dev", tmp_path, check=True)
    assert "dev/null is a device" in result.stderr
    assert not (tmp_path / "dev/null").exists()


def test_a_copy_that_is_killed_leaves_no_process(jubako, web, tmp_path):
    inside(jubako, "mkfifo /tmp/x; rm /tmp/x; dd if=/dev/zero of=/tmp/big bs=1M count=64 2>/dev/null")
    copy = jubako.start("cp", "web:/tmp/big", "-")
    time.sleep(0.4)
    copy.kill()
    copy.wait(5)
    jubako("stop", "-t", "0", "web", check=True)


@pytest.fixture
def busybox(jubako: Command, docker_archive: Path):
    jubako("load", "-i", docker_archive, check=True)
    yield "busybox"
    jubako("rm", "--all", "--force", check=True)
    jubako("rmi", "busybox", check=True)


def test_distinct_ids_are_the_containers_own_on_both_ways(jubako, busybox, tmp_path):
    (tmp_path / "file").write_text("x")
    flags = ("--name", "web", "--userns", "auto", "--stop-timeout", "0")
    jubako("run", "-d", *flags, busybox, "sleep", "60", check=True)
    jubako("cp", tmp_path / "file", "web:/tmp/file", check=True)
    assert inside(jubako, "stat -c %u:%g /tmp/file; chown 5:6 /tmp/file") == "0:0\n"
    jubako("stop", "web", check=True)
    jubako("cp", tmp_path / "file", "web:/tmp/more", check=True)
    with open(tmp_path / "out.tar", "wb") as target:
        subprocess.run(jubako.argv("cp", "web:/tmp/file", "-"), stdout=target, check=True)
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert (archive.getmember("file").uid, archive.getmember("file").gid) == (5, 6)
    jubako("start", "web", check=True)
    assert inside(jubako, "stat -c %u:%g /tmp/more") == "0:0\n"


def test_the_layer_over_the_host_is_reached_while_it_does_not_run(jubako, program, tmp_path):
    program("fuse-overlayfs", "fuse-overlayfs")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is closed to this account")
    jubako("run", "--name", "web", "host:rw", "--", "sh", "-c", "echo made > /root/made", check=True)
    jubako("cp", "web:/root/made", tmp_path / "made", check=True)
    assert (tmp_path / "made").read_text() == "made\n"
    (tmp_path / "made").write_text("changed\n")
    jubako("cp", tmp_path / "made", "web:/root/made", check=True)
    jubako("cp", "web:/root/made", tmp_path / "again", check=True)
    assert (tmp_path / "again").read_text() == "changed\n"
