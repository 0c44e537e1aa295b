"""The command line's grammar: one table a command, read by the parser, `--help`, completion and the reference pages.

The rules are those that users of docker and podman have in their fingers (Go's pflag): `--flag value` and
`--flag=value`, short switches joined (`-it`), a short flag's value joined to it (`-eFOO`), `--switch=false`, `--`
ends the flags. `argparse` is not used: importing it costs as much as starting a container.
"""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

SWITCH = "switch"  # present or not; `--x=false` and `--no-x` take it back
TEXT = "text"  # one value; the last one given counts
NUMBER = "number"  # one whole number
LIST = "list"  # may be given any number of times

ONE, OPTIONAL, SOME, ANY = "one", "optional", "some", "any"  # how many words an argument takes

_TRUE = ("1", "t", "T", "TRUE", "true", "True")  # Go's strconv.ParseBool
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


@record
class Flag:
    """One option: its spellings, what it takes, where its value lands and what the help says about it.

    `field` is the name of the value (by default the first long spelling's). `parse` turns each value's text into
    something better and may raise `ValueError` or `UsageError`. `once` refuses a second, different value. `completes`
    names what the shell offers: "file", "directory", "container", "image" or "user".
    """

    names: tuple[str, ...]
    help: str
    kind: str = TEXT
    metavar: str = ""
    field: str = ""
    group: str = ""
    choices: tuple[str, ...] = ()
    completes: str = ""
    default: Any = None
    parse: Callable[[str], Any] | None = None
    once: bool = False
    hidden: bool = False


@record
class Argument:
    """A positional word or several of them."""

    name: str
    field: str
    count: str = ONE
    completes: str = ""
    help: str = ""
    choices: tuple[str, ...] = ()


@record
class Command:
    """All that is known about one command without running it.

    `name` is what stands after `jubako` ("run", "system shutdown"). With `interspersed` off, flags end at the first
    word that is none: what follows belongs to the program in the container. `usage` overrides the generated synopsis
    lines. `examples` are pairs of a sentence and a command line.
    """

    name: str
    summary: str
    flags: tuple[Flag, ...] = ()
    arguments: tuple[Argument, ...] = ()
    description: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    interspersed: bool = True
    usage: tuple[str, ...] = ()


HELP = Flag(("--help",), "print this help and end", SWITCH, field="help")


class Values:
    """What was asked for: one attribute a flag and argument, by field name; `given` names those on the line."""

    def __init__(self, fields: dict[str, Any], given: frozenset[str]) -> None:
        self.__dict__.update(fields)
        self.given = given

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def field_of(flag: Flag) -> str:
    """The attribute that holds the flag's value."""
    return flag.field or long_name(flag).lstrip("-").replace("-", "_")


def long_name(flag: Flag) -> str:
    """The first spelling with two dashes, or else the first."""
    for name in flag.names:
        if name.startswith("--"):
            return name
    return flag.names[0]


def default_of(flag: Flag) -> Any:
    """The value of a flag that was not given."""
    if flag.default is not None:
        return flag.default
    return {SWITCH: False, TEXT: "", LIST: ()}.get(flag.kind)


def parse(command: Command, argv: Sequence[str]) -> Values:
    """The values that the words `argv` (without the command's own name) give to the command's flags and arguments.

    Raises `UsageError` for an unknown flag, a missing or malformed value, a word too many or too few. When `--help`
    stands among the flags, what is missing is not complained about.
    """
    reader = _Reader(command)
    words = reader.read_flags(argv)
    fields = reader.fields
    if not fields["help"]:
        _fill_arguments(command, words, fields)
    return Values(fields, frozenset(reader.given))


