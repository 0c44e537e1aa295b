"""The flags of `run` and `create`, spelled as docker and podman spell them, grouped as the manual shows them."""

from __future__ import annotations

import os

from jubako.cli.flags import LIST, NUMBER, SWITCH, Flag, Values
from jubako.engine.options import RunOptions
from jubako.errors import UsageError

LIFE_CYCLE = "Life cycle"
PROCESS = "Process"
FILE_SYSTEM = "File system"
NAMESPACES = "Namespaces"
NETWORK = "Network"
IDS = "Users and ids"
SECURITY = "Security"
RESOURCES = "Resources"

_PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable")

CONTAINER_FLAGS: tuple[Flag, ...] = (
    # Life cycle
    Flag(
        ("--name",),
        "call the container NAME (by default two words picked at random)",
        metavar="NAME",
        group=LIFE_CYCLE,
        once=True,
    ),
    Flag(("--rm",), "remove the container when it has ended", SWITCH, group=LIFE_CYCLE),
    Flag(
        ("--restart",),
        "no; to start it again when it ends (always, unless-stopped, on-failure[:TIMES]) is not supported yet",
        metavar="POLICY",
        group=LIFE_CYCLE,
        completes="restart",
    ),
    Flag(
        ("--cidfile",),
        "write the container's id to FILE, which must not exist",
        metavar="FILE",
        group=LIFE_CYCLE,
        completes="file",
        once=True,
    ),
    Flag(
        ("--pidfile",),
        "write the pid of the container's first process, as the host sees it, to FILE",
        metavar="FILE",
        group=LIFE_CYCLE,
        completes="file",
        once=True,
    ),
    Flag(("--replace",), "remove a container of the same name first", SWITCH, group=LIFE_CYCLE),
    Flag(
        ("--stop-signal",),
        "the signal that asks the program to end",
        metavar="SIGNAL",
        group=LIFE_CYCLE,
        completes="signal",
    ),
    Flag(
        ("--stop-timeout",),
        "how long to wait after that signal before killing",
        NUMBER,
        metavar="SECONDS",
        group=LIFE_CYCLE,
    ),
    Flag(("--timeout",), "kill the container after so long", NUMBER, metavar="SECONDS", group=LIFE_CYCLE),
    Flag(
        ("--pull",),
        "when to fetch the image; nothing is fetched yet, so it must be here, and always and newer are refused",
        metavar="WHEN",
        choices=("always", "missing", "never", "newer"),
        group=LIFE_CYCLE,
    ),
    Flag(
        ("--log-driver",),
        "how output is kept: k8s-file (a file, by default) or none",
        metavar="DRIVER",
        group=LIFE_CYCLE,
    ),
    Flag(
        ("--log-opt",),
        "max-size=SIZE: begin the log anew from so many bytes on, and keep one older part",
        LIST,
        metavar="KEY=VALUE",
        group=LIFE_CYCLE,
    ),
    Flag(("-l", "--label"), "a label, for filters and people", LIST, metavar="KEY[=VALUE]", group=LIFE_CYCLE),
    Flag(
        ("--label-file",), "read labels from FILE, one a line", LIST, metavar="FILE", group=LIFE_CYCLE, completes="file"
    ),
    Flag(("--annotation",), "an OCI annotation", LIST, metavar="KEY=VALUE", group=LIFE_CYCLE),
    # Process
    Flag(("-i", "--interactive"), "keep standard input open", SWITCH, group=PROCESS),
    Flag(("-t", "--tty"), "give the program a terminal of its own", SWITCH, group=PROCESS),
    Flag(
        ("-e", "--env"),
        "set a variable; without a value, take it over from the caller (NAME* takes all that begin so)",
        LIST,
        metavar="NAME[=VALUE]",
        group=PROCESS,
        completes="variable",
    ),
    Flag(
        ("--env-file",), "read variables from FILE, one a line", LIST, metavar="FILE", group=PROCESS, completes="file"
    ),
    Flag(("--unsetenv",), "remove a variable that the image sets", LIST, metavar="NAME", group=PROCESS),
    Flag(
        ("--entrypoint",),
        "run PROGRAM instead of the image's entry point; an empty one removes it",
        metavar="PROGRAM",
        group=PROCESS,
    ),
    Flag(("-w", "--workdir"), "start in DIR, which is made if it is missing", metavar="DIR", group=PROCESS),
    Flag(
        ("--init",),
        "let a small init of ours be the first process: it reaps orphans and forwards signals",
        SWITCH,
        group=PROCESS,
    ),
    Flag(("--env-host",), "take over the caller's whole environment, below everything else", SWITCH, group=PROCESS),
    Flag(("--unsetenv-all",), "remove every variable that the image or jubako sets", SWITCH, group=PROCESS),
    Flag(("--umask",), "the file mode creation mask, in octal", metavar="MASK", group=PROCESS),
    Flag(
        ("--ulimit",),
        "a resource limit of processes, such as nofile=1024:2048 or core=-1; 'host' keeps the caller's",
        LIST,
        metavar="NAME=SOFT[:HARD]",
        group=PROCESS,
    ),
    Flag(
        ("--oom-score-adj",),
        "how early the kernel's out-of-memory killer takes it, -1000 to 1000",
        NUMBER,
        group=PROCESS,
    ),
    Flag(("--preserve-fds",), "pass on N descriptors from 3 upwards", NUMBER, group=PROCESS),
    # File system
    Flag(
        ("--rootfs",),
        "use the directory DIR as the root, written to directly; with :O under a throw-away layer",
        metavar="DIR[:O]",
        group=FILE_SYSTEM,
        completes="directory",
        once=True,
    ),
    Flag(
        ("-v", "--volume"),
        "mount SRC at DST; OPTIONS are ro, rw, exec, noexec, nosuid, a propagation and others",
        LIST,
        metavar="SRC:DST[:OPTIONS]",
        group=FILE_SYSTEM,
        completes="file",
    ),
    Flag(
        ("--mount",),
        "mount something, said in pairs: type=bind,source=SRC,target=DST,readonly",
        LIST,
        metavar="KEY=VALUE,...",
        group=FILE_SYSTEM,
    ),
    Flag(("--tmpfs",), "mount an empty file system in memory", LIST, metavar="DST[:OPTIONS]", group=FILE_SYSTEM),
    Flag(("--read-only",), "make the root file system read-only", SWITCH, group=FILE_SYSTEM),
    Flag(
        ("--read-only-tmpfs",),
        "with --read-only, still have writable /tmp, /var/tmp and /run (on by default)",
        SWITCH,
        default=True,
        group=FILE_SYSTEM,
    ),
    Flag(
        ("--device",),
        "bind a device node of the host",
        LIST,
        metavar="SRC[:DST][:rwm]",
        group=FILE_SYSTEM,
        completes="file",
    ),
    Flag(("--shm-size",), "the size of /dev/shm, such as 64m", metavar="SIZE", group=FILE_SYSTEM),
    Flag(
        ("--propagation",),
        "whether later mounts of the host show up in the root: with private, the default, none does; with slave all do",
        metavar="KIND",
        choices=_PROPAGATIONS,
        group=FILE_SYSTEM,
    ),
    Flag(
        ("--storage",),
        "how the image's layers become a root: overlay, fuse-overlayfs or copy (by default the fastest)",
        metavar="KIND",
        group=FILE_SYSTEM,
        completes="storage",
    ),
    Flag(
        ("--no-pivot",),
        "change the root with chroot, as on an initramfs, where pivot_root cannot work",
        SWITCH,
        group=FILE_SYSTEM,
    ),
    # Namespaces
    Flag(
        ("--pid",),
        "the PID namespace: private, host, container:NAME or ns:PATH",
        metavar="MODE",
        group=NAMESPACES,
        completes="namespace",
    ),
    Flag(
        ("--ipc",),
        "the IPC namespace: private, shareable, none, host, container:NAME or ns:PATH",
        metavar="MODE",
        group=NAMESPACES,
        completes="namespace",
    ),
    Flag(
        ("--uts",),
        "the UTS namespace, of host and domain name: private, host, container:NAME or ns:PATH",
        metavar="MODE",
        group=NAMESPACES,
        completes="namespace",
    ),
    Flag(
        ("--cgroupns",),
        "the cgroup namespace: private, host, container:NAME or ns:PATH",
        metavar="MODE",
        group=NAMESPACES,
        completes="namespace",
    ),
    Flag(
        ("--ns",),
        "any namespace, by the name that OCI, unshare or lsns has for it: private, host or the PATH of one to join",
        LIST,
        metavar="TYPE=MODE",
        group=NAMESPACES,
    ),
    Flag(
        ("--time-offset",),
        "have clocks that are ahead: monotonic=SECONDS or boottime=SECONDS",
        LIST,
        metavar="CLOCK=SECONDS",
        group=NAMESPACES,
    ),
    Flag(("-h", "--hostname"), "the host name inside", metavar="NAME", group=NAMESPACES),
    Flag(("--domainname",), "the NIS domain name inside", metavar="NAME", group=NAMESPACES),
    Flag(
        ("--sysctl",),
        "a kernel parameter of the container's own namespaces",
        LIST,
        metavar="NAME=VALUE",
        group=NAMESPACES,
    ),
    # Network
    Flag(
        ("--network", "--net"),
        "how it is connected: pasta, slirp4netns, proxy, none, host, container:NAME, ns:PATH, bridge or a network",
        LIST,
        metavar="MODE",
        group=NETWORK,
        completes="network",
    ),
    Flag(("--network-alias",), "one more name on its bridge networks", LIST, metavar="NAME", group=NETWORK),
    Flag(("--ip",), "this IPv4 address on its bridge network", metavar="ADDRESS", group=NETWORK),
    Flag(("--ip6",), "this IPv6 address on its bridge network", metavar="ADDRESS", group=NETWORK),
    Flag(("--mac-address",), "this hardware address on its bridge network", metavar="ADDRESS", group=NETWORK),
    Flag(
        ("-p", "--publish"),
        "let a port of the host lead to one inside (or a range of them)",
        LIST,
        metavar="[[IP:]HOST:]PORT[/PROTOCOL]",
        group=NETWORK,
    ),
    Flag(
        ("-P", "--publish-all"), "publish the ports that the image exposes, at free ports", SWITCH, group=NETWORK
    ),
    Flag(("--expose",), "one more port for --publish-all", LIST, metavar="PORT[/PROTOCOL]", group=NETWORK),
    Flag(
        ("--allow",),
        "what a container of the network 'proxy' may reach, and nothing else",
        LIST,
        metavar="HOST[:PORT]",
        group=NETWORK,
    ),
    Flag(("--add-host",), "a line for /etc/hosts", LIST, metavar="NAME:IP", group=NETWORK),
    Flag(("--no-hosts",), "leave the image's own /etc/hosts alone", SWITCH, group=NETWORK),
    Flag(("--dns",), "a name server for /etc/resolv.conf", LIST, metavar="IP", group=NETWORK),
    Flag(("--dns-search",), "a search domain for /etc/resolv.conf", LIST, metavar="DOMAIN", group=NETWORK),
    Flag(
        ("--dns-option", "--dns-opt"), "a resolver option for /etc/resolv.conf", LIST, metavar="OPTION", group=NETWORK
    ),
    # Users and ids
    Flag(
        ("-u", "--user"),
        "run as this user, by number or by a name of the container's own",
        metavar="USER[:GROUP]",
        group=IDS,
    ),
    Flag(
        ("--group-add",),
        "one more group, by number or by a name of the container's own",
        LIST,
        metavar="GROUP",
        group=IDS,
    ),
    Flag(
        ("--userns",),
        "the user namespace: host, keep-id, nomap, auto[:size=N,uidmapping=...], container:NAME or ns:PATH",
        metavar="MODE",
        group=IDS,
        completes="userns",
        once=True,
    ),
    Flag(
        ("--uidmap",),
        "map SIZE user ids from INSIDE to OUTSIDE, a position in your ids, or @ID for a host id",
        LIST,
        metavar="INSIDE:OUTSIDE:SIZE",
        group=IDS,
    ),
    Flag(
        ("--gidmap",), "the same for groups (by default as for users)", LIST, metavar="INSIDE:OUTSIDE:SIZE", group=IDS
    ),
    # Security
    Flag(
        ("--cap-add",),
        "give one more capability, or ALL",
        LIST,
        metavar="CAPABILITY",
        group=SECURITY,
        completes="capability",
    ),
    Flag(
        ("--cap-drop",),
        "take a capability away, or ALL",
        LIST,
        metavar="CAPABILITY",
        group=SECURITY,
        completes="capability",
    ),
    Flag(
        ("--privileged",),
        "everything that the caller may do: all capabilities, no filter, nothing masked",
        SWITCH,
        group=SECURITY,
    ),
    Flag(
        ("--security-opt",),
        "seccomp=FILE|unconfined, no-new-privileges[=BOOL], mask=PATHS, unmask=PATHS|ALL",
        LIST,
        metavar="OPTION",
        group=SECURITY,
        completes="security",
    ),
    # Resources
    Flag(("-m", "--memory"), "at most so much memory", metavar="SIZE", group=RESOURCES),
    Flag(("--memory-reservation",), "the memory to be left when the host runs short", metavar="SIZE", group=RESOURCES),
    Flag(
        ("--memory-swap",),
        "at most so much memory and swap together, -1 for any amount",
        metavar="SIZE",
        group=RESOURCES,
    ),
    Flag(("--cpus",), "at most so many CPUs' worth of time, such as 1.5", metavar="NUMBER", group=RESOURCES),
    Flag(("--cpu-shares", "-c"), "the weight against others, 2 to 262144 (1024 is usual)", NUMBER, group=RESOURCES),
    Flag(("--cpu-period",), "the period of the CPU quota in microseconds", NUMBER, group=RESOURCES),
    Flag(("--cpu-quota",), "the CPU time a period in microseconds", NUMBER, group=RESOURCES),
    Flag(("--cpuset-cpus",), "run on these CPUs only, such as 0-3,5", metavar="LIST", group=RESOURCES),
    Flag(("--cpuset-mems",), "take memory from these NUMA nodes only", metavar="LIST", group=RESOURCES),
    Flag(("--pids-limit",), "at most so many processes and threads, -1 for any number", NUMBER, group=RESOURCES),
    Flag(("--cgroup-parent",), "make the container's cgroup below this one", metavar="PATH", group=RESOURCES),
    Flag(
        ("--cgroups",),
        "whether the container gets a cgroup of its own",
        metavar="MODE",
        choices=("enabled", "disabled"),
        group=RESOURCES,
    ),
    Flag(("--best-effort",), "go on where a limit cannot be kept, and say so", SWITCH, group=RESOURCES),
)

