"""Which images a source holds, told the same way for docker archives and OCI layouts.

A docker archive has `manifest.json` (moby image-spec v1.2, "Combined Image JSON + Filesystem Changeset Format"), an
OCI layout has `index.json` (image-spec 1.1, image-layout.md); what docker saves since version 25 is both, and then
`manifest.json` counts, since it has the names. Documents are small and are read here, every digest checked; layers
stay where they are.
"""

from __future__ import annotations

import hashlib
from typing import Any

from jubako.errors import JubakoError
from jubako.image.document import ConfigDocument, parse_json, read_config
from jubako.image.platform import Platform, choose, platform_of
from jubako.image.reference import Reference, is_digest, is_hex, parse_reference
from jubako.image.source import MAX_DOCUMENT, Source
from jubako.record import record

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
CONFIG_TYPES = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
MAX_NESTING = 4


@record
class LayerEntry:
    """Where a layer's bytes lie in the source, and the digest they must have (empty: only its diff id is known)."""

    member: str
    digest: str
    size: int


@record
class ImageEntry:
    """One image of a source. `config_data` are the very bytes whose digest is the image's id."""

    names: tuple[Reference, ...]
    config_data: bytes
    config: ConfigDocument
    layers: tuple[LayerEntry, ...]
    digest: str

    @property
    def id(self) -> str:
        """The image's id, hexadecimal."""
        return hashlib.sha256(self.config_data).hexdigest()


def read_entries(source: Source, platform: Platform) -> tuple[ImageEntry, ...]:
    """The images in `source`; of one for several platforms, that for `platform`.

    Raises `JubakoError` if it is no image archive, incomplete, or a document's digest is wrong.
    """
    if source.has("manifest.json"):
        return _docker_entries(source)
    if source.has("index.json"):
        return _layout_entries(source, platform)
    hint = "a root file system (docker export, tar of a directory) is taken by `jubako import FILE NAME`"
    if source.has("repositories"):
        hint = "it was saved by a docker older than 1.10; save it again with a newer one"
    raise JubakoError("read", source.label, reason="it holds no image (no manifest.json, no index.json)", hint=hint)


def _docker_entries(source: Source) -> tuple[ImageEntry, ...]:
    manifest = parse_json(source.document("manifest.json"), source.label, "manifest.json")
    if not isinstance(manifest, list) or not manifest:
        raise _malformed(source, "manifest.json", "is not a list of images")
    return tuple(_docker_entry(source, item) for item in manifest)


def _docker_entry(source: Source, item: Any) -> ImageEntry:
    if not isinstance(item, dict) or not isinstance(item.get("Config"), str):
        raise _malformed(source, "manifest.json", "lacks an image's Config")
    layers, tags = item.get("Layers") or [], item.get("RepoTags") or []
    if not _is_texts(layers) or not _is_texts(tags):
        raise _malformed(source, "manifest.json", "has Layers or RepoTags that are not lists of strings")
    data = source.document(item["Config"])
    _check_name(source, item["Config"].removesuffix(".json"), data)
    config = _config(source, data, len(layers))
    entries = []
    for member in layers:
        digest = "sha256:" + member[13:] if member.startswith("blobs/sha256/") and is_hex(member[13:], 64) else ""
        entries.append(LayerEntry(member=member, digest=digest, size=source.size(member)))
    return ImageEntry(
        names=tuple(parse_reference(tag) for tag in tags),
        config_data=data,
        config=config,
        layers=tuple(entries),
        digest="",
    )


def _check_name(source: Source, name: str, data: bytes) -> None:
    """Where the file is called by its digest, it must have that digest."""
    wanted = name.rpartition("/")[2]
    if is_hex(wanted, 64) and hashlib.sha256(data).hexdigest() != wanted:
        raise _wrong_digest(source, name, "sha256:" + wanted, data)


def _layout_entries(source: Source, platform: Platform) -> tuple[ImageEntry, ...]:
    index = parse_json(source.document("index.json"), source.label, "index.json")
    by_name: dict[str, list[dict[str, Any]]] = {}
    for descriptor in _descriptors(source, index, "index.json"):
        by_name.setdefault(_given_name(descriptor), []).append(descriptor)
    entries: list[ImageEntry] = []
    for name, descriptors in by_name.items():
        names = _names(source, name)
        groups = [descriptors] if name or _for_platforms(descriptors) else [[one] for one in descriptors]
        for group in groups:
            entries.append(_manifest_entry(source, group, names, platform, MAX_NESTING))
    if not entries:
        raise _malformed(source, "index.json", "lists no image")
    return tuple(_merged(entries))


def _merged(entries: list[ImageEntry]) -> list[ImageEntry]:
    """One entry an image: the same manifest under several names is one image with several names."""
    merged: dict[str, ImageEntry] = {}
    for entry in entries:
        known = merged.get(entry.id)
        names = (*known.names, *entry.names) if known else entry.names
        merged[entry.id] = ImageEntry(names, entry.config_data, entry.config, entry.layers, entry.digest)
    return list(merged.values())


