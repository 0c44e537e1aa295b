"""`jubako oci ps`: list the processes of a container."""

from __future__ import annotations

import os

from jubako.cli.flags import ANY, Argument, Command, Flag, Values
from jubako.cli.oci_flags import ID, find

COMMAND = Command(
    "oci ps",
    "list the processes of a container",
    (Flag(("-f", "--format"), "how: json is an array of pids", choices=("table", "json"), default="table"),),
    (ID, Argument("PS-OPTIONS", "words", ANY, help="options for ps(1) (-ef)")),
    interspersed=False,
    usage=("[OPTIONS] ID [PS-OPTIONS...]",),
)


def run(values: Values) -> int:
    from jubako import jsontext
    from jubako.errors import UsageError
    from jubako.oci.processes import container_pids, show_processes
    from jubako.oci.state import lives

    container = find(values.id)
    state = container.read()
    if not lives(state) and not state.cgroup:
        raise UsageError("list processes of container", container.id, reason="container not running")
    pids = container_pids(state.cgroup, state.pid)
    text = jsontext.dumps(list(pids)) + "\n" if values.format == "json" else show_processes(pids, values.words)
    os.write(1, text.encode("utf-8", "surrogateescape"))
    return 0
