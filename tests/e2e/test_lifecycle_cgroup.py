"""What a container needs a control group for, in a private view of cgroup v2 that is delegated to an ordinary user."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from world.box import eventually
from world.cgroup import GROUPS, cgroup2_mount
from world.command import Command

pytestmark = pytest.mark.root

COUNT = "n=0; while :; do n=$((n+1)); echo $n > /tmp/n; sleep 0.02; done"


@pytest.fixture
def web(jubako_in_cgroup: Command):
    jubako = jubako_in_cgroup
    jubako("run", "-d", "--name", "web", "host", "--", "sh", "-c", COUNT, check=True)
    yield jubako
    jubako("rm", "--all", "--force", check=True)


def groups() -> list[str]:
    """Containers' groups below the test's own, by their names."""
    return [
        name
        for top in cgroup2_mount().glob(f"{GROUPS}*")
        for _, names, _ in os.walk(top)
        for name in names
        if name.startswith("jubako-")
    ]


def count(jubako: Command) -> str:
    pid = jubako("inspect", "-f", "{{.State.Pid}}", "web", check=True).stdout.strip()
    return Path(f"/proc/{pid}/root/tmp/n").read_text()


def test_a_container_runs_in_a_group_of_its_own_that_goes_with_it(web):
    pid = web("inspect", "-f", "{{.State.Pid}}", "web", check=True).stdout.strip()
    (group,) = groups()
    assert f"/session/{group}\n" in Path(f"/proc/{pid}/cgroup").read_text()
    assert web("exec", "web", "cat", "/proc/self/cgroup", check=True).stdout.splitlines()[-1] == "0::/"
    web("stop", "-t", "0", "web", check=True)
    assert groups() == []


def test_pause_stops_every_process_until_unpause(web):
    assert web("pause", "web", check=True).stdout == "web\n"
    assert web("ps", "--format", "{{.State}} {{.Status}}").stdout.startswith("paused Up ")
    state = web("inspect", "web").json[0]["State"]
    assert (state["Status"], state["Paused"], state["Running"]) == ("paused", True, True)
    before = count(web)
    time.sleep(0.3)
    assert count(web) == before
    again = web("pause", "web")
    assert (again.exit_code, "paused already" in again.stderr) == (125, True)
    web("unpause", "web", check=True)
    assert eventually(lambda: count(web) != before)
    assert web("unpause", "web").exit_code == 125


@pytest.mark.parametrize("words", [("stop", "-t", "1", "web"), ("kill", "web"), ("rm", "-f", "web")])
def test_a_paused_container_can_be_ended(web, words):
    web("pause", "web", check=True)
    web(*words, check=True)
    assert web("ps", "-q").stdout == ""
    assert groups() == []


def test_the_group_of_a_killed_supervisor_is_removed_by_the_next_command(web):
    pid = int(web("inspect", "-f", "{{.Jubako.SupervisorPid}}", "web", check=True).stdout)
    os.kill(pid, 9)
    time.sleep(0.3)
    assert len(groups()) == 1
    assert web("ps", "-a", "--format", "{{.Status}}").stdout.startswith("Exited (137)")
    assert groups() == []
    web("start", "web", check=True)
    assert len(groups()) == 1
