"""What holds for every step there is: it explains itself in one line, and is a value."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jubako.plan.steps
from jubako.plan.container import Extras, plan_container
from jubako.plan.host import Host, RootSource
from jubako.plan.joined import PARENT, plan_joined
from jubako.plan.step import INIT, RUNTIME, SUPERVISOR, Plan, Slots, Step, quote, step
from jubako.plan.steps.hooks import HookState
from jubako.plan.steps.processes import Clone
from jubako.record import replace
from jubako.spec.types import (
    Capabilities,
    ConsoleSize,
    Device,
    Hook,
    IdMapping,
    Linux,
    Mount,
    Namespace,
    Process,
    Rlimit,
    Root,
    Spec,
    TimeOffset,
    User,
)
from unit.plan.plans import FOREIGN, STAGE, TREE, only

for module in pkgutil.iter_modules(jubako.plan.steps.__path__):
    importlib.import_module(f"jubako.plan.steps.{module.name}")


def subclasses(of: type) -> list[type]:
    return [found for kind in of.__subclasses__() for found in (kind, *subclasses(kind))]


KINDS = sorted(
    (
        kind
        for kind in subclasses(Step)
        if kind is not Clone and kind.__name__[0] != "_" and kind.__module__.startswith("jubako.")
    ),
    key=lambda kind: kind.__name__,
)

_SAMPLES: dict[str, Any] = {
    "str": "a",
    "int": 1,
    "bool": True,
    "bytes": bytes(8),
    "Capabilities": Capabilities(("CAP_CHOWN",), ("CAP_CHOWN",), (), ("CAP_CHOWN",), ("CAP_CHOWN",)),
    "tuple[str, ...]": ("a", "b"),
    "tuple[str, str, str]": ("a", "b", "c"),
    "tuple[tuple[str, str], ...]": (("/a", "b"),),
    "tuple[tuple[str, int], ...]": (("/a", 0o755),),
    "tuple[tuple[str, int, int], ...]": (("boottime", 1, 2),),
    "tuple[tuple[int, int, int], ...]": ((0, 1000, 1), (1, 100000, 65536)),
    "tuple[int, ...]": (0, 1),
    "tuple[Hook, ...]": (Hook("/bin/hook", ("hook", "now")), Hook("/bin/other", timeout=3)),
    "HookState": HookState("1.3.0", "c1", "/bundle"),
    "Changes": ((1, 2, 1 << 18, True),),
}


def sample(kind: type, **changes: Any) -> Any:
    """A step of this kind with something in every field."""
    fields: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        fields.update(base.__dict__.get("__annotations__", {}))
    values = {name: _SAMPLES[fields[name]] for name in kind.FIELDS}  # type: ignore[attr-defined]
    if kind.__name__ == "LimitCapabilities":
        values["bounding"] = ("CAP_CHOWN",)
    if kind.__name__ == "SetRootPropagation":
        values["propagation"] = "rslave"
    if kind.__name__ == "JoinNamespace":
        values["kind"] = "network"
    return kind(**{**values, **changes})


def is_one_line(text: str) -> bool:
    return bool(text.strip()) and "\n" not in text and text.isprintable()


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_explains_itself_in_one_line_each(kind: type) -> None:
    made = sample(kind)
    assert is_one_line(made.call()), made.call()
    assert "(" in made.call()
    assert is_one_line(made.why)
    assert is_one_line(made.purpose())
    assert not made.why.startswith(kind.__name__)


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_says_in_words_what_failed(kind: type) -> None:
    made = sample(kind)
    assert is_one_line(made.operation())
    assert made.operation()[0].islower()
    assert "  " not in made.operation()
    assert "\n" not in made.subject()
    for number in (1, 2, 13, 17, 22, 28, 30, 38):
        assert "\n" not in made.hint(number)


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_is_a_frozen_value(kind: type) -> None:
    made, again = sample(kind), sample(kind)
    assert made == again
    assert hash(made) == hash(again)
    assert made.actor in (RUNTIME, SUPERVISOR, INIT)
    with pytest.raises(AttributeError, match="immutable"):
        made.anything = 1
    for name in kind.FIELDS:  # type: ignore[attr-defined]
        with pytest.raises(AttributeError, match="immutable"):
            setattr(made, name, None)
        assert replace(made, **{name: "other"}) != made
    assert repr(made).startswith(kind.__name__ + "(")


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_names_its_slots(kind: type) -> None:
    made = sample(kind)
    for slots in (made.needs, made.produces):
        assert isinstance(slots, tuple)
        assert all(isinstance(name, str) and name for name in slots)


@pytest.mark.parametrize("kind", KINDS)
def test_text_of_others_cannot_break_the_line_of_an_explanation(kind: type) -> None:
    for name in kind.FIELDS:  # type: ignore[attr-defined]
        value = _SAMPLES.get(kind.__annotations__.get(name, ""))
        if name in ("bounding", "kind", "propagation", "slot", "slots", "reason") or kind.__name__ == "SetRlimit":
            continue  # the planners' own words
        if not isinstance(value, str | tuple) or (isinstance(value, tuple) and value[:1] != ("a",)):
            continue
        evil = 'x"\n\x1b[31m\u2028\udc80' if isinstance(value, str) else ('x"\n\x1b[31m\u2028\udc80',)
        made = sample(kind, **{name: evil})
        assert "\n" not in made.call(), name
        assert "\x1b" not in made.call(), name
        assert "\n" not in made.purpose(), name
        assert "\x1b" not in made.purpose(), name


def test_a_step_declared_without_a_reason_has_its_docstrings_first_line() -> None:
    @step(actor=SUPERVISOR)
    class DoTheOddThing(Step):
        """The reason.

        More about it.
        """

        what: str

    @step(why="because")
    class DoAnother(Step):
        """Not this."""

    assert (DoTheOddThing.why, DoTheOddThing.actor) == ("The reason.", SUPERVISOR)
    assert (DoAnother.why, DoAnother.actor) == ("because", INIT)
    assert DoTheOddThing("x").operation() == "do the odd thing"
    assert DoTheOddThing("x").purpose() == "The reason."
    assert DoTheOddThing("x").subject() == DoTheOddThing("x").hint(1) == ""


def test_a_plan_that_needs_what_nobody_made_is_a_fault() -> None:
    @step()
    class Makes(Step):
        """Makes it."""

        produces = ("it",)

    @step()
    class Takes(Step):
        """Takes it."""

        needs = ("it",)

    Plan((Makes(), Takes())).check_slots()
    Plan((Takes(),), ("it",)).check_slots()
    with pytest.raises(ValueError, match=r"step 1 \(Takes\) needs 'it'"):
        Plan((Takes(), Makes())).check_slots()


def test_slots_lead_to_what_was_opened_before(tmp_path: Path) -> None:
    slots = Slots({"path:/a/b": 7})
    assert slots.path("/a/b") == "/proc/self/fd/7"
    assert slots.path("/a/b/c") == "/proc/self/fd/7/c"
    assert slots.path("/a/b/c/d") == "/a/b/c/d"
    assert slots.path("/a") == "/a"
    assert "path:/a" not in slots


def test_closing_a_slot_closes_its_descriptor_once(tmp_path: Path) -> None:
    import os

    slots = Slots()
    slots["x"] = os.open(tmp_path, os.O_RDONLY)
    fd = slots["x"]
    slots.close("x")
    slots.close("x")
    slots.close("never there")
    assert "x" not in slots
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


@given(st.text())
def test_a_quoted_text_is_one_printable_line_in_quotes(text: str) -> None:
    shown = quote(text)
    assert shown[0] == shown[-1] == '"'
    assert shown.isprintable()
    assert len(shown) >= len(text) + 2


def test_quotes_and_escapes_are_those_of_c() -> None:
    assert quote('a"b\\c\nd\te\x01') == '"a\\"b\\\\c\\nd\\te\\1"'


# --- any combination


spaces = ("user", "pid", "network", "ipc", "uts", "cgroup", "time")
paths = st.text(min_size=1, max_size=8).map(lambda text: "/" + text.replace("\0", ""))
options = st.lists(
    st.sampled_from(["ro", "rro", "nosuid", "noexec", "noatime", "rw", "rslave", "shared", "nofail", "bind", "rbind"])
).map(tuple)
some_mounts = st.lists(
    st.one_of(
        st.builds(Mount, paths, st.just("bind"), paths, options),
        st.builds(
            Mount, paths, st.sampled_from(["tmpfs", "proc", "sysfs", "mqueue", "devpts", "cgroup"]), paths,
            options.map(lambda given: tuple(option for option in given if "bind" not in option)),
        ),
        st.sampled_from([Mount("/dev", "tmpfs"), Mount("/dev/shm", "tmpfs"), Mount("/proc", "proc")]),
    ),
    max_size=5,
).map(tuple)  # fmt: skip
roots = st.sampled_from(
    [
        (RootSource("directory", "/r"), ""), (RootSource("host"), ""), (RootSource("copy", "/r", pivot=False), ""),
        (RootSource("overlay", "", ("/a",), "/u", "/w", foreign_lower=True), ""),
        (RootSource("assembled", "/m", ("/usr",), "/u", "/w"), "/fuse"),
        (RootSource("prepared", "/m", ("/l",)), "/fuse"),
    ]
)  # fmt: skip
hosts = st.builds(
    Host, st.just(STAGE), st.just(FOREIGN), privileged=st.booleans(), setgroups_denied=st.booleans(),
    cgroup2=st.booleans(), tree=st.just(TREE), interpreter_writable=st.booleans(),
)  # fmt: skip
names = st.sampled_from([(), ("CAP_CHOWN",), ("CAP_SYS_ADMIN", "CAP_CHOWN")])
programs = st.builds(
    Process,
    terminal=st.booleans(),
    console_size=st.none() | st.just(ConsoleSize(2, 3)),
    cwd=paths | st.just(""),
    env=st.lists(st.text().map(lambda text: "A=" + text), max_size=2).map(tuple),
    args=st.lists(st.text(min_size=1), min_size=1, max_size=3).map(tuple),
    user=st.builds(User, st.integers(0, 9), st.integers(0, 9), username=st.text(max_size=4)),
    capabilities=st.none() | st.builds(Capabilities, names, names, names, names, names),
    rlimits=st.just(()) | st.just((Rlimit("RLIMIT_NOFILE", 5, 4),)),
    no_new_privileges=st.booleans(),
    oom_score_adj=st.none() | st.just(5),
)


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    chosen = draw(st.lists(st.tuples(st.sampled_from(spaces), st.booleans()), unique_by=lambda pair: pair[0]))
    namespaces = tuple(Namespace(kind, f"/ns/{kind}" if joined else "") for kind, joined in chosen)
    own_user = Namespace("user") in namespaces
    maps = draw(st.sampled_from([(IdMapping(0, 0, 1),), (IdMapping(0, 5, 9),)])) if own_user else ()
    return Spec(
        process=draw(programs),
        root=Root("/r", draw(st.booleans())),
        hostname=draw(st.text(max_size=5)),
        domainname=draw(st.text(max_size=5)),
        mounts=draw(some_mounts),
        linux=Linux(
            uid_mappings=maps,
            gid_mappings=maps,
            namespaces=(*namespaces, Namespace("mount")),
            devices=draw(st.just(()) | st.just((Device("/dev/fuse", "c", 10, 229),))),
            rootfs_propagation=draw(st.sampled_from(["", "rslave", "shared"])),
            masked_paths=draw(st.lists(paths, max_size=2).map(tuple)),
            readonly_paths=draw(st.lists(paths, max_size=2).map(tuple)),
            sysctl=draw(st.just(()) | st.just((("net.ipv4.ip_forward", "1\n"),))),
            time_offsets=draw(st.just(()) | st.just((TimeOffset("boottime", 5),))),
        ),
    )


@st.composite
def extras(draw: st.DrawFn) -> Extras:
    root, fuse = draw(roots)
    return Extras(
        root=root,
        fuse=fuse,
        filter=draw(st.sampled_from([b"", bytes(16)])),
        init=draw(st.booleans()),
        streams=draw(st.sampled_from([(), ("stdin", "stdout", "stderr")])),
        groups=draw(st.sampled_from([(), ("audio",)])),
        cgroup=draw(st.sampled_from(["", "/sys/fs/cgroup/x"])),
        supervised=draw(st.booleans()),
        preserve_fds=draw(st.integers(0, 3)),
    )


def explains_itself(made: Plan) -> bool:
    made.check_slots()
    return all(is_one_line(item.call()) and is_one_line(item.purpose()) and item.operation() for item in made.steps)


@settings(deadline=None, max_examples=60)
@given(specs(), hosts, extras())
def test_any_container_has_a_plan_whose_slots_hold_and_that_explains_itself(
    spec: Spec, host: Host, chosen: Extras
) -> None:
    made = plan_container(spec, host, chosen)
    assert explains_itself(made)
    order = [type(item).__name__ for item in made.steps]
    assert order[-1] == "FilterAndExec"
    assert order.count("CloneInit") == 1
    pivot = order.index("PivotRoot" if chosen.root.pivot else "MoveRoot")
    for name in ("MountFileSystem", "BindMount", "BindDevice", "MaskPath", "MakeReadOnly", "AttachMount"):
        assert name not in order[pivot:]
    assert order.index("SetUser") < len(order) - 1
    if chosen.filter and not spec.process.no_new_privileges and spec.process.capabilities is not None:
        assert only(made, "SetCapabilities").with_admin


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from((*spaces, "mount", PARENT)), unique=True), programs, hosts, extras(), st.booleans())
def test_any_joining_has_a_plan_whose_slots_hold_and_that_explains_itself(
    kinds: list[str], program: Process, host: Host, chosen: Extras, detached: bool
) -> None:
    assert explains_itself(plan_joined(program, tuple(kinds), host, chosen, detached=detached))
