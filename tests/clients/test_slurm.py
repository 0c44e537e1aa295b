"""Slurm with our runtime in oci.conf: `srun --container=BUNDLE`, one step of several tasks, as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from world import client
from world.account import Account
from world.box import eventually
from world.command import Command
from world.house import House

BUNDLE = "/srv/bundle"


@pytest.fixture(scope="package")
def bundle(house: House, runtime: str, busybox_rootfs: Path, ordinary_account: Account, slurm: None) -> str:
    """The account's bundle, its configuration as the runtime's `spec --rootless` writes it, without a terminal."""
    directory = house.path(BUNDLE)
    directory.mkdir(mode=0o755)
    shutil.copytree(busybox_rootfs, directory / "rootfs", symlinks=True)
    subprocess.run(
        (*house.prefix(), "chown", "-R", f"{ordinary_account.uid}:{ordinary_account.gid}", BUNDLE), check=True
    )
    client.client(house, ordinary_account, "sh", "-c")(f"cd {BUNDLE} && {runtime} spec --rootless", check=True)
    configuration = json.loads((directory / "config.json").read_text())
    configuration["process"]["terminal"] = False
    (directory / "config.json").write_text(json.dumps(configuration))
    return BUNDLE


@pytest.fixture
def srun(house: House, bundle: str, ordinary_account: Account) -> Iterator[Command]:
    command = client.client(house, ordinary_account, "srun", "--immediate=20", f"--container={bundle}")
    yield command
    command.close()


def test_the_output_and_exit_code_of_a_task_come_through(srun: Command) -> None:
    result = srun("/bin/sh", "-c", "id -u; hostname; ls /; exit 3")
    assert result.exit_code == 3, str(result)
    assert result.lines[0] == "0"
    assert "test.txt" in result.lines


def test_standard_input_reaches_the_task(srun: Command) -> None:
    assert srun("/bin/cat", input="typed\n", check=True).stdout == "typed\n"


def test_each_task_is_a_container_of_its_own_with_its_rank(srun: Command) -> None:
    script = "echo $SLURM_PROCID of $SLURM_NTASKS in $(readlink /proc/self/ns/pid); sleep 1"
    result = srun("-n", "3", "/bin/sh", "-c", script, check=True)
    rows = sorted(line.split() for line in result.lines)
    assert [row[:3] for row in rows] == [[str(rank), "of", "3"] for rank in range(3)], str(result)
    assert len({row[4] for row in rows}) == 3


def test_the_worst_exit_code_of_the_tasks_is_the_steps(srun: Command) -> None:
    result = srun("-n", "3", "/bin/sh", "-c", "exit $((SLURM_PROCID + 1))")
    assert result.exit_code == 3, str(result)


def test_the_environment_of_the_job_is_there(srun: Command) -> None:
    result = srun("--export=ALL,WORD=given", "/bin/sh", "-c", 'echo "$WORD $SLURM_JOB_NUM_NODES"', check=True)
    assert result.stdout == "given 1\n"


def test_a_program_that_is_missing_fails_the_step_by_name(srun: Command) -> None:
    result = srun("/nowhere")
    assert result.exit_code != 0
    assert "/nowhere" in result.stderr, str(result)


@pytest.fixture
def states(house: House, ordinary_account: Account) -> Path:
    """Where the runtime keeps the account's containers: the `--root` of oci.conf."""
    return house.path(f"{ordinary_account.runtime_directory}/slurm")


def test_a_step_that_is_cancelled_ends_its_containers(
    srun: Command, house: House, ordinary_account: Account, states: Path
) -> None:
    script = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    running = srun.start("-J", "cancelled", "-n", "2", "/bin/sh", "-c", script)
    assert running.stdout is not None
    assert [running.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    client.client(house, ordinary_account, "scancel")("--name", "cancelled", check=True)
    assert running.stdout.read() == "asked\n" * 2
    running.wait(20)
    assert eventually(lambda: not os.listdir(states))


def test_a_program_that_will_not_end_is_killed_with_its_step(
    srun: Command, house: House, ordinary_account: Account, runtime: str, states: Path
) -> None:
    running = srun.start("-J", "cancelled", "/bin/sh", "-c", "echo ready; sleep 1000")  # a first process ignores TERM
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    client.client(house, ordinary_account, "scancel")("--name", "cancelled", check=True)
    running.wait(20)
    queue = client.client(house, ordinary_account, "squeue", "--noheader")
    assert eventually(lambda: not queue().stdout, timeout=20)
    for left in os.listdir(states):  # `run` was killed too: what is left of the container is removed by name
        root = f"--root={ordinary_account.runtime_directory}/slurm"
        client.client(house, ordinary_account, runtime)(root, "delete", "--force", left, check=True)
    assert not os.listdir(states)


def test_a_batch_script_runs_steps_in_containers(house: House, bundle: str, ordinary_account: Account) -> None:
    script = f"#!/bin/sh\nsrun -n 2 --container={bundle} /bin/sh -c 'echo rank $SLURM_PROCID'\n"
    sbatch = client.client(house, ordinary_account, "sbatch")
    sbatch("--wait", "-n", "2", "--output", f"{ordinary_account.home}/batch.out", input=script, check=True)
    output = house.path(f"{ordinary_account.home}/batch.out")
    text = output.read_text()
    output.unlink()
    assert sorted(text.splitlines()) == ["rank 0", "rank 1"]
