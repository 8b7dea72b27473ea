"""Which commands were answered in this term, and how: what is asked again is not done again."""

from collections import Counter, OrderedDict

from mitosis.nats.rpc import Caller

REMEMBERED_COMMANDS = 20_000
# Most of it are answers to many submits at once, which are the same for ever by their keys.
REMEMBERED_BYTES = 4 * 1024 * 1024


class Answered:
    """Replies by command id, so that a repeated command has no second effect. Bounded.

    What there is most of is forgotten first, by verb: thousands of submits a second, which may be
    repeated for ever, leave room for the few commands that must not be done twice.
    """

    def __init__(self, size: int = REMEMBERED_COMMANDS, size_bytes: int = REMEMBERED_BYTES) -> None:
        self._size, self._size_bytes = size, size_bytes
        self._replies: dict[str, OrderedDict[tuple[str, str], bytes | None]] = {}
        self._count = 0
        self._bytes: Counter[str] = Counter()
        self._all_bytes = 0

    def begin(self, caller: Caller) -> tuple[bool, bytes | None]:
        """Note a command.

        Returns:
            Whether it was seen before, and its reply if that is known already.
        """
        if not caller.request_id:
            return False, None
        of_verb = self._replies.get(caller.verb)
        if of_verb is None:
            of_verb = self._replies[caller.verb] = OrderedDict()
        key = (caller.owner, caller.request_id)
        if key in of_verb:
            return True, of_verb[key]
        of_verb[key] = None
        self._count += 1
        self._make_room()
        return False, None

    def keep(self, caller: Caller, reply: bytes) -> None:
        """Keep the reply of a command that is stored."""
        of_verb, key = self._replies.get(caller.verb), (caller.owner, caller.request_id)
        if of_verb is not None and key in of_verb:
            of_verb[key] = reply
            self._take(caller.verb, len(reply))
            self._make_room()

    def drop(self, caller: Caller) -> None:
        """Forget a command that had no effect, so that it may be tried again."""
        of_verb, key = self._replies.get(caller.verb), (caller.owner, caller.request_id)
        if of_verb is not None and key in of_verb:
            self._count -= 1
            self._take(caller.verb, -len(of_verb.pop(key) or b""))

    def _take(self, verb: str, more: int) -> None:
        self._bytes[verb] += more
        self._all_bytes += more

    def _make_room(self) -> None:
        while self._all_bytes > self._size_bytes or self._count > self._size:
            if self._all_bytes > self._size_bytes:
                verb = max(self._bytes, key=self._bytes.__getitem__)
            else:
                verb = max(self._replies, key=lambda name: len(self._replies[name]))
            _, reply = self._replies[verb].popitem(last=False)
            self._count -= 1
            self._take(verb, -len(reply or b""))
