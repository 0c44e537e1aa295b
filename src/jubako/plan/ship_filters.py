"""Compile the default filters that the package ships: `python -m jubako.plan.ship_filters`.

Run it after a change of the default profile. It wants libseccomp; the result for a machine does not depend on the
machine that it is made on. A test compiles them anew and compares.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError
from jubako.linux import libseccomp
from jubako.plan.seccomp import compile_shipped
from jubako.plan.shipped_filters import SHIPPED_GATES, SHIPPED_MACHINES, shipped_path

MADE_WITH = (2, 6, 0)


def main() -> None:
    """Write every shipped filter, and say how long it is."""
    if libseccomp.version() < MADE_WITH:
        raise JubakoError(
            "compile the shipped filters with",
            f"libseccomp {'.'.join(map(str, libseccomp.version()))}",
            reason="it does not know the newest calls of the profile",
        )
    for machine in SHIPPED_MACHINES:
        for variant in SHIPPED_GATES:
            program = compile_shipped(machine, variant)
            path = shipped_path(machine, variant)
            with open(f"{path}.new", "wb") as file:
                file.write(program)
            os.rename(f"{path}.new", path)
            print(f"{os.path.basename(path)}: {len(program) // 8} instructions")


if __name__ == "__main__":
    main()
