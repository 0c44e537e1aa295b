"""`restore`: criu makes a container's processes again from what `checkpoint` wrote (runc's and crun's `restore`)."""

from __future__ import annotations

from jubako.errors import JubakoError
from jubako.oci.criu import CriuOptions, find_criu
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.oci.create import CreateOptions


@record
class RestoreOptions:
    """What `restore` is asked: the new container as `create` is asked for one, and how criu is to make it."""

    creation: CreateOptions
    criu: CriuOptions
    lsm_profile: str = ""
    lsm_mount_context: str = ""
    tcp_close: bool = False
    subreaper: bool = True


def restore(options: RestoreOptions, warn: Callable[[str], None]) -> int:
    """The program's exit code (128 + N for signal N); 0 at once when detached. Raises `JubakoError`; then nothing of
    the new container is left."""
    find_criu("restore container", options.creation.id, options.criu)
    raise JubakoError("restore container", options.creation.id, reason="not built yet")
