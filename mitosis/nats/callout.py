"""The auth callout of NATS: the server asks who may connect, we answer with permissions.

The server sends a request that it has signed; the answer is a user JWT with the permissions,
inside an authorization response, both signed with the issuer key that the server's configuration
names (decisions/0007). Only the protocol is here; who may do what is in services/auth.
"""

import asyncio
import base64
import hashlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mitosis.errors import MitosisError
from mitosis.nats.connection import Connection, Msg, Subscription
from mitosis.nats.nkeys import KeyKind, account_public_key, decode

log = logging.getLogger(__name__)

CALLOUT_SUBJECT = "$SYS.REQ.USER.AUTH"
CALLOUT_QUEUE = "mito-auth"
MAX_DECIDING = 512  # password logins wait for a thread; beyond this the answer is no
TOLD_DIFFERENCE_SECONDS = 60.0  # of clocks: harmless here, and worth a line in the log
TELL_EVERY_SECONDS = 600.0
DOUBT_SECONDS = 2.5  # the server waits for three
LOOK_SECONDS = 0.05
_AUDIENCE = "nats-authorization-request"


class BadRequest(Exception):
    """Not a request that a NATS server has signed."""


class _ServerId(msgspec.Struct):
    id: str = ""
    name: str = ""


class _ClientInfo(msgspec.Struct):
    host: str = ""
    id: int = 0
    kind: str = ""


class _ConnectOptions(msgspec.Struct):
    name: str = ""
    user: str = ""
    password: str = msgspec.field(default="", name="pass")
    auth_token: str = ""
    jwt: str = ""
    nkey: str = ""


class _RequestBody(msgspec.Struct):
    server_id: _ServerId
    user_nkey: str
    client_info: _ClientInfo
    connect_opts: _ConnectOptions
    type: str = ""


class _RequestClaims(msgspec.Struct):
    iss: str
    nats: _RequestBody
    aud: str = ""
    iat: int = 0


class ConnectRequest(msgspec.Struct, frozen=True):
    """Somebody wants to connect.

    Attributes:
        server: Id of the server that asks.
        asked_at: Unix time of the server's clock, by which it will judge the answer's expiry.
        user_nkey: The name that the server gave to this attempt; the answer is bound to it.
        client: Number of the connection on that server.
        kind: `Client`, or something that we never let in.
        host: Where the connection comes from.
        name: What the client calls itself; proves nothing.
        user, password, token: What it presents; empty when absent.
        other: Whether it presents credentials of another kind (a JWT or nkey of its own).
    """

    server: str
    asked_at: int
    user_nkey: str
    client: int
    kind: str
    host: str
    name: str
    user: str
    password: str
    token: str
    other: bool

    def __repr__(self) -> str:
        return f"ConnectRequest(host={self.host!r}, name={self.name!r}, user={self.user!r})"


class Grant(msgspec.Struct, frozen=True):
    """What a connection may do.

    Attributes:
        name: Who it is, as the server shows it: `guest`, `user:<name>`, `worker:<uuid>`.
        publish, subscribe: Subjects allowed; nothing else is.
        expires_at: Unix time, by the server's clock, at which it closes the connection.
    """

    name: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    expires_at: int


def decode_request(data: bytes) -> ConnectRequest:
    """Read and check a request.

    Its time is not checked: an old request gains nothing, since the answer fits only the attempt
    that it names; and a coordinator whose clock is wrong must not shut everybody out.

    Raises:
        BadRequest: Malformed, or not signed by the server that it names.
    """
    try:
        signed, _, signature = data.rpartition(b".")
        claims = msgspec.json.decode(_unpack(signed.partition(b".")[2]), type=_RequestClaims)
        kind, key = decode(claims.iss)
        Ed25519PublicKey.from_public_bytes(key).verify(_unpack(signature), signed)
    except (ValueError, msgspec.MsgspecError, InvalidSignature) as error:
        raise BadRequest(f"not a signed request: {type(error).__name__}") from error
    body = claims.nats
    if kind is not KeyKind.SERVER or claims.iss != body.server_id.id or claims.aud != _AUDIENCE:
        raise BadRequest("not signed by the server that it names")
    options, client = body.connect_opts, body.client_info
    return ConnectRequest(
        server=body.server_id.id,
        asked_at=claims.iat,
        user_nkey=body.user_nkey,
        client=client.id,
        kind=client.kind,
        host=client.host,
        name=options.name,
        user=options.user,
        password=options.password,
        token=options.auth_token,
        other=bool(options.jwt or options.nkey),
    )


