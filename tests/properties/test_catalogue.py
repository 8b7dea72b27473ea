"""Every event of the catalogue survives the store, and no state is harmed by any of them."""

from datetime import UTC
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from mitosis.domain.attachment import Attachment
from mitosis.domain.event import Event
from mitosis.domain.group import Group
from mitosis.domain.platform import Platform
from mitosis.domain.secret import Secret
from mitosis.domain.task import Task
from mitosis.domain.user import User
from mitosis.domain.worker import Worker
from mitosis.events import catalogue

STATES = {
    "attachment": Attachment,
    "group": Group,
    "platform": Platform,
    "secret": Secret,
    "task": Task,
    "user": User,
    "worker": Worker,
}


def values_of(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Values of any type that stored structs use; an unknown type fails the test."""
    match kind:
        case inspect.StrType():
            return st.text(max_size=20)
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return st.integers(-(2**63), 2**63 - 1)
        case inspect.FloatType():
            return st.floats(allow_nan=False, allow_infinity=False)
        case inspect.DateTimeType():
            return st.datetimes(timezones=st.just(UTC))
        case inspect.NoneType():
            return st.none()
        case inspect.EnumType(cls):
            return st.sampled_from(cls)
        case inspect.LiteralType(values):
            return st.sampled_from(values)
        case inspect.UnionType(types):
            return st.one_of(*map(values_of, types))
        case inspect.TupleType(item_types):
            return st.tuples(*map(values_of, item_types))
        case inspect.VarTupleType(item_type):
            return st.lists(values_of(item_type), max_size=3).map(tuple)
        case inspect.FrozenSetType(item_type):
            return st.frozensets(values_of(item_type), max_size=3)
        case inspect.DictType(key_type, value_type):
            return st.dictionaries(values_of(key_type), values_of(value_type), max_size=3)
        case inspect.StructType(cls, fields):
            return st.builds(cls, **{field.name: values_of(field.type) for field in fields})
    raise AssertionError(f"no values for {kind}: say how to make them")


def instances(cls: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    return values_of(inspect.type_info(cls))


@pytest.mark.parametrize("cls", catalogue.EVENTS.values(), ids=catalogue.EVENTS)
def test_what_is_stored_is_what_is_read(cls: type[Event]) -> None:
    @given(instances(cls))
    @settings(max_examples=30, deadline=None)
    def check(event: Event) -> None:
        topic, body = catalogue.encode_event(event)
        assert topic == cls.TOPIC
        assert catalogue.decode_event(topic, body) == event

    check()


@pytest.mark.parametrize("topic", catalogue.EVENTS)
def test_no_event_is_ever_refused_by_a_state(topic: str) -> None:
    kind = topic.partition(".")[0]
    cls = STATES[kind]

    @given(instances(cls), instances(catalogue.EVENTS[topic]))
    @settings(max_examples=15, deadline=None)
    def check(state: Any, event: Event) -> None:
        assert isinstance(catalogue.evolve(kind, state, event), cls)

    check()
