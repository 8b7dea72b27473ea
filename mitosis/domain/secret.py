"""Secret variables of a task: sealed values, whose key lies outside of the store of events.

    (nothing) --store--> stored

Erasing them destroys the key, and nothing here: docs/decisions/0030-secrets.md.
"""

import re
from collections.abc import Collection, Mapping
from typing import ClassVar

from mitosis.domain.event import Command, Event
from mitosis.domain.limits import check_several, check_text
from mitosis.errors import AlreadyExists, InvalidInput, TooLarge

MAX_SECRETS = 64
MAX_SECRETS_BYTES = 64 * 1024  # all values of a task together
RESERVED_PREFIX = "MITO_"  # of the platform's own variables
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}", re.ASCII)


class SecretsStored(Event, frozen=True):
    """The values of a task's secret variables, which the key of this id opens while it exists.

    `sealed`: in base64, the nonce and what AES-256-GCM made of them.
    """

    TOPIC: ClassVar[str] = "secret.stored@1"
    WITHHELD: ClassVar[tuple[str, ...]] = ("sealed",)
    secret: str
    group: str
    task: str
    names: tuple[str, ...]
    sealed: str


class Secret(Command, frozen=True):
    """What is known of a sealing; never changes."""

    secret: str
    group: str
    task: str
    names: tuple[str, ...]
    sealed: str


def evolve(state: Secret | None, event: Event) -> Secret:
    """Apply a fact. Total: never raises for an event that `decide` made."""
    match event:
        case SecretsStored(secret, group, task, names, sealed):
            return Secret(secret, group, task, names, sealed)
        case _ if state is None:
            raise AssertionError(f"{event.TOPIC} before the secrets were stored")
        case _:
            return state


class StoreSecrets(Command, frozen=True):
    """Store the sealed values of a task's secret variables, under an id that is new."""

    secret: str
    group: str
    task: str
    names: tuple[str, ...]
    sealed: str


def decide(state: Secret | None, command: Command) -> list[Event]:
    """Return what the command makes true; nothing for a repeat.

    Raises:
        Rejection: A rule says no.
    """
    match command:
        case StoreSecrets(secret, group, task, names, sealed):
            stored = SecretsStored(secret, group, task, check_secret_names(names), sealed)
            if state is None:
                return [stored]
            if state == evolve(None, stored):
                return []
            raise AlreadyExists(f"there are other secrets under the id {secret}")
        case _:
            raise AssertionError(f"no rule for {type(command).__name__}")


def check_secret_names(names: Collection[str], env: Collection[str] = ()) -> tuple[str, ...]:
    """Return the names of secret variables sorted.

    Args:
        names: As given.
        env: Names of the other variables of the task.

    Raises:
        InvalidInput: No name of a variable, one of the platform's own, or one that is in `env`.
        TooLarge: More than 64.
    """
    found = sorted(check_several(names, "secret variables"))
    if len(found) > MAX_SECRETS:
        raise TooLarge(
            f"{len(found)} secret variables, at most {MAX_SECRETS} are possible",
            field="secret_env", size=len(found), limit=MAX_SECRETS,
        )  # fmt: skip
    for name in found:
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                f"{name[:40]!r} cannot name a secret variable: letters, digits and _, and no digit "
                "first",
                field="secret_env",
            )
        if name.startswith(RESERVED_PREFIX):
            raise InvalidInput(
                f"{name[:40]} is one of the platform's own variables: give the secret another name",
                field="secret_env",
            )
        if name in env:
            raise InvalidInput(
                f"{name[:40]} is given both as a variable and as a secret one: leave one out",
                field="secret_env",
            )
    if len(set(found)) < len(found):
        raise InvalidInput("a secret variable is named twice", field="secret_env")
    return tuple(found)


def check_secrets(values: Mapping[str, str], env: Collection[str] = ()) -> None:
    """Check secret variables; no message ever holds a value.

    Raises:
        InvalidInput: A name that cannot be, an empty value, a NUL byte, no UTF-8.
        TooLarge: Too many, or more than 64 KiB of values.
    """
    check_secret_names(tuple(values), env)
    size = 0
    for name, value in values.items():
        if not value:
            raise InvalidInput(f"the secret variable {name} is empty", field="secret_env")
        check_text(value, f"the secret variable {name}", MAX_SECRETS_BYTES)
        size += len(value.encode())
    if size > MAX_SECRETS_BYTES:
        raise TooLarge(
            f"the secret variables have {size} bytes, at most {MAX_SECRETS_BYTES} are possible: "
            "put a large secret into a file that the worker has",
            field="secret_env", size=size, limit=MAX_SECRETS_BYTES,
        )  # fmt: skip
