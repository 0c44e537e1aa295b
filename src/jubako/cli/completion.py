"""What the shell offers when Tab is pressed: an answer computed from the same tables that the parser reads.

The shells' scripts (`completion_scripts`) only ask and show; they hold no flag and no command, so they never go stale.
An answer is a list of (word, explanation) and what else the shell may add by itself: files, directories or nothing.
"""

from __future__ import annotations

import os

from jubako.cli import main, table
from jubako.cli.flags import ANY, HELP, SOME, SWITCH, Argument, Command, Flag
from jubako.errors import JubakoError
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NOTHING, FILES, DIRECTORIES = ":nothing", ":files", ":directories"

_MODES = ("private", "host", "container:", "ns:")
_WORDS: dict[str, tuple[str, ...]] = {
    "namespace": _MODES,
    "network": ("pasta", "slirp4netns", "proxy", "none", "host", "container:", "ns:"),
    "userns": ("host", "keep-id", "nomap", "auto", "container:", "ns:"),
    "restart": ("no", "always", "unless-stopped", "on-failure"),
    "signal": ("TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2", "STOP", "CONT", "WINCH"),
    "security": ("seccomp=", "seccomp=unconfined", "no-new-privileges", "mask=", "unmask=ALL"),
    "storage": ("overlay", "fuse-overlayfs", "copy"),
    "shell": ("bash", "zsh", "fish"),
}


@record
class Answer:
    """Words to offer, each with its explanation, and what the shell adds."""

    words: tuple[tuple[str, str], ...] = ()
    also: str = NOTHING


def answer(line: list[str]) -> Answer:
    """What may stand in place of the last of the words behind `jubako`, which may be empty or half written."""
    words = list(line) or [""]
    current = words[-1]
    before = words[:-1]
    position = 0
    while position < len(before) and before[position].startswith("-"):
        flag = _flag_named(table.GLOBAL_FLAGS, before[position])
        takes_next = flag is not None and flag.kind != SWITCH and "=" not in before[position]
        position += 2 if takes_next else 1
        if flag is not None and position > len(before):
            return _values(flag.completes, flag.choices, current)
    before = before[position:]
    if not before:
        if current.startswith("-"):
            return _flags((*table.GLOBAL_FLAGS, HELP), current)
        return _matching(_command_words(), current)
    return _behind_command(before, current)


def _behind_command(before: list[str], current: str) -> Answer:
    name, rest = table.resolve(before)
    if not name:
        if before[0] in table.NOUNS and len(before) == 1:
            verbs = table.NOUNS[before[0]]
            return _matching([(verb, table.COMMANDS[target].summary) for verb, target in verbs.items()], current)
        return Answer()
    command = main.load(name).COMMAND
    count, ended, waiting = _walk(command, rest)
    if waiting is not None:
        return _values(waiting.completes, waiting.choices, current)
    if current.startswith("-") and not ended:
        flag = _flag_named(command.flags, current) if "=" in current else None
        if flag is not None:
            return _prefixed(current.partition("=")[0] + "=", _values(flag.completes, flag.choices, current, "="))
        return _flags((*command.flags, HELP), current)
    argument, place = _argument_at(command, count)
    if argument is None:
        return Answer()
    if argument.completes == "jubako":  # `explain run ...`: what follows is a command line of its own
        words = rest[len(rest) - count :] if count else []
        if not words:  # what can be explained, see `jubako.cli.commands.explain`
            return _matching(((name, "") for name in ("run", "create", "exec")), current)
        return answer([*words, current])
    if argument.completes == "image" and argument.count in (ANY, SOME):  # IMAGE, then the program's own words
        if place > 0 or any(word.partition("=")[0] == "--rootfs" for word in rest):
            return Answer(also=FILES)
        return _values("image", (), current)
    return _values(argument.completes, argument.choices, current)


def _walk(command: Command, words: list[str]) -> tuple[int, bool, Flag | None]:
    """How many positional words there are, whether flags have ended, and the flag that waits for its value."""
    count, position = 0, 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            return count + len(words) - position, True, None
        if len(word) < 2 or word[0] != "-":
            if not command.interspersed:
                return len(words) - position + 1, True, None
            count += 1
            continue
        flag = _flag_named(command.flags, word)
        if flag is None or flag.kind == SWITCH or "=" in word:
            continue
        if not word.startswith("--") and word[-1] != flag.names[0][-1] and not _ends_with(flag, word):
            continue  # -eFOO: the value is joined on
        if position == len(words):
            return count, False, flag
        position += 1
    return count, False, None


