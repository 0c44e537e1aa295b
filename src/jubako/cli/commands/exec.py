"""`jubako exec`: run another program in a running container."""

from __future__ import annotations

from jubako.cli.flags import ANY, LIST, NUMBER, SWITCH, Argument, Command, Flag, Values, field_of
from jubako.cli.run_flags import DETACH_KEYS_FLAG
from jubako.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.engine.exec import ExecOptions

COMMAND = Command(
    "exec",
    "run a command in a running container",
    flags=(
        Flag(("-d", "--detach"), "do not wait for it", SWITCH),
        Flag(("-i", "--interactive"), "keep standard input open", SWITCH),
        Flag(("-t", "--tty"), "give the program a terminal of its own", SWITCH),
        Flag(("-e", "--env"), "set a variable", LIST, metavar="NAME[=VALUE]", completes="variable"),
        Flag(("--env-file",), "read variables from FILE, one a line", LIST, metavar="FILE", completes="file"),
        Flag(("-u", "--user"), "run as this user of the container", metavar="USER[:GROUP]"),
        Flag(("-w", "--workdir"), "start in DIR", metavar="DIR"),
        Flag(("--privileged",), "with every capability that the container's user namespace can have", SWITCH),
        Flag(("--preserve-fds",), "pass on N descriptors from 3 upwards", NUMBER),
        DETACH_KEYS_FLAG,
    ),
    arguments=(
        Argument("CONTAINER", "container", completes="container"),
        Argument("COMMAND", "words", ANY, completes="file"),
    ),
    description="""
        The program joins every namespace of the container, its cgroup, its limits and its system call filter, with the
        capabilities that the container was given. Flags end at CONTAINER. The exit status is the program's.
    """,
    examples=(
        ("Look around.", "jubako exec -it web sh"),
        ("One command as another user.", "jubako exec -u nobody web id"),
    ),
    interspersed=False,
    usage=("[OPTIONS] CONTAINER COMMAND [ARG...]",),
)


def run(values: Values) -> int:
    from jubako.engine.exec import exec_in_container

    return exec_in_container(exec_options(values))


def exec_options(values: Values) -> ExecOptions:
    """The request that the flags and words say."""
    from jubako.engine.exec import ExecOptions

    words: tuple[str, ...] = values.words
    if words[:1] == ("--",):
        words = words[1:]
    if not words:
        raise UsageError("exec", values.container, reason="COMMAND is missing", hint="jubako exec -it CONTAINER sh")
    given = {name: getattr(values, name) for name in values.given if name in _FIELDS}
    return ExecOptions(container=values.container, command=words, **given)


_FIELDS = frozenset(field_of(flag) for flag in COMMAND.flags)
