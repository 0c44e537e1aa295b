"""Id maps: the rules of user_namespaces(7), and maps inside maps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.errors import JubakoError, UsageError
from jubako.ids.idmap import IdMap, IdRange, read_id_map

BASE = IdMap.of((0, 1000, 1), (1, 100000, 65536))


@st.composite
def maps(draw: st.DrawFn, least: int = 1) -> IdMap:
    """Valid maps over small ids: cut both sides into pieces and pair them in some order."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=least, max_size=6))
    gaps = draw(st.lists(st.integers(0, 3), min_size=len(sizes), max_size=len(sizes)))
    order = draw(st.permutations(range(len(sizes))))
    outside, position = {}, draw(st.integers(0, 5))
    for index in order:
        outside[index] = position
        position += sizes[index] + draw(st.integers(0, 2))
    entries, inside = [], 0
    for index, (size, gap) in enumerate(zip(sizes, gaps, strict=True)):
        inside += gap
        entries.append(IdRange(inside, outside[index], size))
        inside += size
    return IdMap(tuple(entries))


def as_dict(id_map: IdMap) -> dict[int, int]:
    return {entry.inside + step: entry.outside + step for entry in id_map.entries for step in range(entry.size)}


def test_the_kernels_text_is_read_and_written() -> None:
    shown = "         0       1000          1\n         1     100000      65536\n"
    assert IdMap.parse(shown) == BASE
    assert BASE.text() == "0 1000 1\n1 100000 65536\n"
    assert BASE.size == 65537


def test_an_empty_map_file_is_an_empty_map() -> None:
    assert IdMap.parse("\n").entries == ()


@pytest.mark.parametrize("text", ["0 1000", "0 1000 1 2", "a 0 1", "-1 0 1", "0 ² 1"])
def test_a_line_that_is_not_three_numbers_is_refused_with_the_line(text: str) -> None:
    with pytest.raises(JubakoError, match="three numbers") as caught:
        IdMap.parse(text)
    assert text in str(caught.value)


def test_a_map_file_that_is_not_there_is_named(tmp_path: object) -> None:
    with pytest.raises(JubakoError, match=r"read id map .*/uid_map: No such file or directory \(ENOENT\)"):
        read_id_map(f"{tmp_path}/uid_map")


@pytest.mark.parametrize(
    ("triples", "named", "reason"),
    [
        ([(0, 1000, 0)], "0:1000:0", "size is 0"),
        ([(0, 1000, 1), (5, 2000, -1)], "5:2000:-1", "size is -1"),
        ([(0, 1000, 10), (9, 3000, 2)], "9:3000:2", "container ids overlap those of 0:1000:10 (9)"),
        ([(0, 1000, 10), (50, 1005, 10)], "50:1005:10", "host ids overlap those of 0:1000:10 (1005-1009)"),
        ([(0, 4294967295, 1)], "0:4294967295:1", "go beyond 0-4294967294"),
        ([(4294967290, 0, 6)], "4294967290:0:6", "go beyond 0-4294967294"),
        ([(-1, 0, 1)], "-1:0:1", "go beyond"),
    ],
)
def test_what_the_kernel_refuses_is_refused_with_the_range_named(
    triples: list[tuple[int, int, int]], named: str, reason: str
) -> None:
    with pytest.raises(UsageError) as caught:
        IdMap.of(*triples).validate("uid")
    assert caught.value.subject == named
    assert reason in caught.value.reason
    assert caught.value.operation == "use uid map"


def test_an_empty_map_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one id"):
        IdMap().validate()


def test_the_whole_range_of_ids_is_a_valid_map() -> None:
    assert IdMap.of((0, 0, 4294967295)).validate().size == 4294967295


def test_more_than_340_ranges_are_refused() -> None:
    assert IdMap.of(*((i, i * 2, 1) for i in range(340))).validate()
    with pytest.raises(UsageError, match="range 341, the kernel takes 340"):
        IdMap.of(*((i, i * 2, 1) for i in range(341))).validate()


def test_a_text_of_a_page_is_refused_even_with_fewer_ranges() -> None:
    with pytest.raises(UsageError, match="bytes does not fit"):
        IdMap.of(*((i * 2, 1_000_000_000 + i * 4, 1) for i in range(300))).validate()


def test_ids_are_looked_up_both_ways() -> None:
    assert BASE.to_outside(0) == 1000
    assert BASE.to_outside(65536) == 165535
    assert BASE.to_outside(65537) is None
    assert BASE.to_inside(100000) == 1
    assert BASE.to_inside(0) is None


def test_an_identity_map_is_cut_along_the_parents_ranges() -> None:
    assert IdMap.of((0, 0, 65537)).split_along(BASE).text() == "0 0 1\n1 1 65536\n"
    assert BASE.identity().text() == "0 0 1\n1 1 65536\n"


def test_adjacent_ranges_of_the_parent_are_still_two_to_the_kernel() -> None:
    parent = IdMap.of((0, 100, 10), (10, 110, 10))
    assert IdMap.of((0, 5, 10)).split_along(parent).text() == "0 5 5\n5 10 5\n"


def test_an_id_that_the_parent_lacks_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        IdMap.of((0, 0, 1), (1, 60000, 10000)).split_along(BASE, "gid")
    assert caught.value.subject == "1:60000:10000"
    assert "gid 65537-69999 is not there" in caught.value.reason


def test_neighbours_on_both_sides_are_merged_and_others_are_not() -> None:
    assert IdMap.of((5, 15, 5), (0, 10, 5), (10, 30, 2)).merged().text() == "0 10 10\n10 30 2\n"


def test_a_nested_map_seen_from_the_host_has_the_hosts_ids() -> None:
    keep_id = IdMap.of((0, 1, 1000), (1000, 0, 1), (1001, 1001, 64536))
    assert keep_id.compose(BASE).text() == "0 100000 1000\n1000 1000 1\n1001 101000 64536\n"


@given(maps())
def test_text_and_parse_are_inverses(id_map: IdMap) -> None:
    assert IdMap.parse(id_map.validate().text()) == id_map


@given(maps())
def test_merging_changes_no_id_and_cannot_be_repeated(id_map: IdMap) -> None:
    merged = id_map.merged()
    assert as_dict(merged) == as_dict(id_map)
    assert merged.merged() == merged


@given(maps())
def test_lookups_agree_with_the_map_written_out(id_map: IdMap) -> None:
    table = as_dict(id_map)
    for number in range(60):
        assert id_map.to_outside(number) == table.get(number)
    assert all(id_map.to_inside(outside) == inside for inside, outside in table.items())


@given(maps(), maps())
def test_splitting_changes_no_id_and_leaves_no_range_across_a_border(nested: IdMap, parent: IdMap) -> None:
    try:
        split = nested.split_along(parent)
    except UsageError:
        assert not set(as_dict(nested).values()) <= set(as_dict(parent))
        return
    assert as_dict(split) == as_dict(nested)
    for entry in split.entries:
        assert any(
            above.inside <= entry.outside and entry.outside + entry.size <= above.inside + above.size
            for above in parent.entries
        )


@given(maps(), maps())
def test_composing_is_looking_up_twice(nested: IdMap, parent: IdMap) -> None:
    try:
        composed = nested.compose(parent)
    except UsageError:
        return
    outer = as_dict(parent)
    assert as_dict(composed) == {inside: outer[middle] for inside, middle in as_dict(nested).items()}
    composed.validate()
