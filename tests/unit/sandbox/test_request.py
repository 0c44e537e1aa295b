"""One call's arguments and environment in a template's last step."""

from __future__ import annotations

from jubako.plan.steps.program import FilterAndExec
from jubako.runtime.requests import Request
from jubako.sandbox.request import PLACEHOLDER, complete

LAST = FilterAndExec((PLACEHOLDER,), ("PATH=/bin", "A=1"), b"filter")


def test_the_calls_arguments_take_the_place_that_was_kept_for_them() -> None:
    final = complete(LAST, 0, Request(b"", (b"echo", b"\xff")))
    assert final.arguments == ("echo", "\udcff")
    assert (final.environment, final.filter) == (LAST.environment, LAST.filter)


def test_an_entrypoint_stays_before_them() -> None:
    entered = FilterAndExec(("/entry", "-x", PLACEHOLDER), ())
    assert complete(entered, 2, Request(b"", (b"a", b"b"))).arguments == ("/entry", "-x", "a", "b")


def test_the_images_own_command_stays_where_a_call_names_none() -> None:
    own = FilterAndExec(("/own",), ())
    assert complete(own, -1, Request(b"", ())).arguments == ("/own",)


def test_the_calls_variables_win_and_each_name_stands_once() -> None:
    final = complete(LAST, 0, Request(b"", (b"true",), (b"A=2", b"B=x=y")))
    assert final.environment == ("PATH=/bin", "A=2", "B=x=y")
