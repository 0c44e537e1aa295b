"""The daemons of engines in the house: containerd, dockerd, and Slurm's on one machine; each ended with its block.

A daemon is started as its package would start it, without an init system: in the foreground, its output in a log that
is shown when it does not answer in time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from world.house import ADDRESS, House

_START_SECONDS = 30

NO_SHARES = ("--cpu-shares", "0")
"""`ctr run` asks for 1024 shares by itself, which a machine without the cpu controller cannot give."""

CONTAINERD_TOML = """
version = 2
# A Kubernetes node would have these; nothing here speaks to them.
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.tracing"]
"""

SLURM_CONF = """
ClusterName=house
SlurmctldHost=house(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1
SlurmdParameters=config_overrides
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
KillWait=2
NodeName=house NodeAddr=127.0.0.1 CPUs=4 RealMemory=100 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""

OCI_CONF = """
EnvExclude="^(SLURM_CONF|SLURM_CONF_SERVER)="
RunTimeEnvExclude="^(SLURM_CONF|SLURM_CONF_SERVER)="
RunTimeQuery="{runtime} --rootless=true --root=/run/user/%U/slurm state %n.%u.%j.%s.%t"
RunTimeKill="{runtime} --rootless=true --root=/run/user/%U/slurm kill -a %n.%u.%j.%s.%t"
RunTimeDelete="{runtime} --rootless=true --root=/run/user/%U/slurm delete --force %n.%u.%j.%s.%t"
RunTimeRun="exec {runtime} --rootless=true --root=/run/user/%U/slurm run --bundle %b %n.%u.%j.%s.%t"
"""


@contextmanager
def containerd(house: House) -> Iterator[None]:
    _write(house, "etc/containerd/config.toml", CONTAINERD_TOML)
    with _daemon(house, "containerd", "--log-level", "warn", ready=("ctr", "version")):
        yield


@contextmanager
def dockerd(house: House, runtime: str) -> Iterator[None]:
    """Docker with our runtime by the name `jubako`, upon the containerd that is there."""
    configuration = {
        "runtimes": {"jubako": {"path": runtime}},
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "containerd": "/run/containerd/containerd.sock",
        "iptables": False,  # its rules drop what goes between podman's containers; ports on loopback need none
        "ip6tables": False,
    }
    _write(house, "etc/docker/daemon.json", json.dumps(configuration))
    with _daemon(house, "dockerd", "--log-level", "warn", ready=("docker", "version")):
        yield


@contextmanager
def registry(house: House) -> Iterator[str]:
    """A registry of images that speaks plain HTTP at the house's own address; that and the port."""
    configuration = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": "/tmp/registry"}},
        "http": {"addr": f"{ADDRESS}:5000"},
    }
    _write(house, "etc/docker/registry/config.yml", json.dumps(configuration))
    ready = ("busybox", "wget", "-qO-", f"http://{ADDRESS}:5000/v2/")
    with _daemon(house, "docker-registry", "serve", "/etc/docker/registry/config.yml", ready=ready):
        yield f"{ADDRESS}:5000"


@contextmanager
def slurm(house: House, runtime: str) -> Iterator[None]:
    """munged, slurmctld and slurmd, with our runtime in oci.conf."""
    _write(house, "etc/slurm/slurm.conf", SLURM_CONF)
    _write(house, "etc/slurm/cgroup.conf", "CgroupPlugin=disabled\n")
    _write(house, "etc/slurm/oci.conf", OCI_CONF.format(runtime=runtime))
    assert _succeeds(house, "sh", "-ec", _PREPARE_SLURM)
    munge = ("setpriv", "--reuid=munge", "--regid=munge", "--clear-groups")
    with ExitStack() as daemons:
        for daemon in (
            _daemon(house, *munge, "munged", "--foreground", ready=("sh", "-c", "munge -n | unmunge")),
            _daemon(house, "slurmctld", "-D", ready=("scontrol", "ping")),
            _daemon(house, "slurmd", "-D", "-N", "house", "-b", ready=("sh", "-c", "sinfo -h -o %t | grep -x idle")),
        ):
            daemons.enter_context(daemon)
        yield


_PREPARE_SLURM = """
mkdir -p /var/spool/slurmd /var/spool/slurmctld /run/munge /var/log/munge
dd if=/dev/urandom of=/etc/munge/munge.key bs=128 count=1 status=none
chmod 400 /etc/munge/munge.key
chown munge: /run/munge /var/log/munge /var/lib/munge /etc/munge /etc/munge/munge.key
"""


def _write(house: House, path: str, text: str) -> None:
    house.path(path).parent.mkdir(parents=True, exist_ok=True)
    house.path(path).write_text(text)


def _succeeds(house: House, *argv: str) -> bool:
    return subprocess.run((*house.prefix(), *argv), capture_output=True).returncode == 0


@contextmanager
def _daemon(house: House, *argv: str, ready: tuple[str, ...]) -> Iterator[None]:
    """Run `argv` until the block ends, which begins when the command `ready` succeeds."""
    log = house.path(f"var/log/{argv[-1] if argv[-1].isalpha() else argv[0]}.log")
    with open(log, "w") as output:
        running = subprocess.Popen((*house.prefix(), *argv), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        _wait_until(lambda: _succeeds(house, *ready), running, log)
        yield
    finally:
        end(running)


def end(running: subprocess.Popen[bytes]) -> None:
    """End the daemon, which is the child of nsenter(1); if it will not, it ends with the house."""
    if running.poll() is None:
        for pid in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split():
            os.kill(int(pid), signal.SIGTERM)
    try:
        running.wait(15)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()


def _wait_until(condition: Callable[[], bool], running: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while not condition():
        if running.poll() is not None or time.monotonic() > until:
            raise AssertionError(f"{log.stem} is not ready; it said:\n{log.read_text()[-3000:]}")
        time.sleep(0.1)
