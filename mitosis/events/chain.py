"""The running digest over a whole stream, and the text that a checkpoint of it signs.

The digest after the n-th stored message is SHA-256 over the digest before it (64 hexadecimal
digits; none before the first) and the digest of the message's commit (envelope.digest), both in
ASCII. So it depends on every subject, every payload and their order; two streams with one running
digest are the same stream. Decision: docs/decisions/0031-proof.md.
"""

from hashlib import sha256

START = ""


def extend(chain: str, digest: str) -> str:
    """Return the running digest after one more commit with this digest; lower hex."""
    return sha256((chain + digest).encode("ascii")).hexdigest()


def checkpoint_text(position: int, count: int, chain: str) -> bytes:
    """Return what a checkpoint signs; its beginning keeps it apart from all that the key signs."""
    return f"mitosis.checkpoint.v1\n{position}\n{count}\n{chain}\n".encode("ascii")


def key_id(public_key: bytes) -> str:
    """Return the id of an Ed25519 key: 32 hexadecimal digits of SHA-256 over its 32 raw bytes."""
    return sha256(public_key).hexdigest()[:32]
