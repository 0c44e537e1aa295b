"""Image archives as `docker save` and the OCI image layout have them, written by hand so that tests may spoil any part.

Formats: OCI image-spec 1.1 (image-layout, manifest, config) and the docker-save form of Docker 20 to 24.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2024-01-01T00:00:00Z",
    "config": {
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Cmd": ["sh"],
        "WorkingDir": "/",
    },
}


def layer(root: Path, change: Callable[[tarfile.TarInfo], tarfile.TarInfo | None] | None = None) -> bytes:
    """The tree below `root` as an uncompressed layer, owned by 0:0 and always the same bytes for the same tree."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        return change(entry) if change else entry

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.iterdir()):
            archive.add(path, path.name, filter=plain)
    return buffer.getvalue()


def files_layer(files: Mapping[str, str | bytes | None]) -> bytes:
    """A layer of these files; None as content makes a directory. Whiteouts are files named `.wh.NAME`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
                continue
            data = content.encode() if isinstance(content, str) else content
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def image_config(layers: Sequence[bytes], config: Mapping[str, Any] | None = None) -> bytes:
    """The image's config document for `layers`; `config` adds to or replaces the inner `config` (Env, Cmd, User …)."""
    document = {
        **CONFIG,
        "config": {**CONFIG["config"], **(config or {})},
        "rootfs": {"type": "layers", "diff_ids": [_digest(data) for data in layers]},
        "history": [{"created": CONFIG["created"], "created_by": f"layer {n}"} for n in range(len(layers))],
    }
    return json.dumps(document).encode()


def write_docker_archive(
    path: Path, layers: Sequence[bytes], names: Sequence[str] = (), config: Mapping[str, Any] | None = None
) -> Path:
    """What `docker save NAMES` writes: manifest.json, the config and one directory a layer."""
    document = image_config(layers, config)
    config_name = hashlib.sha256(document).hexdigest() + ".json"
    layer_names = [f"{hashlib.sha256(data).hexdigest()}/layer.tar" for data in layers]
    manifest = [{"Config": config_name, "RepoTags": list(names) or None, "Layers": layer_names}]
    members = {config_name: document, **dict(zip(layer_names, layers, strict=True)), "manifest.json": _json(manifest)}
    return write_tar(path, members)


def write_oci_layout(
    directory: Path,
    layers: Sequence[bytes],
    name: str = "latest",
    config: Mapping[str, Any] | None = None,
    compress: bool = True,
) -> Path:
    """An OCI image layout in `directory`; `name` becomes the annotation org.opencontainers.image.ref.name."""
    for relative, data in oci_members(layers, name, config, compress).items():
        target = directory / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return directory


def write_oci_archive(
    path: Path,
    layers: Sequence[bytes],
    name: str = "latest",
    config: Mapping[str, Any] | None = None,
    compress: bool = True,
) -> Path:
    """The same layout as one tar file (skopeo's and podman's oci-archive)."""
    return write_tar(path, oci_members(layers, name, config, compress))


def oci_members(
    layers: Sequence[bytes], name: str, config: Mapping[str, Any] | None, compress: bool
) -> dict[str, bytes]:
    """The files of an image layout by their relative names."""
    blobs: dict[str, bytes] = {}

    def blob(media_type: str, data: bytes) -> dict[str, Any]:
        digest = _digest(data)
        blobs["blobs/" + digest.replace(":", "/")] = data
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": digest, "size": len(data)}

    kind = "layer.v1.tar+gzip" if compress else "layer.v1.tar"
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", image_config(layers, config)),
        "layers": [blob(kind, gzip.compress(data, mtime=0) if compress else data) for data in layers],
    }
    described = blob("manifest.v1+json", _json(manifest))
    described["annotations"] = {"org.opencontainers.image.ref.name": name}
    index = {"schemaVersion": 2, "manifests": [described]}
    return {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index), **blobs}


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return path


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()
