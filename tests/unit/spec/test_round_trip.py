"""Every document that can be said survives being written and read again."""

from __future__ import annotations

import types
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jubako import jsontext
from jubako.spec import document
from jubako.spec.shape import Codec, Flag, Integer, ListOf, NamedObjects, ObjectOf, PairsOf, Text

TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5)


def values(codec: Codec, depth: int = 0) -> st.SearchStrategy[Any]:
    """What may stand in a record where `codec` reads, drawn from the very table that is tested."""
    if isinstance(codec, Text):
        return TEXT
    if isinstance(codec, Flag):
        return st.booleans()
    if isinstance(codec, Integer):
        return st.integers(codec.least, codec.most)
    if isinstance(codec, ListOf):
        return st.lists(values(codec.item), max_size=2).map(tuple)
    if isinstance(codec, PairsOf):
        return st.dictionaries(TEXT, values(codec.item), max_size=2).map(lambda pairs: tuple(pairs.items()))
    if isinstance(codec, NamedObjects):
        named = records(codec.item, **{codec.attribute: TEXT})
        return st.lists(named, max_size=2, unique_by=lambda one: getattr(one, codec.attribute)).map(tuple)
    assert isinstance(codec, ObjectOf)
    return records(codec)


def records(codec: ObjectOf, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    required = {attribute: values(one) for attribute, _, one, presence in codec.fields if presence}
    optional = {attribute: values(one) for attribute, _, one, presence in codec.fields if not presence}
    return st.fixed_dictionaries({**required, **more}, optional=optional).map(lambda fields: codec.kind(**fields))


@settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
@given(values(document.SPEC))
def test_reading_what_was_written_gives_the_same_record(spec: Any) -> None:
    assert document.SPEC.read(jsontext.loads(jsontext.dumps(document.SPEC.write(spec)))) == spec


def test_every_field_of_every_record_stands_in_the_table() -> None:
    seen: set[type] = set()

    def visit(codec: Codec, extra: frozenset[str] = frozenset()) -> None:
        if isinstance(codec, ListOf | PairsOf):
            visit(codec.item)
        elif isinstance(codec, NamedObjects):
            visit(codec.item, frozenset({codec.attribute}))
        elif isinstance(codec, ObjectOf):
            fields = {attribute for attribute, *_ in codec.fields} | extra
            assert fields == set(codec.kind.FIELDS), codec.kind
            seen.add(codec.kind)
            for _, _, inner, _ in codec.fields:
                visit(inner)

    visit(document.SPEC)
    from jubako.spec import resources
    from jubako.spec import types as records_of

    def declared(module: types.ModuleType) -> set[type]:
        return {one for one in vars(module).values() if isinstance(one, type) and hasattr(one, "FIELDS")}

    assert declared(records_of) | declared(resources) == seen
