"""The program of a container: command, environment, user, capabilities and limits, merged as docker merges them."""

from __future__ import annotations

from jubako import jsontext
from jubako.engine.extras import HOST, HOST_OVERLAY, Context, RootSource
from jubako.engine.options import RunOptions
from jubako.engine.parse.security import SecurityChoice
from jubako.engine.parse.sizes import parse_octal, refuse
from jubako.errors import UsageError
from jubako.image.model import ImageConfig
from jubako.plan.capabilities import bounding_set, process_sets
from jubako.spec.defaults import DEFAULT_PATH
from jubako.spec.passwd import parse_id
from jubako.spec.types import Capabilities, Process, Rlimit, User

DEFAULT_UMASK = 0o022


def build_process(
    options: RunOptions,
    image: ImageConfig,
    root: RootSource,
    hostname: str,
    security: SecurityChoice,
    context: Context,
) -> Process:
    """The OCI process of a request; `hostname` is what the program will see as HOSTNAME."""
    user = _user(options, image)
    if options.oom_score_adj is not None and not -1000 <= options.oom_score_adj <= 1000:
        raise refuse("oom-score-adj", str(options.oom_score_adj), "must lie between -1000 and 1000")
    said = security.no_new_privileges
    return Process(
        terminal=options.tty,
        cwd=_working_directory(options, image),
        env=build_environment(options, image, hostname, context),
        args=build_command(options, image, root),
        user=user,
        capabilities=_capabilities(options, user, context),
        rlimits=_rlimits(options.ulimit),
        no_new_privileges=not options.privileged if said is None else said,
        oom_score_adj=options.oom_score_adj,
    )


def build_command(options: RunOptions, image: ImageConfig, root: RootSource) -> tuple[str, ...]:
    """The argument vector: entrypoint, then command. An entrypoint of the caller's own drops the image's CMD."""
    command = options.command
    if root.kind in (HOST, HOST_OVERLAY) and command[:1] == ("--",):
        command = command[1:]
    if options.entrypoint is None:
        entrypoint = image.entrypoint or ()
    else:
        entrypoint = parse_entrypoint(options.entrypoint)
    if not command and (options.entrypoint is None or not entrypoint):
        command = image.cmd or ()
    if not entrypoint and not command and root.kind in (HOST, HOST_OVERLAY):
        command = ("/bin/sh",)
    result = (*entrypoint, *command)
    if not result or not result[0]:
        raise UsageError(
            "run",
            root.image or root.path,
            reason="there is no command to run" if not result else "the command's name is empty",
            hint="name one after the image, as in `jubako run IMAGE /bin/sh`",
        )
    for argument in result:
        if "\0" in argument:
            raise UsageError("run", repr(argument), reason="an argument cannot hold a NUL character")
    return result


def parse_entrypoint(text: str) -> tuple[str, ...]:
    """The value of --entrypoint: a program, or a JSON array of strings; empty for none."""
    if not text.startswith("[") or text == "[":
        return (text,) if text else ()
    try:
        words = jsontext.loads(text)
    except ValueError as error:
        raise refuse("entrypoint", text, f"not a JSON array: {error}") from None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise refuse("entrypoint", text, "must be an array of strings")
    return tuple(words)


def build_environment(options: RunOptions, image: ImageConfig, hostname: str, context: Context) -> tuple[str, ...]:
    """NAME=VALUE, each name once. Later sources win: the caller's (--env-host), the defaults, the image, files, flags.

    HOME is not among them unless someone set it: it stands in the container's passwd, which is read inside.
    """
    caller = context.environment()
    merged: dict[str, str] = dict(caller) if options.env_host else {}
    merged["PATH"] = DEFAULT_PATH
    if options.tty:
        merged["TERM"] = caller.get("TERM") or "xterm"
    merged["container"] = "jubako"
    merged["HOSTNAME"] = hostname
    for entry in image.env:
        name, _, value = entry.partition("=")
        if name:
            merged[name] = value
    if options.unsetenv_all:
        merged.clear()
    for name in options.unsetenv:
        merged.pop(name, None)
    if options.env_file or options.env:
        from jubako.engine.parse.env import parse_env, read_env_file

        for path in options.env_file:
            merged.update(read_env_file(path, caller))
        merged.update(parse_env(options.env, caller))
    return tuple(f"{name}={value}" for name, value in merged.items())


def _rlimits(values: tuple[str, ...]) -> tuple[Rlimit, ...]:
    if not values:
        return ()
    from jubako.engine.parse.ulimit import parse_ulimits

    return parse_ulimits(values)


def _working_directory(options: RunOptions, image: ImageConfig) -> str:
    asked = options.workdir
    if asked and not asked.startswith("/"):
        raise refuse("workdir", asked, "must be an absolute path in the container")
    if "\0" in asked:
        raise refuse("workdir", asked, "a path cannot hold a NUL character")
    parts = (asked or image.working_dir).split("/")
    kept: list[str] = []
    for part in parts:
        if part == "..":
            kept = kept[:-1]
        elif part not in ("", "."):
            kept.append(part)
    return "/" + "/".join(kept)


def _user(options: RunOptions, image: ImageConfig) -> User:
    """The user as it was named, with what its numbers say already; names are looked up inside."""
    name = options.user or image.user
    user_part, _, group_part = name.partition(":")
    numbers = (parse_id(group) for group in options.group_add)
    return User(
        uid=parse_id(user_part) or 0,
        gid=parse_id(group_part) or 0,
        umask=parse_octal(options.umask, "umask", 0o777) if options.umask else DEFAULT_UMASK,
        additional_gids=tuple(dict.fromkeys(number for number in numbers if number is not None)),
        username=name,
    )


def _capabilities(options: RunOptions, user: User, context: Context) -> Capabilities:
    add = ("ALL",) if options.privileged else options.cap_add
    bounding = bounding_set(add, options.cap_drop, last_cap=context.last_cap)
    name = user.username.partition(":")[0]
    return process_sets(bounding, add, root=name in ("", "root") or parse_id(name) == 0)
