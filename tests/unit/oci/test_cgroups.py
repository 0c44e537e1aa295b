"""Where a container's control group is, and the making of it: in a private view of cgroup v2, as root and as a user."""

from __future__ import annotations

import os
from typing import Any

import pytest

from jubako.errors import JubakoError, UsageError
from jubako.oci.cgroups import GroupChoice, choose_group
from jubako.record import replace
from jubako.spec.defaults import default
from jubako.spec.load import load_resources
from jubako.spec.types import Spec
from world.cgroup import View, cgroup2_mount


def spec(path: str = "", resources: dict[str, object] | None = None, **annotations: str) -> Spec:
    document = default()
    pairs = tuple((key.replace("__", ".").replace("_", "-"), value) for key, value in annotations.items())
    linux = replace(document.linux, cgroups_path=path, resources=load_resources(resources or {}))
    return replace(document, linux=linux, annotations=pairs)


# --- where ------------------------------------------------------------------------------------------------------------


def test_roots_groups_are_where_the_path_says_and_else_below_one_of_jubakos_own():
    point = cgroup2_mount()
    assert choose_group(spec("/a//b/./c"), "id", rootless=False).path == f"{point}/a/b/c"
    assert choose_group(spec("a/b"), "id", rootless=False).path == f"{point}/jubako/a/b"
    own = f"{point}/jubako/id"
    assert choose_group(spec(), "id", rootless=False) == GroupChoice(own, own, "cgroupfs")


@pytest.mark.parametrize("path", ["..", "/..", "a/../b", "/a/..", "../../etc", "/", "//", "."])
@pytest.mark.parametrize("rootless", [False, True])
def test_no_path_leads_out_of_the_hierarchy(path, rootless):
    with pytest.raises(UsageError, match=r"linux\.cgroupsPath"):
        choose_group(spec(path), "id", rootless=rootless)


def test_without_groups_a_limit_is_refused_and_nothing_else():
    assert choose_group(spec("/a"), "id", "disabled") == GroupChoice(reason="control groups are disabled")
    assert choose_group(spec("/a", {"pids": {"limit": -1}}), "id", "disabled").path == ""
    with pytest.raises(JubakoError, match=r"limit linux\.resources\.pids\.limit: control groups are disabled"):
        choose_group(spec("/a", {"pids": {"limit": 10}}), "id", "disabled")


def test_a_user_without_a_group_runs_without_and_is_told_why():
    """On this machine nothing is delegated to ordinary users outside of the view."""
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    choice = choose_group(spec(), "id", rootless=True)
    assert (choice.path, "is not delegated to this user" in choice.reason) == ("", True)
    assert choose_group(spec("/some/where"), "id", rootless=True).path == ""
    with pytest.raises(
        JubakoError, match=r"linux\.resources\.memory\.limit: .* is not delegated to this user"
    ) as caught:
        choose_group(spec("", {"memory": {"limit": 1 << 20}}), "id", rootless=True)
    assert "Delegate=" in caught.value.hint


def test_the_processes_go_into_a_group_below_where_an_annotation_asks_for_it():
    choice = choose_group(spec("/a", run__oci__delegate_cgroup="inner"), "id", rootless=False)
    assert (choice.path, choice.inside, choice.delegate) == (
        f"{cgroup2_mount()}/a",
        f"{cgroup2_mount()}/a/inner",
        True,
    )
    with pytest.raises(UsageError, match="delegate-cgroup"):
        choose_group(spec("/a", run__oci__delegate_cgroup="../b"), "id")


@pytest.mark.parametrize(
    ("path", "rootless", "slice_name", "unit"),
    [
        ("", False, "system.slice", "jubako-id.scope"),
        ("", True, "user.slice", "jubako-id.scope"),
        ("machine.slice:libpod:abc", False, "machine.slice", "libpod-abc.scope"),
        (":libpod:abc", True, "user.slice", "libpod-abc.scope"),
        ("a-b.slice::abc", False, "a-b.slice", "abc.scope"),
        ("a.slice:p:x+y", False, "a.slice", "p-x\\x2by.scope"),
    ],
)
def test_systemds_paths_name_a_slice_and_a_scope(path, rootless, slice_name, unit):
    choice = choose_group(spec(path), "id", "systemd", rootless)
    assert (choice.slice, choice.unit, choice.user_manager) == (slice_name, unit, rootless)


