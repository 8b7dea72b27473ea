"""Reaching a host in a bounded time, whatever number of addresses its name has. Blocks."""

import socket
import time

LEAST_SECONDS = 0.001  # 0 would mean: do not wait


def first_that_answers(host: str | bytes, port: int, deadline: float) -> socket.socket:
    """Connect to the first address of a host that takes it; they share what is left of the time.

    Args:
        host: Its name. As bytes it is looked up as it is: a text would load the tables of IDNA.
        port: Its port.
        deadline: When this must be over, by `time.monotonic`; the look-up of the name is not cut.

    Raises:
        OSError: None of them does, or there is none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for number, (family, kind, protocol, _, place) in enumerate(found):
        share = (deadline - time.monotonic()) / (len(found) - number)
        stream: socket.socket | None = None
        try:
            stream = socket.socket(family, kind, protocol)  # the system may not know this family
            stream.settimeout(max(LEAST_SECONDS, share))
            stream.connect(place)
        except OSError:
            if stream is not None:
                stream.close()
            if number == len(found) - 1:
                raise
        else:
            stream.settimeout(max(LEAST_SECONDS, deadline - time.monotonic()))
            return stream
    raise OSError(f"{host!r} has no address")
