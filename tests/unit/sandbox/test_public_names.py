"""`import jubako` itself: lazy, complete, and cheap."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import jubako
from world.start_path import HEAVY

ALONE = "import sys; sys.path.append(sys.argv[1]); import jubako; print(*sys.modules)"
USED = "import sys; sys.path.append(sys.argv[1]); import jubako; jubako.run; jubako.Sandbox; print(*sys.modules)"


def modules(code: str) -> set[str]:
    place = str(Path(jubako.__file__).parents[1])
    done = subprocess.run((sys.executable, "-I", "-S", "-c", code, place), capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_of_it() -> None:
    assert {name for name in modules(ALONE) if name.startswith("jubako")} == {"jubako"}


def test_using_the_library_loads_nothing_heavy() -> None:
    assert not HEAVY & modules(USED)


@pytest.mark.parametrize("name", jubako.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(jubako, name)
    assert isinstance(value, int | str) or value.__doc__


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        jubako.no_such_name  # noqa: B018


def test_dir_lists_the_public_names() -> None:
    assert set(jubako.__all__) <= set(dir(jubako))
