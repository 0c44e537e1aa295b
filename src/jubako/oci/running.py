"""`run`: create, start, and in the foreground wait for the end and delete (runc's and crun's `run`)."""

from __future__ import annotations

from jubako.errors import JubakoError
from jubako.linux import prctl
from jubako.oci.create import CreateOptions, create
from jubako.oci.ending import delete
from jubako.oci.foreground import Foreground
from jubako.oci.start import start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def run(options: CreateOptions, warn: Callable[[str], None], *, keep: bool = False, subreaper: bool = True) -> int:
    """The program's exit code (128 + N for signal N); 0 at once when detached. What cannot start is deleted; so is what
    has ended, unless it is to be kept.

    `subreaper` has processes that the program leaves behind end up here, not with the host's init (prctl(2),
    PR_SET_CHILD_SUBREAPER): with a PID namespace there are none.
    """
    if subreaper and not options.detached:
        prctl.prctl(prctl.PR_SET_CHILD_SUBREAPER, 1)
    created = create(options, warn)
    container = created.container
    try:
        foreground = Foreground(created.pidfd, created.master) if not options.detached else None
        start(container)
        if foreground is None:
            return 0
        code = foreground.wait(created.pid)
    except BaseException:
        _delete_quietly(created.container, warn)
        raise
    if not keep:
        delete(container, warn, force=True)
    return code


def _delete_quietly(container: object, warn: Callable[[str], None]) -> None:
    from jubako.oci.state import Container

    assert isinstance(container, Container)
    try:
        delete(container, warn, force=True)
    except (JubakoError, OSError) as failure:
        warn(str(failure))
