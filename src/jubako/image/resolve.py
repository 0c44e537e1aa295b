"""From a name or an id on the command line to an image that can run; part of every `jubako run`.

Two small files are read, both written whole by `image.store`: `data/images/names.json` (complete name → id) and
`data/images/HEX.json` (all that a run needs). No lock is taken, since both are only ever replaced by a rename.
"""

from __future__ import annotations

from jubako import jsontext
from jubako.errors import JubakoError, NotFoundError, UsageError
from jubako.image.model import Image, config_from
from jubako.image.reference import is_digest, is_hex, parse_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.paths import Paths

MAX_NEAR = 3


def resolve(paths: Paths, name_or_id: str) -> Image:
    """The local image called `name_or_id`: a name as docker reads it, an id or an unambiguous prefix of one
    (with or without `sha256:`).

    Raises `NotFoundError` with the way to get an image, `UsageError` for a malformed name or an ambiguous prefix.
    """
    names = read_names(paths)
    found = find_id(paths, names, name_or_id)
    return image_from(paths, read_prepared(paths, found), names)


def find_id(paths: Paths, names: dict[str, str], name_or_id: str) -> str:
    """The hexadecimal id of the image; a name wins over an id that looks alike, as in docker."""
    prefix = name_or_id.removeprefix("sha256:")
    explicit = prefix != name_or_id or is_hex(prefix, 64)
    if explicit and not is_hex(prefix):
        raise UsageError("find image", name_or_id, reason="an image id is sha256: and hexadecimal digits")
    if not explicit:
        try:
            reference = parse_reference(name_or_id)
        except UsageError:
            if not is_hex(prefix):
                raise
        else:
            found = names.get(str(reference)) or (reference.digest and _by_digest(paths, names, reference))
            if found:
                return found
    if is_hex(prefix):
        matches = [known for known in list_ids(paths) if known.startswith(prefix)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            shown = ", ".join(match[:12] for match in matches[:4])
            raise UsageError("find image", name_or_id, reason=f"{len(matches)} images begin so: {shown}")
    raise _not_found(names, name_or_id)


def read_names(paths: Paths) -> dict[str, str]:
    """All names of local images, complete, each with the hexadecimal id it stands for."""
    document = _read(f"{paths.data}/images/names.json")
    return {} if document is None else dict(document)


def read_prepared(paths: Paths, image_id: str) -> dict[str, Any]:
    """The prepared file of the image `image_id` (hexadecimal), as a document."""
    document = _read(f"{paths.data}/images/{image_id}.json")
    if document is None:
        raise NotFoundError("read image", image_id[:12], reason="it was removed just now, or the store was damaged")
    return document


def list_ids(paths: Paths) -> list[str]:
    """The hexadecimal ids of all local images, sorted."""
    import os

    try:
        entries = os.listdir(f"{paths.data}/images")
    except FileNotFoundError:
        return []
    return sorted(entry[:64] for entry in entries if entry[64:] == ".json" and is_hex(entry[:64]))


def image_from(paths: Paths, document: dict[str, Any], names: dict[str, str]) -> Image:
    """The record of one image from its prepared file and the table of names."""
    identity = document["id"]
    return Image(
        id="sha256:" + identity,
        names=tuple(sorted(name for name, known in names.items() if known == identity)),
        config=config_from(document["config"]),
        layers=tuple(f"{paths.data}/layers/{layer}/fs" for layer in document["visible"]),
        architecture=document["architecture"],
        os=document["os"],
        variant=document["variant"],
        created=document["created"],
        size=document["size"],
        digest=document["digest"],
    )


def _by_digest(paths: Paths, names: dict[str, str], reference: Any) -> str:
    """An image with the manifest digest asked for, if one of its names is of the same repository."""
    for known in sorted(set(names.values())):
        if read_prepared(paths, known)["digest"] != reference.digest:
            continue
        for name, identity in names.items():
            if identity == known and parse_reference(name).repository == reference.repository:
                return known
    return ""


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    except OSError as failure:
        raise JubakoError.from_os_error("read", path, failure) from None
    try:
        document = jsontext.loads(text)
    except ValueError as fault:
        raise JubakoError(
            "read", path, reason=f"not JSON: {fault}", hint="the image store was changed by hand"
        ) from None
    if not isinstance(document, dict):
        raise JubakoError("read", path, reason="not a JSON object", hint="the image store was changed by hand")
    return document


def _not_found(names: dict[str, str], name_or_id: str) -> NotFoundError:
    hint = "bring one in with `jubako load -i ARCHIVE` (docker save, OCI) or `jubako import ROOTFS.tar NAME`"
    near = _near_names(names, name_or_id)
    if near:
        hint = f"did you mean {', '.join(near)}?\n{hint}"
    elif not names:
        hint += "; the image `host` needs none"
    return NotFoundError("find image", name_or_id, reason="no such image here", hint=hint)


def _near_names(names: dict[str, str], wanted: str) -> list[str]:
    """Names that share the last component or differ from it by little; this is the failure path, so it may be slow."""
    import difflib

    short = {parse_reference(name).short: name for name in names if not is_digest(name.partition("@")[2])}
    base = wanted.partition("@")[0]
    last = base.rpartition("/")[2].partition(":")[0]
    same = [name for name in short if name.rpartition("/")[2].partition(":")[0] == last]
    bases = {name.partition(":")[0] if name.count(":") == 1 else name: name for name in short}
    close = [bases[name] for name in difflib.get_close_matches(base.partition(":")[0], list(bases), MAX_NEAR, 0.6)]
    return list(dict.fromkeys(same + close))[:MAX_NEAR]
