"""The container's writable layer: made empty before its first start, kept with the container."""

from __future__ import annotations

import os

from jubako.engine.prepare import Prepared
from jubako.ids.base import BaseIds
from jubako.paths import Paths


def make_layer(paths: Paths, directory: str, prepared: Prepared, base: BaseIds) -> None:
    """Make the directories that the prepared root needs, owned by the container's root; existing ones are kept."""
    uid = gid = -1
    if prepared.host.privileged and prepared.ids.nested:
        uid = prepared.spec.linux.uid_mappings[0].host_id
        gid = prepared.spec.linux.gid_mappings[0].host_id
    names = ["layer", "layer/upper", "layer/work"]
    root = prepared.root
    if root.kind in ("prepared", "assembled"):
        names.append("merged")
    if root.kind == "copy":
        _copy_layers(paths, directory, prepared)
        return
    for name in names:
        path = f"{directory}/{name}"
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            continue
        os.chmod(path, 0o755)
        if uid >= 0:
            os.chown(path, uid, gid)


def _copy_layers(paths: Paths, directory: str, prepared: Prepared) -> None:
    from jubako.image.storage_copy import copy_layers

    if not os.path.isdir(directory + "/root"):
        copy_layers(paths, prepared.root.lower, directory + "/root", prepared.ids)
