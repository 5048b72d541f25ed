"""The sandbox's webhook sender: one status per message, whatever the receiver does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from channels.sandbox.sender import Sender, Undelivered

Receiver = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(int(x.split(":")[1]) for x in head.split("\r\n") if x.startswith("content-length"))
    return head, await reader.readexactly(length)


def posted(receiver: Receiver, times: int = 1, **rules: float) -> list[int]:
    """The answers of `times` messages, one after the other."""

    async def main() -> list[int]:
        server = await asyncio.start_server(receiver, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        sender = Sender(**rules)
        try:
            url = f"http://127.0.0.1:{port}/hooks/a?b=1"
            return [await sender.post(url, {"x-topic": "t"}, b"{}") for _ in range(times)]
        finally:
            sender.close()
            server.close()

    return asyncio.run(main())


def test_messages_share_a_connection_and_arrive_whole() -> None:
    seen: list[tuple[str, bytes]] = []
    connections = []

    async def receiver(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        for status in (200, 503, 401):
            seen.append(await read(reader))
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\nhe".encode())
            await writer.drain()
            await asyncio.sleep(0.01)  # the rest of the body comes apart from the head
            writer.write(b"llo")

    assert posted(receiver, 3) == [200, 503, 401]
    assert len(connections) == 1
    head, body = seen[0]
    assert head.startswith("POST /hooks/a?b=1 HTTP/1.1\r\nhost: 127.0.0.1:")
    assert "x-topic: t\r\n" in head
    assert body == b"{}"


def test_an_answer_without_length_ends_its_connection() -> None:
    connections = []

    async def receiver(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await read(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        await writer.drain()

    assert posted(receiver, 2) == [200, 200]
    assert len(connections) == 2


@pytest.mark.parametrize("told", [b"", b"HTTP/1.1 200 OK\r\n", b"good morning\r\n\r\n"])
def test_a_receiver_that_hangs_up_or_talks_nonsense(told: bytes) -> None:
    async def receiver(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        writer.write(told)
        writer.close()

    with pytest.raises(Undelivered):
        posted(receiver)


def test_a_receiver_that_never_answers() -> None:
    async def receiver(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    with pytest.raises(Undelivered, match="no answer within 0.1 s"):
        posted(receiver, timeout=0.1)


def test_nobody_there() -> None:
    async def main() -> None:
        await Sender().post("http://127.0.0.1:1/hooks/a", {}, b"{}")

    with pytest.raises(Undelivered, match="127.0.0.1:1 cannot be reached"):
        asyncio.run(main())
