"""The S3 store through the minio SDK. Only the coordinator's side has keys and imports this.

The SDK is synchronous: `S3Store` runs it in a bounded pool of threads. URLs are signed without
asking the store, which needs its region; multipart uploads have a file of their own.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import SplitResult, quote, urlsplit

import msgspec
import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from mitosis.artifacts import multipart
from mitosis.artifacts.multipart import OpenUpload, text_of
from mitosis.artifacts.signing import Signer
from mitosis.errors import InvalidInput, Misconfigured, MitosisError, NotFound, ObjectsUnavailable
from mitosis.tls import Place, Trust, why_refused

T = TypeVar("T")

DEFAULT_ARTIFACTS_BUCKET = "mitosis-artifacts"
DEFAULT_ATTACHMENTS_BUCKET = "mitosis-attachments"
DEFAULT_REGION = "mitosis"  # upstream U-083
MAX_LISTED = 100_000

_WRONG_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})
GONE = frozenset({"NoSuchKey", "NoSuchObject"})
_ASK_SECONDS = 300.0  # what a URL of our own must last: it is used at once, or repeated


# The pauses between tries double, from 0.4 seconds on.
FEW_RETRIES = 2
MANY_RETRIES = 6


class S3Settings(msgspec.Struct, frozen=True):
    """Where the store is and who we are there.

    Attributes:
        url: Address that this process uses.
        public_url: Address that clients and workers use; URLs are signed for it.
        region: What the store calls its region; a wrong one makes signatures wrong on AWS.
        url_seconds: How long a presigned URL is valid.
        trust: Whose certificates are believed, for https://.
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
    retries: int = FEW_RETRIES
    trust: Trust = Trust("s3_ca")

    def __repr__(self) -> str:
        return f"S3Settings(url={self.url!r}, public_url={self.public_url!r})"


class StoredObject(msgspec.Struct, frozen=True):
    """One object that the store lists. `modified_at` is the store's clock, UTC."""

    name: str
    size_bytes: int
    modified_at: datetime


def wall_time() -> datetime:
    """Return now, by the clock that the store's is compared with: it signs, and it sweeps.

    A store takes no signature that is 15 minutes off, so a wrong clock sweeps nothing.
    """
    return datetime.now(UTC)


class S3Store:
    """The two buckets. Close it when done.

    Every method but `presign_*` raises:
        ObjectsUnavailable: The store does not answer, or not in the way of S3.
        Misconfigured: It answers, and refuses our keys or our bucket.
    """

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="s3")
        self._http = urllib3.PoolManager(
            maxsize=settings.threads,
            timeout=urllib3.Timeout(connect=settings.connect_seconds, read=settings.read_seconds),
            retries=urllib3.Retry(
                total=settings.retries,
                backoff_factor=0.2,
                status_forcelist=(500, 502, 503, 504),
                allowed_methods=None,  # every call made here may be repeated
                raise_on_status=False,
            ),
            ssl_context=settings.trust.context(),
        )
        self._client = _client(settings, _address("s3_url", settings.url), self._http)
        self._own_signer = _signer(settings, settings.url)
        public = settings.public_url or settings.url
        _address("s3_public_url", public)
        self._signer = _signer(settings, public)

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
        with mapped_errors(self._settings.url, self._settings.trust):
            return work(self._client)

    async def ask(
        self, method: str, path: str, query: Mapping[str, str], body: bytes = b""
    ) -> bytes:
        """Send a request that the SDK has no public call for; return the body of the answer.

        Raises:
            NotFound: No such object or upload.
        """
        url = self._own_signer.presign(method, path, wall_time(), _ASK_SECONDS, query=query)

        def send(_: Minio) -> bytes:
            response = self._http.request(method, url, body=body if method == "POST" else None)
            if response.status >= 300:
                raise refusal_of(response.status, response.data, self._settings.url)
            return response.data

        return await self.call(send)

    @property
    def signer(self) -> Signer:
        """What signs URLs for clients and workers."""
        return self._signer

    @property
    def url_seconds(self) -> float:
        """How long a presigned URL is valid."""
        return self._settings.url_seconds


