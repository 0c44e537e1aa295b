"""The proof that nothing is left behind must itself see what is left behind."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from world import traces
from world.account import Account
from world.traces import Directories, Machine


@pytest.fixture
def machine(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("JUBAKO_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("JUBAKO_RUN", str(tmp_path / "run"))
    monkeypatch.setattr(traces, "SETTLE_SECONDS", 0.3)
    (tmp_path / "data/containers").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    return Machine((account,))


def test_an_untouched_machine_has_nothing_left(machine: Machine) -> None:
    assert machine.left_since(machine.look()) == []


def test_a_process_that_goes_on_is_seen(machine: Machine) -> None:
    before = machine.look()
    with subprocess.Popen(("sleep", "60")) as sleeper:
        left = machine.left_since(before)
        sleeper.kill()
    assert any(line.startswith("process left behind") and "sleep 60" in line for line in left)


@pytest.mark.skipif("JUBAKO_TEST_REAPER" not in os.environ, reason="pytest does not run below the reaper")
def test_a_process_that_left_its_family_is_seen(machine: Machine) -> None:
    before = machine.look()
    shell = subprocess.run(("sh", "-c", "setsid sleep 61 >/dev/null 2>&1 & echo $!"), stdout=subprocess.PIPE, text=True)
    left = machine.left_since(before)
    os.kill(int(shell.stdout), 9)
    assert any(line.startswith("process left behind") and "sleep 61" in line for line in left)
    assert machine.left_since(before) == []


def test_a_namespace_of_a_process_is_seen(machine: Machine) -> None:
    before = machine.look()
    with subprocess.Popen(("unshare", "--user", "--net", "sleep", "60"), stderr=subprocess.DEVNULL) as sleeper:
        time.sleep(0.2)
        left = machine.left_since(before)
        sleeper.kill()
    assert any(line.startswith("namespace left behind: net:") for line in left)


def test_a_container_directory_is_seen_and_a_lock_file_is_not(machine: Machine, tmp_path: Path) -> None:
    before = machine.look()
    (tmp_path / "data/containers/abc/upper").mkdir(parents=True)
    (tmp_path / "run/store.lock").touch()
    assert machine.left_since(before) == [f"file left behind: {tmp_path}/data/containers/abc/"]


def test_the_pause_process_of_the_base_may_stay(machine: Machine, tmp_path: Path) -> None:
    before = machine.look()
    with subprocess.Popen(("sleep", "60")) as pause:
        started = Path(f"/proc/{pause.pid}/stat").read_text().rpartition(") ")[2].split()[19]
        (tmp_path / "run/base").write_text(f"{pause.pid} {started} some-boot\n")
        left = machine.left_since(before)
        pause.kill()
    assert left == []


def test_an_open_descriptor_is_seen(machine: Machine) -> None:
    before = machine.look()
    with open("/etc/passwd"):
        left = machine.left_since(before)
    assert [line for line in left if line.endswith("/etc/passwd")]


def test_a_temporary_file_is_seen(machine: Machine) -> None:
    before = machine.look()
    file = Path(f"/tmp/jubako-trace-{os.getpid()}")
    file.touch()
    left = machine.left_since(before)
    file.unlink()
    assert left == [f"file left behind: {file}"]


def test_the_directories_are_those_of_the_documentation(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JUBAKO_ROOT", "JUBAKO_RUN", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    found = Directories.of(account)
    if account.uid == 0:
        assert (found.data, found.run) == (Path("/var/lib/jubako"), Path("/run/jubako"))
    else:
        assert found.data == Path(account.home, ".local/share/jubako")
        assert found.run == Path(account.runtime_directory, "jubako")
