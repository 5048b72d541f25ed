"""Starts the sandbox: in a process of its own, or in a thread of a test."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from channels.sandbox.amazon import Amazon
from channels.sandbox.custom import Bazaar
from channels.sandbox.ebay import Ebay
from channels.sandbox.http import HttpProtocol
from channels.sandbox.scenarios import SCENARIOS
from channels.sandbox.shopify import Shopify
from channels.sandbox.threepl import ThreePL
from channels.sandbox.tiktok import TikTokShop
from channels.sandbox.walmart import Walmart
from channels.sandbox.woocommerce import WooCommerce
from channels.sandbox.world import Platform, World

SAVE_EVERY_SECONDS = 5


async def serve(
    world: World,
    host: str,
    port: int,
    scenario: str,
    stop: asyncio.Event,
    ready: Callable[[str], None],
) -> None:
    """Listen until `stop` is set; `ready` is called with the base URL. Raises OSError when the port is taken."""
    loop = asyncio.get_running_loop()
    connections: set[HttpProtocol] = set()
    server = await loop.create_server(
        lambda: HttpProtocol(world.handle, connections), host, port, backlog=1024
    )
    world.base_url = f"http://{host}:{server.sockets[0].getsockname()[1]}"
    if not world.restore():
        for spec in SCENARIOS[scenario]["shops"]:
            world.create_shop(spec)
        world.physical = dict(SCENARIOS[scenario]["physical"])
    ready(world.base_url)
    waiting = asyncio.ensure_future(stop.wait())
    while not waiting.done():
        await asyncio.wait([waiting], timeout=SAVE_EVERY_SECONDS if world.state_file else None)
        world.save()
    server.close()
    for connection in list(connections):
        if connection.transport is not None:
            connection.transport.abort()
    await world.close()


def new_world(latency_ms: int = 0, state_file: Path | None = None) -> World:
    return World(platforms(), latency_ms=latency_ms, state_file=state_file)


def platforms() -> list[Platform]:
    """Everything the sandbox can play."""
    return [
        Shopify(),
        Amazon(),
        WooCommerce(),
        Ebay(),
        Walmart(),
        TikTokShop(),
        ThreePL(),
        Bazaar(),
    ]


def run(
    *,
    host: str = "127.0.0.1",
    port: int = 8790,
    scenario: str = "default",
    latency_ms: int = 0,
    state_file: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Run in the foreground until SIGINT or SIGTERM."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, stop.set)
        await serve(new_world(latency_ms, state_file), host, port, scenario, stop, say)

    asyncio.run(main())


@dataclass
class SandboxHandle:
    """A sandbox running in a thread of this process."""

    url: str
    _loop: asyncio.AbstractEventLoop
    _stop: asyncio.Event
    _thread: threading.Thread

    def stop(self) -> None:
        """Stop listening and wait for the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(timeout=10)


def run_in_thread(port: int = 0, scenario: str = "empty", state_file: Path | None = None) -> SandboxHandle:
    """Start a sandbox on 127.0.0.1 (port 0 = any free one) in a thread. Raises OSError when it cannot listen."""
    started = threading.Event()
    found: dict[str, object] = {}

    async def main() -> None:
        found["loop"], found["stop"] = asyncio.get_running_loop(), asyncio.Event()

        def ready(url: str) -> None:
            found["url"] = url
            started.set()

        await serve(new_world(state_file=state_file), "127.0.0.1", port, scenario, found["stop"], ready)  # type: ignore[arg-type]

    def target() -> None:
        try:
            asyncio.run(main())
        except OSError as error:
            found["error"] = error
        finally:
            started.set()

    thread = threading.Thread(target=target, name="sandbox", daemon=True)
    thread.start()
    started.wait(timeout=20)
    error = found.get("error")
    if isinstance(error, OSError):
        raise error
    return SandboxHandle(str(found["url"]), found["loop"], found["stop"], thread)  # type: ignore[arg-type]
