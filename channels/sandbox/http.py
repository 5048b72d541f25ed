"""A small HTTP/1.1 server with keep-alive on asyncio, enough for clients that send a Content-Length.

Written by hand because the sandbox must leave the processor to the system it is measured with: a pure Python parser
of the whole protocol costs more per request than everything the sandbox does with it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024 * 1024


@dataclass(slots=True)
class Request:
    method: str
    target: str  # as sent: path and query, percent-encoded
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def raw_path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query_string(self) -> str:
        return self.target.partition("?")[2]

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.query_string, keep_blank_values=True)

    def json(self) -> Any:
        """The body as JSON. Raises ValueError when it is not."""
        return json.loads(self.body)


@dataclass(slots=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    closed: bool = False  # no answer at all: the connection is closed instead

    @classmethod
    def json(cls, data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
        body = json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
        return cls(status, body, {"content-type": "application/json; charset=utf-8", **(headers or {})})


Handler = Callable[[Request], Awaitable[Answer]]


class HttpProtocol(asyncio.Protocol):
    """One connection. Requests of one connection are answered in order, one at a time."""

    def __init__(self, handler: Handler, connections: set[HttpProtocol]) -> None:
        self.handler = handler
        self.connections = connections
        self.buffer = bytearray()
        self.busy = False
        self.transport: asyncio.Transport | None = None
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.busy:
            self._next()

    def _next(self) -> None:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > MAX_HEAD:
                self._refuse(431)
            return
        lines = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
        try:
            method, target, _ = lines[0].split(" ", 2)
            headers = {}
            for line in lines[1:]:
                name, _, value = line.partition(":")
                headers[name.strip().lower()] = value.strip()
            length = int(headers.get("content-length", "0"))
        except ValueError:
            self._refuse(400)
            return
        if "transfer-encoding" in headers:
            self._refuse(411)
            return
        if length > MAX_BODY:
            self._refuse(413)
            return
        if len(self.buffer) < end + 4 + length:
            return
        body = bytes(self.buffer[end + 4 : end + 4 + length])
        del self.buffer[: end + 4 + length]
        self.busy = True
        self.task = asyncio.ensure_future(self._answer(Request(method, target, headers, body)))

    async def _answer(self, request: Request) -> None:
        try:
            answer = await self.handler(request)
        except Exception as error:  # a fault of the sandbox itself: say so, never hang the client
            answer = Answer.json({"sandbox_error": f"{type(error).__name__}: {error}"}, 500)
        self.busy = False
        if self.transport is None:
            return
        if answer.closed:
            self.transport.abort()
            return
        close = request.headers.get("connection", "").lower() == "close"
        self.transport.write(head(answer, close) + (b"" if request.method == "HEAD" else answer.body))
        if close:
            self.transport.close()
        elif self.buffer:
            self._next()

    def _refuse(self, status: int) -> None:
        if self.transport is not None:
            self.transport.write(head(Answer(status), close=True))
            self.transport.close()


def head(answer: Answer, close: bool) -> bytes:
    """Status line and headers of an answer."""
    try:
        reason = HTTPStatus(answer.status).phrase
    except ValueError:
        reason = ""
    lines = [f"HTTP/1.1 {answer.status} {reason}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    if answer.status != 204:
        lines.append(f"content-length: {len(answer.body)}")
    lines.append("connection: close" if close else "connection: keep-alive")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def split_host(target: str) -> tuple[str, str]:
    """`/acme.myshopify.com/admin?x=1` → ("acme.myshopify.com", "/admin?x=1"). An absolute URL is cut to its path."""
    if target.startswith("http://") or target.startswith("https://"):
        parts = urlsplit(target)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
    path, mark, query = target.partition("?")
    host, _, rest = path.lstrip("/").partition("/")
    return unquote(host).lower(), "/" + rest + mark + query