class _Reader:
    """Walks over the words once, storing each flag's value."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.by_name: dict[str, Flag] = {}
        self.fields: dict[str, Any] = {}
        self.given: set[str] = set()
        for flag in (HELP, *command.flags):
            for name in flag.names:
                self.by_name[name] = flag
            self.fields.setdefault(field_of(flag), default_of(flag))
        self.by_name.setdefault("-h", HELP)
        self.lists: dict[str, list[Any]] = {}

    def read_flags(self, argv: Sequence[str]) -> list[str]:
        """Store every flag's value and return the words that are none."""
        words: list[str] = []
        position, end = 0, len(argv)
        while position < end:
            word = argv[position]
            position += 1
            if word == "--":
                words.extend(argv[position:])
                break
            if len(word) < 2 or word[0] != "-":
                words.append(word)
                if self.command.interspersed:
                    continue
                words.extend(argv[position:])
                break
            read = self.read_long if word.startswith("--") else self.read_short
            position = read(word, argv, position)
        for field, values in self.lists.items():
            self.fields[field] = tuple(values)
        return words

    def read_long(self, word: str, argv: Sequence[str], position: int) -> int:
        name, equals, text = word.partition("=")
        flag = self.by_name.get(name)
        if flag is None:
            if name.startswith("--no-") and not equals:
                flag = self.by_name.get("--" + name[5:])
                if flag is not None and flag.kind == SWITCH:
                    self.store(flag, name, False)
                    return position
            raise self.unknown(name)
        if equals:
            self.store_text(flag, name, text)
            return position
        return self.store_next(flag, name, argv, position)

    def read_short(self, word: str, argv: Sequence[str], position: int) -> int:
        """`-it`, `-eFOO`, `-e FOO`, `-e=FOO`, `-ie FOO`: switches, then one that takes a value."""
        for index in range(1, len(word)):
            name = "-" + word[index]
            flag = self.by_name.get(name)
            if flag is None:
                raise self.unknown(name, word)
            rest = word[index + 1 :]
            if rest.startswith("="):
                self.store_text(flag, name, rest[1:])
                return position
            if flag.kind != SWITCH:
                if rest:
                    self.store_text(flag, name, rest)
                    return position
                return self.store_next(flag, name, argv, position)
            self.store(flag, name, True)
        return position

    def store_next(self, flag: Flag, name: str, argv: Sequence[str], position: int) -> int:
        if flag.kind == SWITCH:
            self.store(flag, name, True)
            return position
        if position >= len(argv):
            raise self.wrong(name, "a value is missing", f"write {name} {value_name(flag)}")
        self.store_text(flag, name, argv[position])
        return position + 1

    def store_text(self, flag: Flag, name: str, text: str) -> None:
        """Store what `text` means for this flag."""
        if flag.kind == SWITCH:
            if text not in _TRUE and text not in _FALSE:
                raise self.wrong(name, f"{text!r} is neither true nor false")
            self.store(flag, name, text in _TRUE)
            return
        if flag.choices and text not in flag.choices:
            near = nearest(text, flag.choices)
            hint = f"did you mean {near}?" if near else ""
            raise self.wrong(name, f"{text!r} is not one of {', '.join(flag.choices)}", hint)
        value: Any = text
        try:
            if flag.parse is not None:
                value = flag.parse(text)
            elif flag.kind == NUMBER:
                value = whole_number(text)
        except ValueError as error:
            raise self.wrong(name, str(error) or f"{text!r} cannot be understood") from None
        self.store(flag, name, value)

    def store(self, flag: Flag, name: str, value: Any) -> None:
        field = field_of(flag)
        if flag.kind == LIST:
            self.lists.setdefault(field, []).append(value)
        else:
            if flag.once and field in self.given and self.fields[field] != value:
                raise self.wrong(name, f"given twice, as {self.fields[field]!r} and as {value!r}")
            self.fields[field] = value
        self.given.add(field)

    def unknown(self, name: str, word: str = "") -> UsageError:
        reason = f"unknown flag (in {word})" if word and word != name else "unknown flag"
        names = [known for known, flag in self.by_name.items() if not flag.hidden]
        near = nearest(name, names) or (nearest("-" + word, names) if len(word) > 2 else "")
        hint = f"did you mean {near}? " if near else ""
        program = f"jubako {self.command.name}".strip()
        return self.wrong(name, reason, f"{hint}'{program} --help' lists all flags")

    def wrong(self, name: str, reason: str, hint: str = "") -> UsageError:
        return UsageError(self.command.name, name, reason=reason, hint=hint.strip())


def _fill_arguments(command: Command, words: list[str], fields: dict[str, Any]) -> None:
    """Give the words to the arguments in order; one that takes several leaves enough for those behind it."""
    position = 0
    for index, argument in enumerate(command.arguments):
        left = len(words) - position
        if argument.count in (ONE, SOME) and left == 0:
            raise _wrong_words(command, f"{argument.name} is missing")
        if argument.count == ONE:
            fields[argument.field] = words[position]
            position += 1
        elif argument.count == OPTIONAL:
            fields[argument.field] = words[position] if left else ""
            position += 1 if left else 0
        else:
            behind = sum(1 for later in command.arguments[index + 1 :] if later.count in (ONE, SOME))
            end = max(len(words) - behind, position + (1 if argument.count == SOME else 0))
            fields[argument.field] = tuple(words[position:end])
            position = end
    if position < len(words):
        raise _wrong_words(command, f"{words[position]!r} is one word too many")


def _wrong_words(command: Command, reason: str) -> UsageError:
    return UsageError(command.name, reason=reason, hint="\n".join(f"usage: {line}" for line in usage(command)))


def usage(command: Command) -> tuple[str, ...]:
    """The synopsis lines of the command, `jubako` included."""
    start = f"jubako {command.name}"
    if command.usage:
        return tuple(f"{start} {line}".rstrip() for line in command.usage)
    options = " [OPTIONS]" if command.flags else ""
    return (start + options + "".join(" " + _shown(argument) for argument in command.arguments),)


def _shown(argument: Argument) -> str:
    several = "..." if argument.count in (SOME, ANY) else ""
    shown = argument.name + several
    return f"[{shown}]" if argument.count in (OPTIONAL, ANY) else shown


def value_name(flag: Flag) -> str:
    """What stands for the flag's value in help texts."""
    if flag.metavar:
        return flag.metavar
    if flag.choices:
        return "|".join(flag.choices)
    return "N" if flag.kind == NUMBER else "TEXT"


def whole_number(text: str) -> int:
    """`text` as a whole number, or `ValueError` in words for people."""
    digits = text[1:] if text[:1] == "-" else text
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that `word` was probably meant to be, or an empty string."""
    import difflib  # only ever on the way to an error

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return found[0] if found else ""
