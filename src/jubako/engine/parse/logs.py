"""`--log-driver` and `--log-opt`: whether output is kept, and how much of it."""

from __future__ import annotations

from jubako.engine.parse.sizes import parse_size, refuse
from jubako.record import record

NONE = "none"
_FILES = ("", "k8s-file", "json-file")  # the second is podman's other name for the first
_KEPT = "2"  # the file in use and an older one


@record
class LogRequest:
    """Whether there is a log, and from how many bytes on it is begun anew (0: never), the older part being kept."""

    kept: bool = True
    limit: int = 0


def parse_log(driver: str, options: tuple[str, ...]) -> LogRequest:
    """What the two flags ask for. Raises `UsageError` for drivers and options that there are not."""
    if driver not in (NONE, *_FILES):
        raise refuse("log-driver", driver, "there is no such log driver", "there are k8s-file and none")
    limit = 0
    for option in options:
        key, _equals, value = option.partition("=")
        if key == "max-size":
            limit = 0 if value == "-1" else parse_size(value, "log-opt", option)
        elif key == "max-file":
            if value != _KEPT:
                raise refuse("log-opt", option, "one older file is kept, so there are two", "leave it out")
        else:
            raise refuse("log-opt", option, "there is no such option", "there are max-size=SIZE and max-file=2")
    return LogRequest(driver != NONE, limit)
