"""`jubako oci spec`: write a config.json to begin with."""

from __future__ import annotations

from jubako.cli.flags import SWITCH, Command, Flag, Values

COMMAND = Command(
    "oci spec",
    "write a config.json to begin with",
    (
        Flag(("-b", "--bundle"), "the bundle's directory (.)", metavar="DIR", completes="directory", default="."),
        Flag(("--rootless",), "for a caller without privileges: with a user namespace and the caller's ids", SWITCH),
        Flag(("-f", "--config"), "write to FILE instead of config.json", metavar="FILE", completes="file"),
    ),
    description="""
        Writes a document for a shell in the directory rootfs beside it, with all the usual namespaces and docker's
        capabilities. With --rootless it runs as it is for an ordinary user.
    """,
    examples=(("From a directory to a shell in it.", "jubako oci spec --rootless && jubako oci run c1"),),
)


def run(values: Values) -> int:
    from jubako.oci.example import write_example

    write_example(values.bundle, values.config or "config.json", rootless=values.rootless)
    return 0
