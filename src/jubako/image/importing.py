"""`jubako import`: a flat root file system (what `docker export` writes, a tar of a directory) becomes an image of
one layer.
"""

from __future__ import annotations

import os
import time
from typing import Any

from jubako import jsontext
from jubako.errors import JubakoError
from jubako.image.archive import ImageEntry
from jubako.image.changes import apply_changes
from jubako.image.compression import chunks_of
from jubako.image.document import read_config
from jubako.image.ingest import AS_IT_IS, Unpacking, ingest_layer
from jubako.image.load import LoadedImage, publish
from jubako.image.platform import Platform, host_platform
from jubako.image.progress import Progress, Report, silent
from jubako.image.reference import parse_reference
from jubako.image.source import counted, open_stream
from jubako.image.store import workplace
from jubako.paths import Paths


def import_(
    paths: Paths,
    source: str,
    name: str = "",
    report: Report = silent,
    *,
    changes: tuple[str, ...] = (),
    message: str = "",
    platform: Platform | None = None,
    unpacking: Unpacking = AS_IT_IS,
) -> LoadedImage:
    """Make an image of the tar archive `source` (a file, perhaps compressed, or `-`) and call it `name`.

    `changes` are Dockerfile instructions (`CMD ["/bin/sh"]`, `ENV A=1`). Raises `JubakoError`, and then the store is
    as before.
    """
    reference = parse_reference(name) if name else None
    document = _document(apply_changes(changes), platform or host_platform(), message or f"imported from {source}")
    with workplace(paths) as place:
        fd, label = open_stream(source)
        try:
            progress = Progress("unpack", label, 1, 1, 0, os.fstat(fd).st_size)
            chunks = counted(chunks_of(fd), report, progress)
            layer = ingest_layer(paths, place, chunks, label, unpacking=unpacking, require_end=True)
        except OSError as failure:
            raise JubakoError.from_os_error("read", label, failure) from None
        finally:
            os.close(fd)
        _refuse_archive(layer.top, label)
        document["rootfs"]["diff_ids"] = ["sha256:" + layer.diff_id]
        data = jsontext.dumps(document).encode()
        entry = ImageEntry(
            names=(reference,) if reference else (),
            config_data=data,
            config=read_config(data, label),
            layers=(),
            digest="",
        )
        return publish(paths, (entry,), {layer.diff_id: layer})[0]


def _document(config: dict[str, Any], platform: Platform, comment: str) -> dict[str, Any]:
    now = time.time_ns()
    created = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09}Z"
    document: dict[str, Any] = {
        "created": created,
        "architecture": platform.architecture,
        "os": platform.os,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [{"created": created, "comment": comment}],
    }
    if platform.variant:
        document["variant"] = platform.variant
    return document


def _refuse_archive(top: tuple[str, ...], label: str) -> None:
    """An image archive is a tar as well, and as a root file system it would be of no use to anybody."""
    if "manifest.json" in top or {"index.json", "oci-layout"} <= set(top):
        raise JubakoError(
            "import", label, reason="it is an image archive, not a root file system", hint=f"jubako load -i {label}"
        )
    if not top:
        raise JubakoError("import", label, reason="the archive holds no files")
