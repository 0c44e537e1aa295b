"""Flags and arguments that several commands of the OCI runtime share."""

from __future__ import annotations

from jubako.cli.flags import LIST, NUMBER, SWITCH, Argument, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.oci.state import Container, State

ID = Argument("ID", "id", help="the container's id")

CONSOLE_SOCKET = Flag(
    ("--console-socket",), "send the terminal to who listens at this unix socket", metavar="PATH", completes="file"
)
PID_FILE = Flag(("--pid-file",), "write the process's pid to FILE", metavar="FILE", completes="file")
PRESERVE_FDS = Flag(("--preserve-fds",), "pass N more descriptors on, from 3 on", NUMBER, metavar="N", default=0)
DETACH = Flag(("-d", "--detach"), "do not wait for the end", SWITCH)
CREATION = (
    Flag(("-b", "--bundle"), "the bundle's directory (.)", metavar="DIR", completes="directory", default="."),
    CONSOLE_SOCKET,
    PID_FILE,
    Flag(("--no-pivot",), "leave out pivot_root(2): for a root on an initramfs", SWITCH, field="no_pivot"),
    Flag(("--no-new-keyring",), "keep the caller's session keyring", SWITCH, field="no_new_keyring"),
    PRESERVE_FDS,
)

CRIU = (
    Flag(("--image-path",), "the checkpoint's directory (checkpoint)", metavar="DIR", completes="directory"),
    Flag(("--work-path",), "where criu's log goes (--image-path)", metavar="DIR", completes="directory"),
    Flag(("--tcp-established",), "with open TCP connections", SWITCH),
    Flag(("--ext-unix-sk",), "with unix sockets that are connected to the outside", SWITCH),
    Flag(("--shell-job",), "with a session or a terminal that began outside", SWITCH),
    Flag(("--file-locks",), "with file locks", SWITCH),
    Flag(("--lazy-pages",), "bring the memory when it is needed (userfaultfd(2), criu lazy-pages)", SWITCH),
    Flag(("--auto-dedup",), "keep no page twice", SWITCH),
    Flag(
        ("--manage-cgroups-mode",), "what becomes of control groups", choices=("soft", "full", "strict", "ignore"),
        default="soft", field="cgroups_mode",
    ),
    Flag(("--empty-ns",), "leave this namespace empty: network", LIST, metavar="TYPE", field="empty_ns"),
    Flag(("--network-lock",), "how connections are stopped meanwhile", choices=("iptables", "nftables", "skip")),
)  # fmt: skip
"""What checkpoint and restore have in common."""


def find(identifier: str) -> Container:
    """The container of that id, below `--root`."""
    from jubako.cli import oci
    from jubako.oci.state import find_container

    return find_container(oci.settings.container_root(), identifier)


class changing:
    """The container of that id and its state, while nobody else changes its life."""

    def __init__(self, identifier: str) -> None:
        self.container = find(identifier)

    def __enter__(self) -> tuple[Container, State]:
        self.container.lock()
        try:
            return self.container, self.container.read()
        except BaseException:
            self.container.unlock()
            raise

    def __exit__(self, *_failure: object) -> None:
        self.container.unlock()
