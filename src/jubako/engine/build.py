"""From a request in docker's words to OCI's document: `build_request`, the one way in for the CLI and the library.

It reads every value of `RunOptions`, refuses what cannot be, and asks the host only for what the request names (a
source, a file of variables). What depends on id maps, running containers or the image's own files is left to those who
know it: see `extras`.
"""

from __future__ import annotations

from jubako.engine.extras import ContainerExtras, Context, HostsFiles, Join, NetworkRequest, Request, Restart
from jubako.engine.filesystem import build_masks, build_mounts, find_root
from jubako.engine.options import RunOptions
from jubako.engine.parse.namespaces import (
    CONTAINER,
    DRIVER,
    HOST,
    NONE,
    PATH,
    PRIVATE,
    Choice,
    choose_namespaces,
    parse_namespace,
    parse_ns,
    parse_time_offsets,
)
from jubako.engine.parse.paths import parse_source
from jubako.engine.parse.security import DEFAULT, UNCONFINED, SecurityChoice, parse_security
from jubako.engine.parse.sizes import is_digits, refuse
from jubako.engine.process import build_process
from jubako.errors import UsageError
from jubako.ids.modes import CONTAINER as USER_CONTAINER
from jubako.ids.modes import HOST as USER_HOST
from jubako.ids.modes import PATH as USER_PATH
from jubako.ids.modes import Userns, parse_userns
from jubako.image.model import ImageConfig
from jubako.record import replace
from jubako.runtime.signals import parse_signal
from jubako.spec.defaults import HOST_NAME_MAX, PROPAGATIONS
from jubako.spec.passwd import parse_id
from jubako.spec.types import Linux, Namespace, Pairs, Root, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.bridge.asked import Asked
    from jubako.spec.resources import Resources

_LIMITS = (
    "memory", "memory_reservation", "memory_swap", "cpus", "cpu_shares", "cpu_period", "cpu_quota", "cpuset_cpus",
    "cpuset_mems", "pids_limit",
)  # fmt: skip
_FLAGS = (("pid", "pid"), ("ipc", "ipc"), ("uts", "uts"), ("cgroupns", "cgroup"))


def build_spec(options: RunOptions, image: ImageConfig | None, context: Context) -> Spec:
    """The OCI document of a request alone."""
    return build_request(options, image, context).spec


def build_request(options: RunOptions, image: ImageConfig | None, context: Context) -> Request:
    """The OCI document of a request, and what that has no word for. Raises `UsageError` naming flag and value."""
    config = image or ImageConfig()
    root = find_root(options, context)
    security = parse_security(options.security_opt)
    namespaces = _choices(options)
    userns = parse_userns(options.userns)
    if userns.mode == USER_PATH and not userns.target.startswith("/"):
        raise refuse("userns", options.userns, f"the path {userns.target!r} must be absolute")
    hostname = _hostname(options, namespaces, context)
    masked, readonly = build_masks(options, security)
    _check_words(options)
    if options.pull in ("always", "newer"):
        raise refuse("pull", options.pull, "fetching images is not supported yet", "load the image; then leave it out")
    spec = Spec(
        process=build_process(options, config, root, hostname or context.nodename, security, context),
        root=Root(path=root.path or "rootfs", readonly=options.read_only),
        hostname=hostname,
        domainname=options.domainname,
        mounts=build_mounts(options, namespaces, security, context),
        annotations=tuple(_assignments(options.annotation, "annotation").items()),
        linux=Linux(
            namespaces=_namespaces(namespaces, userns),
            resources=_resources(options),
            rootfs_propagation=options.propagation,
            masked_paths=masked,
            readonly_paths=readonly,
            sysctl=_sysctls(options, namespaces),
            time_offsets=parse_time_offsets(options.time_offset),
        ),
    )
    extras = ContainerExtras(
        root=root,
        userns=userns,
        uidmap=options.uidmap,
        gidmap=options.gidmap,
        joins=_joins(namespaces, userns),
        groups=tuple(name for name in options.group_add if parse_id(name) is None),
        seccomp=_seccomp(options, security, context),
        hosts=_hosts(options),
        labels=_labels(options, config),
        stop_signal=parse_signal(options.stop_signal or config.stop_signal or "TERM", "stop-signal"),
        stop_timeout=10 if options.stop_timeout is None else _not_negative(options.stop_timeout, "stop-timeout"),
        timeout=_not_negative(options.timeout, "timeout"),
        restart=parse_restart(options.restart, options.rm),
        init=options.init,
        no_pivot=options.no_pivot,
        preserve_fds=_not_negative(options.preserve_fds, "preserve-fds"),
        storage=options.storage,
        cgroups=_cgroups(options),
        cgroup_parent=options.cgroup_parent,
        best_effort=options.best_effort,
    )
    network, places = _network(options, namespaces, config)
    if network is not None:
        extras = replace(extras, network=network, places=places)
    return Request(spec, extras)


