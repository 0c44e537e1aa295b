"""The command as people and scripts use it: lists, names, formats, errors, and what the shell completes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world.command import Command, Result


@pytest.fixture
def web(jubako: Command) -> Iterator[str]:
    """The name of a detached container with two processes."""
    name = f"web-{os.getpid()}"
    words = ("sh", "-c", "sleep 300 & exec sleep 301")
    jubako("run", "-d", "--name", name, "--label", "role=web", "host", "--", *words, check=True)
    yield name
    jubako("rm", "-f", name, f"{name}-renamed", check=True)


def test_a_plain_run_prints_what_the_program_prints_and_nothing_more(run: Callable[..., Result]) -> None:
    result = run("host", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 7)


def test_ps_lists_a_container_for_people_and_for_programs(jubako: Command, web: str) -> None:
    table = jubako("ps", "--filter", f"name={web}", check=True).lines
    assert table[0].split()[:2] == ["CONTAINER", "ID"]
    assert table[1].endswith(web)
    (entry,) = jubako("ps", "--json", "--filter", f"name={web}", check=True).json
    assert (entry["Names"], entry["State"], entry["Image"]) == (web, "running", "host")
    assert entry["Command"] == ["sh", "-c", "sleep 300 & exec sleep 301"]
    assert entry["Labels"] == {"role": "web"}
    assert table[1].startswith(entry["ID"][:12])
    assert Path(f"/proc/{entry['Pid']}").is_dir()
    shown = jubako("container", "ls", "--format", "{{.Names}}={{.State}}", "--filter", "label=role=web", check=True)
    assert f"{web}=running" in shown.lines


def test_a_container_is_found_by_name_by_id_and_by_the_beginning_of_it(jubako: Command, web: str) -> None:
    (identifier,) = jubako("ps", "-q", "--no-trunc", "--filter", f"name={web}", check=True).lines
    for reference in (web, identifier, identifier[:12]):
        assert jubako("inspect", "-f", "{{.Name}}", reference, check=True).stdout.strip().lstrip("/") == web


def test_a_renamed_container_has_its_new_name_only(jubako: Command, web: str) -> None:
    jubako("rename", web, f"{web}-renamed", check=True)
    assert jubako("inspect", web).exit_code == 125
    assert jubako("exec", f"{web}-renamed", "true").exit_code == 0


def test_top_shows_the_container_s_processes_and_no_others(jubako: Command, web: str) -> None:
    rows = jubako("top", "--json", web, check=True).json
    assert [(row["PID"], row["PPID"], row["UID"], row["Command"]) for row in rows] == [
        (1, 0, 0, "sleep 301"),
        (2, 1, 0, "sleep 300"),
    ]
    (entry,) = jubako("ps", "--json", "--filter", f"name={web}", check=True).json
    assert rows[0]["HPID"] == entry["Pid"]
    jubako("exec", "-d", "-u", "65534", web, "sleep", "302", check=True)
    rows = jubako("top", "--json", web, check=True).json
    assert (65534, "sleep 302") in [(row["UID"], row["Command"]) for row in rows]
    lines = jubako("top", web, "-eo", "pid,args", check=True).lines
    assert sorted(line.split(None, 1)[1].strip() for line in lines[1:]) == ["sleep 300", "sleep 301", "sleep 302"]


def test_tab_completes_the_names_of_containers(jubako: Command, web: str) -> None:
    assert jubako("__complete", "--", "stop", web[:-1], check=True).lines == [f"{web}\trunning", ":nothing"]
    joined = jubako("__complete", "--", "run", "--pid=container:web-", check=True).lines
    assert f"--pid=container:{web}\trunning" in joined


def test_ten_thousand_arguments_and_a_megabyte_of_environment_arrive(run: Callable[..., Result]) -> None:
    words = [str(number) for number in range(10_000)]
    result = run("host", "--", "sh", "-c", 'echo $# "$1" "${10000}"', "sh", *words, check=True)
    assert result.stdout == "10000 0 9999\n"
    large = {f"LARGE_{number}": "x" * 100_000 for number in range(10)}
    flags = [word for name in large for word in ("-e", name)]
    result = run(*flags, "host", "--", "sh", "-c", "env | grep -c ^LARGE_; env | wc -c", env=large, check=True)
    count, size = (int(line) for line in result.lines)
    assert count == 10
    assert size > 1_000_000


def test_arguments_that_are_no_text_arrive_as_they_are(run: Callable[..., Result]) -> None:
    odd = os.fsdecode(b"\xff\xfe")
    result = run(
        "-e", f"ODD={odd}", "host", "--", "sh", "-c", 'printf "%s %s" "$1" "$ODD" | od -An -tx1', "sh", odd, check=True
    )
    assert result.stdout.split() == ["ff", "fe", "20", "ff", "fe"]


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (("run", "--volum", "a:b", "host"), 125, "run --volum: unknown flag\n  hint: did you mean --volume?"),
        (("run", "--rm", "host", "--", "nosuchprogram"), 127, "nosuchprogram"),
        (("run", "--rm", "host", "--", "/etc/passwd"), 126, "/etc/passwd: Permission denied (EACCES)"),
        (("run", "--rm", "nosuchimage"), 125, "find image nosuchimage"),
        (("run", "--rm", "--user", "nobody-here", "host", "true"), 125, "nobody-here"),
        (("exec", "nosuchcontainer", "true"), 125, "find container nosuchcontainer: no such container"),
        (("stop", "nosuchcontainer"), 125, "find container nosuchcontainer"),
        (("ps", "--format", "{{.Nonsense}}", "-a", "--last", "0", "extra"), 125, "'extra' is one word too many"),
        (("biuld",), 125, "biuld: unknown command"),
    ],
)
def test_a_mistake_is_one_clear_error(jubako: Command, line: tuple[str, ...], code: int, said: str) -> None:
    result = jubako(*line)
    assert result.exit_code == code, str(result)
    assert result.stdout == ""
    assert result.stderr.startswith("jubako: ")
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("jubako: ") == 1
