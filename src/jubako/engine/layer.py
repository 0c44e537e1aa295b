"""The container's writable layer: made empty before its first start, kept with the container."""

from __future__ import annotations

import os

from jubako.engine.prepare import Prepared, layer_directories
from jubako.ids.idmap import IdMap
from jubako.paths import Paths


def make_layer(paths: Paths, directory: str, prepared: Prepared) -> None:
    """Make the directories that the prepared root needs, owned by the container's root; existing ones are kept."""
    if prepared.root.kind == "copy":
        _make_copy(paths, directory, prepared)
    names = ["layer"]
    if prepared.root.kind in ("overlay", "prepared", "assembled"):
        names += ["layer/upper", "layer/work"]
    if prepared.root.kind in ("prepared", "assembled"):
        names.append("merged")
    wanted = [*(f"{directory}/{name}" for name in names), *layer_directories(prepared.spec, directory)]
    made = [path for path in wanted if _make(path)]
    linux = prepared.spec.linux
    if not made or not prepared.ids.nested or prepared.root.kind in ("prepared", "assembled"):
        return
    uid = next((m.host_id for m in linux.uid_mappings if m.container_id == 0), 0)
    gid = next((m.host_id for m in linux.gid_mappings if m.container_id == 0), 0)
    if prepared.host.privileged:
        _give(made, uid, gid)
    elif (uid, gid) != (0, 0):
        from jubako.runtime.base import in_base

        in_base(paths, lambda: _give(made, uid, gid))


def _make(path: str) -> bool:
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return False
    os.chmod(path, 0o755)
    return True


def _give(made: list[str], uid: int, gid: int) -> None:
    for path in made:
        os.chown(path, uid, gid)


def _make_copy(paths: Paths, directory: str, prepared: Prepared) -> None:
    """All layers as one tree of the container's own, with other owners where its ids are not the base's."""
    from jubako.image.copying import copy_layers_in_base
    from jubako.image.inbase import run_in_base

    target = f"{directory}/root"
    if os.path.isdir(target):
        return
    made = f"{directory}/root.new"
    os.mkdir(made, 0o755)
    if prepared.host.privileged:
        from jubako.runtime.base import open_base

        base = open_base(paths)
        os.close(base.fd)
        uid, gid = base.ids.uids.to_outside(0) or 0, base.ids.gids.to_outside(0) or 0
        os.chown(made, uid, gid)
        os.chown(paths.containers, 0, gid)  # who copies is root of the base: let that one pass, and nobody else
        os.chmod(paths.containers, 0o710)
    copy_layers_in_base(paths, tuple(reversed(prepared.root.lower)), made)
    ids = prepared.ids
    if _moves(ids.uids) or _moves(ids.gids):
        arguments = {"target": made, "uids": ids.uids.text(), "gids": ids.gids.text()}
        run_in_base(paths, "jubako.image.shifting:shift_owners", arguments)
    os.rename(made, target)


def _moves(ids: IdMap) -> bool:
    return any(entry.inside != entry.outside for entry in ids.entries)
