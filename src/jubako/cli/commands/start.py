"""`jubako start`: run a container that exists."""

from __future__ import annotations

from jubako.cli.container_flags import ALL_FLAG, ANY_CONTAINERS, chosen, find
from jubako.cli.flags import SWITCH, Command, Flag, Values
from jubako.cli.output import do_each
from jubako.cli.run_flags import DETACH_KEYS_FLAG, SIG_PROXY_FLAG
from jubako.errors import UsageError
from jubako.record import replace

COMMAND = Command(
    "start",
    "start containers that were made before, or have ended",
    flags=(
        Flag(("-a", "--attach"), "show the output and wait; the exit status is the program's", SWITCH),
        Flag(("-i", "--interactive"), "with input, too", SWITCH),
        replace(ALL_FLAG, names=("--all",), help="all containers that do not run"),
        DETACH_KEYS_FLAG,
        SIG_PROXY_FLAG,
    ),
    arguments=(ANY_CONTAINERS,),
    description="""
        The container has the files that it left. One that runs already is left alone.
    """,
    examples=(("Made now, run later.", "jubako create --name job busybox echo hello\njubako start -a job"),),
)


def run(values: Values) -> int:
    from jubako.engine.starting import StartOptions, start_existing
    from jubako.paths import find_paths

    names = chosen("start", values, ("created", "exited"))
    paths = find_paths()
    if values.attach or values.interactive:
        if len(names) != 1:
            raise UsageError("start", "--attach", reason="only one container can be watched")
        options = StartOptions(True, values.interactive, values.detach_keys, values.sig_proxy)
        return start_existing(paths, find(names[0]), options)

    def start(name: str) -> None:
        start_existing(paths, find(name))
        print(name, flush=True)

    return do_each(names, start)
