"""Pages of the documentation as tests: the commands of a page run as one session, and what it shows must come out.

A page that wants this has a line `<!-- tested: one session -->`. In a block of the language `console` each line that
begins with `$ ` is a command (`> ` continues it) and what follows is its output; a block of `sh` is commands without
output. In an output `…` stands for any text in a line, and alone on a line for any number of lines. Ids and ranges of
the page's user (1000, 100000:65536) stand for those of the account that runs the test.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from world.account import Account

MARK = "<!-- tested: one session -->"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)\s]+)\)|!\[[^]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Shown:
    """One command of a page, its line there, and the output that the page shows (None: whatever it says)."""

    line: int
    command: str
    output: tuple[str, ...] | None


def read_session(page: Path) -> list[Shown]:
    """The commands of a page in order."""
    return [shown for language, body, line in blocks(page) for shown in _commands(language, body, line)]


def blocks(page: Path) -> Iterator[tuple[str, str, int]]:
    """(language, text, line) of each fenced block."""
    text = page.read_text()
    for found in _FENCE.finditer(text):
        yield found[1], found[2], text.count("\n", 0, found.start()) + 2


def run_session(
    shown: list[Shown], cwd: Path, env: Mapping[str, str], timeout: float = 120, prefix: tuple[str, ...] = ()
) -> list[list[str]]:
    """Run the commands in one shell, `prefix` before it; the lines that each has printed."""
    script = "".join(f"{{ {item.command}\n}} 2>&1\nprintf '\\001\\n'\n" for item in shown)
    script += "kill $(jobs -p) 2>/dev/null\nwait\n"
    done = subprocess.run(
        (*prefix, "bash", "-c", script),
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
    )
    outputs = done.stdout.decode(errors="replace").split("\x01\n")
    assert len(outputs) == len(shown) + 1, f"the session ended early:\n{done.stdout.decode()}\n{done.stderr.decode()}"
    return [output.splitlines() for output in outputs[:-1]]


def differences(shown: list[Shown], outputs: list[list[str]], account: Account) -> list[str]:
    """What the page shows and the machine did not say."""
    told = []
    for item, output in zip(shown, outputs, strict=True):
        if item.output is None:
            continue
        wanted = [_of_account(line, account) for line in item.output]
        if not _fits(wanted, [line.rstrip() for line in output]):
            told.append("\n".join((f"line {item.line}: $ {item.command}", "shown:", *wanted, "said:", *output)))
    return told


def files(page: Path) -> dict[str, str]:
    """The files that a page tells to write: a line with the path alone (`/etc/…`:), and the block that follows it."""
    return dict(re.findall(r"^`(/[^`\n]+)`:\n\n```\w*\n(.*?)^```$", page.read_text(), re.M | re.S))


def links(page: Path) -> list[str]:
    """The relative targets of the links and pictures of a page."""
    text = _FENCE.sub("", page.read_text())
    found = [first or second for first, second in _LINK.findall(text)]
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


def _commands(language: str, body: str, line: int) -> Iterator[Shown]:
    if language == "sh":
        yield Shown(line, body.rstrip("\n"), None)
        return
    if language != "console":
        return
    command: list[str] = []
    output: list[str] = []
    start = line
    for number, text in enumerate(body.splitlines(), line):
        if text.startswith("$ "):
            if command:
                yield Shown(start, "\n".join(command), tuple(output))
            command, output, start = [text[2:]], [], number
        elif text.startswith("> ") and command and not output:
            command.append(text[2:])
        else:
            output.append(text.rstrip())
    if command:
        yield Shown(start, "\n".join(command), tuple(output))


def _of_account(line: str, account: Account) -> str:
    """`line` with the ids of the pages' user (1000, and 65536 from 100000 on) as those of the account."""
    start, count = account.ranges[0]

    def real(found: re.Match[str]) -> str:
        number = int(found[0])
        if 100000 <= number < 165536:
            return str(start + number - 100000)
        return {1000: str(account.uid), 65536: str(count)}.get(number, found[0])

    return re.sub(r"(?<![\w.])\d+(?![\w.])", real, line)


def _fits(wanted: list[str], said: list[str]) -> bool:
    parts = []
    for line in wanted:
        if line.strip() == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            # columns are padded to the widest, so blanks may be more or fewer
            pieces = (r"\s+".join(map(re.escape, re.split(r"\s+", piece))) for piece in line.split("…"))
            parts.append(".*".join(pieces) + r"\n")
    return re.fullmatch("".join(parts), "".join(line + "\n" for line in said)) is not None
