"""`jubako oci state`: print the state of a container."""

from __future__ import annotations

import os

from jubako.cli.flags import Command, Values
from jubako.cli.oci_flags import ID, find

COMMAND = Command(
    "oci state",
    "print the state of a container",
    (),
    (ID,),
    description="""
        Prints the JSON document of the OCI runtime specification: ociVersion, id, status (creating, created, running,
        paused, stopped), pid, bundle and annotations, and as runc does also rootfs, created and owner.
    """,
)


def run(values: Values) -> int:
    from jubako import jsontext
    from jubako.oci.state import report

    container = find(values.id)
    state = container.read()
    text = jsontext.dumps(report(container, state, container.status(state)), 2)
    os.write(1, text.encode("utf-8", "surrogateescape") + b"\n")
    return 0
