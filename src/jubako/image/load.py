"""Bring images into the store: `jubako load` (image archives and layouts) and what `import` shares with it.

Everything is prepared in a workplace and verified there; then one short series of renames makes it visible. So an
archive is taken whole or not at all, and two loads of the same layer at once are merely slower.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError, UsageError
from jubako.image.archive import ImageEntry, LayerEntry, read_entries
from jubako.image.ingest import AS_IT_IS, NewLayer, Unpacking, ingest_layer
from jubako.image.model import config_to
from jubako.image.platform import Platform, host_platform
from jubako.image.progress import Progress, Report, silent
from jubako.image.reference import Reference, parse_reference
from jubako.image.resolve import read_names
from jubako.image.source import Source, counted, open_source
from jubako.image.store import (
    Workplace,
    blob_path,
    layer_path,
    locked,
    publishing,
    read_layer,
    workplace,
    write_atomically,
    write_names,
    write_prepared,
)
from jubako.paths import Paths
from jubako.record import record, replace

ATTEMPTS = 3


@record
class LoadedImage:
    """An image that is in the store now. `new` is False if it was there before; `names` are those it got."""

    id: str
    names: tuple[str, ...]
    new: bool
    warnings: tuple[str, ...] = ()


class _LayerVanished(Exception):
    """Another command removed a layer, with its image, while we counted on it."""


def load(
    paths: Paths,
    source: str,
    report: Report = silent,
    *,
    name: str = "",
    platform: Platform | None = None,
    unpacking: Unpacking = AS_IT_IS,
) -> tuple[LoadedImage, ...]:
    """Load every image of `source`: a docker archive, an OCI archive (both perhaps compressed), an OCI layout
    directory, or `-` for an archive on standard input.

    `name` is given to the only image instead of the archive's names. Of an image for several platforms, `platform`
    (this machine's) is taken. Raises `JubakoError`, and then the store is as it was before.
    """
    given = parse_reference(name) if name else None
    with workplace(paths) as place:
        opened = open_source(place, source, report)
        try:
            entries = read_entries(opened, platform or host_platform())
            if given is not None:
                if len(entries) != 1:
                    raise UsageError(
                        "load", source, reason=f"it holds {len(entries)} images, so one name cannot be given"
                    )
                entries = (replace(entries[0], names=(given,)),)
            for _attempt in range(ATTEMPTS):
                layers = _ingest_missing(paths, place, opened, entries, report, unpacking)
                try:
                    return publish(paths, entries, layers)
                except _LayerVanished:
                    continue
        finally:
            opened.close()
    raise JubakoError("load", source, reason="other commands kept removing its layers", hint="try again")


def publish(paths: Paths, entries: tuple[ImageEntry, ...], layers: dict[str, NewLayer]) -> tuple[LoadedImage, ...]:
    """Make prepared images visible: layers first, then the images, then their names."""
    _flush(paths)
    with locked(paths):
        for entry in entries:
            for diff_id in entry.config.diff_ids:
                if diff_id not in layers and read_layer(paths, diff_id) is None:
                    raise _LayerVanished
        with publishing(paths):
            for layer in layers.values():
                _place_layer(paths, layer)
            names = read_names(paths)
            loaded = tuple(_place_image(paths, entry, names, layers) for entry in entries)
            write_names(paths, names)
    return loaded


def _ingest_missing(
    paths: Paths,
    place: Workplace,
    source: Source,
    entries: tuple[ImageEntry, ...],
    report: Report,
    unpacking: Unpacking,
) -> dict[str, NewLayer]:
    """Unpack each layer that the store has not, once."""
    new: dict[str, NewLayer] = {}
    for entry in entries:
        count = len(entry.layers)
        for number, (layer, diff_id) in enumerate(zip(entry.layers, entry.config.diff_ids, strict=True), 1):
            progress = Progress("unpack", diff_id[:12], number, count, 0, layer.size)
            if diff_id in new or read_layer(paths, diff_id) is not None:
                report(replace(progress, stage="present"))
                continue
            report(progress)
            new[diff_id] = _ingest(paths, place, source, layer, diff_id, progress, report, unpacking)
    return new


def _ingest(
    paths: Paths,
    place: Workplace,
    source: Source,
    layer: LayerEntry,
    diff_id: str,
    progress: Progress,
    report: Report,
    unpacking: Unpacking,
) -> NewLayer:
    return ingest_layer(
        paths,
        place,
        counted(source.chunks(layer.member), report, progress),
        f"{source.label}, layer {progress.number} of {progress.count}",
        blob_digest=layer.digest,
        diff_id=diff_id,
        unpacking=unpacking,
    )


def _place_layer(paths: Paths, layer: NewLayer) -> None:
    target = layer_path(paths, layer.diff_id)
    if os.path.exists(target):  # another load was quicker; ours goes with the workplace
        return
    os.rename(layer.blob, blob_path(paths, layer.blob_digest))
    os.rename(layer.path, target)


def _place_image(paths: Paths, entry: ImageEntry, names: dict[str, str], layers: dict[str, NewLayer]) -> LoadedImage:
    new = not os.path.exists(f"{paths.data}/images/{entry.id}.json")
    if new:
        write_atomically(blob_path(paths, entry.id), entry.config_data)
        write_prepared(paths, _prepared(paths, entry))
    for reference in entry.names:
        names[_stored_name(reference)] = entry.id
    warnings = [
        warning for diff_id in entry.config.diff_ids if diff_id in layers for warning in layers[diff_id].warnings
    ]
    host = host_platform()
    if entry.config.architecture and (entry.config.os, entry.config.architecture) != (host.os, host.architecture):
        warnings.append(f"the image is for {entry.config.os}/{entry.config.architecture}, this machine is {host}")
    shown = tuple(_stored_name(reference) for reference in entry.names)
    return LoadedImage(id="sha256:" + entry.id, names=shown, new=new, warnings=tuple(dict.fromkeys(warnings)))


def _prepared(paths: Paths, entry: ImageEntry) -> dict[str, object]:
    """The document that `resolve` reads for every run."""
    config = entry.config
    known = [read_layer(paths, diff_id) or {} for diff_id in config.diff_ids]
    hiding = [number for number, layer in enumerate(known) if layer["hides_all"]]
    return {
        "id": entry.id,
        "config": config_to(config.config),
        "architecture": config.architecture,
        "os": config.os,
        "variant": config.variant,
        "created": config.created,
        "author": config.author,
        "comment": config.comment,
        "digest": entry.digest,
        "size": sum(layer["size"] for layer in known),
        "layers": config.diff_ids,
        "visible": config.diff_ids[hiding[-1] :] if hiding else config.diff_ids,
        "history": config.history,
    }


def _stored_name(reference: Reference) -> str:
    """A name with both tag and digest is kept under its tag; the digest is the image's own."""
    return str(replace(reference, digest="") if reference.tag and reference.digest else reference)


def _flush(paths: Paths) -> None:
    """Have the files on disk before their names are: after a power failure an image is whole or absent (syncfs(2))."""
    from jubako.linux.libc import check, libc

    fd = os.open(paths.data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        check(libc.syncfs(fd), "syncfs", paths.data)
    except OSError as failure:
        raise JubakoError.from_os_error("write", paths.data, failure) from None
    finally:
        os.close(fd)
