"""What the processes of a container say to each other survives the way, and nothing else is understood."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.errors import NotExecutableError, ProgramNotFoundError, StepError, UsageError
from jubako.linux import scm
from jubako.runtime import messages
from jubako.runtime.messages import Baton, Failed, Signal, decode, encode, receive, send

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.binary().map(
    lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)
BUILDERS = [
    st.builds(kind, **{name: st.integers() if type_ == "int" else text for name, type_ in kind.__annotations__.items()})
    for kind in messages._TYPES
]


@given(st.one_of(BUILDERS))
def test_every_message_arrives_as_it_was_sent(message: Any) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("kind", messages._TYPES)
def test_every_message_is_one_that_can_be_read_again(kind: type) -> None:
    values = [5 if type_ == "int" else "x" for type_ in kind.__annotations__.values()]
    message = kind(*values)
    assert decode(encode(message)) == message
    assert isinstance(message, messages.Message)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data", [b"", b"Nothing", b"Baton", b"Baton\x001\x002", b"Baton\x00x", b"Baton\x00", b"baton\x001", b"object\x00"]
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data)


@given(st.binary(max_size=40))
def test_no_packet_makes_more_than_a_refusal(data: bytes) -> None:
    try:
        message = decode(data)
    except ValueError:
        return
    assert type(message) in messages._TYPES


def test_a_field_cannot_smuggle_in_another_one() -> None:
    failed = Failed(1, "a\0b", "c", 0, "", "", 125)
    assert decode(encode(failed)).operation == "ab"  # type: ignore[union-attr]


def test_an_error_arrives_with_its_step() -> None:
    error = StepError("mount", "/x", errno=1, reason="r", hint="h", step=(3, 9, "MountFileSystem"))
    message = Failed.of(error, 3)
    again = message.error()
    assert str(again) == str(error)
    assert isinstance(again, StepError)


def test_a_step_that_the_message_does_not_name_is_found_in_the_plan() -> None:
    message = Failed.of(StepError("mount", "/x", errno=1), 2)
    assert message.error(("A", "B", "C")).step == (2, 3, "B")
    assert message.error().step is None
    assert message.error(("A",)).step is None


@pytest.mark.parametrize("kind", [ProgramNotFoundError, NotExecutableError])
def test_a_program_that_cannot_run_keeps_its_exit_code_and_names_no_step(kind: type[StepError]) -> None:
    again = Failed.of(kind("execute", "sh", errno=2), 5).error(("A",) * 9)
    assert again.exit_code == kind.exit_code
    assert again.step is None


def test_an_error_of_any_length_arrives() -> None:
    ours, theirs = scm.pair()
    send(ours, Failed.of(UsageError("execute", "x" * 200_000, reason="y" * 200_000, hint="z" * 200_000)))
    message, _none = receive(theirs)
    assert isinstance(message, Failed)
    assert message.subject.startswith("xxx")
    assert message.reason.startswith("yyy")


def test_descriptors_travel_with_a_message_and_the_end_is_told() -> None:
    ours, theirs = scm.pair()
    reader, writer = os.pipe()
    send(ours, Baton(7), (writer,))
    os.close(writer)
    message, (copy,) = receive(theirs)
    assert message == Baton(7)
    os.write(copy, b"x")
    os.close(copy)
    assert os.read(reader, 2) == b"x"
    assert os.read(reader, 2) == b""
    os.close(reader)
    ours.close()
    assert receive(theirs) == (None, ())


def test_a_peer_that_was_killed_with_messages_unread_is_an_end_too() -> None:
    ours, theirs = scm.pair()
    send(theirs, Signal(1))
    ours.close()  # unread data makes this a reset
    assert receive(theirs) == (None, ())
