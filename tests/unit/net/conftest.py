"""A proxy on loopback for each test that wants one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jubako.net.proxy.serve import Limits
from world.proxied import Proxy


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Callable[..., Proxy]]:
    """`proxy("HOST:PORT", …, hosts={NAME: [ADDRESS]}, LIMIT=…)`: a proxy with these rules, name server and limits."""
    opened: list[Proxy] = []

    def start(*allow: str, hosts: dict[str, list[str]] | None = None, **limits: float) -> Proxy:
        limits = {"linger": 0.5, **limits}
        opened.append(Proxy(allow, hosts or {}, str(tmp_path / "proxy.json"), Limits(**limits)))  # type: ignore[arg-type]
        return opened[-1]

    yield start
    for each in opened:
        each.close()
