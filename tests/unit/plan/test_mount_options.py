"""The specification's table of mount options: each sets, clears or says what it should, and later ones hold."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jubako.linux import mount as mnt
from jubako.plan.mount_options import MOUNT_OPTIONS, attributes_of, read_options

TABLE = [
    name
    for line in (
        "acl async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud mand noacl",
        "noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid",
        "nosymfollow private ratime rbind rdev rdiratime relatime remount rexec ridmap rnoatime rnodev",
        "rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw",
        "rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid",
        "symfollow sync tmpcopyup unbindable",
    )
    for name in line.split()
]
PAIRS = [
    ("ro", "rw", mnt.MOUNT_ATTR_RDONLY),
    ("nosuid", "suid", mnt.MOUNT_ATTR_NOSUID),
    ("nodev", "dev", mnt.MOUNT_ATTR_NODEV),
    ("noexec", "exec", mnt.MOUNT_ATTR_NOEXEC),
    ("nodiratime", "diratime", mnt.MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", "symfollow", mnt.MOUNT_ATTR_NOSYMFOLLOW),
]


def test_the_table_is_complete() -> None:
    assert list(MOUNT_OPTIONS) == TABLE


@pytest.mark.parametrize("name", TABLE)
def test_no_known_option_is_handed_to_the_file_system(name: str) -> None:
    assert read_options((name,)).data == ()
    assert read_options((name, "size=5", "x")).data == ("size=5", "x")


@pytest.mark.parametrize(("sets", "clears", "attribute"), PAIRS)
def test_an_attribute_is_set_and_cleared_for_the_mount_or_for_all_below_it(
    sets: str, clears: str, attribute: int
) -> None:
    assert read_options((sets,)).attributes() == (attribute, 0)
    assert read_options((clears,)).attributes() == (0, attribute)
    assert read_options((sets, clears)).attributes() == (0, attribute)
    assert read_options((clears, sets)).attributes() == (attribute, 0)
    deep = read_options((f"r{sets}",))
    assert (deep.recursive_set, deep.recursive_cleared, deep.attributes()) == (attribute, 0, (0, 0))
    deep = read_options((f"r{sets}", f"r{clears}"))
    assert (deep.recursive_set, deep.recursive_cleared) == (0, attribute)
    deep = read_options((f"r{clears}", f"r{sets}"))
    assert (deep.recursive_set, deep.recursive_cleared) == (attribute, 0)


@pytest.mark.parametrize("deep", ["", "r"])
def test_how_times_are_kept_is_one_number_that_is_cleared_first(deep: str) -> None:
    def asked(*options: str) -> tuple[int, int]:
        found = read_options(tuple(deep + option for option in options))
        return (found.recursive_set, found.recursive_cleared) if deep else found.attributes()

    whole = mnt.MOUNT_ATTR__ATIME
    assert asked("noatime") == (mnt.MOUNT_ATTR_NOATIME, whole)
    assert asked("strictatime") == (mnt.MOUNT_ATTR_STRICTATIME, whole)
    for option in ("relatime", "atime", "norelatime", "nostrictatime"):
        assert asked(option) == (0, whole)
    assert asked("noatime", "strictatime") == (mnt.MOUNT_ATTR_STRICTATIME, whole)
    assert asked("strictatime", "noatime") == (mnt.MOUNT_ATTR_NOATIME, whole)
    assert asked("noatime", "relatime") == (0, whole)
    assert asked("noatime", "atime") == (0, whole)


def test_flags_of_the_file_system_itself_are_named_for_fsconfig() -> None:
    options = read_options(("sync", "dirsync", "lazytime", "mand", "iversion", "ro", "nosuid"))
    assert set(options.of_file_system()) == {"sync", "dirsync", "lazytime", "mand", "ro"}
    clear = ("async", "nolazytime", "nomand", "noiversion", "rw")
    assert read_options(("sync", "lazytime", "mand", "iversion", "ro", *clear)).of_file_system() == ()
    assert read_options(("acl", "silent")).flags == mnt.MS_POSIXACL | mnt.MS_SILENT
    assert read_options(("acl", "silent", "noacl", "loud")).flags == 0


def test_propagations_keep_their_order_and_their_reach() -> None:
    options = read_options(("slave", "rshared", "slave"))
    assert options.propagations == (mnt.MS_SLAVE, mnt.MS_SHARED | mnt.MS_REC)


def test_what_is_no_flag_is_told_by_its_name() -> None:
    options = read_options(("rbind", "remount", "tmpcopyup", "idmap", "nofail"))
    assert options.bind
    assert options.recursive
    assert options.remount
    assert options.copy_up
    assert options.id_map == "idmap"
    assert options.optional
    assert read_options(("idmap", "ridmap")).id_map == "ridmap"
    assert not read_options(("bind",)).recursive


@given(st.lists(st.sampled_from(TABLE) | st.text(max_size=4)))
@example(["rnoatime", "rrelatime", "ratime", "rstrictatime"])
@example(["rro", "ro", "rrw", "rw"])
def test_no_list_of_options_sets_and_clears_one_attribute_at_once(options: list[str]) -> None:
    found = read_options(tuple(options))
    for set_, clear in (found.attributes(), (found.recursive_set, found.recursive_cleared)):
        assert not set_ & clear & ~mnt.MOUNT_ATTR__ATIME
        assert clear & mnt.MOUNT_ATTR__ATIME in (0, mnt.MOUNT_ATTR__ATIME)
        times = set_ & mnt.MOUNT_ATTR__ATIME
        assert times in (0, mnt.MOUNT_ATTR_NOATIME, mnt.MOUNT_ATTR_STRICTATIME)
        assert not times or clear & mnt.MOUNT_ATTR__ATIME
    assert not found.flags & found.cleared
    assert attributes_of(0, 0) == (0, 0)


def test_an_empty_option_is_none() -> None:
    assert read_options(("rw", "")).data == ()
