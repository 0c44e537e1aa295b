"""`jubako images`: the images that are here."""

from __future__ import annotations

import time

from jubako.cli.flags import LIST, OPTIONAL, SWITCH, Argument, Command, Flag, Values
from jubako.cli.output import LIST_FLAGS, Column, duration_text, print_rows, short_id, size_text
from jubako.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from jubako.image.model import Image

_NONE = "<none>"

COMMAND = Command(
    "images",
    "list images",
    flags=(
        Flag(("-a", "--all"), "accepted for docker's sake: every image is listed anyway", SWITCH, hidden=True),
        Flag(
            ("-f", "--filter"),
            "only images for which this holds: reference=PATTERN, label=KEY[=VALUE] or dangling=true|false",
            LIST,
            metavar="KEY=VALUE",
            field="filters",
        ),
        Flag(("--digests",), "show the digest of each image", SWITCH),
        *LIST_FLAGS,
    ),
    arguments=(Argument("NAME", "name", OPTIONAL, completes="image", help="list only images of this name"),),
    examples=(("Names alone.", "jubako images --format '{{.Repository}}:{{.Tag}}'"),),
)


def run(values: Values) -> int:
    from jubako.image.manage import list_images
    from jubako.paths import find_paths

    filters = [_filter(text) for text in values.filters]
    images = [image for image in list_images(find_paths()) if all(holds(image) for holds in filters)]
    rows = [row for image in images for row in _rows(image) if _is_wanted(row, values.name)]
    columns = [
        Column("REPOSITORY", "Repository", shrinks=True),
        Column("TAG", "Tag"),
        Column("IMAGE ID", "ID", show=short_id),
        Column("CREATED", "CreatedSince"),
        Column("SIZE", "Size", show=size_text, no_trunc_show=size_text),
    ]
    if values.digests:
        columns.insert(2, Column("DIGEST", "Digest", shrinks=True))
    print_rows(values, rows, columns, quiet=columns[-3])
    return 0


def _rows(image: Image) -> Iterator[dict[str, Any]]:
    """One row a name, as docker has it; an image without a name has one row as well."""
    from jubako.image.reference import parse_reference

    since = _since(image.created)
    for name in image.names or ("",):
        repository, tag = _NONE, _NONE
        if name:
            short = parse_reference(name).short
            at = short.partition("@")[0]
            repository, colon, tag = at.rpartition(":") if ":" in at.rpartition("/")[2] else (at, "", "")
            tag = tag if colon else _NONE
        yield {
            "Repository": repository,
            "Tag": tag,
            "ID": image.id,
            "CreatedSince": f"{since} ago" if since else "N/A",
            "CreatedAt": image.created,
            "Size": image.size,
            "Digest": image.digest or _NONE,
            "Names": list(image.names),
            "Architecture": image.architecture,
            "Labels": dict(image.config.labels),
        }


def _is_wanted(row: dict[str, Any], name: str) -> bool:
    return not name or name in (row["Repository"], f"{row['Repository']}:{row['Tag']}")


def _since(created: str) -> str:
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return ""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return duration_text(time.time() - moment.timestamp())


def _filter(text: str) -> Any:
    """A predicate of an image for one `--filter`."""
    from fnmatch import fnmatchcase

    from jubako.image.reference import parse_reference

    key, equals, value = text.partition("=")
    if key == "dangling" and value in ("true", "false", "1", "0"):
        return lambda image: (not image.names) is (value in ("true", "1"))
    if key == "label" and equals:
        name, _, wanted = value.partition("=")
        return lambda image: any(k == name and (not wanted or v == wanted) for k, v in image.config.labels)
    if key == "reference" and equals:

        def matches(image: Image) -> bool:
            spelled = [form for name in image.names for form in (name, parse_reference(name).short)]
            return any(fnmatchcase(form, value) or fnmatchcase(form.rpartition(":")[0], value) for form in spelled)

        return matches
    raise UsageError("images", f"--filter {text}", reason="unknown filter", hint="there are reference, label, dangling")
