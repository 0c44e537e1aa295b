"""criu, the program that writes processes to disk and makes them again (criu(8)): what it is asked, and whether it is
here.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError
from jubako.ids.newidmap import effective_capabilities
from jubako.record import record

_CAP_SYS_ADMIN = 21


@record
class CriuOptions:
    """How criu is to work, for `checkpoint` and `restore` alike. `program` names it where it is not on PATH."""

    image_path: str = "checkpoint"
    work_path: str = ""
    program: str = ""
    tcp_established: bool = False
    ext_unix_sk: bool = False
    shell_job: bool = False
    file_locks: bool = False
    lazy_pages: bool = False
    auto_dedup: bool = False
    cgroups_mode: str = "soft"
    empty_ns: tuple[str, ...] = ()
    network_lock: str = ""


def find_criu(operation: str, subject: str, options: CriuOptions) -> str:
    """The path of the program. Raises `JubakoError` where it is not installed, or the caller may not use it."""
    import shutil

    if os.geteuid() != 0 or not effective_capabilities() >> _CAP_SYS_ADMIN & 1:
        raise JubakoError(
            operation, subject, reason="criu makes mounts and namespaces, for which it has to be root's",
            hint="containers of an ordinary user cannot be checkpointed: run this one as root",
        )  # fmt: skip
    wanted = options.program or "criu"
    found = shutil.which(wanted)
    if found is None:
        raise JubakoError(
            operation, subject, reason=f"the program {wanted} is not here",
            hint="install criu: apt-get install criu, dnf install criu",
        )  # fmt: skip
    return found
