"""The one door out: every request to another system goes through here.

Order of checks: allow-list (or the guard for addresses that users typed in), OMS_HOST_MAP, circuit breaker, rate
budget, then the request itself with verified TLS, no redirects, a deadline and a limit on the answer. Each call is
journalled with secrets and personal data masked. Sync and async share the same decisions.
"""

from __future__ import annotations

import asyncio
import email.utils
import json as jsonlib
import logging
import os
import ssl
import threading
import time
import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from django.db import connection

from oms.core import egress, limits, metrics
from oms.core.clock import now
from oms.core.db import in_db
from oms.core.limits import DEFAULT_RATE, Rate
from oms.core.limits import reset_breaker as reset_breaker
from oms.core.masking import excerpt, mask_headers, mask_text
from oms.core.models import OutboundCall

log = logging.getLogger("lading.http")

MAX_ANSWER = 5 * 1024 * 1024
MAX_USER_ANSWER = 1024 * 1024
LONGEST_RETRY_AFTER = limits.LONGEST_PAUSE.total_seconds()


class Kind(StrEnum):
    """What a failure means for the caller."""

    AUTH = "AUTH"  # credentials refused: refresh them or ask a person
    THROTTLED = "THROTTLED"  # come back after retry_after; nothing was done
    TRANSIENT = "TRANSIENT"  # repeat later, it is safe
    REJECTED = "REJECTED"  # a definite no to this request; repeating it changes nothing
    TIMEOUT_AFTER_SEND = "TIMEOUT_AFTER_SEND"  # outcome unknown and not safe to repeat: find out first
    BREAKER_OPEN = "BREAKER_OPEN"  # not sent: the other side is down or refuses us
    REFUSED = "REFUSED"  # not sent: we do not allow this address


@dataclass(frozen=True)
class HttpRequest:
    """One request. `account_key` names whose breaker, budget and journal it belongs to, such as "shopify:12".

    `allowed_hosts` are names in code ("api.ebay.com", "*.myshopify.com"); an address that a user typed in has
    `user_url=True` instead. `idempotent` says that sending it twice does no harm (GET and HEAD always are).
    `timeout` in seconds for connect, and for each wait for bytes; the whole call ends after twice that.
    `bucket` is the endpoint class within the account's budget, `rate` its declared limit, `cost` in tokens;
    `max_wait` is how many seconds to wait for a token before giving up as THROTTLED. `budget_headers` names the
    answer's headers (lower case) that tell how many calls are left and when there are more (ms since 1970).
    """

    account_key: str
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] | Sequence[tuple[str, Any]] | None = None
    json: Any = None
    content: bytes | str | None = None
    data: Mapping[str, Any] | None = None
    timeout: float = 10.0
    idempotent: bool = False
    allowed_hosts: Collection[str] = ()
    user_url: bool = False
    bucket: str = ""
    rate: Rate = DEFAULT_RATE
    cost: float = 1.0
    max_wait: float = 5.0
    budget_headers: tuple[str, str] | None = None
    max_bytes: int = MAX_ANSWER

    @property
    def safe_to_repeat(self) -> bool:
        return self.idempotent or self.method.upper() in ("GET", "HEAD", "OPTIONS")

    @property
    def bucket_key(self) -> str:
        return f"{self.account_key}/{self.bucket}" if self.bucket else self.account_key


