"""AWS Signature Version 4 as a pure function (docs.aws.amazon.com, "Create a signed AWS API request").

Only the notification queue needs it: the Selling Partner API itself takes a login token.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """The derived key of one day (YYYYMMDD), region and service."""
    return _mac(_mac(_mac(_mac(b"AWS4" + secret.encode(), day), region), service), "aws4_request")


def canonical_request(method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    """(canonical request, signed header names). `headers` must hold all headers to be signed."""
    parts = urlsplit(url)
    path = quote(parts.path or "/", safe="/-_.~%")
    pairs = sorted(
        (quote(k, safe="-_.~"), quote(v, safe="-_.~"))
        for k, v in parse_qsl(parts.query, keep_blank_values=True)
    )
    query = "&".join(f"{name}={value}" for name, value in pairs)
    lowered = sorted((name.lower(), " ".join(value.split())) for name, value in headers.items())
    names = ";".join(name for name, _ in lowered)
    lines = "".join(f"{name}:{value}\n" for name, value in lowered)
    return "\n".join([method.upper(), path, query, lines, names, _hash(body)]), names


def signed_headers(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    access_key: str,
    secret_key: str,
    region: str,
    service: str,
    at: dt.datetime,
    session_token: str = "",
) -> dict[str, str]:
    """The headers to send: those given, the host, the time and the Authorization. `at` is aware."""
    stamp = at.astimezone(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    day = stamp[:8]
    signed = {**headers, "Host": urlsplit(url).netloc, "X-Amz-Date": stamp}
    if session_token:
        signed["X-Amz-Security-Token"] = session_token
    request, names = canonical_request(method, url, signed, body)
    scope = f"{day}/{region}/{service}/aws4_request"
    to_sign = "\n".join([ALGORITHM, stamp, scope, _hash(request.encode())])
    signature = hmac.new(
        signing_key(secret_key, day, region, service), to_sign.encode(), hashlib.sha256
    ).hexdigest()
    signed["Authorization"] = (
        f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return signed
