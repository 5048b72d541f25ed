"""A sandbox in a thread, started once for the session and emptied before each test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from channels.sandbox.client import SandboxClient
from channels.sandbox.server import run_in_thread


@pytest.fixture(scope="session")
def sandbox_url() -> Iterator[str]:
    handle = run_in_thread()
    yield handle.url
    handle.stop()


@pytest.fixture
def sandbox(sandbox_url: str) -> Iterator[SandboxClient]:
    with SandboxClient(sandbox_url) as client:
        client.reset()
        yield client


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=10) as client:
        yield client


class Receiver:
    """Takes webhooks. `answers` are the statuses to give, the last one for good."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers = [200]
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/one/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def bodies(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(body) for headers, body in list(self.got) if headers["x-shopify-topic"] == topic]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()
