from datetime import timedelta

import msgspec
import pytest

from mitosis.client.reruns import Origin, check_edits, check_key, missing_secrets, to_rerun
from mitosis.config.client import NO_LIMIT, RerunArgs, WatchArgs
from mitosis.contract.commands import SubmitTask, WatchWanted
from mitosis.domain.execution import ExecutionState
from mitosis.domain.resources import Limits
from mitosis.domain.retry import Retry
from mitosis.domain.task import Outcome, TaskSpec, TaskState
from mitosis.domain.watch import Watch
from mitosis.errors import InvalidInput

TASK = "123e4567-e89b-12d3-a456-426614174000"
OTHER = "e07a2bf2-166d-40b5-8bb6-a78104c072f9"
SPEC = TaskSpec(
    argv=("run", "--fast"), env={"SEED": "3", "MODE": "full"}, tags=("gpu",), priority=-2,
    timeout_seconds=90.5, terminal=True, max_losses=5,
    watch=Watch(OTHER, "lab", ExecutionState.EXEC_SPAWNED),
    limits=Limits(memory_bytes=2**30, open_files=100), stop_signal="INT", grace_seconds=3.0,
    retry=Retry(times=2, delay_seconds=2.0),
)  # fmt: skip
ORIGIN = Origin(
    TASK, 7, "lab", "alice", TaskState.FINISHED, Outcome.FAILED, SPEC, ("run-7",), None, 0
)


def rerun(**edits: object) -> SubmitTask:
    args = RerunArgs(**edits)
    return to_rerun(ORIGIN, args, check_edits(args), "key")


def test_everything_but_the_wait_for_another_task_is_as_in_the_original() -> None:
    body = rerun()
    assert (body.rerun_of, body.group, body.labels) == (TASK, "lab", ("run-7",))
    assert body.watch is None
    for field in set(SPEC.__struct_fields__) - {"watch", "secrets", "sealing"}:
        assert getattr(body, field) == getattr(SPEC, field), field


def test_an_edit_changes_what_it_names() -> None:
    body = rerun(
        command=("echo",), set_envs={"SEED": "4", "NEW": "1"}, unset_envs=("MODE",), priority=5,
        timeout="1h", group="other", labels=(), tags=("arm",), memory=NO_LIMIT, retries=0,
        watch=WatchArgs(OTHER, "TaskCommitted"), grace=timedelta(seconds=9),
    )  # fmt: skip
    assert body.argv == ("echo",)
    assert body.env == {"SEED": "4", "NEW": "1"}
    assert (body.priority, body.timeout_seconds, body.grace_seconds) == (5, 3_600.0, 9.0)
    assert (body.group, body.labels, body.tags) == ("other", (), ("arm",))
    assert body.limits == Limits(open_files=100)
    assert body.retry == Retry(times=0, delay_seconds=2.0)
    assert body.watch == WatchWanted(OTHER, "TaskCommitted")
    assert body.stop_signal == "INT"


@pytest.mark.parametrize(
    "wrong",
    [
        RerunArgs(command=()),
        RerunArgs(set_envs={"": "1"}),
        RerunArgs(set_envs={"A": "1"}, unset_envs=("A",)),
        RerunArgs(priority=2**31),
        RerunArgs(labels=("",)),
        RerunArgs(group="a/b"),
        RerunArgs(timeout="5"),
        RerunArgs(secret_envs={"A": ""}),
        RerunArgs(secret_envs={"A": "1"}, set_envs={"A": "1"}),
    ],
)
def test_an_edit_that_cannot_be_is_refused_before_anything_is_sent(wrong: RerunArgs) -> None:
    with pytest.raises(InvalidInput):
        check_edits(wrong)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (None, "PASSWORD, TOKEN are"),
        ({"TOKEN": "new"}, "PASSWORD is"),
        ({"TOKEN": "new", "PASSWORD": "new", "MORE": "new"}, None),
        ({}, None),
    ],
)
def test_secrets_are_never_copied_and_have_to_be_given_anew_or_to_be_given_up(
    given: dict[str, str] | None, missing: str | None
) -> None:
    spec = msgspec.structs.replace(SPEC, secrets=("PASSWORD", "TOKEN"), sealing="5f" * 16)
    origin = msgspec.structs.replace(ORIGIN, spec=spec)
    args = RerunArgs(secret_envs=given)
    change = check_edits(args)
    refusal = missing_secrets(origin, change)
    assert (refusal is None) is (missing is None)
    assert missing is None or missing in str(refusal)
    assert "new'" not in repr(args)
    body = to_rerun(origin, args, change, "key")
    assert body.secret_env == (given or {})
    assert spec.sealing.encode() not in msgspec.json.encode(body)


def test_secrets_can_be_given_to_what_had_none() -> None:
    args = RerunArgs(secret_envs={"SEED": "4"}, unset_envs=("SEED",))
    body = to_rerun(ORIGIN, args, check_edits(args), "key")
    assert (body.env, body.secret_env) == ({"MODE": "full"}, {"SEED": "4"})


def test_the_key_of_each_submit_follows_from_key_and_original_and_fits() -> None:
    assert rerun().key == f"key:{TASK}"
    assert check_key("k" * 218)
    with pytest.raises(InvalidInput):
        check_key("k" * 219)
