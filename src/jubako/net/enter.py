"""Work in another network namespace: a child of our own enters it, and only its answer comes back.

A process that has entered a namespace of somebody else's has no way back that is worth trusting; so none of ours does,
but a child that ends. A socket belongs to the namespace in which it was made, wherever it is used: so descriptors come
back.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError
from jubako.linux import scm
from jubako.linux.clone import CLONE_NEWNET, CLONE_NEWUSER, setns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.net.link import Where


def enter(where: Where) -> None:
    """Move this process (of one thread) into the network namespace, through its owner where that is another one."""
    if where.user >= 0:
        setns(where.user, CLONE_NEWUSER)
    setns(where.network, CLONE_NEWNET)


def inside(where: Where, work: Callable[[], tuple[bytes, tuple[int, ...]]], operation: str) -> tuple[bytes, list[int]]:
    """What `work` answers in the network namespace: bytes and descriptors. Its `OSError` becomes ours, told as
    `operation`."""
    here, there = scm.pair()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            here.close()
            enter(where)
            text, descriptors = work()
            scm.send(there, b"+" + text, descriptors)
            code = 0
        except OSError as failure:
            scm.send(there, f"-{failure.errno or 0} {failure.filename or ''}".encode(errors="surrogateescape"))
        except JubakoError as failure:
            scm.send(there, f"-0 {failure}".encode(errors="surrogateescape"))
        finally:
            os._exit(code)
    there.close()
    try:
        data, descriptors = scm.receive(here)
    finally:
        here.close()
        os.waitpid(pid, 0)
    if data[:1] == b"+":
        return data[1:], list(descriptors)
    number, _, subject = data[1:].decode(errors="surrogateescape").partition(" ")
    if number and number != "0":
        raise JubakoError(operation, subject, errno=int(number))
    raise JubakoError(operation, "in the network namespace", reason=subject or "its process ended")
