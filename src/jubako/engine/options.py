"""Everything that `create` and `run` can be asked, in the words of docker's and podman's flags.

A field is named for its long flag (`--cap-add` is `cap_add`) and holds what stands on the command line, unparsed: text,
a tuple of texts for flags that may be repeated, a truth value or a number. So the command line, the Python API and a
container's saved request share one record, and `engine.build` is the only reader of the values. Sizes, modes and
mounts are described where they are parsed, in `engine.parse`.
"""

from __future__ import annotations

from jubako.record import record


@record
class RunOptions:
    """One request for a container. Exactly one of `image` and `rootfs` names the root file system."""

    # --- what runs

    image: str = ""
    """IMAGE: a local image, `host` (the running system, read-only) or `host:rw` (under a throw-away layer)."""
    rootfs: str = ""
    """--rootfs DIR[:O]: a directory, written to directly, or with `:O` under a throw-away layer."""
    command: tuple[str, ...] = ()
    """COMMAND [ARG...]: replaces the image's CMD."""
    entrypoint: str | None = None
    """--entrypoint: a program or a JSON array of strings; the empty text clears the image's."""
    name: str = ""
    """--name; one is made up when empty."""
    init: bool = False
    """--init: our own PID 1 reaps children and forwards signals."""

    # --- terminal and streams

    detach: bool = False
    """-d, --detach: do not wait; print the container's id."""
    interactive: bool = False
    """-i, --interactive: keep standard input open."""
    tty: bool = False
    """-t, --tty: give the program a terminal of its own."""
    attach: tuple[str, ...] = ()
    """-a, --attach stdin|stdout|stderr."""
    detach_keys: str = "ctrl-p,ctrl-q"
    """--detach-keys; empty turns detaching off."""
    sig_proxy: bool = True
    """--sig-proxy: forward signals to the program when there is no terminal."""
    preserve_fds: int = 0
    """--preserve-fds N: hand descriptors 3 to N+2 to the program."""

    # --- the process

    env: tuple[str, ...] = ()
    """-e, --env KEY=VALUE, KEY (copied from the caller if it is set there) or PREFIX* (all that begin so)."""
    env_file: tuple[str, ...] = ()
    """--env-file FILE: lines as in --env; `#` begins a comment line."""
    env_host: bool = False
    """--env-host: copy the caller's whole environment, below everything else."""
    unsetenv: tuple[str, ...] = ()
    """--unsetenv KEY: take away what the image or the defaults set."""
    unsetenv_all: bool = False
    """--unsetenv-all: take away all that the image or the defaults set."""
    workdir: str = ""
    """-w, --workdir: made if it is missing."""
    user: str = ""
    """-u, --user NAME|UID[:GROUP|GID], looked up in the container's own passwd and group."""
    group_add: tuple[str, ...] = ()
    """--group-add NAME|GID."""
    umask: str = ""
    """--umask OCTAL; 0022 when empty."""
    ulimit: tuple[str, ...] = ()
    """--ulimit NAME=SOFT[:HARD] (-1 or `unlimited` lifts it), or `host` to keep the caller's."""
    oom_score_adj: int | None = None
    """--oom-score-adj, -1000 to 1000."""
    stop_signal: str = ""
    """--stop-signal NAME|NUMBER; the image's, else SIGTERM."""
    stop_timeout: int | None = None
    """--stop-timeout SECONDS between the stop signal and SIGKILL; 10 when None."""
    timeout: int = 0
    """--timeout SECONDS after which the container is killed; 0 is never."""

    # --- names

    hostname: str = ""
    """-h, --hostname; the first 12 digits of the container's id when empty."""
    domainname: str = ""
    """--domainname."""
    add_host: tuple[str, ...] = ()
    """--add-host NAME[;NAME...]:ADDRESS, a line of /etc/hosts."""
    no_hosts: bool = False
    """--no-hosts: leave the image's /etc/hosts alone."""
    dns: tuple[str, ...] = ()
    """--dns ADDRESS, or `none` to leave the image's /etc/resolv.conf alone."""
    dns_search: tuple[str, ...] = ()
    """--dns-search DOMAIN, or `.` for none."""
    dns_option: tuple[str, ...] = ()
    """--dns-option TEXT."""
    label: tuple[str, ...] = ()
    """-l, --label KEY[=VALUE]."""
    label_file: tuple[str, ...] = ()
    """--label-file FILE of such lines."""
    annotation: tuple[str, ...] = ()
    """--annotation KEY=VALUE, kept in the OCI document."""
    cidfile: str = ""
    """--cidfile FILE: write the container's id there; it must not exist."""
    pidfile: str = ""
    """--pidfile FILE: write the pid of the container's PID 1, as the host sees it."""

    # --- file system

    volume: tuple[str, ...] = ()
    """-v, --volume SOURCE:TARGET[:OPTIONS] or TARGET."""
    mount: tuple[str, ...] = ()
    """--mount type=bind|tmpfs|devpts|mqueue,source=...,target=...,OPTIONS."""
    tmpfs: tuple[str, ...] = ()
    """--tmpfs TARGET[:OPTIONS]."""
    read_only: bool = False
    """--read-only: the root file system cannot be written."""
    read_only_tmpfs: bool = True
    """--read-only-tmpfs: with --read-only, still have writable /tmp, /var/tmp and /run."""
    device: tuple[str, ...] = ()
    """--device SOURCE[:TARGET][:rwm]."""
    shm_size: str = ""
    """--shm-size SIZE of /dev/shm; 64m when empty."""
    propagation: str = ""
    """--propagation private|slave|shared and their recursive forms: how mounts of the root file system spread."""
    no_pivot: bool = False
    """--no-pivot: chroot instead of pivot_root, for a host that runs from its initramfs. Less safe."""
    storage: str = ""
    """--storage overlay|fuse-overlayfs|copy; chosen by what the machine can when empty."""

    # --- security

    cap_add: tuple[str, ...] = ()
    """--cap-add NAME or `all`."""
    cap_drop: tuple[str, ...] = ()
    """--cap-drop NAME or `all`."""
    security_opt: tuple[str, ...] = ()
    """--security-opt seccomp=FILE|unconfined, no-new-privileges[=BOOL], mask=PATH:PATH, unmask=ALL|PATH:PATH, ..."""
    privileged: bool = False
    """--privileged: every capability that the container's user namespace can have, no filter, nothing masked."""
    sysctl: tuple[str, ...] = ()
    """--sysctl NAME=VALUE, of those that belong to a namespace of the container's own."""

    # --- namespaces and ids

    pid: str = ""
    """--pid private|host|container:NAME|ns:PATH."""
    ipc: str = ""
    """--ipc private|shareable|none|host|container:NAME|ns:PATH."""
    uts: str = ""
    """--uts private|host|container:NAME|ns:PATH."""
    network: tuple[str, ...] = ()
    """--network none|host|default|pasta|slirp4netns|proxy|...|NAME|container:NAME|ns:PATH; `none` when empty. Several
    bridge networks may be named."""
    network_alias: tuple[str, ...] = ()
    """--network-alias NAME: what the container is called on its bridge networks, besides its own name."""
    ip: str = ""
    """--ip ADDRESS on its bridge network."""
    ip6: str = ""
    """--ip6 ADDRESS on its bridge network."""
    mac_address: str = ""
    """--mac-address ADDRESS on its bridge network."""
    publish: tuple[str, ...] = ()
    """-p, --publish [[IP:]HOST:]CONTAINER[/tcp|udp], ports or ranges of ports."""
    publish_all: bool = False
    """-P, --publish-all: the image's exposed ports, at free ports of the host."""
    expose: tuple[str, ...] = ()
    """--expose PORT[/tcp|udp]: one more for --publish-all."""
    allow: tuple[str, ...] = ()
    """--allow HOST[:PORT]: what a container with the network `proxy` may reach."""
    cgroupns: str = ""
    """--cgroupns private|host|container:NAME|ns:PATH."""
    userns: str = ""
    """--userns host|keep-id[:...]|nomap|auto[:...]|container:NAME|ns:PATH."""
    ns: tuple[str, ...] = ()
    """--ns TYPE=private|host|PATH: any namespace by the name that OCI, unshare(1) or lsns(8) has for it."""
    time_offset: tuple[str, ...] = ()
    """--time-offset monotonic=SECONDS,boottime=SECONDS: a time namespace whose clocks are ahead by so much."""
    uidmap: tuple[str, ...] = ()
    """--uidmap CONTAINER:FROM:SIZE, see `ids.triples`."""
    gidmap: tuple[str, ...] = ()
    """--gidmap CONTAINER:FROM:SIZE."""

    # --- control groups

    cgroups: str = ""
    """--cgroups enabled|disabled."""
    cgroup_parent: str = ""
    """--cgroup-parent PATH below which the container's cgroup is made."""
    memory: str = ""
    """-m, --memory SIZE."""
    memory_reservation: str = ""
    """--memory-reservation SIZE."""
    memory_swap: str = ""
    """--memory-swap SIZE of memory and swap together; -1 lifts it."""
    cpus: str = ""
    """--cpus NUMBER of processors' worth of time."""
    cpu_shares: int | None = None
    """-c, --cpu-shares, relative to 1024."""
    cpu_period: int | None = None
    """--cpu-period MICROSECONDS."""
    cpu_quota: int | None = None
    """--cpu-quota MICROSECONDS a period."""
    cpuset_cpus: str = ""
    """--cpuset-cpus LIST."""
    cpuset_mems: str = ""
    """--cpuset-mems LIST."""
    pids_limit: int | None = None
    """--pids-limit; -1 lifts it."""

    # --- life

    rm: bool = False
    """--rm: remove the container when it ends."""
    restart: str = ""
    """--restart no|on-failure[:N]|always|unless-stopped."""
    replace: bool = False
    """--replace: remove a container of the same name first."""
    log_driver: str = ""
    """--log-driver."""
    log_opt: tuple[str, ...] = ()
    """--log-opt KEY=VALUE."""
    pull: str = ""
    """--pull always|missing|never|newer."""
    best_effort: bool = False
    """--best-effort: where a limit that was asked for cannot be kept, warn and go on."""
