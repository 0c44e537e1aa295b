"""From Python's keyword options to the template that a launcher reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from jubako import jsontext
from jubako.engine.options import RunOptions
from jubako.errors import UsageError
from jubako.sandbox.options import KNOWN, build_template, encode_arguments, encode_environment


def options_of(**options: Any) -> dict[str, Any]:
    template, _environment = build_template(options, command=True)
    document: dict[str, Any] = jsontext.loads(template)
    return document["options"]  # type: ignore[no-any-return]


def test_every_option_is_one_of_run_options() -> None:
    assert KNOWN - {"volumes"} <= set(RunOptions.FIELDS)  # type: ignore[attr-defined]


def test_the_image_is_the_host_unless_something_is_named() -> None:
    assert options_of()["image"] == "host"
    assert options_of(image="busybox")["image"] == "busybox"
    assert "image" not in options_of(rootfs=Path("/srv/root"))


def test_a_word_alone_stands_for_a_sequence_of_one() -> None:
    assert options_of(cap_add="NET_RAW", tmpfs=("/a", "/b")) == {
        "cap_add": ["NET_RAW"],
        "tmpfs": ["/a", "/b"],
        "image": "host",
        "command": ["\x1a"],
    }


def test_volumes_are_a_mapping_or_the_flags_texts() -> None:
    assert options_of(volumes={Path("/a"): "/b:ro", "c": "/d"})["volume"] == ["/a:/b:ro", "c:/d"]
    assert options_of(volumes=["/a:/b"], volume="/c:/d")["volume"] == ["/a:/b", "/c:/d"]


def test_none_is_as_if_nothing_had_been_said() -> None:
    assert options_of(user=None, env=None) == options_of()


def test_an_unknown_option_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="did you mean workdir"):
        build_template({"workdirr": "/"}, command=True)


@pytest.mark.parametrize("name", ["detach", "tty", "name", "rm", "interactive", "restart", "timeout"])
def test_what_only_the_command_line_can_do_is_no_option(name: str) -> None:
    with pytest.raises(UsageError):
        build_template({name: True}, command=True)


def test_equal_options_make_equal_templates() -> None:
    assert build_template({"user": "1"}, command=True) == build_template({"user": "1"}, command=True)
    assert build_template({}, command=True) != build_template({}, command=False)


def test_the_callers_environment_travels_only_when_it_is_needed() -> None:
    assert "environment" not in jsontext.loads(build_template({}, command=True)[0])
    assert jsontext.loads(build_template({"env_host": True}, command=True)[0])["environment"] == dict(os.environ)


def test_variables_are_entries_or_taken_from_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUBAKO_SAMPLE_A", "1")
    monkeypatch.setenv("JUBAKO_SAMPLE_B", "2")
    assert encode_environment({"X": "a=b"}) == (b"X=a=b",)
    assert encode_environment(["X=1", "JUBAKO_SAMPLE_*", "JUBAKO_NOT_THERE"]) == (
        b"X=1",
        b"JUBAKO_SAMPLE_A=1",
        b"JUBAKO_SAMPLE_B=2",
    )


@pytest.mark.parametrize("variables", [{"": "x"}, {"A=B": "x"}, {"A": "\0"}, ["=x"], "A=B"])
def test_variables_that_cannot_be_are_refused(variables: Any) -> None:
    with pytest.raises(UsageError):
        encode_environment(variables)


def test_arguments_may_be_text_bytes_and_paths() -> None:
    assert encode_arguments(["a", b"\xff", Path("/p")]) == (("a", "\udcff", "/p"), (b"a", b"\xff", b"/p"))


@pytest.mark.parametrize("arguments", ["ls -l", b"ls", ["a\0b"], [""]])
def test_arguments_that_cannot_be_are_refused(arguments: Any) -> None:
    with pytest.raises(UsageError):
        encode_arguments(arguments)
