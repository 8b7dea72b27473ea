"""`mito events schema`: for people, for programs, and for a name that is wrong."""

import json
from collections.abc import Callable
from typing import Any

from jsonschema import Draft202012Validator

from mitosis.cli.commands import PLATFORM
from mitosis.cli.output.schemas import schema_of

Here = Callable[..., Any]  # see conftest.py


def test_the_form_of_an_event_is_printed(here: Here) -> None:
    plain = here("events", "schema", "task.assigned")
    assert plain.returncode == 0
    form = json.loads(plain.stdout)
    assert form["title"] == "task.assigned@1"
    Draft202012Validator(form).validate({"attempt": 1, "worker": "w", "lease_seconds": 2.0})
    as_json = json.loads(here("events", "schema", "task.assigned@1", "--json").stdout)
    (command,) = (one for one in PLATFORM if one.path == "events schema")
    Draft202012Validator(schema_of(command)).validate(as_json)
    assert as_json == {"event": "task.assigned@1", "schema": form}


def test_the_form_of_a_commit_names_every_event(here: Here) -> None:
    form = json.loads(here("events", "schema").stdout)
    Draft202012Validator.check_schema(form)
    assert form["title"] == "commit"
    assert "task.assigned@1" in json.dumps(form["properties"]["events"])


def test_an_unknown_event_is_an_error(here: Here) -> None:
    done = here("events", "schema", "task.asigned")
    assert (done.returncode, done.stdout) == (3, "")
    assert "did you mean 'task.assigned@1'" in done.stderr
