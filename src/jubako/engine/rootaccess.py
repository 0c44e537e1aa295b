"""A child process inside a container's root file system, to read or write its files for `cp`.

Of a running container it joins the user and the mount namespace, of one that does not run it makes the root anew in a
mount namespace of its own. The container cannot see it, trace it or feed it: it joins no PID namespace, is not
dumpable, and once inside can import nothing (CVE-2019-14271 was a library of the container's, loaded by docker's cp).
"""

from __future__ import annotations

import os

from jubako import jsontext
from jubako.engine import store
from jubako.engine.allocation import load_ids
from jubako.engine.extras import HOST, IMAGE
from jubako.engine.launch import container_namespaces, open_basis, read_request
from jubako.engine.layer import make_layer
from jubako.engine.prepare import Prepared, prepare
from jubako.errors import JubakoError
from jubako.linux import clone, mount
from jubako.linux.descriptors import close_all_but
from jubako.linux.openat2 import open_in
from jubako.linux.prctl import set_dumpable
from jubako.paths import Paths, make_run_directories
from jubako.plan.step import Slots
from jubako.plan.steps.processes import stop_imports
from jubako.record import record
from jubako.runtime.base import enter_base

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Ids = Callable[[int, int], tuple[int, int]]
    Work = Callable[["Inside"], dict[str, Any]]

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


@record
class Inside:
    """What the work in the child gets: the root, and how owners on disk relate to the container's own ids."""

    root: int
    to_container: Ids
    to_disk: Ids
    mounted: str = ""
    """Where a file system is mounted that has a process of its own, to be ended."""

    def open_directory(self, path: str) -> int:
        """A directory of the container by path; links lead about inside only."""
        return _reopened(open_in(self.root, path or "/", _DIRECTORY))


class RootChild:
    """The child at work; `result` waits for it."""

    def __init__(self, pid: int, report: int) -> None:
        self.pid = pid
        self.report = report

    def result(self) -> dict[str, Any]:
        """What the work returned. Raises the `JubakoError` that it met."""
        with open(self.report, "rb") as file:
            text = file.read()
        os.waitpid(self.pid, 0)
        if not text:
            raise JubakoError("work in the container's root", reason="the process that did it was killed")
        answer: dict[str, Any] = jsontext.loads(text)
        if "error" in answer:
            operation, subject, number, reason, hint = answer["error"]
            raise JubakoError(operation, subject, errno=number, reason=reason, hint=hint)
        return answer


def work_in_root(paths: Paths, container: store.Container, work: Work, keep: tuple[int, ...]) -> RootChild:
    """Start `work` in the container's root; `keep` are the descriptors that it uses. For a container that does not run,
    the caller holds its lock until the work is done."""
    if container.running:
        namespaces = container_namespaces(paths, container)
        if read_request(container).extras.no_pivot:
            raise JubakoError("look into container", container.name, reason="it runs with --no-pivot: stop it first")
        try:
            return _start(lambda: _join(namespaces), work, keep, tuple(namespaces.values()))
        finally:
            for fd in namespaces.values():
                os.close(fd)
    make_run_directories(paths)
    basis = open_basis(paths)
    request = read_request(container)
    if request.extras.root.kind == HOST:
        raise JubakoError(
            "look into container", container.name, reason="it does not run, and the image host keeps no files",
            hint=f"start it: jubako start {container.name}",
        )  # fmt: skip
    image = None
    if request.extras.root.kind == IMAGE:
        from jubako.image.resolve import resolve

        image = resolve(paths, container.document["image_id"])
    prepared = prepare(
        paths, basis.ids, request, image=image, directory=container.directory, ids=load_ids(container.document)
    )
    make_layer(paths, container.directory, prepared)
    privileged = prepared.host.privileged
    return _start(lambda: _assemble(paths, prepared, privileged), work, keep, ())


def _start(enter: Callable[[], Inside], work: Work, keep: tuple[int, ...], needed: tuple[int, ...]) -> RootChild:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        os.close(writer)
        return RootChild(pid, reader)
    try:
        close_all_but((0, 1, 2, writer, *keep, *needed))
        answer = _answer(enter, work, writer)
        data = jsontext.dumps(answer).encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(writer, data) :]
    finally:
        os._exit(0)


