"""The table of ports: numbered, refused, kept as they were asked for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.errors import JubakoError
from jubako.net.ports.spec import PortSpec
from jubako.rootless.api.ports import Ports, read_spec, written
from jubako.rootless.api.routes import Info, Routes

ALL = ("tcp", "tcp4", "tcp6", "udp", "udp4", "udp6")


class Forwarder:
    """Remembers what it was told; refuses port 13."""

    helpers = ()
    descriptors = ()

    def __init__(self) -> None:
        self.open: list[PortSpec] = []

    def add(self, port: PortSpec) -> PortSpec:
        if port.host_port == 13:
            raise JubakoError("publish", "13", reason="no luck")
        self.open.append(port)
        return port

    def remove(self, port: PortSpec) -> None:
        self.open.remove(port)

    def close(self) -> None:
        self.open.clear()


def spec(port: int = 80, protocol: str = "tcp", address: str = "") -> PortSpec:
    return PortSpec(address, port, "", 8080, protocol)


def test_ports_have_numbers_that_are_not_used_again() -> None:
    forwarder = Forwarder()
    ports = Ports("builtin", ALL, forwarder)
    assert ports.add(spec())["id"] == 1
    assert ports.add(spec(81))["id"] == 2
    ports.remove(1)
    assert ports.add(spec())["id"] == 3
    assert [entry["id"] for entry in ports.list()] == [2, 3]
    assert forwarder.open == [spec(81), spec()]
    with pytest.raises(JubakoError, match="no such ID"):
        ports.remove(1)


def test_what_is_refused_leaves_the_table_as_it_is() -> None:
    ports = Ports("slirp4netns", ("tcp", "udp"), Forwarder())
    ports.add(spec())
    refusals = ((spec(), "conflict with ID 1"), (spec(13), "no luck"), (spec(protocol="tcp6"), "tcp, udp only"))
    for wrong, words in refusals:
        with pytest.raises(JubakoError, match=words):
            ports.add(wrong)
    ports.add(spec(protocol="udp"))
    ports.add(spec(address="127.0.0.1"))
    assert len(ports.list()) == 3


def test_what_is_empty_is_not_written() -> None:
    assert written(spec()) == {"proto": "tcp", "parentPort": 80, "childPort": 8080}
    assert read_spec(written(spec(address="127.0.0.1"))) == spec(address="127.0.0.1")


def test_names_of_fields_are_read_as_go_reads_them() -> None:
    assert read_spec({"Proto": "tcp", "PARENTPORT": 80, "childport": 8080, "more": [1]}) == spec()


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
FIELDS = st.sampled_from(["proto", "parentIP", "parentPort", "childIP", "childPort", "x"])


@given(st.one_of(VALUES, st.dictionaries(FIELDS, VALUES, max_size=6)))
def test_any_document_is_a_port_or_refused(document: Any) -> None:
    try:
        read_spec(document)
    except JubakoError:
        pass


@given(st.sampled_from(["GET", "POST", "DELETE", "PUT"]), st.text(max_size=30), st.binary(max_size=60))
def test_any_request_has_an_answer(method: str, rest: str, body: bytes) -> None:
    routes = Routes(Info("3.0.0", "/state", 1), Ports("builtin", ALL, Forwarder()))
    for target in ("/" + rest, "/v1/ports" + rest, "/v1/ports/" + rest, "/v1/info?" + rest):
        status, document = routes.answer(method, target, body)
        assert status in (200, 201, 400, 404, 405)
        assert status < 300 or set(document) == {"message"}


def test_info_leaves_out_what_is_empty() -> None:
    assert list(Info("3.0.0", "/state", 1).document()) == ["apiVersion", "version", "stateDir", "childPID"]
    full = Info("3.0.0", "/state", 1, "lxc-user-nic", ("10.0.3.1",), "10.0.3.7", True, "slirp4netns", ("tcp",), True)
    assert full.document()["networkDriver"] == {
        "driver": "lxc-user-nic", "dns": ["10.0.3.1"], "childIP": "10.0.3.7", "dynamicChildIP": True,
    }  # fmt: skip
    expected = {"driver": "slirp4netns", "protos": ["tcp"], "disallowLoopbackChildIP": True}
    assert full.document()["portDriver"] == expected
