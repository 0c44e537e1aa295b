"""config.md, "Linux Process": capabilities, no_new_privs, scores, schedulers and priorities."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from world.bundle import CAPABILITIES, Bundle
from world.rule import only_root, rule
from world.runtime import Runtime

NUMBERS = {"CAP_CHOWN": 0, "CAP_KILL": 5, "CAP_SETUID": 7, "CAP_NET_BIND_SERVICE": 10, "CAP_AUDIT_WRITE": 29}
SETS = {
    "CapInh": "inheritable",
    "CapPrm": "permitted",
    "CapEff": "effective",
    "CapBnd": "bounding",
    "CapAmb": "ambient",
}


def mask(*names: str) -> int:
    return sum(1 << NUMBERS[name] for name in names)


def sets_inside(runtime: Runtime, bundle: Bundle) -> dict[str, int]:
    lines = runtime.says(bundle, "grep ^Cap /proc/self/status").splitlines()
    return {SETS[line.split(":")[0]]: int(line.split()[1], 16) for line in lines}


# --- capabilities -----------------------------------------------------------------------------------------------------


@rule(
    "config.md", "Linux Process", "MUST", "Root inside has the capabilities of the bounding, effective, permitted sets."
)
def test_capabilities_of_root(runtime: Runtime, bundle: Bundle):
    wanted = mask(*CAPABILITIES)
    found = sets_inside(runtime, bundle)
    assert found == {"inheritable": 0, "permitted": wanted, "effective": wanted, "bounding": wanted, "ambient": 0}


@rule("config.md", "Linux Process", "MUST", "Each of the five sets is the one of its name.")
def test_the_five_sets(runtime: Runtime, bundles: Callable[..., Bundle]):
    bundle = bundles(maps="all")
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.process["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_BIND_SERVICE"],
        "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
        "ambient": ["CAP_NET_BIND_SERVICE"],
    }
    assert sets_inside(runtime, bundle) == {
        "bounding": mask("CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_BIND_SERVICE"),
        # execve(2) of an ordinary user's program leaves what is ambient in these two
        "permitted": mask("CAP_NET_BIND_SERVICE"),
        "effective": mask("CAP_NET_BIND_SERVICE"),
        "inheritable": mask("CAP_KILL", "CAP_NET_BIND_SERVICE"),
        "ambient": mask("CAP_NET_BIND_SERVICE"),
    }


@rule("config.md", "Linux Process", "MUST", "A set that is empty or absent has no capability.")
@pytest.mark.parametrize("given", [{}, {"bounding": [], "effective": [], "permitted": []}], ids=str)
def test_no_capabilities(runtime: Runtime, bundle: Bundle, given: dict[str, Any]):
    bundle.process["capabilities"] = given
    assert sets_inside(runtime, bundle) == dict.fromkeys(SETS.values(), 0)


@rule("config.md", "Linux Process", "MUST", "A capability that is unknown or cannot be granted is logged as a warning.")
@rule("config.md", "Linux Process", "SHOULD", "Such a capability does not make the container fail.")
def test_an_unknown_capability(runtime: Runtime, bundle: Bundle):
    bundle.capabilities(["CAP_KILL", "CAP_TO_FLY"])
    bundle.sh("grep ^CapEff /proc/self/status")
    result = runtime.run(bundle)
    assert int(result.stdout.split()[1], 16) == mask("CAP_KILL")
    assert "CAP_TO_FLY" in result.stderr


@rule("config.md", "Linux Process", "MUST", "What the bounding set lacks, the program does not have.")
def test_what_is_not_granted_is_refused(runtime: Runtime, bundle: Bundle):
    bundle.process["noNewPrivileges"] = False
    bundle.config["root"]["readonly"] = False
    said = runtime.says(
        bundle, "mount -t tmpfs none /tmp 2>/dev/null || echo refused; hostname x 2>/dev/null || echo no"
    )
    assert said == "refused\nno"


# --- what the process may do, and how it is treated -------------------------------------------------------------------


@rule("config.md", "Linux Process", "MUST", "`noNewPrivileges` is the process's no_new_privs.")
@pytest.mark.parametrize("flag", [True, False])
def test_no_new_privileges(runtime: Runtime, bundle: Bundle, flag: bool):
    bundle.process["noNewPrivileges"] = flag
    assert runtime.says(bundle, "grep ^NoNewPrivs /proc/self/status").split()[1] == str(int(flag))


@rule("config.md", "Linux Process", "MUST", "`oomScoreAdj` is the process's oom_score_adj.")
@pytest.mark.parametrize("score", [500, 1000])
def test_the_score_for_the_oom_killer(runtime: Runtime, bundle: Bundle, score: int):
    bundle.process["oomScoreAdj"] = score
    assert runtime.says(bundle, "cat /proc/self/oom_score_adj") == str(score)


@rule("config.md", "Linux Process", "MUST", "Without `oomScoreAdj` it is not changed.")
def test_the_score_is_not_changed(runtime: Runtime, bundle: Bundle):
    assert runtime.says(bundle, "cat /proc/self/oom_score_adj") == Path("/proc/self/oom_score_adj").read_text().strip()


@rule("config.md", "Valid values", "MUST", "A score out of the kernel's range is refused.")
@pytest.mark.parametrize("score", [1001, -1001, "500", 1.5])
def test_a_score_out_of_range(runtime: Runtime, bundle: Bundle, score: object):
    bundle.process["oomScoreAdj"] = score
    assert "process.oomScoreAdj" in runtime.refuses(bundle)


def scheduler_inside(runtime: Runtime, bundle: Bundle, scheduler: dict[str, Any]) -> dict[str, int]:
    bundle.process["scheduler"] = scheduler
    bundle.args(bundle.use_probe(), "scheduler")
    return {key: int(value) for key, value in (word.split("=") for word in runtime.run(bundle).stdout.split())}


@rule("config.md", "Linux Process", "MUST", "`scheduler.policy` and `nice` are the process's policy and nice value.")
@pytest.mark.parametrize(
    ("policy", "number", "nice"), [("SCHED_OTHER", 0, 7), ("SCHED_BATCH", 3, 5), ("SCHED_IDLE", 5, 0)]
)
def test_the_scheduler(runtime: Runtime, bundle: Bundle, policy: str, number: int, nice: int):
    found = scheduler_inside(runtime, bundle, {"policy": policy, "nice": nice})
    assert (found["policy"], found["nice"], found["flags"]) == (number, nice, 0)


@rule("config.md", "Linux Process", "MUST", "`scheduler.flags` are given to the kernel.")
def test_flags_of_the_scheduler(runtime: Runtime, bundle: Bundle):
    found = scheduler_inside(
        runtime, bundle, {"policy": "SCHED_BATCH", "nice": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
    )
    assert (found["policy"], found["flags"]) == (3, 1)


@only_root
@rule("config.md", "Linux Process", "MUST", "`scheduler.priority` is the static priority of the real-time policies.")
@pytest.mark.parametrize(("policy", "number"), [("SCHED_FIFO", 1), ("SCHED_RR", 2)])
def test_a_real_time_scheduler(runtime: Runtime, bundle: Bundle, policy: str, number: int):
    found = scheduler_inside(runtime, bundle, {"policy": policy, "priority": 10})
    assert (found["policy"], found["priority"]) == (number, 10)


@only_root
@rule("config.md", "Linux Process", "MUST", "`runtime`, `deadline` and `period` are the deadline scheduler's.")
def test_the_deadline_scheduler(runtime: Runtime, bundle: Bundle):
    times = {"runtime": 10_000_000, "deadline": 20_000_000, "period": 40_000_000}
    found = scheduler_inside(runtime, bundle, {"policy": "SCHED_DEADLINE", **times})
    assert found["policy"] == 6
    assert {key: found[key] for key in times} == times


@rule(
    "config.md", "Valid values", "MUST", "A policy or flag that does not exist, or that the kernel lacks, is refused."
)
@pytest.mark.parametrize(
    "scheduler",
    [
        {},
        {"policy": "SCHED_NONE"},
        {"policy": "SCHED_ISO"},
        {"policy": "SCHED_OTHER", "nice": 40},
        {"policy": "SCHED_OTHER", "priority": 3},
        {"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_NONE"]},
    ],
    ids=str,
)
def test_a_scheduler_that_cannot_be(runtime: Runtime, bundle: Bundle, scheduler: dict[str, Any]):
    bundle.process["scheduler"] = scheduler
    assert "sched" in runtime.refuses(bundle)


@rule("config.md", "Linux Process", "MUST", "`ioPriority` is the class and level of the process.")
@pytest.mark.parametrize(
    ("name", "number", "level"), [("IOPRIO_CLASS_BE", 2, 3), ("IOPRIO_CLASS_BE", 2, 7), ("IOPRIO_CLASS_IDLE", 3, 4)]
)
def test_the_io_priority(runtime: Runtime, bundle: Bundle, name: str, number: int, level: int):
    bundle.process["ioPriority"] = {"class": name, "priority": level}
    bundle.args(bundle.use_probe(), "ioprio")
    assert runtime.run(bundle).stdout == f"class={number} level={level}\n"


@only_root
@rule("config.md", "Linux Process", "MUST", "`ioPriority` may be real-time for who is allowed to.")
def test_a_real_time_io_priority(runtime: Runtime, bundle: Bundle):
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_RT", "priority": 1}
    bundle.args(bundle.use_probe(), "ioprio")
    assert runtime.run(bundle).stdout == "class=1 level=1\n"


@rule("config.md", "Valid values", "MUST", "An I/O class or level that does not exist is refused.")
@pytest.mark.parametrize(
    "given", [{}, {"class": "IOPRIO_CLASS_NO", "priority": 1}, {"class": "IOPRIO_CLASS_BE", "priority": 8}], ids=str
)
def test_an_io_priority_that_cannot_be(runtime: Runtime, bundle: Bundle, given: dict[str, Any]):
    bundle.process["ioPriority"] = given
    assert "process.ioPriority" in runtime.refuses(bundle)


@rule(
    "config.md",
    "Linux Process",
    "MUST",
    "`execCPUAffinity.final` holds for processes of `exec`, not for the first one.",
)
def test_processors_of_exec(runtime: Runtime, bundle: Bundle):
    own = sorted(os.sched_getaffinity(0))
    bundle.process["execCPUAffinity"] = {"initial": str(own[-1]), "final": str(own[0])}
    bundle.sh("grep ^Cpus_allowed_list /proc/self/status; echo ready; exec sleep 1000")
    box = runtime.start_new(bundle)
    first = box.read_until("ready").split()[1]
    assert first == Path("/proc/self/status").read_text().partition("Cpus_allowed_list:\t")[2].split()[0]
    assert box.exec("grep", "^Cpus_allowed_list", "/proc/self/status").stdout.split()[1] == str(own[0])


@rule("config.md", "Valid values", "MUST", "A list of processors that is none is refused.")
@pytest.mark.parametrize("given", ["x", "3-1", "-1", "0,,1", "0-"])
def test_processors_that_are_none(runtime: Runtime, bundle: Bundle, given: str):
    bundle.process["execCPUAffinity"] = {"final": given}
    assert "process.execCPUAffinity.final" in runtime.refuses(bundle)


@rule(
    "config.md",
    "Linux Process",
    "MUST",
    "An AppArmor profile or SELinux label that the kernel cannot give is an error.",
)
@pytest.mark.parametrize(("field", "value"), [("apparmorProfile", "some"), ("selinuxLabel", "u:r:t:s0")])
def test_labels_of_modules_that_are_not_there(runtime: Runtime, bundle: Bundle, field: str, value: str):
    bundle.process[field] = value
    assert field.lower()[:7] in runtime.fails(bundle).lower()


@rule("command line", "Signals", "common", "The program starts with default signal dispositions and an empty mask.")
def test_signals_are_as_a_program_expects(runtime: Runtime, bundle: Bundle):
    bundle.args(bundle.use_probe(), "ignored")
    assert runtime.run(bundle).stdout == ""
