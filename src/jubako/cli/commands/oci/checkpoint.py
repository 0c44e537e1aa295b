"""`jubako oci checkpoint`: write a running container to disk."""

from __future__ import annotations

from jubako.cli import oci
from jubako.cli.flags import NUMBER, SWITCH, Command, Flag, Values
from jubako.cli.oci_flags import CRIU, ID, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.oci.criu import CriuOptions

COMMAND = Command(
    "oci checkpoint",
    "write a running container to disk",
    (
        *CRIU,
        Flag(
            ("--parent-path",), "an earlier --pre-dump, relative to --image-path: only what changed since is written",
            metavar="DIR",
        ),
        Flag(("--leave-running",), "let the container go on afterwards", SWITCH),
        Flag(("--pre-dump",), "write its memory only, and let it go on", SWITCH),
        Flag(("--tcp-skip-in-flight",), "leave out connections that are being made", SWITCH),
        Flag(("--link-remap",), "give files that were deleted a name again", SWITCH),
        Flag(("--page-server",), "send the memory to criu page-server there", metavar="ADDRESS:PORT"),
        Flag(
            ("--status-fd",), "write a zero byte to descriptor N when --lazy-pages is ready", NUMBER, metavar="N",
            default=-1,
        ),
    ),
    (ID,),
    description="""
        criu (apt-get install criu) writes all of the container's processes to --image-path and ends them; then the
        container is deleted, unless it is left running. restore makes it again, here or elsewhere. Only root's.
    """,
    examples=(
        ("Away for a while.", "jubako oci checkpoint --image-path ./image c1"),
        ("And on again.", "jubako oci restore --image-path ./image --bundle ./bundle --detach c1"),
    ),
)  # fmt: skip


def run(values: Values) -> int:
    from jubako.oci.checkpoint import CheckpointOptions, checkpoint

    options = CheckpointOptions(
        criu_options(values),
        parent_path=values.parent_path,
        leave_running=values.leave_running,
        tcp_skip_in_flight=values.tcp_skip_in_flight,
        link_remap=values.link_remap,
        pre_dump=values.pre_dump,
        page_server=values.page_server,
        status_fd=values.status_fd,
    )
    checkpoint(find(values.id), options, oci.warn)
    return 0


def criu_options(values: Values) -> CriuOptions:
    """What the flags say that checkpoint and restore have in common."""
    from jubako.oci.criu import CriuOptions

    return CriuOptions(
        image_path=values.image_path or "checkpoint",
        work_path=values.work_path,
        program=oci.settings.criu,
        tcp_established=values.tcp_established,
        ext_unix_sk=values.ext_unix_sk,
        shell_job=values.shell_job,
        file_locks=values.file_locks,
        lazy_pages=values.lazy_pages,
        auto_dedup=values.auto_dedup,
        cgroups_mode=values.cgroups_mode,
        empty_ns=values.empty_ns,
        network_lock=values.network_lock,
    )