class Bucket:
    """One bucket of the store; see there for the errors."""

    def __init__(self, store: S3Store, name: str) -> None:
        self._store, self.name = store, name

    @property
    def store(self) -> S3Store:
        """The store that it is in."""
        return self._store

    def presign_put(
        self, object_name: str, size_bytes: int | None = None, *, valid_seconds: float | None = None
    ) -> str:
        """URL for one upload, of exactly so many bytes if that is said. No network. A secret.

        It is good for one object, once: the store refuses to replace what was uploaded by it.
        """
        return self.presign(
            "PUT", object_name, length=size_bytes, only_new=True, valid_seconds=valid_seconds
        )

    def presign_get(
        self, object_name: str, filename: str = "", *, valid_seconds: float | None = None
    ) -> str:
        """URL for downloads; a browser saves them as `filename`. Computed here: no network."""
        query = {"response-content-disposition": _disposition(filename)} if filename else {}
        return self.presign("GET", object_name, query, valid_seconds=valid_seconds)

    def presign(
        self,
        method: str,
        object_name: str,
        query: Mapping[str, str] | None = None,
        *,
        length: int | None = None,
        only_new: bool = False,
        valid_seconds: float | None = None,
    ) -> str:
        """URL for any request on an object, for the address that clients use."""
        seconds = self._store.url_seconds if valid_seconds is None else valid_seconds
        return self._store.signer.presign(
            method, self.path(object_name), wall_time(), seconds,
            query=query, length=length, only_new=only_new,
        )  # fmt: skip

    def path(self, object_name: str = "") -> str:
        """Path of the bucket, or of an object in it."""
        return f"/{self.name}/{object_name}" if object_name else f"/{self.name}"

    def presign_part(self, object_name: str, store_id: str, number: int, size_bytes: int) -> str:
        """URL for one part of an object of this whole size. No network. A secret."""
        query = {"uploadId": store_id, "partNumber": str(number)}
        length = multipart.part_length(size_bytes, number)
        return self.presign("PUT", object_name, query, length=length)

    async def begin_parts(self, object_name: str) -> str:
        """Begin a multipart upload; return the store's id of it."""
        return await multipart.begin(self, object_name)

    async def join_parts(self, object_name: str, store_id: str, size_bytes: int) -> None:
        """Complete a multipart upload; InvalidInput when parts are missing or not as agreed."""
        await multipart.complete(self, object_name, store_id, size_bytes)

    async def drop_parts(self, object_name: str, store_id: str) -> None:
        """Abort a multipart upload; one that is gone is no error."""
        await multipart.abort(self, object_name, store_id)

    async def open_uploads(self) -> list[OpenUpload]:
        """Multipart uploads that were neither completed nor aborted."""
        return await multipart.open_uploads(self)

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


def _disposition(filename: str) -> str:
    """How a browser is told the name of a file; the second form says what the first cannot."""
    plain = "".join(c for c in filename if c.isascii() and c.isprintable() and c not in '"\\')
    exact = "" if plain == filename else f"; filename*=UTF-8''{quote(filename, safe='')}"
    return f'attachment; filename="{plain}"{exact}'


def _size_of(client: Minio, bucket: str, name: str) -> int | None:
    try:
        return client.stat_object(bucket, name).size
    except S3Error as error:
        if error.code in GONE:
            return None
        raise


def _delete(client: Minio, bucket: str, names: list[str]) -> None:
    for error in client.remove_objects(bucket, (DeleteObject(name) for name in names)):
        if error.code not in GONE:
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
def mapped_errors(url: str, trust: Trust | None = None) -> Iterator[None]:
    """The one place where errors of the SDK and of its HTTP library become ours.

    With `trust`, a certificate that is not believed is looked at closely.
    """
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
        insecure = why_insecure(error, url, trust)
        if insecure is not None:
            raise ObjectsUnavailable(
                f"no secure connection to the S3 store at {url}: {insecure}", cause="tls"
            ) from error
        raise ObjectsUnavailable(
            f"no answer from the S3 store at {url} ({_short(error)}): start it, or correct s3_url",
            cause=type(error).__name__,
        ) from error


def why_insecure(error: BaseException, url: str, trust: Trust | None) -> str | None:
    """Return why TLS failed, if that is what happened. Blocks: for threads."""
    below: BaseException | None = error
    while below is not None and not isinstance(below, ssl.SSLError | urllib3.exceptions.SSLError):
        reason = getattr(below, "reason", None)
        below = reason if isinstance(reason, BaseException) else below.__cause__
    if below is None or trust is None:
        return None
    parts = urlsplit(url)
    return why_refused(Place(parts.hostname or "", parts.port or 443), trust)


def _from_s3(error: S3Error, url: str) -> MitosisError:
    return _from_code(error.code or "?", error.message or "", error.bucket_name or "buckets", url)


def refusal_of(status: int, body: bytes, url: str) -> MitosisError:
    """Return our error for an answer of the store that was not asked through the SDK."""
    code = text_of(body, "Code") or f"status {status}"
    if status == 404 and code != "NoSuchBucket":
        return NotFound(f"the S3 store at {url} does not have it ({code})", cause=code)
    return _from_code(code, text_of(body, "Message"), text_of(body, "BucketName") or "buckets", url)


def _from_code(code: str, message: str, bucket: str, url: str) -> MitosisError:
    if code in _WRONG_KEYS:
        setting = "s3_access_key" if code == "InvalidAccessKeyId" else "s3_secret_key"
        return Misconfigured(
            f"the S3 store at {url} refuses the key pair ({code}): check {setting}",
            setting=setting, cause=code,
        )  # fmt: skip
    if code == "AccessDenied":
        return Misconfigured(
            f"the S3 store at {url} denies this operation on {bucket} "
            "(AccessDenied): give the key pair of s3_access_key rights to list, make, read, write "
            "and delete in both buckets, or make the buckets yourself",
            setting="s3_access_key", cause=code,
        )  # fmt: skip
    if code == "NoSuchBucket":
        return ObjectsUnavailable(
            f"the bucket {bucket!r} is not in the S3 store at {url}: restart the "
            "coordinator, which makes it, and look who removed it",
            cause=code,
        )
    return ObjectsUnavailable(f"the S3 store at {url} answered {code}: {message[:200]}", cause=code)


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


def _signer(settings: S3Settings, url: str) -> Signer:
    return Signer(url, settings.access_key, settings.secret_key, settings.region)


def _client(settings: S3Settings, address: SplitResult, http: urllib3.PoolManager) -> Minio:
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
