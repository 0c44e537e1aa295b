"""What no answer of the OCI runtime may look like, whatever it was asked."""

from __future__ import annotations

from world.command import Result

NEVER = ("Traceback", "fault in jubako", "should not happen")
LONGEST = 10_000
"""Characters of an error: who sends nonsense by the megabyte does not get it back."""


def faults_of(result: Result, *texts: str) -> list[str]:
    """What is wrong with a refusal: it ends with 1 (`exec`: 255), as engines know it, says `texts` in one error of our
    shape, and prints nothing else."""
    faults = never_of(result)
    code = 255 if "exec" in result.argv else 1
    if result.exit_code != code:
        faults.append(f"ended with {result.exit_code}, not {code}")
    if not result.stderr.startswith("jubako: "):
        faults.append("no error of the usual shape")
    if result.stdout:
        faults.append("said something on standard output")
    faults += [f"does not say {text!r}" for text in texts if text not in result.stderr]
    return faults


def never_of(result: Result) -> list[str]:
    """What no call may ever say or be, refused or not."""
    faults = [f"says {word!r}" for word in NEVER if word in result.stderr + result.stdout]
    if result.exit_code < 0:
        faults.append(f"ended by signal {-result.exit_code}")
    if len(result.stderr) > LONGEST:
        faults.append(f"an error of {len(result.stderr)} characters")
    return faults
