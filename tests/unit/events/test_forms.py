"""The stored forms as JSON Schema accept what is stored, and nothing of another form."""

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator

from mitosis.errors import NotFound
from mitosis.events.catalogue import EVENTS
from mitosis.events.envelope import Commit, encode_commit
from mitosis.events.forms import schema_of_commit, schema_of_event

GOLDEN = Path(__file__).parents[2] / "golden" / "events"


@pytest.mark.parametrize("topic", EVENTS)
def test_every_body_ever_stored_fits_its_schema_and_that_of_a_commit(topic: str) -> None:
    schema = schema_of_event(topic)
    Draft202012Validator.check_schema(schema)
    assert schema["title"] == topic
    whole = Draft202012Validator(schema_of_commit())
    for body in json.loads((GOLDEN / f"{topic}.json").read_bytes()):
        Draft202012Validator(schema).validate(body)
        raw = msgspec.Raw(msgspec.json.encode(body))
        commit = Commit("0" * 32, "", "user:alice", datetime.now(UTC), 1, "", [(topic, raw)])
        whole.validate(json.loads(encode_commit(commit)))


def test_another_form_does_not_fit() -> None:
    validator = Draft202012Validator(schema_of_event("task.assigned"))
    assert validator.is_valid({"attempt": 1, "worker": "w", "lease_seconds": 1.5})
    assert not validator.is_valid({"attempt": "1", "worker": "w", "lease_seconds": 1.5})
    assert not validator.is_valid({"worker": "w"})


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(NotFound, match=r"did you mean 'task.submitted@1'"):
        schema_of_event("task.submited")
