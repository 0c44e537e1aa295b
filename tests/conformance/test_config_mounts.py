"""config.md, "Mounts" and "POSIX-platform Mounts": order, destinations, sources, bind mounts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from world.bundle import Bundle
from world.rule import only_root, rule
from world.runtime import Runtime


@pytest.fixture
def volume(place: Path) -> Path:
    """A directory of the host with a file in it."""
    directory = place / "volume"
    directory.mkdir()
    (directory / "file").write_text("of the volume\n")
    return directory


@rule("config.md", "Mounts", "MUST", "Entries are mounted in the listed order: a later one covers an earlier one.")
def test_mounts_are_made_in_order(runtime: Runtime, bundle: Bundle, volume: Path):
    bundle.mount("/mnt", "tmpfs", "first", ["size=1m"])
    bundle.mount("/mnt", "tmpfs", "second", ["size=1m"])
    bundle.mount("/mnt/below", "none", volume, ["bind"])
    said = runtime.says(bundle, "grep ' /mnt' /proc/self/mountinfo; cat /mnt/below/file")
    *lines, content = said.splitlines()
    found = [(line.split()[4], line.split(" - ")[1].split()[1]) for line in lines]
    assert found[:2] == [("/mnt", "first"), ("/mnt", "second")]
    assert found[2][0] == "/mnt/below"
    assert content == "of the volume"


@rule("config.md", "Mounts", "MUST", "A mount may cover what is below an earlier one.")
def test_a_mount_hides_what_is_below(runtime: Runtime, bundle: Bundle, volume: Path):
    bundle.mount("/mnt/a", "none", volume, ["bind"])
    bundle.mount("/mnt", "tmpfs", "tmpfs")
    bundle.config["root"]["readonly"] = False
    assert runtime.says(bundle, "ls -A /mnt") == ""


@rule("config.md", "Mounts", "MUST", "A relative destination is relative to `/`.")
def test_a_relative_destination(runtime: Runtime, bundle: Bundle, volume: Path):
    bundle.process["cwd"] = "/tmp"
    bundle.mount("mnt", "none", volume, ["bind"])
    assert runtime.says(bundle, "cat /mnt/file") == "of the volume"


@rule("config.md", "Mounts", "MUST", "A missing destination is made, a directory or for a file a file.")
def test_a_missing_destination_is_made(runtime: Runtime, bundle: Bundle, volume: Path):
    bundle.mount("/new/deep/directory", "none", volume, ["bind"])
    bundle.mount("/new/deep/file", "none", volume / "file", ["bind"])
    bundle.mount("/new/tmp", "tmpfs", "tmpfs")
    assert (
        runtime.says(bundle, "cat /new/deep/directory/file /new/deep/file; ls /new/tmp")
        == "of the volume\nof the volume"
    )
    assert (bundle.rootfs / "new/deep/directory").is_dir()
    assert (bundle.rootfs / "new/deep/file").read_bytes() == b""


@rule("config.md", "Mounts", "MUST", "The source of a bind mount is absolute or relative to the bundle.")
def test_a_source_in_the_bundle(runtime: Runtime, bundle: Bundle):
    (bundle.path / "data").mkdir()
    (bundle.path / "data/file").write_text("of the bundle\n")
    bundle.mount("/mnt", "none", "data", ["bind"])
    assert runtime.says(bundle, "cat /mnt/file", cwd="/") == "of the bundle"


@rule(
    "config.md", "POSIX-platform Mounts", "MUST", "With `bind` or `rbind` it is a bind mount, whatever the type says."
)
@pytest.mark.parametrize("kind", [None, "none", "bind", "tmpfs", "anything"])
@pytest.mark.parametrize("option", ["bind", "rbind"])
def test_a_bind_mount_by_its_option(runtime: Runtime, bundle: Bundle, volume: Path, kind: str | None, option: str):
    bundle.mount("/mnt", kind, volume, [option])
    assert runtime.says(bundle, "cat /mnt/file") == "of the volume"


@rule("config.md", "Mounts", "MUST", "A source that does not exist is an error.")
def test_a_source_that_is_missing(runtime: Runtime, bundle: Bundle):
    bundle.mount("/mnt", "none", "/no/such/source", ["bind"])
    assert "/no/such/source" in runtime.refuses(bundle)


@rule("config.md", "Mounts", "MUST", "A destination is required.")
def test_a_destination_is_required(runtime: Runtime, bundle: Bundle):
    bundle.config["mounts"].append({"type": "tmpfs", "source": "tmpfs"})
    assert f"mounts[{len(bundle.mounts) - 1}].destination" in runtime.refuses(bundle)


@rule("config.md", "Mounts", "MUST", "A file system that the kernel does not have is an error.")
def test_an_unknown_file_system(runtime: Runtime, bundle: Bundle):
    bundle.mount("/mnt", "nosuchfs", "none")
    assert "nosuchfs" in runtime.refuses(bundle)


@rule("config.md", "Mounts", "MUST", "A file cannot be mounted on a directory, or the other way round.")
@pytest.mark.parametrize(("source", "destination"), [("file", "/tmp"), (".", "/test.txt")])
def test_a_source_of_another_kind(runtime: Runtime, bundle: Bundle, volume: Path, source: str, destination: str):
    bundle.mount(destination, "none", volume / source, ["bind"])
    assert destination in runtime.refuses(bundle)


@rule("config.md", "Mounts", "MUST", "A destination that leads through links stays within the root file system.")
def test_a_destination_behind_a_link(runtime: Runtime, bundle: Bundle, volume: Path, place: Path):
    (bundle.rootfs / "out").symlink_to(place)
    (bundle.rootfs / "up").symlink_to("../../../../../../tmp")
    bundle.mount("/out/inside", "none", volume, ["bind"])
    bundle.mount("/up/here", "none", volume, ["bind"])
    said = runtime.says(bundle, f"cat {place}/inside/file /tmp/here/file")
    assert said == "of the volume\nof the volume"
    assert not (place / "inside").exists()


@rule("config.md", "Mounts", "MUST", "What a writable bind mount gets is on the host.")
def test_a_bind_mount_can_be_written_to(runtime: Runtime, bundle: Bundle, volume: Path):
    bundle.mount("/mnt", "none", volume, ["bind", "rw"])
    runtime.says(bundle, "echo written > /mnt/new")
    assert (volume / "new").read_text() == "written\n"


@only_root
@rule("config.md", "Mounts", "MUST", "`rbind` takes what is mounted below the source, `bind` does not.")
@pytest.mark.parametrize(("option", "count"), [("rbind", 2), ("bind", 1)])
def test_a_recursive_bind_mount(runtime: Runtime, bundle: Bundle, volume: Path, option: str, count: int):
    nested_source(runtime, volume)
    bundle.mount("/mnt", "none", volume, [option])
    said = runtime.says(bundle, "grep -c ' /mnt' /proc/self/mountinfo")
    assert said == str(count)


@rule("config.md", "Mounts", "MUST", "Mounts of the container are not seen outside.")
def test_mounts_stay_inside(runtime: Runtime, bundle: Bundle, volume: Path):
    bundle.mount("/mnt", "none", volume, ["bind"])
    bundle.sh("echo ready; exec sleep 1000")
    runtime.start_new(bundle).read_until("ready")
    assert str(bundle.path) not in Path("/proc/self/mountinfo").read_text()


@rule(
    "config-linux.md", "Default Filesystems", "SHOULD", "/proc, /sys, /dev/pts and /dev/shm are of their file systems."
)
def test_the_file_systems_that_programs_expect(runtime: Runtime, bundles: Callable[..., Bundle]):
    said = runtime.says(bundles(), "cat /proc/self/mounts")
    kinds = {line.split()[1]: line.split()[2] for line in said.splitlines()}
    wanted = {"/proc": "proc", "/sys": "sysfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs", "/dev/mqueue": "mqueue"}
    assert {path: kinds.get(path) for path in wanted} == wanted


def nested_source(runtime: Runtime, volume: Path) -> None:
    """Run every command of `runtime` where a tmpfs is mounted at `volume`/nested: in a mount namespace of its own."""
    (volume / "nested").mkdir(exist_ok=True)
    script = f'mount -t tmpfs nested {volume}/nested && echo nested > {volume}/nested/file && exec "$@"'
    runtime.prefix = (*runtime.prefix, "unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
