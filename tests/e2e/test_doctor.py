"""The installed `jubako doctor` and `jubako info` on the machine as it is: quick, truthful, and without a trace."""

from __future__ import annotations

import os
import time

import pytest

from world.command import Command


def finding(jubako: Command, name: str, **options: object) -> dict[str, object]:
    found = jubako("doctor", "--json", name, **options).json["findings"]  # type: ignore[arg-type]
    assert len(found) == 1, found
    return dict(found[0])


def test_doctor_says_that_containers_can_run_where_they_can(jubako: Command) -> None:
    answer = jubako("doctor", "--json", check=True).json
    assert answer["can_run"] is True
    assert answer["counts"]["problem"] == 0


def test_every_warning_has_evidence_and_a_remedy(jubako: Command) -> None:
    for found in jubako("doctor", "--json").json["findings"]:
        if found["status"] in ("warning", "problem"):
            assert found["evidence"], found
            assert found["remedy"], found


def test_doctor_is_quick(jubako: Command) -> None:
    began = time.monotonic()
    jubako("doctor", check=True)
    assert time.monotonic() - began < 5  # 0.2 s on a quiet machine; this only catches a hang


def test_no_new_privileges_on_the_caller_is_found(jubako: Command) -> None:
    restricted = Command(jubako.account, jubako.cwd, ("setpriv", "--no-new-privs"))
    found = finding(restricted, "no new privileges")
    assert found["evidence"] == ["/proc/self/status: NoNewPrivs: 1"]
    if os.getuid():
        assert found["status"] == "warning"
        answer = finding(restricted, "id map")
        assert "single id" in str(answer["summary"])


def test_a_missing_runtime_directory_is_found(jubako: Command) -> None:
    if os.getuid() == 0:
        return
    instead = f"/tmp/jubako-{os.getuid()}"  # claimed as soon as it is needed, so that nobody else can have it
    there = os.path.isdir(instead)
    assert finding(jubako, "runtime directory", env={"XDG_RUNTIME_DIR": ""})["status"] == "warning"
    if not there:
        os.rmdir(instead)


def test_the_map_that_doctor_tries_is_the_one_that_info_tells(jubako: Command) -> None:
    told = jubako("info", "--json", check=True).json["ids"]["uid_map"]
    assert finding(jubako, "id map")["summary"].startswith(", ".join(told))  # type: ignore[attr-defined]


def test_an_unknown_check_is_one_clear_error(jubako: Command) -> None:
    result = jubako("doctor", "user-namespace")
    assert result.exit_code == 125
    assert "did you mean 'user namespaces'?" in result.stderr


def test_info_names_each_choice_with_its_reason(jubako: Command) -> None:
    answer = jubako("info", "--json", check=True).json
    for choice in ("ids", "storage", "network", "cgroups", "seccomp"):
        assert answer[choice]["name"], choice
        assert answer[choice]["why"], choice


def test_user_namespaces_that_are_switched_off_are_a_problem_with_the_settings_name(jubako: Command) -> None:
    script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    inside = Command(jubako.account, jubako.cwd, ("unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"))
    result = inside("doctor", "--json")
    assert result.exit_code == 1
    assert result.json["can_run"] is False
    found = finding(inside, "user namespaces")
    assert found["status"] == "problem"
    assert "user.max_user_namespaces = 0" in str(found["evidence"])
    assert "sysctl -w user.max_user_namespaces=" in str(found["remedy"])


@pytest.mark.root
def test_a_covered_proc_as_in_a_docker_container_is_a_problem_with_dockers_flags(jubako_as_account: Command) -> None:
    script = 'mount -t tmpfs covered /proc/fs; exec "$@"'
    inside = Command(
        jubako_as_account.account,
        jubako_as_account.cwd,
        ("unshare", "--mount", "sh", "-c", script, "sh", *jubako_as_account.prefix),
    )
    found = finding(inside, "a new /proc")
    assert found["status"] == "problem"
    assert "/proc/fs" in str(found["evidence"])
    assert "systempaths=unconfined" in str(found["remedy"])


@pytest.mark.root
def test_a_newuidmap_without_its_bit_is_found_and_the_map_becomes_a_single_id(jubako_as_account: Command) -> None:
    script = 'mount -t tmpfs -o mode=755 t /mnt && cp /usr/bin/newuidmap /mnt && chmod 755 /mnt/newuidmap && \
        mount --bind /mnt/newuidmap /usr/bin/newuidmap && exec "$@"'
    inside = Command(
        jubako_as_account.account,
        jubako_as_account.cwd,
        ("unshare", "--mount", "sh", "-c", script, "sh", *jubako_as_account.prefix),
    )
    found = finding(inside, "newuidmap")
    assert found["status"] == "warning"
    assert "chmod u+s /usr/bin/newuidmap" in str(found["remedy"])
    assert "single id" in str(finding(inside, "id map")["summary"])
