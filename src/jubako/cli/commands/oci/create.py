"""`jubako oci create`: make a bundle's container, up to its program."""

from __future__ import annotations

from jubako.cli import oci
from jubako.cli.flags import Command, Values
from jubako.cli.oci_flags import CREATION, ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.oci.create import CreateOptions

COMMAND = Command(
    "oci create",
    "make a bundle's container, up to its program",
    CREATION,
    (ID,),
    description="""
        Makes the container that the bundle's config.json describes, and leaves its first process waiting: start lets
        it become the program. What engines call; runc's and crun's flags.
    """,
    examples=(("A container that waits.", "jubako oci create --bundle ./bundle c1"),),
)


def run(values: Values) -> int:
    from jubako.oci.create import create

    create(options(values), oci.warn)
    return 0


def options(values: Values, *, detached: bool = True) -> CreateOptions:
    """What the flags of create and run say."""
    from jubako.oci.create import CreateOptions

    return CreateOptions(
        values.id,
        oci.settings.container_root(),
        bundle=values.bundle,
        console_socket=values.console_socket,
        pid_file=values.pid_file,
        no_pivot=values.no_pivot,
        no_new_keyring=values.no_new_keyring,
        preserve_fds=values.preserve_fds,
        manager=oci.settings.manager,
        rootless=oci.settings.rootless,
        detached=detached,
    )
