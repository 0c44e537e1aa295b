"""`-v`, `--mount`, `--tmpfs` and `--device` in docker's and podman's spellings."""

from __future__ import annotations

from pathlib import Path

import pytest

from jubako.engine.parse.mounts import parse_device, parse_mount, parse_tmpfs, parse_volume, split_fields
from jubako.errors import UsageError
from jubako.spec.types import Mount

HERE = "/home/me/project"
BIND = ("rbind", "rprivate")
TMPFS = ("nosuid", "nodev", "noexec")

VOLUMES = [
    ("/src:/dst", Mount("/dst", "bind", "/src", BIND)),
    ("/src/:/dst//deep/./er/", Mount("/dst/deep/er", "bind", "/src", BIND)),
    (".:/dst", Mount("/dst", "bind", HERE, BIND)),
    ("./sub:/dst", Mount("/dst", "bind", f"{HERE}/sub", BIND)),
    ("/src:/dst:ro", Mount("/dst", "bind", "/src", ("rbind", "ro", "rprivate"))),
    ("/src:/dst:rw,Z", Mount("/dst", "bind", "/src", ("rbind", "rw", "rprivate"))),
    ("/src:/dst:z,cached", Mount("/dst", "bind", "/src", BIND)),
    ("/src:/dst:rslave,nosuid", Mount("/dst", "bind", "/src", ("rbind", "rslave", "nosuid"))),
    ("/src:/dst:bind,noexec,nodev", Mount("/dst", "bind", "/src", ("bind", "noexec", "nodev", "rprivate"))),
    ("/src:/dst:O", Mount("/dst", "overlay", "/src")),
    ("/src:/dst:O,noexec", Mount("/dst", "overlay", "/src", ("noexec",))),
    ("/src:/dst:", Mount("/dst", "bind", "/src", BIND)),
]


@pytest.mark.parametrize(("value", "mount"), VOLUMES, ids=[value for value, _ in VOLUMES])
def test_a_volume_is_a_bind_recursive_and_private_unless_asked_otherwise(value: str, mount: Mount) -> None:
    assert parse_volume(value, HERE) == mount


