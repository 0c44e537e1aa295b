"""`events`: the shape that engines read, and a stream that follows the container to its end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jubako import jsontext
from jubako.errors import JubakoError, UsageError
from jubako.oci.events import read_interval, stats_event, stream_events
from world.cgroup import View

FILES = {
    "cgroup.procs": "",
    "cpu.stat": "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_periods 4\nnr_throttled 2\nthrottled_usec 50\n",
    "cpu.pressure": "some avg10=0.00 avg60=1.25 avg300=0.10 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "memory.stat": "file 4096\nanon 8192\n",
    "memory.current": "12288\n",
    "memory.max": "max\n",
    "memory.peak": "20480\n",
    "memory.swap.current": "4096\n",
    "memory.swap.max": "8192\n",
    "memory.swap.peak": "4096\n",
    "memory.events": "low 0\noom 1\noom_kill 2\n",
    "pids.current": "3\n",
    "pids.max": "100\n",
    "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=0 dbytes=0 dios=0\n252:1 wbytes=5\n",
    "hugetlb.2MB.current": "2097152\n",
    "hugetlb.2MB.events": "max 5\n",
    "hugetlb.2MB.rsvd.current": "4194304\n",
}
NONE = {"limit": 0, "failcnt": 0}


@pytest.fixture
def group(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_numbers_stand_where_runc_has_them(group):
    event = stats_event("box", str(group), "running")
    assert {key: event[key] for key in ("type", "id")} == {"type": "stats", "id": "box"}
    data = event["data"]
    assert list(data) == [
        *("cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt"),
        "network_interfaces",
    ]
    assert data["cpu"]["usage"] == {"total": 3_000_000, "kernel": 1_000_000, "user": 2_000_000}
    assert data["cpu"]["throttling"] == {"periods": 4, "throttledPeriods": 2, "throttledTime": 50_000}
    assert data["cpu"]["psi"]["some"] == {"avg10": 0, "avg60": 1.25, "avg300": 0.1, "total": 77}
    assert data["memory"] == {
        "cache": 4096,
        "usage": {"limit": 0xFFFFFFFFFFFFFFFF, "usage": 12288, "max": 20480, "failcnt": 0},
        "swap": {"limit": 0xFFFFFFFFFFFFFFFF, "usage": 16384, "failcnt": 0},
        "kernel": NONE,
        "kernelTCP": NONE,
        "raw": {"anon": 8192, "file": 4096},
    }
    assert data["pids"] == {"current": 3, "limit": 100}
    assert data["blkio"] == {
        "ioServiceBytesRecursive": [
            {"major": 8, "op": "Read", "value": 10},
            {"major": 8, "op": "Write", "value": 20},
            {"major": 252, "minor": 1, "op": "Write", "value": 5},
        ],
        "ioServicedRecursive": [{"major": 8, "op": "Read", "value": 1}, {"major": 8, "op": "Write"}],
    }
    assert data["hugetlb"] == {"2MB": {"usage": 4194304, "failcnt": 5}}
    assert data["cpuset"]["cpu_exclusive"] == 0
    assert data["network_interfaces"] is None
    assert json.loads(jsontext.dumps(event)) == event


def test_without_controllers_the_shape_is_the_same(tmp_path):
    (tmp_path / "cgroup.procs").write_text("1\n2\n")
    data = stats_event("box", str(tmp_path), "paused")["data"]
    assert data["cpu"] == {"usage": {"kernel": 0, "user": 0}, "throttling": {}}
    assert data["memory"] == {"usage": NONE, "swap": NONE, "kernel": NONE, "kernelTCP": NONE}
    assert (data["pids"], data["blkio"], data["hugetlb"]) == ({"current": 2}, {}, {})


@pytest.mark.parametrize("status", ["stopped", "creating"])
def test_there_are_none_of_a_container_that_does_not_run(group, status):
    for ask in (stats_event, stream_events):
        with pytest.raises(UsageError, match=f"it is not running: {status}"):
            ask("box", str(group), status)
        with pytest.raises(JubakoError, match="no control group of its own"):
            ask("box", "", "running")


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5), ("500ms", 0.5), ("1m30s", 90), ("1.5h", 5400), ("10us", 1e-5), ("10µs", 1e-5)]
)
def test_intervals_are_written_as_go_does(text, seconds):
    assert read_interval(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "0s", "5x", "1.2.3s", "5 s", "9999999999h", ".s", "٣s"])
def test_what_is_no_interval_is_refused(text):
    with pytest.raises(UsageError, match="--interval"):
        read_interval(text)
    with pytest.raises(UsageError, match="--interval"):
        stream_events("box", "/g", "running", 0)


@pytest.mark.root
def test_a_stream_tells_at_every_interval_and_ends_with_the_container(view: View):
    kinds, took, counted = view(
        """
        import subprocess
        from jubako.linux import cgroup
        from jubako.oci.events import stream_events
        path = f"{sys.argv[1]}/a"
        os.mkdir(path)
        child = subprocess.Popen(("sleep", "0.7"))
        cgroup.add_process(path, child.pid)
        begin = time.monotonic()
        events = list(stream_events("box", path, "running", 0.2))
        answer([[event["type"] for event in events], time.monotonic() - begin, events[0]["data"]["pids"]])
        """,
        str(view.group),
    )
    assert 2 <= len(kinds) <= 4
    assert set(kinds) == {"stats"}
    assert took < 5
    assert counted == {"current": 1}


@pytest.mark.root
def test_a_stream_does_not_spin_while_nothing_happens(view: View):
    used = view(
        """
        import subprocess
        from jubako.linux import cgroup
        from jubako.oci.events import stream_events
        path = f"{sys.argv[1]}/a"
        os.makedirs(f"{path}/b")
        children = [subprocess.Popen(("sleep", seconds)) for seconds in ("1.5", "0.2")]
        for child, name in zip(children, ("", "/b")):
            cgroup.add_process(path + name, child.pid)
        cgroup.freeze(f"{path}/b", True)
        cgroup.freeze(path, True); cgroup.freeze(path, False)  # a change that no event is made of
        begin = time.process_time()
        children[1].kill()
        list(stream_events("box", path, "running", 100))
        answer(time.process_time() - begin)
        """,
        str(view.group),
    )
    assert used < 0.3