@dataclass(frozen=True)
class HttpAnswer:
    """A complete answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    ms: int
    safe_to_repeat: bool = True

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """Parsed JSON with exact numbers (Decimal). Raises `HttpFailure` when it is none."""
        try:
            return jsonlib.loads(self.content, parse_float=Decimal)
        except ValueError as error:
            kind = Kind.TRANSIENT if self.safe_to_repeat else Kind.TIMEOUT_AFTER_SEND
            raise HttpFailure(
                kind, f"The answer ({self.status}) is not JSON: {excerpt(self.content, 120)}", self
            ) from error


class HttpFailure(Exception):
    """A request without a good answer. `kind` says what to do, `retry_after` (seconds) when."""

    def __init__(
        self, kind: Kind, message: str, answer: HttpAnswer | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.answer = answer
        self.retry_after = retry_after

    @property
    def status(self) -> int | None:
        return self.answer.status if self.answer else None


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, given in seconds or as a date; at most 15 minutes, None when absent."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (email.utils.parsedate_to_datetime(text) - now()).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER) if seconds == seconds else None


def _refill_wait(request: HttpRequest, headers: Mapping[str, str]) -> float | None:
    """Seconds until the other side's own budget is filled again; None when it does not say."""
    if request.budget_headers is None:
        return None
    try:
        seconds = int(headers.get(request.budget_headers[1], "")) / 1000 - now().timestamp()
    except ValueError:
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def _used_up(request: HttpRequest, headers: Mapping[str, str]) -> bool:
    """Was this the last call that the other side's budget allows for now?"""
    return request.budget_headers is not None and headers.get(request.budget_headers[0], "").strip() == "0"


def classify(request: HttpRequest, answer: HttpAnswer) -> HttpFailure | None:
    """What a status means; None for 2xx."""
    status = answer.status
    if 200 <= status < 300:
        return None
    words = f"{urlsplit(request.url).hostname} answered {status}: {excerpt(answer.content, 200) or 'no text'}"
    wait = retry_after_of(answer.headers)
    if wait is None and status == 429:
        wait = _refill_wait(request, answer.headers)
    if status in (401, 403):
        return HttpFailure(Kind.AUTH, words, answer)
    if status == 429 or (status == 503 and wait is not None):
        return HttpFailure(Kind.THROTTLED, words, answer, wait)
    if status == 408 or status >= 500:
        return HttpFailure(_lost(request), words, answer, wait)
    return HttpFailure(Kind.REJECTED, words, answer)


def _lost(request: HttpRequest) -> Kind:
    return Kind.TRANSIENT if request.safe_to_repeat else Kind.TIMEOUT_AFTER_SEND


@dataclass(frozen=True)
class _Prepared:
    url: str
    host: str  # as the caller named it
    pool: str  # which keep-alive pool serves it
    headers: dict[str, str]
    content: bytes
    extensions: dict[str, Any]
    max_bytes: int