def _answer(enter: Callable[[], Inside], work: Work, report: int) -> dict[str, Any]:
    try:
        inside = enter()
        try:
            return work(inside)
        finally:
            _leave(inside, report)
    except JubakoError as failure:
        return {"error": [failure.operation, failure.subject, failure.errno, failure.reason, failure.hint]}
    except OSError as failure:
        name = failure.filename if isinstance(failure.filename, str) else ""
        return {"error": ["copy", name, failure.errno or 0, "" if failure.errno else str(failure), ""]}
    except Exception as failure:
        return {"error": ["copy", "", 0, f"{type(failure).__name__}: {failure}", ""]}


def _leave(inside: Inside, report: int) -> None:
    """Let go of the root; a file system with a process of its own ends when nothing in it is open any more."""
    close_all_but((0, 1, 2, report))
    if inside.mounted:
        mount.umount(inside.mounted, mount.MNT_DETACH)
        os.wait()


def _join(namespaces: dict[str, int]) -> Inside:
    set_dumpable(False)
    user = namespaces["user"]
    if not os.path.samestat(os.fstat(user), os.stat("/proc/self/ns/user")):
        clone.setns(user, clone.CLONE_NEWUSER)
        _take_ids()
    stop_imports()
    clone.setns(namespaces["mount"], clone.CLONE_NEWNS)
    for fd in namespaces.values():
        os.close(fd)
    return Inside(os.open("/", _DIRECTORY), _same, _same)


def _take_ids() -> None:
    """Become root of the namespace, or the first id that it has."""
    with open("/proc/self/uid_map") as uids, open("/proc/self/gid_map") as gids:
        uid, gid = (min(int(line.split()[0]) for line in file) for file in (uids, gids))
    with open("/proc/self/setgroups") as file:
        if file.read().strip() == "allow":
            os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _assemble(paths: Paths, prepared: Prepared, privileged: bool) -> Inside:
    if not privileged:
        enter_base(paths)
    source, stage = prepared.root, prepared.host.stage
    clone.unshare(clone.CLONE_NEWNS)
    mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
    path, mounted = source.path, ""
    if source.kind == "overlay":
        from jubako.plan.steps.rootfs import MountOverlay

        MountOverlay(source.lower, source.upper, source.work, stage).apply(Slots())
        path = stage
    elif source.kind in ("prepared", "assembled"):
        _become_first()
        fuse = next(step for step in prepared.plan.steps if type(step).__name__ == "StartFuseOverlay")
        fuse.apply(Slots())
        mounted = path
    root = os.open(path, _DIRECTORY)
    stop_imports()
    set_dumpable(False)
    if source.kind == "tree" or not prepared.ids.nested:
        return Inside(root, _same, _same, mounted)
    uids = tuple((m.container_id, m.host_id, m.size) for m in prepared.spec.linux.uid_mappings)
    gids = tuple((m.container_id, m.host_id, m.size) for m in prepared.spec.linux.gid_mappings)
    return Inside(
        root,
        lambda uid, gid: (_translated(uids, uid, 1, 0), _translated(gids, gid, 1, 0)),
        lambda uid, gid: (_translated(uids, uid, 0, 1), _translated(gids, gid, 0, 1)),
        mounted,
    )


def _become_first() -> None:
    """Go on as PID 1 of a PID namespace: whatever ends this process ends the file system's process, too."""
    clone.unshare(clone.CLONE_NEWPID)
    pid = os.fork()
    if pid:
        close_all_but(())
        os.waitpid(pid, 0)
        os._exit(0)


def _translated(entries: tuple[tuple[int, int, int], ...], number: int, have: int, want: int) -> int:
    for entry in entries:
        if entry[have] <= number < entry[have] + entry[2]:
            return entry[want] + number - entry[have]
    return 65534 if want == 0 else _translated(entries, entries[0][0], 0, 1)


def _same(uid: int, gid: int) -> tuple[int, int]:
    return uid, gid


def _reopened(handle: int) -> int:
    """A descriptor that can be listed, for one that only stands for a path."""
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)
    finally:
        os.close(handle)
