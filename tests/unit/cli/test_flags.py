"""The grammar of command lines: what users of docker and podman type must mean what they expect."""

from __future__ import annotations

import pytest

from jubako.cli.flags import (
    ANY,
    LIST,
    NUMBER,
    ONE,
    OPTIONAL,
    SOME,
    SWITCH,
    Argument,
    Command,
    Flag,
    parse,
    usage,
)
from jubako.errors import UsageError

FLAGS = (
    Flag(("-i", "--interactive"), "keep standard input open", SWITCH),
    Flag(("-t", "--tty"), "a terminal", SWITCH),
    Flag(("-e", "--env"), "a variable", LIST),
    Flag(("--name",), "a name", once=True),
    Flag(("--pull",), "when to pull", choices=("always", "missing", "never")),
    Flag(("--stop-timeout",), "seconds", NUMBER, default=10),
    Flag(("-w", "--workdir"), "a directory"),
    Flag(("--no-pivot",), "chroot instead", SWITCH),
    Flag(("--half",), "an even number", parse=lambda text: int(text) // 2),
)
RUN = Command("run", "run", FLAGS, (Argument("IMAGE", "image"), Argument("ARG", "words", ANY)), interspersed=False)
RM = Command("rm", "remove", FLAGS, (Argument("CONTAINER", "containers", SOME),))


def complaint(command: Command, *argv: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(command, argv)
    assert caught.value.exit_code == 125
    return str(caught.value)


def test_a_value_may_follow_or_be_joined_with_an_equals_sign():
    for argv in (["--name", "web"], ["--name=web"]):
        assert parse(RUN, [*argv, "host"]).name == "web"


def test_an_empty_value_is_a_value():
    values = parse(RUN, ["--name=", "-w", "", "host"])
    assert (values.name, values.workdir) == ("", "")
    assert {"name", "workdir"} <= values.given


def test_a_value_may_begin_with_a_dash_or_contain_equals_signs():
    values = parse(RUN, ["-e", "--odd=1=2", "--name=-x", "host"])
    assert values.env == ("--odd=1=2",)
    assert values.name == "-x"


def test_short_switches_join_and_the_last_may_take_a_value():
    values = parse(RUN, ["-ite", "A=1", "-eB=2", "-e=C=3", "host"])
    assert (values.interactive, values.tty) == (True, True)
    assert values.env == ("A=1", "B=2", "C=3")


@pytest.mark.parametrize("off", ["--tty=false", "--tty=0", "--no-tty", "-t=false"])
def test_a_switch_can_be_taken_back(off):
    assert parse(RUN, ["-t", off, "host"]).tty is False


def test_a_flag_named_no_something_is_not_a_switch_taken_back():
    assert parse(RUN, ["--no-pivot", "host"]).no_pivot is True


def test_flags_after_the_image_belong_to_the_program():
    values = parse(RUN, ["-i", "host", "sh", "-e", "--name", "--", "-i"])
    assert values.image == "host"
    assert values.words == ("sh", "-e", "--name", "--", "-i")
    assert values.name == ""


def test_two_dashes_end_the_flags():
    values = parse(RUN, ["-i", "--", "-image", "-t"])
    assert (values.image, values.words, values.tty) == ("-image", ("-t",), False)


def test_other_commands_take_flags_anywhere():
    values = parse(RM, ["a", "-i", "b", "--", "-c"])
    assert values.containers == ("a", "b", "-c")
    assert values.interactive


def test_a_single_dash_is_a_word():
    assert parse(RM, ["-"]).containers == ("-",)


def test_what_is_not_given_has_its_default():
    values = parse(RUN, ["host"])
    assert (values.env, values.tty, values.name, values.stop_timeout) == ((), False, "", 10)
    assert values.given == frozenset()


def test_an_unknown_flag_is_refused_with_the_nearest_spelling():
    text = complaint(RUN, "--intractive", "host")
    assert "run --intractive: unknown flag" in text
    assert "did you mean --interactive?" in text


def test_an_unknown_short_flag_names_the_word_it_stands_in():
    assert "run -x: unknown flag (in -itx)" in complaint(RUN, "-itx", "host")


def test_a_long_flag_with_one_dash_is_explained():
    assert "did you mean --name?" in complaint(RUN, "-name", "web", "host")


def test_a_missing_value_is_refused():
    assert "run --name: a value is missing" in complaint(RUN, "--name")
    assert "run -e: a value is missing" in complaint(RUN, "-ie")


def test_a_value_outside_the_choices_is_refused_with_the_nearest_one():
    text = complaint(RUN, "--pull", "allways", "host")
    assert "'allways' is not one of always, missing, never" in text
    assert "did you mean always?" in text


@pytest.mark.parametrize("number", ["ten", "1.5", "", "١٠", "0x10"])
def test_a_number_that_is_none_is_refused(number):
    assert "is not a whole number" in complaint(RUN, f"--stop-timeout={number}", "host")


def test_a_switch_with_a_strange_value_is_refused():
    assert "'maybe' is neither true nor false" in complaint(RUN, "--tty=maybe", "host")


def test_two_different_values_for_what_can_have_one_are_refused():
    assert "given twice, as 'a' and as 'b'" in complaint(RUN, "--name", "a", "--name", "b", "host")
    assert parse(RUN, ["--name", "a", "--name", "a", "host"]).name == "a"


def test_elsewhere_the_last_value_counts_as_docker_has_it():
    assert parse(RUN, ["-w", "/a", "-w", "/b", "host"]).workdir == "/b"


def test_a_value_that_its_parser_refuses_is_told_with_the_flag():
    assert "run --half:" in complaint(RUN, "--half", "x", "host")
    assert parse(RUN, ["--half=8", "host"]).half == 4


def test_missing_and_superfluous_words_are_refused_with_the_synopsis():
    text = complaint(RUN, "-i")
    assert "run: IMAGE is missing" in text
    assert "usage: jubako run [OPTIONS] IMAGE [ARG...]" in text
    assert "CONTAINER is missing" in complaint(RM)
    one = Command("logs", "logs", arguments=(Argument("CONTAINER", "container"),))
    assert "'b' is one word too many" in complaint(one, "a", "b")


def test_several_words_leave_enough_for_the_arguments_behind_them():
    copy = Command("cp", "copy", arguments=(Argument("SRC", "sources", SOME), Argument("DST", "target", ONE)))
    values = parse(copy, ["a", "b", "c"])
    assert (values.sources, values.target) == (("a", "b"), "c")
    assert "DST is missing" in complaint(copy, "a")


def test_an_optional_word_may_be_absent():
    command = Command("top", "top", arguments=(Argument("NAME", "name", OPTIONAL),))
    assert parse(command, []).name == ""
    assert parse(command, ["x"]).name == "x"


def test_help_excuses_what_is_missing():
    assert parse(RUN, ["--help"]).help is True
    assert parse(RUN, ["-h"]).help is True


def test_help_behind_the_image_belongs_to_the_program():
    assert parse(RUN, ["host", "--help"]).help is False


def test_a_command_may_use_dash_h_for_itself():
    command = Command("run", "run", (Flag(("-h", "--hostname"), "name"),))
    assert parse(command, ["-h", "box"]).hostname == "box"


def test_ten_thousand_arguments_are_no_trouble():
    many = [f"argument{number}" for number in range(10_000)]
    assert parse(RUN, ["host", *many]).words == tuple(many)
    assert len(parse(RUN, [*(f"-eV{number}=1" for number in range(10_000)), "host"]).env) == 10_000
    assert len(parse(RM, many).containers) == 10_000


def test_the_synopsis_shows_what_is_optional():
    assert usage(RUN) == ("jubako run [OPTIONS] IMAGE [ARG...]",)
    assert usage(RM) == ("jubako rm [OPTIONS] CONTAINER...",)