DETACH_KEYS_FLAG = Flag(
    ("--detach-keys",),
    "the keys that leave a container with a terminal alone, empty for none",
    metavar="KEYS",
    default="ctrl-p,ctrl-q",
)
SIG_PROXY_FLAG = Flag(
    ("--sig-proxy",), "pass the signals that jubako gets on to the program (on by default)", SWITCH, default=True
)

RUN_FLAGS: tuple[Flag, ...] = (
    Flag(("-d", "--detach"), "leave it running in the background and print its id", SWITCH),
    Flag(("-a", "--attach"), "connect only these streams", LIST, metavar="stdin|stdout|stderr"),
    DETACH_KEYS_FLAG,
    SIG_PROXY_FLAG,
    *CONTAINER_FLAGS,
)


def run_options(values: Values, operation: str = "run") -> RunOptions:
    """The request that flags and words of the command `operation` say; the image is first, unless `--rootfs` is."""
    words: tuple[str, ...] = values.words
    image = ""
    if not values.rootfs:
        if not words:
            raise UsageError(
                operation,
                reason="no image and no --rootfs is given",
                hint="'jubako run host -- COMMAND' runs a command on this system's own files; "
                "'jubako run --help' shows the other ways",
            )
        image, words = words[0], words[1:]
        if words[:1] == ("--",):  # `run host -- cmd` reads well; the program gets no `--`
            words = words[1:]
    given = {name: getattr(values, name) for name in values.given if name in _FIELDS}
    if not given.get("network") and not any(value.partition("=")[0] in _NETWORK_NAMES for value in values.ns):
        given["network"] = (os.environ.get("JUBAKO_NETWORK") or "default",)
    return RunOptions(**given, image=image, command=words)


_NETWORK_NAMES = ("net", "network")
_FIELDS = frozenset(RunOptions.__annotations__)
