"""`jubako oci exec`: run one more program in a container."""

from __future__ import annotations

from jubako.cli.flags import ANY, LIST, SWITCH, Argument, Command, Flag, Values
from jubako.cli.oci_flags import CONSOLE_SOCKET, DETACH, ID, PID_FILE, PRESERVE_FDS, find
from jubako.errors import JubakoError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.oci.exec import ExecOptions

_EXIT_FAILED = 255  # as runc's exec: a program's own 1 must not look like the runtime's

COMMAND = Command(
    "oci exec",
    "run one more program in a container",
    (
        Flag(("-p", "--process"), "the whole process as JSON, as in config.json", metavar="FILE", completes="file"),
        Flag(("-t", "--tty"), "with a terminal of its own", SWITCH),
        Flag(("-u", "--user"), "run as this user, in numbers", metavar="UID[:GID]"),
        Flag(("-g", "--additional-gids"), "one more group, in numbers", LIST, metavar="GID", field="additional_gids"),
        Flag(("--cwd",), "the working directory in the container", metavar="DIR"),
        Flag(("-e", "--env"), "set a variable", LIST, metavar="NAME=VALUE"),
        Flag(("-c", "--cap"), "one more capability", LIST, metavar="NAME"),
        Flag(("--no-new-privs",), "no execve gains privileges", SWITCH, field="no_new_privs"),
        Flag(("--apparmor",), "the profile of AppArmor for the program", metavar="PROFILE"),
        Flag(("--process-label",), "the label of SELinux for the program", metavar="LABEL"),
        Flag(("--cgroup",), "a control group below the container's own", metavar="PATH"),
        Flag(("--ignore-paused",), "also where the container is paused", SWITCH),
        CONSOLE_SOCKET,
        PID_FILE,
        PRESERVE_FDS,
        DETACH,
    ),
    (ID, Argument("COMMAND", "words", ANY, help="the program and its arguments, unless --process says it")),
    description="""
        The exit status is the program's, 128 + N when signal N ended it, 255 when the runtime failed. The program is a
        child of this command, which with --detach ends as soon as it runs.
    """,
    examples=(
        ("A shell.", "jubako oci exec -t c1 sh"),
        ("As engines do it.", "jubako oci exec --process process.json --detach --pid-file p.pid c1"),
    ),
    interspersed=False,
)


def run(values: Values) -> int:
    from jubako.oci.exec import exec_in

    try:
        return exec_in(find(values.id), _options(values))
    except JubakoError as failure:
        failure.runtime_exit_code = _EXIT_FAILED
        raise


def _options(values: Values) -> ExecOptions:
    from jubako.oci.bundle import read_process
    from jubako.oci.exec import ExecOptions
    from jubako.spec.passwd import parse_id

    if values.process and values.words:
        raise UsageError("combine --process with a command", values.words[0], reason="each of them says what to run")
    if not values.process and not values.words:
        raise UsageError("oci exec", values.id, reason="no command was given", hint="or pass --process FILE")
    groups = [parse_id(text) for text in values.additional_gids]
    if None in groups:
        raise UsageError("use --additional-gids", values.additional_gids[groups.index(None)], reason="not a number")
    return ExecOptions(
        args=values.words,
        process=read_process(values.process) if values.process else None,
        terminal=values.tty,
        cwd=values.cwd,
        env=values.env,
        user=_given(values, "user"),
        additional_gids=tuple(gid for gid in groups if gid is not None),
        caps=values.cap,
        no_new_privs=values.no_new_privs,
        apparmor=values.apparmor,
        process_label=values.process_label,
        console_socket=values.console_socket,
        pid_file=values.pid_file,
        preserve_fds=values.preserve_fds,
        detached=values.detach,
        cgroup=values.cgroup,
        ignore_paused=values.ignore_paused,
    )


def _given(values: Values, field: str) -> str:
    text: str = getattr(values, field)
    if field in values.given and not text:
        raise UsageError(f"use --{field}", "''", reason="it is empty")
    return text