def parse_restart(value: str, rm: bool = False) -> Restart:
    """The value of `--restart`."""
    policy, colon, retries = value.partition(":")
    if value in ("", "no"):
        return Restart()
    if policy not in ("on-failure", "always", "unless-stopped"):
        raise refuse("restart", value, "there is no such policy", "no, on-failure[:N], always or unless-stopped")
    if colon and (policy != "on-failure" or not is_digits(retries) or len(retries) > 9):
        raise refuse("restart", value, "only on-failure takes a number, as in on-failure:3")
    if rm:
        raise UsageError("combine --restart and --rm", value, reason="a removed container cannot be started again")
    raise refuse("restart", value, "restarting is not supported yet", "leave the flag out, or say --restart no")


def _choices(options: RunOptions) -> dict[str, Choice]:
    """The namespace choices by OCI type; the network is private where nothing is said, and so is everything else."""
    said = [
        parse_namespace(kind, value, flag)
        for flag, kind in _FLAGS
        if (value := getattr(options, flag))  # each of these flags has a field of its name
    ]
    said += [parse_namespace("network", value, "network") for value in options.network[:1]]
    said += [parse_ns(value) for value in options.ns]
    if options.time_offset:
        said.append(Choice("time", flag="time-offset"))
    return choose_namespaces(tuple(said))


def _network(
    options: RunOptions, choices: dict[str, Choice], image: ImageConfig
) -> tuple[NetworkRequest | None, tuple[Asked, ...]]:
    """How the container's own network is connected, and where on bridge networks; None where it is nobody's or somebody
    else's."""
    choice = choices.get("network")
    own = choice is None or choice.mode in (PRIVATE, DRIVER)
    ports = bool(options.publish or options.publish_all)
    if not own and (ports or options.allow):
        flag, value = ("publish", (*options.publish, "")[0]) if ports else ("allow", options.allow[0])
        raise refuse(flag, value, f"needs a network of the container's own, not --network {choice and choice.mode}")
    driven = choice is not None and choice.mode == DRIVER
    if not driven and len(options.network) > 1:
        raise refuse("network", options.network[1], f"{options.network[0]} stands alone")
    if not options.allow and not ports and not driven:
        return None, ()
    from jubako.engine.network import build_network

    exposed = (*image.exposed_ports, *options.expose) if options.publish_all else ()
    return build_network(options, options.network if driven else (NONE,), exposed)


def _namespaces(choices: dict[str, Choice], userns: Userns) -> tuple[Namespace, ...]:
    """OCI's list: the host's are left out, joined ones have their path, another container's are filled in later."""
    result: list[Namespace] = []
    if userns.mode != USER_HOST:
        result.append(Namespace("user", userns.target if userns.mode == USER_PATH else ""))
    for kind in ("mount", "pid", "network", "ipc", "uts", "cgroup", "time"):
        choice = choices.get(kind)
        if choice is None:
            result.append(Namespace(kind))
        elif choice.mode != HOST:
            result.append(Namespace(kind, choice.target if choice.mode == PATH else ""))
    return tuple(result)


def _joins(choices: dict[str, Choice], userns: Userns) -> tuple[Join, ...]:
    joins = [Join(choice.type, choice.target) for choice in choices.values() if choice.mode == CONTAINER]
    if userns.mode == USER_CONTAINER:
        joins.append(Join("user", userns.target))
    return tuple(joins)


def _hostname(options: RunOptions, choices: dict[str, Choice], context: Context) -> str:
    uts = choices.get("uts")
    own = uts is None or uts.mode == "private"
    for flag, value in (("hostname", options.hostname), ("domainname", options.domainname)):
        if value and not own:
            raise refuse(flag, value, "needs a UTS namespace of the container's own", f"leave out --{uts and uts.flag}")
        if len(value.encode(errors="surrogateescape")) > HOST_NAME_MAX:
            raise refuse(flag, value, f"is longer than {HOST_NAME_MAX} bytes")
        if any(character <= " " or character == "\x7f" for character in value):
            raise refuse(flag, value, "a name cannot hold spaces or control characters")
    if not own:
        return ""
    return options.hostname or context.container_id[:12]


def _seccomp(options: RunOptions, security: SecurityChoice, context: Context) -> str:
    if security.seccomp == DEFAULT:
        return UNCONFINED if options.privileged else DEFAULT
    if security.seccomp == UNCONFINED:
        return UNCONFINED
    return parse_source(security.seccomp, context.directory, "security-opt", f"seccomp={security.seccomp}")


