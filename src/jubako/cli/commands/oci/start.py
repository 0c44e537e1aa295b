"""`jubako oci start`: let a created container's program run."""

from __future__ import annotations

from jubako.cli.flags import Command, Values
from jubako.cli.oci_flags import ID, find

COMMAND = Command("oci start", "let a created container's program run", (), (ID,))


def run(values: Values) -> int:
    from jubako.oci.start import start

    start(find(values.id))
    return 0
