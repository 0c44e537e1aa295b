"""Archives made to harm: each gets one clear error and leaves the store and the machine as they were."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import JubakoError
from jubako.image.importing import import_
from jubako.image.ingest import Unpacking
from jubako.image.load import load
from jubako.image.resolve import resolve
from jubako.paths import Paths
from world import archives

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, data: bytes = b"", **fields: Any) -> Entry:
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Entry:
    return entry(name, type=kind, linkname=target)


def directory(name: str, **fields: Any) -> Entry:
    return entry(name, type=tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def layer(*entries: Entry, form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def things_in(paths: Paths) -> list[str]:
    """Every file of the store but the lock, unpacked trees as a whole."""
    found = []
    for top, names, files in os.walk(paths.data):
        names[:] = [name for name in names if name != "fs"]
        found += [os.path.join(top, name) for name in files if name != "lock"]
    return sorted(found) + sorted(os.listdir(f"{paths.data}/tmp") if os.path.isdir(f"{paths.data}/tmp") else [])


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """What a hostile archive would like to change or read."""
    path = tmp_path / "victim"
    path.mkdir()
    (path / "passwd").write_text("untouched")
    return path


HOSTILE: dict[str, tuple[Callable[[str], list[Entry]], str]] = {
    "a name that climbs": (lambda v: [entry("../../evil", b"x")], "leads outside"),
    "a name that climbs in the middle": (lambda v: [entry("a/../../evil", b"x")], "leads outside"),
    "a name that is only ..": (lambda v: [directory("..")], "leads outside"),
    "an absolute name": (lambda v: [entry(f"{v}/passwd", b"x")], "absolute"),
    "two slashes": (lambda v: [entry(f"/{v}/passwd", b"x")], "absolute"),
    "a symlink to the outside, then a file through it": (
        lambda v: [link("a", v), entry("a/passwd", b"x")],
        "symbolic link that leads outside",
    ),
    "a relative symlink to the outside": (
        lambda v: [link("a", "../" * 30 + v), entry("a/passwd", b"x")],
        "symbolic link that leads outside",
    ),
    "two symlinks that climb together": (
        lambda v: [directory("d"), link("d/up", ".."), link("out", "d/up/../.."), entry("out/x", b"x")],
        "symbolic link that leads outside",
    ),
    "a symlink to the outside, then a whiteout through it": (
        lambda v: [link("a", v), entry("a/.wh.passwd")],
        "symbolic link that leads outside",
    ),
    "symlinks in a circle": (lambda v: [link("a", "b"), link("b", "a"), entry("a/x")], "in circles"),
    "a magic link": (lambda v: [link("a", "/proc/self/root"), entry("a/tmp/evil", b"x")], "symbolic link"),
    "a hard link to the outside": (lambda v: [link("h", f"{v}/passwd", tarfile.LNKTYPE)], "absolute"),
    "a hard link that climbs": (lambda v: [link("h", "../" * 30 + v + "/passwd", tarfile.LNKTYPE)], "leads outside"),
    "a hard link through a symlink to the outside": (
        lambda v: [link("a", v), link("h", "a/passwd", tarfile.LNKTYPE)],
        "symbolic link that leads outside",
    ),
    "a hard link to nothing": (lambda v: [link("h", "no/such", tarfile.LNKTYPE)], "which the layer has not"),
    "a hard link to a directory": (lambda v: [directory("d"), link("h", "d", tarfile.LNKTYPE)], "which is no file"),
    "a hard link to itself": (lambda v: [entry("h"), link("h", "h", tarfile.LNKTYPE)], "to itself"),
    "a hard link to a whiteout": (lambda v: [entry(".wh.w"), link("h", "w", tarfile.LNKTYPE)], "which is no file"),
    "a character device": (lambda v: [entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)], "device node"),
    "a forged whiteout": (lambda v: [entry("w", type=tarfile.CHRTYPE, devmajor=0, devminor=0)], "device node"),
    "a block device": (lambda v: [entry("sda", type=tarfile.BLKTYPE, devmajor=8, devminor=0)], "device node"),
    "a whiteout of nothing": (lambda v: [entry(".wh.")], "whiteout of no name"),
    "a whiteout of .": (lambda v: [entry("d/.wh..")], "whiteout of no name"),
    "a whiteout of ..": (lambda v: [entry("d/.wh...")], "whiteout of no name"),
    "a file below a whiteout's name": (lambda v: [entry(".wh.d/f", b"x")], "whiteout stands where"),
    "a file in place of the root": (lambda v: [entry(".", b"x")], "the root itself"),
    "a file used as a directory": (lambda v: [entry("f", b"x"), entry("f/g", b"y")], "needs a directory"),
    "a uid beyond the map": (lambda v: [entry("f", uid=0x7FFF0000)], "uid 2147418112, which is beyond your map"),
    "a gid beyond the map": (lambda v: [entry("f", gid=0x7FFF0000)], "gid 2147418112, which is beyond your map"),
    "a negative uid": (lambda v: [entry("f", uid=-7)], "beyond your map|not a number"),
    "a name that no file system takes": (lambda v: [entry("n" * 300, b"x")], "ENAMETOOLONG"),
    "a path that no system call takes": (lambda v: [entry("d/" * 3000 + "f", b"x")], "ENAMETOOLONG"),
    "a symlink without a target": (lambda v: [link("l", "")], "ENOENT"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_layer_is_refused_and_changes_nothing(case: str, store: Paths, victim: Path, tmp_path: Path) -> None:
    make, reason = HOSTILE[case]
    form = tarfile.GNU_FORMAT if case == "a negative uid" else tarfile.PAX_FORMAT
    data = layer(entry("first", b"harmless"), *make(str(victim)), form=form)
    archive = archives.write_docker_archive(tmp_path / "hostile.tar", [data], ["hostile"])
    before = things_in(store)
    with pytest.raises(JubakoError, match=reason) as caught:
        load(store, str(archive))
    assert caught.value.exit_code == 125
    assert "hostile.tar, layer 1 of 1" in str(caught.value)
    assert things_in(store) == before
    assert sorted(os.listdir(victim)) == ["passwd"]
    assert (victim / "passwd").read_text() == "untouched"


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_root_file_system_is_refused_and_changes_nothing(
    case: str, store: Paths, victim: Path, tmp_path: Path
) -> None:
    make, reason = HOSTILE[case]
    form = tarfile.GNU_FORMAT if case == "a negative uid" else tarfile.PAX_FORMAT
    (tmp_path / "hostile.tar").write_bytes(layer(*make(str(victim)), form=form))
    before = things_in(store)
    with pytest.raises(JubakoError, match=reason):
        import_(store, str(tmp_path / "hostile.tar"), "hostile")
    assert things_in(store) == before
    assert (victim / "passwd").read_text() == "untouched"


def spoil(members: dict[str, bytes], name: str, change: Callable[[bytes], bytes]) -> None:
    found = next(key for key in members if key.startswith(name) or key.endswith(name))
    members[found] = change(members[found])


DAMAGED: dict[str, tuple[Callable[[dict[str, bytes]], Any], str]] = {
    "a layer with another digest": (
        lambda m: spoil(m, layer_name(m), lambda d: d[:-1] + bytes([d[-1] ^ 1])),
        "digest is|corrupt|cut off",
    ),
    "a layer that was compressed anew": (
        lambda m: spoil(m, layer_name(m), lambda d: d[:4] + b"\1" + d[5:]),
        "but the manifest says sha256:",
    ),
    "a layer of another size": (lambda m: spoil(m, layer_name(m), lambda d: d + b"x"), "bytes, but the manifest says"),
    "a configuration with another digest": (lambda m: spoil(m, config_name(m), lambda d: d + b" "), "its digest is"),
    "a manifest with another digest": (lambda m: spoil(m, manifest_name(m), lambda d: d + b" "), "its digest is"),
    "no layer": (lambda m: m.pop(layer_name(m)), "it has no blobs/sha256"),
    "no configuration": (lambda m: m.pop(config_name(m)), "it has no blobs/sha256"),
    "no index": (lambda m: m.pop("index.json"), "it holds no image"),
    "an index that is not JSON": (lambda m: m.update({"index.json": b"{"}), "index.json is not JSON"),
    "an index that is a list": (lambda m: m.update({"index.json": b"[]"}), "no list of manifests"),
    "an index without images": (lambda m: m.update({"index.json": b'{"manifests":[]}'}), "lists no image"),
    "a digest that is a path": (
        lambda m: m.update({"index.json": b'{"manifests":[{"digest":"sha256:../../../etc/passwd"}]}'}),
        "is not a sha256 digest",
    ),
    "a member outside": (lambda m: m.update({"../evil": b"x"}), "leads outside the archive"),
}  # fmt: skip


def manifest_name(members: dict[str, bytes]) -> str:
    return "blobs/" + json.loads(members["index.json"])["manifests"][0]["digest"].replace(":", "/")


def config_name(members: dict[str, bytes]) -> str:
    return "blobs/" + json.loads(members[manifest_name(members)])["config"]["digest"].replace(":", "/")


def layer_name(members: dict[str, bytes]) -> str:
    return "blobs/" + json.loads(members[manifest_name(members)])["layers"][0]["digest"].replace(":", "/")


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_oci_archive_is_refused_and_changes_nothing(case: str, store: Paths, tmp_path: Path) -> None:
    change, reason = DAMAGED[case]
    members = archives.oci_members([layer(entry("f", b"data"))], "damaged:1", None, True)
    change(members)
    archive = archives.write_tar(tmp_path / "damaged.tar", members)
    with pytest.raises(JubakoError, match=reason):
        load(store, str(archive))
    assert things_in(store) == []


def test_a_layer_whose_content_is_not_what_the_configuration_says_is_refused(store: Paths, tmp_path: Path) -> None:
    good, evil = layer(entry("f", b"good")), layer(entry("f", b"evil"))
    members = archives.oci_members([good], "x:1", None, False)
    manifest = json.loads(members[manifest_name(members)])
    digest = hashlib.sha256(evil).hexdigest()
    members[f"blobs/sha256/{digest}"] = evil
    manifest["layers"][0].update(digest="sha256:" + digest, size=len(evil))
    data = json.dumps(manifest).encode()
    digest = hashlib.sha256(data).hexdigest()
    members[f"blobs/sha256/{digest}"] = data
    index = json.loads(members["index.json"])
    index["manifests"][0].update(digest="sha256:" + digest, size=len(data))
    members["index.json"] = json.dumps(index).encode()
    with pytest.raises(JubakoError, match="the image's configuration says sha256:"):
        load(store, str(archives.write_tar(tmp_path / "x.tar", members)))
    assert things_in(store) == []


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_archive_is_refused_and_changes_nothing(
    store: Paths, tmp_path: Path, part: float, packed: bool
) -> None:
    import gzip

    data = archives.write_docker_archive(
        tmp_path / "whole.tar", [layer(entry("f", os.urandom(9000)))], ["x"]
    ).read_bytes()
    data = data.rstrip(b"\0")
    data = gzip.compress(data) if packed else data
    (tmp_path / "cut.tar").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(JubakoError, match=r"truncated|ends in the middle|cut off|it has no|its end mark"):
        load(store, str(tmp_path / "cut.tar"))
    assert things_in(store) == []


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x1f\x8b\x08junk", bytes(5000), os.urandom(3000)])
def test_what_is_no_archive_at_all_is_said_to_be_none(store: Paths, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(JubakoError, match=r"read .*file") as caught:
        load(store, str(tmp_path / "file"))
    assert caught.value.exit_code == 125
    assert things_in(store) == []


def test_a_configuration_of_wrong_types_names_the_field(store: Paths, tmp_path: Path) -> None:
    for field, value in {"Env": "A=1", "Cmd": [1], "Labels": ["x"], "User": 0, "Entrypoint": {"a": 1}}.items():
        archive = archives.write_docker_archive(tmp_path / "x.tar", [layer(entry("f"))], ["x"], {field: value})
        with pytest.raises(JubakoError, match=rf"config\.{field} "):
            load(store, str(archive))
    assert things_in(store) == []


def test_marks_that_only_an_overlay_may_set_are_left_out_with_a_warning(store: Paths, tmp_path: Path) -> None:
    info = directory("d")[0]
    info.pax_headers = {
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.user.containers.override_stat": "0:0:0755",
        "SCHILY.xattr.user.kept": "yes",
    }
    archive = archives.write_docker_archive(tmp_path / "x.tar", [layer((info, b""))], ["x"])
    (loaded,) = load(store, str(archive))
    (tree,) = resolve(store, "x").layers
    assert os.listxattr(f"{tree}/d") == ["user.kept"]
    assert any("user.overlay.opaque" in warning for warning in loaded.warnings)


def test_device_nodes_are_left_out_when_asked(store: Paths, tmp_path: Path) -> None:
    null = entry("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    archive = archives.write_docker_archive(tmp_path / "x.tar", [layer(null, entry("f"))], ["x"])
    (loaded,) = load(store, str(archive), unpacking=Unpacking(skip_devices=True))
    assert os.listdir(resolve(store, "x").layers[0]) == ["f"]
    assert loaded.warnings == ("device nodes were left out (first met at dev/null)",)


def test_owners_beyond_the_map_become_root_when_asked(store: Paths, tmp_path: Path) -> None:
    archive = archives.write_docker_archive(tmp_path / "x.tar", [layer(entry("f", uid=0x7FFF0000))], ["x"])
    (loaded,) = load(store, str(archive), unpacking=Unpacking(squash_ids=True))
    assert loaded.warnings == ("1 files of other owners were given to root",)


def test_a_symlink_that_stays_inside_may_be_gone_through(store: Paths, tmp_path: Path) -> None:
    data = layer(directory("usr"), directory("usr/lib"), link("lib", "usr/lib"), entry("lib/f", b"x"))
    load(store, str(archives.write_docker_archive(tmp_path / "x.tar", [data], ["x"])))
    tree = resolve(store, "x").layers[0]
    assert os.readlink(f"{tree}/lib") == "usr/lib"
    assert os.listdir(f"{tree}/usr/lib") == ["f"]


def test_a_thousand_nested_directories_come_and_go(store: Paths, tmp_path: Path) -> None:
    from jubako.image.manage import remove_image

    data = layer(entry("d/" * 1500 + "f", b"x"), *[entry("e/" * depth + "f", b"x") for depth in range(1, 200, 50)])
    load(store, str(archives.write_docker_archive(tmp_path / "x.tar", [data], ["x"])))
    remove_image(store, "x")
    assert os.listdir(f"{store.data}/layers") == []
    assert os.listdir(f"{store.data}/tmp") == []


def test_a_failed_load_leaves_no_process_behind(store: Paths, tmp_path: Path) -> None:
    archive = archives.write_docker_archive(tmp_path / "x.tar", [layer(entry("../x"))], ["x"])
    with pytest.raises(JubakoError):
        load(store, str(archive))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("case", [case for case in HOSTILE if "link" in case])
def test_without_openat2_a_hostile_layer_is_refused_as_well(
    case: str, store: Paths, victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jubako.image import remove, unpack

    def missing(*_arguments: object) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(unpack, "openat2", missing)  # the child is forked, so it holds there too
    monkeypatch.setattr(remove, "openat2", missing)
    make, _reason = HOSTILE[case]
    archive = archives.write_docker_archive(tmp_path / "hostile.tar", [layer(*make(str(victim)))], ["hostile"])
    with pytest.raises(JubakoError, match=r"hostile\.tar, layer 1 of 1"):
        load(store, str(archive))
    assert things_in(store) == []
    assert (victim / "passwd").read_text() == "untouched"
