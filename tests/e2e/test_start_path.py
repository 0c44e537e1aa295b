"""What `jubako run` imports until the container has ended: the whole start path, children too.

The kept list is a part of the package, for the start pack. After a change that is meant: ./dev start-path
"""

from __future__ import annotations

from pathlib import Path

from world.start_path import HEAVY, KEPT, kept, modules_of


def test_starting_a_container_loads_nothing_heavy(rootfs: Path) -> None:
    heavy = HEAVY.intersection(modules_of("run", "--rm", "--rootfs", str(rootfs), "/bin/true"))
    assert not heavy, f"{', '.join(sorted(heavy))} on the start path: import inside the function that needs it"


def test_starting_a_container_loads_the_modules_of_the_kept_list(rootfs: Path) -> None:
    loaded, known = set(modules_of("run", "--rm", "--rootfs", str(rootfs), "/bin/true")), set(kept())
    more = {name for name in loaded - known if name.startswith("jubako") or not name.startswith("_")}
    fewer = {name for name in known - loaded if name.startswith("jubako")}
    assert not more, f"new on the start path: {' '.join(sorted(more))}; if that is meant: ./dev start-path"
    assert not fewer, f"no longer on the start path: {' '.join(sorted(fewer))}; then: ./dev start-path ({KEPT.name})"
