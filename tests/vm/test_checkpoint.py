"""Checkpoints where systemd makes the control groups, and where the kernel tells which memory has changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vm.conftest import show
from world.bundle import default_config, make_root

COUNTER = "i=0; while true; do i=$((i+1)); echo $i > /dev/shm/n; sleep 0.1; done"

Oci = Callable[..., str]


@pytest.fixture
def oci(tmp_path: Path) -> Iterator[Oci]:
    """Runs the runtime, which has systemd make the groups, and deletes what is left."""
    root = tmp_path / "state"
    root.mkdir(0o700)

    def run(*words: str | Path, fails: bool = False) -> str:
        argv = (sys.executable, "-m", "jubako", "oci", "--root", root, "--systemd-cgroup", *words)
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=-1, stderr=-1, text=True, timeout=150)
        assert bool(done.returncode) == fails, done.stderr
        return done.stdout + done.stderr

    yield run
    for directory in root.iterdir():
        run("delete", "--force", directory.name)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    place = tmp_path / "bundle"
    place.mkdir()
    shutil.copy("/bin/busybox", tmp_path / "busybox")  # to be linked into the root
    make_root(place / "rootfs", tmp_path / "busybox")
    config = default_config()
    config["process"]["args"] = ["sh", "-c", COUNTER]
    config["linux"]["cgroupsPath"] = "system.slice:jubako:here"
    (place / "config.json").write_text(json.dumps(config))
    return place


def start(oci: Oci, bundle: Path) -> None:
    with open(bundle / "out", "wb") as out:
        argv = (sys.executable, "-m", "jubako", "oci", "--root", bundle.parent / "state", "--systemd-cgroup")
        words = ("run", "--detach", "--bundle", bundle, "c1")
        subprocess.run((*argv, *words), stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True, timeout=150)


def counted(oci: Oci, name: str, least: int) -> int:
    until = time.monotonic() + 100
    while True:
        text = oci("exec", name, "cat", "/dev/shm/n").strip()
        if text and int(text) >= least:
            return int(text)
        assert time.monotonic() < until, text
        time.sleep(0.2)


def test_a_restored_container_has_a_scope_of_its_own(oci: Oci, bundle: Path, tmp_path: Path) -> None:
    start(oci, bundle)
    count = counted(oci, "c1", 3)
    oci("checkpoint", "--image-path", tmp_path / "image", "c1")
    assert show("jubako-here.scope", "ActiveState")["ActiveState"] == "inactive"
    oci("restore", "--detach", "--bundle", bundle, "--image-path", tmp_path / "image", "c2")
    state = json.loads(oci("state", "c2"))
    assert Path(f"/proc/{state['pid']}/cgroup").read_text() == "0::/system.slice/jubako-here.scope\n"
    assert show("jubako-here.scope", "ActiveState")["ActiveState"] == "active"
    counted(oci, "c2", count + 1)
    oci("pause", "c2")
    assert json.loads(oci("state", "c2"))["status"] == "paused"
    oci("delete", "--force", "c2")
    assert show("jubako-here.scope", "ActiveState")["ActiveState"] == "inactive"


def test_only_what_has_changed_is_written_after_a_first_look(oci: Oci, bundle: Path, tmp_path: Path) -> None:
    if subprocess.run(("criu", "check", "--feature", "mem_dirty_track")).returncode:
        pytest.skip("this kernel does not track memory")
    start(oci, bundle)
    counted(oci, "c1", 2)
    oci("checkpoint", "--pre-dump", "--image-path", tmp_path / "before", "c1")
    count = counted(oci, "c1", 3)
    assert "relative" in oci(
        "checkpoint", "--parent-path", "/abs", "--image-path", tmp_path / "image", "c1", fails=True
    )
    oci("checkpoint", "--parent-path", "../before", "--image-path", tmp_path / "image", "c1")
    assert os.path.samefile(tmp_path / "image/parent", tmp_path / "before")
    oci("restore", "--detach", "--bundle", bundle, "--image-path", tmp_path / "image", "c2")
    counted(oci, "c2", count + 1)
