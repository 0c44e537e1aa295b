"""`jubako oci restore`: make a container from a checkpoint."""

from __future__ import annotations

from jubako.cli import oci
from jubako.cli.commands.oci.checkpoint import criu_options
from jubako.cli.flags import SWITCH, Command, Flag, Values
from jubako.cli.oci_flags import CONSOLE_SOCKET, CRIU, DETACH, ID, PID_FILE

COMMAND = Command(
    "oci restore",
    "make a container from a checkpoint",
    (
        Flag(("-b", "--bundle"), "the bundle's directory (.)", metavar="DIR", completes="directory", default="."),
        *CRIU,
        CONSOLE_SOCKET,
        PID_FILE,
        DETACH,
        Flag(("--no-subreaper",), "do not take over what the program leaves behind", SWITCH, field="no_subreaper"),
        Flag(("--no-pivot",), "taken for runc's sake: criu makes the root", SWITCH, field="no_pivot"),
        Flag(("--tcp-close",), "close the connections that were open", SWITCH),
        Flag(("--lsm-profile",), "another profile or label for its processes", metavar="TYPE:NAME"),
        Flag(("--lsm-mount-context",), "another SELinux context for its mounts", metavar="CONTEXT"),
    ),
    (ID,),
    description="""
        criu makes the processes that checkpoint wrote. The bundle has to be the one that they ran from, with the same
        files. Without --detach this waits for the end: the exit status is the program's, 128 + N when signal N ended
        it. Only root's containers.
    """,
    examples=(
        ("In the background.", "jubako oci restore --image-path ./image --bundle ./bundle --detach c1"),
    ),
)  # fmt: skip


def run(values: Values) -> int:
    from jubako.oci.create import CreateOptions
    from jubako.oci.restore import RestoreOptions, restore

    creation = CreateOptions(
        values.id,
        oci.settings.container_root(),
        bundle=values.bundle,
        console_socket=values.console_socket,
        pid_file=values.pid_file,
        no_pivot=values.no_pivot,
        manager=oci.settings.manager,
        rootless=oci.settings.rootless,
        detached=values.detach,
    )
    options = RestoreOptions(
        creation,
        criu_options(values),
        lsm_profile=values.lsm_profile,
        lsm_mount_context=values.lsm_mount_context,
        tcp_close=values.tcp_close,
        subreaper=not values.no_subreaper,
    )
    return restore(options, oci.warn)