def _resources(options: RunOptions) -> Resources | None:
    if all(getattr(options, name) in ("", None) for name in _LIMITS):
        return None
    from jubako.engine.resources import build_resources

    return build_resources(options)


def _assignments(values: tuple[str, ...], flag: str) -> dict[str, str]:
    if not values:
        return {}
    from jubako.engine.parse.env import parse_assignments

    return parse_assignments(values, flag)


def _sysctls(options: RunOptions, choices: dict[str, Choice]) -> Pairs:
    """Only what belongs to a namespace of the container's own may be set: all else is the whole machine's."""
    sysctls = _assignments(options.sysctl, "sysctl")
    for name, value in sysctls.items():
        kind = _namespace_of(name)
        if not kind:
            raise refuse("sysctl", f"{name}={value}", "belongs to the whole machine, not to a namespace")
        choice = choices.get(kind)
        if choice is not None and choice.mode in (HOST, CONTAINER, PATH):
            raise refuse("sysctl", f"{name}={value}", f"needs a {kind} namespace of the container's own")
    return tuple(sysctls.items())


def _namespace_of(sysctl: str) -> str:
    """Which namespace a sysctl belongs to (docker's list: namespaces(7), ipc_namespaces(7), uts_namespaces(7))."""
    dotted = sysctl.replace("/", ".")
    if ".." in dotted:
        return ""
    if dotted.startswith("net."):
        return "network"
    if dotted in ("kernel.hostname", "kernel.domainname"):
        return "uts"
    ipc = ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem")
    if dotted in ipc or dotted.startswith(("kernel.shm", "fs.mqueue.")):
        return "ipc"
    return ""


def _hosts(options: RunOptions) -> HostsFiles:
    added = []
    for value in options.add_host:
        names, _, address = value.partition(":")
        address = address.removeprefix("[").removesuffix("]")
        listed = tuple(names.split(";"))
        if not address or not all(listed) or any(character <= " " for character in value):
            raise refuse("add-host", value, "must be NAME:ADDRESS or NAME;NAME:ADDRESS")
        if address != "host-gateway" and not _is_address(address):
            raise refuse("add-host", value, f"{address!r} is not an IP address")
        added.append((address, listed))
    if added and options.no_hosts:
        raise UsageError("combine --add-host and --no-hosts", reason="one writes /etc/hosts, the other leaves it alone")
    if "none" in options.dns and len(options.dns) > 1:
        raise refuse("dns", "none", "cannot stand beside an address")
    for address in options.dns:
        if address != "none" and not _is_address(address):
            raise refuse("dns", address, "is not an IP address")
    for flag, values in (("dns-search", options.dns_search), ("dns-option", options.dns_option)):
        for value in values:
            if not value or any(character <= " " for character in value):
                raise refuse(flag, value, "must be one word")
    return HostsFiles(
        added=tuple(added),
        keep_hosts=options.no_hosts,
        keep_resolv_conf="none" in options.dns,
        dns=tuple(address for address in options.dns if address != "none"),
        search=options.dns_search,
        options=options.dns_option,
    )


def _is_address(text: str) -> bool:
    from _socket import AF_INET, AF_INET6, inet_pton

    try:
        inet_pton(AF_INET6 if ":" in text else AF_INET, text.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


def _labels(options: RunOptions, image: ImageConfig) -> Pairs:
    labels = dict(image.labels)
    if not options.label_file and not options.label:
        return tuple(labels.items())
    from jubako.engine.parse.env import parse_labels, read_label_file

    for path in options.label_file:
        labels.update(read_label_file(path))
    labels.update(parse_labels(options.label))
    return tuple(labels.items())


def _check_words(options: RunOptions) -> None:
    """Refuse what is not one of a few words."""
    if options.propagation and options.propagation not in PROPAGATIONS:
        raise refuse("propagation", options.propagation, "there is no such mode", f"one of {', '.join(PROPAGATIONS)}")
    if options.storage not in ("", "overlay", "fuse-overlayfs", "copy"):
        raise refuse("storage", options.storage, "there is no such storage", "overlay, fuse-overlayfs or copy")
    for stream in options.attach:
        if stream not in ("stdin", "stdout", "stderr"):
            raise refuse("attach", stream, "there is no such stream", "stdin, stdout or stderr")
    if ".." in options.cgroup_parent.split("/"):
        raise refuse("cgroup-parent", options.cgroup_parent, "must not contain '..'")


def _cgroups(options: RunOptions) -> bool:
    if options.cgroups not in ("", "enabled", "disabled"):
        raise refuse("cgroups", options.cgroups, "must be enabled or disabled")
    return options.cgroups != "disabled"


def _not_negative(number: int, flag: str) -> int:
    if number < 0:
        raise refuse(flag, str(number), "must not be negative")
    return number
