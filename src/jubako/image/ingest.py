"""One layer on its way in: one pass over its bytes gives the blob, both digests and the unpacked tree.

This process reads, decompresses and hashes; a child inside the base user namespace parses the tar stream and makes
the files. A pipe lies between them, so both work at once and nothing is written twice.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from jubako import jsontext
from jubako.errors import JubakoError
from jubako.image.compression import CompressionFault, Compressor, decompressed, detect
from jubako.image.inbase import own_as_base, start_in_base
from jubako.image.store import Workplace
from jubako.paths import Paths
from jubako.record import record

PIPE_SIZE = 1 << 20
_MEDIA = "application/vnd.oci.image.layer.v1.tar"
_SUFFIX = {"gzip": "+gzip", "zstd": "+zstd"}


@record
class Unpacking:
    """How to treat what an image may hold but a user may not make: device nodes, owners beyond the map."""

    skip_devices: bool = False
    squash_ids: bool = False


AS_IT_IS = Unpacking()


@record
class NewLayer:
    """A layer in a workplace: `path` holds `fs` and `layer.json`, `blob` is the compressed stream,
    `top` are names at the top of the tree (some, if there are many)."""

    diff_id: str
    path: str
    blob: str
    blob_digest: str
    size: int
    hides_all: bool
    warnings: tuple[str, ...]
    top: tuple[str, ...]


def ingest_layer(
    paths: Paths,
    place: Workplace,
    chunks: Iterator[bytes],
    what: str,
    *,
    blob_digest: str = "",
    diff_id: str = "",
    unpacking: Unpacking = AS_IT_IS,
    require_end: bool = False,
) -> NewLayer:
    """Unpack the layer whose (perhaps compressed) bytes are `chunks` into the workplace.

    `blob_digest` (`sha256:HEX`) is what the bytes must hash to, `diff_id` (HEX) what the tar stream must. Raises
    `JubakoError` for a corrupt, hostile or wrong stream, and when the disk is full; the workplace's end removes what
    was made.
    """
    path = os.path.dirname(place.new_tree())
    blob = _Blob(place.new_path())
    child = None
    read_end, write_end = _pipe()
    fs = os.open(f"{path}/fs", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        own_as_base(paths, fs)
        arguments = {
            "stream": read_end,
            "directory": fs,
            "what": what,
            "skip_devices": unpacking.skip_devices,
            "squash": unpacking.squash_ids,
            "require_end": require_end,
        }
        child = start_in_base(paths, "jubako.image.unpack:unpack_inside", arguments, (read_end, fs, place.lock_fd))
        os.close(read_end)
        read_end = -1
        tar_digest, tar_size = _pump(blob.tee(chunks), blob, write_end)
        os.close(write_end)
        write_end = -1
        facts = child.result()
        if blob_digest and blob.came_as != blob_digest:
            raise _wrong(what, "the manifest says", blob_digest, blob.came_as)
        if diff_id and tar_digest != diff_id:
            raise _wrong(what, "the image's configuration says", "sha256:" + diff_id, "sha256:" + tar_digest)
        blob.finish()
    except CompressionFault as fault:
        raise JubakoError("read", what, reason=str(fault)) from None
    except OSError as failure:
        raise JubakoError.from_os_error("unpack", what, failure, _hint(failure)) from None
    finally:
        for fd in (read_end, write_end, fs):
            if fd >= 0:
                os.close(fd)
        blob.close()
        if child is not None:
            child.end()
    document = {
        "diff_id": tar_digest,
        "size": facts["size"],
        "tar_size": tar_size,
        "hides_all": facts["hides_all"],
        "blob": {"media_type": blob.media_type, "digest": blob.digest, "size": blob.size},
    }
    with open(f"{path}/layer.json", "w", encoding="utf-8") as file:
        file.write(jsontext.dumps(document))
    return NewLayer(
        diff_id=tar_digest,
        path=path,
        blob=blob.path,
        blob_digest=blob.digest,
        size=facts["size"],
        hides_all=facts["hides_all"],
        warnings=tuple(facts["warnings"]),
        top=tuple(facts["top"]),
    )


class _Blob:
    """The layer as it will be kept: the bytes that came if they were compressed, else compressed here."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        self.digest = self.came_as = self.media_type = ""
        self._compressor: Compressor | None = None
        self._hash = hashlib.sha256()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def tee(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass `chunks` on; afterwards `came_as` is their digest."""
        source = hashlib.sha256()
        first = b""
        while len(first) < 6 and (chunk := next(chunks, b"")):
            first += chunk
        kind = detect(first)
        if kind not in _SUFFIX:  # a registry takes gzip and zstd
            kind, self._compressor = "gzip", Compressor()
        self.media_type = _MEDIA + _SUFFIX[kind]
        chunk = first
        while chunk:
            source.update(chunk)
            if self._compressor is None:
                self._keep(chunk)
            yield chunk
            chunk = next(chunks, b"")
        self.came_as = "sha256:" + source.hexdigest()

    def add_plain(self, chunk: bytes) -> None:
        """A piece of the uncompressed stream."""
        if self._compressor is not None:
            self._keep(self._compressor.add(chunk))

    def finish(self) -> None:
        if self._compressor is not None:
            self._keep(self._compressor.finish())
        self.digest = "sha256:" + self._hash.hexdigest()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _keep(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        write_all(self._fd, data)


def write_all(fd: int, data: bytes) -> None:
    """write(2) until all of `data` is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _pump(chunks: Iterator[bytes], blob: _Blob, pipe: int) -> tuple[str, int]:
    """Feed the tar stream to the child; its digest (hexadecimal) and size. A child that refuses it stops reading."""
    digest = hashlib.sha256()
    size = 0
    for piece in decompressed(chunks):
        digest.update(piece)
        size += len(piece)
        blob.add_plain(piece)
        try:
            write_all(pipe, piece)
        except BrokenPipeError:
            break  # the child's result says why
    return digest.hexdigest(), size


def _pipe() -> tuple[int, int]:
    import fcntl

    ends = os.pipe2(os.O_CLOEXEC)
    try:
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:  # the user's quota of pipe pages is used up; a small pipe does as well
        pass
    return ends


def _wrong(what: str, who: str, wanted: str, found: str) -> JubakoError:
    return JubakoError(
        "verify",
        what,
        reason=f"its digest is {found}, but {who} {wanted}",
        hint="the archive is damaged or was tampered with",
    )


def _hint(failure: OSError) -> str:
    import errno

    if failure.errno in (errno.ENOSPC, errno.EDQUOT):
        return "nothing was kept; make room on the file system of the image store, or move it with --root DIR"
    return ""
