"""What commands print: tables for people, JSON and Go templates for programs, progress for the impatient.

A table is plain aligned columns. On a terminal it is made to fit: the columns that may shrink lose their tails,
unless `--no-trunc` is given. Elsewhere nothing is shortened but ids, so scripts can parse it. Colour and bold stay
away when NO_COLOR is set.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from contextlib import contextmanager

from jubako import jsontext
from jubako.cli.flags import SWITCH, Flag, Values
from jubako.cli.help import wants_bold
from jubako.cli.main import printable
from jubako.cli.template import Template, text_of
from jubako.errors import JubakoError, UsageError
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, TextIO

    from jubako.image.progress import Progress

JSON_FLAG = Flag(("--json",), "print JSON", SWITCH, group="Output")
FORMAT_FLAG = Flag(
    ("--format",),
    "print each entry through a Go template such as '{{.ID}} {{.Names}}'; "
    "'table TEMPLATE' adds titles, 'json' prints an object a line",
    metavar="TEMPLATE",
    group="Output",
)
LIST_FLAGS: tuple[Flag, ...] = (
    Flag(("-q", "--quiet"), "print only the ids", SWITCH, group="Output"),
    Flag(("--no-trunc",), "shorten nothing", SWITCH, group="Output"),
    Flag(("--noheading",), "print no line of titles", SWITCH, field="no_heading", group="Output"),
    FORMAT_FLAG,
    JSON_FLAG,
)
INSPECT_FORMAT_FLAG = Flag(
    ("-f", "--format"),
    "print each through a Go template such as '{{.Id}}'; 'json' prints one object a line",
    metavar="TEMPLATE",
    group="Output",
)

_GAP = "   "
_CONTROLS = {number: f"\\u{number:04x}" for number in range(0x7F, 0xA0)}


@record
class Column:
    """One column: its title, the row's key, whether it may be shortened to fit, and how its value is shown."""

    title: str
    key: str
    shrinks: bool = False
    show: Callable[[Any], str] | None = None
    no_trunc_show: Callable[[Any], str] | None = None


def print_rows(
    values: Values, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], quiet: Column | None = None
) -> None:
    """Print `rows` as the flags of `LIST_FLAGS` in `values` ask for; `quiet` is what `-q` prints (the first column)."""
    if values.json:
        print_json([dict(row) for row in rows])
    elif values.format:
        _print_formatted(values, rows, columns)
    elif getattr(values, "quiet", False):
        column = quiet or columns[0]
        for row in rows:
            print(_cell(column, row, values.no_trunc))
    else:
        lines = [[_cell(column, row, values.no_trunc) for column in columns] for row in rows]
        titles = [] if values.no_heading else [column.title for column in columns]
        print_table(titles, lines, [column.shrinks and not values.no_trunc for column in columns])


