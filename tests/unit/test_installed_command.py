"""The installed command finds its Python and its package in every kind of installation, and starts nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from world import programs

STUB = Path(__file__).parents[2] / "bin/jubako"
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
MAIN = "import sys; print(sys.flags.isolated, sys.flags.no_site, __file__, *sys.argv[1:], sep='|')\n"
LATE = """
import sys

def entry():
    before = "site" in sys.modules
    import pytest
    print(before, "site" in sys.modules)
"""


def install(top: Path, library: str = f"lib/{VERSION}/site-packages", python: bool = True) -> Path:
    """An installation below `top`, as an installer lays it out; returns its command."""
    package = top / library / "jubako"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text(MAIN)
    command = top / "bin/jubako"
    command.parent.mkdir(exist_ok=True)
    shutil.copy(STUB, command)
    if python:
        (top / "bin" / VERSION).symlink_to(sys.executable)
    return command


def run(*argv: str | Path, cwd: Path | None = None, path: str = "") -> list[str]:
    env = {"PATH": os.pathsep.join(filter(None, [path, f"{Path(sys.executable).parent}:/usr/bin:/bin"]))}
    done = subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n").split("|")


def test_a_virtual_environment(tmp_path: Path) -> None:
    isolated, no_site, main, *arguments = run(install(tmp_path), "run", "a b", "")
    assert (isolated, no_site, arguments) == ("1", "1", ["run", "a b", ""])
    assert Path(main).samefile(tmp_path / "lib" / VERSION / "site-packages/jubako/__main__.py")


def test_a_path_with_spaces(tmp_path: Path) -> None:
    assert run(install(tmp_path / "my own $files"), "x")[3:] == ["x"]


def test_an_installation_for_the_user_has_its_interpreter_elsewhere(tmp_path: Path) -> None:
    assert run(install(tmp_path / ".local", python=False), "x")[3:] == ["x"]


def test_debians_directory_for_the_administrator(tmp_path: Path) -> None:
    command = install(tmp_path / "usr/local", f"lib/{VERSION}/dist-packages", python=False)
    assert run(command, "x")[3:] == ["x"]


@pytest.mark.parametrize("relative", [False, True])
def test_a_link_to_the_command(tmp_path: Path, relative: bool) -> None:
    command = install(tmp_path / "venvs/jubako")
    (tmp_path / "bin").mkdir()
    link = tmp_path / "bin/jubako"
    link.symlink_to(os.path.relpath(command, link.parent) if relative else command)
    (tmp_path / "bin/again").symlink_to("jubako")
    assert run(link, "x")[3:] == ["x"]
    assert run(tmp_path / "bin/again", "x")[3:] == ["x"]


def test_a_link_to_the_directory_of_commands(tmp_path: Path) -> None:
    command = install(tmp_path / "usr")
    (tmp_path / "bin").symlink_to("usr/bin")
    assert run(tmp_path / "bin" / command.name, "x")[3:] == ["x"]


def test_it_is_found_through_path(tmp_path: Path) -> None:
    command = install(tmp_path)
    assert run("sh", "-c", "jubako x", path=str(command.parent))[3:] == ["x"]
    assert run("sh", "-c", "jubako x", path="bin", cwd=tmp_path)[3:] == ["x"]
    assert run("sh", "-c", "jubako x", path=".", cwd=command.parent)[3:] == ["x"]
    assert run("sh", command.name, "x", cwd=command.parent)[3:] == ["x"]


def test_the_newest_of_several_installations_counts(tmp_path: Path) -> None:
    install(tmp_path)
    for version in ("python3.10", "python3.99"):
        other = tmp_path / "lib" / version / "site-packages/jubako/__main__.py"
        other.parent.mkdir(parents=True)
        other.write_text("print('the older one')\n")
        os.utime(other, (1, 1))
        (tmp_path / "bin" / version).symlink_to(sys.executable)
    assert run(tmp_path / "bin/jubako", "x")[3:] == ["x"]


def test_what_a_removed_python_left_is_passed_over(tmp_path: Path) -> None:
    command = install(tmp_path)
    stale = tmp_path / "lib/python3.2/site-packages/jubako/__main__.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("raise SystemExit('stale')\n")
    assert run(command, "x")[3:] == ["x"]


def test_without_a_package_beside_it_the_interpreter_is_asked(tmp_path: Path) -> None:
    command = install(tmp_path)
    shutil.rmtree(tmp_path / "lib")
    (tmp_path / "bin/python3").symlink_to(sys.executable)
    done = subprocess.run((command, "--version"), capture_output=True, text=True)
    assert "No module named jubako" in done.stderr or done.stdout.startswith("jubako")


def test_no_other_process_is_started(tmp_path: Path) -> None:
    strace = programs.require("strace")
    trace = tmp_path / "trace"
    calls = "trace=execve,fork,vfork,clone,clone3"
    run(strace, "-f", "-o", str(trace), "-e", calls, "-e", "signal=none", str(install(tmp_path)), "x")
    lines = [line for line in trace.read_text().splitlines() if "exited with" not in line]
    assert len(lines) == 2, "\n".join(lines)
    assert all(" execve(" in line for line in lines)


def test_libraries_outside_the_packages_directory_are_found_late(tmp_path: Path) -> None:
    """As for an installation for the user over the distribution's own packages."""
    import jubako

    command = install(tmp_path / "own", python=False)
    package = tmp_path / "own/lib" / VERSION / "site-packages/jubako"
    shutil.copy(Path(jubako.__file__).with_name("__main__.py"), package / "__main__.py")
    (package / "cli").mkdir()
    (package / "__init__.py").touch()
    (package / "cli/__init__.py").touch()
    (package / "cli/main.py").write_text(LATE)
    python = tmp_path / "own/bin" / VERSION
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')  # this one's `site` knows where pytest is
    python.chmod(0o755)
    assert run(command) == ["False True"]
