"""config.md, "Linux mount options": each of the table's options, seen in the container's mountinfo."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from world.bundle import Bundle
from world.rule import only_root, rule
from world.runtime import Runtime

ALL = [
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "iversion",
    "lazytime",
    "loud",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
    "mand",
    "nomand",
]
"""The table of the specification, but for `idmap` and `ridmap`: see test_config_idmapped_mounts.py."""

SET = {
    "ro": "ro",
    "nosuid": "nosuid",
    "nodev": "nodev",
    "noexec": "noexec",
    "noatime": "noatime",
    "nodiratime": "nodiratime",
    "relatime": "relatime",
    "nosymfollow": "nosymfollow",
    "rw": "rw",
}
"""Options that show in mountinfo's sixth field."""
UNSET = {
    "suid": "nosuid",
    "dev": "nodev",
    "exec": "noexec",
    "rw": "ro",
    "atime": "noatime",
    "diratime": "nodiratime",
    "symfollow": "nosymfollow",
}
"""Options that take back another one."""
SUPER = ("sync", "dirsync", "lazytime")
"""Options of the file system, which show after the separator."""
RECURSIVE = {
    "rro": "ro",
    "rnosuid": "nosuid",
    "rnodev": "nodev",
    "rnoexec": "noexec",
    "rnoatime": "noatime",
    "rnodiratime": "nodiratime",
    "rrelatime": "relatime",
    "rnosymfollow": "nosymfollow",
}
CLEARING = {
    "rrw": "ro",
    "rsuid": "nosuid",
    "rdev": "nodev",
    "rexec": "noexec",
    "ratime": "noatime",
    "rdiratime": "nodiratime",
    "rsymfollow": "nosymfollow",
    "rstrictatime": "noatime",
}
PROPAGATION = {
    "private": "",
    "rprivate": "",
    "shared": "shared",
    "rshared": "shared",
    "unbindable": "unbindable",
    "runbindable": "unbindable",
}


@dataclass(frozen=True)
class Mounted:
    flags: set[str]
    optional: str
    """The propagation fields."""
    super: set[str]
    kind: str


