"""`jubako oci run`: create and start a container, wait for its end and delete it."""

from __future__ import annotations

from jubako.cli import oci
from jubako.cli.commands.oci.create import options
from jubako.cli.flags import SWITCH, Command, Flag, Values
from jubako.cli.oci_flags import CREATION, DETACH, ID

COMMAND = Command(
    "oci run",
    "create and start a container, wait for its end and delete it",
    (
        *CREATION,
        DETACH,
        Flag(("--keep",), "do not delete it at its end", SWITCH),
        Flag(("--no-subreaper",), "do not take over what the program leaves behind", SWITCH, field="no_subreaper"),
    ),
    (ID,),
    description="""
        The exit status is the program's, 128 + N when signal N ended it, 1 when the runtime failed. Signals are passed
        on. With a terminal (process.terminal) the caller's own is relayed.
    """,
    examples=(
        ("A bundle from nothing but a root file system.", "jubako oci spec --rootless && jubako oci run c1"),
        ("In the background.", "jubako oci run --detach --pid-file c1.pid --bundle ./bundle c1"),
    ),
)


def run(values: Values) -> int:
    from jubako.oci.running import run as run_bundle

    wanted = options(values, detached=values.detach)
    return run_bundle(wanted, oci.warn, keep=values.keep, subreaper=not values.no_subreaper)
