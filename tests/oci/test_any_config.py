"""Whatever config.json says, the runtime answers: no traceback, no hang, and nothing is left (see `clean` too).

Whole documents are changed at random places and given to `create` or `run`. The same examples come each time;
JUBAKO_TEST_DEPTH=10 takes ten times as many, new ones each time. What once went wrong is kept in FOUND.
"""

from __future__ import annotations

import copy
import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jubako.plan.mount_options import MOUNT_OPTIONS
from oci.conftest import call, left
from oci.test_bad_config import changed as with_value
from world.bundle import Bundle, mapping
from world.command import Result
from world.faults import LONGEST, NEVER
from world.kills import depth
from world.runtime import Runtime, new_id

DEEP = "JUBAKO_TEST_DEPTH" in os.environ
PATIENCE = 30


def examples(count: int) -> settings:
    return settings(
        max_examples=count * depth(),
        deadline=None,
        derandomize=not DEEP,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


class Answers:
    """`answers(document)`: the runtime's answer to it is one of those that it may give."""

    def __init__(self, runtime: Runtime, bundle: Bundle) -> None:
        self.runtime = runtime
        self.bundle = bundle

    def __call__(self, document: Any, command: str = "run") -> None:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        (self.bundle.path / "config.json").write_bytes(data)
        name = new_id()
        try:
            self._look_at(call(self.runtime, command, "--bundle", self.bundle.path, name, timeout=PATIENCE), command)
        finally:
            if left(self.runtime):
                deleted = call(self.runtime, "delete", "--force", name, timeout=PATIENCE)
                self._look_at(deleted, "delete")
                assert deleted.exit_code == 0, deleted
        assert left(self.runtime) == []

    def _look_at(self, result: Result, command: str) -> None:
        assert not [word for word in NEVER if word in result.stderr], result
        assert len(result.stderr) < LONGEST, result
        assert 0 <= result.exit_code < 128 + 65, result
        assert result.exit_code == 0 or command == "run" or result.stderr.startswith("jubako: "), result
        if command in ("run", "create") and result.exit_code and result.stderr.startswith("jubako: "):
            assert left(self.runtime) == [], result


@pytest.fixture
def answers(runtime: Runtime, bundle: Bundle, who: str) -> Answers:
    bundle.args("/bin/true")
    enrich(bundle, who)
    result = runtime.run(bundle)
    assert result.stderr == "", "the document that is changed is one of a container"
    return Answers(runtime, bundle)


def enrich(bundle: Bundle, who: str) -> None:
    """Something of everything that works on every machine."""
    hook = {"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5}
    points = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    bundle.config["hooks"] = {point: [dict(hook)] for point in points}
    bundle.config["annotations"] = {"org.example": "x", "run.oci.keep_original_groups": "0"}
    bundle.config["domainname"] = "example"
    bundle.process.update(
        umask=18,
        oomScoreAdj=500,
        consoleSize={"height": 24, "width": 80},
        scheduler={"policy": "SCHED_OTHER", "nice": 1, "flags": []},
        ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 4},
        execCPUAffinity={"initial": "0", "final": "0"},
    )
    bundle.process["user"]["umask"] = 18
    bundle.process["rlimits"].append({"type": "RLIMIT_CORE", "hard": 0, "soft": 0})
    bundle.linux.update(
        sysctl={"kernel.msgmax": "8192", "net.ipv4.ip_unprivileged_port_start": "1024"},
        seccomp={
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "flags": [],
            "syscalls": [
                {
                    "names": ["keyctl", "add_key"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 1,
                    "args": [{"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}],
                }
            ],
        },
        personality={"domain": "LINUX"},
        rootfsPropagation="slave",
        resources={"devices": [{"allow": False, "access": "rwm"}]} if who == "rootless" else {},
        devices=[{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0}],
    )
    if who == "root":
        bundle.namespace("time")
        bundle.linux["timeOffsets"] = {"boottime": {"secs": 5, "nanosecs": 1}}
    bundle.mount("/mnt", "bind", "/etc", ["rbind", "ro", "nosuid", "rprivate"])
    bundle.mount("/run", "tmpfs", "tmpfs", ["size=64k", "tmpcopyup", "noexec"])


# --- whole documents --------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    (
        *("", ".", "..", "/", "//", "/..", "/proc", "/dev/null", "/proc/self/fd/0", "/proc/1/root", "rootfs"),
        *("\0", "\ud800", "\udcff", "\n", "%s", "$(id)", "a" * 300, "/" + "b/" * 2500, "x" * 200_000, "é", "-", "="),
        *("/bin/true", "A=", "CAP_SYS_ADMIN", "ALL", "0", "-1", "4294967296", "host", "private", "bind", "idmap"),
    )
)
NUMBERS = st.sampled_from(
    (*(0, 1, -1, 2, 7, 127, 255, 1023, 65535, 65536), *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63),
     *(2**64 - 1, 2**64, -(2**63), 10**40, 0.5, 1e300))
)  # fmt: skip
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, st.just([]), st.just({}), st.text(max_size=20))
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(("remove", "replace", "double", "exchange", "wrap")),
        st.integers(0, 2**32),
        st.integers(0, 2**32),
        VALUES,
    ),
    min_size=1,
    max_size=3,
)
# Where the host's own things would be changed, or its clock asked for hours.
NEVER_CHANGED = ("netDevices", "sysctl")


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all that is in a document."""
    found = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in pairs:
        if name not in NEVER_CHANGED:
            found += [(*way, name), *places(each, (*way, name))]
    return found


def changed(document: Any, changes: list[tuple[str, int, int, Any]]) -> Any:
    document = copy.deepcopy(document)
    for how, first, second, value in changes:
        ways = places(document)
        if not ways:
            return document
        *way, name = ways[first % len(ways)]
        holder = follow(document, way)
        if how == "remove":
            del holder[name]
        elif how == "replace":
            holder[name] = value
        elif how == "double" and isinstance(holder, list):
            holder.insert(name, copy.deepcopy(holder[name]))
        elif how == "exchange":
            holder[name] = copy.deepcopy(follow(document, ways[second % len(ways)]))
        elif how == "wrap":
            holder[name] = [holder[name]] if second % 2 else {"x": holder[name]}
    return document


def follow(value: Any, way: Any) -> Any:
    for name in way:
        value = value[name]
    return value


def test_whole_documents_with_something_else_in_them(answers: Answers) -> None:
    base = answers.bundle.config

    @examples(30)
    @given(CHANGES, st.sampled_from(("run", "run", "create")))
    def try_one(changes: list[tuple[str, int, int, Any]], command: str) -> None:
        answers(changed(base, changes), command)

    try_one()


# (path, value): what once ended in a fault, a silent failure or a hang
FOUND: tuple[tuple[str, Any], ...] = (
    ("annotations", {"org.example": "\udcff"}),
    ("hooks.poststart[0].timeout", 2**31 - 1),
    ("hooks.createContainer[0].args", ["true", "x" * 1_000_000]),
    ("process.args", ["x" * 1_000_000]),
    ("linux.timeOffsets", {"boottime": {"secs": 5}}),
    ("root.path", "/proc/self/fd/0"),
)


@pytest.mark.parametrize(("path", "value"), FOUND, ids=[path for path, _ in FOUND])
def test_documents_that_once_went_wrong(path: str, value: Any, answers: Answers) -> None:
    for command in ("create", "run"):
        answers(with_value(answers.bundle.config, path, value), command)


def test_texts_that_were_damaged(answers: Answers) -> None:
    text = json.dumps(answers.bundle.config).encode()

    @examples(10)
    @given(st.integers(0, len(text) - 1), st.integers(0, 40), st.binary(max_size=8))
    def try_one(position: int, removed: int, inserted: bytes) -> None:
        answers(text[:position] + inserted + text[position + removed :], "create")

    try_one()


# --- mounts -----------------------------------------------------------------------------------------------------------

TYPES = st.sampled_from(
    (*("bind", "tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay", "ramfs", "none", "", None),
     *("ext4", "fuse", "nosuch", "bpf", "debugfs"))
)  # fmt: skip
TARGETS = st.sampled_from(
    (*("/mnt", "mnt", "/mnt/new/one", "/proc", "/proc/self/fd", "/proc/sys/kernel", "/dev", "/dev/pts", "/sys"),
     *("/etc/passwd", "/", "/..", "/../../tmp", "/tmp/./x/../y", "/bin/sh", "/loop", "/away/x", "/n" * 200))
)  # fmt: skip
SOURCES = st.sampled_from(("rootfs", "/etc", "/etc/passwd", ".", "/proc", "/dev/null", "/no/such", "", None, "none"))
OPTIONS = st.lists(
    st.one_of(
        st.sampled_from(MOUNT_OPTIONS),
        st.sampled_from(
            (*("size=1k", "size=-1", "size=", "mode=777", "mode=x", "uid=0", "gid=5", "gid=99999", "newinstance", ""),
             *(",", "lowerdir=/,upperdir=/tmp", "context=x", "x" * 5000, "ro,rw", "optional", "nosuch=1"))
        ),
    ),
    max_size=5,
)  # fmt: skip
MOUNTS = st.lists(
    st.fixed_dictionaries({"destination": TARGETS, "type": TYPES, "source": SOURCES, "options": OPTIONS}),
    min_size=1, max_size=3,
)  # fmt: skip


def test_mounts_of_every_kind_with_options_of_every_kind(answers: Answers) -> None:
    bundle = answers.bundle
    (bundle.rootfs / "loop").symlink_to("loop")
    (bundle.rootfs / "away").symlink_to("/../../../../../../tmp")
    base = bundle.config

    @examples(20)
    @given(MOUNTS, st.booleans())
    def try_one(mounts: list[dict[str, Any]], first: bool) -> None:
        mine = [{name: value for name, value in mount.items() if value is not None} for mount in mounts]
        answers(base | {"mounts": [*mine, *base["mounts"]] if first else [*base["mounts"], *mine]})

    try_one()


# --- id maps ----------------------------------------------------------------------------------------------------------

EDGES = (0, 1, 2, 999, 1000, 65534, 65535, 65536, 100000, 2**31, 2**32 - 2, 2**32 - 1)
IDS = st.sampled_from(EDGES) | st.integers(0, 70000)
SIZES = st.sampled_from((0, 1, 2, 65536, 2**31, 2**32 - 1)) | st.integers(0, 2000)


def test_id_maps_of_every_kind(answers: Answers) -> None:
    bundle = answers.bundle
    bundle.namespace("user")
    own = {"uid": bundle_owner(bundle), "gid": os.stat(bundle.path).st_gid}
    maps = st.lists(st.tuples(IDS, IDS, SIZES), max_size=4)

    @examples(15)
    @given(maps, maps, st.booleans(), IDS)
    def try_one(uids: Any, gids: Any, with_own: bool, user: int) -> None:
        if with_own:
            uids, gids = [(0, own["uid"], 1), *uids], [(0, own["gid"], 1), *gids]
        document = copy.deepcopy(bundle.config)
        document["process"]["user"]["uid"] = user
        answers(document | {"linux": bundle.linux | {"uidMappings": mapping(*uids), "gidMappings": mapping(*gids)}})

    try_one()


def bundle_owner(bundle: Bundle) -> int:
    return os.stat(bundle.path).st_uid
