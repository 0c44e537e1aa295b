"""Tab completes what the parser would accept, in the real shells."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import jubako
from jubako.cli import completion, table
from jubako.cli.completion import DIRECTORIES, FILES, NOTHING, answer
from jubako.cli.completion_scripts import SCRIPTS
from jubako.engine import store
from jubako.paths import find_paths

SOURCE = str(Path(jubako.__file__).parent.parent)


@pytest.fixture(autouse=True)
def two_containers(monkeypatch, tmp_path):
    monkeypatch.setenv("JUBAKO_ROOT", str(tmp_path / "data"))
    for name in ("web", "db"):
        identifier = store.new_id()
        store.new_container(find_paths(), identifier, name)
        directory = store.container_directory(find_paths(), identifier)
        store.write_document(directory + "/container.json", {"name": name})
        store.write_state(directory, store.State(store.CREATED, created=1))


def offered(*line: str) -> list[str]:
    return [word for word, _ in answer(list(line)).words]


def test_an_empty_line_offers_every_command_with_its_summary():
    words = dict(answer([""]).words)
    assert {name for name, entry in table.COMMANDS.items() if not entry.hidden and " " not in name} <= set(words)
    assert words["run"] == table.COMMANDS["run"].summary
    assert "__complete" not in words


def test_the_beginning_of_a_word_narrows_the_offer():
    assert offered("vers") == ["version"]
    assert offered("--root=x", "--debug", "vers") == ["version"]


def test_flags_are_offered_once_a_dash_is_typed():
    assert offered("run", "--read") == ["--read-only", "--read-only-tmpfs"]
    assert "-i" in offered("run", "-")
    assert "-i" not in offered("run", "--")
    assert "--help" in offered("version", "--")


def test_values_are_offered_behind_their_flag():
    assert offered("run", "--network", "h") == ["host"]
    assert offered("run", "--network=h") == ["--network=host"]
    assert offered("run", "--pull", "") == ["always", "missing", "never", "newer"]
    assert "NET_ADMIN" in offered("run", "--cap-add", "NET_")
    assert answer(["run", "--env-file", ""]).also == FILES
    assert answer(["run", "-itv", ""]).also == FILES
    assert answer(["--root", ""]).also == DIRECTORIES


def test_a_value_joined_to_its_short_flag_does_not_wait_for_another():
    assert "host" in offered("run", "-eFOO", "")


def test_names_of_containers_are_offered_where_a_namespace_may_be_joined():
    assert offered("run", "--pid", "container:w") == ["container:web"]
    assert offered("run", "--pid=container:w") == ["--pid=container:web"]


def test_images_are_offered_first_and_files_behind_them(monkeypatch):
    monkeypatch.setattr(completion, "_images", lambda: [("host", ""), ("busybox", "")])
    assert offered("run", "-it", "--rm", "b") == ["busybox"]
    assert answer(["run", "host", ""]).also == FILES
    assert answer(["run", "host", "--", "-x"]).also == FILES
    assert answer(["run", "--rootfs", "/r", ""]).also == FILES


def test_nouns_offer_their_verbs():
    assert "run" in offered("container", "")
    assert answer(["container", "nonsense", ""]).also == NOTHING


def test_tab_is_no_place_for_errors(monkeypatch, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/containers").touch()
    (tmp_path / "broken/images").touch()
    monkeypatch.setenv("JUBAKO_ROOT", str(tmp_path / "broken"))
    assert offered("run", "--pid", "container:") == []
    assert offered("run", "") == ["host", "host:rw"]


def test_nonsense_is_answered_with_nothing():
    assert answer(["nonsense", ""]).words == ()
    assert answer(["run", "--nonsense", "-"]).words != ()
    assert answer([]).words != ()


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home with a `jubako` program on PATH and the completion scripts beside it."""
    program = tmp_path / "jubako"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={SOURCE} exec {sys.executable} -m jubako "$@"\n')
    program.chmod(0o755)
    for name, script in SCRIPTS.items():
        (tmp_path / f"script.{name}").write_text(script)
    (tmp_path / "somefile.txt").touch()
    (tmp_path / "somedir").mkdir()
    return {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TERM": "dumb",
        "PS1": "$ ",
        "JUBAKO_ROOT": f"{tmp_path}/data",
    }


def typed(argv: list[str], environment: dict[str, str], start: str, keys: str, until: str) -> str:
    """What an interactive shell shows after `start` was run and `keys` were typed, up to the text `until`."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(environment["HOME"])
        os.execve(argv[0], argv, environment)
    try:
        os.write(terminal, start.encode() + b"\n")
        shown = _read(terminal, "ready-now")
        assert "ready-now" in shown
        for part in keys.split("<wait>"):
            os.write(terminal, part.encode())
            time.sleep(0.3)
        return _read(terminal, until)
    finally:
        os.close(terminal)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def _read(terminal: int, until: str) -> str:
    shown, deadline = "", time.monotonic() + 20
    while until not in shown and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                shown += os.read(terminal, 65536).decode(errors="replace")
            except OSError:
                break
    return shown


BASH_START = "source script.bash; echo ready-$((0))now | tr -d 0"


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("vers", "version"),
        ("run --networ", "run --network"),
        ("run --network=ho", "run --network=host"),
        ("run --pid=cont", "run --pid=container:"),
        ("run --pid=container:w", "run --pid=container:web"),
        ("run --env-file some", "run --env-file somefile.txt"),
        ("run --env-file=some", "run --env-file=somefile.txt"),
        ("run --userns no", "run --userns nomap"),
    ],
)
def test_bash_completes(line, completed, environment):
    if "somefile" in completed:
        (Path(environment["HOME"]) / "somedir").rmdir()
    argv = [shell("bash"), "--norc", "--noprofile", "-i"]
    shown = typed(argv, environment, BASH_START, f"jubako {line}\t<wait>\x01echo '[\x05]'\n", "]\r\n")
    assert f"\n[jubako {completed}" in shown, shown


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("vers", "version"),
        ("run --network=ho", "run --network=host"),
        ("run --network ho", "run --network host"),
        ("run --pid=cont", "run --pid=container:"),
        ("run --pid=container:w", "run --pid=container:web"),
        ("run --env-file somef", "run --env-file somefile.txt"),
    ],
)
def test_zsh_completes(line, completed, environment):
    start = "PS1='$ '; autoload -Uz compinit; compinit -u; source script.zsh; echo ready-$((0))now | tr -d 0"
    argv = [shell("zsh"), "-f", "-i"]
    shown = typed(argv, environment, start, f"jubako {line}\t<wait>\x01echo '[\x05]'\n", "]\r\n")
    assert f"\n[jubako {completed}" in shown, shown


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("vers", "version"),
        ("run --network=ho", "--network=host"),
        ("run --network ho", "host"),
        ("run --pid container:w", "container:web"),
        ("run --env-file somef", "somefile.txt"),
        ("run --env-file=somef", "--env-file=somefile.txt"),
    ],
)
def test_fish_completes(line, completed, environment):
    asked = subprocess.run(
        [shell("fish"), "--no-config", "-c", f"source script.fish; complete -C 'jubako {line}'"],
        cwd=environment["HOME"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert completed in [entry.partition("\t")[0] for entry in asked.stdout.splitlines()], asked
