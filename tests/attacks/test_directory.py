"""CVE-2024-21626: a working directory, or any descriptor, that is still the host's."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from attacks.conftest import every_kernel
from world.bundle import Bundle
from world.hostile import swapping
from world.runtime import Runtime

HIGHEST = 13


@pytest.fixture
def leaked() -> Iterator[tuple[int, ...]]:
    """Directories of the host that the caller has open, and lets its children have."""
    opened = tuple(os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in ("/", "/etc", "/proc", "/sys/fs/cgroup"))
    yield opened
    for descriptor in opened:
        os.close(descriptor)


@every_kernel
def test_cve_2024_21626_no_descriptor_is_a_working_directory(
    runtime: Runtime, bundle: Bundle, leaked: tuple[int, ...]
) -> None:
    (bundle.rootfs / "link").symlink_to("/proc/self/fd")
    bundle.sh("pwd; ls; cat etc/passwd ../etc/passwd")
    places = [f"/proc/self/fd/{number}" for number in range(HIGHEST)]
    places += [f"{way}/{leaked[0]}" for way in ("/link", "/proc/1/fd", "/dev/fd", "/proc/thread-self/fd")]
    for place in places:
        bundle.process["cwd"] = place
        told = runtime.run(bundle, check=False, pass_fds=leaked)
        assert told.exit_code != 0, (place, told)
        assert told.stdout == "", (place, told)
        assert "working directory" in told.stderr, (place, told)


@every_kernel
def test_cve_2024_21626_nor_that_of_a_program_that_joins(
    runtime: Runtime, bundle: Bundle, leaked: tuple[int, ...]
) -> None:
    bundle.sh("echo ready; exec sleep 100")
    box = runtime.start_new(bundle)
    box.read_until("ready")
    for number in range(HIGHEST):
        told = box.exec("sh", "-c", "pwd; ls", flags=("--cwd", f"/proc/self/fd/{number}"), check=False, pass_fds=leaked)
        assert told.exit_code == 255, (number, told)
        assert told.stdout == "", (number, told)
        assert "working directory" in told.stderr, (number, told)


@every_kernel
def test_cve_2024_21626_nor_where_the_container_swaps_it_meanwhile(
    runtime: Runtime, bundle: Bundle, leaked: tuple[int, ...]
) -> None:
    (bundle.rootfs / "work").mkdir()
    (bundle.rootfs / "work/inside").write_text("")
    (bundle.rootfs / "trap").symlink_to(f"/proc/self/fd/{leaked[0]}")
    bundle.sh("echo ready; exec sleep 100")
    box = runtime.start_new(bundle)
    box.read_until("ready")
    with swapping(bundle.rootfs / "work", bundle.rootfs / "trap") as swaps:
        for _ in range(5):
            told = box.exec("ls", flags=("--cwd", "/work"), check=False, pass_fds=leaked)
            assert (told.exit_code, told.stdout) in ((0, "inside\n"), (255, "")), told
    assert swaps.count > 1000


@every_kernel
def test_a_missing_working_directory_is_made_inside(
    runtime: Runtime, bundle: Bundle, bundles: object, place: object
) -> None:
    """With the host's processes in sight, a link to their root turns up on the way while the directory is made."""
    bundle.config["root"]["readonly"] = False
    bundle.no_namespace("pid")
    if runtime.account.uid:
        bundle.unmount("/proc")
        bundle.mount("/proc", "bind", "/proc", ["rbind"])
        bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    outside = f"/tmp/jubako-made-outside-{os.getpid()}"
    (bundle.rootfs / "way").mkdir()
    (bundle.rootfs / "trap").symlink_to(f"/proc/{os.getpid()}/root")
    bundle.process["cwd"] = f"/way{outside}/work"
    bundle.sh("pwd")
    try:
        with swapping(bundle.rootfs / "way", bundle.rootfs / "trap") as swaps:
            for _ in range(4):
                runtime.run(bundle, check=False)
                assert not os.path.exists(outside)
        assert swaps.count > 1000
        bundle.process["cwd"] = "/trap" + outside
        runtime.run(bundle, check=False)
        assert not os.path.exists(outside)
    finally:
        if os.path.exists(outside):
            os.removedirs(outside + "/work")


@every_kernel
def test_no_descriptor_of_the_caller_or_of_ours_is_open_in_the_program(
    runtime: Runtime, bundle: Bundle, leaked: tuple[int, ...]
) -> None:
    bundle.sh("ls /proc/self/fd")
    assert runtime.run(bundle, pass_fds=leaked).stdout.split() == ["0", "1", "2", "3"]  # 3 is the listing's own
    bundle.sh("echo ready; exec sleep 100")
    box = runtime.start_new(bundle)
    box.read_until("ready")
    assert sorted(os.listdir(f"/proc/{box.pid}/fd")) == ["0", "1", "2"]
    told = box.exec("ls", "/proc/self/fd", pass_fds=leaked)
    assert told.stdout.split() == ["0", "1", "2", "3"]


def test_only_as_many_descriptors_as_are_asked_for_go_in(
    runtime: Runtime, bundle: Bundle, leaked: tuple[int, ...]
) -> None:
    """More are asked for than there are: what the runtime itself opened in their place stays out."""
    bundle.sh("echo ready; exec sleep 100")
    box = runtime.start_new(bundle)
    box.read_until("ready")
    told = box.exec("ls", "/proc/self/fd", flags=("--preserve-fds", "40"), check=False)
    assert told.exit_code == 255 or told.stdout.split() == ["0", "1", "2", "3"], told
