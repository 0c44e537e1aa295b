"""Whatever is typed, the answer is a value or one clear error; never another exception."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jubako.cli import completion
from jubako.cli.commands.run import COMMAND
from jubako.cli.flags import parse
from jubako.cli.run_flags import RUN_FLAGS, run_options
from jubako.cli.template import Template
from jubako.errors import UsageError

SPELLINGS = [name for flag in RUN_FLAGS for name in flag.names]
WORDS = st.one_of(
    st.text(max_size=8),
    st.sampled_from([*SPELLINGS, "--", "-", "=", "host", "--no-tty", "-it", "-itv", "--tty=", "container:"]),
    st.builds(lambda name, value: f"{name}={value}", st.sampled_from(SPELLINGS), st.text(max_size=5)),
)
PIECES = st.lists(
    st.sampled_from(
        [
            "{{",
            "}}",
            ".A",
            ".B.C",
            " ",
            "range",
            "if",
            "else",
            "end",
            "json",
            "(",
            ")",
            "|",
            '"x"',
            "1",
            "index",
            "$",
            "-",
        ]
    ),
    max_size=12,
).map("".join)


@given(st.lists(WORDS, max_size=8))
def test_every_command_line_is_read_or_refused(words):
    try:
        run_options(parse(COMMAND, words))
    except UsageError:
        pass


@given(st.lists(st.text(max_size=5), max_size=5))
def test_words_behind_two_dashes_are_never_touched(words):
    assert parse(COMMAND, ["--", *words]).words == tuple(words)


@given(st.text())
def test_a_joined_value_arrives_as_it_is(text):
    assert run_options(parse(COMMAND, [f"--workdir={text}", "-e", text, f"-v{text or 'x'}", "host"])).workdir == text


@given(st.lists(WORDS, max_size=6))
def test_every_beginning_of_a_line_has_an_answer(words):
    found = completion.answer(["run", *words])
    assert found.also.startswith(":")


@given(PIECES)
def test_every_template_is_filled_or_refused(text):
    try:
        Template(text).fill({"A": "a", "B": {"C": [1, 2]}})
    except UsageError:
        pass
