"""What a command imports until it is done: the whole start path, children too.

The kept lists are a part of the package, for the start packs. After a change that is meant: ./dev start-path
"""

from __future__ import annotations

from pathlib import Path

import pytest

from jubako.startpack import OCI_CREATE, OCI_EXEC, OCI_START, ROOTLESS, RUN
from world.start_path import HEAVY, kept, modules_by_kind


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, busybox_rootfs: Path) -> dict[str, list[str]]:
    return modules_by_kind(tmp_path_factory.mktemp("bundles"), busybox_rootfs)


@pytest.mark.parametrize("kind", [RUN, ROOTLESS, OCI_CREATE, OCI_EXEC, OCI_START])
def test_a_start_loads_nothing_heavy(loaded: dict[str, list[str]], kind: str) -> None:
    heavy = HEAVY.intersection(loaded[kind])
    assert not heavy, f"{', '.join(sorted(heavy))} on the start path: import inside the function that needs it"


@pytest.mark.parametrize("kind", [RUN, ROOTLESS, OCI_CREATE, OCI_EXEC, OCI_START])
def test_a_start_loads_the_modules_of_the_kept_list(loaded: dict[str, list[str]], kind: str) -> None:
    found, known = set(loaded[kind]), set(kept(kind))
    more = {name for name in found - known if name.startswith("jubako") or not name.startswith("_")}
    fewer = {name for name in known - found if name.startswith("jubako")}
    assert not more, f"new on the start path: {' '.join(sorted(more))}; if that is meant: ./dev start-path"
    assert not fewer, f"no longer on the start path: {' '.join(sorted(fewer))}; then: ./dev start-path"


def test_what_ends_containers_loads_neither_the_planner_nor_a_parser_of_documents(
    loaded: dict[str, list[str]],
) -> None:
    planners = [name for name in loaded[OCI_START] if name.startswith(("jubako.plan.", "jubako.spec.", "json"))]
    assert not planners
