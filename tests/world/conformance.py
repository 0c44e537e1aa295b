"""The page of the OCI runtime's conformance, made from the marks of its tests (`world.rule`) and the tables below.

    python -m world.conformance > docs/reference/oci-conformance.md        # with PYTHONPATH=tests

The tests are read, not imported. Each mark becomes a row: the rule, its level, and the test that proves it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1] / "conformance"
DOCUMENTS = (
    *("bundle.md", "runtime.md", "runtime-linux.md", "config.md", "config-linux.md"),
    *("features.md", "features-linux.md", "command line"),
)
LEVELS = ("MUST", "SHOULD", "MAY", "common")
TITLES = {"command line": "The command line"}

NOT_TESTED = (
    (
        "config.md",
        "Linux Process",
        "`apparmorProfile` and `selinuxLabel` are those of the process",
        "the kernel of the tests has neither; that asking for one is an error without it is tested",
    ),
    (
        "config-linux.md",
        "Mount Label",
        "`mountLabel` is the SELinux context of the mounts",
        "the kernel of the tests has no SELinux",
    ),
    (
        "config-linux.md",
        "IntelRdt",
        "`closID`, `schemata`, `l3CacheSchema`, `memBwSchema`, `enableMonitoring`",
        "no processor with resctrl; that it is an error without a mounted resctrl is tested",
    ),
    (
        "config-linux.md",
        "Memory, CPU, Block IO, Huge page limits, PIDs, RDMA",
        "limits hold",
        "the machine of the tests has these controllers in cgroup v1 only; a limit without its controller is an error",
    ),
    (
        "config-linux.md",
        "Memory policy",
        "`MPOL_WEIGHTED_INTERLEAVE`, `MPOL_F_NUMA_BALANCING`, more than one node",
        "the machine of the tests has one node",
    ),
    (
        "config-linux.md",
        "Network Devices",
        "physical devices go back to the host when the namespace ends",
        "the tests make virtual ones, which the kernel removes",
    ),
    (
        "config-linux.md",
        "Seccomp",
        "`SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`; other architectures than x86",
        "libseccomp of the tests does not know the flag; one processor",
    ),
    (
        "config.md",
        "Linux Process",
        "`scheduler.flags` DL_OVERRUN, RECLAIM, KEEP_POLICY, KEEP_PARAMS, UTIL_CLAMP_MIN, UTIL_CLAMP_MAX",
        "the state file of the kernel does not show them; names that do not exist are refused, which is tested",
    ),
    (
        "config-linux.md",
        "Cgroup ownership",
        "files of /sys/kernel/cgroup/delegate get the owner of the process",
        "wants a writable mount of the group for another id, which the tests of cgroups do not make",
    ),
)
"""(document, section, rule, why): what the machine of the tests cannot show."""

NOT_SUPPORTED = (
    ("config-linux.md, cgroup v1", "version 1 of control groups", "jubako uses cgroup v2 only"),
    ("config-linux.md, Network", "`resources.network` (net_cls, net_prio)", "a feature of cgroup v1"),
    ("config-linux.md, Memory", "`kernel`, `kernelTCP`, `swappiness`, `disableOOMKiller`", "features of cgroup v1"),
    ("config-linux.md, CPU", "`realtimeRuntime`, `realtimePeriod`", "features of cgroup v1"),
    (
        "config.md",
        "sections `windows`, `solaris`, `vm`, `zos`, `freebsd`",
        "of other platforms: ignored, as the text says",
    ),
)
"""(where, what, why)."""


@dataclass(frozen=True)
class Rule:
    document: str
    section: str
    level: str
    sentence: str
    file: str
    test: str
    who: str
    """In which passes the test runs."""


def main() -> None:
    print(page(), end="")


def page() -> str:
    rules = list(read_rules())
    lines = [
        "# OCI conformance",
        "",
        "What the OCI runtime specification (1.3.0) asks of a runtime, rule by rule, and the test that proves it of",
        "`jubako-runtime`. The tests drive the installed program: they make a bundle, call it, and look from inside",
        "and from outside. *both* means that the test runs as an ordinary user and as root. This page is made from the",
        "tests by `./dev docs`.",
        "",
        f"{len(rules)} rules. The last chapters say what is [not tested](#not-tested) and what is",
        "[not supported](#not-supported).",
    ]
    for document in DOCUMENTS:
        lines += ["", f"## {TITLES.get(document, document)}"]
        if document == "command line":
            lines += ["", "What runc and crun have in common and engines rely on."]
        for section in dict.fromkeys(rule.section for rule in rules if rule.document == document):
            lines += ["", f"### {section}", "", "| level | rule | test | as |", "| --- | --- | --- | --- |"]
            here = [rule for rule in rules if (rule.document, rule.section) == (document, section)]
            for rule in sorted(here, key=lambda rule: LEVELS.index(rule.level)):
                lines.append(f"| {rule.level} | {_cell(rule.sentence)} | {_link(rule)} | {rule.who} |")
    lines += ["", "## Not tested", "", "| where | rule | why not |", "| --- | --- | --- |"]
    lines += [f"| {where}, {section} | {_cell(rule)} | {why} |" for where, section, rule, why in NOT_TESTED]
    lines += ["", "## Not supported", "", "| where | what | why |", "| --- | --- | --- |"]
    lines += [f"| {where} | {what} | {why} |" for where, what, why in NOT_SUPPORTED]
    return "\n".join(lines) + "\n"


def read_rules() -> Iterator[Rule]:
    """All marks, in the order of the files and of the tests in them."""
    for path in sorted(TESTS.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield from _rules_of(node, path.name)


def unmarked() -> list[str]:
    """Tests that prove no rule, in files that prove some: of checkpoints, say, the specification does not speak."""
    marked = {(rule.file, rule.test) for rule in read_rules()}
    files = {file for file, _ in marked}
    return [
        f"{path.name}: {node.name}"
        for path in sorted(TESTS.glob("test_*.py"))
        if path.name in files
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and (path.name, node.name) not in marked
    ]


def _rules_of(node: ast.FunctionDef, file: str) -> Iterator[Rule]:
    names = {each.id for each in node.decorator_list if isinstance(each, ast.Name)}
    who = "root" if "only_root" in names else "user" if "only_rootless" in names else "both"
    for each in node.decorator_list:
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id == "rule":
            words = [ast.literal_eval(argument) for argument in each.args]
            document, section, level, sentence = (str(word) for word in words)
            yield Rule(document, section, level, sentence, file, node.name, who)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _link(rule: Rule) -> str:
    return f"[{rule.test.removeprefix('test_').replace('_', ' ')}](../../tests/conformance/{rule.file})"


if __name__ == "__main__":
    main()
