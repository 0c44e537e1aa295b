"""`ps`: the container's processes with a group and without one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jubako.errors import UsageError
from jubako.oci.processes import container_pids, show_processes
from world.box import eventually
from world.cgroup import View


@pytest.fixture
def family() -> Iterator[subprocess.Popen[str]]:
    """A shell with two children, in the caller's PID namespace."""
    with subprocess.Popen(("sh", "-c", "sleep 60 & sleep 60 & wait"), process_group=0) as process:
        yield process
        os.killpg(process.pid, 9)


@pytest.fixture
def namespace() -> Iterator[int]:
    """The first process of a PID namespace that has another one inside."""
    inner = "unshare --pid --fork sh -c 'sleep 60 & wait' & sleep 60 & wait"
    flags = () if os.getuid() == 0 else ("--user", "--map-root-user")
    command = ("unshare", *flags, "--pid", "--fork", "--kill-child", "sh", "-c", inner)
    with subprocess.Popen(command) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        assert eventually(lambda: children.read_text().split() != [])
        yield int(children.read_text().split()[0])
        process.kill()


def test_without_a_group_and_a_namespace_it_is_the_family(family):
    assert eventually(lambda: len(container_pids("", family.pid)) == 3)
    assert container_pids("", family.pid)[0] == family.pid
    assert os.getpid() not in container_pids("", family.pid)


def test_without_a_group_it_is_the_pid_namespace_and_those_inside(namespace):
    """sh, its sleep, unshare, and the inner sh with its sleep."""
    assert eventually(lambda: len(container_pids("", namespace)) == 5)
    assert namespace in container_pids("", namespace)


def test_of_a_process_that_is_gone_there_are_none():
    assert container_pids("", 999_999_999) == ()


def test_the_table_is_that_of_ps_with_the_lines_of_the_container(family):
    assert eventually(lambda: len(container_pids("", family.pid)) == 3)
    lines = show_processes(container_pids("", family.pid)).splitlines()
    assert lines[0].split()[:2] == ["UID", "PID"]
    assert len(lines) == 4
    lines = show_processes((family.pid,), ("-o", "pid,comm", "-A")).splitlines()
    assert [line.split() for line in lines] == [["PID", "COMMAND"], [str(family.pid), "sh"]]


def test_what_ps_cannot_show_is_refused():
    with pytest.raises(UsageError, match="no column PID"):
        show_processes((1,), ("-A", "-o", "comm"))
    with pytest.raises(UsageError, match="run ps --nonsense"):
        show_processes((1,), ("--nonsense",))


@pytest.mark.root
def test_with_a_group_it_is_the_group(view: View):
    assert view(
        """
        import subprocess
        from jubako.linux import cgroup
        from jubako.oci.processes import container_pids
        path = f"{sys.argv[1]}/a"
        os.makedirs(f"{path}/b")
        children = [subprocess.Popen(("sleep", "60")) for _ in range(3)]
        for child, name in zip(children, ("", "/b")):
            cgroup.add_process(path + name, child.pid)
        answer(list(container_pids(path, children[2].pid)) == sorted(child.pid for child in children[:2]))
        for child in children: child.kill(); child.wait()
        """,
        str(view.group),
    )