def test_a_source_above_the_directory_is_resolved_by_the_file_system(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/deep")
    mount = parse_volume("./link/..:/dst", str(tmp_path))
    assert mount.source == str(tmp_path.resolve() / "real")


WRONG_VOLUMES = [
    ("/src:dst", "the target 'dst' must be an absolute path in the container"),
    ("/src:./dst", "the target './dst' must be an absolute path in the container"),
    ("/src:/dst/../etc", "the target '/dst/../etc' must not contain '..'"),
    ("/src:/..", "the target '/..' must not contain '..'"),
    ("/src:/", "the container's root cannot be a target"),
    ("/src:", "the target in the container is missing"),
    (":/dst", "the source on the host is missing"),
    ("", "the target in the container is missing"),
    ("/a:/b:/c:ro", "there are more than two colons"),
    ("data:/dst", "named volumes are not supported yet"),
    ("sub/dir:/dst", "named volumes are not supported yet"),
    ("/dst", "anonymous volumes are not supported yet"),
    ("/src:/dst:r0", "there is no option 'r0'"),
    ("/src:/dst:ro,rw", "ro and rw exclude one another"),
    ("/src:/dst:slave,rshared", "slave and rshared exclude one another"),
    ("/src:/dst:bind,rbind", "bind and rbind exclude one another"),
    ("/src:/dst:U", "jubako does not change the owners of your files"),
    ("/src:/dst:idmap", "id-mapped binds are not supported yet"),
    ("/src:/dst:O,ro", "O makes a throw-away layer"),
    ("/src:/dst\0", "a path cannot hold a NUL character"),
]


@pytest.mark.parametrize(("value", "reason"), WRONG_VOLUMES, ids=[value or "(empty)" for value, _ in WRONG_VOLUMES])
def test_a_volume_that_cannot_be_is_refused_with_its_value_and_the_reason(value: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_volume(value, HERE)
    assert str(caught.value).startswith(f"read --volume {value!r}: {reason}")


def test_a_name_that_looks_like_a_path_gets_the_path_as_hint() -> None:
    with pytest.raises(UsageError) as caught:
        parse_volume("sub/dir:/dst", HERE)
    assert caught.value.hint == "give a path: ./sub/dir"


MOUNTS = [
    ("type=bind,source=/src,target=/dst", Mount("/dst", "bind", "/src", BIND)),
    ("type=bind,src=/src,dst=/dst,readonly", Mount("/dst", "bind", "/src", ("rbind", "ro", "rprivate"))),
    ("type=bind,src=.,destination=/dst,ro=false", Mount("/dst", "bind", HERE, ("rbind", "rw", "rprivate"))),
    ("type=bind,src=/s,dst=/d,rw=false", Mount("/d", "bind", "/s", ("rbind", "ro", "rprivate"))),
    ("type=bind,src=/s,dst=/d,bind-propagation=rshared", Mount("/d", "bind", "/s", ("rbind", "rshared"))),
    ("type=bind,src=/s,dst=/d,bind-nonrecursive", Mount("/d", "bind", "/s", ("bind", "rprivate"))),
    ("type=bind,src=/s,dst=/d,bind-recursive=disabled", Mount("/d", "bind", "/s", ("bind", "rprivate"))),
    ("type=bind,src=/s,dst=/d,relabel=shared,consistency=cached", Mount("/d", "bind", "/s", BIND)),
    ('type=bind,"src=/a,b",dst=/d', Mount("/d", "bind", "/a,b", BIND)),
    ("type=bind,src=/a:b,dst=/d", Mount("/d", "bind", "/a:b", BIND)),
    ("type=tmpfs,dst=/t", Mount("/t", "tmpfs", "tmpfs", (*TMPFS, "mode=1777"))),
    (
        "type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=0700",
        Mount("/t", "tmpfs", "tmpfs", (*TMPFS, "size=67108864", "mode=700")),
    ),
    (
        "type=tmpfs,dst=/t,exec,ro",
        Mount("/t", "tmpfs", "tmpfs", ("nosuid", "nodev", "exec", "ro", "mode=1777")),
    ),
    (
        "type=devpts,destination=/pts,max=8,mode=600",
        Mount("/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0600", "max=8")),
    ),
    ("type=mqueue,dst=/mq", Mount("/mq", "mqueue", "mqueue", ("nosuid", "nodev", "noexec"))),
]


@pytest.mark.parametrize(("value", "mount"), MOUNTS, ids=[value for value, _ in MOUNTS])
def test_a_mount_is_read_in_both_spellings(value: str, mount: Mount) -> None:
    assert parse_mount(value, HERE) == mount


WRONG_MOUNTS = [
    ("type=bind,src=/s", "the target in the container is missing"),
    ("type=bind,dst=/d", "the source on the host is missing"),
    ("type=bind,src=/s,dst=d", "the target 'd' must be an absolute path"),
    ("type=bind,src=/s,dst=/d,colour=red", "there is no option 'colour=red'"),
    ("type=bind,src=/s,dst=/d,readonly=maybe", "'maybe' is neither true nor false"),
    ("type=bind,src=/s,dst=/d,bind-propagation=up", "'up' is no propagation"),
    ("type=bind,src=/s,dst=/d,bind-recursive=readonly", "bind-recursive=readonly is not supported"),
    ("type=bind,src=/s,dst=/d,tmpfs-size=1", "there is no option 'size=1'"),
    ("src=/s,dst=/d", "named volumes are not supported yet"),
    ("type=volume,src=s,dst=/d", "named volumes are not supported yet"),
    ("type=image,src=s,dst=/d", "there is no type 'image'"),
    ("type=tmpfs,src=/s,dst=/d", "type tmpfs has no source"),
    ("type=tmpfs,dst=/d,tmpfs-size=big", "'big' is not a size"),
    ("type=tmpfs,dst=/d,tmpfs-mode=999", "'999' is not an octal mode"),
    ("type=tmpfs,dst=/d,tmpcopyup", "there is no option 'tmpcopyup'"),
    ("type=mqueue,dst=/d,size=5", "there is no option 'size=5'"),
    ('type=bind,"src=/s', "a double quote is not closed"),
]


@pytest.mark.parametrize(("value", "reason"), WRONG_MOUNTS, ids=[value for value, _ in WRONG_MOUNTS])
def test_a_mount_that_cannot_be_is_refused_with_its_value_and_the_reason(value: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_mount(value, HERE)
    assert str(caught.value).startswith(f"read --mount {value!r}: {reason}")


TEMPORARY = [
    ("/run", Mount("/run", "tmpfs", "tmpfs", (*TMPFS, "mode=1777"))),
    ("/run:size=64m,mode=1777", Mount("/run", "tmpfs", "tmpfs", (*TMPFS, "size=67108864", "mode=1777"))),
    ("/run:size=50%", Mount("/run", "tmpfs", "tmpfs", (*TMPFS, "size=50%", "mode=1777"))),
    (
        "/run:rw,exec,suid,uid=5,gid=6",
        Mount("/run", "tmpfs", "tmpfs", ("nodev", "rw", "exec", "suid", "uid=5", "gid=6", "mode=1777")),
    ),
    ("/run:noexec", Mount("/run", "tmpfs", "tmpfs", (*TMPFS, "mode=1777"))),
]


@pytest.mark.parametrize(("value", "mount"), TEMPORARY, ids=[value for value, _ in TEMPORARY])
def test_a_tmpfs_is_nosuid_nodev_noexec_unless_asked_otherwise(value: str, mount: Mount) -> None:
    assert parse_tmpfs(value) == mount


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("run", "the target 'run' must be an absolute path"),
        ("/run:size=", "'' is not a size"),
        ("/run:mode=8", "'8' is not an octal mode"),
        ("/run:uid=-1", "'-1' is not a whole number from 0"),
        ("/run:exec,noexec", "noexec and exec exclude one another"),
        ("/run:bogus", "there is no option 'bogus'"),
    ],
)
def test_a_tmpfs_that_cannot_be_is_refused(value: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_tmpfs(value)
    assert str(caught.value).startswith(f"read --tmpfs {value!r}: {reason}")


@pytest.mark.parametrize(
    ("value", "source", "target"),
    [
        ("/dev/fuse", "/dev/fuse", "/dev/fuse"),
        ("/dev/fuse:/dev/x", "/dev/fuse", "/dev/x"),
        ("/dev/fuse:rwm", "/dev/fuse", "/dev/fuse"),
        ("/dev/fuse:/dev/x:rw", "/dev/fuse", "/dev/x"),
    ],
)
def test_a_device_is_the_hosts_own_node(value: str, source: str, target: str) -> None:
    mount = parse_device(value)
    assert (mount.type, mount.source, mount.destination) == ("bind", source, target)
    assert "dev" in mount.options
    assert "nodev" not in mount.options


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("fuse", "must be SOURCE[:TARGET][:rwm] with an absolute SOURCE"),
        ("/dev/a:/dev/b:rw:m", "must be SOURCE[:TARGET][:rwm] with an absolute SOURCE"),
        ("/dev/fuse:x", "permissions 'x' must be some of r, w and m"),
        ("/dev/fuse:rr", "permissions 'rr' must be some of r, w and m"),
        ("/dev/fuse:r", "without a device controller, access cannot be narrowed"),
        ("/dev/fuse:/dev/../etc/passwd", "the target '/dev/../etc/passwd' must not contain '..'"),
        ("vendor.com/gpu=0", "devices of the Container Device Interface are not supported"),
    ],
)
def test_a_device_that_cannot_be_is_refused(value: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_device(value)
    assert str(caught.value).startswith(f"read --device {value!r}: {reason}")


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("a,b", ["a", "b"]),
        ('"a,b",c', ["a,b", "c"]),
        ('"say ""hi""",c', ['say "hi"', "c"]),
        ("a,,b", ["a", "", "b"]),
        ('a"b,c', ['a"b', "c"]),
    ],
)
def test_fields_are_split_as_csv(text: str, fields: list[str]) -> None:
    assert split_fields(text) == fields
