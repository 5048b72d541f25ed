"""The shops, the clock, the physical truth, and the one place where faults strike and requests are journalled."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from channels.sandbox.http import Answer, Request, split_host
from channels.sandbox.shop import Faults, LogEntry, SandboxError, Shop
from channels.sandbox.shoppers import Shoppers, stop_all
from channels.sandbox.snapshot import dump, load
from channels.sandbox.webhooks import WebhookSender

KEPT_BYTES = 16 * 1024  # of each body in the journal
# where the numbers of each kind begin, as long as the platforms' own
FIRST_NUMBERS = {
    "line": 14_200_000_000_000,
    "assignment": 6_700_000_000_000,
    "fulfilment": 5_100_000_000_000,
    "refund": 930_000_000_000,
    "return": 17_000_000_000,
    "return_line": 18_000_000_000,
}


class Platform(Protocol):
    """A played platform: makes its shops and answers for its hosts."""

    kind: str

    @property
    def shop_class(self) -> type[Shop]: ...

    def create(self, world: World, spec: dict[str, Any]) -> Shop: ...

    def owns(self, host: str) -> bool: ...

    async def handle(self, world: World, host: str, request: Request) -> Answer: ...


class World:
    """Everything outside the product. All of it runs on one event loop, so no call ever sees half a change."""

    def __init__(
        self, platforms: list[Platform], *, latency_ms: int = 0, state_file: Path | None = None
    ) -> None:
        self.platforms = {platform.kind: platform for platform in platforms}
        self.latency_ms = latency_ms
        self.state_file = state_file
        self.base_url = ""
        self.shops: dict[str, Shop] = {}
        self.serials: dict[str, int] = {}
        self.offset = 0.0
        self.physical: dict[str, int] = {}
        self.sender = WebhookSender()
        self.requests = 0
        self.timers: set[asyncio.TimerHandle] = set()
        self.shoppers: dict[int, Shoppers] = {}

    # --- time and numbers --------------------------------------------------------------------------
    def now(self) -> float:
        """Seconds since 1970 on the sandbox's clock, which the control API can advance."""
        return time.time() + self.offset

    def serial(self, kind: str) -> int:
        """The next number of a kind; unique over all shops."""
        self.serials[kind] = self.serials.get(kind, FIRST_NUMBERS.get(kind, 0)) + 1
        return self.serials[kind]

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Run an action after some seconds of real time."""
        loop = asyncio.get_running_loop()
        handle: list[asyncio.TimerHandle] = []

        def run() -> None:
            self.timers.discard(handle[0])
            action()

        handle.append(loop.call_later(seconds, run))
        self.timers.add(handle[0])

    # --- shops -------------------------------------------------------------------------------------
    def create_shop(self, spec: dict[str, Any]) -> Shop:
        """Open a store or seller account. Raises SandboxError."""
        kind = spec.get("kind")
        if kind not in self.platforms:
            raise SandboxError(f"kind must be one of {', '.join(self.platforms)}.")
        identity = spec.get("id")
        if not isinstance(identity, str) or not identity:
            raise SandboxError('A shop needs an id (text), for example "acme".')
        if identity in self.shops:
            raise SandboxError(f"There is already a shop {identity}.")
        shop = self.platforms[kind].create(self, spec)
        shop.faults.latency_ms = self.latency_ms
        for entry in spec.get("catalogue", []):
            shop.add_item(entry)
        self.shops[shop.id] = shop
        return shop

    def shop(self, shop_id: str) -> Shop:
        if shop_id not in self.shops:
            raise SandboxError(f"There is no shop {shop_id}.")
        return self.shops[shop_id]

    def reset(self) -> None:
        """Forget everything but the server itself."""
        stop_all(self)
        for handle in self.timers:
            handle.cancel()
        self.timers.clear()
        for task in list(self.sender.tasks):
            task.cancel()
        self.sender.deliveries.clear()
        self.shops.clear()
        self.serials.clear()
        self.physical.clear()
        self.offset = 0.0

    def host_map(self) -> dict[str, str]:
        """Value for OMS_HOST_MAP: every host played here and where to reach it."""
        hosts = dict.fromkeys(host for shop in self.shops.values() for host in shop.hosts)
        return {host: f"{self.base_url}/{host}" for host in hosts}

    def oversold(self) -> dict[str, Any]:
        """Units sold by all shops against the real units declared. `over` must stay 0."""
        sold: dict[str, int] = {}
        for shop in self.shops.values():
            for sku, quantity in shop.sold.items():
                sold[sku] = sold.get(sku, 0) + quantity
        rows = {
            sku: {"physical": real, "sold": sold.get(sku, 0), "over": max(0, sold.get(sku, 0) - real)}
            for sku, real in sorted(self.physical.items())
        }
        return {"over": sum(row["over"] for row in rows.values()), "skus": rows}

    # --- requests ----------------------------------------------------------------------------------
    async def handle(self, request: Request) -> Answer:
        """Answer one request: the first path segment is the host that is meant."""
        self.requests += 1
        host, target = split_host(request.target)
        if host == "_sandbox":
            from channels.sandbox.control import control

            return await control(self, Request(request.method, target, request.headers, request.body))
        for platform in self.platforms.values():
            if platform.owns(host):
                return await platform.handle(
                    self, host, Request(request.method, target, request.headers, request.body)
                )
        return Answer.json(
            {"sandbox_error": f"No platform is played at the host {host!r}. See /_sandbox/host_map."}, 404
        )

    async def perform(
        self,
        shop: Shop,
        operation: str,
        request: Request,
        effect: Callable[[], Answer] | Callable[[], Awaitable[Answer]],
    ) -> Answer:
        """Run one API operation of a shop under the shop's faults, and write it to the shop's journal."""
        started = time.perf_counter()
        faults: Faults = shop.faults
        planned = shop.take_planned(operation) if shop.planned else None
        fault = planned.kind if planned else shop.roll_fault(operation)
        if faults.latency_ms or faults.jitter_ms:
            jitter = shop.dice.randrange(faults.jitter_ms) if faults.jitter_ms else 0
            await asyncio.sleep((faults.latency_ms + jitter) / 1000)
        if fault == "outage":
            answer = shop.failure(503)
        elif fault == "error_500":
            answer = shop.failure(500)
        elif fault == "throttle":
            answer = shop.throttled(operation)
        elif fault == "drop":
            answer = Answer(closed=True)
        else:
            shop.forced = planned.code if planned and fault == "user_error" else ""
            result = effect()
            answer = result if isinstance(result, Answer) else await result
            shop.forced = ""
            if fault == "error_500_after":
                answer = shop.failure(500)
            elif fault == "timeout":
                answer = Answer(closed=True)
        took = (time.perf_counter() - started) * 1000
        shop.operations[operation] = shop.operations.get(operation, 0) + 1
        entry = LogEntry(
            number=self.requests,
            at=self.now(),
            operation=operation,
            method=request.method,
            target=request.target,
            status=0 if answer.closed else answer.status,
            fault=fault,
            milliseconds=took,
            request=request.body[:KEPT_BYTES],
            answer=answer.body[:KEPT_BYTES],
        )
        shop.log.append(entry)
        if answer.closed and faults.hang_ms:
            await asyncio.sleep(faults.hang_ms / 1000)
        return answer

    # --- snapshot ----------------------------------------------------------------------------------
    def save(self) -> None:
        """Write the state to the snapshot file, whole or not at all."""
        if self.state_file is None:
            return
        state = {
            "serials": self.serials,
            "offset": self.offset,
            "physical": self.physical,
            "shops": [dump(shop) for shop in self.shops.values()],
        }
        temporary = self.state_file.with_suffix(".part")
        temporary.write_text(json.dumps(state))
        os.replace(temporary, self.state_file)

    def restore(self) -> bool:
        """Read the snapshot file; False when there is none."""
        if self.state_file is None or not self.state_file.exists():
            return False
        state = json.loads(self.state_file.read_text())
        self.serials, self.offset, self.physical = state["serials"], state["offset"], state["physical"]
        for data in state["shops"]:
            shop = load(self.platforms[data["kind"]].shop_class, data)
            shop.open_shop(self)
            self.shops[shop.id] = shop
        return True

    async def close(self) -> None:
        stop_all(self)
        for handle in self.timers:
            handle.cancel()
        await self.sender.close()
        self.save()
