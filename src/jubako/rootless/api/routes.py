"""RootlessKit's REST API, version 1.1.1: /v1/info, /v1/ports, /v1/ports/ID. Errors are `{"message": TEXT}`."""

from __future__ import annotations

from jubako.errors import JubakoError
from jubako.record import record
from jubako.rootless.api.ports import Ports, read_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

API_VERSION = "1.1.1"
RELEASE = "3.0.0"
"""The release of RootlessKit whose interface this is."""

Answer = tuple[int, "Any"]
"""The status and the document, None for an empty body."""


@record
class Info:
    """What `/v1/info` tells; it does not change."""

    version: str
    state_directory: str
    child_pid: int
    network: str = ""
    dns: tuple[str, ...] = ()
    child_address: str = ""
    dynamic: bool = False
    port_driver: str = ""
    protocols: tuple[str, ...] = ()
    no_loopback_child: bool = False

    def document(self) -> dict[str, Any]:
        """The JSON object; what is empty is left out, as in the original."""
        found: dict[str, Any] = {
            "apiVersion": API_VERSION,
            "version": self.version,
            "stateDir": self.state_directory,
            "childPID": self.child_pid,
        }
        if self.network:
            network: dict[str, Any] = {"driver": self.network}
            if self.dns:
                network["dns"] = list(self.dns)
            if self.child_address:
                network["childIP"] = self.child_address
            if self.dynamic:
                network["dynamicChildIP"] = True
            found["networkDriver"] = network
        if self.port_driver:
            ports: dict[str, Any] = {"driver": self.port_driver, "protos": list(self.protocols)}
            if self.no_loopback_child:
                ports["disallowLoopbackChildIP"] = True
            found["portDriver"] = ports
        return found


class Routes:
    """Answers requests. Whatever goes wrong is an answer too."""

    def __init__(self, info: Info, ports: Ports) -> None:
        self.info = info
        self.ports = ports

    def answer(self, method: str, target: str, body: bytes) -> Answer:
        """The status and the document for one request."""
        try:
            return self._answer(method, target.partition("?")[0], body)
        except JubakoError as failure:
            return 400, {"message": str(failure)}
        except OSError as failure:
            return 500, {"message": str(failure)}

    def _answer(self, method: str, path: str, body: bytes) -> Answer:
        if path == "/v1/info":
            return (200, self.info.document()) if method == "GET" else _not_so(method)
        if path == "/v1/ports":
            if method == "GET":
                return 200, self.ports.list()
            if method == "POST":
                self.ports.list()  # without a port driver, that is the answer to whatever was sent
                return 201, self.ports.add(read_spec(_document(body)))
            return _not_so(method)
        if path.startswith("/v1/ports/"):
            if method != "DELETE":
                return _not_so(method)
            self.ports.remove(_number(path[len("/v1/ports/") :]))
            return 200, None
        return 404, {"message": f"nothing is at {path[:200]}"}


def _document(body: bytes) -> Any:
    from jubako import jsontext

    try:
        return jsontext.loads(body)
    except (ValueError, RecursionError) as wrong:
        raise JubakoError("read the document", reason=str(wrong)[:200]) from None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise JubakoError("read the ID", repr(text[:40]), reason="it is no number")
    return int(text)


def _not_so(method: str) -> Answer:
    return 405, {"message": f"the method {method[:20]} is not for this"}
