"""The command line of the OCI runtime: `jubako oci …`, installed also as `jubako-runtime`; runc's and crun's spelling.

Engines read it, so its rules are theirs: flags before the command, exit status 1 when the runtime fails, the error on
standard error and, with `--log`, as a line of that file.
"""

from __future__ import annotations

import os
import sys

from jubako.cli import table
from jubako.cli.flags import ANY, SWITCH, Argument, Command, Flag, Values, parse
from jubako.errors import JubakoError, UsageError
from jubako.record import record

FLAGS = (
    Flag(
        ("--root",), "keep containers in DIR, which should not outlive the boot", metavar="DIR", completes="directory"
    ),
    Flag(("--log",), "write warnings and errors to FILE too", metavar="FILE", completes="file"),
    Flag(("--log-format",), "the form of a line there", choices=("text", "json"), default="text"),
    Flag(("--log-level",), "taken and not needed: only warnings and errors are written", hidden=True),
    Flag(("--debug",), "print where in jubako an error came from", SWITCH),
    Flag(("--systemd-cgroup",), "have systemd make the control groups; cgroupsPath is SLICE:PREFIX:NAME then", SWITCH),
    Flag(("--cgroup-manager",), "who makes control groups", choices=("cgroupfs", "systemd", "disabled")),
    Flag(
        ("--rootless",), "whether to look for control groups as an ordinary user", choices=("true", "false", "auto"),
        default="auto",
    ),
    Flag(("--criu",), "the program criu", metavar="FILE", hidden=True),
    Flag(("-v", "--version"), "print versions and end", SWITCH),
)  # fmt: skip
_GLOBAL = Command("oci", "the OCI runtime", FLAGS, (Argument("COMMAND", "words", ANY),), interspersed=False)


@record
class Settings:
    """What the flags before the command say."""

    root: str = ""
    log: str = ""
    log_format: str = "text"
    manager: str = "cgroupfs"
    rootless: str = "auto"
    debug: bool = False
    criu: str = ""

    def container_root(self) -> str:
        """The directory that containers are kept in."""
        if self.root:
            return self.root
        from jubako.oci.state import default_root

        return default_root()


settings = Settings()


def run(words: list[str], debug: bool) -> int:
    """Do what the words after `oci` ask for; the exit status."""
    global settings
    try:
        values = parse(_GLOBAL, words)
        settings = _settings(values, debug)
        if values.version:
            return _print_version()
        words = list(values.words)
        if values.help or not words:
            words = ["--help"]
        return _dispatch(words)
    except JubakoError as failure:
        return _report(failure)
    except BrokenPipeError:
        raise  # whoever read our output went away
    except OSError as failure:
        name = failure.filename if isinstance(failure.filename, str | bytes) else ""
        return _report(JubakoError.from_os_error(f"oci {words[0] if words else ''}", os.fsdecode(name), failure))
    except Exception as failure:  # the border: whatever a bug raises becomes one clear line, in the log too
        hint = "this should not happen; 'jubako-runtime --debug ...' shows where it did"
        return _report(JubakoError(type(failure).__name__, reason=str(failure), hint=hint), failure)


def warn(text: str) -> None:
    """Tell of something that went wrong and changes nothing."""
    _log("warning", text)
    _say(f"warning: {text}")


def _dispatch(words: list[str]) -> int:
    from jubako.cli.main import load

    name = table.NOUNS["oci"].get(words[0])
    if name is None:
        if words[0] in ("--help", "-h", "help"):
            from jubako.cli import help as pages

            pages.show(lambda columns, bold: pages.noun_help("oci", columns, bold))
            return 0
        from jubako.cli.flags import nearest

        near = nearest(words[0], table.NOUNS["oci"])
        listing = "'jubako oci --help' lists all commands"
        hint = f"did you mean {near}? {listing}" if near else listing
        raise UsageError(f"oci {words[0]}", reason="unknown command", hint=hint)
    module = load(name)
    values = parse(module.COMMAND, words[1:])
    if values.help:
        from jubako.cli import help as pages

        pages.show(lambda columns, bold: pages.command_help(module.COMMAND, columns, bold))
        return 0
    return module.run(values)


def _settings(values: Values, debug: bool) -> Settings:
    manager = values.cgroup_manager or ("systemd" if values.systemd_cgroup else "cgroupfs")
    if values.systemd_cgroup and values.cgroup_manager and values.cgroup_manager != "systemd":
        raise UsageError("combine --systemd-cgroup with --cgroup-manager", values.cgroup_manager)
    return Settings(
        os.path.abspath(values.root) if values.root else "", values.log, values.log_format, manager, values.rootless,
        debug or values.debug, values.criu,
    )  # fmt: skip


def _print_version() -> int:
    from jubako import __version__
    from jubako.spec.types import OCI_VERSION

    # In crun's form, whose first line podman shows.
    os.write(1, f"jubako version {__version__}\nspec: {OCI_VERSION}\n+SECCOMP +CAP +CGROUP2\n".encode())
    return 0


def _report(failure: JubakoError, cause: Exception | None = None) -> int:
    text = _with_small_letters(failure)
    _log("error", text)
    if settings.debug:
        import traceback

        traceback.print_exception(cause or failure)
    _say(text)
    return failure.runtime_exit_code


def _with_small_letters(failure: JubakoError) -> str:
    """The message with its cause spelt as Go does: `docker run` makes the exit codes 126 and 127 of the very words
    "permission denied" and "no such file or directory"."""
    text = str(failure)
    if failure.errno:
        cause = os.strerror(failure.errno)
        text = text.replace(cause, cause[0].lower() + cause[1:])
    return text


def _say(text: str) -> None:
    from jubako.cli.main import printable

    try:
        sys.stderr.write(f"jubako: {printable(text)}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass  # nobody is there to read it


def _log(level: str, text: str) -> None:
    """One line of the log file; where that cannot be written, standard error has to do."""
    if not settings.log:
        return
    from jubako import jsontext
    from jubako.oci.state import now

    if settings.log_format == "json":
        line = jsontext.dumps({"level": level, "msg": text, "time": now()})
    else:
        line = f"time={jsontext.quote(now())} level={level} msg={jsontext.quote(text)}"
    try:
        fd = os.open(settings.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o644)
        try:
            os.write(fd, line.encode("utf-8", "surrogateescape") + b"\n")
        finally:
            os.close(fd)
    except OSError as failure:
        _say(f"write --log {settings.log}: {failure.strerror}")
