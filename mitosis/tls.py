"""TLS as every connection of ours does it: named authorities, clear reasons, files that change.

The reasons of the libraries leave out what a person needs (`certificate verify failed` may mean an
unknown authority, another host name or a date). So after a failure the server is asked once more,
and its certificate is looked at.
"""

import contextlib
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mitosis.errors import Misconfigured

if TYPE_CHECKING:  # cost many milliseconds, which no command should pay that does not need them
    import socket
    import ssl

    from cryptography import x509

PROBE_SECONDS = 3.0
SOON = timedelta(days=14)
_GREETING_BYTES = 64 * 1024
_POSTGRES_TLS_REQUEST = struct.pack("!ii", 8, 80_877_103)  # the protocol's SSLRequest

# Codes of OpenSSL's verification, from its manual of X509_STORE_CTX_get_error.
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21, 24, 27}
_OTHER_NAME = {62, 64}


class Place(NamedTuple):
    """A server. `protocol`: what is said before TLS begins: `tls` (nothing), `nats`, `postgres`."""

    host: str
    port: int
    protocol: str = "tls"


class Trust(NamedTuple):
    """Whom we believe.

    Attributes:
        setting: The setting of the authority, for messages.
        ca: File with certificates of authorities; None: those of the system.
        insecure: Believe anybody.
    """

    setting: str
    ca: Path | None = None
    insecure: bool = False

    def context(self) -> "ssl.SSLContext":
        """Return how to check servers.

        Raises:
            Misconfigured: The file holds no certificate, or cannot be read.
        """
        import ssl

        try:
            made = ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            reason = (
                isinstance(error, ssl.SSLError) and "no certificate in PEM form is in it"
            ) or (error.strerror or str(error))
            raise Misconfigured(
                f"{self.setting}: {str(self.ca)!r} cannot be used as a certificate of an "
                f"authority: {reason}",
                setting=self.setting,
            ) from error
        if self.insecure:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made


def why_refused(place: Place, trust: Trust) -> str | None:
    """Ask a server once more, and say why its certificate is not believed. Blocks for seconds.

    Returns:
        The reason with what to do, or None when nothing is wrong (any more).
    """
    import ssl

    try:
        context = trust.context()
        with _open(place) as plain, context.wrap_socket(plain, server_hostname=place.host):
            return None
    except ssl.SSLCertVerificationError as error:
        return _reason(error, place, trust)
    except ssl.SSLError as error:
        return f"TLS cannot be agreed ({error.reason or error})"
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__


def _reason(error: "ssl.SSLCertVerificationError", place: Place, trust: Trust) -> str:
    certificate = peer_certificate(place)
    if certificate is None:
        return error.verify_message
    if error.verify_code == _EXPIRED:
        day = certificate.not_valid_after_utc
        return f"a certificate has expired: the server's is valid until {_shown(day)}; renew it"
    if error.verify_code == _NOT_YET_VALID:
        day = certificate.not_valid_before_utc
        return f"the server's certificate is valid from {_shown(day)} only: look at the clocks"
    if error.verify_code in _OTHER_NAME:
        names = ", ".join(names_of(certificate)) or "no host"
        return (
            f"the server's certificate is for {names}, not for {place.host}: use one of these "
            "names in the address, or a certificate with this one"
        )
    if error.verify_code in _UNKNOWN_AUTHORITY:
        issuer = _name(certificate.issuer)
        return (
            f"the server's certificate is of an unknown authority ({issuer}): name the file with "
            f"its certificate by {trust.setting}"
        )
    return error.verify_message


def peer_certificate(place: Place) -> "x509.Certificate | None":
    """Return the certificate that a server shows, believed or not. Blocks for seconds."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _open(place) as plain, context.wrap_socket(plain, server_hostname=place.host) as tls:
            der = tls.getpeercert(binary_form=True)
    except OSError:
        return None
    from cryptography import x509

    return x509.load_der_x509_certificate(der) if der else None


def names_of(certificate: "x509.Certificate") -> list[str]:
    """Return the hosts that a certificate is for."""
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = map(str, found.get_values_for_type(x509.IPAddress))
    return [*found.get_values_for_type(x509.DNSName), *addresses]


@contextlib.contextmanager
def _open(place: Place) -> "Iterator[socket.socket]":
    import socket

    with socket.create_connection((place.host, place.port), timeout=PROBE_SECONDS) as plain:
        if place.protocol == "nats":
            greeting = b""
            while not greeting.endswith(b"\n") and len(greeting) < _GREETING_BYTES:
                byte = plain.recv(1)  # not one more: TLS begins after the line
                if not byte:
                    raise ConnectionResetError("the server closed the connection")
                greeting += byte
        elif place.protocol == "postgres":
            plain.sendall(_POSTGRES_TLS_REQUEST)
            if plain.recv(1) != b"S":
                raise ConnectionResetError("the server offers no TLS")
        yield plain


class ServerCertificate:
    """Certificate and key of a listener of ours, read anew when the files change.

    Attributes:
        context: For the listener; new connections get the newest certificate.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read the files.

        Raises:
            Misconfigured: They cannot be used, are no pair, or the certificate has expired.
        """
        import ssl

        self._certificate, self._key = certificate, key
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._seen = self._stamp()
        self.expires_at = self._load()

    @property
    def expires_soon(self) -> bool:
        """Whether it should be renewed: within two weeks."""
        return self.expires_at - datetime.now(UTC) < SOON

    def refresh(self) -> bool:
        """Read the files again if they have changed; return whether they had.

        Raises:
            Misconfigured: As at first; the former certificate stays in use.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        self._seen = stamp
        self.expires_at = self._load()
        return True

    def _load(self) -> datetime:
        import ssl

        from cryptography import x509

        try:
            certificate = x509.load_pem_x509_certificate(self._certificate.read_bytes())
        except (OSError, ValueError) as error:
            said = (isinstance(error, OSError) and error.strerror) or "it is no certificate in PEM"
            raise self._unusable("tls_cert", self._certificate, said) from None
        expires_at = certificate.not_valid_after_utc
        if expires_at <= datetime.now(UTC):
            said = f"it expired on {_shown(expires_at)}; renew it"
            raise self._unusable("tls_cert", self._certificate, said)
        try:
            # Checked on a context of its own: a half-loaded pair must not reach the listener.
            trial = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            for context in (trial, self.context):
                context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            said = (
                "it is no unencrypted key in PEM form, or not the one of the certificate in "
                f"{str(self._certificate)!r}"
            )
            if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
                said = error.strerror or said
            raise self._unusable("tls_key", self._key, said) from None
        return expires_at

    def _stamp(self) -> tuple[float, ...]:
        try:
            files = [path.stat() for path in (self._certificate, self._key)]
        except OSError:
            return ()
        return tuple(value for one in files for value in (one.st_mtime, float(one.st_ino)))

    @staticmethod
    def _unusable(setting: str, path: Path, said: str) -> Misconfigured:
        return Misconfigured(f"{setting}: {str(path)!r} cannot be used: {said}", setting=setting)


def _no_password() -> str:
    raise ValueError("encrypted")


def _name(name: "x509.Name") -> str:
    from cryptography.x509.oid import NameOID

    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else name.rfc4514_string() or "without a name"


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
