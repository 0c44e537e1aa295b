"""What a container of ours has and config.json has no word for, as planners want it."""

from __future__ import annotations

from jubako.plan.host import RootSource
from jubako.plan.step import Step
from jubako.record import record


@record
class Extras:
    """What belongs to a container besides its document.

    `filter` is the compiled system call filter; `streams` names the slots that become standard input, output and error
    (empty: they are inherited as they are); `cgroup` is the group's directory.
    """

    root: RootSource
    filter: bytes = b""
    filter_flags: int = 0
    init: bool = False
    streams: tuple[str, str, str] | tuple[()] = ()
    groups: tuple[str, ...] = ()
    cgroup: str = ""
    supervised: bool = True
    fuse: str = ""
    preserve_fds: int = 0
    network: Step | None = None
    """What connects the network namespace, once that is there."""