@pytest.mark.parametrize(
    "path", ["/a/b", "a", "a:b", "a.slice:b:", "a.slice:b:c/d", "a:b:c", "../x.slice:a:b", "..slice:a:b"]
)
def test_systemds_paths_are_checked(path):
    with pytest.raises(UsageError, match=r"linux\.cgroupsPath"):
        choose_group(spec(path), "id", "systemd")


def test_annotations_set_properties_of_the_scope():
    annotations = {
        "org__systemd__property__CollectMode": "'inactive-or-failed'",
        "run__oci__systemd__subgroup": "container",
        "other": "x",
    }
    choice = choose_group(spec("", **annotations), "id", "systemd")
    assert choice.properties == (("CollectMode", "'inactive-or-failed'"),)
    assert choice.subgroup == "container"
    with pytest.raises(UsageError, match="property of systemd"):
        choose_group(spec("", org__systemd__property__x1="1"), "id", "systemd")


# --- in a private view of cgroup v2 -----------------------------------------------------------------------------------

MAKE = """
from jubako.oci.cgroups import choose_group, make_group
from jubako.oci.groups import remove_group
from jubako.record import replace
from jubako.spec.defaults import default
from jubako.spec.load import load_resources
def spec(path="", resources={}, annotations=()):
    document = default()
    linux = replace(document.linux, cgroups_path=path, resources=load_resources(resources))
    return replace(document, linux=linux, annotations=annotations)
def failure(action, *arguments, **words):
    try:
        action(*arguments, **words)
    except JubakoError as error:
        return str(error)
"""

in_view = pytest.mark.root


def make(view: View, code: str, *arguments: str, root: bool = False) -> Any:
    return view(code, *arguments, root=root, before=MAKE)


@in_view
def test_a_users_group_lies_beside_the_callers_own(view: View):
    found = make(
        view,
        """
        document = spec()
        choice = choose_group(document, "one", rootless=True)
        make_group(choice, document.linux.resources)
        answer([choice.path, sorted(os.listdir(sys.argv[1])), os.stat(choice.path).st_uid])
        remove_group(choice.path)
        """,
        str(view.group),
    )
    assert found[0] == f"{view.group}/jubako-one"
    assert {"jubako-one", "session"} <= set(found[1])
    assert found[2] == view.account.uid
    assert not (view.there / "jubako-one").exists()


@in_view
def test_where_only_the_callers_own_group_is_delegated_the_new_one_lies_below(view: View):
    os.chown(view.there / "cgroup.procs", 0, 0)
    found = make(view, 'answer(choose_group(spec("a/b"), "one", rootless=True).path)')
    assert found == f"{view.group}/session/a/b"


@in_view
def test_a_group_of_others_is_not_used(view: View):
    code = 'answer([choose_group(spec(path), "one", rootless=True).reason for path in ("/top", sys.argv[1] + "/in")])'
    outside, inside = make(view, code, f"/{view.group.name}")
    assert outside == "/sys/fs/cgroup/top is not delegated to this user"
    assert inside == ""


@in_view
def test_directories_are_made_on_the_way_and_a_limit_is_written(view: View):
    """hugetlb is the only controller of cgroup v2 on a hybrid machine; elsewhere it is there as well."""
    size = next(iter(sorted(name for name in os.listdir("/sys/kernel/mm/hugepages"))))[len("hugepages-") : -2]
    word = {"2048": "2MB", "1048576": "1GB"}.get(size, f"{size}KB")
    found = make(
        view,
        """
        resources = {"hugepageLimits": [{"pageSize": sys.argv[2], "limit": 4 << 30}], "pids": {"limit": -1}}
        document = spec(sys.argv[1] + "/a/b/c", resources)
        choice = choose_group(document, "one")
        make_group(choice, document.linux.resources)
        answer([open(f"{choice.path}/hugetlb.{sys.argv[2]}.{name}").read() for name in ("max", "rsvd.max")])
        """,
        f"/{view.group.name}",
        word,
        root=True,
    )
    assert found == [f"{4 << 30}\n"] * 2


