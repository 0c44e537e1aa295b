"""config.md, "Linux mount options" and "POSIX-platform Mounts": id-mapped mounts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from world.bundle import Bundle, mapping
from world.rule import only_root, only_rootless, rule
from world.runtime import Runtime


@pytest.fixture
def source(place: Path) -> Path:
    """A directory with files of the host's users 0 and 1000, and one below a mount."""
    directory = place / "source"
    directory.mkdir(mode=0o777)
    (directory / "file").touch()
    return directory


@pytest.fixture
def mapped(bundle: Bundle) -> Bundle:
    """Root's container in a user namespace of its own: 0 to 65535 are the host's 200000 and up."""
    bundle.namespace("user")
    bundle.linux.update({"uidMappings": mapping((0, 200000, 65536)), "gidMappings": mapping((0, 200000, 65536))})
    return bundle


def owners(runtime: Runtime, bundle: Bundle, path: str = "/mnt/file") -> str:
    return runtime.says(bundle, f"stat -c '%u %g' {path}")


@only_root
@rule("config.md", "Linux mount options", "SHOULD", "`idmap` with maps: the mount has that mapping.")
@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_a_mount_with_maps(runtime: Runtime, bundle: Bundle, source: Path, option: str):
    maps = {"uidMappings": mapping((0, 1000, 1)), "gidMappings": mapping((0, 2000, 1))}
    bundle.mount("/mnt", None, source, ["rbind", option], **maps)
    assert owners(runtime, bundle) == "1000 2000"


@only_root
@rule("config.md", "POSIX-platform Mounts", "MUST", "Maps without the option `idmap` are used too.")
def test_maps_without_the_option(runtime: Runtime, bundle: Bundle, source: Path):
    maps = {"uidMappings": mapping((0, 1000, 1)), "gidMappings": mapping((0, 2000, 1))}
    bundle.mount("/mnt", None, source, ["bind"], **maps)
    assert owners(runtime, bundle) == "1000 2000"


@only_root
@rule(
    "config.md",
    "Linux mount options",
    "MUST",
    "`idmap` without maps uses those of the user namespace, if there is one.",
)
def test_a_mount_with_the_maps_of_the_namespace(runtime: Runtime, mapped: Bundle, source: Path):
    mapped.mount("/mnt", None, source, ["bind", "idmap"])
    assert owners(runtime, mapped) == "0 0"


@only_root
@rule(
    "config.md", "Linux mount options", "MUST", "Files that are made through an id-mapped mount have the mapped owner."
)
def test_files_made_through_the_mount(runtime: Runtime, mapped: Bundle, source: Path):
    mapped.mount("/mnt", None, source, ["bind", "idmap"])
    runtime.says(mapped, "touch /mnt/new")
    found = (source / "new").stat()
    assert (found.st_uid, found.st_gid) == (0, 0)


@rule("config.md", "Linux mount options", "MUST", "`idmap` without maps and without a user namespace is an error.")
@only_root
def test_no_maps_at_all(runtime: Runtime, bundle: Bundle, source: Path):
    bundle.mount("/mnt", None, source, ["bind", "idmap"])
    runtime.refuses(bundle)


@rule("config.md", "POSIX-platform Mounts", "MUST", "`uidMappings` and `gidMappings` come together.")
@pytest.mark.parametrize("field", ["uidMappings", "gidMappings"])
def test_only_one_of_the_maps(runtime: Runtime, bundle: Bundle, source: Path, field: str):
    bundle.mount("/mnt", None, source, ["bind", "idmap"], **{field: mapping((0, 0, 1))})
    assert f"mounts[{len(bundle.mounts) - 1}]" in runtime.refuses(bundle)


@only_root
@rule("config.md", "Linux mount options", "SHOULD", "`ridmap` holds for what is mounted below, `idmap` does not.")
@pytest.mark.parametrize(("option", "below"), [("ridmap", "1000 2000"), ("idmap", "0 0")])
def test_recursive_maps(runtime: Runtime, bundle: Bundle, source: Path, option: str, below: str):
    script = f'mkdir {source}/nested && mount -t tmpfs inner {source}/nested && touch {source}/nested/file && exec "$@"'
    runtime.prefix = (*runtime.prefix, "unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
    maps = {"uidMappings": mapping((0, 1000, 1)), "gidMappings": mapping((0, 2000, 1))}
    bundle.mount("/mnt", None, source, ["rbind", option], **maps)
    assert owners(runtime, bundle, "/mnt/file") == "1000 2000"
    runtime.prefix = tuple(each.replace("mkdir", "mkdir -p") for each in runtime.prefix)
    assert owners(runtime, bundle, "/mnt/nested/file") == below


@only_rootless
@rule("config.md", "Linux mount options", "MUST", "Where the kernel does not allow an id-mapped mount, it is an error.")
def test_what_is_not_allowed_is_an_error(runtime: Runtime, bundles: Callable[..., Bundle], source: Path):
    bundle = bundles(maps="all")
    maps = {"uidMappings": mapping((0, 1, 1)), "gidMappings": mapping((0, 1, 1))}
    bundle.mount("/mnt", None, source, ["bind", "idmap"], **maps)
    runtime.refuses(bundle)
