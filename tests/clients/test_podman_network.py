"""Networks and pods of podman with our runtime: what the helpers make is joined, ports answer, pods share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from world import client
from world.box import eventually
from world.command import Command
from world.house import House

SERVE = ("sh", "-c", "mkdir /www && echo served >/www/index.html && exec httpd -f -p 8080 -h /www")

POD = """
apiVersion: v1
kind: Pod
metadata: {name: played}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - name: server
    image: localhost/busybox
    imagePullPolicy: Never
    command: [sh, -c, "echo hi >/shared/f; exec sleep 1000"]
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: reader
    image: localhost/busybox
    imagePullPolicy: Never
    command: [sh, -c, "until cat /shared/f; do sleep 0.1; done"]
    volumeMounts: [{name: shared, mountPath: /shared}]
  volumes: [{name: shared, emptyDir: {}}]
"""


@pytest.fixture
def fetch(house: House) -> Iterator[Command]:
    """`fetch(URL)` on the house's own loopback."""
    command = client.client(house, None, "busybox", "wget")
    yield command
    command.close()


def answers(fetch: Command, port: int) -> bool:
    return eventually(lambda: fetch("-q", "-O", "-", f"http://127.0.0.1:{port}/").stdout == "served\n")


@pytest.mark.parametrize("network", ["pasta", "slirp4netns", "slirp4netns:port_handler=slirp4netns"])
def test_a_published_port_answers_rootless(rootless_podman: Command, fetch: Command, network: str) -> None:
    options = (f"--network={network}", "-p", "127.0.0.1:18080:8080")
    rootless_podman("run", "-d", *options, "busybox", *SERVE, check=True)
    assert answers(fetch, 18080)


def test_a_published_port_answers_on_a_bridge(root_podman: Command, fetch: Command) -> None:
    root_podman("run", "-d", "-p", "127.0.0.1:18081:8080", "busybox", *SERVE, check=True)
    assert answers(fetch, 18081)


def test_without_a_network_there_is_loopback_alone(podman: Command) -> None:
    result = podman("run", "--rm", "--network=none", "busybox", "ls", "/sys/class/net", check=True)
    assert result.stdout == "lo\n"


def test_a_containers_network_is_shared(podman: Command, fetch: Command) -> None:
    podman("run", "-d", "--name", "first", "busybox", *SERVE, check=True)
    options = ("--network=container:first", "--ipc=container:first")
    script = "until wget -q -O - http://127.0.0.1:8080/; do sleep 0.1; done"
    result = podman("run", "--rm", *options, "busybox", "sh", "-c", script, check=True)
    assert result.stdout == "served\n"


def test_containers_of_a_network_find_each_other_by_name(root_podman: Command) -> None:
    root_podman("network", "create", "quarter", check=True)
    try:
        root_podman("run", "-d", "--name", "server", "--network=quarter", "busybox", *SERVE, check=True)
        script = "until wget -q -O - http://server:8080/; do sleep 0.1; done"
        result = root_podman(
            "run", "--rm", "--network=quarter", "busybox", "timeout", "-s", "KILL", "10", "sh", "-c", script
        )
        assert result.stdout == "served\n", str(result)
    finally:
        root_podman("network", "rm", "--force", "--time", "0", "quarter", check=True)


def test_the_containers_of_a_pod_share_network_ipc_and_host_name(podman: Command) -> None:
    podman("pod", "create", "--name", "pod", "--hostname", "pod-host", check=True)
    podman("run", "-d", "--pod", "pod", "--name", "server", "busybox", *SERVE, check=True)
    script = "until wget -q -O - http://127.0.0.1:8080/; do sleep 0.1; done; hostname; readlink /proc/self/ns/ipc"
    result = podman("run", "--rm", "--pod", "pod", "busybox", "sh", "-c", script, check=True)
    ipc = podman("exec", "server", "readlink", "/proc/self/ns/ipc", check=True).stdout
    assert result.stdout == f"served\npod-host\n{ipc}"


def test_a_pods_processes_can_see_each_other(podman: Command) -> None:
    podman("pod", "create", "--name", "pod", "--share", "+pid", check=True)
    podman("run", "-d", "--pod", "pod", "busybox", "sleep", "123", check=True)
    result = podman("run", "--rm", "--pod", "pod", "busybox", "sh", "-c", "grep -l '^sleep' /proc/[0-9]*/cmdline")
    assert result.exit_code == 0, str(result)


def test_a_pod_is_paused_stopped_and_started_as_one(podman: Command) -> None:
    podman("pod", "create", "--name", "pod", check=True)
    podman(
        "run",
        "-d",
        "--pod",
        "pod",
        "--name",
        "member",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 0' TERM; while :; do sleep 0.1; done",
        check=True,
    )

    def state() -> str:
        return podman("inspect", "--format", "{{.State.Status}}", "member", check=True).stdout.strip()

    podman("pod", "pause", "pod", check=True)
    assert state() == "paused"
    podman("pod", "unpause", "pod", check=True)
    assert state() == "running"
    podman("pod", "stop", "pod", check=True)
    assert state() == "exited"
    podman("pod", "start", "pod", check=True)
    assert state() == "running"


def test_a_pod_publishes_ports(podman: Command, fetch: Command) -> None:
    podman("pod", "create", "--name", "pod", "-p", "127.0.0.1:18082:8080", check=True)
    podman("run", "-d", "--pod", "pod", "busybox", *SERVE, check=True)
    assert answers(fetch, 18082)


def test_a_kubernetes_pod_is_played(podman: Command) -> None:
    podman("kube", "play", "-", input=POD, check=True)
    assert eventually(lambda: podman("logs", "played-reader").stdout.endswith("hi\n"))
    podman("kube", "down", "-", input=POD, check=True)
