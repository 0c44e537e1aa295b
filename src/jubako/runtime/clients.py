"""Who is connected to a supervisor's control socket. None of them can make it wait, and no number of them ends it."""

from __future__ import annotations

import os
import select

from jubako.linux import scm
from jubako.runtime.messages import Message, receive, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CONTROL = "control"
"""The socket's name in the container's run directory, whose mode (0700) decides who may connect."""


class Clients:
    """The connections. `answer(client, message)` may raise `OSError` for one that is gone."""

    def __init__(self, directory: str, answer: Callable[[scm.Socket, Message], None]) -> None:
        self._listener = scm.listen(directory, CONTROL)
        self._answer = answer
        self._clients: dict[int, scm.Socket] = {}
        self._most = 1 << 16

    def register(self, watch: Callable[[int, int], None]) -> None:
        """Say what to wait for."""
        if len(self._clients) < self._most:
            watch(self._listener.fileno(), select.POLLIN)
        for fd in self._clients:
            watch(fd, select.POLLIN)

    def attend(self, ready: dict[int, int]) -> None:
        """Take in who has come, and answer who has said something."""
        if self._listener.fileno() in ready:
            self._accept()
        for fd in [fd for fd in self._clients if fd in ready]:
            self._serve(self._clients[fd])

    def end(self, message: Message) -> None:
        """Tell all of them, also those who connected before the socket's name was gone."""
        poller = select.poll()
        poller.register(self._listener.fileno(), select.POLLIN)
        known = -1
        while poller.poll(0) and known < len(self._clients):
            known = len(self._clients)
            self._accept()
        self._listener.close()
        for client in self._clients.values():
            try:
                send(client, message)
            except OSError:
                continue

    def _accept(self) -> None:
        try:
            client = scm.accept(self._listener)
        except OSError:  # there are no descriptors left: the others wait for one to go
            self._most = max(1, len(self._clients))
            return
        client.setblocking(False)
        self._clients[client.fileno()] = client

    def _serve(self, client: scm.Socket) -> None:
        try:
            message, descriptors = receive(client)
        except (OSError, ValueError):
            message, descriptors = None, ()
        for fd in descriptors:
            os.close(fd)
        if message is None:
            self._drop(client)
            return
        try:
            self._answer(client, message)
        except OSError:  # it is gone, does not listen, or there are no descriptors left: the end of the link tells it
            self._drop(client)

    def _drop(self, client: scm.Socket) -> None:
        del self._clients[client.fileno()]
        client.close()
