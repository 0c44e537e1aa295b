"""`jubako run`: make a container, start the program in it, and end as it ends."""

from __future__ import annotations

from jubako.cli.flags import ANY, Argument, Command, Values
from jubako.cli.run_flags import RUN_FLAGS, run_options

COMMAND = Command(
    "run",
    "run a command in a new container",
    RUN_FLAGS,
    (
        Argument(
            "IMAGE",
            "words",
            ANY,
            completes="image",
            help="the image, then the command with its arguments; 'host' is the running system, read-only",
        ),
    ),
    description="""
        Makes a container and runs COMMAND in it, with a root file system from IMAGE or from a directory. Flags end at
        the image: what follows belongs to the program.

        The image 'host' needs no download: it is the running system's own /usr, /bin, /lib, /etc, /opt and /nix,
        read-only, with fresh writable /tmp, /home, /root, /run, /var, /srv and /mnt, and nothing of the caller's
        home. One '--' behind the image is dropped. 'host:rw' is the same under a throw-away writable layer.

        It is connected through pasta or slirp4netns, whichever is installed (JUBAKO_NETWORK or --network says
        otherwise), and does not reach what listens on the host's loopback.

        --ulimit limits each process. Limits of the whole container by control group (--memory, --cpus, --pids-limit and
        the like) are not supported yet: they are refused, or left out with --best-effort.

        Nothing is printed but what the program prints. The exit status is the program's; 125 when jubako failed, 126
        when the program cannot be executed, 127 when it is not there, 128+N when signal N ended it.
    """,
    examples=(
        ("The host's own system, in namespaces of its own.", "jubako run host -- sh -c 'id; hostname; ps'"),
        ("A directory as the root.", "jubako run --rootfs ./rootfs /bin/sh"),
        (
            "The current directory inside; files made there belong to the caller.",
            "jubako run -v .:/src -w /src host -- make",
        ),
        ("A shell with a terminal.", "jubako run -it busybox sh"),
        ("In the background, removed at its end.", "jubako run -d --rm --name web host -- python3 -m http.server"),
        ("Port 8080 of the host leads to 80 inside.", "jubako run -d -p 8080:80 host -- python3 -m http.server 80"),
        ("Reaching one host and nothing else.", "jubako run --network proxy --allow pypi.org host -- ./build"),
        (
            "No new privileges, no capabilities, no writing.",
            "jubako run --cap-drop ALL --read-only host -- ./untrusted",
        ),
    ),
    interspersed=False,
    usage=("[OPTIONS] IMAGE [COMMAND [ARG...]]", "[OPTIONS] --rootfs DIR[:O] COMMAND [ARG...]"),
)


def run(values: Values) -> int:
    from jubako.engine.run import run_container

    return run_container(run_options(values))
