"""Subordinate ids: missing, too few, shared with somebody, and the programs that map them."""

from __future__ import annotations

import errno

import pytest

from jubako.doctor import ids
from jubako.doctor.trial import Trial


def test_an_account_with_65536_ids_is_well(machine):
    host = machine()
    assert ids.subordinate_uids(host).status == "ok"
    assert ids.subordinate_gids(host).status == "ok"
    assert ids.overlapping_ranges(host).status == "ok"


def test_ranges_are_found_by_number_too(machine):
    assert ids.subordinate_uids(machine({"/etc/subuid": "1000:300000:65536\n"})).status == "ok"


def test_missing_ranges_get_the_very_command_with_a_range_that_is_free(machine):
    host = machine(
        {
            "/etc/subuid": "bob:100000:65536\n",
            "/etc/subgid": "bob:165536:65536\n",
            "/etc/passwd": "alice:x:1000:1000::/home/alice:/bin/sh\nldap:x:231080:231080::/:/bin/sh\n",
        }
    )
    found = ids.subordinate_uids(host)
    assert found.status == "warning"
    start = ids.free_start(host)
    assert (
        f"sudo usermod --add-subuids {start}-{start + 65535} --add-subgids {start}-{start + 65535} alice"
        in found.remedy
    )
    assert start >= 231081


@pytest.mark.parametrize(
    "text",
    ["", "a:100000:65536\n", "a:100000:65536\nb:165536:65536\n", "a:165536:65536\n", "a:100500:10\n", "a:500:100000\n"],
)
def test_a_free_range_touches_nobodys(machine, text):
    host = machine({"/etc/subuid": text, "/etc/subgid": text})
    start = ids.free_start(host)
    assert start >= 100000
    for entry in ids.everybody(host, "/etc/subuid"):
        assert start >= entry.interval[1] or start + 65536 <= entry.start


def test_too_few_ids_are_told(machine):
    found = ids.subordinate_uids(machine({"/etc/subuid": "alice:100000:1000\n"}))
    assert found.status == "warning"
    assert "only 1000 ids" in found.summary


def test_root_needs_no_range(machine):
    assert ids.subordinate_uids(machine({"/etc/subuid": ""}, uid=0)).status == "note"


def test_a_range_that_overlaps_another_accounts_is_told_with_both(machine):
    host = machine({"/etc/subuid": "alice:100000:65536\nbob:150000:65536\n"})
    found = ids.overlapping_ranges(host)
    assert found.status == "warning"
    assert any("alice:100000:65536" in line and "bob:150000:65536" in line for line in found.evidence)
    assert "usermod --del-subuids 100000-165535 alice" in found.remedy
    assert "usermod --add-subuids 215536-281071 alice" in found.remedy


def test_a_range_that_contains_a_persons_uid_is_told(machine):
    host = machine({"/etc/passwd": "alice:x:1000:1000::/home/alice:/bin/sh\ndave:x:100007:1::/:/bin/sh\n"})
    assert any("100007" in line for line in ids.overlapping_ranges(host).evidence)


def test_a_malformed_line_is_shown(machine):
    found = ids.overlapping_ranges(machine({"/etc/subuid": "alice:100000:65536\nbroken\n"}))
    assert found.status == "warning"
    assert "broken" in found.evidence[0]


def test_a_directory_service_without_getsubids_names_its_package(machine):
    host = machine({"/etc/nsswitch.conf": "subid: sss\n", "/etc/subuid": "", "/etc/subgid": ""})
    found = ids.subordinate_uids(host)
    assert found.status == "warning"
    assert "getsubids is missing" in found.summary
    assert "shadow-utils-subid" in found.remedy


def test_a_directory_service_is_asked_with_getsubids(machine, program):
    program("/usr/bin/getsubids")
    host = machine({"/etc/nsswitch.conf": "subid: sss\n"}, {"getsubids": Trial(0, "400000:65536")})
    assert [str(entry) for entry in ids.own_ranges(host, "/etc/subuid")] == ["alice:400000:65536"]
    assert ids.subordinate_uids(host).status == "ok"


def test_a_missing_newuidmap_names_the_package_of_every_distribution(machine, program):
    program("/usr/bin/pacman")
    found = ids.newuidmap(machine())
    assert found.status == "warning"
    assert found.remedy.splitlines()[0] == "sudo pacman -S --needed shadow"
    for name in ("uidmap", "shadow-utils", "shadow-uidmap"):
        assert name in found.remedy


def test_a_newuidmap_without_power_gets_the_very_chmod(machine, program):
    program("/usr/bin/newuidmap", 0o755)
    found = ids.newuidmap(machine())
    assert found.status == "warning"
    assert "sudo chmod u+s /usr/bin/newuidmap" in found.remedy
    assert "setcap cap_setuid+ep /usr/bin/newuidmap" in found.remedy


def test_a_set_uid_newuidmap_is_well(machine, program):
    program("/usr/bin/newuidmap", 0o4755)
    assert ids.newuidmap(machine()).status == "ok"


def test_a_nosuid_file_system_takes_the_power_away(machine, program):
    program("/usr/bin/newuidmap", 0o4755)
    found = ids.newuidmap(machine({"/proc/self/mountinfo": "20 1 8:1 / / rw,nosuid - ext4 /dev/sda1 rw\n"}))
    assert found.status == "warning"
    assert "mount -o remount,suid /" in found.remedy


def test_the_map_that_would_be_written_is_shown(machine, program):
    program("/usr/bin/newuidmap", 0o4755)
    program("/usr/bin/newgidmap", 0o4755)
    found = ids.whole_map(machine())
    assert (found.status, found.summary) == ("ok", "0 1000 1, 1 100000 65536")


def test_a_refused_map_is_told_in_the_helpers_words(machine, program):
    program("/usr/bin/newuidmap", 0o4755)
    program("/usr/bin/newgidmap", 0o4755)
    words = "newuidmap: uid range [1-65537) -> [100000-165536) not allowed"
    found = ids.whole_map(machine(attempts={"id_map": Trial(errno.EPERM, words)}))
    assert found.status == "problem"
    assert words in found.evidence[0]


def test_without_ranges_the_single_id_and_its_cost_are_told(machine):
    found = ids.whole_map(machine({"/etc/subuid": "", "/etc/subgid": ""}))
    assert found.status == "note"
    assert found.summary.startswith("0 1000 1:")
    assert "only root exists in the container" in found.evidence[0]


def test_root_gets_a_private_range(machine):
    assert ids.whole_map(machine(uid=0, gid=0)).status == "ok"


def test_only_the_kind_of_id_that_is_lacking_is_added(machine):
    remedy = ids.subordinate_gids(machine({"/etc/subgid": ""})).remedy
    assert "--add-subgids" in remedy
    assert "--add-subuids" not in remedy


def test_in_a_container_without_sys_admin_a_file_capability_is_the_remedy(machine, program):
    program("/usr/bin/newuidmap", 0o4755)
    program("/usr/bin/newgidmap", 0o4755)
    failed = Trial(errno.EPERM, "newuidmap: write to uid_map failed: Operation not permitted")
    docker = {"/proc/self/status": "CapBnd:\t00000000a80425fb\n"}
    found = ids.whole_map(machine(docker, {"id_map": failed}))
    assert "setcap cap_setuid+ep /usr/bin/newuidmap" in found.remedy
    full = ids.whole_map(machine({"/proc/self/status": "CapBnd:\t000001ffffffffff\n"}, {"id_map": failed}))
    assert "setcap" not in full.remedy
