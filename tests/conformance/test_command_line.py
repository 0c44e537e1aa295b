"""The command line that runc and crun have in common and engines call: commands, flags, and the form of the output."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from world.bundle import Bundle
from world.rule import rule
from world.runtime import Container, Runtime, new_id


@pytest.fixture
def running(runtime: Runtime, bundle: Bundle) -> Container:
    bundle.sh("echo ready; exec sleep 1000")
    box = runtime.start_new(bundle)
    box.read_until("ready")
    return box


# --- run and create ---------------------------------------------------------------------------------------------------


@rule(
    "command line", "run", "common", "`run` passes the program's streams and exit code on, and deletes the container."
)
@pytest.mark.parametrize("code", [0, 3, 255])
def test_run(runtime: Runtime, bundle: Bundle, code: int):
    bundle.sh(f"cat; echo error >&2; exit {code}")
    result = runtime.run(bundle, input="through\n", check=False)
    assert (result.stdout, result.stderr, result.exit_code) == ("through\n", "error\n", code)
    assert runtime("list", "-q").lines == []


@rule("command line", "run", "common", "A program that a signal ended is 128 and the signal's number.")
def test_run_of_a_program_that_is_killed(runtime: Runtime, bundle: Bundle):
    bundle.args("sleep", "1000")
    bundle.write()
    id = new_id()
    started = runtime.start("run", "--bundle", bundle.path, id)
    box = Container(runtime, bundle, id)
    runtime.containers.append(box)
    while runtime("state", id).exit_code != 0 or box.status != "running":
        assert started.poll() is None
    box.kill("KILL")
    assert started.wait(20) == 137


@rule("command line", "run", "common", "`run` hands signals to the program.")
def test_run_hands_signals_on(runtime: Runtime, bundle: Bundle):
    bundle.sh("trap 'echo got TERM; exit 7' TERM; echo ready; while :; do sleep 0.02; done")
    bundle.write()
    started = runtime.start("run", "--bundle", bundle.path, new_id())
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    started.terminate()
    assert started.stdout.readline() == "got TERM\n"
    assert started.wait(20) == 7


@rule("command line", "run", "common", "`run --detach` returns when the program runs.")
def test_run_detached(runtime: Runtime, bundle: Bundle):
    bundle.sh("echo ready; exec sleep 1000")
    box = runtime.create(bundle, "--detach", command="run")
    assert box.status == "running"
    box.read_until("ready")


@rule("command line", "run", "common", "`run --keep` leaves the stopped container.")
def test_run_and_keep(runtime: Runtime, bundle: Bundle):
    bundle.args("true")
    id = new_id()
    runtime.run(bundle, "--keep", id=id)
    assert runtime("state", id, check=True).json["status"] == "stopped"
    runtime("delete", id, check=True)


@rule("command line", "create", "common", "--pid-file gets the pid of the first process, nothing else.")
@pytest.mark.parametrize("command", ["create", "run"])
def test_the_pid_file(runtime: Runtime, bundle: Bundle, place: Path, command: str):
    bundle.args("sleep", "1000")
    detach = ("--detach",) if command == "run" else ()
    box = runtime.create(bundle, *detach, "--pid-file", str(place / "pid"), command=command)
    assert (place / "pid").read_text() == str(box.pid)


@rule("command line", "create", "common", "--no-pivot, --no-new-keyring and --no-subreaper are taken.")
@pytest.mark.parametrize("flag", ["--no-pivot", "--no-new-keyring", "--no-subreaper"])
def test_flags_of_create(runtime: Runtime, bundle: Bundle, flag: str):
    bundle.sh("cat /test.txt; ls /proc/1/root/usr 2>/dev/null; true")
    assert runtime.run(bundle, flag).stdout == "a file of the root file system\n"


@rule("command line", "create", "common", "The first process is a child of whoever called, or its subreaper's.")
def test_the_first_process_belongs_to_the_caller(running: Container):
    parent = next(line for line in running.proc("status").splitlines() if line.startswith("PPid")).split()[1]
    ancestors = {os.getpid(), int(os.environ.get("JUBAKO_TEST_REAPER", "1")), 1}
    assert int(parent) in ancestors


# --- list, state, ps, spec --------------------------------------------------------------------------------------------


@rule(
    "command line", "list", "common", "`list` is a table of ID, PID, STATUS, BUNDLE, CREATED, OWNER; -q the ids alone."
)
def test_list(runtime: Runtime, running: Container, bundles: Callable[..., Bundle]):
    other = runtime.create(bundles("other"))
    lines = runtime("list", check=True).lines
    assert lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    rows = {line.split()[0]: line.split()[1:4] for line in lines[1:]}
    assert rows == {
        running.id: [str(running.pid), "running", str(running.bundle.path)],
        other.id: [str(other.pid), "created", str(other.bundle.path)],
    }
    assert sorted(runtime("list", "-q", check=True).lines) == sorted([running.id, other.id])


@rule("command line", "list", "common", "`list -f json` is an array of the states; without containers `null` or `[]`.")
def test_list_as_json(runtime: Runtime, running: Container):
    (entry,) = runtime("list", "-f", "json", check=True).json
    state = running.state
    for key in ("id", "pid", "status", "bundle", "rootfs", "created", "owner", "ociVersion"):
        assert entry[key] == state[key]
    running.delete("--force")
    assert runtime("list", "--format", "json", check=True).json in (None, [])


@rule(
    "command line", "list", "common", "Without a container the table has only its head; without a state directory too."
)
def test_list_of_nothing(runtime: Runtime):
    assert runtime("list", "-q", check=True).stdout == ""
    assert len(runtime("list", check=True).lines) <= 1


@rule("command line", "list", "common", "Another format is refused.")
def test_list_in_another_format(runtime: Runtime):
    assert runtime("list", "-f", "yaml").exit_code != 0


@rule("command line", "state", "common", "`state` is one JSON object, indented by two blanks.")
def test_the_form_of_state(running: Container):
    text = running.runtime("state", running.id, check=True).stdout
    assert text.startswith('{\n  "')
    assert json.loads(text)["id"] == running.id


@rule("command line", "spec", "common", "`spec` writes a config.json, and no second one over it.")
def test_spec(runtime: Runtime, place: Path):
    runtime("spec", "--bundle", place, check=True)
    config = json.loads((place / "config.json").read_text())
    assert config["process"]["args"] == ["sh"]
    assert config["process"]["terminal"] is True
    assert config["root"] == {"path": "rootfs", "readonly": True}
    assert {each["type"] for each in config["linux"]["namespaces"]} >= {"pid", "mount", "network", "ipc", "uts"}
    before = (place / "config.json").read_text()
    again = runtime("spec", "--bundle", place)
    assert again.exit_code != 0
    assert (place / "config.json").read_text() == before


@rule("command line", "spec", "common", "`spec --rootless` writes a bundle that runs as it is.")
def test_spec_rootless(runtime: Runtime, bundle: Bundle):
    runtime("spec", "--rootless", cwd=bundle.path, check=True)
    config = json.loads((bundle.path / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["cat", "/test.txt"]}
    (bundle.path / "config.json").write_text(json.dumps(config))
    result = runtime("run", "--bundle", bundle.path, new_id(), check=True)
    assert result.stdout == "a file of the root file system\n"


# --- kill and delete --------------------------------------------------------------------------------------------------


@rule("command line", "delete", "common", "`delete --force` ends and deletes a container of any status.")
@pytest.mark.parametrize("status", ["created", "running", "stopped"])
def test_delete_by_force(runtime: Runtime, bundle: Bundle, status: str):
    bundle.args("sleep", "1000")
    box = runtime.create(bundle)
    pid = box.pid
    if status != "created":
        box.start()
    if status == "stopped":
        box.stop()
    box.delete("--force")
    box.wait(pid)
    assert runtime("list", "-q").lines == []


@rule("command line", "delete", "common", "`delete --force` of a container that does not exist is no error.")
def test_delete_by_force_of_nothing(runtime: Runtime):
    assert runtime("delete", "--force", new_id()).exit_code == 0


@rule("command line", "kill", "common", "`kill --all` of a container ends all its processes.")
def test_kill_all_processes(runtime: Runtime, bundle: Bundle):
    bundle.sh("sleep 1000 & sleep 1000 & echo ready; wait")
    box = runtime.start_new(bundle)
    box.read_until("ready")
    pid = box.pid
    runtime("kill", "--all", box.id, "KILL", check=True)
    box.wait(pid)


# --- global flags -----------------------------------------------------------------------------------------------------


@rule("command line", "Global flags", "common", "--version names the runtime and the specification's version.")
def test_version(runtime: Runtime):
    lines = runtime("--version", check=True).lines
    assert re.fullmatch(r"\S+ version \S+", lines[0])
    assert any(re.fullmatch(r"spec: 1\.\d+\.\d+\S*", line) for line in lines)


@rule("command line", "Global flags", "common", "--log gets the errors, with --log-format json one object a line.")
def test_the_log(runtime: Runtime, place: Path):
    log = place / "log"
    runtime.flags = ("--log", str(log), "--log-format", "json")
    result = runtime("state", new_id())
    assert result.exit_code != 0
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    last = entries[-1]
    assert last["level"] == "error"
    assert last["msg"]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", last["time"])


@rule("command line", "Global flags", "common", "--log-format text is one line an error: time, level, msg.")
def test_the_log_as_text(runtime: Runtime, place: Path):
    log = place / "log"
    runtime.flags = ("--log", str(log), "--log-format", "text")
    assert runtime("state", new_id()).exit_code != 0
    assert re.search(r'^time="[^"]+" level=error msg=', log.read_text(), re.M)


@rule("command line", "Global flags", "common", "An unknown command or flag is an error on standard error.")
@pytest.mark.parametrize("words", [("no-such-command",), ("state", "--no-such-flag", "x"), ("--no-such-flag", "list")])
def test_what_the_command_line_does_not_know(runtime: Runtime, words: tuple[str, ...]):
    result = runtime(*words)
    assert result.exit_code != 0
    assert result.stderr != ""
    assert "Traceback" not in result.stderr


@rule("command line", "Global flags", "common", "Errors are one line and name the container.")
def test_errors_name_the_container(runtime: Runtime):
    id = new_id()
    result = runtime("start", id)
    assert result.exit_code == 1
    assert id in result.stderr
