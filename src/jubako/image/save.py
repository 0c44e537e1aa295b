"""`jubako save`: images as an archive that docker, podman and skopeo read.

The docker form holds plain layers and `manifest.json`, the OCI form compressed layers as the store keeps them.
Nothing in an archive depends on the time or the place of its making, so equal images give equal archives.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator
from typing import Any

from jubako import jsontext
from jubako.errors import JubakoError, UsageError
from jubako.image.archive import CONTAINERD_NAME, REF_NAME
from jubako.image.compression import CompressionFault, chunks_of, decompressed
from jubako.image.ingest import write_all
from jubako.image.progress import Progress, Report, silent
from jubako.image.reference import parse_reference
from jubako.image.resolve import find_id, read_names, read_prepared
from jubako.image.store import blob_path, read_layer
from jubako.paths import Paths

DOCKER, OCI = "docker-archive", "oci-archive"
FORMATS = (DOCKER, OCI)
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"


def save(paths: Paths, names: tuple[str, ...], target: str, report: Report = silent, *, form: str = DOCKER) -> None:
    """Write the images `names` to the file `target` (`-`: standard output, which must not be a terminal).

    `form` is `docker-archive` or `oci-archive`. An image named by its name keeps just that name, one given by its id
    all. A file appears only when it is complete.
    """
    if form not in FORMATS:
        raise UsageError("save", f"--format {form}", reason=f"it is not one of {', '.join(FORMATS)}")
    if not names:
        raise UsageError("save", reason="no image was named")
    chosen = _choose(paths, names)
    if target == "-":
        if os.isatty(1):
            raise UsageError(
                "save",
                "to standard output",
                reason="it is a terminal",
                hint="write to a file with -o FILE, or redirect",
            )
        _write(paths, chosen, _Tar(1, report), form)
        return
    temporary = f"{target}.{os.getpid()}.part"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as failure:
        raise JubakoError.from_os_error("write", target, failure) from None
    try:
        _write(paths, chosen, _Tar(fd, report), form)
        os.rename(temporary, target)
    except BaseException as failure:
        os.unlink(temporary)
        if isinstance(failure, OSError):
            raise JubakoError.from_os_error("write", target, failure) from None
        raise
    finally:
        os.close(fd)


def _choose(paths: Paths, names: tuple[str, ...]) -> dict[str, list[str]]:
    """Image id → the names to write."""
    known = read_names(paths)
    chosen: dict[str, list[str]] = {}
    for name in names:
        image_id = find_id(paths, known, name)
        wanted = chosen.setdefault(image_id, [])
        own = [each for each, identity in known.items() if identity == image_id and "@" not in each]
        try:
            complete = str(parse_reference(name))
        except UsageError:
            complete = ""
        wanted += [complete] if complete in own else own
    return {image_id: list(dict.fromkeys(wanted)) for image_id, wanted in chosen.items()}


def _write(paths: Paths, chosen: dict[str, list[str]], tar: _Tar, form: str) -> None:
    write = _write_docker if form == DOCKER else _write_oci
    write(paths, chosen, tar)
    tar.finish()


def _write_docker(paths: Paths, chosen: dict[str, list[str]], tar: _Tar) -> None:
    manifest = []
    for image_id, names in chosen.items():
        layers = []
        for layer in _layers(paths, image_id):
            member = f"{layer['diff_id']}.tar"
            layers.append(member)
            tar.add_stream(member, layer["tar_size"], _plain(paths, layer))
        tar.add(f"{image_id}.json", _config_data(paths, image_id))
        shown = [parse_reference(name).short for name in names]
        manifest.append({"Config": f"{image_id}.json", "RepoTags": shown or None, "Layers": layers})
    tar.add("manifest.json", jsontext.dumps(manifest).encode())


def _write_oci(paths: Paths, chosen: dict[str, list[str]], tar: _Tar) -> None:
    descriptors: list[dict[str, Any]] = []
    for directory in ("blobs", "blobs/sha256"):  # without these, skopeo makes them and wants them to be root's
        tar.add_directory(directory)
    tar.add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    for image_id, names in chosen.items():
        config = _config_data(paths, image_id)
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": "sha256:" + image_id, "size": len(config)},
            "layers": [],
        }
        for layer in _layers(paths, image_id):
            blob = layer["blob"]
            manifest["layers"].append({"mediaType": blob["media_type"], "digest": blob["digest"], "size": blob["size"]})
            tar.add_stream(_blob_name(blob["digest"]), blob["size"], _raw(paths, blob["digest"]))
        tar.add(_blob_name(image_id), config)
        data = jsontext.dumps(manifest).encode()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        tar.add(_blob_name(digest), data)
        descriptor = {"mediaType": _MANIFEST, "digest": digest, "size": len(data)}
        for name in names:
            annotations = {REF_NAME: name, CONTAINERD_NAME: name}
            descriptors.append({**descriptor, "annotations": annotations})
        if not names:
            descriptors.append(descriptor)
    tar.add("index.json", jsontext.dumps({"schemaVersion": 2, "manifests": descriptors}).encode())


def _layers(paths: Paths, image_id: str) -> Iterator[dict[str, Any]]:
    for layer in read_prepared(paths, image_id)["layers"]:
        known = read_layer(paths, layer)
        if known is None:
            raise JubakoError(
                "save", image_id[:12], reason=f"its layer {layer[:12]} is gone", hint="the image store was damaged"
            )
        yield known


def _config_data(paths: Paths, image_id: str) -> bytes:
    try:
        with open(blob_path(paths, image_id), "rb") as file:
            return file.read()
    except OSError as failure:
        raise JubakoError.from_os_error("read the configuration of", image_id[:12], failure) from None


def _raw(paths: Paths, digest: str) -> Iterator[bytes]:
    try:
        fd = os.open(blob_path(paths, digest), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as failure:
        raise JubakoError.from_os_error("read blob", digest, failure, "the image store was damaged") from None
    try:
        yield from chunks_of(fd)
    finally:
        os.close(fd)


def _plain(paths: Paths, layer: dict[str, Any]) -> Iterator[bytes]:
    try:
        yield from decompressed(_raw(paths, layer["blob"]["digest"]))
    except CompressionFault as fault:
        raise JubakoError(
            "read blob", layer["blob"]["digest"], reason=str(fault), hint="the image store was damaged"
        ) from None


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


class _Tar:
    """Writes a tar archive to a descriptor, each name once."""

    def __init__(self, fd: int, report: Report) -> None:
        self._fd = fd
        self._report = report
        self._added: set[str] = set()
        self._done = 0

    def add(self, name: str, data: bytes) -> None:
        self.add_stream(name, len(data), iter((data,)))

    def add_directory(self, name: str) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        self._put(info.tobuf(tarfile.PAX_FORMAT))

    def add_stream(self, name: str, size: int, chunks: Iterator[bytes]) -> None:
        if name in self._added:
            return
        self._added.add(name)
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o444
        self._put(info.tobuf(tarfile.PAX_FORMAT))
        written = 0
        for chunk in chunks:
            written += len(chunk)
            self._put(chunk)
            self._report(Progress("save", name, done=self._done))
        if written != size:
            raise JubakoError(
                "save", name, reason=f"it has {written} bytes instead of {size}", hint="the image store was damaged"
            )
        self._put(bytes(-size % tarfile.BLOCKSIZE))

    def finish(self) -> None:
        """The end mark, filled up to a whole record as tar(1) does."""
        self._put(bytes(2 * tarfile.BLOCKSIZE))
        self._put(bytes(-self._done % tarfile.RECORDSIZE))

    def _put(self, data: bytes) -> None:
        write_all(self._fd, data)
        self._done += len(data)
