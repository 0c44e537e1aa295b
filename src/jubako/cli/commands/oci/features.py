"""`jubako oci features`: print what this runtime can do."""

from __future__ import annotations

import os

from jubako.cli.flags import Command, Values

COMMAND = Command(
    "oci features",
    "print what this runtime can do",
    description="The JSON document of the OCI runtime specification, features.md: what this runtime knows, and what it"
    " found on this machine.",
)


def run(values: Values) -> int:
    from jubako import __version__, jsontext
    from jubako.oci.features import features

    os.write(1, jsontext.dumps(features(__version__), 2).encode() + b"\n")
    return 0