def _ends_with(flag: Flag, word: str) -> bool:
    return any(len(name) == 2 and word.endswith(name[1]) for name in flag.names)


def _flag_named(flags: Iterable[Flag], word: str) -> Flag | None:
    """The flag that `word` ends in: `--name`, `--name=x`, `-it` (its first that takes a value, else its last)."""
    by_name = {name: flag for flag in flags for name in flag.names}
    if word.startswith("--"):
        return by_name.get(word.partition("=")[0])
    found = None
    for letter in word[1:]:
        found = by_name.get("-" + letter)
        if found is None or found.kind != SWITCH:
            return found
    return found


def _argument_at(command: Command, count: int) -> tuple[Argument | None, int]:
    """The argument that the word number `count` belongs to, and the word's place in it."""
    for index, argument in enumerate(command.arguments):
        if argument.count in (ANY, SOME):
            return argument, count - index
        if count == index:
            return argument, 0
    return None, 0


def _flags(flags: Iterable[Flag], current: str) -> Answer:
    long = current.startswith("--")
    return _matching(
        [
            (name, flag.help)
            for flag in flags
            if not flag.hidden
            for name in flag.names
            if name.startswith("--") or not long
        ],
        current,
    )


def _command_words() -> list[tuple[str, str]]:
    words = [(name, entry.summary) for name, entry in table.COMMANDS.items() if not entry.hidden and " " not in name]
    return words + [(noun, summary) for noun, summary in table.NOUN_SUMMARIES.items() if table.NOUNS[noun]]


def _values(completes: str, choices: tuple[str, ...], current: str, after: str = "") -> Answer:
    """What may stand for a value of the kind `completes`; `after` the text behind this sign of `current` counts."""
    start = current.partition(after)[2] if after else current
    if completes == "file":
        return Answer(also=FILES)
    if completes == "directory":
        return Answer(also=DIRECTORIES)
    if choices:
        return _matching([(choice, "") for choice in choices], start)
    if completes == "command":
        return _matching(_command_words(), start)
    if completes == "container":
        return _matching(_containers(), start)
    if completes == "image":
        return _matching(_images(), start)
    if completes == "bridge-network":
        return _matching(_networks(), start)
    if completes == "path-in-container":
        if ":" in start:
            return Answer()
        return Answer(tuple((name + ":", about) for name, about in _containers() if name.startswith(start)), FILES)
    if completes == "variable":
        return _matching([(name, "") for name in sorted(os.environ)], start)
    if completes == "capability":
        return _matching([(name, "") for name in _capabilities()], start)
    words = _WORDS.get(completes, ())
    if start.startswith("container:") and "container:" in words:
        return _matching([("container:" + name, about) for name, about in _containers()], start)
    return _matching([(word, "") for word in words], start)


def _matching(words: Iterable[tuple[str, str]], start: str) -> Answer:
    return Answer(tuple(pair for pair in words if pair[0].startswith(start)))


def _prefixed(prefix: str, given: Answer) -> Answer:
    return Answer(tuple((prefix + word, about) for word, about in given.words), given.also)


def _containers() -> list[tuple[str, str]]:
    """Names of containers; none when they cannot be read, since Tab is no place for errors."""
    from jubako.engine.store import list_containers
    from jubako.paths import find_paths

    try:
        found = list_containers(find_paths())
    except (JubakoError, OSError):
        return []
    return [(one.name or one.id[:12], one.state.status) for one in found]


def _images() -> list[tuple[str, str]]:
    """Names of local images, short where docker's rules fill in the rest, and the built-in ones."""
    found = [("host", "this system's own files, read-only"), ("host:rw", "the same, under a throw-away layer")]
    from jubako.image.reference import parse_reference
    from jubako.image.resolve import read_names
    from jubako.paths import find_paths

    try:
        names = sorted(read_names(find_paths()))
    except (JubakoError, OSError):
        return found
    return found + [(parse_reference(name).short.removesuffix(":latest"), "") for name in names]


def _networks() -> list[tuple[str, str]]:
    """Names of bridge networks."""
    from jubako.engine.networks import list_networks
    from jubako.paths import find_paths

    try:
        return [(network.name, network.subnets[0].cidr) for network in list_networks(find_paths())]
    except (JubakoError, OSError):
        return []


def _capabilities() -> tuple[str, ...]:
    from jubako.linux.caps import NAMES

    return ("ALL", *(name.removeprefix("CAP_") for name in NAMES))
