"""The program's border: which command runs, what is printed when it fails, and the exit code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jubako
from jubako.cli import main, table
from jubako.cli.commands import version
from jubako.errors import NotFoundError, ProgramNotFoundError

SOURCE = str(Path(jubako.__file__).parent.parent)


def program(*argv: str, **options: object) -> subprocess.CompletedProcess[str]:
    """The real program in a process of its own."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": SOURCE}
    return subprocess.run(
        [sys.executable, "-m", "jubako", *argv],
        env=environment,
        text=True,
        errors="surrogateescape",
        timeout=30,
        check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},  # type: ignore[call-overload]
    )


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(values: object) -> int:
        raise error

    monkeypatch.setattr(version, "run", run)


def test_the_version_is_printed_by_flag_and_by_command(capsys):
    assert main.main(["--version"]) == 0
    assert main.main(["version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert first.startswith(f"jubako {jubako.__version__} ")


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_visible_command(argv, capsys):
    assert main.main(argv) == 0
    shown = capsys.readouterr().out
    for name, entry in table.COMMANDS.items():
        assert bool(re.search(rf"^    {name}( |$)", shown, re.MULTILINE)) is not entry.hidden


def test_an_unknown_command_is_refused_with_the_nearest_name(capsys):
    assert main.main(["verison"]) == 125
    error = capsys.readouterr().err
    assert error.startswith("jubako: verison: unknown command\n")
    assert "did you mean version?" in error


def test_an_unknown_global_flag_is_refused(capsys):
    assert main.main(["--rooot=x", "version"]) == 125
    assert "did you mean --root?" in capsys.readouterr().err


def test_an_error_is_printed_once_with_its_exit_code(monkeypatch, capsys):
    failing(monkeypatch, ProgramNotFoundError("exec", "nope", reason="not found in PATH", hint="is it installed?"))
    assert main.main(["version"]) == 127
    captured = capsys.readouterr()
    assert captured.err == "jubako: exec nope: not found in PATH\n  hint: is it installed?\n"
    assert captured.out == ""


def test_a_system_error_names_its_errno(monkeypatch, capsys):
    failing(monkeypatch, OSError(28, "No space left on device", "/data/x"))
    assert main.main(["version"]) == 125
    assert capsys.readouterr().err == "jubako: version /data/x: No space left on device (ENOSPC)\n"


def test_an_error_cannot_steer_the_terminal(monkeypatch, capsys):
    failing(monkeypatch, NotFoundError("read", "evil\x1b]0;name\x07", reason="no\rsuch file"))
    main.main(["version"])
    assert capsys.readouterr().err == "jubako: read evil\\x1b]0;name\\x07: no\\rsuch file\n"


def test_a_bug_is_one_clear_line_without_a_traceback(monkeypatch, capsys):
    failing(monkeypatch, KeyError("lost"))
    assert main.main(["version"]) == 125
    error = capsys.readouterr().err
    assert error.startswith("jubako: KeyError: 'lost'\n  hint: ")
    assert "--debug" in error
    assert "Traceback" not in error


def test_what_was_printed_before_an_error_is_not_lost():
    program_text = (
        "import sys\n"
        "from jubako.cli import main\n"
        "from jubako.cli.commands import version\n"
        "def run(values):\n"
        "    print('before')\n"
        "    raise OSError(5, 'Input/output error', '/x')\n"
        "version.run = run\n"
        "sys.exit(main.main(['version']))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program_text], env={"PYTHONPATH": SOURCE}, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (125, "before\n")
    assert ended.stderr == "jubako: version /x: Input/output error (EIO)\n"


def test_debug_shows_the_traceback_of_an_error_in_the_command_line_too(capsys):
    assert main.main(["--debug", "verison"]) == 125
    assert capsys.readouterr().err.startswith("Traceback")


def test_debug_shows_the_traceback_before_the_error(monkeypatch, capsys):
    failing(monkeypatch, NotFoundError("remove", "web", reason="no such container"))
    assert main.main(["--debug", "version"]) == 125
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert error.endswith("jubako: remove web: no such container\n")


def test_ctrl_c_is_silent(monkeypatch, capsys):
    failing(monkeypatch, KeyboardInterrupt())
    assert main.main(["version"]) == 130
    assert capsys.readouterr() == ("", "")


def test_root_and_run_root_reach_the_command_as_absolute_paths(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr(version, "run", lambda values: seen.update(os.environ) or 0)
    monkeypatch.setenv("JUBAKO_ROOT", "/elsewhere")
    monkeypatch.setenv("JUBAKO_RUN", "/elsewhere")
    monkeypatch.chdir(tmp_path)
    assert main.main(["--root", "data", "--run-root=/run/x", "version"]) == 0
    assert (seen["JUBAKO_ROOT"], seen["JUBAKO_RUN"]) == (str(tmp_path / "data"), "/run/x")


def test_a_reader_that_goes_away_is_no_error():
    read_end, write_end = os.pipe()
    os.close(read_end)
    ended = program("help", stdout=write_end)
    os.close(write_end)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_a_full_disk_under_standard_output_is_told():
    with open("/dev/full", "wb") as full:
        ended = program("version", stdout=full)
    assert ended.returncode == 125
    assert ended.stderr == "jubako: version: No space left on device (ENOSPC)\n"


def test_closed_standard_streams_do_no_harm():
    command = f'exec "{sys.executable}" -m jubako version >&- 2>&-'
    ended = subprocess.run(["sh", "-c", command], env={"PYTHONPATH": SOURCE}, timeout=30, check=False)
    assert ended.returncode == 0


def test_bytes_that_are_no_utf8_are_given_back_as_they_are():
    odd = b"\xffodd".decode(errors="surrogateescape")
    ended = program(odd)
    assert ended.returncode == 125
    assert "unknown command" in ended.stderr


def test_every_command_in_the_table_can_be_loaded_and_names_itself_so():
    for name, entry in table.COMMANDS.items():
        module = main.load(name)
        assert name == module.COMMAND.name
        assert entry.summary == module.COMMAND.summary
        assert callable(module.run)


def test_every_other_name_leads_to_a_command():
    for verbs in table.NOUNS.values():
        assert set(verbs.values()) <= set(table.COMMANDS)
