"""Connections to Postgres, and what its errors mean. psycopg is imported only in this package."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString, Protocol
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from mitosis.errors import CorruptData, Misconfigured, ViewUnavailable
from mitosis.tls import Place, Trust, why_refused

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Cursor = psycopg.AsyncCursor[tuple[Any, ...]]

CONNECT_TIMEOUT_SECONDS = 5
DEFAULT_PORT = 5432
# A server whose machine has vanished is noticed after about 20 s: also while it owes an answer to
# something sent, when no keepalive is sent and the system would try again for a quarter of an hour.
_KEEPALIVE = {
    "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
}  # fmt: skip

OUT_OF_STEP = "MT001"  # raised by views.advance
_OURS_TO_FIX = (
    psycopg.errors.InvalidPassword,
    psycopg.errors.InvalidAuthorizationSpecification,
    psycopg.errors.InvalidCatalogName,
    psycopg.errors.InsufficientPrivilege,
)
_TABLES_MISSING = (
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
)
_REFUSED_AT_LOGIN = ("password authentication failed", "does not exist", "no pg_hba.conf entry")


class Reader(Protocol):
    """What reads are made with: a connection, or the past as one (past.py)."""

    async def execute(
        self, query: LiteralString, params: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> Cursor:
        """Run a SELECT."""
        ...


class OutOfStep(ViewUnavailable):
    """Another projector has written meanwhile: what this one believed of the tables is old."""

    code = "unavailable.views.out_of_step"


def shown(url: str) -> str:
    """Return the address of a database without its password."""
    try:
        if "://" in url:
            parts = urlsplit(url)
            user, at, host = parts.netloc.rpartition("@")
            netloc = f"{user.partition(':')[0]}{at}{host}"
            query = f"?{parts.query}" if parts.query and "password" not in parts.query else ""
            return f"{parts.scheme}://{netloc}{parts.path}{query}"
        known: dict[str, Any] = dict(conninfo_to_dict(url))
    except (ValueError, psycopg.ProgrammingError):
        return "(unreadable address)"
    known.pop("password", None)
    return make_conninfo("", **known)


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn the driver's errors into ours; every adapter call runs inside.

    Raises:
        ViewUnavailable: The server is away or overloaded; try again later.
        OutOfStep: Another projector has written.
        Misconfigured: Access or schema are not as needed.
        CorruptData: The tables cannot hold what an event says.
    """
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        raise OutOfStep(
            f"another projector writes to {shown(url)}: {_first_line(error)}"
        ) from error
    except psycopg.errors.QueryCanceled as error:
        raise ViewUnavailable(
            f"the read took too long ({_first_line(error)}): ask for less, or send it again"
        ) from error
    except psycopg.errors.LockNotAvailable as error:
        raise ViewUnavailable(
            f"another session holds the read models in {shown(url)} for long "
            f"({_first_line(error)}): end it, or try again later"
        ) from error
    except _OURS_TO_FIX as error:
        raise _access(url, error) from error
    except _TABLES_MISSING as error:
        raise Misconfigured(
            f"the read models in {shown(url)} are not of this version ({_first_line(error)}): "
            "run the migrations"
        ) from error
    except (psycopg.OperationalError, psycopg.InterfaceError, OSError, TimeoutError) as error:
        if any(text in str(error) for text in _REFUSED_AT_LOGIN):
            raise _access(url, error) from error
        raise ViewUnavailable(
            f"Postgres at {shown(url)} does not answer ({_first_line(error)}): start it, or "
            "correct db_url"
        ) from error
    except psycopg.Error as error:
        if error.sqlstate == OUT_OF_STEP:
            raise OutOfStep(f"another projector writes to {shown(url)}") from error
        raise CorruptData(
            f"the read models in {shown(url)} cannot hold what an event says: {_first_line(error)}"
        ) from error


def _access(url: str, error: Exception) -> Misconfigured:
    return Misconfigured(
        f"no access to Postgres at {shown(url)} ({_first_line(error)}): fix db_url"
    )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].strip()


async def connect(url: str, name: str, *, settings: dict[str, str] | None = None) -> Connection:
    """Open a connection in autocommit mode.

    Args:
        url: Address of the database.
        name: Shown by Postgres in its list of sessions.
        settings: Server settings of the session.

    Raises:
        ViewUnavailable: No server answers.
        Misconfigured: The server lets us not in, or the address is malformed.
    """
    wanted = conninfo(url, name, settings)
    with explained(url):
        try:
            return await psycopg.AsyncConnection.connect(
                wanted, autocommit=True, prepare_threshold=2
            )
        except psycopg.OperationalError as error:
            reason = await _why_insecure(error, wanted)
            if reason is None:
                raise
            raise ViewUnavailable(
                f"no secure connection to Postgres at {shown(url)}: {reason}"
            ) from error


async def _why_insecure(error: psycopg.OperationalError, wanted: str) -> str | None:
    """Return why TLS failed, if that is what happened: libpq says no more than that it did."""
    known: dict[str, Any] = dict(conninfo_to_dict(wanted))
    ca = known.get("sslrootcert")
    if ca in {None, "system"} or not any(word in str(error) for word in ("certificate", "SSL")):
        return None
    place = Place(known.get("host") or "", int(known.get("port") or DEFAULT_PORT), "postgres")
    return await asyncio.to_thread(why_refused, place, Trust("db_ca", Path(str(ca))))


def conninfo(url: str, name: str, settings: dict[str, str] | None = None) -> str:
    """Return the address with everything that a connection of ours needs.

    Raises:
        Misconfigured: The address is malformed.
    """
    given = {"timezone": "UTC", **(settings or {})}
    options = " ".join(f"-c {key}={value}" for key, value in given.items())
    try:
        own_options = conninfo_to_dict(url).get("options")
        return make_conninfo(
            url,
            application_name=name,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            options=f"{own_options} {options}" if own_options else options,
            **_KEEPALIVE,
        )
    except psycopg.ProgrammingError as error:
        raise Misconfigured(
            f"db_url cannot be read ({_first_line(error)}): write "
            "postgres://USER:PASSWORD@HOST/DATABASE"
        ) from None


async def fetch_value(connection: Reader, query: LiteralString, *args: Any) -> Any:
    """Return the first column of the first row, None if there is no row."""
    row = await (await connection.execute(query, args)).fetchone()
    return row[0] if row else None
