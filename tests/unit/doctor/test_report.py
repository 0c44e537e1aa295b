"""What findings amount to, as data and on paper."""

from __future__ import annotations

import io

from jubako import doctor
from jubako.cli.commands import doctor as command
from jubako.cli.flags import parse
from jubako.doctor import report
from jubako.doctor.finding import note, ok, problem, warning

FINDINGS = (
    ok("a", "well", "read"),
    note("b", "so", remedy="do --this"),
    warning("c", "lost", "tried"),
)


def test_only_a_problem_keeps_containers_from_running():
    assert report.can_run(FINDINGS)
    assert not report.can_run((*FINDINGS, problem("d", "broken")))


def test_the_data_hold_all_that_is_known_in_plain_types():
    data = report.as_data(FINDINGS)
    assert data["counts"] == {"ok": 1, "note": 1, "warning": 1, "problem": 0}
    assert data["findings"][0] == {
        "name": "a",
        "group": "",
        "status": "ok",
        "summary": "well",
        "evidence": ["read"],
        "remedy": "",
    }


def test_a_check_that_breaks_becomes_a_note_and_hides_no_other(monkeypatch):
    def broken(host):
        raise RuntimeError("a bug")

    monkeypatch.setattr(doctor, "checks", lambda: (("x", broken), ("x", lambda host: FINDINGS[0])))
    findings = doctor.run_checks(object())
    assert [f.status for f in findings] == ["note", "ok"]
    assert "a bug" in findings[0].evidence[0]


def run(monkeypatch, capsys, *words, findings=FINDINGS):
    monkeypatch.setattr(doctor, "run_checks", lambda: findings)
    code = command.run(parse(command.COMMAND, words))
    return code, capsys.readouterr().out


def test_the_exit_code_says_whether_containers_can_run(monkeypatch, capsys):
    assert run(monkeypatch, capsys)[0] == 0
    assert run(monkeypatch, capsys, findings=(*FINDINGS, problem("d", "broken")))[0] == 1
    assert run(monkeypatch, capsys, "--json", findings=(problem("d", "broken"),))[0] == 1


def test_quiet_keeps_warnings_only_and_remedies_are_indented_lines(monkeypatch, capsys):
    out = run(monkeypatch, capsys, "-q")[1]
    assert "lost" in out
    assert "well" not in out
    assert "        do --this\n" in run(monkeypatch, capsys)[1]


def test_evidence_of_what_is_well_is_shown_on_request(monkeypatch, capsys):
    assert "read" not in run(monkeypatch, capsys)[1]
    assert "read" in run(monkeypatch, capsys, "--all")[1]


def test_no_color_and_pipes_get_plain_text(monkeypatch):
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in command._Paint(Terminal()).mark("ok")
    monkeypatch.setenv("NO_COLOR", "1")
    assert command._Paint(Terminal()).mark("ok") == "✓"
