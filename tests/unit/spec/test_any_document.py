"""Whatever stands in a config.json, it is a container that can be planned, or one of our errors with the path to it.

Documents are drawn from the table that reads them, and then one value anywhere is exchanged for one that somebody
hostile or careless would put there. What was once found is kept as an example.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jubako import jsontext
from jubako.errors import JubakoError, UsageError
from jubako.plan import attributes, oci_mounts
from jubako.plan.attributes import Modules
from jubako.plan.capabilities import known_sets
from jubako.plan.devices import plan_devices
from jubako.plan.host import Host
from jubako.plan.mount_options import MOUNT_OPTIONS
from jubako.plan.namespaces import namespaces_of
from jubako.plan.seccomp import custom_filter
from jubako.plan.step import Plan, Step
from jubako.spec import document
from jubako.spec.check import RLIMIT_TYPES, SECCOMP_ACTIONS, SECCOMP_ARCHITECTURES, SECCOMP_FLAGS, SECCOMP_OPERATORS
from jubako.spec.check_attributes import IO_CLASSES, MEMORY_FLAGS, MEMORY_MODES, POLICIES, SCHEDULER_FLAGS
from jubako.spec.defaults import NAMESPACE_TYPES, PROPAGATIONS
from jubako.spec.dump import dump
from jubako.spec.load import load, load_process, load_resources, load_seccomp
from jubako.spec.shape import Codec, Flag, Integer, ListOf, NamedObjects, ObjectOf, PairsOf, Text
from jubako.spec.types import Spec

SLOW = 2.0  # seconds for one document; the slowest machine needs a hundredth
WORDS = (
    *("", "/", "/..", "//a/../b", "a", "/proc", "/proc/self/fd/7", "/sys/fs/cgroup", "/dev", "/dev/console", "..", "."),
    *("tmpfs", "proc", "sysfs", "cgroup", "cgroup2", "overlay", "bind", "ext4", "mqueue", "devpts", "none", "rootfs"),
    *("c", "b", "u", "p", "CAP_CHOWN", "CAP_FLY", "1.3.0", "1.", "A=1", "=", "PATH=/bin", "0-3,7", "-1", "9" * 40),
    *("net.ipv4.ip_forward", "kernel.hostname", "net/../vm", "LINUX32", "\0", "\n", "\ud800", "\udc80", "é" * 70),
    *("size=5", "lowerdir=/a:/b", "context=x,y", "a" * 5000, "monotonic", "SCMP_ACT_NOTIFY", "mkdir", "no_such_call"),
    *(*MOUNT_OPTIONS, *NAMESPACE_TYPES, *PROPAGATIONS, *POLICIES, *SCHEDULER_FLAGS, *IO_CLASSES, *MEMORY_MODES),
    *(*MEMORY_FLAGS, *RLIMIT_TYPES, *SECCOMP_ACTIONS, *SECCOMP_FLAGS, *SECCOMP_ARCHITECTURES, *SECCOMP_OPERATORS),
)
NUMBERS = st.sampled_from((0, 1, -1, 7, 1000, 65536, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 10**300))
TEXT = st.sampled_from(WORDS) | st.text(max_size=6)
JUNK = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def values(codec: Codec) -> st.SearchStrategy[Any]:
    """JSON that the codec could take, with likely words in it."""
    if isinstance(codec, Text):
        return TEXT
    if isinstance(codec, Flag):
        return st.booleans()
    if isinstance(codec, Integer):
        return NUMBERS.filter(lambda number: codec.least <= number <= codec.most) | st.integers(codec.least, codec.most)
    if isinstance(codec, ListOf):
        return st.lists(values(codec.item), max_size=3)
    if isinstance(codec, PairsOf):
        return st.dictionaries(TEXT, values(codec.item), max_size=2)
    if isinstance(codec, NamedObjects):
        return st.dictionaries(TEXT, values(codec.item), max_size=2)
    assert isinstance(codec, ObjectOf)
    required = {name: values(one) for _, name, one, presence in codec.fields if presence == 2}
    optional = {name: values(one) for _, name, one, presence in codec.fields if presence != 2}
    return st.fixed_dictionaries(required, optional=optional)


@st.composite
def damaged(draw: st.DrawFn, codec: Codec) -> Any:
    """A likely document in which one value is junk, or none."""
    whole = draw(values(codec))
    if not draw(st.booleans()):
        return whole
    at = whole
    for _depth in range(draw(st.integers(0, 5))):
        keys = list(at) if isinstance(at, dict) else list(range(len(at))) if isinstance(at, list) else []
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if not isinstance(at[key], dict | list) or draw(st.booleans()):
            at[key] = draw(JUNK)
            break
        at = at[key]
    return whole


@st.composite
def sections(draw: st.DrawFn) -> dict[str, Any]:
    """A sound document with a few properties drawn at random, so that most of them reach the planners."""
    spaces = draw(st.lists(st.sampled_from([kind for kind in NAMESPACE_TYPES if kind != "mount"]), unique=True))
    path = draw(st.sampled_from(("", "/ns")))
    whole = likely()
    whole["linux"]["namespaces"] = [{"type": "mount"}, *({"type": kind, "path": path} for kind in spaces)]
    for name, codec in (("process", document.PROCESS), ("linux", document.LINUX), ("", document.SPEC)):
        into = whole[name] if name else whole
        free = [one for one in codec.fields if one[1] not in KEPT]
        for _attribute, key, inner, _presence in draw(st.lists(st.sampled_from(free), max_size=3)):
            into[key] = draw(damaged(inner))
    return whole


KEPT = ("ociVersion", "root", "process", "linux", "namespaces", "cwd", "args")
HOSTS = st.builds(
    Host, stage=st.just("/stage"), foreign_proc=st.sampled_from(("", "/foreign")), privileged=st.booleans(),
    setgroups_denied=st.booleans(), cgroup2=st.booleans(),
)  # fmt: skip
MODULES = st.builds(Modules, st.booleans(), st.booleans(), st.sampled_from(("", "/sys/fs/resctrl")))


def likely(**changes: Any) -> dict[str, Any]:
    return {
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["sh"]},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
        **changes,
    }


def planned(spec: Spec, host: Host, modules: Modules) -> list[Step]:
    """The steps of every planner that a bundle needs besides its life cycle's."""
    spaces = namespaces_of(spec)
    label = attributes.mount_label(spec.linux, modules)
    bundle = oci_mounts.Bundle("/bundle", label)
    oci_mounts.bind_sources(spec, bundle)
    if spec.process.capabilities is not None:
        known_sets(spec.process.capabilities, host.last_cap)
    if spec.linux.seccomp is not None:
        custom_filter(spec.linux.seccomp, "", listening=True)
    return [
        *oci_mounts.plan_mount_sources(spec, spaces, host, bundle),
        *oci_mounts.plan_shared_sources(spec, spaces, host, bundle),
        *attributes.plan_scheduling(spec.process),
        *attributes.plan_scheduling(spec.process, joined=True),
        *attributes.plan_net_devices(spec.linux),
        *attributes.plan_resctrl(spec.linux, modules, "box"),
        *attributes.plan_memory(spec.linux),
        *attributes.plan_personality(spec.linux),
        *attributes.plan_initial_affinity(spec.process),
        *attributes.plan_final_affinity(spec.process),
        *attributes.plan_labels(spec.process, modules),
        *attributes.plan_parameters(spec, spaces),
        *oci_mounts.plan_mounts(spec, spaces, host, bundle),
        *plan_devices(spec, spaces, host),
        *oci_mounts.plan_mounts_end(spec),
    ]


