"""Records: frozen values that type checkers take for data classes, without the cost of `dataclasses`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.record import as_dict, record, replace

PROJECT = Path(__file__).parents[2]


@record
class Point:
    """A point, for these tests."""

    x: int
    y: int = 7

    _hidden: int = 1
    LIMIT = 3

    @property
    def sum(self) -> int:
        return self.x + self.y


@record
class Named(Point):
    """A point with a name: the base's fields come first."""

    name: str = ""


@record
class Plain:
    """Fields without defaults only."""

    a: object
    b: object


def test_fields_are_given_by_position_or_by_name_and_have_defaults() -> None:
    assert (Point(1).x, Point(1).y) == (1, 7)
    assert Point(1, 2) == Point(x=1, y=2) == Point(1, y=2)
    assert Point(4).sum == 11


def test_private_names_and_constants_are_no_fields() -> None:
    assert Point.FIELDS == ("x", "y")  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="_hidden"):
        Point(1, _hidden=2)  # type: ignore[call-arg]


def test_the_fields_of_a_base_come_first() -> None:
    assert as_dict(Named(1, 2, "a")) == {"x": 1, "y": 2, "name": "a"}
    assert list(as_dict(Named(1, name="a"))) == ["x", "y", "name"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Point, "Point needs x"),
        (Plain, "Plain needs a, b"),
        (lambda: Point(1, 2, 3), "takes 2 fields, got 3"),
        (lambda: Point(1, z=3), "no field 'z'"),
        (lambda: Point(1, x=3), "got 'x' twice"),
    ],
)
def test_a_wrong_construction_says_what_is_wrong(wrong: object, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        wrong()  # type: ignore[operator]


def test_a_record_cannot_be_changed() -> None:
    point = Point(1)
    for change in (lambda: setattr(point, "x", 2), lambda: setattr(point, "new", 2), lambda: delattr(point, "x")):
        with pytest.raises(AttributeError, match="immutable"):
            change()
    assert point == Point(1)


@given(st.tuples(st.integers(), st.integers()), st.tuples(st.integers(), st.integers()))
def test_records_are_equal_and_hash_alike_exactly_when_their_fields_are_equal(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    assert (Point(*one) == Point(*other)) == (one == other)
    if one == other:
        assert hash(Point(*one)) == hash(Point(*other))
    assert len({Point(*one), Point(*one)}) == 1


def test_records_of_different_classes_are_never_equal() -> None:
    assert Point(1, 2) != Named(1, 2)
    assert Point(1, 2) != Plain(1, 2)
    assert Point(1, 2) != (1, 2)


def test_a_record_that_holds_a_list_compares_but_cannot_be_hashed() -> None:
    assert Plain([1], 2) == Plain([1], 2)
    with pytest.raises(TypeError, match="unhashable"):
        hash(Plain([1], 2))


def test_replace_changes_a_copy() -> None:
    before = Named(1, 2, "a")
    after = replace(before, y=5)
    assert after == Named(1, 5, "a")
    assert type(after) is Named
    assert before == Named(1, 2, "a")
    with pytest.raises(TypeError, match="no field"):
        replace(before, z=1)


def test_a_record_shows_its_fields() -> None:
    assert repr(Named(1, 2, "a")) == "Named(x=1, y=2, name='a')"


def test_a_default_is_overridden_by_a_subclass() -> None:
    @record
    class Other(Point):
        y: int = 8

    assert Other(1) == Other(1, 8)


def test_type_checkers_see_a_frozen_data_class(tmp_path: Path) -> None:
    trial = tmp_path / "trial.py"
    trial.write_text(
        "from jubako.record import record, replace\n"
        "@record\nclass P:\n    x: int\n    y: str = ''\n"
        "P('no')\nP()\nP(1, z=2)\np = P(1)\np.x = 2\nreveal_type(replace(p, x=2))\n"
    )
    done = subprocess.run(
        (Path(sys.executable).with_name("mypy"), "--strict", "--no-error-summary", f"--cache-dir={tmp_path}", trial),
        env={"MYPYPATH": str(PROJECT / "src")}, capture_output=True, text=True,
    )  # fmt: skip
    said = [line.partition("trial.py:")[2] for line in done.stdout.splitlines()]
    assert [int(line.partition(":")[0]) for line in said] == [6, 7, 8, 10, 11], done.stdout
    assert "read-only" in said[3]
    assert "trial.P" in said[4]