def _manifest_entry(
    source: Source, descriptors: list[dict[str, Any]], names: tuple[Reference, ...], platform: Platform, depth: int
) -> ImageEntry:
    """The image behind one descriptor, or behind that one of several which fits `platform` best."""
    descriptor = descriptors[0]
    if len(descriptors) > 1:
        descriptor = choose(descriptors, platform, source.label)
    data = _blob(source, descriptor)
    document = parse_json(data, source.label, descriptor["digest"])
    if not isinstance(document, dict):
        raise _malformed(source, descriptor["digest"], "is not an object")
    if (document.get("mediaType") or descriptor.get("mediaType")) in INDEX_TYPES or "manifests" in document:
        if depth == 0:
            raise _malformed(source, descriptor["digest"], "nests indexes too deeply")
        below = [choose(_descriptors(source, document, descriptor["digest"]), platform, source.label)]
        return _manifest_entry(source, below, names, platform, depth - 1)
    config_descriptor, layers = document.get("config"), document.get("layers")
    if not isinstance(config_descriptor, dict) or not isinstance(layers, list):
        raise _malformed(source, descriptor["digest"], "is neither an image manifest nor an index")
    media_type = config_descriptor.get("mediaType", CONFIG_TYPES[0])
    if media_type not in CONFIG_TYPES:
        raise _malformed(source, descriptor["digest"], f"is no container image but an artifact of type {media_type!r}")
    config_data = _blob(source, config_descriptor)
    entries = [_layer(source, layer) for layer in layers]
    return ImageEntry(
        names=names,
        config_data=config_data,
        config=_config(source, config_data, len(entries)),
        layers=tuple(entries),
        digest=descriptor["digest"],
    )


def _descriptors(source: Source, index: Any, name: str) -> list[dict[str, Any]]:
    """The image descriptors of an index; buildkit's attestations are no images."""
    manifests = index.get("manifests") if isinstance(index, dict) else None
    if not isinstance(manifests, list) or not all(isinstance(item, dict) for item in manifests):
        raise _malformed(source, name, "has no list of manifests")
    images = []
    for item in manifests:
        annotations = item.get("annotations") or {}
        if not isinstance(annotations, dict) or not isinstance(item.get("platform") or {}, dict):
            raise _malformed(source, name, "has annotations or a platform that are not objects")
        if "vnd.docker.reference.type" not in annotations:
            images.append(item)
    return images


def _for_platforms(descriptors: list[dict[str, Any]]) -> bool:
    """Whether nameless descriptors are variants of one image: all say a platform, and no two say the same."""
    platforms = [platform_of(descriptor) for descriptor in descriptors]
    return all(platforms) and len(set(platforms)) == len(platforms)


def _layer(source: Source, descriptor: Any) -> LayerEntry:
    if not isinstance(descriptor, dict):
        raise _malformed(source, "the manifest", "lists a layer that is not an object")
    member = _blob_member(source, descriptor)
    if not source.has(member) and descriptor.get("urls"):
        raise JubakoError(
            "read", source.label, reason=f"the layer {descriptor['digest']} is only referred to, not contained"
        )
    size = source.size(member)
    if isinstance(descriptor.get("size"), int) and descriptor["size"] != size:
        raise JubakoError(
            "verify",
            f"{source.label}, layer {descriptor['digest']}",
            reason=f"it has {size} bytes, but the manifest says {descriptor['size']}",
            hint="the archive is damaged or was tampered with",
        )
    return LayerEntry(member=member, digest=descriptor["digest"], size=size)


def _blob(source: Source, descriptor: dict[str, Any]) -> bytes:
    member = _blob_member(source, descriptor)
    if source.has(member) and source.size(member) > MAX_DOCUMENT:
        raise _malformed(source, descriptor["digest"], "is too large for a document")
    data = source.document(member)
    if "sha256:" + hashlib.sha256(data).hexdigest() != descriptor["digest"]:
        raise _wrong_digest(source, descriptor["digest"], descriptor["digest"], data)
    return data


def _blob_member(source: Source, descriptor: dict[str, Any]) -> str:
    digest = descriptor.get("digest")
    if not isinstance(digest, str) or not is_digest(digest):
        raise JubakoError("read", source.label, reason=f"{str(digest)[:80]!r} is not a sha256 digest")
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _config(source: Source, data: bytes, layers: int) -> ConfigDocument:
    config = read_config(data, source.label)
    if not layers:
        raise JubakoError("read", source.label, reason="the image has no layer, so there is nothing to run in it")
    if len(config.diff_ids) != layers:
        raise JubakoError(
            "read",
            source.label,
            reason=f"the configuration names {len(config.diff_ids)} layers, but there are {layers}",
        )
    return config


def _given_name(descriptor: dict[str, Any]) -> str:
    annotations = descriptor.get("annotations") or {}
    name = annotations.get(CONTAINERD_NAME) or annotations.get(REF_NAME) or ""
    return name if isinstance(name, str) else ""


def _names(source: Source, name: str) -> tuple[Reference, ...]:
    """The reference that an annotation means. A bare `latest` or `1.36` is a tag, as the specification has it, and the
    source's own name goes before it; any other bare word is a name, as podman writes it."""
    if not name:
        return ()
    if "/" not in name and ":" not in name and (name == "latest" or name.lstrip("v")[:1].isdigit()):
        try:
            return (parse_reference(f"{source.stem.lower()}:{name}"),)
        except JubakoError:
            return ()
    return (parse_reference(name),)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _malformed(source: Source, name: str, reason: str) -> JubakoError:
    return JubakoError("read", source.label, reason=f"{name} {reason}")


def _wrong_digest(source: Source, name: str, wanted: str, data: bytes) -> JubakoError:
    return JubakoError(
        "verify",
        f"{source.label}, {name}",
        reason=f"its digest is sha256:{hashlib.sha256(data).hexdigest()}, but it should be {wanted}",
        hint="the archive is damaged or was tampered with",
    )
