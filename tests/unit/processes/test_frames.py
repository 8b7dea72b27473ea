"""Messages between worker and helpers: whole, in order, bounded, and never blocking."""

import os
import socket
from collections.abc import Iterator

import pytest

from mitosis.processes.guard import frames
from mitosis.processes.guard.frames import Channel, Closed, Overflow, encode

Pair = tuple[Channel, Channel]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    channels = (Channel(ours), Channel(theirs))
    yield channels
    for channel in channels:
        channel.close()


def test_messages_arrive_whole_and_in_order_whatever_their_size(pair: Pair) -> None:
    sender, receiver = pair
    sent = [(1, "é\udcff", b"\xff\x00", None, 1.5, ("a", [1, 2]), {"k": "v"}), (2,)]
    sent += [(3, bytes(size)) for size in (0, 1, 65_531, 65_536, 900_000)]
    received: list[frames.Message] = []
    for message in sent:
        sender.post(message)
    while len(received) < len(sent):
        sender.flush()
        received += receiver.receive()
    assert received == sent
    assert not sender.waiting
    assert sender.queued_bytes == 0


def test_a_peer_that_does_not_read_delays_nobody_and_fills_a_bounded_queue(pair: Pair) -> None:
    sender, _ = pair
    while sender.queued_bytes <= frames.MAX_QUEUED_BYTES - (2 << 20):
        sender.send((1, bytes(1 << 20)))
    sender.send((1, bytes(1 << 20)))
    with pytest.raises(Overflow):
        sender.send((1, bytes(2 << 20)))
    assert sender.queued_bytes <= frames.MAX_QUEUED_BYTES


def test_a_message_larger_than_the_bound_is_refused(pair: Pair) -> None:
    with pytest.raises(ValueError, match="bytes"):
        encode((1, bytes(frames.MAX_FRAME_BYTES)))


def test_nothing_to_read_is_no_message(pair: Pair) -> None:
    assert pair[0].receive() == []


def test_the_end_of_the_peer_is_told_after_its_last_message(pair: Pair) -> None:
    sender, receiver = pair
    sender.send((7,))
    sender.close()
    assert receiver.receive() == [(7,)]
    with pytest.raises(Closed):
        receiver.receive()


def test_a_peer_that_dies_with_messages_unread_is_closed_and_no_error(pair: Pair) -> None:
    dying, other = pair
    other.send((1, "never read"))
    dying.close()
    with pytest.raises(Closed):
        other.receive()
    with pytest.raises(Closed):
        other.send((2,))


def test_a_descriptor_travels_with_its_message(pair: Pair) -> None:
    sender, receiver = pair
    read_end, write_end = os.pipe()
    sender.send((1,), (write_end,))
    os.close(write_end)
    assert receiver.receive_with_descriptors() == [(1,)]
    [received] = receiver.descriptors
    assert not os.get_inheritable(received)
    os.write(received, b"through")
    os.close(received)
    assert os.read(read_end, 100) == b"through"
    os.close(read_end)
