"""The start pack: used while it is as new as the sources, and never when somebody else could have written it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import jubako

TRIAL = """
import sys
sys.path.append(sys.argv[1])
from jubako import startpack
print(startpack.use(sys.argv[2], "jubako.engine.run"))
import jubako.engine.names
from jubako.cli import main
from jubako.engine import run
assert main.__package__ == "jubako.cli" and jubako.cli.main is main and jubako.engine.run.store is jubako.engine.store
print(main.__spec__ is None, type(jubako.engine.names.__loader__).__name__, main.__file__)
startpack.keep(sys.argv[2])
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    place = tmp_path / "lib"
    shutil.copytree(Path(jubako.__file__).parent, place / "jubako", ignore=shutil.ignore_patterns("__pycache__"))
    return place


@pytest.fixture
def pack(library: Path, tmp_path: Path) -> Path:
    path = tmp_path / "cache/start/pack"
    assert start(library, path)[0] == "False"
    assert path.is_file()
    return path


def start(library: Path, pack: Path) -> list[str]:
    argv = (sys.executable, "-I", "-S", "-c", TRIAL, str(library), str(pack))
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_second_start_takes_the_modules_from_the_pack(library: Path, pack: Path) -> None:
    used, made_at_once, loader, file = start(library, pack)
    assert (used, made_at_once, loader) == ("True", "True", "_Loader")
    assert file == str(library / "jubako/cli/main.py")


def test_a_module_that_fails_is_left_to_the_ordinary_import(library: Path, pack: Path) -> None:
    with open(library / "jubako/cli/table.py", "a") as file:
        file.write("import no_such_module\n")
    trial = (
        "import sys; sys.path.append(sys.argv[1]); from jubako import startpack; startpack.keep(sys.argv[2])\n"
        "print(startpack.use(sys.argv[2])); import jubako.cli.main"
    )
    argv = (sys.executable, "-I", "-S", "-c", trial, str(library), str(pack))
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.stdout == "True\n"
    assert "No module named 'no_such_module'" in done.stderr


def test_a_changed_source_makes_a_new_pack(library: Path, pack: Path) -> None:
    before = pack.read_bytes()
    with open(library / "jubako/errors.py", "a") as file:
        file.write("ADDED = 1\n")
    assert start(library, pack)[0] == "False"
    assert pack.read_bytes() != before
    assert start(library, pack)[0] == "True"


def test_a_removed_source_is_not_imported(library: Path, pack: Path) -> None:
    (library / "jubako/spec/dump.py").unlink()
    assert start(library, pack)[0] == "False"


@pytest.mark.parametrize("damage", [b"", b"jubako start pack 2\n", b"jubako start pack 2\nxx\r\n", None])
def test_a_damaged_pack_is_ignored_and_made_anew(library: Path, pack: Path, damage: bytes | None) -> None:
    whole = pack.read_bytes()
    pack.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert start(library, pack)[0] == "False"
    assert start(library, pack)[0] == "True"


def test_a_pack_that_others_may_write_is_not_loaded(library: Path, pack: Path) -> None:
    pack.chmod(0o666)
    assert start(library, pack)[0] == "False"


def test_a_pack_in_a_directory_that_others_may_write_is_neither_loaded_nor_made(library: Path, pack: Path) -> None:
    pack.parent.chmod(0o777)
    assert start(library, pack)[0] == "False"
    pack.unlink()
    start(library, pack)
    assert not pack.exists()


def test_a_pack_through_a_link_is_not_loaded(library: Path, pack: Path) -> None:
    pack.rename(pack.with_name("elsewhere"))
    pack.symlink_to("elsewhere")
    assert start(library, pack)[0] == "False"


def test_writing_leaves_no_other_file(pack: Path) -> None:
    assert os.listdir(pack.parent) == ["pack"]
