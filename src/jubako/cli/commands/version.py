"""`jubako version`: which jubako, which Python, which kernel."""

from __future__ import annotations

import os
import sys

from jubako import __version__
from jubako.cli.flags import SWITCH, Command, Flag, Values
from jubako.cli.output import print_json

COMMAND = Command(
    "version",
    "print the versions of jubako, Python and the kernel",
    flags=(Flag(("--json",), "print an object in JSON", SWITCH),),
)


def run(values: Values) -> int:
    kernel = os.uname()
    versions = {
        "jubako": __version__,
        "python": sys.version.split()[0],
        "kernel": kernel.release,
        "machine": kernel.machine,
    }
    if values.json:
        print_json(versions)
        return 0
    print(f"jubako {__version__} (Python {versions['python']}, Linux {kernel.release} {kernel.machine})")
    return 0
