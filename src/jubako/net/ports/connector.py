"""The half of the builtin port driver that is in the container's network namespace: it makes connected sockets.

One process that has entered the namespace, has only the rights that this takes, and answers requests one by one. None
of them makes it wait: a connection that is not there at once is handed over as it is. It never reads what comes from
inside.

**Where a connection goes.** To the container's own address first, as another machine would, so a server that listens on
all addresses sees what it would see there; then, where nobody listens, to its loopback address, so that one that
listens only there can be published too; then to the same addresses of the other family. A port that names an address
inside goes there only.

**From whom it comes.** From the client's own address and, if it is free, port (`clients`). That cannot be for clients
on the host's own loopback addresses, nor across families: then it comes from the container's own address, so that no
program inside takes somebody outside for a local user. Only where there is no such address it is loopback's.
"""

from __future__ import annotations

import _socket
import errno
import os
import select

from jubako.linux import caps, scm
from jubako.linux.sockdiag import takes_datagrams
from jubako.net.enter import enter
from jubako.net.ports.clients import Clients, can_be_kept, make_transparent
from jubako.net.ports.wire import pack_words, unpack_words
from jubako.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.linux.scm import Socket
    from jubako.net.link import Where

RIGHTS = ("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE")
_LOOPBACK = {_socket.AF_INET: "127.0.0.1", _socket.AF_INET6: "::1"}
_NOBODY = (errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_IP_BIND_ADDRESS_NO_PORT = 24


@record
class Request:
    """One connection to make. `family` is 4 or 6 where only that one will do; `first` skips targets tried before.

    `keep_client` asks for the client's address; `doubt` for another one where that is shown to be in the way.
    """

    number: int
    kind: str
    family: str
    address: str
    port: int
    client: str
    client_port: int
    keep_client: bool
    first: int = 0
    doubt: bool = False

    def words(self) -> tuple[object, ...]:
        """As it is sent."""
        return (
            *("connect", self.number, self.kind, self.family, self.address, self.port, self.client, self.client_port),
            *(int(self.keep_client), self.first, int(self.doubt)),
        )

    @classmethod
    def read(cls, words: list[str]) -> Request:
        """What `words` has made."""
        _verb, number, kind, family, address, port, client, client_port, keep, first, doubt = words
        numbers = int(number), int(port), int(client_port), int(first)
        return cls(
            numbers[0], kind, family, address, numbers[1], client, numbers[2], keep == "1", numbers[3], doubt == "1"
        )


@record
class Answer:
    """What became of a request: `error`, or a socket that comes with it, perhaps not connected yet (`pending`).

    `target` is where it goes, the one of number `index`. `kept` says that it has the client's address.
    """

    number: int
    error: int
    index: int = 0
    target: str = ""
    pending: bool = False
    kept: bool = False

    def words(self) -> tuple[object, ...]:
        """As it is sent."""
        return (self.number, self.error, self.index, self.target, int(self.pending), int(self.kept))

    @classmethod
    def read(cls, words: list[str]) -> Answer:
        """What `words` has made."""
        number, error, index, target, pending, kept = words
        return cls(int(number), int(error), int(index), target, pending == "1", kept == "1")


def run_connector(where: Where, link: Socket, ready: int, own: dict[int, str]) -> int:
    """Enter the namespace, tell `ready`, and answer what comes through `link` until its end.

    `own` has the container's addresses by family.
    """
    enter(where)
    keep = caps.mask(RIGHTS) & caps.capget().permitted
    caps.capset(keep, keep, 0)
    connector = Connector(own)
    os.write(ready, b"ready")
    os.close(ready)
    while True:
        data, _none = scm.receive(link)
        if not data:
            return 0
        words = unpack_words(data)
        if words[0] == "connect":
            request = Request.read(words)
            answer, socket = connector.doubt(request) if request.doubt else connector.connect(request)
            try:
                scm.send(link, pack_words(*answer.words()), (socket.fileno(),) if socket else ())
            except BrokenPipeError:
                return 0
            finally:
                if socket:
                    socket.close()
        elif words[0] == "release":
            connector.release(words[1], words[2])
        elif words[0] == "forget":
            connector.clients.forget_port(words[1], int(words[2]))


class Connector:
    """Makes sockets in the current network namespace."""

    def __init__(self, own: dict[int, str]) -> None:
        self.own = own
        self.clients = Clients()
        self.knows_datagrams = _knows_datagrams()

    def connect(self, request: Request) -> tuple[Answer, Socket | None]:
        """A socket that is connected with the first target that takes it, or on its way there."""
        error = errno.ECONNREFUSED
        socket: Socket | None = None
        for index, (family, target) in enumerate(self.targets(request)):
            if index < request.first:
                continue
            for port in (request.client_port, 0):
                try:
                    socket, kept = self._socket(request, family, target, port)
                except OSError as failure:
                    socket, error = None, failure.errno or errno.EIO
                    break
                error = self._join(request, socket, family, target)
                if not kept or error != errno.EADDRNOTAVAIL:
                    break
                # The very same connection has been there a moment ago: the client's address with another port.
                socket.close()
                self.release(target, request.client)
                socket = None
            if socket is None:
                continue
            if error in (0, errno.EINPROGRESS):
                return Answer(request.number, 0, index, target, error != 0, kept), socket
            socket.close()
            if kept:
                self.release(target, request.client)
            if error not in _NOBODY:
                break
        return Answer(request.number, error), None

    def doubt(self, request: Request) -> tuple[Answer, Socket | None]:
        """As `connect`; but where a connection with the client's address is not there at once, and right after it one
        without is, the latter. EAGAIN where neither is: then the server is busy."""
        answer, socket = self.connect(request)
        if not (socket and answer.pending and answer.kept):
            return answer, socket
        plain = replace(request, keep_client=False, first=answer.index)
        other_answer, other = self.connect(plain)
        if not _is_pending(socket):
            if other:
                other.close()
            return replace(answer, pending=False), socket
        socket.close()
        self.release(answer.target, request.client)
        if other and not other_answer.pending:
            return other_answer, other
        if other:
            other.close()
        return Answer(request.number, errno.EAGAIN), None

    def release(self, target: str, client: str) -> None:
        """A connection that had its client's address is over."""
        self.clients.release(_family(target), target, client)

    def targets(self, request: Request) -> list[tuple[int, str]]:
        """Where it may go, in order."""
        if request.address:
            return [(_family(request.address), request.address)]
        first = _family(request.client)
        second = _socket.AF_INET if first == _socket.AF_INET6 else _socket.AF_INET6
        found = []
        for family in (first,) if request.family else (first, second):
            if self.own.get(family):
                found.append((family, self.own[family]))
            found.append((family, _LOOPBACK[family]))
        return found

    def _socket(self, request: Request, family: int, target: str, port: int) -> tuple[Socket, bool]:
        """A socket with the right source address, and whether that is the client's."""
        if request.keep_client and family == _family(request.client) and can_be_kept(family, request.client):
            socket = _new(request.kind, family)
            try:
                make_transparent(socket, family)
                self.clients.keep(family, request.kind, target, request.port, request.client)
            except OSError:  # a kernel that lacks a part of it, a namespace without rights: the next best
                socket.close()
            else:
                if _bind(socket, family, request.client, port):
                    return socket, True
                socket.close()
                self.release(target, request.client)
        socket = _new(request.kind, family)
        own = self.own.get(family, "")
        if own and target == _LOOPBACK[family]:
            _bind(socket, family, own, 0)
        return socket, False

    def _join(self, request: Request, socket: Socket, family: int, target: str) -> int:
        """Connect; the error's number. EINPROGRESS where it takes time."""
        packed = _socket.inet_pton(family, target)
        if request.kind == "udp" and self.knows_datagrams:
            try:
                if not takes_datagrams(family, packed, request.port) and self._is_here(family, target):
                    return errno.ECONNREFUSED
            except OSError:
                pass
        error = socket.connect_ex((target, request.port))
        # What goes through lo is answered before we are back.
        if error == errno.EINPROGRESS and not _is_pending(socket):
            error = socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        return error

    def _is_here(self, family: int, target: str) -> bool:
        return target in (self.own.get(family), _LOOPBACK[family])


def _knows_datagrams() -> bool:
    """Whether the kernel can be asked where datagrams go: it must find a socket that is there."""
    socket = _new("udp", _socket.AF_INET)
    try:
        socket.bind(("127.0.0.1", 0))
        return takes_datagrams(_socket.AF_INET, b"\x7f\0\0\1", socket.getsockname()[1])
    except OSError:
        return False
    finally:
        socket.close()


def _new(kind: str, family: int) -> Socket:
    what = _socket.SOCK_STREAM if kind == "tcp" else _socket.SOCK_DGRAM
    socket = _socket.socket(family, what | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    if kind == "tcp":
        socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    return socket


def _bind(socket: Socket, family: int, address: str, port: int) -> bool:
    """Bind it to the address, and to the port if that is free."""
    try:
        if port:
            socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            try:
                socket.bind((address, port))
                return True
            except OSError:
                pass
        socket.setsockopt(_socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        socket.bind((address, 0))
    except OSError:
        return False
    return True


def _is_pending(socket: Socket) -> bool:
    poller = select.poll()
    poller.register(socket.fileno(), select.POLLOUT)
    return not poller.poll(0)


def _family(address: str) -> int:
    return _socket.AF_INET6 if ":" in address else _socket.AF_INET
