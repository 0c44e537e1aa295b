"""Which driver a machine has by default, and where the classes are."""

from __future__ import annotations

from pathlib import Path

import pytest

from jubako.errors import NotFoundError, UsageError
from jubako.net import choose
from jubako.net.choose import default_driver, find_driver
from jubako.net.link import NetworkOptions


@pytest.mark.parametrize(
    ("installed", "tun", "route", "driver", "why"),
    [
        (("pasta", "slirp4netns"), True, True, "pasta", "pasta is installed"),
        (("pasta",), True, True, "pasta", "pasta is installed"),
        (("pasta",), True, False, "pasta", "pasta is installed"),
        (("pasta", "slirp4netns"), True, False, "slirp4netns", "no default route"),
        (("slirp4netns",), True, True, "slirp4netns", "pasta is not installed"),
        ((), True, True, "proxy", "neither"),
        (("pasta", "slirp4netns"), False, True, "proxy", "cannot be opened"),
    ],
)
def test_the_default_is_the_best_that_can_work(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    installed: tuple[str, ...],
    tun: bool,
    route: bool,
    driver: str,
    why: str,
) -> None:
    def find(name: str) -> str:
        if name not in installed:
            raise NotFoundError("find the program", name)
        return f"/usr/bin/{name}"

    if tun:
        (tmp_path / "tun").touch()
    monkeypatch.setattr(choose, "_TUN", str(tmp_path / "tun"))
    monkeypatch.setattr(choose, "find_program", find)
    monkeypatch.setattr(choose, "has_default_route", lambda: route)
    found, reason = default_driver()
    assert found == driver
    assert why in reason


@pytest.mark.parametrize("name", ["none", "host"])
def test_the_plain_networks_need_nothing_and_take_no_options(name: str) -> None:
    driver = find_driver(NetworkOptions(driver=name))
    assert driver.plan().shared is (name == "host")
    assert driver.plan().device == ""
    assert driver.explain() == ()
    with pytest.raises(UsageError, match=name):
        find_driver(NetworkOptions(driver=name, mtu=1500))


def test_an_unknown_driver_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError) as refused:
        find_driver(NetworkOptions(driver="wlan"))
    assert "slirp4netns" in str(refused.value)


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("pasta", {"rules": ("x",)}),
        ("pasta", {"bridge": "b"}),
        ("pasta", {"sandbox": "true"}),
        ("pasta", {"mtu": 67}),
        ("pasta", {"mtu": 1279, "ipv6": True}),
        ("pasta", {"arguments": ("--netns", "/x")}),
        ("pasta", {"ports": "slirp4netns"}),
        ("slirp4netns", {"ports": "implicit"}),
        ("slirp4netns", {"rules": ("x",)}),
        ("slirp4netns", {"sandbox": "maybe"}),
        ("slirp4netns", {"cidr": "10.0.2.7/24"}),
        ("slirp4netns", {"device": "sixteen-letters-"}),
    ],
)
def test_options_that_a_driver_cannot_keep_are_refused(driver: str, options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=driver):
        find_driver(NetworkOptions(driver=driver, program="/bin/true", **options))  # type: ignore[arg-type]
