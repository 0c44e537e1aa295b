"""Running a piece of a test in a child, where it may give up what the test's own process needs."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from typing import Any

from jubako.linux.clone import CLONE_NEWUSER, unshare


def in_child(body: Callable[[], Any], namespaces: int = 0) -> Any:
    """What `body` returns (as JSON would hold it) in a forked child, in new `namespaces`; its failure is the test's."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writer, 100)
            if namespaces:
                _enter(namespaces)
            text = json.dumps([body()])
        except BaseException:
            text = json.dumps({"failed": traceback.format_exc()})
        try:
            os.write(100, text.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        result = json.loads(file.read())
    os.waitpid(pid, 0)
    assert isinstance(result, list), result["failed"]
    return result[0]


def _enter(namespaces: int) -> None:
    """New namespaces; in a new user namespace the caller is root, and the only one mapped."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(namespaces)
    if namespaces & CLONE_NEWUSER:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