def explains_itself(step: Step) -> bool:
    told = (step.call(), step.purpose(), step.operation(), step.hint(1), step.hint(22), step.subject())
    return all(text.isprintable() for text in told)


def tried(value: Any, host: Host, modules: Modules) -> None:
    """Load and plan `value`: nothing but an error of ours, and soon."""
    started = time.monotonic()
    error = refused(load, value)
    if error is None:
        spec = load(value)
        assert load(dump(spec)) == spec
        try:
            steps = planned(spec, host, modules)
        except JubakoError as failure:
            error = failure
        else:
            given = ("root", "init_pid", "ns:user", *(f"mount{position}" for position in range(len(spec.mounts))))
            Plan(tuple(steps), given).check_slots()
            for step in steps:
                assert explains_itself(step), step
    else:
        assert str(error).startswith("read config.json: ")
        assert str(error).isprintable(), str(error)
    assert time.monotonic() - started < SLOW


def refused(reader: Callable[[Any], Any], value: Any) -> JubakoError | None:
    """The error that `reader` has for `value`, if it has one."""
    try:
        reader(value)
    except UsageError as failure:
        return failure
    return None


USER, ROOT = Host("/stage", "/foreign"), Host("/stage", "/foreign", privileged=True)
ALL, NONE = Modules(True, True, "/sys/fs/resctrl"), Modules()
MAP = [{"containerID": 0, "hostID": 0, "size": 4294967295}]


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(damaged(document.SPEC) | sections(), HOSTS, MODULES)
@example(likely(mounts=[{"destination": "/a", "type": "tmpfs", "options": ["context=\udc80"]}]), ROOT, ALL)
@example(likely(mounts=[{"destination": "/a\n", "type": "\x1b[31m", "source": "/b", "options": ["\n"]}]), ROOT, ALL)
@example(likely(mounts=[{"destination": "/\ud800"}]), USER, NONE)
@example(likely(mounts=[{"destination": "/a", "options": ["bind", "\n"]}]), USER, NONE)
@example(likely(mounts=[{"destination": "/a", "source": "b", "options": ["idmap"], "uidMappings": MAP}]), ROOT, NONE)
@example(likely(mounts=[{"destination": "/", "type": "tmpfs"}]), USER, NONE)
@example(likely(linux={"namespaces": [{"type": "mount"}], "devices": [{"path": "/", "type": "c"}]}), ROOT, NONE)
@example(likely(linux={"namespaces": [{"type": "mount"}], "devices": [{"path": "/a\n", "type": "p"}]}), ROOT, NONE)
@example(likely(linux={"namespaces": [{"type": "mount"}], "sysctl": {"": ""}}), USER, NONE)
@example(likely(linux={"namespaces": [{"type": "mount"}, {"type": "network"}], "sysctl": {"net.\n": ""}}), USER, NONE)
@example(likely(annotations={"\ud800": "x"}), USER, NONE)
@example(likely(process={"cwd": "/", "args": ["x"], "apparmorProfile": "\n", "selinuxLabel": "\t"}), USER, ALL)
@example(likely(hostname="\ud800" * 3), USER, NONE)
@example({"ociVersion": "1.\n", "root": {"path": "/"}}, USER, NONE)
@example([], USER, NONE)
@example(likely(linux={"namespaces": [{"type": "mount"}], "timeOffsets": {"\x1f": {}}}), USER, NONE)
@example(likely(mounts=[{"destination": "/" + "a/" * 3000, "type": "tmpfs"}]), USER, NONE)
@example(likely(linux={"namespaces": [{"type": "mount"}], "uidMappings": MAP * 2}), USER, NONE)
def test_any_document_is_planned_or_refused(value: Any, host: Host, modules: Modules) -> None:
    tried(value, host, modules)


