"""`jubako explain run` prints the plan, and touches nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from jubako.cli.main import main


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path: Path) -> Path:
    """An empty world of its own, and a directory that can be a root."""
    monkeypatch.setenv("JUBAKO_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("JUBAKO_RUN", str(tmp_path / "run"))
    (tmp_path / "rootfs/bin").mkdir(parents=True)
    return tmp_path


def explained(capsys, *argv: str) -> str:
    assert main(["explain", *argv]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_the_steps_come_in_order_with_calls_and_reasons(capsys, place):
    told = json.loads(explained(capsys, "--json", "run", "--rootfs", str(place / "rootfs"), "/bin/sh"))
    plan = next(section for section in told["sections"] if section["key"] == "plan")
    calls = [call for step in plan["steps"] for call in step["calls"]]
    position = {
        word: next(i for i, call in enumerate(calls) if word in call) for word in ("clone", "pivot_root", "execve")
    }
    assert position["clone"] < position["pivot_root"] < position["execve"] == len(calls) - 1
    for section in told["sections"]:
        assert all(step["why"] and step["actor"] for step in section["steps"])


def test_kernel_flags_are_named_and_flags_change_the_plan(capsys, place):
    root = str(place / "rootfs")
    plain = explained(capsys, "run", "--rootfs", root, "/bin/sh")
    assert "CLONE_NEWNET" in plain
    assert "CLONE_NEWNS" in plain
    assert "CLONE_NEWNET" not in explained(capsys, "run", "--network", "host", "--rootfs", root, "/bin/sh")
    assert f'"{place}/rootfs"' in explained(capsys, "run", "-v", f"{root}:/src:ro", "--rootfs", root, "/bin/sh")


def test_nothing_is_made(capsys, place):
    before = sorted(os.listdir(place))
    explained(capsys, "run", "host", "--", "true")
    explained(capsys, "create", "--cap-add", "SYS_ADMIN", "host", "true")
    assert sorted(os.listdir(place)) == before


def test_what_run_would_refuse_is_refused(capsys):
    assert main(["explain", "run", "--cap-add", "NONSENSE", "host", "true"]) == 125
    assert "NONSENSE" in capsys.readouterr().err
    assert main(["explain", "run", "--memory", "5m", "host", "true"]) == 125
    assert "limits by control group" in capsys.readouterr().err
    assert main(["explain", "run", "nosuchimage"]) == 125
    assert "nosuchimage" in capsys.readouterr().err


def test_only_what_makes_or_joins_a_container_can_be_explained(capsys):
    assert main(["explain", "ps"]) == 125
    assert "only 'run', 'create' and 'exec' can be explained" in capsys.readouterr().err
    assert main(["explain"]) == 125


def test_a_tab_behind_explain_completes_as_behind_run(capsys):
    assert main(["__complete", "--", "explain", "run", "--network", "ho"]) == 0
    assert capsys.readouterr().out == "host\n:nothing\n"
