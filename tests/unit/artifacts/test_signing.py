from datetime import UTC, datetime

from mitosis.artifacts.signing import Signer

AT = datetime(2013, 5, 24, tzinfo=UTC)
# The example of docs.aws.amazon.com, "Authenticating Requests: Using Query Parameters".
EXAMPLE = Signer(
    "https://examplebucket.s3.amazonaws.com",
    "AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "us-east-1",
)


def test_a_url_is_signed_as_the_documents_of_aws_show_it() -> None:
    assert EXAMPLE.presign("GET", "/test.txt", AT, 86_400) == (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_a_length_is_a_part_of_what_is_signed_and_expiry_has_bounds() -> None:
    ten, eleven = (EXAMPLE.presign("PUT", "/x", AT, 1e9, length=n) for n in (10, 11))
    assert "X-Amz-SignedHeaders=content-length%3Bhost" in ten
    assert "X-Amz-Expires=604800" in ten
    assert ten.rpartition("=")[2] != eleven.rpartition("=")[2]
    assert "X-Amz-Expires=1&" in EXAMPLE.presign("PUT", "/x", AT, 0)


def test_keys_are_never_shown() -> None:
    assert "EXAMPLE" not in repr(EXAMPLE)
