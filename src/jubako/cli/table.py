"""Which commands there are, where each lives, and by which other names docker's and podman's users may call it.

A command's module is imported only when the command is asked for: `jubako run` must not pay for `jubako ps`.
The one-line summaries stand here so that `jubako --help` imports no command at all.
"""

from __future__ import annotations

from jubako.cli.flags import SWITCH, Flag
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


@record
class Entry:
    """One command: its module in `jubako.cli.commands`, its summary and the heading it stands under."""

    module: str
    summary: str
    group: str
    hidden: bool = False


_RUN, _CONTAINERS, _IMAGES, _NETWORKS, _MACHINE = "Running", "Containers", "Images", "Networks", "This machine"
_OCI = "OCI runtime, for engines"
_ROOT = "Fake root, also installed as rootlesskit"

COMMANDS: dict[str, Entry] = {
    "run": Entry("run", "run a command in a new container", _RUN),
    "create": Entry("create", "make a container without starting it", _RUN),
    "exec": Entry("exec", "run a command in a running container", _RUN),
    "explain": Entry("explain", "show every step that makes a container, without making it", _RUN),
    "start": Entry("start", "start containers that were made before, or have ended", _RUN),
    "restart": Entry("restart", "stop containers and start them again", _RUN),
    "attach": Entry("attach", "connect to the input and output of a running container", _RUN),
    "ps": Entry("ps", "list containers", _CONTAINERS),
    "inspect": Entry("inspect", "show everything known of containers and images", _CONTAINERS),
    "logs": Entry("logs", "show what a container has written", _CONTAINERS),
    "top": Entry("top", "show the processes of a container", _CONTAINERS),
    "stop": Entry("stop", "ask programs to end, and end those that do not", _CONTAINERS),
    "kill": Entry("kill", "send a signal to the first process of containers", _CONTAINERS),
    "wait": Entry("wait", "wait until containers have ended, and print their exit codes", _CONTAINERS),
    "pause": Entry("pause", "stop every process of containers for a while", _CONTAINERS),
    "unpause": Entry("unpause", "let paused containers go on", _CONTAINERS),
    "cp": Entry("cp", "copy files between the host and a container", _CONTAINERS),
    "rm": Entry("rm", "remove containers", _CONTAINERS),
    "container prune": Entry("container_prune", "remove all containers that do not run", _CONTAINERS),
    "port": Entry("port", "show or change the ports of the host that lead into containers", _CONTAINERS),
    "rename": Entry("rename", "give a container another name", _CONTAINERS),
    "images": Entry("images", "list images", _IMAGES),
    "load": Entry("load", "bring images in from an archive", _IMAGES),
    "import": Entry("import_", "make an image of a root file system in a tar archive", _IMAGES),
    "save": Entry("save", "write images to an archive", _IMAGES),
    "tag": Entry("tag", "give an image another name", _IMAGES),
    "rmi": Entry("rmi", "remove images", _IMAGES),
    "image inspect": Entry("image_inspect", "show everything known of images", _IMAGES),
    "image prune": Entry("image_prune", "remove images without a name, and layers that nothing needs", _IMAGES),
    "network create": Entry(
        "network_create", "make a bridge network, on which containers see each other by name", _NETWORKS
    ),
    "network ls": Entry("network_ls", "list bridge networks", _NETWORKS),
    "network inspect": Entry(
        "network_inspect", "show everything known of bridge networks, and the containers on them", _NETWORKS
    ),
    "network rm": Entry("network_rm", "remove bridge networks", _NETWORKS),
    "network prune": Entry("network_prune", "remove all bridge networks that no container is to be on", _NETWORKS),
    "network connect": Entry("network_connect", "put a container on one more bridge network", _NETWORKS),
    "network disconnect": Entry("network_disconnect", "take a container from a bridge network", _NETWORKS),
    "network reload": Entry(
        "network_reload", "connect running containers to their network again", _NETWORKS
    ),
    "oci create": Entry("oci.create", "make a bundle's container, up to its program", _OCI),
    "oci start": Entry("oci.start", "let a created container's program run", _OCI),
    "oci run": Entry("oci.run", "create and start a container, wait for its end and delete it", _OCI),
    "oci state": Entry("oci.state", "print the state of a container", _OCI),
    "oci kill": Entry("oci.kill", "send a signal to a container", _OCI),
    "oci delete": Entry("oci.delete", "remove what create made", _OCI),
    "oci exec": Entry("oci.exec", "run one more program in a container", _OCI),
    "oci ps": Entry("oci.ps", "list the processes of a container", _OCI),
    "oci list": Entry("oci.list", "list containers", _OCI),
    "oci pause": Entry("oci.pause", "stop every process of a container for a while", _OCI),
    "oci resume": Entry("oci.resume", "let a paused container go on", _OCI),
    "oci update": Entry("oci.update", "change the limits of a container", _OCI),
    "oci events": Entry("oci.events", "print what a container uses, again and again", _OCI),
    "oci checkpoint": Entry("oci.checkpoint", "write a running container to disk", _OCI),
    "oci restore": Entry("oci.restore", "make a container from a checkpoint", _OCI),
    "oci spec": Entry("oci.spec", "write a config.json to begin with", _OCI),
    "oci features": Entry("oci.features", "print what this runtime can do", _OCI),
    "rootless": Entry("rootless", "run a command in a fake root: as root, with the host's files", _ROOT),
    "rootlessctl": Entry("rootlessctl", "publish ports of a fake root, and show what it is", _ROOT),
    "rootlesskit-docker-proxy": Entry("docker_proxy", "publish one port of a fake root, for dockerd", _ROOT),
    "doctor": Entry("doctor", "find out what this machine can and cannot do for containers", _MACHINE),
    "info": Entry("info", "tell what was chosen on this machine, and why", _MACHINE),
    "system shutdown": Entry("system_shutdown", "end the process that keeps this user's base user namespace", _MACHINE),
    "completion": Entry("completion", "print the completion script for a shell", _MACHINE),
    "version": Entry("version", "print the versions of jubako, Python and the kernel", _MACHINE),
    "help": Entry("help", "print the manual of a command", _MACHINE),
    "__complete": Entry("complete", "answer the shell's question for completions", _MACHINE, hidden=True),
}

