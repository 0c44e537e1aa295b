"""What explain says around the plan: the base in each of its forms, and the texts of system calls."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jubako.engine.explain import MISSING, NONE, RUNNING, Section, explain_base, split_calls
from jubako.ids.base import DIRECTLY, SINGLE, WITH_HELPERS, BaseIds, Loss
from jubako.ids.idmap import IdMap
from jubako.plan.step import quote

FULL = IdMap.of((0, 1000, 1), (1, 100000, 65536))


def calls(section: Section) -> list[str]:
    return [call for step in section.steps for call in step.calls]


def test_the_helpers_are_called_with_the_whole_map():
    section = explain_base(BaseIds(FULL, IdMap.of((0, 50, 1), (1, 200000, 10)), WITH_HELPERS, 1000, 50), MISSING)
    assert "newuidmap PID 0 1000 1 1 100000 65536" in calls(section)
    assert "newgidmap PID 0 50 1 1 200000 10" in calls(section)
    assert section.state == "would"
    assert [step.label for step in section.steps] == [f"B{n}" for n in range(1, len(section.steps) + 1)]


def test_a_base_that_runs_is_named_by_its_process_and_not_made_again():
    section = explain_base(BaseIds(FULL, FULL, WITH_HELPERS, 1000, 1000), RUNNING, 4711)
    assert section.state == "done"
    assert "already there: process 4711" in section.text


def test_a_single_id_is_explained_with_what_is_lost_and_what_would_help():
    own, loss = IdMap.of((0, 1000, 1)), Loss("newuidmap is missing", "only root exists", "install uidmap")
    section = explain_base(BaseIds(own, own, SINGLE, 1000, 1000, setgroups_deny=True, lost=(loss,)), MISSING)
    writes = [call for call in calls(section) if call.startswith("write")]
    assert writes == [
        'write("/proc/PID/setgroups", "deny")',
        'write("/proc/PID/uid_map", "0 1000 1\\n")',
        'write("/proc/PID/gid_map", "0 1000 1\\n")',
    ]
    for part in ("newuidmap is missing", "only root exists", "install uidmap"):
        assert part in section.text


def test_the_hosts_root_needs_no_base():
    section = explain_base(BaseIds(IdMap.of((0, 2013265920, 65536)), FULL, DIRECTLY, 0, 0), NONE)
    assert not section.steps
    assert "2013265920" in section.text


def test_calls_are_parted_where_they_end_and_nowhere_else():
    assert split_calls('open("a; b"); f({x; y}); write(fd, "\\"; ")') == (
        'open("a; b")',
        "f({x; y})",
        'write(fd, "\\"; ")',
    )
    assert split_calls("") == ()


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_whatever_a_path_is_called_it_stays_one_call_on_one_line(names: list[str]):
    texts = [f"mkdir({quote(name)}, 0755)" for name in names]
    assert split_calls("; ".join(texts)) == tuple(texts)
    assert all(text.isprintable() for text in texts)
