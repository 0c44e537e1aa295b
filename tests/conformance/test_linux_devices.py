"""config-linux.md: "Devices", "Masked Paths", "Readonly Paths", "Rootfs Mount Propagation"; runtime-linux.md."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from world.bundle import Bundle
from world.rule import only_root, only_rootless, rule
from world.runtime import Runtime

DEFAULT = {
    "/dev/null": "1:3",
    "/dev/zero": "1:5",
    "/dev/full": "1:7",
    "/dev/random": "1:8",
    "/dev/urandom": "1:9",
    "/dev/tty": "5:0",
}


# --- default devices --------------------------------------------------------------------------------------------------


@rule("config-linux.md", "Default Devices", "MUST", "null, zero, full, random, urandom and tty are there.")
def test_the_default_devices(runtime: Runtime, bundle: Bundle):
    said = runtime.says(bundle, "".join(f"stat -c '%F %t:%T %a' {path};" for path in DEFAULT))
    assert said.splitlines() == [f"character special file {number} 666" for number in DEFAULT.values()]


@rule("config-linux.md", "Default Devices", "MUST", "They are there for every user, and work.")
def test_the_default_devices_work(runtime: Runtime, bundles: Callable[..., Bundle]):
    bundle = bundles(maps="all")
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    said = runtime.says(
        bundle,
        "echo x > /dev/null && echo null; head -c 3 /dev/zero | od -An -tx1;"
        "echo x 2>/dev/null > /dev/full || echo full;"
        "head -c 8 /dev/urandom | wc -c; head -c 8 /dev/random | wc -c",
    )
    assert said.split() == ["null", "00", "00", "00", "full", "8", "8"]


@rule("config-linux.md", "Default Devices", "MUST", "/dev/ptmx is the one of the container's own /dev/pts.")
def test_ptmx(runtime: Runtime, bundle: Bundle):
    said = runtime.says(bundle, f"readlink -f /dev/ptmx; {bundle.use_probe()} open /dev/ptmx")
    assert said.splitlines() in (["/dev/pts/ptmx", "0"], ["/dev/ptmx", "0"])


@rule(
    "runtime-linux.md", "Dev symbolic links", "MUST", "/dev/fd, stdin, stdout and stderr are links into /proc/self/fd."
)
def test_links_in_dev(runtime: Runtime, bundle: Bundle):
    said = runtime.says(bundle, "for name in fd stdin stdout stderr; do readlink /dev/$name; done")
    assert said.split() == ["/proc/self/fd", *(f"/proc/self/fd/{number}" for number in range(3))]


@rule("runtime-linux.md", "File descriptors", "MUST", "The program has no descriptors but the three standard ones.")
def test_no_other_descriptors(runtime: Runtime, bundle: Bundle):
    read, write = os.pipe()
    try:
        bundle.args("ls", "-l", "/proc/self/fd")
        lines = runtime.run(bundle, pass_fds=(read, write)).lines
    finally:
        os.close(read)
        os.close(write)
    numbers = sorted(int(line.split()[-3]) for line in lines if "->" in line)
    assert numbers in ([0, 1, 2], [0, 1, 2, 3])  # the last is the directory that ls reads
    assert not [line for line in lines if "pipe" in line and int(line.split()[-3]) > 2]


@rule("runtime-linux.md", "File descriptors", "MAY", "--preserve-fds N passes N descriptors from number 3 on.")
def test_preserved_descriptors(runtime: Runtime, bundle: Bundle):
    read, write = os.pipe()
    try:
        os.write(write, b"through the pipe\n")
        bundle.sh("head -n 1 <&3; [ -e /proc/self/fd/4 ] || echo no more")
        bundle.write()
        script = f'exec 3</proc/self/fd/{read} 4<&-; exec "$@"'
        argv = runtime.argv("run", "--preserve-fds", "1", "--bundle", bundle.path, "jubako-test-preserve")
        done = subprocess.run(
            ("sh", "-c", script, "sh", *argv), pass_fds=(read,), capture_output=True, text=True, timeout=60
        )
    finally:
        os.close(read)
        os.close(write)
    assert done.stdout.partition(chr(10))[0] == "through the pipe", done.stderr


@rule("command line", "run", "common", "LISTEN_FDS sockets of systemd's activation are passed, and told of inside.")
def test_activated_sockets(runtime: Runtime, bundle: Bundle):
    read, write = os.pipe()
    try:
        os.write(write, b"through the socket\n")
        bundle.sh("head -n 1 <&3; echo $LISTEN_FDS $LISTEN_PID; [ -e /proc/self/fd/4 ] || echo no more")
        bundle.write()
        script = f'exec 3</proc/self/fd/{read} 4<&-; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
        argv = runtime.argv("run", "--bundle", bundle.path, "jubako-test-activated")
        done = subprocess.run(
            ("sh", "-c", script, "sh", *argv), pass_fds=(read,), capture_output=True, text=True, timeout=60
        )
    finally:
        os.close(read)
        os.close(write)
    assert done.stdout.splitlines()[:2] == ["through the socket", "1 1"], done.stderr


# --- devices ----------------------------------------------------------------------------------------------------------


@rule("config-linux.md", "Devices", "MUST", "The listed devices are there; an ordinary user gets those of the host.")
def test_a_listed_device(runtime: Runtime, bundle: Bundle):
    bundle.linux["devices"] = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}]
    assert runtime.says(bundle, "stat -c '%F %t:%T' /dev/fuse") == "character special file a:e5"


@only_root
@rule("config-linux.md", "Devices", "MUST", "`fileMode`, `uid` and `gid` are those of the node.")
@rule("config-linux.md", "Devices", "MAY", "The path may be outside of /dev.")
def test_mode_and_owner_of_a_device(runtime: Runtime, bundle: Bundle):
    bundle.linux["devices"] = [
        {"path": "/dev/one", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/deep/below/two", "type": "u", "major": 1, "minor": 3, "fileMode": 0o600},
        {"path": "/run/three", "type": "b", "major": 7, "minor": 200, "fileMode": 0o660, "uid": 0, "gid": 6},
    ]
    said = runtime.says(bundle, "stat -c '%F|%t:%T|%a|%u:%g' /dev/one /dev/deep/below/two /run/three")
    assert said.splitlines() == [
        "character special file|1:5|640|7:8",
        "character special file|1:3|600|0:0",
        "block special file|7:c8|660|0:6",
    ]


@only_root
@rule("config-linux.md", "Devices", "MUST", "The type `p` is a named pipe.")
def test_a_named_pipe(runtime: Runtime, bundle: Bundle):
    bundle.linux["devices"] = [{"path": "/dev/pipe", "type": "p", "fileMode": 0o622}]
    assert runtime.says(bundle, "stat -c '%F %a' /dev/pipe") == "fifo 622"


@only_root
@rule("config-linux.md", "Devices", "MUST", "A mode is not cut by the runtime's umask.")
def test_the_mode_is_not_masked(runtime: Runtime, bundle: Bundle):
    bundle.linux["devices"] = [{"path": "/dev/open", "type": "c", "major": 1, "minor": 5, "fileMode": 0o777}]
    assert runtime.says(bundle, "stat -c %a /dev/open") == "777"


@rule("config-linux.md", "Devices", "MUST", "A file at the path that is not the device is an error.")
def test_another_file_at_the_path(runtime: Runtime, bundle: Bundle):
    bundle.config["root"]["readonly"] = False
    bundle.linux["devices"] = [{"path": "/test.txt", "type": "c", "major": 1, "minor": 5}]
    assert "/test.txt" in runtime.refuses(bundle)
    assert (bundle.rootfs / "test.txt").read_text() == "a file of the root file system\n"


@only_rootless
@rule("config-linux.md", "Devices", "MUST", "A device that the host does not have cannot be given to an ordinary user.")
def test_a_device_that_the_host_lacks(runtime: Runtime, bundle: Bundle):
    bundle.linux["devices"] = [{"path": "/dev/nosuch", "type": "c", "major": 250, "minor": 250}]
    assert "/dev/nosuch" in runtime.refuses(bundle)


@rule("config-linux.md", "Devices", "MUST", "A type that is no device, or a missing number, is an error.")
@pytest.mark.parametrize(
    "given",
    [
        {"path": "/dev/x", "type": "x", "major": 1, "minor": 5},
        {"path": "/dev/x", "type": "c", "minor": 5},
        {"path": "dev/x", "type": "c", "major": 1, "minor": 5},
        {"type": "c", "major": 1, "minor": 5},
    ],
    ids=str,
)
def test_a_device_that_is_none(runtime: Runtime, bundle: Bundle, given: dict[str, object]):
    bundle.linux["devices"] = [given]
    assert "linux.devices[0]" in runtime.refuses(bundle)


# --- masked and read-only paths ---------------------------------------------------------------------------------------


@rule("config-linux.md", "Masked Paths", "MUST", "A masked file or directory cannot be read.")
def test_masked_paths(runtime: Runtime, bundle: Bundle):
    (bundle.rootfs / "secret").mkdir()
    (bundle.rootfs / "secret/file").write_text("secret\n")
    bundle.linux["maskedPaths"] = ["/secret", "/test.txt", "/proc/version", "/no/such/path"]
    said = runtime.says(bundle, "ls -A /secret; cat /test.txt /proc/version; cat /secret/file 2>/dev/null; echo end")
    assert said == "end"


@rule("config-linux.md", "Masked Paths", "MUST", "Nothing can be written to a masked path.")
def test_masked_paths_cannot_be_written_to(runtime: Runtime, bundle: Bundle):
    bundle.config["root"]["readonly"] = False
    bundle.linux["maskedPaths"] = ["/mnt"]
    assert runtime.says(bundle, "echo x 2>/dev/null > /mnt/file || echo refused") == "refused"


@rule("config-linux.md", "Readonly Paths", "MUST", "A read-only path can be read and not be written to.")
def test_readonly_paths(runtime: Runtime, bundle: Bundle):
    bundle.config["root"]["readonly"] = False
    bundle.linux["readonlyPaths"] = ["/mnt", "/test.txt", "/proc/sys", "/no/such/path"]
    (bundle.rootfs / "mnt/file").write_text("readable\n")
    said = runtime.says(
        bundle,
        "cat /mnt/file /test.txt; for f in /mnt/new /test.txt /proc/sys/kernel/domainname; do"
        " echo x 2>/dev/null > $f || echo refused; done; echo x > /tmp/new && echo elsewhere",
    )
    assert said.splitlines() == ["readable", "a file of the root file system", *["refused"] * 3, "elsewhere"]


@rule("config-linux.md", "Readonly Paths", "MUST", "What is mounted keeps its other flags when it becomes read-only.")
def test_readonly_paths_keep_their_flags(runtime: Runtime, bundle: Bundle):
    bundle.linux["readonlyPaths"] = ["/dev/shm"]
    said = runtime.says(bundle, "grep ' /dev/shm ' /proc/self/mountinfo | tail -n 1")
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(said.split()[5].split(","))


@rule("config-linux.md", "Masked Paths", "MUST", "Masked and read-only paths are absolute.")
@pytest.mark.parametrize("field", ["maskedPaths", "readonlyPaths"])
def test_paths_are_absolute(runtime: Runtime, bundle: Bundle, field: str):
    bundle.linux[field] = ["proc/sys"]
    assert f"linux.{field}[0]" in runtime.refuses(bundle)


@rule("config-linux.md", "Masked Paths", "MUST", "The paths are the container's: links do not lead out of it.")
@pytest.mark.parametrize("field", ["maskedPaths", "readonlyPaths"])
def test_links_do_not_lead_out(runtime: Runtime, bundle: Bundle, place: Path, field: str):
    (place / "outside").mkdir()
    (place / "outside/file").write_text("still here\n")
    (bundle.rootfs / "link").symlink_to(place / "outside")
    bundle.linux[field] = ["/link"]
    runtime.create(bundle, check=False)
    (place / "outside/file").write_text("changed\n")
    assert (place / "outside/file").read_text() == "changed\n"


# --- propagation of the root ------------------------------------------------------------------------------------------


@rule("config-linux.md", "Rootfs Mount Propagation", "MUST", "`rootfsPropagation` is the propagation of `/`.")
@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("private", ""),
        ("rprivate", ""),
        ("slave", ("", "master")),
        ("shared", "shared"),
        ("unbindable", "unbindable"),
        (None, ("", "master")),
    ],
    ids=str,
)
def test_the_propagation_of_the_root(runtime: Runtime, bundle: Bundle, given: str | None, shown: str | tuple[str, ...]):
    if given is not None:
        bundle.linux["rootfsPropagation"] = given
    said = runtime.says(bundle, "cat /proc/self/mountinfo")
    line = next(line for line in said.splitlines() if line.split()[4] == "/")
    found = " ".join(line.partition(" - ")[0].split()[6:]).partition(":")[0]
    assert found in (shown if isinstance(shown, tuple) else (shown,))


@rule("config-linux.md", "Rootfs Mount Propagation", "MUST", "Another value is an error.")
@pytest.mark.parametrize("given", ["public", "ro"])
def test_an_unknown_propagation(runtime: Runtime, bundle: Bundle, given: str):
    bundle.linux["rootfsPropagation"] = given
    assert "linux.rootfsPropagation" in runtime.refuses(bundle)


@only_root
@rule("config-linux.md", "Rootfs Mount Propagation", "MUST", "A shared root is not shared with the host.")
def test_a_shared_root_stays_inside(runtime: Runtime, bundle: Bundle):
    bundle.linux["rootfsPropagation"] = "shared"
    bundle.capabilities(["CAP_SYS_ADMIN"])
    bundle.config["root"]["readonly"] = False
    bundle.sh("mount -t tmpfs inside /mnt && grep -c ' /mnt ' /proc/self/mountinfo; echo ready; exec sleep 1000")
    box = runtime.start_new(bundle)
    assert box.read_until("ready").splitlines()[0] == "1"
    assert "/mnt" not in [line.split()[4][-4:] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
