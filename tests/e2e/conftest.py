"""Every end-to-end test leaves the machine as it found it; `run` and `box` are containers that remove themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from world.box import Box, open_box
from world.command import Command, Result


@pytest.fixture(autouse=True)
def _leaves_nothing(clean: None) -> None:
    """See `clean`."""


@pytest.fixture
def run(jubako: Command) -> Callable[..., Result]:
    """`jubako run --rm …`, to its end."""

    def start(*arguments: str | os.PathLike[str], **options: Any) -> Result:
        return jubako("run", "--rm", *arguments, **options)

    return start


@pytest.fixture
def box(jubako: Command) -> Iterator[Callable[..., Box]]:
    """`box(FLAGS…)`: a container with a shell to ask, of the image `host` or of `--rootfs DIR`."""
    opened: list[Box] = []

    def start(*arguments: str | os.PathLike[str], **options: Any) -> Box:
        opened.append(open_box(jubako, *arguments, **options))
        return opened[-1]

    yield start
    for each in opened:
        if each.running.poll() is None:
            each.close()
