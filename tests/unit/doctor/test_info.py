"""Each choice is named with its reason, whichever way the machine makes it go."""

from __future__ import annotations

import errno

from jubako.cli.commands import info as command
from jubako.cli.flags import parse
from jubako.doctor import info
from jubako.doctor.trial import Trial
from jubako.paths import Paths

HERE = Trial(0, "0xef53 1000000000 5 5")


def test_overlay_is_chosen_where_it_works(machine):
    found = info.storage_choice(machine(attempts={"file_system": HERE}))
    assert (found["name"], found["file_system"], found["free_bytes"]) == ("overlay", "ext4", 1000000000)


def test_fuse_overlayfs_and_then_a_copy_stand_in_for_overlay(machine, program):
    attempts = {"file_system": HERE, "overlay": Trial(errno.EPERM, "mount overlay: EPERM")}
    found = info.storage_choice(machine(attempts=attempts))
    assert found["name"] == "copy"
    assert "mount overlay: EPERM" in found["why"]
    program("/usr/bin/fuse-overlayfs")
    assert info.storage_choice(machine(attempts=attempts))["name"] == "fuse-overlayfs"


def test_the_maps_are_shown_with_who_writes_them(machine):
    found = info.id_choice(machine())
    assert found["name"] == "newuidmap"
    assert found["uid_map"] == ["0 1000 1", "1 100000 65536"]


def test_a_single_id_is_told_with_what_it_costs(machine):
    found = info.id_choice(machine({"/etc/subuid": "", "/etc/subgid": ""}))
    assert found["name"] == "single"
    assert found["uid_map"] == ["0 1000 1"]
    assert found["lost"]


def test_no_cgroup_is_told_with_the_reason(machine):
    found = info.cgroup_choice(machine({"/proc/self/cgroup": "0::/\n"}, uid=4321))
    assert found["name"] == "none"
    assert "not writable by uid 4321" in found["why"]


def test_an_empty_store_counts_nothing(tmp_path):
    places = Paths(str(tmp_path / "data"), str(tmp_path / "run"), str(tmp_path / "cache"))
    assert info.count_images(places) == 0
    assert info.count_containers(places)["total"] == 0


def test_every_choice_of_this_machine_has_a_name_and_a_reason_and_the_page_shows_them(capsys):
    found = info.gather()
    for choice in ("ids", "storage", "network", "cgroups", "seccomp"):
        assert found[choice]["name"]
        assert found[choice]["why"]
    assert command.run(parse(command.COMMAND, [])) == 0
    page = capsys.readouterr().out
    for word in ("storage", "network", "cgroups", "seccomp", "uid map", "data:"):
        assert word in page


def test_a_template_picks_one_thing(capsys):
    assert command.run(parse(command.COMMAND, ["--format", "{{.storage.name}}"])) == 0
    assert capsys.readouterr().out.strip() in ("overlay", "fuse-overlayfs", "copy")
