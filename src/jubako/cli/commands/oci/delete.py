"""`jubako oci delete`: remove what create made."""

from __future__ import annotations

from jubako.cli import oci
from jubako.cli.flags import SWITCH, Command, Flag, Values
from jubako.cli.oci_flags import ID, find

COMMAND = Command(
    "oci delete",
    "remove what create made",
    (
        Flag(("-f", "--force"), "kill it first if it is there, and be content if it is not", SWITCH),
        Flag(("-r", "--regex"), "every container whose id matches the regular expression ID", SWITCH),
    ),
    (ID,),
    examples=(("Whatever state it is in.", "jubako oci delete --force c1"),),
)


def run(values: Values) -> int:
    from jubako.oci.ending import delete

    if not values.regex:
        delete(find(values.id), oci.warn, force=values.force)
        return 0
    from jubako.oci.regex import matching
    from jubako.oci.state import list_containers

    for container in matching(list_containers(oci.settings.container_root()), values.id):
        delete(container, oci.warn, force=values.force)
    return 0