@in_view
def test_a_missing_controller_is_named_with_its_field_and_nothing_is_left(view: View):
    if "memory" in (cgroup2_mount() / "cgroup.controllers").read_text():
        pytest.skip("this machine has the memory controller in cgroup v2")
    text = make(
        view,
        """
        document = spec(sys.argv[1] + "/a/b", {"memory": {"limit": 1 << 20}})
        answer(failure(make_group, choose_group(document, "one"), document.linux.resources))
        """,
        f"/{view.group.name}",
        root=True,
    )
    assert text.startswith(
        "limit linux.resources.memory.limit: the controller memory is not available in /sys/fs/cgroup"
    )
    assert "hint: " in text
    assert [entry.name for entry in view.there.iterdir() if entry.is_dir()] == ["session"]


@in_view
def test_a_value_that_the_kernel_refuses_leaves_nothing(view: View):
    text = make(
        view,
        """
        document = spec(sys.argv[1] + "/a/b", {"unified": {"cgroup.max.depth": "deep"}})
        answer(failure(make_group, choose_group(document, "one"), document.linux.resources))
        """,
        f"/{view.group.name}",
        root=True,
    )
    assert text.startswith(
        "limit linux.resources.unified.cgroup.max.depth (cgroup.max.depth: deep): Invalid argument (EINVAL)"
    )
    assert not (view.there / "a").exists()


INSIDE = """
import subprocess
if sys.argv[2] == "others":
    other = subprocess.Popen(("sleep", "60"))
resources = {"unified": {"hugetlb.2MB.max": "0"}}
document = spec(sys.argv[1] + "/session/inner", resources)
choice = choose_group(document, "one")
text = failure(make_group, choice, document.linux.resources)
answer([text, open("/proc/self/cgroup").read().splitlines()[-1], os.path.isdir(choice.path)])
if sys.argv[2] == "others":
    other.kill()
    other.wait()
"""


@in_view
def test_a_group_that_has_processes_of_others_hands_no_controller_down(view: View):
    text, own, there = make(view, INSIDE, f"/{view.group.name}", "others", root=True)
    assert text.startswith(f"enable the controller hugetlb in {view.group}/session: a group that has processes itself")
    assert "hint: move those processes into a group below it" in text
    assert own.endswith("/session")
    assert not there


@in_view
def test_a_runtime_that_is_alone_in_its_group_steps_aside(view: View):
    text, own, there = make(view, INSIDE, f"/{view.group.name}", "alone", root=True)
    assert text is None
    assert own.endswith("/session/jubako-runtime")
    assert there


@in_view
def test_a_group_in_use_is_not_shared(view: View):
    text = make(
        view,
        """
        document = spec(sys.argv[1] + "/session")
        answer(failure(make_group, choose_group(document, "one"), document.linux.resources))
        """,
        f"/{view.group.name}",
        root=True,
    )
    assert text == f"use cgroup {view.group}/session: there are processes in it: it belongs to another container"
    assert (view.there / "session").exists()


@in_view
def test_a_delegated_group_belongs_to_the_containers_root(view: View):
    owners = make(
        view,
        """
        document = spec(sys.argv[1] + "/a", {}, (("run.oci.delegate-cgroup", "inner"),))
        choice = choose_group(document, "one")
        make_group(choice, document.linux.resources, (12345, 12346))
        places = ("", "/inner", "/inner/cgroup.procs", "/inner/cgroup.subtree_control", "/inner/cgroup.freeze")
        answer([os.stat(choice.path + place).st_uid for place in places])
        """,
        f"/{view.group.name}",
        root=True,
    )
    assert owners == [0, 12345, 12345, 12345, 0]
