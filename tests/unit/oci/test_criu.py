"""What criu is told, what its log says, and which mounts it is not to keep."""

from __future__ import annotations

import pytest

from jubako.errors import UsageError
from jubako.linux.clone import CLONE_NEWNET
from jubako.oci import criu_mounts as mounts
from jubako.oci.criu import CriuOptions, common_options, read_failure, refuse_joined
from jubako.spec.types import IdMapping, Linux, Mount, Namespace, Spec

INSIDE = b"""\
114 74 254:0 /srv/rootfs / rw,relatime - ext4 /dev/vda rw
115 114 0:79 / /proc rw,relatime - proc proc rw
117 114 0:81 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k
182 114 0:84 / /sys ro,nosuid - sysfs sysfs ro
183 114 254:0 /srv/my\\040data /data ro,relatime - ext4 /dev/vda rw
184 183 0:90 / /data/deep rw master:3 - tmpfs tmpfs rw
185 184 0:91 / /data/deep/own rw - tmpfs tmpfs rw
191 115 0:6 /null /proc/keys rw,relatime - devtmpfs devtmpfs rw
197 182 0:78 / /sys/firmware ro,nosuid - tmpfs tmpfs ro,size=0k
"""
OUTSIDE = b"""\
20 1 254:0 / / rw - ext4 /dev/vda rw
21 20 0:6 / /dev rw - devtmpfs devtmpfs rw
22 20 0:90 / /srv/my\\040data/deep rw shared:3 - tmpfs tmpfs rw
23 20 0:84 / /sys rw - sysfs sysfs rw
"""
SPEC = Spec(
    mounts=(
        Mount("/proc", type="proc"),
        Mount("/data", type="bind", source="/srv/my data", options=("rbind", "ro")),
        Mount("/data/deep/own", type="tmpfs", source="tmpfs"),
    ),
    linux=Linux(masked_paths=("/proc/keys", "/sys/firmware")),
)
RESOLVED = {path: path for path in ("/proc", "/data", "/data/deep/own")}


def test_only_what_leads_to_the_host_is_external():
    inside, outside = mounts.read_mounts(INSIDE), mounts.read_mounts(OUTSIDE)
    found = mounts.external_mounts(SPEC, inside, outside, RESOLVED)
    assert found == ("/data", "/data/deep", "/proc/keys")


def test_every_name_of_a_checkpoint_has_a_source():
    found = dict(mounts.sources(SPEC, "/bundle", ("/data", "/data/deep", "/proc/keys"), RESOLVED))
    assert found["/data"] == "/srv/my data"
    assert found["/data/deep"] == "/srv/my data/deep"
    assert found["/proc/keys"] == found["/dev/null"] == "/dev/null"


def test_a_relative_source_counts_from_the_bundle():
    spec = Spec(mounts=(Mount("/data", type="bind", source="mine"),))
    assert dict(mounts.sources(spec, "/bundle", (), {"/data": "/run/data"}))["/run/data"] == "/bundle/mine"


def test_mounts_of_the_containers_own_making_are_left_out():
    inside = mounts.read_mounts(b"1 0 254:0 / / rw - ext4 d rw\n2 1 0:78 / /data/run/c1/stage ro - tmpfs tmpfs ro\n")
    assert mounts.own_mounts(SPEC, "/b", inside, RESOLVED, ("/srv/my data/run/c1",)) == ("/data/run/c1/stage",)
    assert mounts.own_mounts(SPEC, "/b", inside, RESOLVED, ("/srv/my data/run/c",)) == ()


def test_an_id_mapped_bind_is_refused():
    maps = (IdMapping(0, 1000, 1),)
    spec = Spec(mounts=(Mount("/data", type="bind", source="/srv", uid_mappings=maps, gid_mappings=maps),))
    with pytest.raises(UsageError, match="checkpoint container"):
        mounts.refuse_mounts("checkpoint container", "c1", spec)


def test_namespaces_of_others_are_joined_again_or_refused():
    joined = Spec(linux=Linux(namespaces=(Namespace("network", "/n"), Namespace("ipc", "/i"), Namespace("user"))))
    refuse_joined("restore container", "c1", joined)
    with pytest.raises(UsageError, match="criu cannot join the user namespace /u"):
        refuse_joined("restore container", "c1", Spec(linux=Linux(namespaces=(Namespace("user", "/u"),))))


def test_the_failure_is_what_the_log_says_last_before_giving_up():
    log = """\
(00.028) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.029) Warn  (criu/x.c:1): Errors happen
(00.030) Error (criu/file-lock.c:115): Some file locks are hold by dumping tasks! You can try --file-locks to dump them.
(00.031)      1: Error (criu/a.c:2): twice
(00.031)      1: Error (criu/a.c:2): twice
(00.032) Error (criu/cr-dump.c:2111): Dumping FAILED.
"""
    assert read_failure(log) == (
        "Some file locks are hold by dumping tasks! You can try --file-locks to dump them.; twice"
    )
    assert read_failure("Error: [Errno 2] No such file") == "[Errno 2] No such file"
    assert read_failure("nothing\n") == ""


def test_flags_become_options():
    options = CriuOptions(tcp_established=True, cgroups_mode="strict", empty_ns=("network",), network_lock="skip")
    found = dict(common_options(options, {"org.criu.config": "/my.conf"}))
    assert found["tcp_established"] is True
    assert found["shell_job"] is False
    assert (found["manage_cgroups_mode"], found["network_lock"]) == (5, 3)
    assert (found["empty_ns"], found["config_file"]) == (CLONE_NEWNET, "/my.conf")


def test_an_empty_annotation_keeps_every_configuration_away():
    assert "config_file" not in dict(common_options(CriuOptions(), {"org.criu.config": ""}))


def test_only_the_network_can_be_left_empty():
    with pytest.raises(UsageError, match="use --empty-ns pid"):
        dict(common_options(CriuOptions(empty_ns=("pid",)), {}))
