"""Settings of the coordinator and of its projector: `[coordinator]`."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from mitosis.config.checks import (
    check_bind,
    check_bucket,
    check_log_level,
    duration_check,
    range_check,
    split_urls,
    url_check,
    urls_check,
)
from mitosis.config.section import Section

SNAPSHOT_EVERY = 20_000  # commits, unless the settings say otherwise
REDIS_KEYS = ("redis_url", "redis_worker_password", "redis_client_password")
_nats_url = urls_check("nats", "tls", "ws", "wss")
_http_url = url_check("http", "https")


class CoordinatorConfig(Section, frozen=True, kw_only=True):
    """What the coordinator and the projector need; the defaults are those of the seed.

    Attributes:
        bind: Where the HTTP endpoint listens (health, metrics, `/connect`); port 0: any free one.
        db_url: Postgres of the read models and of the archive.
        s3_url: S3-compatible store as the services reach it.
        s3_public_url: The same store as clients and workers reach it; unset: `s3_url`.
        s3_access_key, s3_secret_key: The key pair of the store.
        s3_region: Only signs requests; stores of one's own accept any.
        artifacts_bucket, attachments_bucket: Made at the first start.
        nats_url: NATS as the services reach it; of a cluster all servers, separated by commas.
        nats_public_url: NATS as clients and workers reach it, likewise; unset: `nats_url`.
        nats_user, nats_password: The services' account of the NATS configuration.
        nats_system_user, nats_system_password: The system account, for lost connections.
        db_ca: Certificate of the authority that signed the Postgres server's; with it the server
            must use TLS and the name of `db_url`.
        s3_ca: Certificate of the authority that signed the S3 store's; unset: the system's.
        nats_ca: Certificate of the authority that signed the NATS server's; with it the server must
            use TLS.
        tls_cert, tls_key: Certificate and key of the HTTP endpoint; unset: it speaks plain HTTP.
        insecure: Do not check the certificates of NATS and S3: for a trial only.
        replicas: Copies of the event stream in the NATS cluster: 1, 3 or 5.
        admin_user, admin_password: The first administrator, created at the first start. Later
            changes of the password have no effect: see `--reset-admin-password`.
        access_token_private_path, access_token_public_path: The Ed25519 key pair.
        access_token_expires_in: Life of a session.
        shutdown_secret_path: File that gets the secret for `mito client shutdown SECRET`, made anew
            at each start; unset: one in the cache folder.
        heartbeat_timeout: The lease of an attempt: how long a worker may run without contact.
        max_projection_lag: `/ready` says no when the read models are further behind than this.
        snapshot_every: Commits after which the memory is stored again, so that a start need not
            read all history.
        checkpoint_every: Commits after which the platform's key signs all history so far.
        checkpoint_interval: The longest that a commit waits for such a checkpoint.
        projector: Run the projector as a child process.
        redis_url: Accepted and not used: live states travel on NATS.
        redis_worker_password, redis_client_password: Accepted and not used.
        file_log: Write a log file as well.
        log_path: Exact log file; unset with `file_log`: a default one in the cache folder, begun
            anew each day.
        log_level: What is logged to standard error: a level, or `info,mitosis.nats=debug`.
        file_log_level: The same for the log file; unset: as `log_level`.
    """

    SECTION: ClassVar[str] = "coordinator"
    SECRETS: ClassVar[frozenset[str]] = frozenset({
        "s3_secret_key", "nats_password", "nats_system_password", "admin_password",
        "redis_worker_password", "redis_client_password",
    })  # fmt: skip
    URLS: ClassVar[frozenset[str]] = frozenset({
        "db_url", "s3_url", "s3_public_url", "nats_url", "nats_public_url", "redis_url",
    })  # fmt: skip
    CHECKS: ClassVar[dict[str, Callable[[Any], None]]] = {
        "bind": check_bind,
        "db_url": url_check("postgres", "postgresql"),
        "s3_url": _http_url,
        "artifacts_bucket": check_bucket,
        "attachments_bucket": check_bucket,
        "s3_public_url": _http_url,
        "nats_url": _nats_url,
        "nats_public_url": _nats_url,
        "replicas": range_check(1, 5),
        "snapshot_every": range_check(1, 10_000_000),
        "checkpoint_every": range_check(1, 1_000_000),
        "checkpoint_interval": duration_check(0.05, 86_400),
        "log_level": check_log_level,
        "file_log_level": check_log_level,
    }

    bind: str = "127.0.0.1:5000"
    db_url: str = "postgres://mitosis:mitosis@localhost/mitosis"
    s3_url: str = "http://127.0.0.1:9000"
    s3_access_key: str = "mitosis_access"
    s3_secret_key: str = "mitosis_secret"  # noqa: S105  the seed's default
    s3_public_url: str | None = None
    s3_region: str = "us-east-1"
    artifacts_bucket: str = "mitosis-artifacts"
    attachments_bucket: str = "mitosis-attachments"
    nats_url: str = "nats://127.0.0.1:4222"
    nats_public_url: str | None = None
    nats_user: str = "mitosis"
    nats_password: str = "mitosis"  # noqa: S105  in the manner of the seed's defaults
    nats_system_user: str = "mitosis_system"
    nats_system_password: str = "mitosis_system"  # noqa: S105
    nats_ca: Path | None = None
    db_ca: Path | None = None
    s3_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False
    replicas: int = 1
    admin_user: str = "mitosis_admin"
    admin_password: str = "mitosis_admin"  # noqa: S105  the seed's default
    access_token_private_path: Path = Path("private.pem")
    access_token_public_path: Path = Path("public.pem")
    access_token_expires_in: timedelta = timedelta(days=7)
    shutdown_secret_path: Path | None = None
    heartbeat_timeout: timedelta = timedelta(seconds=600)
    max_projection_lag: timedelta = timedelta(seconds=30)
    snapshot_every: int = SNAPSHOT_EVERY
    checkpoint_every: int = 1_000
    checkpoint_interval: timedelta = timedelta(seconds=60)
    projector: bool = True
    redis_url: str | None = None
    redis_worker_password: str | None = None
    redis_client_password: str | None = None
    file_log: bool = False
    log_path: Path | None = None
    log_level: str = "info"
    file_log_level: str | None = None

    @property
    def nats_servers(self) -> list[str]:
        """The addresses in `nats_url`."""
        return split_urls(self.nats_url)

    @property
    def database(self) -> str:
        """`db_url` with `db_ca` in it; what the address itself says of TLS is the stronger."""
        parts = urlsplit(self.db_url)
        if self.db_ca is None or "sslmode=" in parts.query or "sslrootcert=" in parts.query:
            return self.db_url
        wanted = f"sslmode=verify-full&sslrootcert={quote(str(self.db_ca))}"
        return parts._replace(query=f"{parts.query}&{wanted}".lstrip("&")).geturl()

    def warnings(self) -> list[str]:
        """Return a sentence for each setting that does not do what its owner may expect."""
        found = [
            f"{key} is accepted but not used: live states travel on NATS"
            for key in REDIS_KEYS
            if getattr(self, key)
        ]
        if self.insecure:
            found.append(
                "insecure is set: whoever answers at nats_url or s3_url is trusted unseen; name "
                "the authority of their certificates by nats_ca and s3_ca instead"
            )
        return found
