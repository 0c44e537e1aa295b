"""OCI's resources as writes to the files of a cgroup v2."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.errors import JubakoError, UsageError
from jubako.plan.resources import (
    Write,
    asks_for_limits,
    needed_controllers,
    plan_writes,
    require_controllers,
    shares_to_weight,
    weight_to_io_weight,
)
from jubako.spec.load import load_resources


def writes(**resources: Any) -> tuple[Write, ...]:
    return plan_writes(load_resources(resources))


def files(**resources: Any) -> list[tuple[str, str]]:
    return [(write.file, write.value) for write in writes(**resources)]


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(0, 1), (1, 1), (2, 1), (3, 2), (512, 59), (1024, 100), (2048, 174), (262_143, 10_000), (1 << 40, 10_000)],
)
def test_shares_become_a_weight_whose_ends_and_default_meet(shares, weight):
    assert shares_to_weight(shares) == weight


def test_more_shares_never_give_less_weight():
    weights = [shares_to_weight(shares) for shares in range(1, 262_200, 97)]
    assert weights == sorted(weights)
    assert (weights[0], weights[-1]) == (1, 10_000)


@pytest.mark.parametrize(("weight", "scaled"), [(1, 1), (10, 1), (500, 4950), (1000, 10_000)])
def test_an_io_weight_is_scaled(weight, scaled):
    assert weight_to_io_weight(weight) == scaled


@pytest.mark.parametrize(
    ("cpu", "wanted"),
    [
        ({"shares": 1024}, [("cpu.weight", "100")]),
        ({"shares": 0}, []),
        ({"quota": 50_000, "period": 100_000}, [("cpu.max", "50000 100000")]),
        ({"quota": 50_000}, [("cpu.max", "50000")]),
        ({"quota": -1, "period": 20_000}, [("cpu.max", "max 20000")]),
        ({"period": 20_000}, [("cpu.max", "max 20000")]),
        ({"quota": 0}, []),
        ({"idle": 1, "shares": 512}, [("cpu.idle", "1")]),
        ({"burst": 5000}, [("cpu.max.burst", "5000")]),
        (
            {"quota": 9000, "period": 10_000, "burst": 5000},
            [("cpu.max.burst", "0"), ("cpu.max", "9000 10000"), ("cpu.max.burst", "5000")],
        ),
        ({"cpus": "0-1,3", "mems": "0"}, [("cpuset.cpus", "0-1,3"), ("cpuset.mems", "0")]),
    ],
)
def test_cpu(cpu, wanted):
    assert files(cpu=cpu) == wanted


@pytest.mark.parametrize(
    ("memory", "wanted"),
    [
        ({"limit": 1 << 30}, [("memory.max", "1073741824")]),
        ({"limit": 0, "reservation": 0, "swap": 0}, []),
        ({"limit": -1}, [("memory.swap.max", "max"), ("memory.max", "max")]),
        ({"limit": 100, "swap": 100}, [("memory.swap.max", "0"), ("memory.max", "100")]),
        ({"limit": 100, "swap": 250}, [("memory.swap.max", "150"), ("memory.max", "100")]),
        ({"limit": 100, "swap": -1}, [("memory.swap.max", "max"), ("memory.max", "100")]),
        ({"swap": -1}, [("memory.swap.max", "max")]),
        ({"reservation": 50}, [("memory.low", "50")]),
        ({"kernel": -1, "kernelTCP": 0, "disableOOMKiller": False, "useHierarchy": True}, []),
    ],
)
def test_memory(memory, wanted):
    assert files(memory=memory) == wanted


@pytest.mark.parametrize(("limit", "value"), [(100, "100"), (0, "max"), (-1, "max"), (-5, "max")])
def test_pids(limit, value):
    (write,) = writes(pids={"limit": limit})
    assert (write.controller, write.file, write.value) == ("pids", "pids.max", value)
    assert write.limits == (value != "max")


def test_block_io_has_a_weight_in_two_files_and_a_line_for_each_rate():
    found = writes(
        blockIO={
            "weight": 1000,
            "weightDevice": [{"major": 8, "minor": 16, "weight": 10}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
            "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 0}],
            "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 7}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 1, "rate": 8}],
        }
    )
    assert [(write.file, write.value, write.instead) for write in found] == [
        ("io.bfq.weight", "1000", ("io.weight", "10000")),
        ("io.bfq.weight", "8:16 10", ("io.weight", "8:16 1")),
        ("io.max", "8:0 rbps=600", None),
        ("io.max", "8:0 wbps=max", None),
        ("io.max", "8:0 riops=7", None),
        ("io.max", "8:1 wiops=8", None),
    ]
    assert found[-1].field == "linux.resources.blockIO.throttleWriteIOPSDevice[0]"


def test_huge_pages_are_limited_when_reserved_and_when_used():
    found = writes(hugepageLimits=[{"pageSize": "2MB", "limit": 4 << 20}])
    assert [(write.file, write.value, write.optional) for write in found] == [
        ("hugetlb.2MB.max", "4194304", False),
        ("hugetlb.2MB.rsvd.max", "4194304", True),
    ]


def test_rdma():
    assert files(rdma={"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10_000}, "rxe3": {"hcaObjects": 0}}) == [
        ("rdma.max", "mlx5_1 hca_handle=3 hca_object=10000"),
        ("rdma.max", "rxe3 hca_object=0"),
    ]


def test_unified_is_written_as_it_stands_a_line_a_write_and_last():
    found = writes(
        unified={"memory.high": "1000", "io.max": "8:0 rbps=1\n8:1 wbps=2", "new.thing": "x", "cgroup.max.depth": "3"},
        memory={"limit": 5},
    )
    assert [(write.controller, write.file, write.value) for write in found] == [
        ("memory", "memory.max", "5"),
        ("memory", "memory.high", "1000"),
        ("io", "io.max", "8:0 rbps=1"),
        ("io", "io.max", "8:1 wbps=2"),
        ("new", "new.thing", "x"),
        ("cgroup", "cgroup.max.depth", "3"),
    ]
    assert needed_controllers(found) == ("memory", "io", "new")


@pytest.mark.parametrize("name", ["../memory.max", "a/b.c", "memory", ".max", "memory.", "..", "memory..max", "."])
def test_unified_names_no_file_outside_of_the_group(name):
    with pytest.raises(UsageError, match=r"linux\.resources\.unified\..*CONTROLLER\.PARAMETER"):
        writes(unified={name: "1"})


@pytest.mark.parametrize(
    ("path", "resources"),
    [
        ("memory.kernel", {"memory": {"kernel": 1}}),
        ("memory.kernelTCP", {"memory": {"kernelTCP": 1}}),
        ("memory.swappiness", {"memory": {"swappiness": 0}}),
        ("memory.disableOOMKiller", {"memory": {"disableOOMKiller": True}}),
        ("memory.useHierarchy", {"memory": {"useHierarchy": False}}),
        ("memory.swap", {"memory": {"swap": 5}}),
        ("memory.swap", {"memory": {"swap": 5, "limit": 6}}),
        ("cpu.realtimeRuntime", {"cpu": {"realtimeRuntime": 1}}),
        ("cpu.realtimePeriod", {"cpu": {"realtimePeriod": 1}}),
        ("cpu.idle", {"cpu": {"idle": 2}}),
        ("cpu.burst", {"cpu": {"quota": 5, "burst": 6}}),
        ("blockIO.leafWeight", {"blockIO": {"leafWeight": 10}}),
        (
            "blockIO.weightDevice[0].leafWeight",
            {"blockIO": {"weightDevice": [{"major": 1, "minor": 2, "leafWeight": 3}]}},
        ),
        ("network.classID", {"network": {"classID": 1}}),
        ("network.priorities", {"network": {"priorities": [{"name": "eth0", "priority": 1}]}}),
        ("hugepageLimits[0].pageSize", {"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}),
        ("rdma.mlx", {"rdma": {"mlx": {}}}),
    ],
)
def test_what_cgroup_v2_cannot_say_is_refused_with_its_path(path, resources):
    with pytest.raises(UsageError) as caught:
        writes(**resources)
    assert caught.value.subject == f"linux.resources.{path}"
    with pytest.raises(UsageError) as caught:
        plan_writes(load_resources(resources), at="")
    assert caught.value.subject == path


def test_a_controller_that_is_not_there_is_named_with_the_field_and_the_remedy():
    found = writes(pids={"limit": -1}, memory={"limit": 5})
    require_controllers(found, ("memory",), "/g")
    with pytest.raises(JubakoError) as caught:
        require_controllers(found, ("cpu", "pids"), "/g", hint="do this")
    text = str(caught.value)
    assert "linux.resources.memory.limit: the controller memory is not available in /g (there: cpu pids)" in text
    assert "hint: do this" in text


def test_no_limit_needs_no_group():
    assert not asks_for_limits(writes(pids={"limit": 0}, memory={"limit": -1}))
    lifted = {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 0}]}
    assert not asks_for_limits(writes(blockIO=lifted))
    assert asks_for_limits(writes(memory={"limit": 1}))
    assert asks_for_limits(writes(unified={"cgroup.max.depth": "1"}))
