"""Trials: what they answer, how long they take at most, and that nothing of them stays."""

from __future__ import annotations

import errno
import os
import time

from jubako.doctor import run_checks
from jubako.doctor.host import Host
from jubako.doctor.trial import attempt


def children() -> list[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read().split()


def test_a_trials_answer_and_its_error_come_back():
    assert attempt(lambda: "yes").detail == "yes"

    def fail() -> str:
        raise OSError(errno.EPERM, "no", "/somewhere")

    trial = attempt(fail)
    assert (trial.ok, trial.code) == (False, "EPERM")
    assert "/somewhere" in str(trial)


def test_a_trial_that_crashes_is_reported_and_does_not_return_into_the_caller():
    def crash() -> str:
        raise RuntimeError("a bug")

    assert "RuntimeError: a bug" in attempt(crash).detail


def test_a_trial_that_dies_without_a_word_is_reported():
    def die() -> str:
        os._exit(3)

    assert attempt(die).errno == errno.EIO


def test_a_trial_that_hangs_is_ended_and_reaped():
    def hang() -> str:
        time.sleep(60)
        return ""

    began = time.monotonic()
    assert attempt(hang, seconds=0.1).errno == errno.ETIMEDOUT
    assert time.monotonic() - began < 2
    assert children() == []


def test_all_checks_on_this_machine_leave_no_process_mount_file_or_descriptor():
    host = Host()
    place = host.nearest(host.store)

    def world() -> tuple[object, ...]:
        with open("/proc/self/mountinfo") as file:
            mounts = file.read()
        return mounts, children(), sorted(os.listdir("/proc/self/fd")), sorted(os.listdir(place)), os.getcwd()

    before = world()
    findings = run_checks(host)
    assert world() == before
    broken = [f"{f.name}: {f.evidence}" for f in findings if f.summary == "could not be checked"]
    assert broken == []


def test_every_finding_that_is_not_well_has_evidence_and_every_warning_a_remedy():
    for finding in run_checks():
        assert finding.summary
        if finding.status in ("warning", "problem"):
            assert finding.evidence, finding.name
            assert finding.remedy, finding.name
