"""What an archive says of its images, in every dialect; no layer is unpacked here."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import JubakoError, UsageError
from jubako.image.archive import ImageEntry, read_entries
from jubako.image.platform import Platform, choose, host_platform, parse_platform
from jubako.image.source import LayoutDirectory, TarSource
from world import archives

AMD64 = Platform("linux", "amd64")
LAYER = archives.files_layer({"f": "data"})


def entries_of(path: Path, platform: Platform = AMD64) -> tuple[ImageEntry, ...]:
    source = TarSource(os.open(path, os.O_RDONLY), path.name, path.stem)
    try:
        return read_entries(source, platform)
    finally:
        source.close()


def names_of(entry: ImageEntry) -> list[str]:
    return [str(name) for name in entry.names]


def test_a_docker_archive_of_version_25_is_a_layout_as_well_and_its_names_count(tmp_path: Path) -> None:
    members = archives.oci_members([LAYER], "latest", None, True)
    manifest = json.loads(
        members["blobs/" + json.loads(members["index.json"])["manifests"][0]["digest"].replace(":", "/")]
    )
    config, layer = (part["digest"].replace(":", "/") for part in (manifest["config"], manifest["layers"][0]))
    saved = [{"Config": f"blobs/{config}", "RepoTags": ["busybox:1.36"], "Layers": [f"blobs/{layer}"]}]
    members["manifest.json"] = json.dumps(saved).encode()
    (entry,) = entries_of(archives.write_tar(tmp_path / "a.tar", members))
    assert names_of(entry) == ["docker.io/library/busybox:1.36"]
    assert entry.layers[0].digest == "sha256:" + layer.removeprefix("sha256/")
    assert entry.id == config.removeprefix("sha256/")


def test_a_layer_that_is_a_link_to_another_ones_is_followed(tmp_path: Path) -> None:
    config = archives.image_config([LAYER, LAYER])
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["one/layer.tar", "two/layer.tar"]}]
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in (
            ("c.json", config),
            ("manifest.json", json.dumps(manifest).encode()),
            ("one/layer.tar", LAYER),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("two/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../one/layer.tar"
        tar.addfile(link)
    (entry,) = entries_of(tmp_path / "a.tar")
    assert [layer.size for layer in entry.layers] == [len(LAYER), len(LAYER)]
    assert entry.names == ()


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        ("docker.io/library/busybox:latest", "docker.io/library/busybox:latest"),
        ("localhost/mine:3", "localhost/mine:3"),
        ("busybox", "docker.io/library/busybox:latest"),
        ("latest", "docker.io/library/thing:latest"),
        ("1.36", "docker.io/library/thing:1.36"),
        ("v2", "docker.io/library/thing:v2"),
    ],
)
def test_an_annotation_is_a_name_or_the_tag_of_the_archives_own(annotation: str, name: str, tmp_path: Path) -> None:
    (entry,) = entries_of(archives.write_oci_archive(tmp_path / "thing.tar", [LAYER], annotation))
    assert names_of(entry) == [name]


def test_two_names_of_one_manifest_are_one_image(tmp_path: Path) -> None:
    members = archives.oci_members([LAYER], "a:1", None, True)
    index = json.loads(members["index.json"])
    index["manifests"].append({**index["manifests"][0], "annotations": {"io.containerd.image.name": "quay.io/b:2"}})
    members["index.json"] = json.dumps(index).encode()
    (entry,) = entries_of(archives.write_tar(tmp_path / "a.tar", members))
    assert names_of(entry) == ["docker.io/library/a:1", "quay.io/b:2"]


def test_attestations_are_no_images_and_artifacts_are_refused(tmp_path: Path) -> None:
    members = archives.oci_members([LAYER], "a:1", None, True)
    index = json.loads(members["index.json"])
    attestation = {"digest": "sha256:" + "0" * 64, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    index["manifests"].append(attestation)
    members["index.json"] = json.dumps(index).encode()
    assert len(entries_of(archives.write_tar(tmp_path / "a.tar", members))) == 1
    manifest = json.dumps({"config": {"mediaType": "application/vnd.oci.empty.v1+json"}, "layers": []}).encode()
    digest = hashlib.sha256(manifest).hexdigest()
    members[f"blobs/sha256/{digest}"] = manifest
    members["index.json"] = json.dumps({"manifests": [{"digest": f"sha256:{digest}"}]}).encode()
    with pytest.raises(JubakoError, match="an artifact of type"):
        entries_of(archives.write_tar(tmp_path / "a.tar", members))


def test_an_image_without_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JubakoError, match="has no layer"):
        entries_of(archives.write_docker_archive(tmp_path / "a.tar", [], ["x"]))


def test_a_configuration_called_by_a_digest_must_have_it(tmp_path: Path) -> None:
    manifest = [{"Config": "0" * 64 + ".json", "RepoTags": None, "Layers": ["l"]}]
    members = {
        "0" * 64 + ".json": archives.image_config([LAYER]),
        "l": LAYER,
        "manifest.json": json.dumps(manifest).encode(),
    }
    with pytest.raises(JubakoError, match="its digest is"):
        entries_of(archives.write_tar(tmp_path / "a.tar", members))


@pytest.mark.parametrize(
    "manifest",
    [{}, [], [1], [{}], [{"Config": 1}], [{"Config": "../x"}], [{"Config": "c", "Layers": "x"}],
     [{"Config": "c", "Layers": [1]}],
     [{"Config": "c", "RepoTags": ["UPPER"], "Layers": ["l"]}], [{"Config": "c", "Layers": ["nothing"]}]],
)  # fmt: skip
def test_a_malformed_manifest_is_one_error(manifest: Any, tmp_path: Path) -> None:
    members = {"manifest.json": json.dumps(manifest).encode(), "c": archives.image_config([LAYER]), "l": LAYER}
    with pytest.raises(JubakoError):
        entries_of(archives.write_tar(tmp_path / "a.tar", members))


def test_a_fifo_in_a_layout_does_not_hang(tmp_path: Path) -> None:
    archives.write_oci_layout(tmp_path, [LAYER])
    (tmp_path / "index.json").unlink()
    os.mkfifo(tmp_path / "index.json")
    with pytest.raises(JubakoError):
        read_entries(LayoutDirectory(str(tmp_path)), AMD64)
    with pytest.raises(JubakoError, match="not a regular file"):
        LayoutDirectory(str(tmp_path)).document("index.json")


# --- platforms --------------------------------------------------------------------------------------------------------


def described(*platforms: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for os_name, architecture, *variant in platforms:
        platform = {"os": os_name, "architecture": architecture}
        yield {"platform": {**platform, "variant": variant[0]} if variant else platform}


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [("linux/amd64", 0), ("linux/arm64", 1), ("linux/arm64/v8", 1), ("linux/arm/v7", 3), ("linux/arm/v8", 3),
     ("arm/v6", None), ("linux/arm/v6", 2),
     ("windows/amd64", 4), ("linux/arm/v5", None), ("aarch64", 1), ("linux/x86_64", 0)],
)  # fmt: skip
def test_the_variant_that_fits_best_is_chosen(wanted: str, chosen: int | None) -> None:
    offered = [
        *described(("linux", "amd64"), ("linux", "arm64", "v8"), ("linux", "arm", "v6"), ("linux", "arm", "v7")),
        *described(("windows", "amd64")),
        {"annotations": {}},
    ]
    if chosen is None:
        with pytest.raises(JubakoError, match="only for linux/amd64"):
            choose(offered, parse_platform(wanted), "x.tar")
    else:
        assert choose(offered, parse_platform(wanted), "x.tar") is offered[chosen]


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d"])
def test_a_platform_has_at_most_three_parts(text: str) -> None:
    with pytest.raises(UsageError):
        parse_platform(text)


def test_this_machine_has_a_platform_with_gos_names() -> None:
    assert host_platform().os == "linux"
    assert host_platform().architecture not in ("x86_64", "aarch64")