class Signer:
    """Makes the two signed forms of an answer; all times in them are by the server's clock."""

    def __init__(self, issuer: Ed25519PrivateKey, account: str) -> None:
        """`account`: name of the NATS account in which users are placed."""
        self._key = issuer
        self._issuer = account_public_key(issuer.public_key().public_bytes_raw())
        self._account = account

    @property
    def issuer(self) -> str:
        """The account nkey that the server's configuration must name."""
        return self._issuer

    def grant(self, request: ConnectRequest, grant: Grant) -> bytes:
        """Return the answer that lets in."""
        user = self._sign(
            {
                "iss": self._issuer,
                "sub": request.user_nkey,
                "aud": self._account,
                "name": grant.name,
                "iat": request.asked_at,
                "exp": grant.expires_at,
                "nats": {
                    "type": "user",
                    "version": 2,
                    "pub": {"allow": list(grant.publish)},
                    "sub": {"allow": list(grant.subscribe)},
                    # nats-server 2.15 applies no limits from a callout's user: -1 is honest.
                    "subs": -1,
                    "data": -1,
                    "payload": -1,
                    "allowed_connection_types": ["STANDARD", "WEBSOCKET"],
                },
            }
        )
        return self._response(request, {"jwt": user.decode()})

    def refusal(self, request: ConnectRequest) -> bytes:
        """Return the answer that shuts out. The reason stays here: the client learns nothing."""
        return self._response(request, {"error": "refused"})

    def _response(self, request: ConnectRequest, outcome: dict[str, str]) -> bytes:
        return self._sign(
            {
                "iss": self._issuer,
                "sub": request.user_nkey,
                "aud": request.server,
                "iat": request.asked_at,
                "exp": request.asked_at + 60,
                "nats": {"type": "authorization_response", "version": 2, **outcome},
            }
        )

    def _sign(self, claims: dict[str, object]) -> bytes:
        digest = hashlib.sha256(msgspec.json.encode(claims)).digest()
        claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
        head = _pack(b'{"typ":"JWT","alg":"ed25519-nkey"}')
        signed = head + b"." + _pack(msgspec.json.encode(claims))
        return signed + b"." + _pack(self._key.sign(signed))


Decide = Callable[[ConnectRequest], Grant | Awaitable[Grant]]


class Responder:
    """Answers the server. Whatever goes wrong, the answer is no, and the responder goes on."""

    def __init__(
        self,
        connection: Connection,
        signer: Signer,
        decide: Decide,
        clock: Callable[[], float],
        is_sure: Callable[[], bool] = lambda: True,
    ) -> None:
        """`decide` returns a Grant, or raises a MitosisError whose message is logged.

        `clock`: Unix time, which is only compared with the server's, for the log. `is_sure`:
        whether what `decide` knows is not out of date; until then nobody is answered.
        """
        self._connection = connection
        self._signer = signer
        self._decide = decide
        self._clock = clock
        self._is_sure = is_sure
        self._told_at = -TELL_EVERY_SECONDS
        self._deciding: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Begin to answer; several responders share the work."""
        self._subscription = await self._connection.subscribe(
            CALLOUT_SUBJECT, self._receive, CALLOUT_QUEUE
        )
        await self._connection.flush()

    async def stop(self) -> None:
        """Stop answering: nobody new gets in from here on."""
        if self._subscription is not None:
            await self._subscription.unsubscribe()
        for task in self._deciding:
            task.cancel()
        await asyncio.gather(*self._deciding, return_exceptions=True)

    def _receive(self, message: Msg) -> None:
        try:
            request = decode_request(message.data)
        except BadRequest as error:
            log.warning("authentication request ignored: %s", error)
            return
        self._compare_clocks(request)
        if self._is_sure():
            self._judge(message.reply, request)
        elif len(self._deciding) < MAX_DECIDING:
            self._in_background(self._when_sure(message.reply, request))

    async def _when_sure(self, reply: str, request: ConnectRequest) -> None:
        """Judge when that is possible; who has rights by then may have none now.

        Without an answer the server takes us for absent, and whoever asks comes back.
        """
        deadline = asyncio.get_running_loop().time() + DOUBT_SECONDS
        while not self._is_sure():
            if asyncio.get_running_loop().time() > deadline:
                log.info("connection not decided: another coordinator may lead")
                return
            await asyncio.sleep(LOOK_SECONDS)
        self._judge(reply, request)

    def _judge(self, reply: str, request: ConnectRequest) -> None:
        try:
            outcome = self._decide(request)
        except Exception as error:  # noqa: BLE001  # any doubt is a no
            self._refuse(reply, request, error)
            return
        if isinstance(outcome, Grant):
            self._send(reply, self._signer.grant(request, outcome))
        elif len(self._deciding) >= MAX_DECIDING:
            if asyncio.iscoroutine(outcome):
                outcome.close()
            self._refuse(reply, request, MitosisError("too many logins at once"))
        else:
            self._in_background(self._finish(reply, request, outcome))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._deciding.add(task)
        task.add_done_callback(self._deciding.discard)

    def _compare_clocks(self, request: ConnectRequest) -> None:
        """Say now and then that the clocks differ: certificates and S3 will mind."""
        difference, now = self._clock() - request.asked_at, asyncio.get_running_loop().time()
        if abs(difference) > TOLD_DIFFERENCE_SECONDS and now - self._told_at > TELL_EVERY_SECONDS:
            self._told_at = now
            log.warning("the clocks of coordinator and NATS server differ by %.0f s", difference)

    async def _finish(self, reply: str, request: ConnectRequest, outcome: Awaitable[Grant]) -> None:
        try:
            grant = await outcome
        except Exception as error:  # noqa: BLE001  # any doubt is a no
            self._refuse(reply, request, error)
        else:
            self._send(reply, self._signer.grant(request, grant))

    def _refuse(self, reply: str, request: ConnectRequest, error: Exception) -> None:
        if isinstance(error, MitosisError):
            log.info("connection refused: %s", error, extra={"host": request.host})
        else:
            log.error("connection refused after a failure", exc_info=error)
        self._send(reply, self._signer.refusal(request))

    def _send(self, reply: str, data: bytes) -> None:
        try:
            self._connection.publish(reply, data)
        except MitosisError as error:
            log.warning("an authentication answer could not be sent: %s", error)


def _pack(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _unpack(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
