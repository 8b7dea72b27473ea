"""Key files of every kind: what starts, and what a person is told of the rest (R-23)."""

import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mitosis.errors import Misconfigured
from mitosis.services.auth.key_files import load_keys
from mitosis.services.auth.tokens import TokenKeys

pytestmark = pytest.mark.parity("R-23")

KEY = Ed25519PrivateKey.generate()


def private_pem(key: Any = KEY, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def public_pem(key: Any = KEY) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
GOOD = {
    "as openssl writes it": private_pem(),
    "CR LF": private_pem().replace(b"\n", b"\r\n"),
    "a byte order mark": b"\xef\xbb\xbf" + private_pem(),
    "a comment": b"# the key of the laboratory\n" + private_pem() + b"\nend of file\n",
    "no last line end": private_pem().rstrip(),
    "all on one line": private_pem().replace(b"\n", b""),
    "written-out line ends": private_pem().replace(b"\n", b"\\n"),
}
BAD = {
    "an EC key (secp256r1)": private_pem(P256),
    "an EC key": private_pem(P256, PrivateFormat.TraditionalOpenSSL),
    "an RSA key": private_pem(RSA),
    "an X25519 key": private_pem(x25519.X25519PrivateKey.generate()),
    "an Ed448 key": private_pem(ed448.Ed448PrivateKey.generate()),
    "a key of ssh-keygen": private_pem(KEY, PrivateFormat.OpenSSH),
    "an encrypted key": KEY.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    ),
    "a key in DER form": KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    "a public key": public_pem(),
    "labelled 'ED25519 PRIVATE KEY'": private_pem().replace(b" PRIVATE", b" ED25519 PRIVATE"),
    "empty": b"",
    "no key in PEM form": b"not a key\n",
    "damaged": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
}  # fmt: skip


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(private_pem())
    public.write_bytes(public_pem())
    return private, public


def refused(pair: tuple[Path, Path], *words: str) -> str:
    with pytest.raises(Misconfigured) as caught:
        load_keys(*pair)
    for word in words:
        assert word in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD)
def test_a_good_key_starts_however_it_was_saved(pair: tuple[Path, Path], content: bytes) -> None:
    pair[0].write_bytes(content)
    keys = load_keys(*pair)
    token = keys.issue("user", "alice", sid="s", issued_at=1, exp=2_000_000_000)
    assert keys.verify(token, 1.0).sub == "alice"
    assert keys.private_pem == private_pem()


@pytest.mark.parametrize(("what", "content"), BAD.items(), ids=BAD)
def test_what_is_no_such_key_is_called_by_its_name(
    pair: tuple[Path, Path], what: str, content: bytes
) -> None:
    pair[0].write_bytes(content)
    said = refused(
        pair, str(pair[0]), what, "unencrypted Ed25519 private key in PEM form is needed",
        "openssl genpkey -algorithm ed25519 -out ",
    )  # fmt: skip
    # Whoever follows the advice must not lose what lies there.
    written = Path(said.split()[-1])
    assert written.parent == pair[0].parent
    assert (written == pair[0]) == (content == b"")
    secret = base64.b64encode(KEY.private_bytes_raw()).decode()
    assert secret[:10] not in said


def test_the_public_half_is_tested_as_the_private_one(pair: tuple[Path, Path]) -> None:
    for content, what in (
        (public_pem(P256), "an EC key (secp256r1)"),
        (public_pem(RSA), "an RSA key"),
        (private_pem(), "the private key"),
        (b"\n", "empty"),
    ):
        pair[1].write_bytes(content)
        refused(pair, str(pair[1]), what, f"openssl pkey -in {pair[0]} -pubout -out {pair[1]}")


def test_keys_of_two_pairs_are_refused(pair: tuple[Path, Path]) -> None:
    pair[1].write_bytes(public_pem(Ed25519PrivateKey.generate()))
    refused(pair, "of another pair", str(pair[0]), str(pair[1]), "openssl pkey")


def test_a_missing_file_and_a_folder_are_named_with_the_command(pair: tuple[Path, Path]) -> None:
    pair[0].unlink()
    refused(pair, f"there is no file '{pair[0]}'", "openssl genpkey -algorithm ed25519 -out")
    pair[0].mkdir()
    refused(pair, "a folder", "openssl genpkey")


@pytest.mark.parametrize("half", [0, 1])
def test_a_file_that_may_not_be_read_is_named(
    pair: tuple[Path, Path], half: int, tmp_path: Path
) -> None:
    pair[half].unlink()
    pair[half].symlink_to(pair[half])  # a loop: nobody can read it, not even root
    refused(pair, str(pair[half]), "cannot be read")


def test_the_commands_in_the_message_make_a_pair_that_loads(tmp_path: Path) -> None:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    said = refused((private, public))
    subprocess.run(said.partition("make it: ")[2].split(), check=True)
    said = refused((private, public))
    subprocess.run(said.partition("make it: ")[2].split(), check=True)
    assert isinstance(load_keys(private, public), TokenKeys)
