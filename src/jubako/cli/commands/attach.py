"""`jubako attach`: connect to the streams of a running container."""

from __future__ import annotations

from jubako.cli.container_flags import CONTAINER, find
from jubako.cli.flags import SWITCH, Command, Flag, Values
from jubako.cli.run_flags import DETACH_KEYS_FLAG, SIG_PROXY_FLAG

COMMAND = Command(
    "attach",
    "connect to the input and output of a running container",
    flags=(
        Flag(("--no-stdin",), "only its output", SWITCH),
        DETACH_KEYS_FLAG,
        SIG_PROXY_FLAG,
    ),
    arguments=(CONTAINER,),
    description="""
        Shows what is written from now on ('jubako logs' has the rest), until the container ends or the detach keys are
        typed. The exit status is the program's.
    """,
)


def run(values: Values) -> int:
    from jubako.engine.attaching import attach_container
    from jubako.engine.starting import StartOptions
    from jubako.paths import find_paths

    options = StartOptions(True, not values.no_stdin, values.detach_keys, values.sig_proxy)
    return attach_container(find_paths(), find(values.container), options)
