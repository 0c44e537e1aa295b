"""What is done with local images besides running them: list, inspect, tag, remove, prune."""

from __future__ import annotations

import os
from typing import Any

from jubako import jsontext
from jubako.errors import JubakoError, UsageError
from jubako.image.model import Image
from jubako.image.reference import is_digest, parse_reference
from jubako.image.resolve import find_id, image_from, list_ids, read_names, read_prepared
from jubako.image.store import locked, publishing, read_layer, remove_unreferenced, write_names
from jubako.paths import Paths
from jubako.record import record


@record
class RemovedImage:
    """What a removal did: the names taken away, and the image itself unless something still holds it."""

    id: str
    untagged: tuple[str, ...]
    deleted: bool
    freed: int = 0


def list_images(paths: Paths) -> tuple[Image, ...]:
    """All local images, the youngest first."""
    names = read_names(paths)
    images = [image_from(paths, read_prepared(paths, image_id), names) for image_id in list_ids(paths)]
    return tuple(sorted(images, key=lambda image: (image.created, image.id), reverse=True))


def inspect_image(paths: Paths, name: str) -> dict[str, Any]:
    """Everything known of one image, under the names that `docker image inspect` uses."""
    names = read_names(paths)
    document = read_prepared(paths, find_id(paths, names, name))
    image = image_from(paths, document, names)
    config = image.config
    repositories = {parse_reference(known).repository for known in image.names}
    return {
        "Id": image.id,
        "RepoTags": [parse_reference(known).short for known in image.names if "@" not in known],
        "RepoDigests": [f"{repository}@{image.digest}" for repository in sorted(repositories) if image.digest],
        "Comment": document["comment"],
        "Created": image.created,
        "Author": document["author"],
        "Config": {
            "User": config.user,
            "ExposedPorts": {port: {} for port in config.exposed_ports},
            "Env": list(config.env),
            "Entrypoint": None if config.entrypoint is None else list(config.entrypoint),
            "Cmd": None if config.cmd is None else list(config.cmd),
            "Volumes": {volume: {} for volume in config.volumes},
            "WorkingDir": config.working_dir,
            "Labels": dict(config.labels),
            "StopSignal": config.stop_signal,
        },
        "Architecture": image.architecture,
        "Variant": image.variant,
        "Os": image.os,
        "Size": image.size,
        "RootFS": {"Type": "layers", "Layers": ["sha256:" + layer for layer in document["layers"]]},
        "LayerDirectories": list(image.layers),
        "History": [
            {"created": created, "created_by": made_by, "comment": comment, "empty_layer": empty}
            for created, made_by, comment, empty in document["history"]
        ],
        "Containers": list(containers_of(paths, image.id)),
    }


def tag_image(paths: Paths, name: str, new_name: str) -> str:
    """Give the image `name` another name; returns the complete form. A name that another image had moves over."""
    reference = parse_reference(new_name)
    if reference.digest:
        raise UsageError("tag", repr(new_name), reason="a new name cannot hold a digest")
    with locked(paths):
        names = read_names(paths)
        names[str(reference)] = find_id(paths, names, name)
        write_names(paths, names)
    return str(reference)


def remove_image(paths: Paths, name: str, *, force: bool = False) -> RemovedImage:
    """Take the name `name` away, and with its last name the image. By id, the image with its only name; with
    several names `force` is wanted.

    An image that a container uses is kept and refused; with `force` it loses its names and goes with `prune` when the
    container is gone.
    """
    with locked(paths) as doomed:
        names = read_names(paths)
        image_id = find_id(paths, names, name)
        own = sorted(known for known, identity in names.items() if identity == image_id)
        by_name = _named(names, name, image_id)
        going = [by_name] if by_name else own
        if len(going) > 1 and not force:
            raise UsageError(
                "remove image", name, reason=f"it has {len(going)} names: {', '.join(going)}",
                hint="remove them one by one, or all of them with --force",
            )  # fmt: skip
        last = len(going) == len(own)
        users = containers_of(paths, image_id) if last else ()
        if users and not force:
            shown = ", ".join(user[:12] for user in users[:5])
            raise JubakoError(
                "remove image", name, reason=f"used by {_count(len(users), 'container')}: {shown}",
                hint="remove them first (jubako rm), or take only its names away with --force",
            )  # fmt: skip
        for known in going:
            del names[known]
        with publishing(paths):
            write_names(paths, names)
            freed = 0
            if last and not users:
                os.unlink(f"{paths.data}/images/{image_id}.json")
                freed = remove_unreferenced(paths, doomed)
    return RemovedImage(id="sha256:" + image_id, untagged=tuple(going), deleted=last and not users, freed=freed)


def prune_images(paths: Paths, *, every: bool = False) -> tuple[RemovedImage, ...]:
    """Remove images that have no name (`every`: all images) and that no container uses, and layers that nothing
    needs.
    """
    removed = []
    with locked(paths) as doomed:
        names = read_names(paths)
        going = []
        for image_id in list_ids(paths):
            own = tuple(sorted(known for known, identity in names.items() if identity == image_id))
            if (own and not every) or containers_of(paths, image_id):
                continue
            going.append((image_id, own))
        sizes = {image_id: _own_size(paths, image_id, {other for other, _own in going}) for image_id, _own in going}
        with publishing(paths):
            for image_id, own in going:
                for known in own:
                    del names[known]
                removed.append(RemovedImage("sha256:" + image_id, own, True, sizes[image_id]))
            write_names(paths, names)
            for image_id, _own in going:
                os.unlink(f"{paths.data}/images/{image_id}.json")
            remove_unreferenced(paths, doomed)
    return tuple(removed)


def containers_of(paths: Paths, image_id: str) -> tuple[str, ...]:
    """The ids of the containers made from the image `image_id` (with or without `sha256:`), running or not."""
    wanted = image_id.removeprefix("sha256:")
    try:
        entries = sorted(os.listdir(paths.containers))
    except FileNotFoundError:
        return ()
    users = []
    for entry in entries:
        try:
            with open(f"{paths.containers}/{entry}/container.json", "rb") as file:
                document = jsontext.loads(file.read())
        except (FileNotFoundError, NotADirectoryError):  # being made or removed
            continue
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise JubakoError("read", f"{paths.containers}/{entry}/container.json", reason="it is damaged")
        if str(document.get("image_id", "")).removeprefix("sha256:") == wanted:
            users.append(entry)
    return tuple(users)


def _named(names: dict[str, str], name: str, image_id: str) -> str:
    """The complete form of `name` if it is one of the image's names (not its id)."""
    if is_digest(name):
        return ""
    try:
        complete = str(parse_reference(name))
    except UsageError:
        return ""
    return complete if names.get(complete) == image_id else ""


def _own_size(paths: Paths, image_id: str, doomed: set[str]) -> int:
    """The bytes of layers that go with this image: those that no image which stays has."""
    kept: set[str] = set()
    for other in list_ids(paths):
        if other not in doomed:
            kept.update(read_prepared(paths, other)["layers"])
    own = set(read_prepared(paths, image_id)["layers"]) - kept
    return sum((read_layer(paths, layer) or {"size": 0})["size"] for layer in own)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
