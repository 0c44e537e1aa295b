"""The archives that tests load are those that docker and OCI tools write: other programs read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from world import archives, programs
from world.account import run_as_namespace_root

LAYERS = [
    archives.files_layer({"etc": None, "etc/greeting": "hello\n", "old": "old\n"}),
    archives.files_layer({".wh.old": "", "new": "new\n"}),
]


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci"])
def test_skopeo_reads_it(form: str, tmp_path: Path) -> None:
    skopeo = programs.require("skopeo")
    config = {"Cmd": ["cat", "/etc/greeting"], "User": "1000"}
    if form == "docker-archive":
        path = archives.write_docker_archive(tmp_path / "image.tar", LAYERS, ["greeting:latest"], config)
    elif form == "oci-archive":
        path = archives.write_oci_archive(tmp_path / "image.tar", LAYERS, "greeting:latest", config)
    else:
        path = archives.write_oci_layout(tmp_path / "layout", LAYERS, "greeting:latest", config)
    copy = f"dir:{tmp_path}/copy"
    # As root of a namespace, since it keeps the owners that the archive has
    for argv in (["inspect", "--config", f"{form}:{path}"], ["copy", "--insecure-policy", f"{form}:{path}", copy]):
        done = run_as_namespace_root(skopeo, "--tmpdir", str(tmp_path), *argv)
        assert done.returncode == 0, done.stderr
        if argv[0] == "inspect":
            assert json.loads(done.stdout)["config"]["Cmd"] == ["cat", "/etc/greeting"]


def test_the_same_tree_gives_the_same_layer(busybox_rootfs: Path) -> None:
    assert archives.layer(busybox_rootfs) == archives.layer(busybox_rootfs)


def test_the_busybox_root_has_a_shell_and_users(busybox_rootfs: Path) -> None:
    assert (busybox_rootfs / "bin/sh").resolve() == (busybox_rootfs / "bin/busybox").resolve()
    assert "alice:x:1000" in (busybox_rootfs / "etc/passwd").read_text()
