"""User namespaces that cannot be made, for one reason after the other."""

from __future__ import annotations

import errno

from jubako.doctor import namespaces
from jubako.doctor.trial import Trial


def test_a_machine_with_user_namespaces_is_well(machine):
    assert namespaces.user_namespaces(machine()).status == "ok"


def test_debians_sysctl_is_named_with_the_command_that_sets_it(machine, refused):
    host = machine({"/proc/sys/kernel/unprivileged_userns_clone": "0\n"}, {"user_namespace": refused})
    found = namespaces.user_namespaces(host)
    assert found.status == "problem"
    assert "kernel.unprivileged_userns_clone = 0" in found.evidence
    assert "sudo sysctl -w kernel.unprivileged_userns_clone='1'" in found.remedy
    assert "/etc/sysctl.d/50-jubako.conf" in found.remedy


def test_a_limit_of_zero_is_a_switch(machine):
    full = Trial(errno.ENOSPC, "unshare user: No space left on device (ENOSPC)")
    host = machine({"/proc/sys/user/max_user_namespaces": "0\n"}, {"user_namespace": full})
    found = namespaces.user_namespaces(host)
    assert "switched off by user.max_user_namespaces" in found.summary


def test_ubuntus_apparmor_gets_a_profile_for_a_copied_interpreter_and_never_for_all_of_python(machine):
    host = machine(
        {
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n",
            "/proc/self/attr/current": "unconfined\n",
        },
        {"user_namespace": Trial(errno.EACCES, "mount /tmp: Permission denied (EACCES)")},
    )
    found = namespaces.user_namespaces(host)
    assert found.status == "problem"
    assert "AppArmor" in found.summary
    assert "profile jubako /opt/jubako/bin/python3* flags=(unconfined) {\n  userns," in found.remedy
    assert "venv --copies /opt/jubako" in found.remedy
    assert "profile jubako /usr/bin/python3" not in found.remedy


def test_a_seccomp_filter_or_a_container_around_us_gets_the_engines_flags(machine, refused):
    host = machine({"/.dockerenv": "", "/proc/self/status": "Seccomp:\t2\n"}, {"user_namespace": refused})
    found = namespaces.user_namespaces(host)
    assert "docker" in found.summary
    assert "--security-opt seccomp=unconfined" in found.remedy


def test_a_chroot_is_recognised_by_its_missing_root_mount(machine, refused):
    host = machine({"/proc/self/mountinfo": "21 20 0:5 / /proc rw - proc proc rw\n"}, {"user_namespace": refused})
    assert "chroot" in namespaces.user_namespaces(host).summary


def test_a_used_up_limit_is_told_from_a_refusal(machine):
    host = machine(attempts={"user_namespace": Trial(errno.ENOSPC)})
    assert "used up" in namespaces.user_namespaces(host).summary


def test_a_covered_proc_keeps_containers_from_mounting_their_own(machine, refused):
    covered = "30 21 0:9 / /proc/acpi ro - tmpfs tmpfs ro\n"
    text = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n21 20 0:5 / /proc rw - proc proc rw\n" + covered
    host = machine({"/proc/self/mountinfo": text}, {"fresh_mount proc": refused})
    found = namespaces.new_proc(host)
    assert found.status == "problem"
    assert "/proc/acpi" in found.evidence[0]
    assert "systempaths=unconfined" in found.remedy


def test_a_missing_kind_of_namespace_is_named(machine):
    host = machine(attempts={"namespace network": Trial(errno.ENOSPC, "unshare network: no space (ENOSPC)")})
    found = namespaces.namespace_kinds(host)
    assert found.status == "problem"
    assert "network" in found.summary
    assert "user.max_net_namespaces" in found.remedy


def test_missing_time_namespaces_are_only_a_note(machine):
    host = machine(attempts={"namespace time": Trial(errno.EINVAL)})
    assert namespaces.time_namespaces(host).status == "note"


def test_a_missing_sysfs_is_a_warning_and_a_missing_devpts_a_problem(machine, refused):
    assert namespaces.other_mounts(machine(attempts={"fresh_mount sysfs": refused})).status == "warning"
    assert namespaces.other_mounts(machine(attempts={"fresh_mount devpts": refused})).status == "problem"


def test_a_refusal_without_a_visible_cause_names_chroot_and_security_modules(machine, refused):
    found = namespaces.user_namespaces(machine({"/.dockerenv": ""}, {"user_namespace": refused}))
    assert "chroot" in found.summary
    assert "docker" not in found.remedy
