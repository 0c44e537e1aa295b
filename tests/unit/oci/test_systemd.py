"""What systemd is told of a container's limits and annotations; the talking itself is tested in tests/vm."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.errors import JubakoError, UsageError
from jubako.oci import bus
from jubako.oci.systemd import cpu_bits, limit_properties, read_properties, stop_unit
from jubako.oci.variant import parse_variant
from jubako.plan.resources import plan_writes
from jubako.spec.load import load_resources

UNLIMITED = (1 << 64) - 1


def properties(**resources: Any) -> dict[str, Any]:
    return {name: value for name, (_kind, value) in limit_properties(plan_writes(load_resources(resources)))}


def test_limits_are_properties_of_the_scope():
    assert properties(
        memory={"limit": 1000, "reservation": 500, "swap": 1500},
        cpu={"shares": 1024, "quota": 25_000, "period": 50_000, "cpus": "0,2-3", "mems": "0"},
        pids={"limit": 12},
        blockIO={"weight": 1000},
        hugepageLimits=[{"pageSize": "2MB", "limit": 0}],
        unified={"memory.high": "max", "memory.oom.group": "1", "io.max": "8:0 rbps=1"},
    ) == {
        "MemoryMax": 1000,
        "MemoryLow": 500,
        "MemorySwapMax": 500,
        "CPUWeight": 100,
        "CPUQuotaPerSecUSec": 500_000,
        "CPUQuotaPeriodUSec": 50_000,
        "AllowedCPUs": b"\x0d",
        "AllowedMemoryNodes": b"\x01",
        "TasksMax": 12,
        "IOWeight": 10_000,
        "MemoryHigh": UNLIMITED,
        "OOMPolicy": "kill",
    }


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        ({"pids": {"limit": -1}}, {"TasksMax": UNLIMITED}),
        ({"cpu": {"quota": -1}}, {"CPUQuotaPerSecUSec": UNLIMITED}),
        ({"cpu": {"quota": 10_001}}, {"CPUQuotaPerSecUSec": 110_000}),
        ({"cpu": {"idle": 1, "shares": 5}}, {"CPUWeight": 0}),
        ({"unified": {"cpu.idle": "1", "cpu.weight": "7"}}, {"CPUWeight": 0}),
        ({"unified": {"cpu.weight": "7", "cpu.idle": "1"}}, {"CPUWeight": 0}),
        ({}, {}),
    ],
)
def test_corners_of_limits(resources, wanted):
    found = properties(**resources)
    assert found == wanted


@pytest.mark.parametrize(("text", "bits"), [("0", b"\x01"), ("7", b"\x80"), ("0-8", b"\xff\x01"), (" 1 , 3", b"\x0a")])
def test_cpus_are_bits(text, bits):
    assert cpu_bits(text) == bits


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "-1", "99999999", "1;2", "٣"])
def test_what_is_no_list_of_cpus_is_refused(text):
    with pytest.raises(UsageError, match="cpuset"):
        cpu_bits(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'a b'", ("s", "a b")),
        (r'"it\'s \n"', ("s", "it's \n")),
        ("true", ("b", True)),
        ("5", ("i", 5)),
        ("-5", ("i", -5)),
        ("0x10", ("i", 16)),
        ("1.5", ("d", 1.5)),
        ("uint64 18446744073709551615", ("t", UNLIMITED)),
        ("byte 255", ("y", 255)),
        ("@u 7", ("u", 7)),
        ("['a', 'b']", ("as", ["a", "b"])),
        ("[ uint32 1 , 2 ]", ("au", [1, 2])),
        ("@as []", ("as", [])),
        ("[[1],[2,3]]", ("aai", [[1], [2, 3]])),
        ("objectpath '/a'", ("o", "/a")),
    ],
)
def test_annotations_are_read_as_gvariants(text, value):
    assert parse_variant(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "'a",
            "a b",
            "[1",
            "[1 2]",
            "[]",
            "1 2",
            "uint64 -1",
            "byte 256",
            "5000000000",
            "uint32 'a'",
            "@x",
            "@z 1",
        ),
        *("[1,'a']", "]", ",", "@as 5", "'a' 'b'", "(1,2)", "boolean 1", "1x", "[" * 2000),
    ],
)
def test_what_is_no_gvariant_is_refused(text):
    with pytest.raises(UsageError, match=r"annotations\.org\.systemd\.property\.Some"):
        read_properties((("Some", text),))


def test_seconds_are_microseconds_on_the_bus():
    texts = (
        ("TimeoutStopSec", "5"),
        ("RuntimeMaxSec", "1.5"),
        ("TimeoutStartUSec", "uint64 7"),
        ("CollectMode", "'a'"),
    )
    assert read_properties(texts) == [
        ("TimeoutStopUSec", ("t", 5_000_000)),
        ("RuntimeMaxUSec", ("t", 1_500_000)),
        ("TimeoutStartUSec", ("t", 7)),
        ("CollectMode", ("s", "a")),
    ]
    with pytest.raises(UsageError, match="TimeoutStopSec"):
        read_properties((("TimeoutStopSec", "'5'"),))


def test_addresses_of_a_bus():
    assert bus._paths("unix:path=/a%20b,guid=1;unix:abstract=c;tcp:host=x;unix:runtime=yes") == ["/a b", "\0c"]
    assert bus._paths("") == []


def test_without_systemd_the_remedy_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/bus")
    with pytest.raises(JubakoError, match="connect to the user's systemd") as caught:
        stop_unit("a.scope", True)
    assert f"{tmp_path}/systemd/private: No such file or directory" in str(caught.value)
    assert "loginctl enable-linger" in caught.value.hint
