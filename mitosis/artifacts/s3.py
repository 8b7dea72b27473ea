"""The S3 store through the minio SDK. Only the coordinator's side has keys and imports this.

The SDK is synchronous: `S3Store` runs it in a bounded pool of threads. URLs are signed here
without asking the store, which needs its region.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

import msgspec
import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from mitosis.errors import InvalidInput, Misconfigured, MitosisError, ObjectsUnavailable

T = TypeVar("T")

DEFAULT_ARTIFACTS_BUCKET = "mitosis-artifacts"
DEFAULT_ATTACHMENTS_BUCKET = "mitosis-attachments"
DEFAULT_REGION = "mitosis"  # upstream U-083
MAX_LISTED = 100_000

_WRONG_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})
_GONE = frozenset({"NoSuchKey", "NoSuchObject"})


class S3Settings(msgspec.Struct, frozen=True):
    """Where the store is and who we are there.

    Attributes:
        url: Address that this process uses.
        public_url: Address that clients and workers use; URLs are signed for it.
        region: What the store calls its region; a wrong one makes signatures wrong on AWS.
        url_seconds: How long a presigned URL is valid.
    """

    url: str
    access_key: str
    secret_key: str
    public_url: str = ""
    region: str = DEFAULT_REGION
    artifacts_bucket: str = DEFAULT_ARTIFACTS_BUCKET
    attachments_bucket: str = DEFAULT_ATTACHMENTS_BUCKET
    url_seconds: float = 3600.0  # upstream U-107
    threads: int = 8
    connect_seconds: float = 5.0
    read_seconds: float = 20.0
    retries: int = 2

    def __repr__(self) -> str:
        return f"S3Settings(url={self.url!r}, public_url={self.public_url!r})"


class StoredObject(msgspec.Struct, frozen=True):
    """One object that the store lists. `modified_at` is the store's clock, UTC."""

    name: str
    size_bytes: int
    modified_at: datetime


