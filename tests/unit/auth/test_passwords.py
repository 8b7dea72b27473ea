"""Hashing and checking passwords."""

import asyncio

import pytest

from mitosis.errors import InvalidInput, TooLarge, Unavailable
from mitosis.services.auth import passwords as module
from mitosis.services.auth.passwords import Passwords


@pytest.fixture
def passwords():
    passwords = Passwords()
    yield passwords
    passwords.close()


async def test_a_hash_is_argon2id_in_its_usual_form_and_salted(passwords):
    one, two = await passwords.hash("secret"), await passwords.hash("secret")
    assert one != two
    for text in (one, two):
        assert text.startswith("$argon2id$v=19$m=")
        assert "secret" not in text
        assert await passwords.verify("secret", text)
        assert not await passwords.verify("Secret", text)


async def test_an_unknown_user_has_no_password_that_fits(passwords):
    for guess in ("", "secret", "x" * 5_000, "\ud800"):
        assert not await passwords.verify(guess, None)


@pytest.mark.parametrize("stored", ["", "plain", "$argon2id$", "$argon2i$v=19$m=8,t=1,p=1$AA$AA"])
async def test_a_stored_string_that_is_no_hash_fits_nothing(passwords, stored):
    assert not await passwords.verify("secret", stored)


async def test_text_beyond_ascii_and_of_the_longest_size_works(passwords):
    for password in ("пароль 密码 🔑", "x" * 1_024, " "):
        assert await passwords.verify(password, await passwords.hash(password))


async def test_what_cannot_be_a_password_is_refused(passwords):
    with pytest.raises(InvalidInput, match="empty"):
        await passwords.hash("")
    with pytest.raises(InvalidInput, match="UTF-8"):
        await passwords.hash("\ud800")
    with pytest.raises(TooLarge):
        await passwords.hash("é" * 513)


async def test_the_event_loop_goes_on_while_hashes_are_made(passwords):
    """cryptography must free the interpreter, or one login would stop everybody."""
    hashing = asyncio.gather(*(passwords.hash(str(number)) for number in range(4)))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 100


async def test_the_queue_for_a_thread_is_bounded(passwords, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    results = await asyncio.gather(*(passwords.hash("x") for _ in range(8)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, Unavailable)]
    assert len(refused) == 8 - 2 - 3
    assert sum(isinstance(result, str) for result in results) == 5
