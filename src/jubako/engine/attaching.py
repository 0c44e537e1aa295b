"""`attach`: the streams of a running container, beside whoever else has them.

The supervisor gives each client pipes of its own; signals and the window's size go over the same connection.
"""

from __future__ import annotations

import os

from jubako.engine import store
from jubako.engine.launch import connect, not_running
from jubako.engine.streams import check_streams
from jubako.paths import Paths
from jubako.runtime.caller import DETACHED, LOST, Caller, Relay, parse_detach_keys
from jubako.runtime.messages import Attach, Attached, receive, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class AttachOptions(Protocol):
        @property
        def interactive(self) -> bool: ...
        @property
        def detach_keys(self) -> str: ...
        @property
        def sig_proxy(self) -> bool: ...


def attach_container(paths: Paths, container: store.Container, options: AttachOptions) -> int:
    """Copy between the container and this process's standard streams until the container ends or the detach keys are
    typed; the exit code (0 after the keys). `interactive` sends input."""
    check_streams()
    keys = parse_detach_keys(options.detach_keys)
    link = connect(paths, container)
    try:
        send(link, Attach(int(options.interactive)))
        message, descriptors = receive(link)
        if not isinstance(message, Attached):
            for fd in descriptors:
                os.close(fd)
            raise not_running(container.name)
        output, error, *rest = descriptors
        feed = rest[0] if rest else -1
        if feed >= 0:
            os.set_blocking(feed, False)
        terminal = bool(message.terminal)
        relay = Relay(
            input=feed,
            output=output,
            error=error,
            terminal=terminal,
            detach_keys=keys if terminal else b"",
            forward_signals=options.sig_proxy,
        )
        code = Caller(link, relay).wait()
    finally:
        link.close()
    if code == LOST:
        return store.KILLED
    return 0 if code == DETACHED else code
