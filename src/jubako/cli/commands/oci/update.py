"""`jubako oci update`: change the limits of a container."""

from __future__ import annotations

from jubako.cli.flags import Command, Flag, Values, field_of
from jubako.cli.oci_flags import ID, changing

COMMAND = Command(
    "oci update",
    "change the limits of a container",
    (
        Flag(("-r", "--resources"), "limits as JSON, as in linux.resources; - is standard input", metavar="FILE"),
        Flag(("--memory",), "the most memory, -1 for any", metavar="BYTES"),
        Flag(("--memory-reservation",), "memory that is taken back from others first", metavar="BYTES"),
        Flag(("--memory-swap",), "the most memory and swap together, -1 for any", metavar="BYTES"),
        Flag(("--kernel-memory",), "not kept by cgroup v2", metavar="BYTES", hidden=True),
        Flag(("--kernel-memory-tcp",), "not kept by cgroup v2", metavar="BYTES", hidden=True),
        Flag(("--cpu-period",), "the period of --cpu-quota in microseconds", metavar="N"),
        Flag(("--cpu-quota",), "the most CPU time a period in microseconds, -1 for any", metavar="N"),
        Flag(("--cpu-burst",), "how much of what was not used may be used later, in microseconds", metavar="N"),
        Flag(("--cpu-share", "--cpu-shares"), "the share of CPU time, 2 to 262144", metavar="N", field="cpu_share"),
        Flag(("--cpu-idle",), "1: only what others leave", metavar="0|1"),
        Flag(("--cpu-rt-period",), "not kept by cgroup v2", metavar="N", hidden=True),
        Flag(("--cpu-rt-runtime",), "not kept by cgroup v2", metavar="N", hidden=True),
        Flag(("--cpuset-cpus",), "the CPUs to run on", metavar="LIST"),
        Flag(("--cpuset-mems",), "the memory nodes to use", metavar="LIST"),
        Flag(("--blkio-weight",), "the share of block devices' time, 10 to 1000", metavar="N"),
        Flag(("--pids-limit",), "the most tasks, -1 for any", metavar="N"),
        Flag(("--l3-cache-schema",), "caches (Intel RDT)", metavar="TEXT"),
        Flag(("--mem-bw-schema",), "memory bandwidth (Intel RDT)", metavar="TEXT"),
    ),
    (ID,),
    description="Sizes may have a unit: 512m. What is not named stays as it is; with --resources all else is ignored.",
    examples=(("Half a CPU and 256 MiB.", "jubako oci update --cpu-quota 50000 --memory 256m c1"),),
)


def run(values: Values) -> int:
    from jubako.oci.updating import UpdateOptions, read_resources, resources_of, update, update_cache

    given = {field_of(flag): getattr(values, field_of(flag)) for flag in COMMAND.flags if field_of(flag) != "resources"}
    options = UpdateOptions(**given)
    with changing(values.id) as (container, state):
        if values.resources:
            resources = read_resources(_read(values.resources), values.resources)
        else:
            resources = resources_of(options)
        status = container.status(state)
        update(container.id, state.cgroup, status, resources, unit=state.unit, filter_devices=state.device_filter)
        if not values.resources:
            update_cache(container.id, options)
    return 0


def _read(path: str) -> bytes:
    from jubako.oci.bundle import read_text

    if path != "-":
        return read_text(path)
    with open(0, "rb", closefd=False) as file:
        return file.read()