class HttpDoor:
    """Keeps connections alive per host; safe to share between threads and event loops, and across a fork."""

    def __init__(
        self,
        *,
        transport: httpx.BaseTransport | None = None,
        async_transport: httpx.AsyncBaseTransport | None = None,
        resolver: egress.Resolver = egress.resolve,
    ) -> None:
        self._transport, self._async_transport, self._resolver = transport, async_transport, resolver
        self._lock = threading.Lock()
        self._fresh()

    def _fresh(self) -> None:
        self._pid = os.getpid()
        self._tls: ssl.SSLContext | None = None
        self._clients: dict[str, httpx.Client] = {}
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, httpx.AsyncClient]]
        self._loops = weakref.WeakKeyDictionary()
        self._journal: list[OutboundCall] = []
        self._flusher: asyncio.Task[None] | None = None

    # --- public ------------------------------------------------------------------------------------

    def call(self, request: HttpRequest) -> HttpAnswer:
        """Send and wait. Returns a 2xx answer; raises `HttpFailure` for everything else."""
        if connection.in_atomic_block:
            log.debug("call inside a transaction", extra={"url": mask_text(request.url)})
        prepared = self._prepare(request)
        stopped = limits.may_call(request.account_key)
        if stopped:
            raise _breaker_open(request, stopped)
        wait = limits.take(request.bucket_key, request.cost, request.rate)
        deadline = time.monotonic() + request.max_wait
        while wait:
            if time.monotonic() + wait > deadline:
                raise _no_token(request, wait)
            time.sleep(wait)
            wait = limits.take(request.bucket_key, request.cost, request.rate)
        started = time.monotonic()
        try:
            answer = self._send(request, prepared, started)
            failure = classify(request, answer)
        except httpx.HTTPError as error:
            answer, failure = None, self._broken(request, error)
        except HttpFailure as error:
            answer, failure = error.answer, error
        row = _row(request, prepared, answer, failure, started)
        self._learn(request, failure)
        row.save(force_insert=True)
        if failure is not None:
            raise failure
        assert answer is not None
        if _used_up(request, answer.headers):
            limits.hint(request.bucket_key, remaining=0)
        return answer

    async def acall(self, request: HttpRequest) -> HttpAnswer:
        """As `call`, for the event loop. The database is asked only when this process's copies are stale."""
        prepared = await self._aprepare(request)
        if not limits.open_cached(request.account_key):
            stopped = await in_db(limits.may_call, request.account_key)
            if stopped:
                raise _breaker_open(request, stopped)
        deadline = time.monotonic() + request.max_wait
        while not limits.take_cached(request.bucket_key, request.cost):
            wait = await in_db(limits.take, request.bucket_key, request.cost, request.rate, lot=True)
            if not wait:
                break
            if time.monotonic() + wait > deadline:
                raise _no_token(request, wait)
            await asyncio.sleep(wait)
        started = time.monotonic()
        try:
            async with asyncio.timeout(request.timeout * 2):
                answer = await self._asend(request, prepared, started)
            failure = classify(request, answer)
        except TimeoutError:
            answer, failure = (
                None,
                HttpFailure(_lost(request), f"{prepared.host} did not finish its answer in time."),
            )
        except httpx.HTTPError as error:
            answer, failure = None, self._broken(request, error)
        except HttpFailure as error:
            answer, failure = error.answer, error
        self._note(_row(request, prepared, answer, failure, started))
        if failure is not None:
            await in_db(self._learn, request, failure)
            raise failure
        if limits.needs_reset(request.account_key):
            await in_db(limits.succeeded, request.account_key)
        if answer is not None and _used_up(request, answer.headers):
            await in_db(limits.hint, request.bucket_key, remaining=0)
        assert answer is not None
        return answer

    def close(self) -> None:
        """Close this process's kept connections."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    async def aclose(self) -> None:
        """Write the rest of the journal and close this loop's connections."""
        clients = self._loops.pop(asyncio.get_running_loop(), {})
        for client in clients.values():
            await client.aclose()
        flusher, self._flusher = self._flusher, None
        if flusher is not None:
            flusher.cancel()
        await self._flush()

    # --- preparing ---------------------------------------------------------------------------------

    def _prepare(self, request: HttpRequest) -> _Prepared:
        target, address = self._allowed(request), ""
        if request.user_url and not target:
            try:
                address = egress.checked_address(request.url, self._resolver)
            except egress.Refused as error:
                raise HttpFailure(Kind.REFUSED, str(error)) from error
        return self._assemble(request, target, address)

    async def _aprepare(self, request: HttpRequest) -> _Prepared:
        target, address = self._allowed(request), ""
        if request.user_url and not target:
            try:
                address = await asyncio.to_thread(egress.checked_address, request.url, self._resolver)
            except egress.Refused as error:
                raise HttpFailure(Kind.REFUSED, str(error)) from error
        return self._assemble(request, target, address)

    def _allowed(self, request: HttpRequest) -> str:
        """The mapped base URL, empty for none. Raises `HttpFailure` REFUSED."""
        parts = urlsplit(request.url)
        host = (parts.hostname or "").lower()
        target = egress.mapped(host)
        if request.user_url:
            return target
        if not egress.host_matches(host, request.allowed_hosts):
            raise HttpFailure(Kind.REFUSED, f"The host '{host}' is not on the list of allowed hosts.")
        if parts.scheme != "https" and not target:
            raise HttpFailure(Kind.REFUSED, f"The host '{host}' must be called with https.")
        return target

    def _assemble(self, request: HttpRequest, target: str, address: str) -> _Prepared:
        parts = urlsplit(request.url)
        host = (parts.hostname or "").lower()
        query = parts.query
        if request.params:
            pairs = request.params.items() if isinstance(request.params, Mapping) else request.params
            query = "&".join(part for part in (query, urlencode(list(pairs), doseq=True)) if part)
        path = (parts.path or "/") + (f"?{query}" if query else "")
        headers = {"User-Agent": "Lading/1.0", "Accept": "application/json", **request.headers}
        content, content_type = _body(request)
        if content_type and not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = content_type
        extensions: dict[str, Any] = {}
        if target:
            url, pool = target + path, target
        elif address:
            literal = f"[{address}]" if ":" in address else address
            url, pool = f"https://{literal}{path}", f"{host}@{address}"
            headers["Host"] = host
            extensions["sni_hostname"] = host
        else:
            url, pool = f"{parts.scheme}://{parts.netloc}{path}", host
        limit = min(request.max_bytes, MAX_USER_ANSWER) if request.user_url else request.max_bytes
        return _Prepared(url, host, pool, headers, content, extensions, limit)

    # --- sending -----------------------------------------------------------------------------------

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = httpx.create_ssl_context()
        return self._tls

    def _client(self, pool: str) -> httpx.Client:
        with self._lock:
            if self._pid != os.getpid():
                self._fresh()  # sockets of the parent process are not ours
                limits.forget_copies()
            if pool not in self._clients:
                self._clients[pool] = httpx.Client(
                    transport=self._transport, verify=self._context(), trust_env=False, follow_redirects=False
                )
            return self._clients[pool]

    def _aclient(self, pool: str) -> httpx.AsyncClient:
        clients = self._loops.setdefault(asyncio.get_running_loop(), {})
        if pool not in clients:
            clients[pool] = httpx.AsyncClient(
                transport=self._async_transport,
                verify=self._context(),
                trust_env=False,
                follow_redirects=False,
                limits=httpx.Limits(max_connections=50, max_keepalive_connections=20, keepalive_expiry=60),
            )
        return clients[pool]

    def _send(self, request: HttpRequest, prepared: _Prepared, started: float) -> HttpAnswer:
        parts, size = [], 0
        with self._client(prepared.pool).stream(
            request.method.upper(),
            prepared.url,
            headers=prepared.headers,
            content=prepared.content,
            timeout=_timeouts(request),
            extensions=prepared.extensions,
        ) as response:
            for part in response.iter_bytes():
                size += len(part)
                self._watch(request, prepared, response, size, started)
                parts.append(part)
        return _answer(request, response, b"".join(parts), started)

    async def _asend(self, request: HttpRequest, prepared: _Prepared, started: float) -> HttpAnswer:
        parts, size = [], 0
        async with self._aclient(prepared.pool).stream(
            request.method.upper(),
            prepared.url,
            headers=prepared.headers,
            content=prepared.content,
            timeout=_timeouts(request),
            extensions=prepared.extensions,
        ) as response:
            async for part in response.aiter_bytes():
                size += len(part)
                self._watch(request, prepared, response, size, started)
                parts.append(part)
        return _answer(request, response, b"".join(parts), started)

    @staticmethod
    def _watch(
        request: HttpRequest, prepared: _Prepared, response: httpx.Response, size: int, started: float
    ) -> None:
        if size > prepared.max_bytes:
            short = _answer(request, response, b"", started)
            raise HttpFailure(
                _lost(request), f"{prepared.host} sent more than {prepared.max_bytes} bytes.", short
            )
        if time.monotonic() - started > request.timeout * 2:
            raise HttpFailure(_lost(request), f"{prepared.host} did not finish its answer in time.")

    @staticmethod
    def _broken(request: HttpRequest, error: httpx.HTTPError) -> HttpFailure:
        host = urlsplit(request.url).hostname
        if isinstance(
            error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.UnsupportedProtocol
        ):
            return HttpFailure(Kind.TRANSIENT, f"{host} cannot be reached: {error or type(error).__name__}")
        return HttpFailure(_lost(request), f"{host} broke off: {error or type(error).__name__}")

    # --- remembering -------------------------------------------------------------------------------

    @staticmethod
    def _learn(request: HttpRequest, failure: HttpFailure | None) -> None:
        key = request.account_key
        if failure is None:
            if limits.needs_reset(key):
                limits.succeeded(key)
        elif failure.kind is Kind.THROTTLED:
            failure.retry_after = limits.throttled(request.bucket_key, failure.retry_after, request.rate)
        elif failure.kind is Kind.AUTH:
            limits.failed(key, failure.message, refused=True)
        elif failure.kind in (Kind.TRANSIENT, Kind.TIMEOUT_AFTER_SEND):
            limits.failed(key, failure.message)

    def _note(self, row: OutboundCall) -> None:
        self._journal.append(row)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.get_running_loop().create_task(self._flush_soon())

    async def _flush_soon(self) -> None:
        while self._journal:
            await asyncio.sleep(0.5)
            await self._flush()

    async def _flush(self) -> None:
        rows, self._journal = self._journal, []
        if rows:
            try:
                await in_db(OutboundCall.objects.bulk_create, rows, 500)
            except Exception:  # the journal must never stop the work that it describes
                log.exception("call journal not written", extra={"rows": len(rows)})


