"""`jubako rootless`, installed also as `rootlesskit`: run a command in a fake root."""

from __future__ import annotations

from jubako.cli.flags import ANY, LIST, NUMBER, SWITCH, Argument, Command, Flag, Values
from jubako.errors import JubakoError, UsageError
from jubako.net.link import NetworkOptions
from jubako.rootless.options import (
    AUTO,
    DYNAMIC,
    HOST,
    IMPLICIT,
    NETWORKS,
    NONE,
    OVERLAY,
    PORT_DRIVERS,
    PROPAGATIONS,
    STATIC,
    SYMLINKS,
    RootlessOptions,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.ports.spec import PortSpec

_NET, _SLIRP, _PORT, _MOUNT, _PROCESS, _STATE = (
    "Network", "Network, slirp4netns", "Ports", "Mounts", "Processes", "State",
)  # fmt: skip
_CHOICE = ("auto", "true", "false")

COMMAND = Command(
    "rootless",
    "run a command in a fake root: as root, with the host's files",
    flags=(
        Flag(("--explain",), "print every step that would be taken, and take none", SWITCH),
        Flag(("--debug",), "print what helper programs say, and where an error came from", SWITCH),
        Flag(("-v", "--version"), "print the version and end", SWITCH),
        Flag(("--print-semver",), "print one part of the version and end", choices=("major", "minor", "patch")),
        Flag(
            ("--net",), "the network: the host's, none, or one of its own", choices=NETWORKS, default=HOST, group=_NET
        ),
        Flag(("--mtu",), "bytes of a packet; 0 is 65520 for pasta and slirp4netns, else 1500", NUMBER, default=0,
             group=_NET),
        Flag(("--cidr",), "the network's addresses, 10.0.2.0/24 if not given", metavar="CIDR", group=_NET),
        Flag(("--ifname",), "the device's name, tap0 (lxc-user-nic: eth0) if not given", metavar="NAME", group=_NET),
        Flag(("--disable-host-loopback",), "do not let it reach what listens on 127.0.0.1 of the host", SWITCH,
             group=_NET),
        Flag(("--ipv6",), "IPv6 as well (pasta, slirp4netns)", SWITCH, group=_NET),
        Flag(("--detach-netns",), "the network namespace is kept at STATE/netns, and the command stays in the host's",
             SWITCH, group=_NET),
        Flag(("--pasta-binary",), "the program pasta", metavar="FILE", default="pasta", group=_NET),
        Flag(("--vpnkit-binary",), "the program vpnkit", metavar="FILE", default="vpnkit", group=_NET),
        Flag(("--lxc-user-nic-binary",), "the program lxc-user-nic", metavar="FILE", default="lxc-user-nic",
             group=_NET),
        Flag(("--lxc-user-nic-bridge",), "the host's bridge", metavar="NAME", default="lxcbr0", group=_NET),
        Flag(("--slirp4netns-binary",), "the program slirp4netns", metavar="FILE", default="slirp4netns",
             group=_SLIRP),
        Flag(("--slirp4netns-sandbox",), "whether it confines itself to a mount namespace", choices=_CHOICE,
             default="false", group=_SLIRP),
        Flag(("--slirp4netns-seccomp",), "whether it confines itself with a filter", choices=_CHOICE,
             default="false", group=_SLIRP),
        Flag(("--port-driver",), "who forwards ports", choices=PORT_DRIVERS, default=NONE, group=_PORT),
        Flag(("-p", "--publish"), "forward a port of the host: IP:PORT[:CHILDIP]:PORT/PROTOCOL", LIST,
             metavar="PORT", group=_PORT),
        Flag(("--source-ip-transparent",), "keep the address of who connects (builtin)", SWITCH, default=True,
             group=_PORT),
        Flag(("--copy-up",), "make DIR writable: what is written to it is seen in here only", LIST, metavar="DIR",
             completes="directory", group=_MOUNT),
        Flag(("--copy-up-mode",), "how", choices=(SYMLINKS, OVERLAY), default=SYMLINKS, group=_MOUNT),
        Flag(("--propagation",), "whether mounts pass between the host and here", choices=tuple(PROPAGATIONS),
             default="rprivate", group=_MOUNT),
        Flag(("--pidns",), "a PID namespace", SWITCH, group=_PROCESS),
        Flag(("--cgroupns",), "a control group namespace", SWITCH, group=_PROCESS),
        Flag(("--utsns",), "a UTS namespace", SWITCH, group=_PROCESS),
        Flag(("--ipcns",), "an IPC namespace", SWITCH, group=_PROCESS),
        Flag(("--reaper",), "whether orphans are reaped, in a PID namespace", choices=_CHOICE, default=AUTO,
             group=_PROCESS),
        Flag(("--evacuate-cgroup2",), "move this control group's processes into NAME below it", metavar="NAME",
             group=_PROCESS),
        Flag(("--state-dir",), "the state directory: wiped first, removed at the end", metavar="DIR",
             completes="directory", group=_STATE),
        Flag(("--subid-source",), "where subordinate ids are asked for: by getsubids, or in /etc/subuid",
             choices=(AUTO, DYNAMIC, STATIC), default=AUTO, group=_STATE),
    ),
    arguments=(Argument("COMMAND", "command", ANY, help="the command and its arguments"),),
    description="""
        In a fake root the caller is root: its own id is 0, its subordinate ids are 1 and up, and with them it can
        install packages into a directory, mount, or run a container engine. Files stay the host's, with the rights
        that the caller has. It is no sandbox: use 'jubako run' against programs that are not trusted.

        The interface is RootlessKit's, and the command is installed under that name, too: flags, the variables
        ROOTLESSKIT_STATE_DIR, ROOTLESSKIT_PARENT_EUID and ROOTLESSKIT_PARENT_EGID, the files of the state directory,
        and the REST API at its api.sock.
    """,
    examples=(
        ("A shell as root.", "jubako rootless bash"),
        ("With an /etc of its own to write to.", "jubako rootless --copy-up=/etc bash"),
        (
            "With a network of its own, and ports that are published by rootlessctl.",
            "jubako rootless --net=pasta --port-driver=builtin bash",
        ),
    ),
    interspersed=False,
    usage=("[OPTIONS] COMMAND [ARG...]",),
)  # fmt: skip


def respell(words: list[str]) -> list[str]:
    """Long flags with one dash, as Go's programs take them too."""
    known = {name[2:] for flag in COMMAND.flags for name in flag.names if name.startswith("--")}
    result: list[str] = []
    for position, word in enumerate(words):
        if word == "--" or word[:1] != "-":
            previous = result[-1] if result else ""
            if word == "--" or not _takes_next(previous):
                return [*result, *words[position:]]
        elif not word.startswith("--") and word[1:].partition("=")[0] in known:
            word = "-" + word
        result.append(word)
    return result


def _takes_next(word: str) -> bool:
    """Whether the word after the flag `word` is its value."""
    if word[:1] != "-" or "=" in word:
        return False
    return any(word in flag.names and flag.kind != SWITCH for flag in COMMAND.flags)


def run(values: Values) -> int:
    if values.version or values.print_semver:
        return _print_version(values.print_semver)
    if not values.command:
        usage = "usage: jubako rootless [OPTIONS] COMMAND [ARG...]"
        raise UsageError("rootless", reason="no command is named", hint=usage)
    options = rootless_options(values)
    if values.explain:
        from jubako.cli.commands.explain import show
        from jubako.rootless.explain import explain

        show(explain(options))
        return 0
    from jubako.rootless import start

    try:
        return start.run(options)
    except JubakoError as failure:
        if values.debug:
            import traceback

            traceback.print_exception(failure)
        raise _with_remedy(failure) from failure


def rootless_options(values: Values) -> RootlessOptions:
    """What the command line asks for."""
    driver = values.net
    programs = {
        "pasta": values.pasta_binary,
        "slirp4netns": values.slirp4netns_binary,
        "vpnkit": values.vpnkit_binary,
        "lxc-user-nic": values.lxc_user_nic_binary,
    }
    slirp = driver == "slirp4netns"
    cidr = values.cidr
    if cidr:
        from jubako.net import addresses

        try:
            cidr = str(addresses.read_cidr(cidr))
        except ValueError as reason:
            raise UsageError("rootless", "--cidr", reason=f"{values.cidr!r}: {reason}") from None
    arguments: tuple[str, ...] = ()
    if driver == "pasta" and values.port_driver == IMPLICIT:
        from jubako.net.ports.implicit import pasta_arguments

        arguments = pasta_arguments((), auto=True)
    network = NetworkOptions(
        driver=driver,
        mtu=values.mtu,
        cidr=cidr,
        device=values.ifname,
        ipv6=values.ipv6,
        host_loopback=driver in ("pasta", "slirp4netns", "vpnkit") and not values.disable_host_loopback,
        program=programs.get(driver, ""),
        arguments=arguments,
        bridge=values.lxc_user_nic_bridge if driver == "lxc-user-nic" else "",
        sandbox=values.slirp4netns_sandbox if slirp else "",
        seccomp=values.slirp4netns_seccomp if slirp else "",
        ports="" if values.port_driver == NONE else values.port_driver,
    )
    if values.reaper == "true" and not values.pidns:
        needed = "it reaps in a PID namespace of its own"
        raise UsageError("rootless", "--reaper=true", reason=needed, hint="add --pidns")
    return RootlessOptions(
        command=values.command,
        network=network,
        state_dir=values.state_dir,
        copy_up=_directories(values.copy_up),
        copy_up_mode=values.copy_up_mode,
        propagation=values.propagation,
        port_driver=values.port_driver,
        publish=_ports(values.publish),
        source_transparent=values.source_ip_transparent,
        detach_network=values.detach_netns,
        pid=values.pidns,
        cgroup=values.cgroupns,
        uts=values.utsns,
        ipc=values.ipcns,
        reaper=values.pidns and values.reaper != "false",
        evacuate=values.evacuate_cgroup2,
        subid_source=values.subid_source,
        debug=values.debug,
    )


def _directories(given: tuple[str, ...]) -> tuple[str, ...]:
    """RootlessKit takes several in one value, with commas in between."""
    import os

    found: list[str] = []
    for value in given:
        found += [value] if os.path.isdir(value) else value.split(",")
    return tuple(found)


def _ports(given: tuple[str, ...]) -> tuple[PortSpec, ...]:
    if not given:
        return ()
    from jubako.net.ports.parse import parse_rootlesskit

    return tuple(port for value in given for part in value.split(",") for port in parse_rootlesskit(part))


def release() -> str:
    """The release of RootlessKit whose interface this is, and ours behind it, as semver.org has it."""
    from jubako import __version__
    from jubako.rootless.api.routes import RELEASE

    return f"{RELEASE}+jubako{__version__}"


def _print_version(part: str) -> int:
    text = release()
    if part:
        print(text.partition("+")[0].split(".")[("major", "minor", "patch").index(part)])
    else:
        print(f"rootlesskit version {text}")
    return 0


def _with_remedy(failure: JubakoError) -> JubakoError:
    """Where no user namespace can be made, what forbids it here and the commands that allow it."""
    if failure.step is None or failure.step[2] != "CloneKeeper" or not failure.errno:
        return failure
    from jubako.doctor.host import Host
    from jubako.doctor.namespaces import user_namespaces

    finding = user_namespaces(Host())
    if finding.remedy:
        failure.reason = finding.summary
        failure.hint = f"{finding.remedy}\njubako doctor says more"
    return failure
