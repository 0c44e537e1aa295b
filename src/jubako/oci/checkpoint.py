"""`checkpoint`: criu writes a running container's processes to disk, and ends them (runc's and crun's `checkpoint`).

The specification knows no such thing; the images are criu's, and what it can put into them is what can be kept.
"""

from __future__ import annotations

from jubako.errors import JubakoError, UsageError
from jubako.oci.criu import CriuOptions, find_criu
from jubako.oci.state import PAUSED, RUNNING, Container
from jubako.record import record


@record
class CheckpointOptions:
    """What `checkpoint` is asked, besides what `restore` is asked too (`criu`)."""

    criu: CriuOptions
    parent_path: str = ""
    leave_running: bool = False
    tcp_skip_in_flight: bool = False
    link_remap: bool = False
    pre_dump: bool = False
    page_server: str = ""
    status_fd: int = -1


def checkpoint(container: Container, options: CheckpointOptions) -> None:
    """Write the container to `image_path`. Raises `JubakoError`; then the container goes on as it was."""
    container.lock()
    try:
        state = container.read()
        status = container.status(state)
        if status not in (RUNNING, PAUSED):
            raise UsageError(
                "checkpoint container", container.id,
                reason=f"only what runs or is paused can be written, not what is {status}",
            )  # fmt: skip
        find_criu("checkpoint container", container.id, options.criu)
        raise JubakoError("checkpoint container", container.id, reason="not built yet")
    finally:
        container.unlock()
