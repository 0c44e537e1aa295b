"""What the proxy has let through and what not: counted in a small file, and each refusal said in a line.

All of it is asked for by whoever is in the container, so there is a bound to everything: the hosts that are counted by
name, the lines, and how often the file is written.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError
from jubako.jsontext import dumps, loads
from jubako.net.proxy.loop import NEVER, now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATUS = "proxy.json"
_MOST_HOSTS = 256
_OTHERS = "others"
_LINES, _LINES_A_SECOND = 20.0, 0.5


def read_status(directory: str) -> dict[str, Any]:
    """What the proxy whose directory this is has counted, at most a second ago. Raises `JubakoError`.

    The `connections` there are; how many were `allowed`, `refused` and `failed` (let through, but nobody answered);
    the same for each of the `hosts`; and the refusals by their `reasons`.
    """
    path = f"{directory}/{STATUS}"
    try:
        with open(path, "rb") as file:
            found: dict[str, Any] = loads(file.read())
    except OSError as failure:
        raise JubakoError.from_os_error("read the proxy's status", path, failure) from None
    except ValueError as failure:
        raise JubakoError("read the proxy's status", path, reason=str(failure)) from None
    return found


class Tally:
    """Counts, with the file `path` (none where it is empty), which is written anew no more often than every `pause`
    seconds, and the descriptor `words` for the lines."""

    def __init__(self, path: str = "", words: int = 2, pause: float = 1.0) -> None:
        self.connections = 0
        self._path = path
        self._words = words
        self._pause = pause
        self._counts: dict[str, dict[str, int]] = {"allowed": {}, "refused": {}, "failed": {}}
        self._totals = dict.fromkeys(self._counts, 0)
        self._reasons: dict[str, int] = {}
        self._is_changed = True
        self._next_writing = now()
        self._lines, self._since = _LINES, now()
        self._unsaid = 0

    def allowed(self, host: str) -> None:
        self._count("allowed", host)

    def refused(self, host: str, reason: str) -> None:
        """`host` is HOST:PORT, or empty where the request could not be read; `reason` is of our own words."""
        self._count("refused", host)
        self._reasons[reason] = self._reasons.get(reason, 0) + 1
        self._say(f"refused {host}: {reason}" if host else f"refused a request: {reason}")

    def failed(self, host: str, reason: str) -> None:
        """Let through, but there was no connection."""
        self._count("failed", host)
        self._say(f"no connection to {host}: {reason}")

    def changed(self) -> None:
        """The number of connections is another one."""
        self._is_changed = True

    def next_writing(self) -> float:
        """When `write` has something to do."""
        return self._next_writing if self._is_changed else NEVER

    def write(self) -> None:
        """Replace the file, if something has changed and it is time. Who removes its directory does without."""
        if not self._is_changed or now() < self._next_writing:
            return
        self._is_changed = False
        self._next_writing = now() + self._pause
        if not self._path:
            return
        text = dumps({"connections": self.connections, **self._totals, "hosts": self._counts, "reasons": self._reasons})
        try:
            how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self._path + ".new", how, 0o600)
            try:
                os.write(fd, text.encode() + b"\n")
            finally:
                os.close(fd)
            os.rename(self._path + ".new", self._path)
        except OSError:
            pass

    def _count(self, kind: str, host: str) -> None:
        self._totals[kind] += 1
        hosts = self._counts[kind]
        if host not in hosts and len(hosts) >= _MOST_HOSTS:
            host = _OTHERS
        hosts[host] = hosts.get(host, 0) + 1
        self._is_changed = True

    def _say(self, line: str) -> None:
        """Write a line, unless there have been too many just now; who does not read them does not stop the proxy."""
        time = now()
        self._lines = min(_LINES, self._lines + (time - self._since) * _LINES_A_SECOND)
        self._since = time
        if self._lines < 1:
            self._unsaid += 1
            return
        self._lines -= 1
        if self._unsaid:
            line, self._unsaid = f"{self._unsaid} lines left out\n{line}", 0
        try:
            os.write(self._words, f"{line}\n".encode())
        except OSError:
            pass
