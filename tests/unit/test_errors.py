"""The one shape of every error, and whose fault it was."""

from __future__ import annotations

import errno

import pytest

from jubako.errors import (
    JubakoError,
    NotExecutableError,
    NotFoundError,
    ProgramNotFoundError,
    StepError,
    UsageError,
)


def test_an_error_says_operation_subject_cause_step_and_hint() -> None:
    step = (14, 37, "MountOverlay")
    error = StepError("mount overlay on", "/x", errno=errno.EPERM, hint="try this\nor that", step=step)
    assert str(error) == (
        "mount overlay on /x: Operation not permitted (EPERM)\n"
        "  step 14 of 37: MountOverlay\n"
        "  hint: try this\n"
        "  hint: or that"
    )


def test_a_reason_takes_the_place_of_the_kernels_words_and_keeps_the_errnos_name() -> None:
    assert str(JubakoError("open", "f", errno=errno.ENODEV, reason="no device")) == "open f: no device (ENODEV)"
    assert str(JubakoError("open", "f", reason="it is a link")) == "open f: it is a link"
    assert str(JubakoError("open", "f", errno=4095)) == "open f: Unknown error 4095 (4095)"


def test_what_is_not_known_is_left_out() -> None:
    assert str(JubakoError("start")) == "start"
    assert str(JubakoError("start", "it")) == "start it"


@pytest.mark.parametrize(
    ("kind", "code"),
    [(JubakoError, 125), (UsageError, 125), (NotFoundError, 125), (StepError, 125), (NotExecutableError, 126),
     (ProgramNotFoundError, 127)],
)  # fmt: skip
def test_the_exit_code_tells_whose_fault_it_was(kind: type[JubakoError], code: int) -> None:
    error = kind("do", "it")
    assert error.exit_code == code
    assert isinstance(error, JubakoError)


def test_an_os_error_is_told_in_the_same_shape() -> None:
    error = UsageError.from_os_error("read", "/f", FileNotFoundError(errno.ENOENT, "No such file"), "look elsewhere")
    assert type(error) is UsageError
    assert str(error) == "read /f: No such file or directory (ENOENT)\n  hint: look elsewhere"
    assert str(JubakoError.from_os_error("read", "/f", OSError("strange"))) == "read /f: strange"
