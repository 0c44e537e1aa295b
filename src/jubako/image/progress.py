"""What long work on images says while it runs; the caller decides whether and how to show it."""

from __future__ import annotations

from collections.abc import Callable

from jubako.record import record


@record
class Progress:
    """One report: `stage` is `read` (bringing the archive in), `unpack`, `present` (the layer was here already) or
    `save`; `done` and `total` are bytes of the archive (0: not known); `number` of `count` layers.
    """

    stage: str
    subject: str
    number: int = 0
    count: int = 0
    done: int = 0
    total: int = 0


Report = Callable[[Progress], None]


def silent(_progress: Progress) -> None:
    """For callers that do not care."""
