"""Whatever stands on a command line, the parsers answer with a value or with one of our errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.engine.build import parse_restart
from jubako.engine.parse.env import parse_assignments, parse_env, parse_labels
from jubako.engine.parse.mounts import parse_device, parse_mount, parse_tmpfs, parse_volume
from jubako.engine.parse.namespaces import parse_namespace, parse_ns, parse_time_offsets
from jubako.engine.parse.security import parse_security
from jubako.engine.parse.sizes import parse_bool, parse_octal, parse_size
from jubako.engine.parse.ulimit import parse_ulimits
from jubako.engine.process import parse_entrypoint
from jubako.errors import JubakoError
from jubako.runtime.signals import parse_signal
from jubako.spec.passwd import lookup_groups, lookup_user

PARSERS: dict[str, Callable[[str], Any]] = {
    "volume": lambda text: parse_volume(text, "/nowhere"),
    "mount": lambda text: parse_mount(text, "/nowhere"),
    "tmpfs": parse_tmpfs,
    "device": parse_device,
    "env": lambda text: parse_env((text,), {"A": "1"}),
    "label": lambda text: parse_labels((text,)),
    "annotation": lambda text: parse_assignments((text,), "annotation"),
    "ulimit": lambda text: parse_ulimits((text,)),
    "pid": lambda text: parse_namespace("pid", text, "pid"),
    "ns": parse_ns,
    "time-offset": lambda text: parse_time_offsets((text,)),
    "security-opt": lambda text: parse_security((text,)),
    "stop-signal": parse_signal,
    "size": lambda text: parse_size(text, "memory"),
    "bool": lambda text: parse_bool(text, "x"),
    "octal": lambda text: parse_octal(text, "umask"),
    "entrypoint": parse_entrypoint,
    "restart": parse_restart,
}
SAID = (
    "type bind tmpfs devpts mqueue src dst ro rw O U z size mode uid 64m -1 1.5 unlimited nofile monotonic boottime "
    "seccomp unmask mask ALL container ns host none private net / /a /a/../b .. . ./x"
)
WORDS = [*SAID.split(), ":", ",", "=", "*", "[", "]", '"', "'", "\0", "\n", "٣", "é", "\udc80"]
VALUES = st.one_of(st.text(max_size=12), st.lists(st.sampled_from(WORDS), max_size=8).map("".join))


@pytest.mark.parametrize("name", PARSERS)
def test_any_text_is_read_or_refused(name: str) -> None:
    @given(VALUES)
    def trial(text: str) -> None:
        try:
            PARSERS[name](text)
        except JubakoError as error:
            refusal = error
        else:
            return
        assert refusal.exit_code == 125
        assert refusal.reason

    trial()


@given(VALUES)
def test_a_mount_target_is_always_absolute_and_below_the_root(text: str) -> None:
    for parse in (PARSERS["volume"], PARSERS["mount"], PARSERS["tmpfs"], PARSERS["device"]):
        try:
            mount = parse(text)
        except JubakoError:
            continue
        parts = mount.destination.split("/")
        assert parts[0] == ""
        assert not {"", ".", ".."}.intersection(parts[1:])
        assert "\0" not in mount.destination + mount.source


PIECES = ["bob", "root", ":", "x", "0", "5", "-1", "4294967295", ",", "\n", "\0", "é"]
FILES = st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(PIECES), max_size=30).map("".join))


@given(FILES, st.sampled_from(["", "bob", "5", "bob:root", "0:x", ":5"]))
def test_any_passwd_and_group_file_gives_a_kernels_id_or_an_error(text: str | bytes, user: str) -> None:
    try:
        found = lookup_user(user, text, text)
        groups = lookup_groups(("bob", "5"), text)
    except JubakoError:
        return
    for number in (found.uid, found.gid, *found.additional_gids, *groups):
        assert 0 <= number < 0xFFFFFFFF
    assert found.home.startswith("/")
