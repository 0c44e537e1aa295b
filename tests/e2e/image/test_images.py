"""Images come in from every kind of archive, are listed, renamed, written out again and removed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import JubakoError, NotFoundError, UsageError
from jubako.image.copying import copy_layers
from jubako.image.importing import import_
from jubako.image.inbase import own_as_base, run_in_base
from jubako.image.load import load
from jubako.image.manage import inspect_image, list_images, prune_images, remove_image, tag_image
from jubako.image.platform import Platform
from jubako.image.progress import Progress
from jubako.image.remove import remove_tree
from jubako.image.resolve import resolve
from jubako.image.save import DOCKER, OCI, save
from jubako.image.storage import probe_overlay
from jubako.linux import clone, mount
from jubako.paths import Paths
from world import archives

Inside = Callable[[Callable[[], Any]], Any]
SMALL = archives.files_layer({"etc": None, "etc/hello": "hello", "etc/other": "other"})
SOURCE = Path(sys.modules["jubako"].__file__ or "").parents[1]


def store_is_empty(paths: Paths) -> bool:
    rooms = ("layers", "blobs/sha256", "tmp")
    return not any(os.listdir(f"{paths.data}/{room}") for room in rooms) and list_images(paths) == ()


def tree_of(root: str) -> dict[str, Any]:
    """Every file below `root`: kind and mode, owner, time, content."""
    found = {}
    for top, names, files in os.walk(root):
        for name in (*names, *files):
            path = os.path.join(top, name)
            status = os.lstat(path)
            content = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
            if stat.S_ISREG(status.st_mode):
                content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            found[os.path.relpath(path, root)] = [
                status.st_mode,
                status.st_uid,
                status.st_gid,
                status.st_mtime_ns,
                content,
            ]
    return found


# --- bringing images in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["docker", "oci", "layout", "gzip", "xz", "zstd"])
def test_every_form_of_the_same_image_is_the_same_image(form: str, store: Paths, tmp_path: Path) -> None:
    docker = archives.write_docker_archive(tmp_path / "docker.tar", [SMALL], ["small:1"])
    if form == "zstd":
        zstd = pytest.importorskip("backports.zstd", reason="needs the package backports.zstd")
        (tmp_path / "a").write_bytes(zstd.compress(docker.read_bytes()))
    source = {
        "docker": lambda: docker,
        "oci": lambda: archives.write_oci_archive(tmp_path / "oci.tar", [SMALL], "docker.io/library/small:1"),
        "layout": lambda: archives.write_oci_layout(tmp_path / "layout", [SMALL], "small:1"),
        "gzip": lambda: (tmp_path / "a").write_bytes(gzip.compress(docker.read_bytes())) and tmp_path / "a",
        "xz": lambda: (tmp_path / "a").write_bytes(lzma.compress(docker.read_bytes())) and tmp_path / "a",
        "zstd": lambda: tmp_path / "a",
    }[form]()
    (loaded,) = load(store, str(source))
    image = resolve(store, "small:1")
    assert loaded.id == image.id == "sha256:" + hashlib.sha256(archives.image_config([SMALL])).hexdigest()
    assert loaded.names == image.names == ("docker.io/library/small:1",)
    assert loaded.new
    assert image.config.cmd == ("sh",)
    assert Path(image.layers[0], "etc/hello").read_text() == "hello"
    assert os.listdir(f"{store.data}/tmp") == []


@pytest.mark.parametrize("form", ["plain", "gzip", "zstd", "xz"])
def test_layers_are_decompressed_by_what_they_are_and_saved_as_a_registry_takes_them(
    form: str, store: Paths, tmp_path: Path
) -> None:
    zstd = pytest.importorskip("backports.zstd", reason="needs the package backports.zstd")
    compress = {"plain": bytes, "gzip": gzip.compress, "zstd": zstd.compress, "xz": lzma.compress}[form]
    config = archives.image_config([SMALL])
    members = {"c": config, "l": compress(SMALL)}
    members["manifest.json"] = json.dumps([{"Config": "c", "RepoTags": ["x"], "Layers": ["l"]}]).encode()
    load(store, str(archives.write_tar(tmp_path / "a.tar", members)))
    assert Path(resolve(store, "x").layers[0], "etc/hello").read_text() == "hello"
    save(store, ("x",), str(tmp_path / "out.tar"), form=OCI)
    with tarfile.open(tmp_path / "out.tar") as tar:
        blobs = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]
    assert all(
        hashlib.sha256(data).hexdigest() == name[13:] for name, data in blobs.items() if name.startswith("blobs")
    )
    manifest = json.loads(blobs["blobs/" + json.loads(blobs["index.json"])["manifests"][0]["digest"].replace(":", "/")])
    kept = "zstd" if form == "zstd" else "gzip"
    assert manifest["layers"][0]["mediaType"] == f"application/vnd.oci.image.layer.v1.tar+{kept}"
    blob = blobs["blobs/" + manifest["layers"][0]["digest"].replace(":", "/")]
    assert (zstd.decompress if form == "zstd" else gzip.decompress)(blob) == SMALL


def test_an_archive_comes_from_a_pipe(store: Paths, tmp_path: Path) -> None:
    archive = archives.write_docker_archive(tmp_path / "docker.tar", [SMALL], ["small:1"])
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from jubako.paths import Paths; from jubako.image.load import load\n"
        "print(load(Paths(*sys.argv[2:]), '-')[0].names)"
    )
    with subprocess.Popen(("cat", archive), stdout=subprocess.PIPE) as cat:
        done = subprocess.run(
            (sys.executable, "-I", "-c", program, SOURCE, store.data, store.run, store.cache),
            stdin=cat.stdout,
            capture_output=True,
            text=True,
        )
    assert done.stdout == "('docker.io/library/small:1',)\n", done.stderr


def test_the_same_image_twice_is_there_once_and_said_to_be_known(store: Paths, tmp_path: Path) -> None:
    archive = archives.write_docker_archive(tmp_path / "a.tar", [SMALL], ["small:1"])
    other = archives.write_docker_archive(tmp_path / "b.tar", [SMALL], ["other"])
    load(store, str(archive))
    reports: list[Progress] = []
    (loaded,) = load(store, str(other), reports.append)
    assert not loaded.new
    assert [report.stage for report in reports] == ["present"]
    assert resolve(store, "other").names == ("docker.io/library/other:latest", "docker.io/library/small:1")


def test_images_of_one_archive_share_their_layers(store: Paths, tmp_path: Path) -> None:
    top = archives.files_layer({"top": "top"})
    members = {}
    manifest = []
    for number, layers in enumerate(([SMALL], [SMALL, top])):
        config = archives.image_config(layers)
        names = []
        for data in layers:
            name = hashlib.sha256(data).hexdigest() + ".tar"
            members[name] = data
            names.append(name)
        members[f"c{number}.json"] = config
        manifest.append({"Config": f"c{number}.json", "RepoTags": [f"i{number}:1", f"j{number}:1"], "Layers": names})
    members["manifest.json"] = json.dumps(manifest).encode()
    loaded = load(store, str(archives.write_tar(tmp_path / "two.tar", members)))
    assert [image.names for image in loaded] == [
        ("docker.io/library/i0:1", "docker.io/library/j0:1"),
        ("docker.io/library/i1:1", "docker.io/library/j1:1"),
    ]
    first, second = resolve(store, "i0:1"), resolve(store, "i1:1")
    assert first.layers == second.layers[:1]
    assert Path(second.layers[1], "top").read_text() == "top"


def test_of_an_image_for_several_platforms_the_right_one_is_taken(store: Paths, tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    descriptors = []
    for architecture in ("amd64", "arm64"):
        layer = archives.files_layer({"arch": architecture})
        one = archives.oci_members([layer], "x", None, True)
        index = json.loads(one.pop("index.json"))
        members.update(one)
        descriptors.append(
            {**index["manifests"][0], "annotations": {}, "platform": {"os": "linux", "architecture": architecture}}
        )
    inner = json.dumps({"schemaVersion": 2, "manifests": descriptors}).encode()
    digest = hashlib.sha256(inner).hexdigest()
    members[f"blobs/sha256/{digest}"] = inner
    outer = {
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": f"sha256:{digest}",
        "size": len(inner),
        "annotations": {"org.opencontainers.image.ref.name": "many:1"},
    }
    members["index.json"] = json.dumps({"manifests": [outer]}).encode()
    archive = str(archives.write_tar(tmp_path / "many.tar", members))
    load(store, archive, platform=Platform("linux", "arm64", "v8"))
    assert Path(resolve(store, "many:1").layers[0], "arch").read_text() == "arm64"
    load(store, archive, platform=Platform("linux", "amd64"))
    assert Path(resolve(store, "many:1").layers[0], "arch").read_text() == "amd64"
    with pytest.raises(JubakoError, match=r"no image for linux/s390x, only for linux/amd64, linux/arm64"):
        load(store, archive, platform=Platform("linux", "s390x"))


def test_a_layout_with_a_mere_tag_is_called_after_its_directory(store: Paths, tmp_path: Path) -> None:
    load(store, str(archives.write_oci_layout(tmp_path / "thing", [SMALL], "latest")))
    assert resolve(store, "thing").names == ("docker.io/library/thing:latest",)


def test_the_only_image_may_be_given_another_name(store: Paths, tmp_path: Path) -> None:
    load(store, str(archives.write_docker_archive(tmp_path / "a.tar", [SMALL], ["small:1"])), name="mine/x:2")
    assert list_images(store)[0].names == ("docker.io/mine/x:2",)


@pytest.mark.root
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_what_podman_saves_is_loaded(form: str, store: Paths, tmp_path: Path, program: Callable[..., str]) -> None:
    short = tempfile.mkdtemp()  # podman wants a short one
    podman = (program("podman"), "--root", f"{short}/root", "--runroot", f"{short}/run", "--storage-driver", "vfs")
    (tmp_path / "rootfs.tar").write_bytes(SMALL)
    change = ("--change", 'CMD ["/bin/x"]', "--change", "ENV A=1")
    try:
        subprocess.run((*podman, "import", "-q", *change, tmp_path / "rootfs.tar", "docker.io/library/s:1"), check=True)
        subprocess.run((*podman, "save", "-q", "--format", form, "-o", tmp_path / "s.tar", "s:1"), check=True)
        listed = subprocess.run((*podman, "images", "-q", "--no-trunc"), check=True, capture_output=True, text=True)
        load(store, str(tmp_path / "s.tar"))
        image = resolve(store, "s:1")
        assert image.id == listed.stdout.strip()
        assert (image.config.cmd, image.config.env) == (("/bin/x",), ("A=1",))
        assert Path(image.layers[0], "etc/hello").read_text() == "hello"
    finally:
        shutil.rmtree(short)


def test_what_skopeo_and_umoci_make_is_loaded(store: Paths, tmp_path: Path, program: Callable[..., str]) -> None:
    umoci, layout = program("umoci"), tmp_path / "built"
    rootless = () if os.getuid() == 0 else ("--rootless",)
    subprocess.run((umoci, "init", "--layout", layout), check=True)
    subprocess.run((umoci, "new", "--image", f"{layout}:first"), check=True)
    for number, files in enumerate(({"a": "1", "gone": "x"}, {"b": "2"})):
        subprocess.run((umoci, "unpack", *rootless, "--image", f"{layout}:first", tmp_path / f"b{number}"), check=True)
        for name, content in files.items():
            (tmp_path / f"b{number}/rootfs" / name).write_text(content)
        if number:
            (tmp_path / f"b{number}/rootfs/gone").unlink()
        subprocess.run((umoci, "repack", "--image", f"{layout}:first", tmp_path / f"b{number}"), check=True)
    subprocess.run(
        (umoci, "config", "--image", f"{layout}:first", "--config.user", "7:8", "--config.label", "k=v"), check=True
    )
    copied = f"oci-archive:{tmp_path}/copied.tar:quay.io/some/thing:2"
    subprocess.run((program("skopeo"), "copy", "-q", "--insecure-policy", f"oci:{layout}:first", copied), check=True)
    load(store, str(layout))
    load(store, str(tmp_path / "copied.tar"))
    image = resolve(store, "quay.io/some/thing:2")
    assert image.names == ("docker.io/library/first:latest", "quay.io/some/thing:2")
    assert (image.config.user, image.config.labels) == ("7:8", (("k", "v"),))
    assert len(image.layers) == 2
    assert stat.S_ISCHR(os.stat(f"{image.layers[1]}/gone").st_mode)


# --- what a layer becomes ---------------------------------------------------------------------------------------------


def layer(*entries: tuple[str, dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, fields in entries:
            info = tarfile.TarInfo(name)
            data = fields.pop("data", b"")
            info.mode, info.size = 0o644, len(data)
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


DIRECTORY: dict[str, Any] = {"type": tarfile.DIRTYPE, "mode": 0o755}
RICH = layer(
    ("tmp", {"type": tarfile.DIRTYPE, "mode": 0o1777, "mtime": 1_000_000_000}),
    ("tmp/su", {"data": b"x", "mode": 0o4755, "uid": 1000, "gid": 7, "mtime": 1_100_000_000}),
    ("tmp/hard", {"type": tarfile.LNKTYPE, "linkname": "tmp/su"}),
    ("tmp/soft", {"type": tarfile.SYMTYPE, "linkname": "su", "uid": 5}),
    ("tmp/hard-soft", {"type": tarfile.LNKTYPE, "linkname": "tmp/soft"}),
    ("tmp/fifo", {"type": tarfile.FIFOTYPE, "mode": 0o600}),
    ("closed", {"type": tarfile.DIRTYPE, "mode": 0, "uid": 5}),
    ("closed/in", {"data": b"x"}),
    ("caf\udce9", {"data": b"not UTF-8"}),
    ("Case", {"data": b"1"}),
    ("case", {"data": b"2"}),
    ("missing/parents/file", {"data": b"x"}),
)


def load_layers(store: Paths, tmp_path: Path, *layers: bytes) -> tuple[str, ...]:
    load(store, str(archives.write_docker_archive(tmp_path / "x.tar", layers, ["x"])))
    return resolve(store, "x").layers


def test_modes_owners_times_and_kinds_are_kept(store: Paths, tmp_path: Path, inside: Inside) -> None:
    (tree,) = load_layers(store, tmp_path, RICH)
    found = inside(lambda: tree_of(tree))
    second = 10**9
    assert found["tmp"][:4] == [stat.S_IFDIR | 0o1777, 0, 0, 1_000_000_000 * second]
    assert found["tmp/su"][:4] == [stat.S_IFREG | 0o4755, 1000, 7, 1_100_000_000 * second]
    assert found["tmp/hard"] == found["tmp/su"]
    assert inside(lambda: os.stat(f"{tree}/tmp/hard").st_ino == os.stat(f"{tree}/tmp/su").st_ino)
    assert (found["tmp/soft"][1], found["tmp/soft"][4]) == (5, "su")
    assert found["tmp/hard-soft"] == found["tmp/soft"]
    assert found["tmp/fifo"][0] == stat.S_IFIFO | 0o600
    assert found["closed"][:2] == [stat.S_IFDIR, 5]
    assert stat.S_ISREG(found["closed/in"][0])
    assert found["missing/parents"][:3] == [stat.S_IFDIR | 0o755, 0, 0]
    assert {"caf\udce9", "Case", "case"} <= set(found)


def test_a_later_member_replaces_an_earlier_one_of_the_same_name(store: Paths, tmp_path: Path, inside: Inside) -> None:
    (tree,) = load_layers(
        store,
        tmp_path,
        layer(
            ("file", {"data": b"one"}),
            ("file", {"data": b"two"}),
            ("was-file", {"data": b"x"}),
            ("was-file", dict(DIRECTORY)),
            ("was-file/in", {"data": b"y"}),
            ("was-directory", dict(DIRECTORY)),
            ("was-directory/deep", dict(DIRECTORY)),
            ("was-directory/deep/in", {"data": b"x"}),
            ("was-directory", {"data": b"file now"}),
            ("kept", dict(DIRECTORY)),
            ("kept/in", {"data": b"x"}),
            ("kept", {**DIRECTORY, "mode": 0o700}),
            ("was-link", {"type": tarfile.SYMTYPE, "linkname": "kept"}),
            ("was-link", dict(DIRECTORY)),
            ("was-link/in", {"data": b"z"}),
            ("link", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
            ("link", {"data": b"not through the link"}),
            ("hard", {"data": b"x"}),
            ("hard", {"type": tarfile.LNKTYPE, "linkname": "file"}),
        ),
    )
    found = inside(lambda: tree_of(tree))
    assert Path(tree, "file").read_text() == Path(tree, "hard").read_text() == "two"
    assert "was-file/in" in found
    assert stat.S_ISREG(found["was-directory"][0])
    assert stat.S_IMODE(found["kept"][0]) == 0o700
    assert "kept/in" in found
    assert stat.S_ISDIR(found["was-link"][0])
    assert inside(lambda: Path(tree, "link").read_text()) == "not through the link"


LOWER = archives.files_layer(
    {"gone": "x", "opaque": None, "opaque/below": "x", "again": None, "again/below": "x",
     "late": None, "late/below": "x",
     "kept": None, "kept/below": "x", "kept/gone": "x", "to-file": None, "to-file/x": "x", "to-directory": "x"}
)  # fmt: skip
UPPER = archives.files_layer(
    {".wh.gone": "", "opaque": None, "opaque/.wh..wh..opq": "", "opaque/above": "y", ".wh.again": "", "again": None,
     "again/above": "y", "late": None, "late/above": "y", ".wh.late": "", "kept/.wh.gone": "", "kept/above": "y",
     "to-file": "y",
     "to-directory": None, "to-directory/y": "y", ".wh..wh.plnk": None, ".wh..wh.plnk/1.2": "aufs", ".wh..wh.aufs": "",
     ".wh.not-there": ""}
)  # fmt: skip
MERGED = ["again", "again/above", "kept", "kept/above", "kept/below", "late", "late/above", "opaque", "opaque/above",
          "to-directory", "to-directory/y", "to-file"]  # fmt: skip


def test_whiteouts_hide_what_lies_below_in_an_overlay(store: Paths, tmp_path: Path, inside: Inside) -> None:
    layers = load_layers(store, tmp_path, LOWER, UPPER)
    (tmp_path / "merged").mkdir()
    obstacle = probe_overlay(store)
    if obstacle:
        pytest.skip(f"no overlay in a user namespace here: {obstacle}")

    def mounted() -> list[str]:
        clone.unshare(clone.CLONE_NEWNS)
        options = f"lowerdir={':'.join(reversed(layers))},userxattr"
        mount.mount("overlay", str(tmp_path / "merged"), "overlay", 0, options)
        return sorted(tree_of(str(tmp_path / "merged")))

    assert inside(mounted) == MERGED


def test_layers_that_are_copied_are_as_an_overlay_shows_them(store: Paths, tmp_path: Path, inside: Inside) -> None:
    layers = load_layers(store, tmp_path, LOWER, UPPER, RICH)
    target = tmp_path / "copy"
    target.mkdir()
    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    own_as_base(store, fd)

    def copy() -> Any:
        copy_layers(layers, str(target))
        return tree_of(str(target)), tree_of(layers[2]), os.stat(target / "tmp/su").st_nlink

    try:
        found, top, links = inside(copy)
        assert [name for name in sorted(found) if name in MERGED] == MERGED
        assert not {"gone", "opaque/below", "again/below", "late/below", "kept/gone"} & set(found)
        assert {name: found[name] for name in top} == top
        assert links == 2
    finally:
        run_in_base(store, "jubako.image.remove:empty_handle", {"handle": fd}, (fd,))
        os.close(fd)


def test_a_layer_that_hides_everything_is_the_lowest_of_a_run(store: Paths, tmp_path: Path) -> None:
    layers = load_layers(store, tmp_path, LOWER, archives.files_layer({".wh..wh..opq": "", "only": "x"}), UPPER)
    assert len(layers) == 2
    assert os.listdir(layers[0]) == ["only"]


def test_file_capabilities_are_kept(store: Paths, tmp_path: Path, inside: Inside) -> None:
    value = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service+ep, version 2
    info = {"pax_headers": {"SCHILY.xattr.security.capability": value.decode("latin-1")}}
    (tree,) = load_layers(store, tmp_path, layer(("ping", {"data": b"x", "mode": 0o755, **info})))
    assert inside(lambda: os.getxattr(f"{tree}/ping", "security.capability").hex())[8:] == value.hex()[8:40]


# --- importing --------------------------------------------------------------------------------------------------------


def test_a_root_file_system_becomes_an_image_with_the_changes_asked_for(store: Paths, tmp_path: Path) -> None:
    (tmp_path / "rootfs.tar").write_bytes(gzip.compress(SMALL))
    changes = (
        'CMD ["/bin/sh", "-l"]', "ENTRYPOINT=/bin/x y", "ENV A=1 B='two words'", "ENV C the rest", "WORKDIR /w",
        "USER 5:6",
        "LABEL k=v", "EXPOSE 80 53/udp", 'VOLUME ["/data"]', "STOPSIGNAL SIGINT",
    )  # fmt: skip
    imported = import_(store, str(tmp_path / "rootfs.tar"), "mine", changes=changes)
    config = resolve(store, "mine").config
    assert imported.names == ("docker.io/library/mine:latest",)
    assert config.cmd == ("/bin/sh", "-l")
    assert config.entrypoint == ("/bin/sh", "-c", "/bin/x y")
    assert config.env == ("A=1", "B=two words", "C=the rest")
    assert (config.working_dir, config.user, config.stop_signal) == ("/w", "5:6", "SIGINT")
    assert (config.labels, config.volumes) == ((("k", "v"),), ("/data",))
    assert config.exposed_ports == ("80/tcp", "53/udp")
    assert Path(resolve(store, imported.id).layers[0], "etc/hello").read_text() == "hello"


@pytest.mark.parametrize("change", ["", "FROM x", "CMD", "ENV A", "WORKDIR relative", "EXPOSE http", "LABEL novalue"])
def test_a_change_that_is_none_is_refused_before_anything_is_read(change: str, store: Paths) -> None:
    with pytest.raises(UsageError, match="read --change"):
        import_(store, "/nowhere", "mine", changes=(change,))
    assert not os.path.exists(store.data)


def test_an_image_archive_is_not_imported_nor_a_root_file_system_loaded(store: Paths, tmp_path: Path) -> None:
    archive = archives.write_docker_archive(tmp_path / "a.tar", [SMALL], ["x"])
    with pytest.raises(JubakoError, match="image archive") as caught:
        import_(store, str(archive), "mine")
    assert "jubako load" in caught.value.hint
    (tmp_path / "rootfs.tar").write_bytes(SMALL)
    with pytest.raises(JubakoError, match="holds no image") as caught:
        load(store, str(tmp_path / "rootfs.tar"))
    assert "jubako import" in caught.value.hint
    assert store_is_empty(store)


# --- names, removal, writing out --------------------------------------------------------------------------------------


@pytest.fixture
def loaded(store: Paths, tmp_path: Path) -> str:
    """The id of an image called small:1 and foo/bar:2."""
    return load(store, str(archives.write_docker_archive(tmp_path / "small.tar", [SMALL], ["small:1", "foo/bar:2"])))[
        0
    ].id


def test_an_image_is_found_by_every_name_and_by_its_id(store: Paths, loaded: str) -> None:
    digits = loaded.removeprefix("sha256:")
    for name in ("small:1", "docker.io/library/small:1", "foo/bar:2", loaded, digits, digits[:12], loaded[:12]):
        assert resolve(store, name).id == loaded


def test_an_unknown_image_is_said_to_be_unknown_with_what_is_near(store: Paths, loaded: str) -> None:
    with pytest.raises(NotFoundError, match="no such image") as caught:
        resolve(store, "smal:1")
    assert "small:1" in caught.value.hint
    assert "jubako load" in caught.value.hint
    with pytest.raises(NotFoundError, match="no such image"):
        resolve(store, "0" * 64)


def test_a_name_moves_from_one_image_to_another(store: Paths, loaded: str, tmp_path: Path) -> None:
    load(store, str(archives.write_docker_archive(tmp_path / "b.tar", [archives.files_layer({"x": "y"})], ["small:1"])))
    assert resolve(store, "small:1").id != loaded
    assert resolve(store, "foo/bar:2").names == ("docker.io/foo/bar:2",)


def test_the_last_name_takes_the_image_and_its_layers_with_it(store: Paths, loaded: str) -> None:
    assert tag_image(store, "small:1", "third") == "docker.io/library/third:latest"
    assert remove_image(store, "third").deleted is False
    with pytest.raises(UsageError, match="it has 2 names"):
        remove_image(store, loaded)
    assert remove_image(store, "small:1").untagged == ("docker.io/library/small:1",)
    removed = remove_image(store, "foo/bar:2")
    assert removed.deleted
    assert removed.freed == len("hello" + "other")
    assert store_is_empty(store)


def test_a_layer_that_another_image_has_stays(store: Paths, loaded: str, tmp_path: Path) -> None:
    both = archives.write_docker_archive(tmp_path / "b.tar", [SMALL, archives.files_layer({"x": "y"})], ["both"])
    load(store, str(both))
    assert remove_image(store, "both").freed == 1
    assert Path(resolve(store, "small:1").layers[0], "etc/hello").read_text() == "hello"


def test_an_image_that_a_container_uses_is_kept(store: Paths, loaded: str) -> None:
    os.makedirs(f"{store.containers}/abc")
    Path(f"{store.containers}/abc/container.json").write_text(json.dumps({"image_id": loaded}))
    remove_image(store, "foo/bar:2")
    with pytest.raises(JubakoError, match="used by 1 container: abc"):
        remove_image(store, "small:1")
    forced = remove_image(store, "small:1", force=True)
    assert (forced.untagged, forced.deleted) == (("docker.io/library/small:1",), False)
    assert prune_images(store) == ()
    assert resolve(store, loaded).names == ()
    shutil.rmtree(f"{store.containers}/abc")
    assert [removed.id for removed in prune_images(store)] == [loaded]
    assert store_is_empty(store)


def test_inspect_tells_what_docker_tells(store: Paths, loaded: str) -> None:
    found = inspect_image(store, "small:1")
    assert found["Id"] == loaded
    assert found["RepoTags"] == ["foo/bar:2", "small:1"]
    assert found["Config"]["Cmd"] == ["sh"]
    assert found["RootFS"]["Layers"] == ["sha256:" + hashlib.sha256(SMALL).hexdigest()]


@pytest.mark.parametrize("form", [DOCKER, OCI])
def test_what_is_saved_is_read_by_skopeo_and_comes_back_as_the_same_image(
    form: str, store: Paths, loaded: str, tmp_path: Path, program: Callable[..., str]
) -> None:
    save(store, ("small:1", "foo/bar:2"), str(tmp_path / "out.tar"), form=form)
    name = "small:1" if form == DOCKER else "docker.io/library/small:1"
    target = f"dir:{tmp_path}/copied"
    copy = (program("skopeo"), "copy", "-q", "--insecure-policy", f"{form}:{tmp_path}/out.tar:{name}", target)
    subprocess.run(copy, check=True)
    config = json.loads((tmp_path / "copied/manifest.json").read_text())["config"]["digest"]
    assert config == loaded
    for each in ("small:1", "foo/bar:2"):
        remove_image(store, each)
    (again,) = load(store, str(tmp_path / "out.tar"))
    assert again.id == loaded
    assert resolve(store, loaded).names == ("docker.io/foo/bar:2", "docker.io/library/small:1")


def test_a_saved_archive_depends_on_the_image_alone(store: Paths, loaded: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(store, ("small:1",), str(tmp_path / name))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    listed = subprocess.run(("tar", "-tf", tmp_path / "one"), capture_output=True, text=True)
    assert (listed.returncode, listed.stderr) == (0, "")


def test_a_file_that_cannot_be_written_is_one_error_and_no_file(store: Paths, loaded: str, tmp_path: Path) -> None:
    with pytest.raises(JubakoError, match="ENOENT"):
        save(store, ("small:1",), str(tmp_path / "no/such/out.tar"))
    with pytest.raises(NotFoundError):
        save(store, ("small:1", "unknown"), str(tmp_path / "out.tar"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.tar", "store"]


# --- many commands at once, and commands that die ---------------------------------------------------------------------

LOADER = (
    "import sys; sys.path.insert(0, sys.argv[1])\n"
    "from jubako.paths import Paths; from jubako.image.load import load\n"
    "load(Paths(*sys.argv[2:5]), sys.argv[5])"
)


def start_load(store: Paths, archive: Path) -> subprocess.Popen[bytes]:
    argv = (sys.executable, "-I", "-c", LOADER, SOURCE, store.data, store.run, store.cache, archive)
    return subprocess.Popen(argv, stderr=subprocess.PIPE)


def test_loads_at_once_do_not_disturb_each_other(store: Paths, tmp_path: Path) -> None:
    shared = archives.files_layer({"shared": "x" * 100_000})
    made = [
        archives.write_docker_archive(tmp_path / f"{n}.tar", [shared, archives.files_layer({"own": str(n)})], [f"i{n}"])
        for n in range(4)
    ]
    running = [start_load(store, archive) for archive in made for _twice in range(2)]
    for process in running:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said.decode()
    for number in range(4):
        assert Path(resolve(store, f"i{number}").layers[1], "own").read_text() == str(number)
    assert len(os.listdir(f"{store.data}/layers")) == 5
    assert os.listdir(f"{store.data}/tmp") == []


def test_a_load_that_is_killed_leaves_only_what_the_next_command_removes(store: Paths, tmp_path: Path) -> None:
    big = archives.files_layer({f"f{n}": os.urandom(1 << 16) for n in range(400)})
    archive = archives.write_docker_archive(tmp_path / "big.tar", [big], ["big"])
    for delay in (0.05, 0.15, 0.25, 0.4):
        process = start_load(store, archive)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    small = archives.write_docker_archive(tmp_path / "small.tar", [SMALL], ["small"])
    until = time.monotonic() + 10
    while True:  # the killed command's child ends when it finds its stream cut off
        load(store, str(small))
        if not os.listdir(f"{store.data}/tmp") or time.monotonic() > until:
            break
        time.sleep(0.1)
    assert os.listdir(f"{store.data}/tmp") == []
    assert len(os.listdir(f"{store.data}/layers")) == len(
        {layer for image in list_images(store) for layer in image.layers}
    )


def test_a_crash_between_the_renames_is_put_right_by_the_next_command(
    store: Paths, loaded: str, tmp_path: Path
) -> None:
    image = loaded.removeprefix("sha256:")
    os.unlink(f"{store.data}/images/{image}.json")  # its layer, blobs and names are there, the image is not
    Path(f"{store.data}/images/publishing").touch()
    Path(f"{store.data}/images/names.json.new").touch()
    other = archives.files_layer({"other": "x"})
    load(store, str(archives.write_docker_archive(tmp_path / "b.tar", [other], ["other"])))
    assert os.listdir(f"{store.data}/layers") == [hashlib.sha256(other).hexdigest()]
    assert len(os.listdir(f"{store.data}/blobs/sha256")) == 2
    names = json.loads(Path(f"{store.data}/images/names.json").read_text())
    assert list(names) == ["docker.io/library/other:latest"]
    assert len(os.listdir(f"{store.data}/images")) == 3


def test_what_is_mounted_in_a_tree_is_not_removed_with_it(store: Paths, tmp_path: Path, inside: Inside) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/file").write_text("precious")
    (tmp_path / "tree/mounted").mkdir(parents=True)
    for path in ("home", "tree", "tree/mounted", "home/file"):
        (tmp_path / path).chmod(0o777)

    def remove() -> str:
        clone.unshare(clone.CLONE_NEWNS)
        mount.mount(str(tmp_path / "home"), str(tmp_path / "tree/mounted"), None, mount.MS_BIND)
        fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
        try:
            remove_tree(fd, "tree")
        except JubakoError as error:
            return str(error)
        return "removed"

    assert "remove mounted: Invalid cross-device link (EXDEV)" in inside(remove)
    assert (tmp_path / "home/file").read_text() == "precious"


def test_loading_works_from_a_program_with_threads(store: Paths, tmp_path: Path) -> None:
    archive = archives.write_docker_archive(tmp_path / "a.tar", [SMALL], ["small"])
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        load(store, str(archive))
        assert remove_image(store, "small").deleted
    finally:
        stop.set()
        thread.join()
    assert store_is_empty(store)


@pytest.mark.root
def test_a_full_disk_is_said_plainly_and_nothing_stays_on_it(
    store: Paths, tmp_path: Path, program: Callable[..., str]
) -> None:
    archive = archives.write_docker_archive(
        tmp_path / "big.tar", [archives.files_layer({"f": os.urandom(3 << 20)})], ["big"]
    )
    os.mkdir(store.data)
    subprocess.run((program("mount"), "-t", "tmpfs", "-o", "size=2m,mode=711", "none", store.data), check=True)
    try:
        with pytest.raises(JubakoError, match=r"big\.tar.*No space left on device \(ENOSPC\)") as caught:
            load(store, str(archive))
        assert "make room" in caught.value.hint
        assert store_is_empty(store)
    finally:
        subprocess.run((program("umount"), store.data), check=True)


@pytest.mark.root
def test_no_ordinary_user_reaches_what_roots_images_hold(store: Paths, loaded: str) -> None:
    (tree,) = resolve(store, "small:1").layers
    for user in (65534, 1000, 4242):
        argv = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "cat", f"{tree}/etc/hello")
        done = subprocess.run(argv, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Permission denied" in done.stderr


def test_an_interrupted_load_ends_its_child_and_leaves_nothing(store: Paths, tmp_path: Path) -> None:
    archive = archives.write_docker_archive(
        tmp_path / "a.tar", [archives.files_layer({"f": os.urandom(1 << 20)})], ["x"]
    )

    def interrupt(progress: Progress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(store, str(archive), interrupt)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert store_is_empty(store)