@st.composite
def mounting(draw: st.DrawFn) -> dict[str, Any]:
    """A sound document with wild mounts in it."""
    spaces = draw(st.lists(st.sampled_from(NAMESPACE_TYPES), unique=True))
    joined = draw(st.sampled_from(("", "/ns")))
    mounts = draw(st.lists(values(document.MOUNT), max_size=4))
    for mount in mounts:
        mount["options"] = draw(st.lists(st.sampled_from((*MOUNT_OPTIONS, "size=5", "\n", "context=a,b")), max_size=6))
    namespaces = [{"type": kind, "path": joined} for kind in spaces if kind != "mount"]
    return likely(mounts=mounts, linux={"namespaces": [{"type": "mount"}, *namespaces]})


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(mounting(), HOSTS)
@example(likely(mounts=[{"destination": "/x", "type": "tmpfs", "options": ["remount", "tmpcopyup"]}]), ROOT)
@example(likely(mounts=[{"destination": "/x", "type": "bind", "options": ["remount", "idmap"]}]), ROOT)
@example(likely(mounts=[{"destination": "/x", "source": "/y", "options": ["rbind", "shared", "idmap"]}]), ROOT)
@example(likely(mounts=[{"destination": "proc", "type": "proc", "options": ["rro", "slave", "shared"]}]), USER)
def test_any_mounts_are_planned_or_refused(value: dict[str, Any], host: Host) -> None:
    tried(value, host, NONE)


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(damaged(document.PROCESS), damaged(document.RESOURCES), damaged(document.SECCOMP))
@example({"cwd": "/", "args": ["\ud800"]}, {"unified": {"\0": ""}}, {"defaultAction": "\n"})
@example({"cwd": "/", "args": [], "scheduler": {"policy": "SCHED_DEADLINE", "runtime": 2**64 - 1}}, None, None)
def test_any_part_is_read_or_refused(process: Any, resources: Any, seccomp: Any) -> None:
    for reader, value in ((load_process, process), (load_resources, resources), (load_seccomp, seccomp)):
        assert len(str(refused(reader, value))) < 1500


@settings(deadline=None, max_examples=150)
@given(st.text(max_size=30) | st.binary(max_size=30) | damaged(document.ROOT).map(jsontext.dumps))
@example("[" * 100_000)
@example('{"a":' * 100_000)
@example(b"\xff")
@example('"\\ud800"')
@example("1" * 5000)
@example('{"a":1,"a":2}')
@example("1e999")
@example("\ufeff{}")
def test_any_text_is_json_or_a_value_error(text: str | bytes) -> None:
    try:
        value = jsontext.loads(text)
    except ValueError:
        return
    refused(load, value)