def print_table(titles: Sequence[str], lines: Sequence[Sequence[str]], shrinks: Sequence[bool] | None = None) -> None:
    """Print aligned columns under their titles (none when `titles` is empty)."""
    stream = sys.stdout
    everything = [list(titles), *lines] if titles else [list(line) for line in lines]
    if not everything:
        return
    widths = [max(_width(line[index]) for line in everything) for index in range(len(everything[0]))]
    if stream.isatty() and shrinks is not None:
        widths = _fit(widths, shrinks, _terminal_columns(stream))
    for number, line in enumerate(everything):
        text = _GAP.join(
            _padded(_shortened(cell, width), width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        bold = number == 0 and titles and wants_bold(stream)
        print(f"\x1b[1m{text}\x1b[0m" if bold else text)


def print_details(values: Values, names: Sequence[str], look_up: Callable[[str], dict[str, Any]]) -> int:
    """Print what `look_up` knows of each name: one JSON array, or each through `--format`.

    What is not found is told after the rest was printed, as docker does.
    """
    found: list[dict[str, Any]] = []
    code = do_each(names, lambda name: found.append(look_up(name)))
    if not values.format:
        print_json(found, indented=True)
    elif values.format == "json":
        for entry in found:
            print(jsontext.dumps(entry))
    else:
        template = Template(values.format)
        for entry in found:
            print(template.fill(entry))
    return code


def print_json(value: Any, indented: bool = False) -> None:
    """Print `value` as JSON: indented on a terminal, else on one line. What would steer a terminal is written as
    numbers, which JSON itself does for no more than the first 32 characters."""
    text = jsontext.dumps(value, indent=2 if indented or sys.stdout.isatty() else None)
    print(text if text.isascii() and "\x7f" not in text else text.translate(_CONTROLS))


def short_id(identifier: str) -> str:
    """The first twelve digits of an id, as docker shows it."""
    return identifier.removeprefix("sha256:")[:12]


def size_text(size: int) -> str:
    """A number of bytes for people, in powers of 1000 as docker shows images."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{int(amount)}{unit}" if unit == "B" else f"{amount:.3g}{unit}"


def duration_text(seconds: float) -> str:
    """A span of time for people: "45 seconds", "About a minute", "3 hours", in docker's words."""
    seconds = max(0, int(seconds))
    minutes, hours, days = round(seconds / 60), round(seconds / 3600), seconds // 86400
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    if days < 730:
        return f"{days // 30} months"
    return f"{days // 365} years"


@contextmanager
def progress_bar(wanted: bool = True) -> Iterator[Callable[[Progress], None]]:
    """A bar on standard error while the block runs, moved by the reports that the image room gives.

    Only on a terminal, and only where rich is installed: elsewhere the reports go nowhere.
    """
    bar = _rich_bar() if wanted and sys.stderr is not None and sys.stderr.isatty() else None
    if bar is None:
        yield lambda report: None
        return
    with bar:
        task = bar.add_task("", total=None)

        def show(report: Progress) -> None:
            counted = f" {report.number}/{report.count}" if report.count > 1 else ""
            text = f"{report.stage}{counted} {report.subject}"
            bar.update(task, description=text, completed=report.done, total=report.total or None)

        yield show


def _rich_bar() -> Any:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars
    except ImportError:
        return None
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return Bars(*columns, console=Console(stderr=True), transient=True)


def do_each(names: Sequence[str], action: Callable[[str], object]) -> int:
    """Do `action` to every name; one that fails is told and does not keep the others from their turn.

    Returns 0, or the exit code of the first failure.
    """
    code = 0
    for name in dict.fromkeys(names):
        try:
            action(name)
        except JubakoError as error:
            code = code or error.exit_code
            sys.stdout.flush()
            print(f"jubako: {printable(str(error))}", file=sys.stderr)
    return code


def do_together(names: Sequence[str], action: Callable[[str], str]) -> int:
    """Do `action`, which waits for something, to every name at once; print what each returns in the order given.

    Returns 0, or the exit code of the first failure.
    """
    from concurrent.futures import ThreadPoolExecutor

    each = list(dict.fromkeys(names))
    if len(each) < 2:
        return do_each(each, lambda name: _print_result(action(name)))
    pool = ThreadPoolExecutor(min(len(each), 64))
    try:
        futures = dict(zip(each, [pool.submit(action, name) for name in each], strict=True))
        return do_each(each, lambda name: _print_result(futures[name].result()))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for what the threads wait for


def _print_result(text: str) -> None:
    if text:
        print(text, flush=True)


def warn(text: str) -> None:
    """One warning on standard error."""
    sys.stdout.flush()
    print(f"jubako: warning: {printable(text)}", file=sys.stderr)


def confirm(question: str, force: bool) -> None:
    """Go on only if the user says yes, or said so beforehand with `--force`."""
    if force:
        return
    if not sys.stdin.isatty():
        raise UsageError("not confirmed", reason=question, hint="add --force to go on without being asked")
    print(f"{question}\nGo on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("not confirmed", reason="nothing was done")


def _print_formatted(values: Values, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
    wanted = values.format
    if wanted == "json":
        for row in rows:
            print(jsontext.dumps(dict(row)))
        return
    shown = [_shown_row(row, columns, values.no_trunc) for row in rows]
    if wanted == "table" or wanted.startswith("table "):
        template = Template(wanted[6:] or "\t".join("{{." + column.key + "}}" for column in columns))
        titles = {column.key: column.title for column in columns}
        lines = [template.fill(row).split("\t") for row in (_Titles(titles), *shown)]
        if len({len(line) for line in lines}) == 1:
            print_table(lines[0], lines[1:])
        else:
            print("\n".join("\t".join(line) for line in lines))
        return
    template = Template(wanted)
    for row in shown:
        print(template.fill(row))


class _Titles(dict[str, object]):
    """Stands for a row when the titles are printed: a field without a column is titled by its name."""

    def __missing__(self, key: str) -> str:
        return key.upper()


def _shown_row(row: Mapping[str, Any], columns: Sequence[Column], no_trunc: bool) -> dict[str, Any]:
    """What templates see: the columns as a table would show them, everything else as it is."""
    return {**row, **{column.key: _cell(column, row, no_trunc) for column in columns}}


def _cell(column: Column, row: Mapping[str, Any], no_trunc: bool) -> str:
    value = row.get(column.key)
    show = column.no_trunc_show if no_trunc else column.show
    return printable(show(value) if show is not None else text_of(value)).replace("\n", "\\n")


def _terminal_columns(stream: TextIO) -> int:
    wish = os.environ.get("COLUMNS", "")
    if wish.isascii() and wish.isdigit() and int(wish) > 0:
        return int(wish)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _fit(widths: Sequence[int], shrinks: Sequence[bool], columns: int) -> list[int]:
    """Take columns from the widest that may shrink until the table fits, or until none is wider than ten."""
    fitted = list(widths)
    excess = sum(fitted) + len(_GAP) * (len(fitted) - 1) - columns
    while excess > 0:
        may = [index for index, shrink in enumerate(shrinks) if shrink and fitted[index] > 10]
        if not may:
            break
        widest = max(may, key=lambda index: fitted[index])
        fitted[widest] -= 1
        excess -= 1
    return fitted


def _width(text: str) -> int:
    """How many terminal columns the text takes (wide East Asian characters take two, combining ones none)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def _shortened(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while _width(text) > width - 1:
        text = text[:-1]
    return text + "…"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
