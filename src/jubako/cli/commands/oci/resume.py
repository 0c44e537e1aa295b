"""`jubako oci resume`: let a paused container go on."""

from __future__ import annotations

from jubako.cli.flags import Command, Values
from jubako.cli.oci_flags import ID, changing

COMMAND = Command("oci resume", "let a paused container go on", (), (ID,))


def run(values: Values) -> int:
    from jubako.oci.pausing import resume

    with changing(values.id) as (container, state):
        resume(container.id, state.cgroup, container.status(state))
    return 0
