"""`jubako`: read the global flags, find the command, run it, print its error once, return its exit code.

Nothing of one command is imported for another. Exit codes: the command's own; 125 when jubako fails; 130 when Ctrl-C
ends a command of ours; 141 when the reader of our output went away (as SIGPIPE would have it).
"""

from __future__ import annotations

import _signal
import os
import sys

from jubako.cli import table
from jubako.cli.flags import ANY, Argument, Command, Values, parse
from jubako.errors import EXIT_FAILED, JubakoError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, Protocol

    class CommandModule(Protocol):
        COMMAND: Command

        def run(self, values: Values) -> int: ...


_EXIT_INTERRUPTED = 128 + 2
_EXIT_BROKEN_PIPE = 128 + 13
_GLOBAL = Command(
    "",
    "",
    table.GLOBAL_FLAGS,
    (Argument("COMMAND", "words", ANY),),
    interspersed=False,
)


def entry(last: Callable[[], None] | None = None) -> NoReturn:
    """The installed program: run `main`, do what comes `last`, and end without tearing the interpreter down, which
    takes milliseconds."""
    code = main()
    if last is not None:
        last()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        code = code or EXIT_FAILED
    os._exit(code)


def main(argv: list[str] | None = None) -> int:
    """Do what the command line `argv` (by default the process's own) asks for and return the exit code."""
    words = sys.argv[1:] if argv is None else argv
    debug, name = bool(os.environ.get("JUBAKO_DEBUG")), ""
    try:
        _hear_interrupts()
        _accept_odd_bytes()
        debug, words = _read_global_flags(words, debug)
        if words[0] == "oci" and words[1:] not in ([], ["--help"], ["-h"]):
            from jubako.cli import oci

            return oci.run(words[1:], debug)
        name, words = _find(words)
        code = _dispatch(name, words)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        _let_go_of_output()
        return _EXIT_BROKEN_PIPE
    except JubakoError as error:
        return _report(str(error), error, debug, error.exit_code)
    except OSError as error:
        told = JubakoError.from_os_error(name or "jubako", os.fsdecode(error.filename or ""), error)
        return _report(str(told), error, debug, EXIT_FAILED)
    except Exception as error:  # the border: whatever a bug raises becomes one clear line
        hint = "" if debug else "\n  hint: this should not happen; 'jubako --debug ...' shows where it did"
        return _report(f"{type(error).__name__}: {error}{hint}", error, debug, EXIT_FAILED)


def load(name: str) -> CommandModule:
    """The module of the command `name`."""
    module = "jubako.cli.commands." + table.COMMANDS[name].module
    __import__(module)
    loaded: CommandModule = sys.modules[module]
    return loaded


def _read_global_flags(words: list[str], debug: bool) -> tuple[bool, list[str]]:
    """Act on the flags before the command; return whether to debug, and the words from the command on."""
    if words and words[0][:1] == "-":
        values = parse(_GLOBAL, words)
        debug = debug or values.debug
        if values.root:
            os.environ["JUBAKO_ROOT"] = os.path.abspath(values.root)
        if values.run_root:
            os.environ["JUBAKO_RUN"] = os.path.abspath(values.run_root)
        if values.version:
            return debug, ["version"]
        if values.help:
            return debug, ["help"]
        words = list(values.words)
    return debug, words or ["help"]


def _find(words: list[str]) -> tuple[str, list[str]]:
    """The command that `words` begin with, and its own words."""
    name, rest = table.resolve(words)
    if name:
        return name, rest
    first = words[0]
    if first in table.NOUNS:
        if len(words) == 1 or words[1] in ("--help", "-h"):
            return "help", [first]
        raise _unknown(f"{first} {words[1]}", first, words[1], list(table.NOUNS[first]))
    known = [known for known, entry in table.COMMANDS.items() if not entry.hidden] + [*table.NOUNS]
    raise _unknown(first, "", first, known)


def _unknown(said: str, noun: str, word: str, known: list[str]) -> UsageError:
    from jubako.cli.flags import nearest

    near = nearest(word, known)
    listing = "'jubako --help' lists all commands" if not noun else f"'jubako {noun} --help' lists its verbs"
    hint = f"did you mean {f'{noun} {near}'.strip()}? {listing}" if near else listing
    return UsageError(said, reason="unknown command", hint=hint)


def _dispatch(name: str, words: list[str]) -> int:
    module = load(name)
    respell = getattr(module, "respell", None)
    if respell is not None:  # flags as another program spells them, in whose place the command is
        words = respell(words)
    values = parse(module.COMMAND, words)
    if values.help:
        from jubako.cli import help as pages

        pages.show(lambda columns, bold: pages.command_help(module.COMMAND, columns, bold))
        return 0
    return module.run(values)


def _hear_interrupts() -> None:
    """From here on Ctrl-C is an exception, so that what was begun is ended; whoever ignores it goes on doing so."""
    if _signal.getsignal(_signal.SIGINT) == _signal.SIG_DFL:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)


def _accept_odd_bytes() -> None:
    """File names are bytes: printing one that is no UTF-8 must give those bytes back, not a crash."""
    if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="surrogateescape")


def printable(text: str) -> str:
    """`text` with what would steer a terminal made visible: names in archives and containers may be hostile."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def _report(text: str, error: BaseException, debug: bool, code: int) -> int:
    """Print the error, behind what was printed before, and return the exit code."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        _let_go_of_output()
    try:
        if debug:
            import traceback

            traceback.print_exception(error)
        sys.stderr.write(f"jubako: {printable(text)}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass  # nobody is there to read it
    return code


def _let_go_of_output() -> None:
    """Point standard output at nothing, so that the interpreter's last flush cannot fail again."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, 1)
        os.close(nowhere)
    except OSError:
        pass
