"""A control group while its container lives, and its end: real processes in a private view of cgroup v2."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.linux.cgroup import is_frozen
from jubako.oci.groups import processes, remove_group, signal_group
from world.cgroup import View

pytestmark = pytest.mark.root

BEFORE = """
import signal, subprocess
from jubako.linux import cgroup
from jubako.linux.cgroup import is_frozen
from jubako.oci.groups import *
top = sys.argv[1]
def group(name):
    path = f"{top}/{name}"
    os.makedirs(path, exist_ok=True)
    return path
def start(path, *argv):
    inside = ("sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', path, *(argv or ("sleep", "60")))
    child = subprocess.Popen(inside)
    while child.pid not in cgroup.processes(path):
        time.sleep(0.001)
    return child
def ticks(pid):
    return sum(map(int, open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[11:13]))
def failure(action, *arguments):
    try:
        action(*arguments)
    except JubakoError as error:
        return str(error)
"""


@pytest.fixture(params=[False, True], ids=["user", "root"])
def run(request: pytest.FixtureRequest, view: View) -> Any:
    """Run a piece of code in the view, as the account that has the group or as root."""
    return lambda code: view(code, str(view.group), root=request.param, before=BEFORE)


def test_a_frozen_group_stands_still_and_goes_on(run):
    stood, stopped, went = run(
        """
        path = group("a")
        spinner = start(group("a/deeper"), "sh", "-c", "while :; do :; done")
        freeze_group(path)
        frozen, before = is_frozen(path), ticks(spinner.pid)
        time.sleep(0.3)
        after = ticks(spinner.pid)
        thaw_group(path)
        end = time.monotonic() + 10
        while ticks(spinner.pid) == after and time.monotonic() < end:
            time.sleep(0.02)
        answer([frozen and not is_frozen(path), after - before, ticks(spinner.pid) > after])
        remove_group(path)
        """
    )
    assert (stood, stopped, went) == (True, 0, True)


def test_what_does_not_stop_in_time_goes_on(run):
    text, frozen = run(
        """
        path = group("a")
        start(path)
        cgroup.wait_until = lambda *arguments: False
        answer([failure(freeze_group, path, 0.5), is_frozen(path)])
        remove_group(path)
        """
    )
    assert text.endswith("its processes did not stop in 0.5 s")
    assert frozen is False


def test_a_group_below_a_frozen_one_cannot_be_thawed(run):
    text = run(
        """
        path = group("a/b")
        start(path)
        freeze_group(f"{top}/a")
        answer(failure(thaw_group, path, 0.3))
        remove_group(f"{top}/a")
        """
    )
    assert text.endswith("/a/b: a group above it is frozen")


@pytest.mark.parametrize("number", [15, 9])
def test_a_signal_reaches_all_processes_and_those_of_groups_below(run, number):
    codes = run(
        f"""
        path = group("a")
        children = [start(path), start(group("a/b")), start(group("a/b/c"))]
        signal_group(path, {number})
        answer([child.wait(10) for child in children] + [list(processes(path))])
        remove_group(path)
        """
    )
    assert codes == [-number] * 3 + [[]]


def test_sigkill_ends_what_is_frozen_and_another_signal_leaves_it_frozen(run):
    codes = run(
        """
        path = group("a")
        child = start(path, "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.01; done")
        time.sleep(0.3)
        freeze_group(path)
        signal_group(path, 15)
        time.sleep(0.2)
        alive = child.poll()
        frozen = is_frozen(path)
        signal_group(path, 9)
        answer([alive, frozen, child.wait(10)])
        remove_group(path)
        """
    )
    assert codes == [None, True, -9]


def test_nothing_escapes_by_forking(run):
    left = run(
        """
        path = group("a")
        bomb = "n=0; while [ $n -lt 300 ]; do (trap '' TERM; sleep 30) & n=$((n+1)); done; wait"
        child = start(path, "sh", "-c", bomb)
        while len(processes(path)) < 50:
            time.sleep(0.01)
        signal_group(path, 9)
        answer([cgroup.wait_until(path, "populated", 0, 10), list(processes(path))])
        child.wait()
        remove_group(path)
        """
    )
    assert left == [True, []]


def test_processes_are_counted_with_those_below_or_without(run):
    same, below = run(
        """
        path = group("a")
        children = [start(path), start(group("a/b")), start(group("a/c/d"))]
        pids = [child.pid for child in children]
        answer([list(processes(path, recursive=False)) == pids[:1], sorted(processes(path)) == sorted(pids)])
        remove_group(path)
        """
    )
    assert same
    assert below


def test_a_group_is_removed_with_its_processes_and_what_was_made_below(run):
    gone = run(
        """
        path = group("jubako/a")
        for name in ("b", "c/d", "c/e/f"):
            start(group(f"jubako/a/{name}"))
        remove_group(path)
        answer([os.path.exists(path), os.path.exists(f"{top}/jubako"), os.path.exists(top)])
        """
    )
    assert gone == [False, False, True]


def test_the_parent_of_other_containers_stays(run):
    assert run(
        """
        path, other = group("jubako/a"), group("jubako/b")
        remove_group(path)
        answer([os.path.exists(path), os.path.exists(other)])
        remove_group(other)
        """
    ) == [False, True]


def test_groups_nested_deeper_than_any_path_or_stack_are_removed(run):
    """A container that has its group's files may nest as it likes."""
    assert run(
        """
        path = group("a")
        directory = os.open(path, os.O_RDONLY)
        for number in range(1500):
            os.mkdir("deeper", dir_fd=directory)
            below = os.open("deeper", os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = below
        child = subprocess.Popen(("sleep", "60"))
        fd = os.open("cgroup.procs", os.O_WRONLY, dir_fd=directory)
        os.write(fd, str(child.pid).encode())
        os.close(fd)
        os.close(directory)
        found = list(processes(path)) == [child.pid]
        remove_group(path)
        answer([found, child.wait(10), os.path.exists(path)])
        """
    ) == [True, -9, False]


def test_who_joins_goes_into_the_group_or_where_the_first_process_went(run):
    places = run(
        """
        path = group("a")
        first = start(group("a/own"))
        plain = group_to_join(path, first.pid)
        cgroup.write(path, "cgroup.subtree_control", "+hugetlb")
        busy = group_to_join(path, first.pid)
        gone = group_to_join(path, 999999999)
        elsewhere = group_to_join(path, os.getpid())
        answer([plain, busy, gone, elsewhere])
        remove_group(path)
        """
    )
    assert [place.rpartition("/")[2] for place in places] == ["a", "own", "a", "a"]


def test_no_group_and_one_that_is_gone_are_no_errors():
    assert processes("/sys/fs/cgroup/jubako-test-none") == ()
    assert not is_frozen("")
    assert not is_frozen("/sys/fs/cgroup/jubako-test-none")
    signal_group("/sys/fs/cgroup/jubako-test-none", 9)
    remove_group("")
    remove_group("/sys/fs/cgroup/jubako-test-none")
