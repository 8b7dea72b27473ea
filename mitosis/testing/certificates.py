"""Certificates for tests: an authority of one's own, and servers that end TLS before others."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Authority:
    """Signs certificates; `path` is the file with its own."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        certificate = (
            _begin(self._name, self._name, self._key, datetime.now(UTC) - DAY, 365 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(sign=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path = folder / "ca.pem"
        self.path.write_bytes(certificate.public_bytes(Encoding.PEM))

    def issue(
        self,
        *hosts: str,
        file: str = "server",
        begins: datetime | None = None,
        lasts: timedelta = 30 * DAY,
    ) -> tuple[Path, Path]:
        """Write a certificate for hosts (names or addresses) and its key; return both paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [_host(host) for host in hosts]
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            _begin(_name(hosts[0]), self._name, key, begins or datetime.now(UTC) - DAY, lasts)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(authority, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        paths = self._folder / f"{file}.pem", self._folder / f"{file}.key"
        paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        paths[1].chmod(0o600)
        return paths


class Terminator:
    """Ends TLS before a server that has none, as a proxy does in production.

    Attributes:
        context: Load another certificate into it to rotate.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Streams]], *, postgres: bool = False
    ) -> None:
        """`connect` reaches the server; `postgres`: TLS begins after the protocol's request."""
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._connect = connect
        self._postgres = postgres
        self._open: set[asyncio.Task[None]] = set()

    def show(self, certificate: tuple[Path, Path]) -> None:
        """Use this certificate and key from the next connection on."""
        self.context.load_cert_chain(*certificate)

    def drop_all(self) -> None:
        """Cut every connection that passes."""
        for task in self._open:
            task.cancel()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Yield the port on 127.0.0.1."""
        tls = None if self._postgres else self.context
        server = await asyncio.start_server(self._begin, "127.0.0.1", 0, ssl=tls)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            self.drop_all()
            await asyncio.gather(*self._open, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                if self._postgres:
                    await reader.readexactly(8)
                    writer.write(b"S")
                    await writer.drain()
                    await writer.start_tls(self.context)
                there = await self._connect()
                await _pass_on((reader, writer), there)
            finally:
                writer.close()


async def _pass_on(one: Streams, other: Streams) -> None:
    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    await asyncio.gather(copy(one[0], other[1]), copy(other[0], one[1]))


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins: datetime,
    lasts: timedelta,
) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + lasts)
        .add_extension(identifier, critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )
