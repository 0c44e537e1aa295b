"""The library's keyword options: `RunOptions` in Python's words, and the template that a launcher understands.

An option is named as its flag of `jubako run`; what may be repeated takes a sequence. A few names are friendlier:
`volumes` and `env` take a mapping too, `network` and the like the same text as the flag.
"""

from __future__ import annotations

import os

from jubako import jsontext
from jubako.engine.options import RunOptions
from jubako.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypedDict

    Arguments = Sequence[str | bytes | os.PathLike[str]]
    Environment = Mapping[str, str] | Sequence[str]
    Volumes = Mapping[str, str] | Sequence[str]

    class Options(TypedDict, total=False):
        """How a container is made: the flags of `jubako run`, see `RunOptions`."""

        image: str
        rootfs: str | os.PathLike[str]
        volumes: Volumes
        env: Environment
        env_file: Sequence[str]
        env_host: bool
        unsetenv: Sequence[str]
        unsetenv_all: bool
        entrypoint: str | None
        init: bool
        workdir: str
        user: str
        group_add: Sequence[str]
        umask: str
        ulimit: Sequence[str]
        oom_score_adj: int
        hostname: str
        domainname: str
        add_host: Sequence[str]
        no_hosts: bool
        dns: Sequence[str]
        dns_search: Sequence[str]
        dns_option: Sequence[str]
        mount: Sequence[str]
        tmpfs: Sequence[str]
        read_only: bool
        read_only_tmpfs: bool
        device: Sequence[str]
        shm_size: str
        propagation: str
        no_pivot: bool
        storage: str
        cap_add: Sequence[str]
        cap_drop: Sequence[str]
        security_opt: Sequence[str]
        privileged: bool
        sysctl: Sequence[str]
        pid: str
        ipc: str
        uts: str
        network: str
        allow: Sequence[str]
        cgroupns: str
        userns: str
        ns: Sequence[str]
        time_offset: Sequence[str]
        uidmap: Sequence[str]
        gidmap: Sequence[str]


KNOWN = frozenset(
    (
        "image", "rootfs", "entrypoint", "init", "env", "env_file", "env_host", "unsetenv", "unsetenv_all", "workdir",
        "user", "group_add", "umask", "ulimit", "oom_score_adj", "hostname", "domainname", "add_host", "no_hosts",
        "dns", "dns_search", "dns_option", "volume", "volumes", "mount", "tmpfs", "read_only", "read_only_tmpfs",
        "device", "shm_size", "propagation", "no_pivot", "storage", "cap_add", "cap_drop", "security_opt", "privileged",
        "sysctl",
        "pid", "ipc", "uts", "network", "allow", "cgroupns", "userns", "ns", "time_offset", "uidmap", "gidmap",
    )
)  # fmt: skip
_PLACEHOLDER = "\x1a"


def build_template(options: Mapping[str, object], *, command: bool) -> tuple[bytes, tuple[bytes, ...]]:
    """The template for a launcher and the environment beside it, from keyword options.

    `command` says that each call brings arguments of its own; else the image's command runs. Raises `UsageError` for an
    option there is none of; the values are judged by the launcher, where the container is planned.
    """
    values: dict[str, object] = {}
    environment: tuple[bytes, ...] = ()
    for name, value in options.items():
        if name not in KNOWN:
            raise UsageError("use option", name, reason="the library has none of this name", hint=_near(name))
        if value is None:
            continue
        if name == "env":
            environment = encode_environment(value)  # type: ignore[arg-type]
        elif name in ("volume", "volumes"):
            values["volume"] = [*values.get("volume", ()), *_volumes(value)]  # type: ignore[misc]
        elif isinstance(value, os.PathLike):
            values[name] = os.fspath(value)
        elif isinstance(value, str | bool | int):
            values[name] = [value] if isinstance(getattr(RunOptions, name, None), tuple) else value
        else:
            values[name] = [os.fspath(item) for item in value]  # type: ignore[attr-defined]
    if not values.get("rootfs"):
        values.setdefault("image", "host")
    if command:
        values["command"] = [_PLACEHOLDER]
    document: dict[str, object] = {"options": values, "directory": os.getcwd()}
    if "env_host" in values or "env_file" in values:
        document["environment"] = dict(os.environ)
    return jsontext.dumps(document).encode("utf-8", "surrogateescape"), environment


def encode_environment(variables: Environment) -> tuple[bytes, ...]:
    """NAME=VALUE entries of a mapping, or of a sequence in which NAME and PREFIX* are taken from this process."""
    if isinstance(variables, str | bytes):
        raise UsageError("use env", repr(variables), reason="a mapping or a sequence of NAME=VALUE is needed")
    if hasattr(variables, "items"):
        entries = tuple(f"{name}={value}" for name, value in variables.items())
        named = [entry for entry, name in zip(entries, variables, strict=True) if not name or "=" in name]
        if named:
            raise UsageError("use env", repr(named[0]), reason="a variable's name cannot be empty or hold '='")
    else:
        from jubako.engine.parse.env import parse_env

        entries = tuple(f"{name}={value}" for name, value in parse_env(variables, os.environ).items())
    for entry in entries:
        if "\0" in entry:
            raise UsageError("use env", repr(entry), reason="a variable cannot hold a NUL character")
    return tuple(os.fsencode(entry) for entry in entries)


def encode_arguments(arguments: Arguments) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
    """The argument vector as text, for people, and as bytes. A string alone is refused: no shell would split it."""
    if isinstance(arguments, str | bytes):
        raise UsageError(
            "run", repr(arguments), reason="the command must be a sequence of arguments",
            hint=f'["sh", "-c", {arguments!r}] has a shell of the container read it',
        )  # fmt: skip
    encoded = tuple(os.fsencode(argument) for argument in arguments)
    for argument in encoded:
        if b"\0" in argument:
            raise UsageError("run", repr(argument), reason="an argument cannot hold a NUL character")
    if encoded and not encoded[0]:
        raise UsageError("run", "''", reason="the command's name is empty")
    return tuple(os.fsdecode(argument) for argument in encoded), encoded


def _volumes(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if hasattr(value, "items"):
        return tuple(f"{os.fspath(source)}:{target}" for source, target in value.items())
    return tuple(value)  # type: ignore[arg-type]


def _near(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, sorted(KNOWN), 1)
    return f"did you mean {near[0]}?" if near else "jubako run --help shows what there is"
