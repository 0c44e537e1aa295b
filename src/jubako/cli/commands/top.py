"""`jubako top`: the processes of a container, by its own numbers and the host's, or as ps(1) shows them."""

from __future__ import annotations

from jubako.cli.container_flags import CONTAINER, find
from jubako.cli.flags import ANY, SWITCH, Argument, Command, Flag, Values
from jubako.cli.main import printable
from jubako.cli.output import FORMAT_FLAG, JSON_FLAG, Column, print_rows

COMMAND = Command(
    "top",
    "show the processes of a container",
    flags=(
        Flag(("--noheading",), "print no line of titles", SWITCH, field="no_heading", group="Output"),
        Flag(("--no-trunc",), "shorten nothing", SWITCH, group="Output"),
        FORMAT_FLAG,
        JSON_FLAG,
    ),
    arguments=(
        CONTAINER,
        Argument(
            "PS_OPTION", "options", ANY, help="show what the host's ps(1) shows with these; it must have a column PID"
        ),
    ),
    interspersed=False,
    description="""
        UID, PID and PPID are the container's own numbers, HPID is the host's. Programs that 'jubako exec' started are
        there too.
    """,
    examples=(
        ("Process ids of the host.", "jubako top --format '{{.HPID}}' web"),
        ("Memory and commands.", "jubako top web -eo pid,rss,args"),
    ),
)


def run(values: Values) -> int:
    from jubako.engine.processes import list_processes, process_table
    from jubako.paths import find_paths

    container = find(values.container)
    if values.options:
        for line in process_table(find_paths(), container, values.options):
            print(printable(line))
        return 0
    rows = [
        {
            "UID": process.uid,
            "PID": process.pid,
            "PPID": process.ppid,
            "HPID": process.host_pid,
            "State": process.state,
            "Elapsed": process.elapsed,
            "Time": process.cpu,
            "Command": process.command,
        }
        for process in list_processes(find_paths(), container)
    ]
    print_rows(values, rows, _COLUMNS)
    return 0


def _clock(seconds: float) -> str:
    """`1-02:03:04`, as ps(1) writes spans of time."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return (f"{days}-" if days else "") + f"{hour:02}:{minute:02}:{second:02}"


_COLUMNS = (
    Column("UID", "UID", show=lambda uid: "?" if uid < 0 else str(uid), no_trunc_show=str),
    Column("PID", "PID"),
    Column("PPID", "PPID"),
    Column("HPID", "HPID"),
    Column("STATE", "State"),
    Column("ELAPSED", "Elapsed", show=_clock, no_trunc_show=_clock),
    Column("TIME", "Time", show=_clock, no_trunc_show=_clock),
    Column("COMMAND", "Command", shrinks=True),
)
