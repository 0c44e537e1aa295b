"""`--network NAME:…` and the flags beside it."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.errors import UsageError
from jubako.net.bridge.asked import Asked, dump_places, load_places, parse_places


def test_a_place_is_read_as_podman_spells_it() -> None:
    (place,) = parse_places(
        ("back:ip=10.1.2.3,ip6=fd12::3,mac=02:00:00:00:00:01,alias=db,alias=store,interface_name=x0",)
    )
    assert place == Asked("back", ("10.1.2.3", "fd12::3"), "02:00:00:00:00:01", ("db", "store"), "x0")
    assert parse_places(("a,b", "c")) == (Asked("a"), Asked("b"), Asked("c"))
    flags: dict[str, Any] = {"ip": "10.1.2.3", "ip6": "fd12::3", "hardware": "02-00-00-00-00-01", "aliases": ("db",)}
    assert parse_places(("back",), **flags) == (Asked("back", ("10.1.2.3", "fd12::3"), "02-00-00-00-00-01", ("db",)),)
    assert load_places(dump_places((place, Asked("b")))) == (place, Asked("b"))


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        (("",), {}),
        (("a,,b",), {}),
        (("a", "a"), {}),
        (("a:vlan=5",), {}),
        (("a:ip",), {}),
        (("a:ip=",), {}),
        (("a:ip=host",), {}),
        (("a:ip=10.1.2.3,ip=10.1.2.4",), {}),
        (("a:ip=10.1.2.3",), {"ip": "10.1.2.4"}),
        (("a:mac=x",), {}),
        (("a:mac=01:00:00:00:00:01",), {}),  # of a group
        (("a:mac=00:00:00:00:00:00",), {}),
        (("a:mac=02:00:00:00:00:01,mac=02:00:00:00:00:02",), {}),
        (("a:interface_name=a/b",), {}),
        (("a:alias=a b",), {}),
        (("a:alias=" + "x" * 64,), {}),
        (("a",), {"aliases": ("a..b",)}),
        (("a", "b"), {"ip": "10.1.2.3"}),
        (("a",), {"ip": "10.1.2"}),
    ],
)
def test_what_cannot_be_meant_is_refused(values: tuple[str, ...], flags: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        parse_places(values, **flags)
