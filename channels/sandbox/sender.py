"""Sends small messages over HTTP/1.1 and reads only the status: what a webhook sender needs.

Written by hand for the same reason as the server (`channels.sandbox.http`): the store that a sandbox plays must leave
the processor to the system it is measured with, and a general client costs several times what it sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

MAX_HEAD = 64 * 1024


class Undelivered(Exception):
    """No answer: the receiver could not be reached, took too long or did not speak HTTP."""


class _Connection(asyncio.Protocol):
    """One connection with at most one request on its way."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[int] | None = None
        self.buffer = bytearray()
        self.left = 0  # bytes of the answer's body that are still to come
        self.status = 0
        self.reusable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, message: bytes) -> asyncio.Future[int]:
        """Write a request; the future is its status. The connection may be used again once it is done."""
        assert self.transport is not None
        self.answer = asyncio.get_running_loop().create_future()
        self.buffer.clear()
        self.left = self.status = 0
        self.reusable = False
        self.transport.write(message)
        return self.answer

    def data_received(self, data: bytes) -> None:
        if self.status:
            self.left -= len(data)
            self._end()
            return
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > MAX_HEAD:
                self._fail("the head of the answer does not end")
            return
        lines = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines[1:])
        }
        try:
            self.status = int(lines[0].split(" ", 2)[1])
            length = headers.get("content-length") or ("0" if self.status == 204 else "")
            self.left = int(length) - (len(self.buffer) - end - 4) if length else 0
        except (IndexError, ValueError):
            self._fail(f"not an answer: {lines[0][:80]}")
            return
        # an answer without a length ends with its connection: its status is all we want of it
        self.reusable = bool(length) and headers.get("connection", "").lower() != "close"
        self._end()

    def _end(self) -> None:
        if self.left <= 0 and self.answer is not None and not self.answer.done():
            self.answer.set_result(self.status)

    def _fail(self, why: str) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(Undelivered(why))
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.reusable = False
        self._fail(f"the connection was closed: {exc or 'no answer'}")

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Sender:
    """Keeps connections to each receiver for the next message."""

    def __init__(self, *, timeout: float = 5.0, connect_timeout: float = 1.0) -> None:
        self.timeout, self.connect_timeout = timeout, connect_timeout
        self._idle: dict[tuple[str, int, bool], list[_Connection]] = {}

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer. Raises `Undelivered`."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        place = (parts.hostname or "", parts.port or (443 if secure else 80), secure)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [
            f"POST {target} HTTP/1.1",
            f"host: {parts.netloc.rpartition('@')[2]}",
            f"content-length: {len(body)}",
        ]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        message = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace") + body
        connection = await self._connection(place)
        try:
            async with asyncio.timeout(self.timeout):
                status = await connection.ask(message)
        except TimeoutError as error:
            raise Undelivered(f"no answer within {self.timeout:g} s") from error
        finally:
            if connection.reusable and connection.transport is not None:
                self._idle.setdefault(place, []).append(connection)
            else:
                connection.close()
        return status

    async def _connection(self, place: tuple[str, int, bool]) -> _Connection:
        idle = self._idle.get(place, [])
        while idle:
            connection = idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection
        host, port, secure = place
        try:
            async with asyncio.timeout(self.connect_timeout):
                _, fresh = await asyncio.get_running_loop().create_connection(
                    _Connection, host, port, ssl=secure or None
                )
        except TimeoutError as error:
            raise Undelivered(f"{host}:{port} cannot be reached within {self.connect_timeout:g} s") from error
        except OSError as error:
            raise Undelivered(f"{host}:{port} cannot be reached: {error}") from error
        return fresh

    def close(self) -> None:
        """Drop every connection that waits for its next message."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
