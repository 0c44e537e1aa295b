"""A bundle on disk becomes a checked document with absolute paths (OCI runtime-spec 1.3, bundle.md)."""

from __future__ import annotations

import os

from jubako import jsontext
from jubako.errors import JubakoError, UsageError
from jubako.record import record, replace
from jubako.spec.environment import last_wins
from jubako.spec.load import load, load_process
from jubako.spec.types import Process, Spec

CONFIG = "config.json"
LARGEST = 1 << 25
"""A document of more bytes is no container's."""


@record
class Bundle:
    """`text` is config.json as it stands; in `spec` the root's path is absolute and without links."""

    path: str
    text: bytes
    spec: Spec


def read_bundle(path: str) -> Bundle:
    """The bundle in the directory `path`. Raises `UsageError` with the JSON path of what is wrong in its config.json,
    and `JubakoError` where it or its root file system is missing."""
    directory = os.path.abspath(path)
    text = read_text(f"{directory}/{CONFIG}", "a bundle holds config.json and the root file system")
    spec = read_config(text)
    if not spec.process.args:
        raise UsageError("read", CONFIG, reason="process.args: is required")
    rootfs = os.path.join(directory, spec.root.path)
    try:
        os.close(os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as failure:
        raise JubakoError.from_os_error("use the root file system", rootfs, failure, "root.path names it") from failure
    program = replace(spec.process, env=last_wins(spec.process.env))
    spec = replace(spec, root=replace(spec.root, path=os.path.realpath(rootfs)), process=program)
    return Bundle(directory, text, spec)


def read_config(text: bytes, subject: str = CONFIG) -> Spec:
    """The document in `text`. Raises `UsageError`."""
    return load(parse(text, subject), subject)


def read_process(path: str) -> Process:
    """The process of `exec --process`. Raises `UsageError` and `JubakoError`."""
    return load_process(parse(read_text(path), path), path)


def parse(text: bytes, subject: str) -> object:
    """The JSON value in `text`. Raises `UsageError`."""
    try:
        return jsontext.loads(text)
    except (ValueError, RecursionError) as failure:
        raise UsageError("read", subject, reason=str(failure) or "nested too deeply") from None


def read_text(path: str, hint: str = "") -> bytes:
    """A regular file's bytes, as many as a document may have. Raises `JubakoError`."""
    import stat

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as failure:
        raise JubakoError.from_os_error("read", path, failure, hint) from failure
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise JubakoError("read", path, reason="it is no regular file")
        if status.st_size > LARGEST:
            raise JubakoError("read", path, reason=f"{status.st_size} bytes are more than {LARGEST >> 20} MiB")
        with open(fd, "rb", buffering=0, closefd=False) as file:
            return b"".join(iter(lambda: file.read(1 << 20), b""))
    except OSError as failure:
        raise JubakoError.from_os_error("read", path, failure) from failure
    finally:
        os.close(fd)
