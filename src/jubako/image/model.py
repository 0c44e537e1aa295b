"""What the rest of jubako knows about a local image: small frozen records.

An image's id is the digest of its configuration, as docker has it (OCI image-spec 1.1, "ImageID"). Lists become tuples
and mappings become tuples of pairs, in the configuration's order, so that images compare and hash by value.
"""

from __future__ import annotations

from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@record
class ImageConfig:
    """What an image says about running it (OCI image-spec 1.1, config.md, property `config`).

    `cmd` and `entrypoint` are None where the image gives none, since an empty list means something else.
    """

    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()


@record
class Image:
    """A local image, ready to run.

    `layers` are the absolute paths of the unpacked layer directories, *lowest first, top last* (overlayfs' `lowerdir=`
    wants them the other way round). Layers below one that hides everything are already left out. `names` are
    complete references (`docker.io/library/busybox:latest`), sorted. `id` is `sha256:HEX`.
    """

    id: str
    names: tuple[str, ...]
    config: ImageConfig
    layers: tuple[str, ...]
    architecture: str = ""
    os: str = ""
    variant: str = ""
    created: str = ""
    size: int = 0
    digest: str = ""


def config_from(document: dict[str, Any]) -> ImageConfig:
    """The `ImageConfig` kept in a prepared file, as `config_to` wrote it."""
    cmd, entrypoint = document["cmd"], document["entrypoint"]
    return ImageConfig(
        env=tuple(document["env"]),
        cmd=None if cmd is None else tuple(cmd),
        entrypoint=None if entrypoint is None else tuple(entrypoint),
        working_dir=document["working_dir"],
        user=document["user"],
        stop_signal=document["stop_signal"],
        labels=tuple(document["labels"].items()),
        volumes=tuple(document["volumes"]),
        exposed_ports=tuple(document["exposed_ports"]),
    )


def config_to(config: ImageConfig) -> dict[str, Any]:
    """`config` as the prepared file keeps it."""
    return {
        "env": config.env,
        "cmd": config.cmd,
        "entrypoint": config.entrypoint,
        "working_dir": config.working_dir,
        "user": config.user,
        "stop_signal": config.stop_signal,
        "labels": dict(config.labels),
        "volumes": config.volumes,
        "exposed_ports": config.exposed_ports,
    }
