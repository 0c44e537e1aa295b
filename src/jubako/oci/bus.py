"""One connection to systemd over D-Bus (D-Bus Specification; org.freedesktop.systemd1(5)), with jeepney's messages.

The manager's private socket is tried first: root's and each user's manager has one, and it needs no bus. jeepney's own
connections are not used, since they say who they are by the effective uid, which in a user namespace is not the one
that the other side sees.
"""

from __future__ import annotations

import _socket
import os

from jubako.errors import JubakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MANAGER = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager")
_PATIENCE = 25.0
"""Seconds for an answer, as other D-Bus libraries wait."""

_SYSTEM_HINT = "is systemd running here? --cgroup-manager cgroupfs does without it"
_USER_HINT = (
    "the user's own systemd is reached after a login with a session: loginctl enable-linger USER keeps it running, "
    "--cgroup-manager cgroupfs does without it"
)


class CallError(Exception):
    """systemd's refusal: `name` as D-Bus has it ("org.freedesktop.systemd1.NoSuchUnit"), and the text."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name.rpartition(".")[2]
        self.text = text


class Systemd:
    """Calls of the manager's methods, and the signals that come meanwhile."""

    def __init__(self, user_manager: bool) -> None:
        from jeepney import Parser

        self.user_manager = user_manager
        self._parser = Parser()
        self._serial = 0
        self._signals: list[Any] = []
        self._socket, is_bus = _connect(user_manager)
        if is_bus:
            self._call(("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus"), "Hello")
            rule = f"type='signal',interface='{_MANAGER[2]}',member='JobRemoved'"
            self._call(("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus"), "AddMatch", "s", rule)
            self.call("Subscribe")

    def call(self, method: str, signature: str = "", *arguments: Any) -> tuple[Any, ...]:
        """Call a method of the manager. Raises `CallError` when it refuses."""
        return self._call(_MANAGER, method, signature, *arguments)

    def wait_for_job(self, job: str, seconds: float = _PATIENCE) -> str:
        """Wait until a job that a call answered is done; its result ("done", "failed", "canceled", …)."""
        import time

        end = time.monotonic() + seconds
        while True:
            for signal in self._signals:
                if len(signal) == 4 and signal[1] == job:
                    return str(signal[3])
            self._signals.clear()
            self._receive(end - time.monotonic())

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Systemd:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _call(self, target: tuple[str, str, str], method: str, signature: str = "", *arguments: Any) -> tuple[Any, ...]:
        import time

        from jeepney import DBusAddress, HeaderFields, MessageType, new_method_call

        address = DBusAddress(target[0], bus_name=target[1], interface=target[2])
        message = new_method_call(address, method, signature or None, arguments)
        self._serial += 1
        self._socket.settimeout(_PATIENCE)
        self._socket.sendall(message.serialise(serial=self._serial))
        end = time.monotonic() + _PATIENCE
        while True:
            reply = self._receive(end - time.monotonic())
            if reply.header.fields.get(HeaderFields.reply_serial) == self._serial:
                break
        if reply.header.message_type == MessageType.error:
            text = reply.body[0] if reply.body else ""
            raise CallError(reply.header.fields.get(HeaderFields.error_name, ""), str(text))
        return tuple(reply.body)

    def _receive(self, seconds: float) -> Any:
        """The next message; signals that a job is done are kept too."""
        from jeepney import HeaderFields

        self._socket.settimeout(max(seconds, 0.001))
        while (message := self._parser.get_next_message()) is None:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionResetError
            self._parser.add_data(data)
        if message.header.fields.get(HeaderFields.member) == "JobRemoved":
            self._signals.append(message.body)
        return message


def _connect(user_manager: bool) -> tuple[_socket.socket, bool]:
    """A socket that has been let in, and whether it leads to a bus; the first of all that could be."""
    tried = []
    for path, is_bus in _addresses(user_manager):
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(path)
            _introduce(connection)
            return connection, is_bus
        except OSError as failure:
            connection.close()
            tried.append(f"{path.lstrip(chr(0))}: {failure.strerror or failure}")
    manager = "the user's systemd" if user_manager else "systemd"
    hint = _USER_HINT if user_manager else _SYSTEM_HINT
    raise JubakoError("connect to", manager, reason="; ".join(tried) or "no address of it is known", hint=hint)


def _addresses(user_manager: bool) -> list[tuple[str, bool]]:
    if not user_manager:
        bus = _paths(os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/dbus/system_bus_socket"))
        return [("/run/systemd/private", False), *((path, True) for path in bus)]
    directories = [os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{_outer_uid()}"]
    directories = list(dict.fromkeys(directory for directory in directories if directory))
    buses = [
        *_paths(os.environ.get("DBUS_SESSION_BUS_ADDRESS", "")),
        *(f"{directory}/bus" for directory in directories),
    ]
    return [
        *((f"{directory}/systemd/private", False) for directory in directories),
        *((path, True) for path in dict.fromkeys(buses)),
    ]


def _paths(address: str) -> list[str]:
    """The unix sockets that a D-Bus address names ("unix:path=/a;unix:abstract=b,guid=…")."""
    found = []
    for one in address.split(";"):
        transport, _, rest = one.partition(":")
        values = dict(pair.partition("=")[::2] for pair in rest.split(","))
        if transport == "unix" and values.get("path"):
            found.append(_unescape(values["path"]))
        elif transport == "unix" and values.get("abstract"):
            found.append("\0" + _unescape(values["abstract"]))
    return found


def _unescape(text: str) -> str:
    first, *rest = text.split("%")
    return first + "".join(chr(int(part[:2], 16)) + part[2:] for part in rest)


def _introduce(connection: _socket.socket) -> None:
    """The handshake: the kernel tells the other side who we are, and it has to be the same that we say.

    `BEGIN` is said at once, as systemd's own programs do: if it came later, it could arrive together with the first
    call, and then systemd leaves that lying until something else comes.
    """
    uid = str(_outer_uid()).encode().hex().encode()
    connection.sendall(b"\0AUTH EXTERNAL " + uid + b"\r\nBEGIN\r\n")
    answer = b""
    while not answer.endswith(b"\r\n"):
        data = connection.recv(512)
        if not data or len(answer) > 4096:
            raise ConnectionResetError
        answer += data
    if not answer.startswith(b"OK "):
        raise PermissionError(1, "it does not let this user in")


def _outer_uid() -> int:
    """Our uid as those outside of our user namespace see it."""
    uid = os.geteuid()
    with open("/proc/self/uid_map", "rb", buffering=0) as file:
        for line in file.read(1 << 16).splitlines():
            inside, outside, count = (int(word) for word in line.split())
            if inside <= uid < inside + count:
                return outside + uid - inside
    return uid