DOOR = HttpDoor()


def call(request: HttpRequest) -> HttpAnswer:
    return DOOR.call(request)


async def acall(request: HttpRequest) -> HttpAnswer:
    return await DOOR.acall(request)


# --- small parts -----------------------------------------------------------------------------------


def _timeouts(request: HttpRequest) -> httpx.Timeout:
    return httpx.Timeout(request.timeout, connect=min(request.timeout, 5.0))


def _body(request: HttpRequest) -> tuple[bytes, str]:
    if request.json is not None:
        text = jsonlib.dumps(request.json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode(), "application/json"
    if request.data is not None:
        return urlencode(list(request.data.items()), doseq=True).encode(), "application/x-www-form-urlencoded"
    content = request.content or b""
    return (content.encode() if isinstance(content, str) else content), ""


def _answer(request: HttpRequest, response: httpx.Response, content: bytes, started: float) -> HttpAnswer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    ms = int((time.monotonic() - started) * 1000)
    return HttpAnswer(response.status_code, headers, content, ms, request.safe_to_repeat)


def _row(
    request: HttpRequest,
    prepared: _Prepared,
    answer: HttpAnswer | None,
    failure: HttpFailure | None,
    started: float,
) -> OutboundCall:
    parts = urlsplit(prepared.url)
    seconds = time.monotonic() - started
    metrics.CALLS.labels(failure.kind.value if failure else "ok").inc()
    metrics.CALL_SECONDS.observe(seconds)
    own = {name: value for name, value in prepared.headers.items() if name not in ("User-Agent", "Accept")}
    lines = "\n".join(f"{name}: {value}" for name, value in mask_headers(own).items())
    return OutboundCall(
        at=now(),
        account=request.account_key[:60],
        method=request.method.upper()[:7],
        host=prepared.host[:120],
        path=mask_text(parts.path + (f"?{parts.query}" if parts.query else ""))[:300],
        status=answer.status if answer else None,
        ms=int(seconds * 1000),
        failure=failure.kind.value if failure else "",
        request=_storable(f"{lines}\n\n{excerpt(prepared.content, 1600)}"[:2000]),
        answer=_storable(excerpt(answer.content) if answer else (failure.message if failure else "")),
    )


def _storable(text: str) -> str:
    return text.replace("\x00", "")  # PostgreSQL stores no NUL


def _breaker_open(request: HttpRequest, stopped: limits.Stopped) -> HttpFailure:
    return HttpFailure(
        Kind.BREAKER_OPEN, f"{request.account_key} is paused: {stopped.reason}", None, stopped.retry_after
    )


def _no_token(request: HttpRequest, wait: float) -> HttpFailure:
    return HttpFailure(Kind.THROTTLED, f"{request.account_key}: its rate budget is used up.", None, wait)