# `jubako NOUN VERB`: which command each verb is.
NOUNS: dict[str, dict[str, str]] = {
    "container": {
        "ls": "ps",
        "list": "ps",
        "ps": "ps",
        "run": "run",
        "create": "create",
        "exec": "exec",
        "rename": "rename",
        **{verb: verb for verb in ("start", "restart", "attach", "inspect", "logs", "stop", "kill", "wait", "pause")},
        **{verb: verb for verb in ("unpause", "rm", "cp", "top", "port")},
        "remove": "rm",
        "prune": "container prune",
    },
    "system": {"info": "info", "shutdown": "system shutdown"},
    "oci": {entry.module[4:]: name for name, entry in COMMANDS.items() if entry.module.startswith("oci.")},
    "image": {
        "ls": "images",
        "list": "images",
        "load": "load",
        "import": "import",
        "save": "save",
        "tag": "tag",
        "rm": "rmi",
        "remove": "rmi",
        "inspect": "image inspect",
        "prune": "image prune",
    },
    "network": {
        **{verb: f"network {verb}" for verb in ("create", "ls", "inspect", "rm", "prune")},
        **{verb: f"network {verb}" for verb in ("connect", "disconnect", "reload")},
        "list": "network ls",
        "remove": "network rm",
    },
}

NOUN_SUMMARIES: dict[str, str] = {
    "container": "containers",
    "image": "images",
    "network": "networks of containers",
    "system": "this user's jubako as a whole",
    "oci": "the OCI runtime, also installed as jubako-runtime: what podman, containerd, Docker and Slurm call",
}

GLOBAL_FLAGS: tuple[Flag, ...] = (
    Flag(
        ("--root",),
        "keep containers, images and layers in DIR (also JUBAKO_ROOT)",
        metavar="DIR",
        completes="directory",
    ),
    Flag(
        ("--run-root",),
        "keep the state of running containers in DIR (also JUBAKO_RUN)",
        metavar="DIR",
        completes="directory",
    ),
    Flag(("--debug",), "print where in jubako an error came from (also JUBAKO_DEBUG=1)", SWITCH),
    Flag(("-v", "--version"), "print jubako's version and end", SWITCH),
)


def resolve(words: list[str]) -> tuple[str, list[str]]:
    """The command's name and its remaining words, or ("", words) when the first words name no command."""
    first = words[0]
    if first in NOUNS and len(words) > 1:
        name = NOUNS[first].get(words[1])
        if name is not None:
            return name, words[2:]
    return (first, words[1:]) if first in COMMANDS else ("", words)


def other_names(name: str) -> tuple[str, ...]:
    """Every other spelling of the command `name`."""
    return tuple(
        f"{noun} {verb}"
        for noun, verbs in NOUNS.items()
        for verb, target in verbs.items()
        if target == name != f"{noun} {verb}"
    )


def groups() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The visible commands by heading, as (name, summary)."""
    for title in (_RUN, _CONTAINERS, _IMAGES, _NETWORKS, _ROOT, _OCI, _MACHINE):
        entries = [
            (name, entry.summary) for name, entry in COMMANDS.items() if entry.group == title and not entry.hidden
        ]
        if entries:
            yield title, entries
