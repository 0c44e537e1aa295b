"""config.md, "Specification version" and "Root"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from world.bundle import Bundle
from world.rule import rule
from world.runtime import Runtime


@rule("config.md", "Specification version", "MUST", "Every version 1.x is accepted, also one that is newer.")
@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.1.0", "1.2.1", "1.3.0", "1.99.0", "1.0.0-rc6+build.5"])
def test_every_version_of_the_first_series_is_accepted(runtime: Runtime, bundle: Bundle, version: str):
    bundle.config["ociVersion"] = version
    assert runtime.says(bundle, "echo here") == "here"


@rule("config.md", "Specification version", "MUST", "What is no semantic version, or another series, is refused.")
@pytest.mark.parametrize("version", ["", "one", "2.0.0", "0.5.0", "v1.0.0", None])
def test_other_versions_are_refused(runtime: Runtime, bundle: Bundle, version: str | None):
    bundle.config["ociVersion"] = version
    if version is None:
        del bundle.config["ociVersion"]
    assert "ociVersion" in runtime.refuses(bundle)


@rule("config.md", "Root", "MUST", "`root` is required, and so is its `path`.")
@pytest.mark.parametrize("root", [None, {}, {"readonly": True}, {"path": ""}], ids=str)
def test_a_root_is_needed(runtime: Runtime, bundle: Bundle, root: dict[str, Any] | None):
    if root is None:
        del bundle.config["root"]
    else:
        bundle.config["root"] = root
    assert "root" in runtime.refuses(bundle)


@rule("config.md", "Root", "MUST", "`path` is relative to the bundle or absolute.")
@pytest.mark.parametrize("how", ["relative", "absolute", "with dots"])
def test_the_path_of_the_root(runtime: Runtime, bundle: Bundle, how: str):
    paths = {"relative": "rootfs", "absolute": str(bundle.rootfs), "with dots": f"../{bundle.path.name}/rootfs/."}
    bundle.config["root"]["path"] = paths[how]
    assert runtime.says(bundle, "cat /test.txt", cwd="/") == "a file of the root file system"


@rule("config.md", "Root", "MUST", "A directory exists at `path`.")
@pytest.mark.parametrize("path", ["nothing", "config.json"])
def test_the_root_must_be_a_directory(runtime: Runtime, bundle: Bundle, path: str):
    bundle.config["root"]["path"] = path
    assert path in runtime.refuses(bundle)


@rule("config.md", "Root", "MUST", "With `readonly` the root file system is read-only inside.")
def test_a_read_only_root(runtime: Runtime, bundle: Bundle):
    bundle.config["root"]["readonly"] = True
    said = runtime.says(bundle, "echo x > /new; echo x > /test.txt; mkdir /dir; echo x > /dev/shm/new && echo dev")
    assert said == "dev"
    assert not (bundle.rootfs / "new").exists()
    assert not (bundle.rootfs / "dir").exists()


@rule("config.md", "Root", "MUST", "Without `readonly` the root file system can be written to.")
@pytest.mark.parametrize("readonly", [False, None])
def test_a_writable_root(runtime: Runtime, bundle: Bundle, readonly: bool | None):
    bundle.config["root"] = {"path": "rootfs"} | ({} if readonly is None else {"readonly": readonly})
    assert runtime.says(bundle, "echo written > /new && cat /new") == "written"
    assert (bundle.rootfs / "new").read_text() == "written\n"


@rule("config.md", "Root", "MUST", "Root inside may not make a read-only root writable when it lacks CAP_SYS_ADMIN.")
def test_a_read_only_root_stays_so(runtime: Runtime, bundle: Bundle):
    said = runtime.says(bundle, "mount -o remount,bind,rw / 2>/dev/null || echo refused")
    assert said == "refused"


@rule("runtime.md", "Lifecycle", "MUST", "The host's own root file system is not to be reached from inside.")
def test_nothing_of_the_host_is_left(runtime: Runtime, bundles: Callable[..., Bundle]):
    bundle = bundles()
    said = runtime.says(bundle, "cut -d' ' -f5 /proc/self/mountinfo; ls -d /proc/1/root/usr /../../test.txt; true")
    points = set(said.splitlines())
    assert {"/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"} <= points
    assert not [point for point in points if str(bundle.path) in point]
    assert "/../../test.txt" in points
    assert "/proc/1/root/usr" not in points
