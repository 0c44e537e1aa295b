"""`jubako oci pause`: stop every process of a container for a while."""

from __future__ import annotations

from jubako.cli.flags import Command, Values
from jubako.cli.oci_flags import ID, changing

COMMAND = Command("oci pause", "stop every process of a container for a while", (), (ID,))


def run(values: Values) -> int:
    from jubako.oci.pausing import pause

    with changing(values.id) as (container, state):
        pause(container.id, state.cgroup, container.status(state))
    return 0
