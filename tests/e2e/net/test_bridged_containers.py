"""Containers on bridge networks, from the command line: they see each other by name, and nobody else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from world.box import eventually
from world.command import Command, Result
from world.traces import Directories

Run = Callable[..., Result]
SERVER = ("host", "--", "/usr/bin/python3", "-m", "http.server", "80")


@pytest.fixture(autouse=True)
def _removed(jubako: Command, directories: Directories) -> Iterator[None]:
    yield
    jubako("rm", "--all", "--force", check=True)
    jubako("network", "rm", *jubako("network", "ls", "-q", check=True).lines)
    assert eventually(lambda: not keepers(directories)), "the keeper ends with the last container"


def keepers(directories: Directories) -> list[Path]:
    return list(directories.run.glob("bridge-*"))


@pytest.fixture
def serve(jubako: Command) -> Callable[..., None]:
    def start(name: str, *flags: str) -> None:
        jubako("run", "-d", "--name", name, *flags, *SERVER, check=True)
        assert eventually(lambda: jubako("exec", name, "curl", "-s", "http://127.0.0.1/").exit_code == 0)

    return start


def get(jubako: Command, name: str, url: str) -> int:
    return jubako("exec", name, "curl", "-sS", "--max-time", "5", "-o", "/dev/null", url).exit_code


def settings(jubako: Command, name: str) -> dict[str, Any]:
    found: dict[str, Any] = jubako("inspect", name, check=True).json[0]["NetworkSettings"]
    return found


def test_containers_see_each_other_by_name_and_alias(serve: Callable[..., None], jubako: Command, run: Run) -> None:
    serve("web", "--network", "bridge", "--network-alias", "shop")
    told = run("--network", "bridge", "host", "--", "sh", "-c", "curl -s http://web/ >/dev/null && curl -s http://shop/")
    assert "Directory listing" in told.stdout, told
    address = settings(jubako, "web")["IPAddress"]
    assert run("--network", "bridge", "host", "--", "getent", "hosts", "web").stdout.split()[0] == address
    unknown = run("--network", "bridge", "host", "--", "getent", "hosts", "nobody")
    assert unknown.exit_code == 2, unknown


def test_networks_are_apart_and_a_container_may_be_on_two(serve: Callable[..., None], jubako: Command) -> None:
    jubako("network", "create", "--subnet", "10.123.1.0/24", "front", check=True)
    jubako("network", "create", "--internal", "back", check=True)
    serve("web", "--network", "front:ip=10.123.1.77", "--network", "back")
    serve("db", "--network", "back")
    serve("other", "--network", "front")
    assert settings(jubako, "web")["IPAddress"] == "10.123.1.77"
    assert get(jubako, "web", "http://db/") == 0
    assert get(jubako, "other", "http://web/") == 0
    assert get(jubako, "other", "http://db/") == 6, "no such name there"
    assert get(jubako, "other", f"http://{settings(jubako, 'db')['IPAddress']}/") != 0
    rows = jubako("network", "inspect", "front", check=True).json[0]
    assert {one["name"] for one in rows["containers"].values()} == {"web", "other"}
    told = jubako("network", "rm", "front")
    assert told.exit_code != 0
    assert "web" in told.stderr


def test_a_container_is_put_on_a_network_and_taken_off_as_it_runs(serve: Callable[..., None], jubako: Command) -> None:
    jubako("network", "create", "late", check=True)
    serve("web", "--network", "bridge")
    serve("db", "--network", "late")
    assert get(jubako, "web", "http://db/") != 0
    jubako("network", "connect", "late", "web", check=True)
    assert get(jubako, "web", "http://db/") == 0
    jubako("network", "disconnect", "late", "web", check=True)
    assert get(jubako, "web", "http://db/") != 0


def test_ports_are_published_of_a_bridged_container(serve: Callable[..., None], jubako: Command, run: Run) -> None:
    serve("web", "--network", "bridge", "-p", "127.0.0.1::80")
    port = jubako("port", "web", "80", check=True).stdout.strip()
    assert "Directory listing" in run("--network", "host", "host", "--", "curl", "-s", f"http://{port}/").stdout


def test_a_killed_keeper_is_missed_and_reload_restores_addresses(serve: Callable[..., None], jubako: Command) -> None:
    serve("web", "--network", "bridge")
    serve("other", "--network", "bridge")
    before = settings(jubako, "web")["IPAddress"]
    for pid in _keeper_pids():
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: settings(jubako, "web")["Lost"] == ["keeper"])
    assert get(jubako, "other", "http://web/") != 0
    jubako("network", "reload", "--all", check=True)
    assert get(jubako, "other", "http://web/") == 0
    assert (settings(jubako, "web")["IPAddress"], settings(jubako, "web")["Lost"]) == (before, [])


def test_the_next_container_brings_a_killed_keeper_back_for_all(serve: Callable[..., None], jubako: Command) -> None:
    serve("web", "--network", "bridge")
    before = settings(jubako, "web")["IPAddress"]
    for pid in _keeper_pids():
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: settings(jubako, "web")["Lost"] == ["keeper"])
    jubako("ps", check=True)  # which tidies up, and must not make anybody forget
    serve("other", "--network", "bridge")
    assert get(jubako, "other", "http://web/") == 0
    assert settings(jubako, "web")["IPAddress"] == before


@pytest.mark.skipif(os.getuid() == 0, reason="root has no base")
def test_a_base_made_anew_is_told_of_and_older_containers_keep_their_networks(
    serve: Callable[..., None], jubako: Command, run: Run
) -> None:
    jubako("network", "create", "late", check=True)
    serve("web", "--network", "bridge")
    serve("other", "--network", "bridge")
    before = settings(jubako, "web")["IPAddress"]
    jubako("system", "shutdown", "--force", check=True)
    told = run("--network", "bridge", "host", "--", "getent", "hosts", "web")
    assert (told.exit_code, "bridges of their own" in told.stderr) == (2, True), told
    assert get(jubako, "other", "http://web/") == 0
    jubako("network", "connect", "late", "web", check=True)
    (late,) = jubako("network", "inspect", "late", check=True).json
    assert [one["name"] for one in late["containers"].values()] == ["web"]
    for pid in _keeper_pids():
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: settings(jubako, "web")["Lost"] == ["keeper"])
    jubako("network", "reload", "--all", check=True)
    assert get(jubako, "other", "http://web/") == 0
    assert settings(jubako, "web")["IPAddress"] == before


def test_nothing_stays_of_a_command_that_is_killed_at_any_moment(jubako: Command, directories: Directories) -> None:
    for number in range(12):
        running = jubako.start("run", "--rm", "--network", "bridge", "host", "--", "sleep", "0.2")
        try:
            running.wait(0.03 * number)
        except subprocess.TimeoutExpired:
            running.kill()
        assert eventually(lambda: not keepers(directories) and not _keeper_pids())


def _keeper_pids() -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words, owner = (entry / "cmdline").read_bytes(), entry.stat().st_uid
        except OSError:
            continue
        if words.startswith(b"jubako: keeper") and owner == os.getuid():
            found.append(int(entry.name))
    return found


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--network", "nosuch"), "no such network"),
        (("--network", "../x"), "no such network"),
        (("--network", "bridge", "--ip", "10.0.0"), "numeric"),
        (("--network", "bridge", "--network", "pasta"), "stands alone"),
        (("--network", "pasta", "--ip", "10.0.2.5"), "needs a bridge network"),
        (("--network", "bridge:color=red"), "no option 'color'"),
        (("--network", "bridge", "--network-alias", "a b"), "can be no name"),
    ],
)
def test_nonsense_is_refused_with_the_reason(flags: tuple[str, ...], words: str, run: Run) -> None:
    told = run(*flags, "host", "--", "true")
    assert (told.exit_code, words in told.stderr) == (125, True), told
    assert json.dumps(told.stderr).count("Traceback") == 0
