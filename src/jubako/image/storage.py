"""How layers become one root: the kernel's overlay, fuse-overlayfs, or a copy. The choice is pure; the facts are
probed.

The only honest probe of overlayfs in a user namespace is to mount one on the store's own file system and to remove a
file through it: the kernel's version (5.11), the file system below and security modules all have a say. The answer is
kept for this boot, under the run directory, since every `jubako run` asks. A probe that did not get as far as overlayfs
is no answer: user namespaces that were switched off, or a full disk, may be put right a moment later.
"""

from __future__ import annotations

import os

from jubako import jsontext
from jubako.errors import JubakoError, UsageError
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.paths import Paths

OVERLAY, FUSE_OVERLAYFS, COPY = "overlay", "fuse-overlayfs", "copy"
KINDS = (OVERLAY, FUSE_OVERLAYFS, COPY)
_MOUNT, _USE = "mount overlay", "use overlay"


@record
class StorageFacts:
    """What this machine can: each obstacle is empty where the thing works. `fuse_program` is the absolute path;
    `lasting` is false where overlayfs could not even be tried.
    """

    overlay_obstacle: str = ""
    fuse_program: str = ""
    fuse_obstacle: str = ""
    lasting: bool = True


@record
class StorageChoice:
    """The kind of storage and, for people, the reason for it."""

    kind: str
    reason: str
    program: str = ""


def choose_storage(facts: StorageFacts, asked: str = "") -> StorageChoice:
    """The storage `asked` for, or the fastest that works.

    Raises `UsageError` for an unknown kind, `JubakoError` when the machine cannot do what was asked for: it is
    never replaced by another.
    """
    if asked and asked not in KINDS:
        raise UsageError("choose storage", repr(asked), reason=f"it is not one of {', '.join(KINDS)}")
    if asked == COPY:
        return StorageChoice(COPY, "asked for")
    if asked == OVERLAY and facts.overlay_obstacle:
        raise _impossible(OVERLAY, facts.overlay_obstacle, "leave --storage out, and jubako takes what works here")
    if asked == FUSE_OVERLAYFS and facts.fuse_obstacle:
        raise _impossible(
            FUSE_OVERLAYFS, facts.fuse_obstacle, "install the package fuse-overlayfs, and allow /dev/fuse"
        )
    if asked != FUSE_OVERLAYFS and not facts.overlay_obstacle:
        return StorageChoice(OVERLAY, "the kernel mounts overlayfs in a user namespace here")
    if not facts.fuse_obstacle:
        reason = "asked for" if asked else f"the kernel's overlayfs is not usable here: {facts.overlay_obstacle}"
        return StorageChoice(FUSE_OVERLAYFS, reason, facts.fuse_program)
    return StorageChoice(
        COPY, f"neither overlayfs ({facts.overlay_obstacle}) nor fuse-overlayfs ({facts.fuse_obstacle}) is usable here"
    )


def read_facts(paths: Paths) -> StorageFacts:
    """The facts of this boot for the store at `paths.data`, probed when nothing is known yet."""
    known = known_facts(paths)
    if known is None:
        known = probe(paths)
        if known.lasting:
            _keep(paths, _key(paths), known)
    return known


def known_facts(paths: Paths) -> StorageFacts | None:
    """The facts of this boot, if they were probed already; nothing is tried."""
    try:
        with open(_cache(paths), "rb") as file:
            known = jsontext.loads(file.read())
        if known["key"] == _key(paths):
            return StorageFacts(known["overlay_obstacle"], known["fuse_program"], known["fuse_obstacle"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def remember_facts(paths: Paths, facts: StorageFacts) -> None:
    """Keep what was found out in another way, for `read_facts` of this boot."""
    _keep(paths, _key(paths), facts)


def probe(paths: Paths) -> StorageFacts:
    """Try everything now."""
    program, fuse_obstacle = find_fuse_overlayfs()
    failure = _overlay_failure(paths)
    lasting = failure is None or failure.operation in (_MOUNT, _USE)
    return StorageFacts(_first_line(failure), program, fuse_obstacle, lasting)


def probe_overlay(paths: Paths) -> str:
    """Why the kernel's overlayfs cannot be used in the base user namespace on the store's file system; empty if it
    can.
    """
    return _first_line(_overlay_failure(paths))


def _first_line(failure: JubakoError | None) -> str:
    return str(failure).partition("\n")[0] if failure else ""


def _overlay_failure(paths: Paths) -> JubakoError | None:
    from jubako.image.inbase import own_as_base, run_in_base
    from jubako.image.store import workplace

    try:
        with workplace(paths) as place:
            directory = place.new_tree()
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                own_as_base(paths, fd)
                run_in_base(paths, "jubako.image.storage:try_overlay", {"directory": fd}, (fd, place.lock_fd))
            finally:
                os.close(fd)
    except JubakoError as error:
        return error
    return None


def find_fuse_overlayfs() -> tuple[str, str]:
    """The program's path, and why it cannot be used (empty if it can)."""
    for directory in os.environ.get("PATH", "/usr/bin:/bin").split(":"):
        program = f"{directory}/fuse-overlayfs"
        if directory.startswith("/") and os.access(program, os.X_OK):
            break
    else:
        return "", "the program fuse-overlayfs is not installed"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as failure:
        return program, f"/dev/fuse cannot be opened: {os.strerror(failure.errno or 0)}"
    return program, ""


def try_overlay(directory: int) -> None:
    """Inside the base, in a mount namespace of its own: mount an overlay and remove a file through it
    (`image.inbase`).
    """
    from jubako.linux import clone, mount

    os.fchdir(directory)
    clone.unshare(clone.CLONE_NEWNS)
    mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(name, 0o755)
    os.close(os.open("lower/file", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    options = "lowerdir=lower,upperdir=upper,workdir=work,userxattr"
    try:
        mount.mount("overlay", "merged", "overlay", 0, options)
    except OSError as failure:
        raise JubakoError.from_os_error(_MOUNT, "in a user namespace", failure) from None
    try:
        os.unlink("merged/file")
        os.mkdir("merged/file")  # an opaque directory: needs user.* attributes below
        if os.getxattr("upper/file", "user.overlay.opaque") != b"y":
            raise JubakoError(_USE, "in a user namespace", reason="it keeps no opaque marks")
    except OSError as failure:
        raise JubakoError.from_os_error(_USE, "in a user namespace", failure) from None


def _impossible(kind: str, obstacle: str, hint: str) -> JubakoError:
    return JubakoError("choose storage", kind, reason=obstacle, hint=hint)


def _key(paths: Paths) -> str:
    """Changes with the boot, the kernel, the store's file system, and whether fuse-overlayfs could be used."""
    with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
        boot = file.read(64).decode().strip()
    directory = paths.data
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    device = os.stat(directory).st_dev
    fuse = os.access("/dev/fuse", os.R_OK | os.W_OK)
    return f"{boot} {os.uname().release} {paths.data} {device} {os.environ.get('PATH', '')} {fuse}"


def _cache(paths: Paths) -> str:
    return f"{paths.run}/storage.json"


def _keep(paths: Paths, key: str, facts: StorageFacts) -> None:
    temporary = f"{_cache(paths)}.{os.getpid()}"
    document = {
        "key": key,
        "overlay_obstacle": facts.overlay_obstacle,
        "fuse_program": facts.fuse_program,
        "fuse_obstacle": facts.fuse_obstacle,
    }
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.write(fd, jsontext.dumps(document).encode())
        os.close(fd)
        os.rename(temporary, _cache(paths))
    except OSError:  # no run directory yet: it is probed again next time
        pass
