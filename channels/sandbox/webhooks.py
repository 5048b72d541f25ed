"""Sends webhooks as the platforms do: signed by the caller, retried, sometimes late, doubled, shuffled or lost."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from channels.sandbox.sender import Sender, Undelivered
from channels.sandbox.shop import Shop


@dataclass
class Delivery:
    number: int
    shop_id: str
    topic: str
    url: str
    headers: dict[str, str]
    body: bytes
    at: float
    order_id: str = ""
    state: str = "waiting"  # waiting, delivered, failed, lost
    attempts: int = 0
    status: int = 0
    error: str = ""
    gave_up: Callable[[], None] | None = field(default=None, repr=False)

    def describe(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "shop": self.shop_id,
            "topic": self.topic,
            "url": self.url,
            "headers": self.headers,
            "body": self.body.decode("utf-8", "replace"),
            "at": self.at,
            "order_id": self.order_id,
            "state": self.state,
            "attempts": self.attempts,
            "status": self.status,
            "error": self.error,
        }


class WebhookSender:
    """Keeps a few connections to each receiver. A delivery that is not answered 2xx in time is tried again."""

    def __init__(self) -> None:
        self.sender = Sender()
        self.deliveries: deque[Delivery] = deque(maxlen=10_000)
        self.tasks: set[asyncio.Task[None]] = set()
        self.slots = asyncio.Semaphore(8)
        self.numbers = 0

    def post(
        self,
        shop: Shop,
        topic: str,
        url: str,
        headers: dict[str, str],
        body: bytes,
        *,
        order_id: str = "",
        gave_up: Callable[[], None] | None = None,
    ) -> Delivery:
        """Queue one message; the shop's faults decide whether it is lost, doubled or late."""
        self.numbers += 1
        now = shop.world.now()
        delivery = Delivery(self.numbers, shop.id, topic, url, headers, body, now, order_id, gave_up=gave_up)
        self.deliveries.append(delivery)
        faults = shop.faults
        if faults.webhook_loss_rate and shop.dice.random() < faults.webhook_loss_rate:
            delivery.state = "lost"
            shop.count("webhooks_lost")
            return delivery
        times = (
            2 if faults.webhook_duplicate_rate and shop.dice.random() < faults.webhook_duplicate_rate else 1
        )
        for _ in range(times):
            wait = faults.webhook_delay_ms
            if faults.webhook_shuffle_ms:
                wait += shop.dice.randrange(faults.webhook_shuffle_ms)
            self._start(delivery, wait / 1000, shop)
        return delivery

    def again(self, delivery: Delivery, shop: Shop, times: int) -> None:
        """Send a message again, as it was: same delivery id, same signature."""
        for _ in range(times):
            self._start(delivery, 0, shop)

    def _start(self, delivery: Delivery, wait: float, shop: Shop) -> None:
        task = asyncio.get_running_loop().create_task(self._deliver(delivery, wait, shop))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _deliver(self, delivery: Delivery, wait: float, shop: Shop) -> None:
        if wait:
            await asyncio.sleep(wait)
        pauses = [
            float(pause)
            for pause in shop.settings.get("webhook_retry_seconds", [1, 2, 4, 8, 16, 32, 64, 128])
        ]
        for pause in [*pauses, None]:
            async with self.slots:
                delivery.attempts += 1
                try:
                    delivery.status = await self.sender.post(delivery.url, delivery.headers, delivery.body)
                    delivery.error = ""
                except Undelivered as error:
                    delivery.status, delivery.error = 0, str(error)
            if 200 <= delivery.status < 300:
                delivery.state = "delivered"
                shop.count("webhooks_delivered")
                return
            if pause is None:
                break
            await asyncio.sleep(pause)
        delivery.state = "failed"
        shop.count("webhooks_failed")
        if delivery.gave_up is not None:
            delivery.gave_up()

    async def close(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.sender.close()
