"""Paths on either side of a mount: the host's, relative to the caller's directory, and the container's, absolute."""

from __future__ import annotations

import os

from jubako.engine.parse.sizes import refuse


def parse_target(text: str, flag: str, value: str) -> str:
    """A path in the container: absolute, without `..`, not the root itself; returned without needless slashes."""
    if not text:
        raise refuse(flag, value, "the target in the container is missing")
    if not text.startswith("/"):
        raise refuse(flag, value, f"the target {text!r} must be an absolute path in the container")
    if "\0" in text:
        raise refuse(flag, value, "a path cannot hold a NUL character")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise refuse(flag, value, f"the target {text!r} must not contain '..'")
    if not parts:
        raise refuse(flag, value, "the container's root cannot be a target")
    return "/" + "/".join(parts)


def parse_source(text: str, directory: str, flag: str, value: str) -> str:
    """A path on the host; a relative one counts from `directory`. Whether it is there is asked later."""
    if not text:
        raise refuse(flag, value, "the source on the host is missing")
    if "\0" in text:
        raise refuse(flag, value, "a path cannot hold a NUL character")
    path = os.path.join(directory, text)
    if not path.startswith("/"):
        raise refuse(flag, value, "a relative path needs a working directory, and this process's was removed")
    # `x/..` is the parent of what x leads to, which only the file system can tell.
    return os.path.realpath(path) if ".." in path.split("/") else os.path.normpath(path)
