"""`--uidmap` and `--gidmap`: podman's triples with their flags, turned into a map relative to the base.

A triple is `[FLAGS]CONTAINER:[@]FROM[:AMOUNT]` (podman-run(1), `--uidmap`). FROM is a position in the user's ranges
(0 the user, 1 the first subordinate id …), which is the same as an id of the base user namespace; `@FROM` is an id
of the host that is looked up there. `+` extends what is there instead of replacing it, `u` and `g` restrict a triple
to one kind.
"""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.ids.idmap import END_OF_IDS, IdMap, IdRange
from jubako.ids.intervals import intersect, pair, show, subtract
from jubako.ids.modes import parse_id
from jubako.record import record


@record
class Triple:
    """One triple, looked up: `ranges` are relative to the base; `text` is what the user wrote."""

    ranges: tuple[IdRange, ...]
    extends: bool
    text: str


def read_id_maps(
    uid_specs: tuple[str, ...], gid_specs: tuple[str, ...], base_uids: IdMap, base_gids: IdMap
) -> tuple[IdMap, IdMap]:
    """Both maps, relative to the base. Where only one flag is given it counts for both kinds; a kind that is
    nevertheless left without a range (by the flags `u`, `g`) gets all ids of the base."""
    uid_specs, gid_specs = uid_specs or gid_specs, gid_specs or uid_specs
    uids = combine(_read(uid_specs, "uid", base_uids), base_uids, "uid")
    gids = combine(_read(gid_specs, "gid", base_gids), base_gids, "gid")
    return uids, gids


def combine(triples: tuple[Triple, ...], base: IdMap, kind: str) -> IdMap:
    """The map that the triples say, one after the other."""
    entries: tuple[IdRange, ...] = ()
    fill = not triples
    for triple in triples:
        for given in triple.ranges:
            if triple.extends:
                # An extension of nothing extends the default: every id of the base that it does not move.
                fill = fill or not entries
                entries = _make_room(entries, given)
            entries = (*entries, given)
    IdMap(entries or base.identity().entries).validate(kind)
    if fill:
        entries = (*entries, *_rest(entries, base))
    return IdMap(entries).merged().validate(kind)


def read_triple(text: str, kind: str, base: IdMap, flags_allowed: bool = True) -> Triple | None:
    """One triple for `kind` (`uid` or `gid`); None where its flags say that it is for the other kind."""
    fields = text.split(":")
    if len(fields) == 2:
        fields.append("1")
    if len(fields) != 3:
        raise _malformed(text, kind, flags_allowed)
    container = fields[0].lstrip("+ug") if flags_allowed else fields[0]
    flags = fields[0][: len(fields[0]) - len(container)]
    if not container or not fields[1].removeprefix("@") or not fields[2]:
        raise _malformed(text, kind, flags_allowed)
    inside = parse_id(container, f"the container {kind}", f"read {kind} map", text)
    start = parse_id(fields[1].removeprefix("@"), f"the {kind} that it maps to,", f"read {kind} map", text)
    size = parse_id(fields[2], "the amount", f"read {kind} map", text)
    if size == 0:
        raise UsageError(f"use {kind} map", text, reason="its size is 0, it must be at least 1")
    if max(inside, start) + size > END_OF_IDS:
        raise UsageError(f"use {kind} map", text, reason=f"its ids go beyond {END_OF_IDS - 1}")
    if ("u" in flags or "g" in flags) and kind[0] not in flags:
        return None
    if fields[1].startswith("@"):
        ranges = _look_up(inside, start, size, base, text, kind)
    else:
        missing = subtract(((start, start + size),), base.inside)
        if missing:
            raise UsageError(
                f"use {kind} map",
                text,
                reason=f"{show(missing)} is beyond your {base.size} {kind}s (positions {show(base.inside)}: 0 is "
                f"yourself, then your ranges of /etc/sub{kind} follow)",
                hint=f"write @N for the host's {kind} N",
            )
        ranges = (IdRange(inside, start, size),)
    return Triple(ranges, "+" in flags, text)


def _read(specs: tuple[str, ...], kind: str, base: IdMap) -> tuple[Triple, ...]:
    triples: list[Triple] = []
    for spec in specs:
        fields = spec.split(":")
        # One flag may carry several full triples in a row.
        pieces = (
            [":".join(fields[first : first + 3]) for first in range(0, len(fields), 3)]
            if len(fields) % 3 == 0
            else [spec]
        )
        for piece in pieces:
            triple = read_triple(piece, kind, base)
            if triple is not None:
                triples.append(triple)
    return tuple(triples)


def _look_up(inside: int, start: int, size: int, base: IdMap, text: str, kind: str) -> tuple[IdRange, ...]:
    wanted = ((start, start + size),)
    missing = subtract(wanted, base.outside)
    if missing:
        raise UsageError(
            f"use {kind} map",
            text,
            reason=f"the host's {kind} {show(missing)} is not yours to map: you have {show(base.outside)}",
            hint=f"give it in /etc/sub{kind}, as root, and run `jubako system shutdown`",
        )
    found = []
    for above in base.entries:
        for first, end in intersect(wanted, ((above.outside, above.outside + above.size),)):
            found.append(IdRange(inside + first - start, above.inside + first - above.outside, end - first))
    return tuple(sorted(found, key=lambda entry: entry.inside))


def _make_room(entries: tuple[IdRange, ...], given: IdRange) -> tuple[IdRange, ...]:
    """The entries without the ids, on either side, that `given` is about to take."""
    result = []
    for entry in entries:
        inside, outside = given.inside - entry.inside, given.outside - entry.outside
        taken = ((inside, inside + given.size), (outside, outside + given.size))
        for start, end in subtract(((0, entry.size),), taken):
            result.append(IdRange(entry.inside + start, entry.outside + start, end - start))
    return tuple(result)


def _rest(entries: tuple[IdRange, ...], base: IdMap) -> tuple[IdRange, ...]:
    """What is left of the base, given to the container's free ids from 0 up."""
    said = IdMap(entries)
    free = subtract(((0, END_OF_IDS),), said.inside)
    return tuple(IdRange(*triple) for triple in pair(free, subtract(base.inside, said.outside)))


def _malformed(text: str, kind: str, flags_allowed: bool) -> UsageError:
    form = "[+ug]CONTAINER:[@]FROM[:AMOUNT]" if flags_allowed else "CONTAINER:[@]FROM[:AMOUNT]"
    return UsageError(f"read {kind} map", repr(text), reason=f"it must be {form}")
