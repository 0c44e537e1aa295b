"""`jubako oci events`: print what a container uses, again and again."""

from __future__ import annotations

import os

from jubako.cli.flags import SWITCH, Command, Flag, Values
from jubako.cli.oci_flags import ID, find

COMMAND = Command(
    "oci events",
    "print what a container uses, again and again",
    (
        Flag(("--interval",), "how often", metavar="DURATION", default="5s"),
        Flag(("--stats",), "once, and end", SWITCH),
    ),
    (ID,),
    description="""
        One JSON document a line, in runc's form: what the container's control group uses, and each time that the kernel
        killed one of its processes for want of memory. Ends with the container.
    """,
)


def run(values: Values) -> int:
    from jubako import jsontext
    from jubako.oci.events import read_interval, stats_event, stream_events

    container = find(values.id)
    state = container.read()
    status = container.status(state)
    if values.stats:
        events = iter((stats_event(container.id, state.cgroup, status),))
    else:
        events = stream_events(container.id, state.cgroup, status, read_interval(values.interval))
    for event in events:
        os.write(1, jsontext.dumps(event).encode() + b"\n")
    return 0
