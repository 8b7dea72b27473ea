"""Presigned URLs: AWS Signature Version 4 in the query, for any S3 request. Pure.

Written here because a signature must also cover the length of what is uploaded (then the store
itself refuses more bytes than were declared), and the requests of multipart uploads, which the SDK
offers no public calls for. The rules: docs.aws.amazon.com, "Authenticating Requests: Using Query
Parameters"; the test holds the example of that page.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

MAX_EXPIRY_SECONDS = 604_800  # what S3 allows: 7 days
ONLY_NEW = {"if-none-match": "*"}  # a store refuses with 412 what would replace an object


class Signer(msgspec.Struct, frozen=True):
    """Who signs, for which address.

    Attributes:
        url: `http://host:port` as the one who sends the request writes it: the host is signed.
    """

    url: str
    access_key: str
    secret_key: str
    region: str

    def __repr__(self) -> str:
        return f"Signer(url={self.url!r})"

    def presign(
        self,
        method: str,
        path: str,
        at: datetime,
        valid_seconds: float,
        *,
        query: Mapping[str, str] | None = None,
        length: int | None = None,
        only_new: bool = False,
    ) -> str:
        """Return a URL that is good for one kind of request, for a while. A secret while it lives.

        Args:
            method: Of HTTP.
            path: `/bucket/object`, or `/bucket`.
            at: Now, in UTC.
            valid_seconds: Kept between one second and 7 days.
            query: Further parameters of the request.
            length: The body has exactly so many bytes; None: any number.
            only_new: It must not replace an object: the request has the headers of `ONLY_NEW`.
        """
        scheme, _, host = self.url.rstrip("/").partition("://")
        length_header = {} if length is None else {"content-length": str(length)}
        headers = {**length_header, "host": host, **(ONLY_NEW if only_new else {})}  # by name
        stamp = at.strftime("%Y%m%dT%H%M%SZ")
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        expires = min(max(1, round(valid_seconds)), MAX_EXPIRY_SECONDS)
        asked = {
            **(query or {}),
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.access_key}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(expires),
            "X-Amz-SignedHeaders": ";".join(headers),
        }
        path = quote(path, safe="/-_.~")
        pairs = sorted((_escaped(name), _escaped(value)) for name, value in asked.items())
        text = "&".join(f"{name}={value}" for name, value in pairs)
        lines = [method, path, text, *(f"{name}:{value}" for name, value in headers.items())]
        request = "\n".join([*lines, "", ";".join(headers), "UNSIGNED-PAYLOAD"])
        digest = hashlib.sha256(request.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        return f"{scheme}://{host}{path}?{text}&X-Amz-Signature={self._signature(scope, to_sign)}"

    def _signature(self, scope: str, to_sign: str) -> str:
        key = f"AWS4{self.secret_key}".encode()
        for part in [*scope.split("/"), to_sign]:
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key.hex()


def is_only_new(url: str) -> bool:
    """Return whether a URL was signed for an object that is not there yet."""
    signed = parse_qs(urlsplit(url).query).get("X-Amz-SignedHeaders", [""])[0]
    return ONLY_NEW.keys() <= set(signed.split(";"))


def _escaped(text: str) -> str:
    return quote(text, safe="-_.~")
