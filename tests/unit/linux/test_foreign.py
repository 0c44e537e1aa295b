"""Our part of ctypes does what ctypes does, and gives way to it where the C module is not as expected."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

import jubako
from jubako.linux import foreign

KINDS = ("c_char_p", "c_int", "c_long", "c_size_t", "c_uint", "c_uint32", "c_uint64", "c_ulong", "c_ushort", "c_void_p")


@pytest.mark.parametrize("name", KINDS)
def test_every_type_has_the_size_that_ctypes_gives_it(name: str) -> None:
    assert foreign.sizeof(getattr(foreign, name)) == ctypes.sizeof(getattr(ctypes, name))


def test_a_call_leaves_its_errno() -> None:
    library = foreign.PyDLL(None, use_errno=True)
    assert library.close(foreign.c_int(-1)) == -1
    assert foreign.get_errno() == 9  # EBADF


def test_memory_is_set_and_copied() -> None:
    buffer = foreign.create_string_buffer(b"abc\0def", 7)
    foreign.memmove(foreign.addressof(buffer), b"xy", 2)
    foreign.memset(foreign.addressof(buffer) + 4, ord("z"), 2)
    assert bytes(buffer) == b"xyc\0zzf"


def test_an_array_is_cast_to_a_pointer_that_keeps_it() -> None:
    array = (foreign.c_int * 2)(1, 2)
    assert foreign.cast(array, foreign.c_void_p).value == foreign.addressof(array)


def test_the_package_is_used_where_the_c_module_is_another() -> None:
    script = """
import sys, types
sys.path.append(sys.argv[1])
import ctypes
sys.modules["_ctypes"] = types.ModuleType("_ctypes")
from jubako.linux import clone, foreign, mount, seccomp
assert foreign.PyDLL is ctypes.PyDLL
"""
    source = str(Path(jubako.__file__).parent.parent)
    subprocess.run((sys.executable, "-I", "-c", script, source), check=True)
