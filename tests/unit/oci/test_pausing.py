"""`pause` and `resume`: who may be paused. That it holds still is tested with the groups."""

from __future__ import annotations

import pytest

from jubako.errors import JubakoError, UsageError
from jubako.oci.pausing import pause, resume
from world.cgroup import View


@pytest.mark.parametrize("status", ["creating", "paused", "stopped"])
def test_only_what_is_created_or_running_is_paused(status):
    with pytest.raises(UsageError, match=f"pause container box: it is not running: {status}"):
        pause("box", "/sys/fs/cgroup/none", status)


@pytest.mark.parametrize("status", ["creating", "created", "running", "stopped"])
def test_only_what_is_paused_is_resumed(status):
    with pytest.raises(UsageError, match=f"resume container box: it is not paused: {status}"):
        resume("box", "/sys/fs/cgroup/none", status)


def test_without_a_group_the_remedy_is_told():
    for action, status in ((pause, "running"), (resume, "paused")):
        with pytest.raises(JubakoError, match="no control group of its own") as caught:
            action("box", "", status)
        assert "systemd-run" in caught.value.hint


@pytest.mark.root
def test_a_group_is_paused_and_resumed(view: View):
    assert view(
        """
        from jubako.linux.cgroup import is_frozen
        from jubako.oci.pausing import pause, resume
        path = f"{sys.argv[1]}/a"
        os.mkdir(path)
        pause("box", path, "created")
        states = [is_frozen(path)]
        resume("box", path, "paused")
        answer([*states, is_frozen(path)])
        """,
        str(view.group),
    ) == [True, False]
