"""Copies of objects between the store and files of this machine, with the services' keys."""

import hashlib
import os
import secrets
from pathlib import Path
from typing import NamedTuple

from minio import Minio
from minio.error import S3Error

from mitosis.artifacts.s3 import GONE, Bucket

_CHUNK_BYTES = 1 << 20


class Copied(NamedTuple):
    """What was read of an object."""

    size_bytes: int
    sha256: str


async def fetch(bucket: Bucket, object_name: str, path: Path) -> Copied | None:
    """Read an object into a new file (0600, synced); None: there is no such object.

    Raises:
        ObjectsUnavailable: The store does not answer, or broke off.
        OSError: The file cannot be written.
    """
    return await bucket.store.call(lambda client: _fetch(client, bucket.name, object_name, path))


async def put(bucket: Bucket, object_name: str, path: Path) -> None:
    """Store a file as an object; large ones in parts.

    Raises:
        ObjectsUnavailable: The store does not answer.
        OSError: The file cannot be read.
    """
    await bucket.store.call(lambda client: client.fput_object(bucket.name, object_name, str(path)))


def digest_of(path: Path) -> Copied:
    """Return size and checksum of a regular file; links are not followed.

    Raises:
        OSError: It cannot be read, or is a link.
    """
    hashed, size = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hashed.update(chunk)
            size += len(chunk)
    return Copied(size, hashed.hexdigest())


def _fetch(client: Minio, bucket: str, name: str, path: Path) -> Copied | None:
    try:
        response = client.get_object(bucket, name)
    except S3Error as error:
        if error.code in GONE:
            return None
        raise
    hashed, size = hashlib.sha256(), 0
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for chunk in response.stream(_CHUNK_BYTES):
                file.write(chunk)
                hashed.update(chunk)
                size += len(chunk)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
        response.close()
        response.release_conn()
    return Copied(size, hashed.hexdigest())
