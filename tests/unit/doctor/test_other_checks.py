"""Kernel, security, devices, limits, programs, and what is around the process."""

from __future__ import annotations

import errno
import os

import pytest

from jubako.doctor import devices, environment, kernel, limits, programs, security
from jubako.doctor.trial import Trial


@pytest.mark.parametrize(
    ("release", "status"),
    [
        ("5.10.0-8-amd64", "ok"),
        ("6.18.44+", "ok"),
        ("5.9.3", "problem"),
        ("4.18.0-553.el8", "problem"),
        ("odd", "note"),
    ],
)
def test_kernels_from_5_10_on_are_enough(machine, release, status):
    assert kernel.version(machine(release=release)).status == status


def test_a_processor_without_known_numbers_is_a_problem(machine):
    assert kernel.machine(machine(machine="riscv64")).status == "problem"


def test_a_missing_call_names_its_fallback_and_a_forbidden_one_the_filter(machine):
    check = {check.__name__: check for check in kernel.CHECKS}["openat2"]
    missing = check(machine(attempts={"system_call openat2": Trial(errno.ENOSYS)}))
    assert missing.status == "note"
    assert "one component at a time" in missing.summary
    forbidden = check(machine(attempts={"system_call openat2": Trial(errno.EPERM)}))
    assert "forbidden by a filter" in forbidden.summary


def test_no_new_privileges_on_the_caller_is_told(machine):
    found = security.no_new_privileges(machine({"/proc/self/status": "NoNewPrivs:\t1\n"}))
    assert found.status == "warning"
    assert "allowPrivilegeEscalation" in found.remedy


def test_a_bounding_set_without_setuid_makes_newuidmap_powerless(machine):
    found = security.capabilities(machine({"/proc/self/status": "CapEff:\t0\nCapBnd:\t1\n"}))
    assert found.status == "warning"


def test_a_missing_libseccomp_names_its_package(machine, program):
    program("/usr/bin/dnf")
    found = security.libseccomp(machine(attempts={"libseccomp": Trial(errno.ENOENT)}))
    assert found.status == "warning"
    assert found.remedy.splitlines()[0] == "sudo dnf install -y libseccomp"


def test_apparmor_that_restricts_is_a_problem_and_with_a_profile_it_is_not(machine, refused):
    files = {
        "/sys/module/apparmor/parameters/enabled": "Y\n",
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n",
        "/proc/self/attr/current": "jubako (unconfined)\n",
    }
    assert security.app_armor(machine(files)).status == "ok"
    assert security.app_armor(machine(files, {"user_namespace": refused})).status == "problem"


def test_selinux_that_enforces_explains_labels(machine):
    assert security.selinux(machine()).status == "ok"
    assert security.selinux(machine({"/sys/fs/selinux/enforce": "1"})).status == "note"


def test_yama_above_one_is_noted(machine):
    assert security.yama(machine({"/proc/sys/kernel/yama/ptrace_scope": "2\n"})).status == "note"
    assert security.yama(machine({"/proc/sys/kernel/yama/ptrace_scope": "1\n"})).status == "ok"


def test_a_device_that_others_may_not_open_gets_chmod_and_a_udev_rule(machine, program):
    program("/dev/net/tun", 0o600)
    host = machine(attempts={"open_device": Trial(errno.EACCES, "Permission denied")})
    found = devices.tun(host)
    assert found.status == "note"
    assert "sudo chmod 0666 /dev/net/tun" in found.remedy
    assert 'KERNEL=="tun", MODE="0666"' in found.remedy


def test_a_missing_device_gets_modprobe_or_the_engines_flag(machine):
    gone = Trial(errno.ENOENT, "No such file")
    assert "modprobe fuse" in devices.fuse(machine(attempts={"open_device": gone})).remedy
    inside = machine({"/run/.containerenv": ""}, {"open_device": gone})
    assert "--device /dev/fuse" in devices.fuse(inside).remedy


def test_a_standard_node_that_is_a_plain_file_is_a_problem(machine):
    found = devices.standard_devices(machine({"/dev/null": ""}))
    assert found.status == "problem"
    assert "mknod -m 0666 /dev/null c 1 3" in found.remedy


