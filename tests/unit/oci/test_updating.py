"""`update`: what its flags and documents mean, and whom it asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jubako.errors import JubakoError, UsageError
from jubako.oci.updating import UpdateOptions, read_resources, resources_of, update, update_cache
from jubako.plan.resources import plan_writes
from jubako.spec.load import load_resources
from jubako.spec.resources import Resources
from world.cgroup import View


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("1", 1), ("1024b", 1024), ("1k", 1 << 10), ("512m", 512 << 20), ("2G", 2 << 30), ("1.5g", 3 << 29)),
        *(("2GiB", 2 << 30), ("10 MB", 10 << 20), ("1t", 1 << 40), ("-1", -1), ("0", 0)),
    ],
)
def test_sizes_have_units(text, size):
    assert resources_of(UpdateOptions(memory=text)).memory.limit == size


@pytest.mark.parametrize("text", ["", "x", "-2", "1x", "1..5g", "m", "1e3", "1,5g", "٣", "9" * 30, "99999999t", "1bb"])
def test_what_is_no_size_is_refused_with_its_flag(text):
    if not text:
        assert resources_of(UpdateOptions(memory_swap="")) == Resources()
        return
    with pytest.raises(UsageError) as caught:
        resources_of(UpdateOptions(memory_swap=text))
    assert caught.value.subject == "--memory-swap"


@pytest.mark.parametrize(
    ("flag", "text"),
    [("cpu_idle", "2"), ("cpu_quota", "-2"), ("pids_limit", "1.5"), ("blkio_weight", "1001"), ("cpu_share", "-1")],
)
def test_numbers_have_bounds(flag, text):
    with pytest.raises(UsageError, match="--" + flag.replace("_", "-")):
        resources_of(UpdateOptions(**{flag: text}))


def test_all_flags_become_writes():
    options = UpdateOptions(
        memory="100m",
        memory_reservation="50m",
        memory_swap="150m",
        cpu_period="10000",
        cpu_quota="5000",
        cpu_burst="1000",
        cpu_share="1024",
        cpuset_cpus="0",
        cpuset_mems="0",
        blkio_weight="500",
        pids_limit="20",
    )
    assert {(write.file, write.value) for write in plan_writes(resources_of(options), "")} == {
        ("memory.max", str(100 << 20)),
        ("memory.low", str(50 << 20)),
        ("memory.swap.max", str(50 << 20)),
        ("cpu.max.burst", "0"),
        ("cpu.max", "5000 10000"),
        ("cpu.max.burst", "1000"),
        ("cpu.weight", "100"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("io.bfq.weight", "500"),
        ("pids.max", "20"),
    }


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"memory":{"limit":"1"}}', b"[" * 100_000, b"\xff"])
def test_a_document_that_is_none_is_refused_with_its_name(text):
    with pytest.raises(UsageError, match=r"read (limits\.json|standard input)"):
        read_resources(text, "limits.json")


def test_a_document_is_read():
    assert read_resources(b'{"pids":{"limit":7}}', "x").pids.limit == 7


def group_of(tmp_path: Path, **files: str) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    for name, text in files.items():
        (tmp_path / name.replace("__", ".")).write_text(text)
    return tmp_path


def apply(group: Path | str, resources: dict[str, Any], status: str = "running") -> None:
    update("box", str(group), status, load_resources(resources))


def test_a_period_alone_keeps_the_quota_in_force(tmp_path):
    group = group_of(tmp_path, cpu__max="25000 100000\n")
    apply(group, {"cpu": {"period": 50_000}})
    assert (group / "cpu.max").read_text().startswith("25000 50000")
    group_of(tmp_path, cpu__max="max 100000\n")
    apply(group, {"cpu": {"period": 50_000}})
    assert (group / "cpu.max").read_text().startswith("max 50000")


def test_a_swap_limit_alone_counts_with_the_memory_limit_in_force(tmp_path):
    group = group_of(tmp_path, memory__max="1000\n", memory__swap__max="")
    apply(group, {"memory": {"swap": 1500}})
    assert (group / "memory.swap.max").read_text() == "500"
    group_of(tmp_path, memory__max="max\n")
    with pytest.raises(UsageError, match=r"memory\.swap"):
        apply(group, {"memory": {"swap": 1500}})


@pytest.mark.parametrize("memory", [{"limit": 500}, {"limit": 400}, {"limit": 600, "swap": 600}])
def test_a_limit_below_what_is_in_use_is_refused_where_that_is_asked_for(tmp_path, memory):
    files = {"memory__max": "max", "memory__swap__max": "max", "memory__swap__current": "100\n"}
    group = group_of(tmp_path, memory__current="500\n", **files)
    with pytest.raises(JubakoError, match="is not above what is in use"):
        apply(group, {"memory": {**memory, "checkBeforeUpdate": True}})
    assert (group / "memory.max").read_text() == "max"
    apply(group, {"memory": memory})
    assert (group / "memory.max").read_text().startswith(str(memory["limit"]))


def test_a_container_that_has_stopped_cannot_be_updated():
    with pytest.raises(UsageError, match="update container box: it is not running: stopped"):
        apply("", {"pids": {"limit": 1}}, "stopped")


def test_without_a_group_only_nothing_can_be_asked():
    apply("", {"pids": {"limit": -1}, "devices": [{"allow": True}]})
    with pytest.raises(JubakoError, match="no control group of its own") as caught:
        apply("", {"pids": {"limit": 1}})
    assert "Delegate" in caught.value.hint


def test_a_controller_that_the_group_has_not_is_named(tmp_path):
    with pytest.raises(JubakoError, match=r"limit hugepageLimits\[0\]: the controller hugetlb is not available"):
        apply(group_of(tmp_path), {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]})


def test_the_flags_of_the_cache_are_written_together_or_refused(tmp_path):
    update_cache("box", UpdateOptions(), str(tmp_path))
    with pytest.raises(JubakoError, match="schemata"):
        update_cache("box", UpdateOptions(l3_cache_schema="L3:0=f"), str(tmp_path))
    (tmp_path / "box").mkdir()
    (tmp_path / "box/schemata").write_text("")
    update_cache("box", UpdateOptions(l3_cache_schema="L3:0=f", mem_bw_schema="MB:0=20"), str(tmp_path))
    assert (tmp_path / "box/schemata").read_text() == "L3:0=f\nMB:0=20\n"


@pytest.mark.root
def test_a_real_group_takes_another_limit_and_another_device_filter(view: View):
    found = view(
        """
        import subprocess
        from jubako.oci.cgroups import make_group, choose_group
        from jubako.oci.updating import update
        from jubako.spec.load import load_resources
        path = f"{sys.argv[1]}/a"
        os.mkdir(path)
        size = sorted(name for name in os.listdir(path) if name.startswith("hugetlb."))[0].split(".")[1]
        limits = {"hugepageLimits": [{"pageSize": size, "limit": 8 << 30}], "devices": [{"allow": False}]}
        update("box", path, "running", load_resources(limits), filter_devices=True)
        reading = "echo 0 > $0/cgroup.procs; head -c 1 /dev/fuse; head -c 1 /dev/zero"
        done = subprocess.run(("sh", "-c", reading, path), capture_output=True, text=True)
        answer([open(f"{path}/hugetlb.{size}.max").read(), done.stdout, done.stderr])
        """,
        str(view.group),
        root=True,
    )
    assert found[:2] == [f"{8 << 30}\n", "\0"]
    assert "/dev/fuse" in found[2]
    assert "Operation not permitted" in found[2]