class S3Store:
    """The two buckets. Close it when done.

    Every method but `presign_*` raises:
        ObjectsUnavailable: The store does not answer, or not in the way of S3.
        Misconfigured: It answers, and refuses our keys or our bucket.
    """

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="s3")
        http = urllib3.PoolManager(
            maxsize=settings.threads,
            timeout=urllib3.Timeout(connect=settings.connect_seconds, read=settings.read_seconds),
            retries=urllib3.Retry(
                total=settings.retries,
                backoff_factor=0.2,
                status_forcelist=(500, 502, 503, 504),
                allowed_methods=None,  # every call made here may be repeated
                raise_on_status=False,
            ),
            ssl_context=ssl.create_default_context(),
        )
        self._client = _client(settings, _address("s3_url", settings.url), http)
        public = settings.public_url or settings.url
        self._signer = _client(settings, _address("s3_public_url", public), None)

    @property
    def artifacts(self) -> "Bucket":
        """Outputs of tasks."""
        return Bucket(self, self._settings.artifacts_bucket)

    @property
    def attachments(self) -> "Bucket":
        """Files of groups."""
        return Bucket(self, self._settings.attachments_bucket)

    async def check(self) -> None:
        """Make sure that the store answers, knows our keys and has both buckets (made if not)."""
        await self.call(self._check)

    async def close(self) -> None:
        """Wait for what is under way, then end the threads."""
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)

    def _check(self, client: Minio) -> None:
        held = {bucket.name for bucket in client.list_buckets()}
        settings = self._settings
        for name in (settings.artifacts_bucket, settings.attachments_bucket):
            if name in held:
                continue
            try:
                client.make_bucket(name, settings.region)
            except S3Error as error:
                # Another coordinator made it a moment ago.
                if error.code != "BucketAlreadyOwnedByYou":
                    raise

    async def call(self, work: Callable[[Minio], T]) -> T:
        """Run one piece of work with the SDK in the pool, errors mapped."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._mapped, work)

    def _mapped(self, work: Callable[[Minio], T]) -> T:
        with mapped_errors(self._settings.url):
            return work(self._client)

    @property
    def signer(self) -> Minio:
        """A client for the public address that only signs."""
        return self._signer

    @property
    def url_seconds(self) -> float:
        """How long a presigned URL is valid."""
        return self._settings.url_seconds


class Bucket:
    """One bucket of the store; see there for the errors."""

    def __init__(self, store: S3Store, name: str) -> None:
        self._store, self.name = store, name

    def presign_put(self, object_name: str, *, valid_seconds: float | None = None) -> str:
        """URL for one upload. Computed here: no network. A secret while it lives."""
        return self._store.signer.presigned_put_object(
            self.name, object_name, self._expiry(valid_seconds)
        )

    def presign_get(
        self, object_name: str, filename: str = "", *, valid_seconds: float | None = None
    ) -> str:
        """URL for downloads; a browser saves them as `filename`. Computed here: no network."""
        shown = "".join(c for c in filename if c.isprintable() and c not in '"\\')
        headers: dict[str, str | list[str] | tuple[str]] = {
            "response-content-disposition": f'attachment; filename="{shown}"'
        }
        return self._store.signer.presigned_get_object(
            self.name,
            object_name,
            self._expiry(valid_seconds),
            response_headers=headers if shown else None,
        )

    def _expiry(self, seconds: float | None) -> timedelta:
        wanted = self._store.url_seconds if seconds is None else seconds
        return timedelta(seconds=min(max(1, round(wanted)), 604_800))  # what S3 allows: 7 days

    async def size_of(self, object_name: str) -> int | None:
        """Bytes of an object, as the store says; None when it does not exist."""
        return await self._store.call(lambda client: _size_of(client, self.name, object_name))

    async def delete(self, object_names: Iterable[str]) -> None:
        """Delete objects; those that do not exist are no error."""
        names = list(object_names)
        if names:
            await self._store.call(lambda client: _delete(client, self.name, names))

    async def list_prefix(self, prefix: str = "", *, start_after: str = "") -> list[StoredObject]:
        """Objects whose names begin with `prefix`, sorted, at most `MAX_LISTED`.

        A full answer means that there may be more, after its last name.
        """
        return await self._store.call(
            lambda client: _list(client, self.name, prefix, start_after or None)
        )


def _size_of(client: Minio, bucket: str, name: str) -> int | None:
    try:
        return client.stat_object(bucket, name).size
    except S3Error as error:
        if error.code in _GONE:
            return None
        raise


def _delete(client: Minio, bucket: str, names: list[str]) -> None:
    for error in client.remove_objects(bucket, (DeleteObject(name) for name in names)):
        if error.code not in _GONE:
            raise ObjectsUnavailable(
                f"the S3 store did not delete {error.name!r}: {error.code} {error.message}"
            )


def _list(client: Minio, bucket: str, prefix: str, start_after: str | None) -> list[StoredObject]:
    found: list[StoredObject] = []
    for item in client.list_objects(
        bucket, prefix=prefix or None, recursive=True, start_after=start_after
    ):
        if item.last_modified is None or item.size is None:
            continue  # a common prefix, not an object
        found.append(StoredObject(item.object_name or "", item.size, item.last_modified))
        if len(found) == MAX_LISTED:
            break
    return found


@contextlib.contextmanager
def mapped_errors(url: str) -> Iterator[None]:
    """The one place where errors of the SDK and of its HTTP library become ours."""
    try:
        yield
    except S3Error as error:
        raise _from_s3(error, url) from error
    except ServerError as error:
        raise ObjectsUnavailable(
            f"the S3 store at {url} answered with status {error.status_code}", cause="ServerError"
        ) from error
    except InvalidResponseError as error:
        raise ObjectsUnavailable(
            f"what answers at {url} (s3_url) does not speak S3, or a proxy is before it: "
            f"{str(error)[:200]}",
            cause="InvalidResponseError",
        ) from error
    except (MinioException, urllib3.exceptions.HTTPError) as error:
        raise ObjectsUnavailable(
            f"no answer from the S3 store at {url} ({_short(error)}): start it, or correct s3_url",
            cause=type(error).__name__,
        ) from error


def _from_s3(error: S3Error, url: str) -> MitosisError:
    code = error.code or "?"
    if code in _WRONG_KEYS:
        setting = "s3_access_key" if code == "InvalidAccessKeyId" else "s3_secret_key"
        return Misconfigured(
            f"the S3 store at {url} refuses the key pair ({code}): check {setting}",
            setting=setting, cause=code,
        )  # fmt: skip
    if code == "AccessDenied":
        return Misconfigured(
            f"the S3 store at {url} denies this operation on {error.bucket_name or 'buckets'} "
            "(AccessDenied): give the key pair of s3_access_key rights to list, make, read, write "
            "and delete in both buckets, or make the buckets yourself",
            setting="s3_access_key", cause=code,
        )  # fmt: skip
    if code == "NoSuchBucket":
        return ObjectsUnavailable(
            f"the bucket {error.bucket_name!r} is not in the S3 store at {url}: restart the "
            "coordinator, which makes it, and look who removed it",
            cause=code,
        )
    return ObjectsUnavailable(
        f"the S3 store at {url} answered {code}: {(error.message or '')[:200]}", cause=code
    )


def _short(error: Exception) -> str:
    cause: BaseException = error
    while (below := getattr(cause, "reason", None) or cause.__cause__) is not None:
        if not isinstance(below, BaseException):
            break
        cause = below
    text = (isinstance(cause, OSError) and cause.strerror) or str(cause)
    return (text or type(cause).__name__)[:200]


def _address(setting: str, url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path.strip("/"):
        raise Misconfigured(
            f"{setting} is {url!r}: write it like http://127.0.0.1:9000, without a path",
            setting=setting,
        )
    if parts.username is not None:
        raise Misconfigured(
            f"{setting} holds a user name: give keys by s3_access_key and s3_secret_key",
            setting=setting,
        )
    return parts


def _client(settings: S3Settings, address: SplitResult, http: urllib3.PoolManager | None) -> Minio:
    try:
        return Minio(
            address.netloc,
            access_key=settings.access_key,
            secret_key=settings.secret_key,
            secure=address.scheme == "https",
            region=settings.region,
            http_client=http,
        )
    except ValueError as error:
        raise InvalidInput(f"the S3 address {address.netloc!r} cannot be used: {error}") from error
