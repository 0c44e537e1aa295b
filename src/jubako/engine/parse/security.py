"""`--security-opt`: the filter, no_new_privs, masked paths; what we cannot keep is refused, never passed over.

`KEY=VALUE` and docker's old `KEY:VALUE` are both read.
"""

from __future__ import annotations

from jubako.engine.parse.sizes import parse_bool, refuse
from jubako.record import record

DEFAULT, UNCONFINED = "default", "unconfined"


@record
class SecurityChoice:
    """What was asked for: `seccomp` is "default", "unconfined" or a file; None for `no_new_privileges` is not said.

    `unmask` holds paths, which may end in `*`, or "ALL". `proc_options` are for the mount of /proc.
    """

    seccomp: str = DEFAULT
    no_new_privileges: bool | None = None
    mask: tuple[str, ...] = ()
    unmask: tuple[str, ...] = ()
    proc_options: tuple[str, ...] = ()


def parse_security(values: tuple[str, ...]) -> SecurityChoice:
    """All `--security-opt` together; of one kind, the last counts, except paths, which add up."""
    seccomp, no_new_privileges = DEFAULT, None
    mask: list[str] = []
    unmask: list[str] = []
    proc_options: list[str] = []
    for value in values:
        key, argument = _split(value)
        if key == "seccomp" and argument:
            seccomp = argument
        elif key == "no-new-privileges":
            no_new_privileges = parse_bool(argument or "true", "security-opt", value)
        elif key in ("mask", "unmask") and argument:
            (mask if key == "mask" else unmask).extend(_paths(key, argument, value))
        elif key == "systempaths" and argument == UNCONFINED:
            unmask.append("ALL")
        elif key == "proc-opts" and argument:
            proc_options.extend(argument.split(","))
        elif key in ("label", "apparmor"):
            _refuse_labels(key, argument, value)
        else:
            raise refuse(
                "security-opt",
                value,
                "there is no such option",
                "seccomp=FILE|unconfined, no-new-privileges[=BOOL], mask=PATH:PATH, unmask=ALL|PATH:PATH, "
                "proc-opts=OPTIONS, systempaths=unconfined, label=disable, apparmor=unconfined",
            )
    return SecurityChoice(seccomp, no_new_privileges, tuple(mask), tuple(unmask), tuple(proc_options))


def is_unmasked(path: str, unmask: tuple[str, ...]) -> bool:
    """Whether `path`, one of the default masked or read-only paths, was asked to be left as it is."""
    for pattern in unmask:
        if pattern == "ALL" or path == pattern:
            return True
        if pattern.endswith("*") and path.startswith(pattern.rstrip("*")):
            return True
    return False


def _split(value: str) -> tuple[str, str]:
    for position, character in enumerate(value):
        if character in "=:":
            return value[:position], value[position + 1 :]
    return value, ""


def _paths(key: str, argument: str, value: str) -> list[str]:
    if key == "unmask" and argument.upper() == "ALL":
        return ["ALL"]
    paths = argument.split(":")
    for path in paths:
        if not path.startswith("/") or "/../" in path + "/":
            raise refuse("security-opt", value, f"{path!r} must be an absolute path without ..")
        if "*" in path and (key == "mask" or "*" in path.rstrip("*")):
            raise refuse("security-opt", value, f"{path!r}: a * may only stand at the end, and only to unmask")
    return [path.rstrip("/") or "/" for path in paths]


def _refuse_labels(key: str, argument: str, value: str) -> None:
    if argument == ("disable" if key == "label" else UNCONFINED):
        return
    what = "SELinux labels" if key == "label" else "AppArmor profiles"
    allowed = "label=disable" if key == "label" else "apparmor=unconfined"
    raise refuse("security-opt", value, f"{what} are not set by jubako", f"leave it out, or say {allowed}")
