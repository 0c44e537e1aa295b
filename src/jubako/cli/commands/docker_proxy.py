"""`jubako rootlesskit-docker-proxy`: what dockerd starts for a published port, with docker-proxy's flags."""

from __future__ import annotations

import os

from jubako.cli.flags import NUMBER, SWITCH, Command, Flag, Values
from jubako.errors import JubakoError, UsageError

COMMAND = Command(
    "rootlesskit-docker-proxy",
    "publish one port of a fake root, for dockerd",
    flags=(
        Flag(("--container-ip",), "the container's address", metavar="IP"),
        Flag(("--container-port",), "the container's port", NUMBER, default=-1),
        Flag(("--host-ip",), "the host's address", metavar="IP"),
        Flag(("--host-port",), "the host's port", NUMBER, default=-1),
        Flag(("--proto",), "the protocol", choices=("tcp", "udp", "sctp"), default="tcp"),
        Flag(("--container-name",), "taken and not needed", hidden=True),
        Flag(("--use-listen-fd",), "taken for docker-proxy", SWITCH, hidden=True),
    ),
    description="""
        dockerd in a fake root is told to start this in the place of docker-proxy ('dockerd --userland-proxy-path').
        It publishes the port at the fake root, and ends that when it is ended. Descriptor 3 tells dockerd how it went.
    """,
)


def respell(words: list[str]) -> list[str]:
    """Go's programs take long flags with one dash."""
    global _words
    _words = tuple(words)
    return ["-" + word if word[:1] == "-" and word[1:2].isalpha() and len(word) > 2 else word for word in words]


_words: tuple[str, ...] = ()


def run(values: Values) -> int:
    from jubako.rootless.client import Client, find_socket
    from jubako.rootless.docker_proxy import Asked, publish

    try:
        if not 0 < values.host_port < 65536 or not 0 < values.container_port < 65536:
            raise UsageError("publish a port", reason="-host-port and -container-port are needed, from 1 to 65535")
        asked = Asked(
            values.container_ip, values.container_port, values.host_ip, values.host_port, values.proto, _words
        )
        return publish(asked, Client(find_socket("")))
    except JubakoError as failure:
        _tell(str(failure))
        raise


def _tell(text: str) -> None:
    try:
        os.write(3, f"1\n{text}".encode(errors="surrogateescape"))
    except OSError:
        return  # called by somebody who gave no descriptor 3
