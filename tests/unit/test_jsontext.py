"""JSON text: exactly what RFC 8259 allows, the same values as the standard package, two refusals more."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako import jsontext

SOURCE = Path(jsontext.__file__).parents[1]

scalars = (
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)  # fmt: skip
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(values)
def test_what_is_written_reads_as_the_same_value_here_and_elsewhere(value: Any) -> None:
    for indent in (None, 2):
        text = jsontext.dumps(value, indent)
        assert jsontext.loads(text) == value
        assert json.loads(text) == value


@given(values, st.booleans(), st.sampled_from([None, 1, 4]))
def test_what_others_write_is_read_as_they_meant_it(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert jsontext.loads(text) == value
    assert jsontext.loads(f" \t\r\n{text}\n ".encode()) == value


@given(st.text(alphabet='{}[]",:0123456789.eE+-\\u truefalsn\n', max_size=12))
def test_any_text_is_accepted_or_refused_as_the_standard_package_does(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            jsontext.loads(text)
        return
    if '"' in text or math.inf in (expected, -expected if isinstance(expected, float) else 0):
        return  # a name that stands twice, a number beyond a float's range: refused here only
    assert jsontext.loads(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "nul", "True", "'a'", "{'a': 1}", "[1,]", '{"a": 1,}', '{"a" 1}', "[1 2]", "[1", '{"a": ', '"a', "01",
        "1.", ".5", "+1", "1e", "0x10", "// no\n1", "1 2", "[] x", '"\t"', '"\\x41"', '"\\u12"', "\ufeff1", "\x0b1",
        "NaN", "-Infinity", "[Infinity]", '{"a": NaN}', "1e999", "[-1e999]", '{"a": 1, "a": 2}',
        '[{"b": {"a": 1, "a": 1}}]',
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        jsontext.loads(text)


def test_refusals_say_what_and_where() -> None:
    with pytest.raises(ValueError, match="at character 3"):
        jsontext.loads("[1,]")
    with pytest.raises(ValueError, match="unexpected text after the value, at character 1"):
        jsontext.loads("1 2")
    with pytest.raises(ValueError, match="'a' stands twice"):
        jsontext.loads('{"b": 1, "a": 1, "a": 1}')
    with pytest.raises(ValueError, match="no NaN"):
        jsontext.loads("[NaN]")


def test_depth_without_end_is_refused_and_not_a_crash() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        jsontext.loads("[" * 200_000)


def test_bytes_are_utf_8_with_or_without_a_mark() -> None:
    assert jsontext.loads('"é"'.encode()) == "é"
    assert jsontext.loads(b'\xef\xbb\xbf"a"') == "a"
    with pytest.raises(ValueError):
        jsontext.loads(b'"\xff"')


def test_bytes_that_were_no_text_survive_a_file() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    text = jsontext.dumps({"path": name})
    assert text.encode("utf-8")  # no lone surrogate is left in the text itself
    assert jsontext.loads(text) == {"path": name}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [math.inf]])
def test_what_json_has_no_number_for_is_not_written(value: object) -> None:
    with pytest.raises(ValueError, match="no NaN"):
        jsontext.dumps(value)


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", [b""]])
def test_what_json_has_no_form_for_is_not_written(value: object) -> None:
    with pytest.raises(TypeError, match="JSON cannot hold a"):
        jsontext.dumps(value)


def test_names_keep_their_order_and_indentation_is_as_usual() -> None:
    value = {"z": [1, {"a": ()}], "b": {}, "c": True}
    assert jsontext.dumps(value) == '{"z":[1,{"a":[]}],"b":{},"c":true}'
    assert jsontext.dumps(value, 2) == json.dumps(value, indent=2)


def test_neither_reading_nor_writing_imports_the_json_package() -> None:
    trial = (
        f"import sys; sys.path.append({str(SOURCE)!r}); from jubako import jsontext\n"
        "jsontext.loads(jsontext.dumps({'a': [1, 2.5, None, 'é']}, 2))\n"
        "assert 'json' not in sys.modules and 're' not in sys.modules"
    )
    done = subprocess.run((sys.executable, "-I", "-S", "-c", trial), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_bad_string_is_told_where_the_scanner_alone_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = (
        f"import sys; sys.path.append({str(SOURCE)!r}); from jubako import jsontext\n"
        "for text in ('\"\\t\"', '\"a', '[1 2]', '{1:2}'):\n"
        "    try: jsontext.loads(text); sys.exit(text)\n"
        "    except ValueError: pass\n"
    )
    done = subprocess.run((sys.executable, "-I", "-S", "-c", trial), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_interpreter_without_the_scanner_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsontext, "_make_scanner", None)
    assert jsontext.loads('{"a": [1, 2.5]}') == {"a": [1, 2.5]}
    for wrong in ("NaN", '{"a": 1, "a": 2}', "1e999", "[1,]"):
        with pytest.raises(ValueError):
            jsontext.loads(wrong)
