"""The quota ledger is a plain sum over events, and always what is stored just now."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mitosis.contract import subjects
from mitosis.domain import attachment, task
from mitosis.domain.task import Artifact, ArtifactKind, TaskSpec
from mitosis.errors import NotFound
from mitosis.services.coordinator.world import World

UUID = "0f0e0d0c-0b0a-8908-8706-050403020100"
TASK = subjects.task_tail("lab", UUID)
KEYS = ("a", "b/c")
SHA = "0" * 64

stores = st.tuples(st.just("store"), st.sampled_from(ArtifactKind), st.integers(0, 10**12))
deletes = st.tuples(st.just("delete"), st.sampled_from(ArtifactKind), st.just(0))
attaches = st.tuples(st.just("attach"), st.sampled_from(KEYS), st.integers(0, 10**12))
detaches = st.tuples(st.just("detach"), st.sampled_from(KEYS), st.just(0))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(stores, deletes, attaches, detaches), max_size=30))
def test_what_a_group_uses_is_what_is_stored_and_never_negative(steps: list) -> None:
    world, files = World(), {}
    submit = task.SubmitTask(UUID, "lab", "alice", 1, TaskSpec(("true",)))
    for event in task.decide(None, submit):
        world.apply(TASK, event, 1)
    for number, (what, name, size) in enumerate(steps, 2):
        try:
            if what == "store":
                artifact = Artifact(name, f"o{number}", size, SHA)
                events = task.decide(world.tasks[UUID], task.StoreArtifact("", 0, artifact))
            elif what == "delete":
                events = task.decide(world.tasks[UUID], task.DeleteArtifact(name))
            elif what == "attach":
                wish = attachment.StoreAttachment("lab", name, f"o{number}", size, SHA)
                events = attachment.decide(files.get(name), wish)
            else:
                events = attachment.decide(files.get(name), attachment.DeleteAttachment())
        except NotFound:
            continue
        for event in events:
            if what in {"store", "delete"}:
                world.apply(TASK, event, number)
            else:
                world.apply(subjects.attachment_tail("lab", name), event, number)
                files[name] = attachment.evolve(files.get(name), event)
        stored = world.tasks[UUID].stored_bytes + sum(file.size_bytes for file in files.values())
        assert world.used_bytes.get("lab", 0) == stored >= 0
