"""Passwords: hashed by Argon2id, off the event loop, in constant work for unknown users."""

import asyncio
import base64
import os
from concurrent.futures import ThreadPoolExecutor

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from mitosis.errors import InvalidInput, TooLarge, Unavailable

# The recommendation of OWASP's password storage sheet; about 50 ms on one core of the machine of
# the benchmarks (docs/decisions/0007). The string of a hash carries its own parameters.
MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1
MIN_CHARS = 1
MAX_BYTES = 1_024
THREADS = 2
MAX_WAITING = 256


class Passwords:
    """Hashes and checks passwords in a few threads; cryptography frees the GIL while it works."""

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mito-password")
        self._slots = asyncio.Semaphore(threads)
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """Return the Argon2id string (PHC form) to store.

        Raises:
            InvalidInput: Empty or not UTF-8. TooLarge: Longer than 1024 bytes.
            Unavailable: Too many at once.
        """
        data = check_password(password)
        async with self.turn():
            return await asyncio.get_running_loop().run_in_executor(self._pool, _hash, data)

    def turn(self) -> "Turn":
        """Wait for a free thread; `verify` needs one, so that checks before it are not outrun."""
        return Turn(self._slots, self)

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether the password belongs to the stored hash; inside a `turn`.

        Args:
            password: What somebody typed.
            stored: The hash; None for an unknown user, which takes as long and is never right.
        """
        try:
            data = check_password(password)
        except InvalidInput:
            data, stored = b"-", None
        loop = asyncio.get_running_loop()
        right = await loop.run_in_executor(self._pool, _verify, data, stored or _UNKNOWN)
        return right and stored is not None

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Turn:
    """A place in the short queue for a thread."""

    def __init__(self, slots: asyncio.Semaphore, passwords: Passwords) -> None:
        self._slots = slots
        self._passwords = passwords

    async def __aenter__(self) -> None:
        if self._passwords._waiting >= MAX_WAITING:
            raise Unavailable(f"{MAX_WAITING} logins are waiting: try again")
        self._passwords._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._passwords._waiting -= 1

    async def __aexit__(self, *_: object) -> None:
        self._slots.release()


# Nobody knows a password for it, and it costs a check what a real hash costs.
_UNKNOWN = (
    f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$"
    "bWl0b3Npcy11bmtub3du$" + base64.b64encode(os.urandom(32)).decode().rstrip("=")
)


def check_password(password: str) -> bytes:
    """Return the bytes of a password that may be set.

    Raises:
        InvalidInput: Empty or not UTF-8. TooLarge: Longer than 1024 bytes.
    """
    try:
        data = password.encode()
    except UnicodeEncodeError:
        raise InvalidInput("the password is not valid UTF-8", field="password") from None
    if len(password) < MIN_CHARS:
        raise InvalidInput("the password is empty: give one", field="password")
    if len(data) > MAX_BYTES:
        raise TooLarge(
            f"the password has {len(data)} bytes, at most {MAX_BYTES} are possible",
            field="password", size=len(data), limit=MAX_BYTES,
        )  # fmt: skip
    return data


def _hash(password: bytes) -> str:
    argon2 = Argon2id(
        salt=os.urandom(16), length=32, iterations=PASSES, lanes=LANES, memory_cost=MEMORY_KIB
    )
    return argon2.derive_phc_encoded(password)


def _verify(password: bytes, stored: str) -> bool:
    try:
        Argon2id.verify_phc_encoded(password, stored)
    except InvalidKey:
        return False
    return True
