"""Which modules a command loads, in this process and in those it forks: each is paid for at every start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jubako
from jubako.startpack import OCI_CREATE, OCI_EXEC, OCI_START, ROOTLESS, RUN, list_of
from world.rootfs import make_busybox_rootfs

HEAVY = frozenset(
    """
    argparse asyncio collections contextlib dataclasses enum functools importlib.metadata importlib.resources inspect
    json logging pathlib random re rich selectors shutil signal site socket sqlite3 subprocess tempfile threading
    traceback typing warnings
    """.split()  # noqa: SIM905 - a list of words, one a line, is no easier to read
)
"""Each costs from two to thirty milliseconds, or brings in one that does."""

_PROGRAM = (str(Path(jubako.__file__).with_name("__main__.py")),)


def modules_of(*arguments: str) -> list[str]:
    """The modules that `jubako ARGUMENTS` loads as it is installed, without the start pack, in the order in which they
    are complete; those of a bare interpreter are left out."""
    bare = _loaded("-c", "")
    return [name for name in _loaded(*_PROGRAM, *arguments) if name not in bare]


def modules_by_kind(directory: Path, rootfs: Path) -> dict[str, list[str]]:
    """The modules of each start pack; containers of `rootfs` are made, with bundles in `directory`."""
    run = [modules_of("run", "--rm", "--network", n, "--rootfs", str(rootfs), "/bin/true") for n in ("none", "pasta")]
    found = {RUN: list(dict.fromkeys([*run[0], *run[1]]))}
    fake = modules_of("rootless", "true")
    for network in ("slirp4netns", "pasta"):
        flags = ("--copy-up=/etc", "--pidns", f"--net={network}", "--port-driver=builtin")
        fake += modules_of("rootless", *flags, "true")
    found[ROOTLESS] = list(dict.fromkeys(fake))
    bundle = make_bundle(directory / "bundle", rootfs, ["sleep", "60"])
    once = make_bundle(directory / "once", rootfs, ["true"])
    oci = ("oci", "--root", str(directory / "oci"))
    for _first_compiles_the_filter in range(2):
        found[OCI_CREATE] = modules_of(*oci, "run", "--bundle", str(once), "listed")
    # The container's process keeps the streams: nobody may wait for their end.
    create = (sys.executable, *_PROGRAM, *oci, "create", "--bundle", str(bundle), "listed")
    subprocess.run(create, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    started = modules_of(*oci, "start", "listed")
    found[OCI_EXEC] = modules_of(*oci, "exec", "listed", "true")
    for words in (("state", "listed"), ("kill", "listed", "KILL"), ("delete", "--force", "listed")):
        started += modules_of(*oci, *words)
    found[OCI_START] = list(dict.fromkeys(started))
    return found


def make_bundle(directory: Path, rootfs: Path, command: list[str]) -> Path:
    """A bundle for an ordinary user that runs `command` in `rootfs`, with a filter as engines give one."""
    directory.mkdir(parents=True)
    _loaded(*_PROGRAM, "oci", "spec", "--rootless", "--bundle", str(directory))
    config = json.loads((directory / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": command}
    config["root"] = {"path": str(rootfs), "readonly": True}
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def kept(kind: str) -> list[str]:
    return Path(list_of(kind)).read_text().split()


def _loaded(*arguments: str) -> list[str]:
    python = (sys.executable, "-I", "-S", "-X", "importtime")
    environment = {**os.environ, "JUBAKO_DEBUG": "1"}  # the pack is for those who look for no fault
    done = subprocess.run(
        (*python, *arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=environment
    )
    lines = done.stderr.splitlines()
    said = [line for line in lines if not line.startswith("import time:")]
    assert done.returncode == 0, "\n".join(said)
    names = [line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")]
    return [name for name in dict.fromkeys(names) if name != "imported package"]


if __name__ == "__main__":
    modules_of("run", "--rm", "host", "--", "true")  # makes the base, if there is none
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for kind, modules in modules_by_kind(place, make_busybox_rootfs(place / "rootfs")).items():
            Path(sys.argv[1], Path(list_of(kind)).name).write_text("".join(f"{module}\n" for module in modules))
