"""Control groups: versions, delegation with and without systemd."""

from __future__ import annotations

import os

from jubako.doctor import cgroups

HYBRID = """\
20 1 8:1 / / rw - ext4 /dev/sda1 rw
30 20 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 20 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
SERVICE = "/user.slice/user-{uid}.slice/user@{uid}.service"


def own_group(machine, controllers: str, **more):
    """A session in its manager's own group, writable by the account."""
    uid = os.getuid() or 4321
    group = SERVICE.format(uid=uid) + "/app.slice/run.scope"
    files = {
        "/proc/self/cgroup": f"0::{group}\n",
        f"/sys/fs/cgroup{group}/cgroup.controllers": controllers,
        f"/sys/fs/cgroup{group}/cgroup.procs": "",
        "/run/systemd/system": "DIRECTORY",
        **more,
    }
    host = machine(files, uid=uid, user="alice")
    for path in (f"/sys/fs/cgroup{group}", f"/sys/fs/cgroup{group}/cgroup.procs"):
        os.chmod(host.path(path), 0o777)
    return host


def test_the_unified_hierarchy_is_well(machine):
    assert cgroups.hierarchy(machine()).status == "ok"


def test_a_hybrid_machine_is_told_how_to_become_unified(machine):
    host = machine({"/proc/self/mountinfo": HYBRID})
    found = cgroups.hierarchy(host)
    assert found.status == "warning"
    assert "systemd.unified_cgroup_hierarchy=1" in found.remedy
    assert cgroups.delegation(host).status == "note"


def test_no_hierarchy_at_all_is_a_warning(machine):
    host = machine({"/proc/self/mountinfo": "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"})
    assert cgroups.hierarchy(host).status == "warning"


def test_all_controllers_delegated_is_well(machine):
    assert cgroups.delegation(own_group(machine, "cpuset cpu io memory pids\n")).status == "ok"


def test_missing_controllers_get_the_drop_in_for_systemd(machine):
    found = cgroups.delegation(own_group(machine, "memory pids\n"))
    assert found.status == "warning"
    assert "cpu cpuset io" in found.summary
    assert "[Service]\nDelegate=cpu cpuset io memory pids\n" in found.remedy
    assert "/etc/systemd/system/user@.service.d" in found.remedy


def test_a_session_outside_the_managers_group_is_told_of_scopes(machine):
    uid = 4321
    manager = f"/sys/fs/cgroup{SERVICE.format(uid=uid)}/cgroup.controllers"
    files = {"/proc/self/cgroup": "0::/user.slice/session-1.scope\n", manager: "cpu io memory pids\n"}
    found = cgroups.delegation(machine(files, uid=uid))
    assert found.status == "warning"
    assert "systemd-run --user --scope -p Delegate=yes" in found.remedy


def test_without_systemd_a_group_is_handed_over_by_hand(machine):
    found = cgroups.delegation(machine({"/proc/self/cgroup": "0::/\n"}, uid=4321, user="alice"))
    assert found.status == "warning"
    assert "sudo chown -R alice: /sys/fs/cgroup/alice" in found.remedy


def test_a_missing_user_manager_is_told_with_lingering(machine):
    found = cgroups.user_manager(machine({"/run/systemd/system": "DIRECTORY"}))
    assert found.status == "warning"
    assert "loginctl enable-linger alice" in found.remedy


def test_cgroup_kill_is_looked_for_below_the_root_group(machine):
    with_it = {"/sys/fs/cgroup/a/cgroup.events": "", "/sys/fs/cgroup/a/cgroup.kill": ""}
    assert cgroups.kill_file(machine(with_it)).status == "ok"


def test_an_older_kernel_has_no_cgroup_kill(machine):
    assert "frozen" in cgroups.kill_file(machine({"/sys/fs/cgroup/a/cgroup.events": ""})).summary