def mounted(text: str, point: str) -> list[Mounted]:
    """What `mountinfo` says of the mounts at `point`."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if fields[4] == point:
            found.append(
                Mounted(
                    set(fields[5].split(",")), " ".join(fields[6:]), set(right.split()[2].split(",")), right.split()[0]
                )
            )
    return found


def look(runtime: Runtime, bundle: Bundle, point: str = "/mnt") -> Mounted:
    return mounted(runtime.says(bundle, "cat /proc/self/mountinfo"), point)[-1]


@rule(
    "config.md", "Linux mount options", "MUST", "Each option of the table is understood: none goes to the file system."
)
def test_every_option_is_understood(runtime: Runtime, bundle: Bundle):
    options = [each for each in ALL if each not in ("bind", "rbind", "remount")]
    bundle.mount("/mnt", "tmpfs", "tmpfs")
    for option in options:
        bundle.mount(f"/mnt/{option}", "tmpfs", "tmpfs", [option, "size=64k"])
    said = runtime.says(bundle, "cat /proc/self/mountinfo")
    assert [option for option in options if not mounted(said, f"/mnt/{option}")] == []


@rule(
    "config.md", "Linux mount options", "MUST", "ro, nosuid, nodev, noexec, noatime, nodiratime, relatime, nosymfollow."
)
@pytest.mark.parametrize("how", ["new", "bind"])
def test_options_show(runtime: Runtime, bundle: Bundle, place: Path, who: str, how: str):
    (place / "source").mkdir()
    kind, source, options = ("tmpfs", "tmpfs", []) if how == "new" else (None, place / "source", ["bind"])
    # The kernel locks the access time's flags of what comes from outside of a user namespace.
    locked = ("noatime", "nodiratime") if (who, how) == ("rootless", "bind") else ()
    wanted = {option: flag for option, flag in SET.items() if option not in locked}
    bundle.mount("/mnt", "tmpfs", "tmpfs")
    for option in wanted:
        bundle.mount(f"/mnt/{option}", kind, source, [*options, option])
    said = runtime.says(bundle, "cat /proc/self/mountinfo")
    assert [option for option, flag in wanted.items() if flag not in mounted(said, f"/mnt/{option}")[-1].flags] == []


@rule("config.md", "Linux mount options", "MUST", "strictatime means neither noatime nor relatime.")
def test_strictatime(runtime: Runtime, bundle: Bundle):
    bundle.mount("/mnt", "tmpfs", "tmpfs", ["strictatime"])
    assert not {"noatime", "relatime"} & look(runtime, bundle).flags


@rule("config.md", "Linux mount options", "MUST", "nostrictatime takes strictatime back: the kernel's relatime holds.")
def test_nostrictatime(runtime: Runtime, bundle: Bundle):
    bundle.mount("/mnt", "tmpfs", "tmpfs", ["strictatime", "nostrictatime"])
    assert "relatime" in look(runtime, bundle).flags


@rule(
    "config.md",
    "Linux mount options",
    "MUST",
    "suid, dev, exec, rw, atime, diratime, symfollow take the contrary back.",
)
def test_options_take_others_back(runtime: Runtime, bundle: Bundle):
    bundle.mount("/mnt", "tmpfs", "tmpfs")
    for option, earlier in UNSET.items():
        bundle.mount(f"/mnt/{option}", "tmpfs", "tmpfs", [earlier, option])
    said = runtime.says(bundle, "cat /proc/self/mountinfo")
    assert [option for option, flag in UNSET.items() if flag in mounted(said, f"/mnt/{option}")[-1].flags] == []


@rule("config.md", "Linux mount options", "MUST", "sync, dirsync and lazytime are options of the file system.")
def test_options_of_the_super_block(runtime: Runtime, bundle: Bundle):
    bundle.mount("/mnt", "tmpfs", "tmpfs")
    for option in SUPER:
        bundle.mount(f"/mnt/{option}", "tmpfs", "tmpfs", [option])
    said = runtime.says(bundle, "cat /proc/self/mountinfo")
    assert [option for option in SUPER if option not in mounted(said, f"/mnt/{option}")[-1].super] == []


@rule("config.md", "Linux mount options", "MUST", "async and nolazytime take sync and lazytime back.")
@pytest.mark.parametrize(("earlier", "option"), [("sync", "async"), ("lazytime", "nolazytime")])
def test_an_option_of_the_file_system_is_taken_back(runtime: Runtime, bundle: Bundle, earlier: str, option: str):
    bundle.mount("/mnt", "tmpfs", "tmpfs", [earlier, option])
    assert earlier not in look(runtime, bundle).super


@rule(
    "config.md", "Linux mount options", "MUST", "private, shared, unbindable and their recursive forms set propagation."
)
def test_the_propagation_of_mounts(runtime: Runtime, bundle: Bundle):
    bundle.mount("/mnt", "tmpfs", "tmpfs")
    for option in PROPAGATION:
        bundle.mount(f"/mnt/{option}", "tmpfs", "tmpfs", [option])
    said = runtime.says(bundle, "cat /proc/self/mountinfo")
    found = {option: mounted(said, f"/mnt/{option}")[-1].optional.partition(":")[0] for option in PROPAGATION}
    assert found == PROPAGATION


@only_root
@rule("config.md", "Linux mount options", "MUST", "slave and rslave receive the host's mounts below the source.")
@pytest.mark.parametrize(
    ("option", "seen"), [("rslave", True), ("slave", True), ("rprivate", False), ("private", False)]
)
def test_a_slave_receives_mounts(runtime: Runtime, bundle: Bundle, place: Path, option: str, seen: bool):
    # A namespace of the test's own, whose mount at `source` is shared: the container is started from it.
    source = place / "source"
    (source / "later").mkdir(parents=True)
    bundle.linux["rootfsPropagation"] = "rslave"
    bundle.mount("/mnt", None, source, ["rbind", option])
    bundle.sh(
        "echo ready; while [ ! -e /mnt/go ]; do sleep 0.02; done; grep -c ' /mnt/later ' /proc/self/mountinfo; true"
    )
    bundle.write()
    run = " ".join(runtime.argv("run", "--bundle", bundle.path, "jubako-test-slave"))
    script = f"""
        mount --bind {source} {source} && mount --make-shared {source}
        {run} > {place}/out 2>&1 &
        until grep -q ready {place}/out; do sleep 0.02; done
        mount -t tmpfs later {source}/later
        touch {source}/go
        wait; cat {place}/out
    """
    argv = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=runtime.environment(), cwd=place)
    assert done.stdout.split() == ["ready", "1" if seen else "0"], done.stdout + done.stderr


@only_root
@rule("config.md", "Linux mount options", "SHOULD", "rro, rnosuid, rnodev, rnoexec, rnoatime … hold for all below.")
def test_recursive_options(runtime: Runtime, bundle: Bundle, place: Path):
    nested(runtime, place)
    bundle.mount("/mnt", "tmpfs", "tmpfs")
    for option in RECURSIVE:
        bundle.mount(f"/mnt/{option}", None, place / "source", ["rbind", option])
    said = runtime.says(bundle, "cat /proc/self/mountinfo")
    points = [(f"/mnt/{option}{below}", flag) for option, flag in RECURSIVE.items() for below in ("", "/nested")]
    assert [point for point, flag in points if flag not in mounted(said, point)[-1].flags] == []


@only_root
@rule("config.md", "Linux mount options", "SHOULD", "rrw, rsuid, rdev, rexec, ratime … clear the flag for all below.")
def test_recursive_options_that_clear(runtime: Runtime, bundle: Bundle, place: Path):
    nested(runtime, place, "nosuid,nodev,noexec,noatime,nodiratime,nosymfollow,ro")
    bundle.mount("/mnt", "tmpfs", "tmpfs")
    for option in CLEARING:
        bundle.mount(f"/mnt/{option}", None, place / "source", ["rbind", option])
    said = runtime.says(bundle, "cat /proc/self/mountinfo")
    points = [(f"/mnt/{option}{below}", flag) for option, flag in CLEARING.items() for below in ("", "/nested")]
    assert [point for point, flag in points if flag in mounted(said, point)[-1].flags] == []


@only_root
@rule("config.md", "Linux mount options", "MUST", "An option that is not recursive holds for the mount itself only.")
def test_an_option_that_is_not_recursive(runtime: Runtime, bundle: Bundle, place: Path):
    nested(runtime, place)
    bundle.mount("/mnt", None, place / "source", ["rbind", "ro", "noexec"])
    said = runtime.says(bundle, "cat /proc/self/mountinfo")
    assert {"ro", "noexec"} <= mounted(said, "/mnt")[-1].flags
    assert not {"ro", "noexec"} & mounted(said, "/mnt/nested")[-1].flags


@rule("config.md", "Linux mount options", "MUST", "remount changes the flags of the mount that is there.")
def test_remount(runtime: Runtime, bundle: Bundle):
    bundle.mount("/mnt", "tmpfs", "tmpfs", ["size=64k"])
    bundle.mount("/mnt", "tmpfs", "tmpfs", ["remount", "ro", "noexec"])
    said = runtime.says(bundle, "cat /proc/self/mountinfo")
    assert len(mounted(said, "/mnt")) == 1
    found = mounted(said, "/mnt")[0]
    assert "ro" in found.flags | found.super
    assert "noexec" in found.flags


@rule("config.md", "Linux mount options", "MAY", "tmpcopyup copies what is at the destination into the tmpfs.")
def test_tmpcopyup(runtime: Runtime, bundle: Bundle):
    top = bundle.rootfs / "opt/data"
    (top / "sub").mkdir(parents=True)
    (top / "sub/file").write_text("copied\n")
    (top / "sub/file").chmod(0o640)
    (top / "link").symlink_to("sub/file")
    bundle.mount("/opt/data", "tmpfs", "tmpfs", ["tmpcopyup", "mode=0750"])
    said = runtime.says(
        bundle, "cd /opt/data; cat link; stat -c %a sub/file; readlink link; echo new > sub/new; ls sub"
    )
    assert said.splitlines() == ["copied", "640", "sub/file", "file", "new"]
    assert not (top / "sub/new").exists()


@rule("config.md", "Linux mount options", "SHOULD", "Unknown options go to the file system.")
def test_options_of_the_file_system(runtime: Runtime, bundle: Bundle):
    bundle.mount("/mnt", "tmpfs", "tmpfs", ["size=128k", "mode=0711", "nr_inodes=50"])
    found = look(runtime, bundle)
    assert {"size=128k", "mode=711", "nr_inodes=50"} <= found.super


@rule("config.md", "Linux mount options", "MUST", "An option that the file system does not take is an error.")
def test_an_option_that_nobody_knows(runtime: Runtime, bundle: Bundle):
    bundle.mount("/mnt", "tmpfs", "tmpfs", ["no-such-option"])
    assert "/mnt" in runtime.refuses(bundle)


@rule("config.md", "Linux mount options", "MUST", "A read-only bind mount cannot be written to.")
@pytest.mark.parametrize("options", [["bind", "ro"], ["ro", "rbind"], ["rbind", "rro"]], ids=" ".join)
def test_a_read_only_bind_mount(runtime: Runtime, bundle: Bundle, place: Path, options: list[str]):
    (place / "source").mkdir()
    bundle.mount("/mnt", None, place / "source", options)
    assert runtime.says(bundle, "echo x 2>/dev/null > /mnt/new || echo refused") == "refused"
    assert not (place / "source/new").exists()


def nested(runtime: Runtime, place: Path, options: str = "") -> None:
    """A mount at `source` with another one below it, in a mount namespace of the test's own."""
    source = place / "source"
    source.mkdir()
    more = f"mount -o remount,bind,{options} {source}/nested && mount -o remount,bind,{options} {source} &&"
    script = (
        f"mount -t tmpfs outer {source} && mkdir {source}/nested && mount -t tmpfs inner {source}/nested"
        f' && {more if options else ""} exec "$@"'
    )
    runtime.prefix = (*runtime.prefix, "unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