@pytest.mark.parametrize(("limit", "status"), [("60000", "ok"), ("15", "warning"), ("0", "problem")])
def test_limits_of_namespaces(machine, limit, status):
    assert limits.namespace_counts(machine({"/proc/sys/user/max_net_namespaces": limit + "\n"})).status == status


def test_a_key_quota_that_is_nearly_used_up_is_told(machine):
    files = {"/proc/sys/kernel/keys/maxkeys": "200\n", "/proc/key-users": " 1000:   195 195/195 190/200 900/20000\n"}
    assert limits.keyrings(machine(files)).status == "warning"
    assert limits.keyrings(machine({**files, "/proc/key-users": ""})).status == "note"


def test_ping_and_low_ports_name_their_settings(machine):
    files = {
        "/proc/sys/net/ipv4/ping_group_range": "1\t0\n",
        "/proc/sys/net/ipv4/ip_unprivileged_port_start": "1024\n",
    }
    host = machine(files)
    assert "net.ipv4.ping_group_range='0 2147483647'" in limits.ping(host).remedy
    assert "net.ipv4.ip_unprivileged_port_start='80'" in limits.low_ports(host).remedy


def test_a_program_that_another_replaces_is_a_note(machine, program):
    checks = {check.__name__: check for check in programs.CHECKS}
    assert checks["pasta"](machine()).summary.startswith("missing")
    program("/usr/bin/slirp4netns")
    found = checks["pasta"](machine())
    assert found.status == "note"
    assert "slirp4netns does it instead" in found.summary


def test_every_program_names_a_package_for_all_four_managers(machine):
    for check in programs.CHECKS:
        remedy = check(machine()).remedy
        for manager in ("apt:", "dnf:", "pacman:"):
            assert manager in remedy, check.__name__


def test_system_directories_are_searched_though_path_lacks_them(machine, program):
    program("/usr/sbin/nft")
    assert machine().which("nft") == "/usr/sbin/nft"


def test_no_runtime_directory_is_a_warning_with_lingering(machine):
    found = environment.runtime_directory(machine({"/run/systemd/system": "DIRECTORY"}))
    assert found.status == "warning"
    assert "loginctl enable-linger alice" in found.remedy


def test_without_systemd_the_runtime_directory_is_made_by_hand(machine):
    remedy = environment.runtime_directory(machine()).remedy
    assert "install -d -m 0700 -o alice /run/user/" in remedy
    assert "loginctl" not in remedy


def test_a_runtime_directory_of_another_user_is_told(machine, tmp_path):
    (tmp_path / "run/user/0").mkdir(parents=True)
    host = machine(environ={"XDG_RUNTIME_DIR": "/run/user/0"}, uid=os.getuid() + 4321)
    found = environment.runtime_directory(host)
    assert found.status == "warning"
    assert f"belongs to uid {os.getuid()}" in found.summary


def test_a_squatted_directory_below_tmp_is_a_problem(machine, tmp_path):
    uid = os.getuid() + 4321
    (tmp_path / f"tmp/jubako-{uid}").mkdir(parents=True)
    assert environment.runtime_directory(machine(uid=uid)).status == "problem"


def test_lingering_is_noted_where_systemd_runs(machine):
    assert environment.lingering(machine({"/run/systemd/system": "DIRECTORY"})).status == "note"


def test_lingering_that_is_on_is_well(machine):
    files = {"/run/systemd/system": "DIRECTORY", "/var/lib/systemd/linger/alice": ""}
    assert environment.lingering(machine(files)).status == "ok"


def test_hidepid_is_noted(machine):
    text = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n21 20 0:5 / /proc rw - proc proc rw,hidepid=invisible\n"
    assert environment.hidden_processes(machine({"/proc/self/mountinfo": text})).status == "note"


def test_the_first_wsl_is_a_problem(machine):
    found = environment.outer_environment(machine({"/proc/version": "Linux version 4.4.0-19041-Microsoft"}))
    assert found.status == "problem"


def test_a_clock_in_1970_is_a_warning(machine):
    assert environment.clock(machine(environ={"SOURCE_DATE_EPOCH": "1000"})).status == "warning"
