"""The attachment under random commands: a map from key to one object, no more."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from mitosis.domain import attachment
from mitosis.domain.attachment import Attachment, DeleteAttachment, StoreAttachment
from mitosis.domain.event import Event
from mitosis.errors import InvalidInput, NotFound, Rejection
from mitosis.testing.aggregates import AggregateMachine

SHA256 = "0" * 64


class AttachmentMachine(AggregateMachine):
    aggregate = attachment
    state_type = Attachment

    def __init__(self) -> None:
        super().__init__()
        self.expected: tuple[str, int] | None = None
        self.quota_used = 0

    def check_event(self, event: Event) -> None:
        match event:
            case attachment.AttachmentStored():
                self.quota_used += event.size_bytes - event.freed_bytes
            case attachment.AttachmentDeleted():
                self.quota_used -= event.freed_bytes
            case _:
                raise AssertionError(event)

    @rule(name=st.sampled_from(["lab/1", "lab/2"]), size=st.integers(-2, 9) | st.just(2**63))
    def store(self, name: str, size: int) -> None:
        result = self.give(StoreAttachment("lab", "data/a.csv", name, size, SHA256))
        if not 0 <= size < 2**63:
            assert isinstance(result, InvalidInput)
        elif self.expected is None or self.expected[0] != name:
            self.expected = (name, size)

    @rule()
    def delete(self) -> None:
        result = self.give(DeleteAttachment())
        assert isinstance(result, NotFound) == (self.expected is None)
        assert isinstance(result, Rejection) == (self.expected is None)
        self.expected = None

    @invariant()
    def names_the_last_object_and_its_size(self) -> None:
        if self.state is not None:
            assert (self.state.object_name, self.state.size_bytes) == (self.expected or ("", 0))
            assert self.state.size_bytes == self.quota_used >= 0


TestAttachment = AttachmentMachine.TestCase
TestAttachment.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
