"""A 3PL in the sandbox that runs one of our warehouses, over real sockets with real signatures."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django_q.models import OrmQ

from channels.sandbox.client import SandboxClient
from fulfillment import routing_service
from fulfillment.models import HandOff, Shipment, ThreePLAccount, ThreePLCall, ThreePLMessage
from fulfillment.threepl import accounts, calls, handoff, inbox, signing
from inventory.models import Sku, StockLevel, Warehouse
from oms.core import doorbell, outbox
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.orders import intake
from oms.orders.models import Order, SalesChannel
from tests.channels.conftest import sandbox as sandbox
from tests.channels.conftest import sandbox_url as sandbox_url
from tests.factories import add_stock, line_draft, make_channel, make_sku, make_warehouse, order_draft

_numbers = itertools.count(1)


@dataclass
class Partner:
    client: SandboxClient
    account: ThreePLAccount
    warehouse: Warehouse
    sku: Sku
    other: Sku
    channel: SalesChannel
    said: Any = None

    def order(self, quantity: int = 2, *, other: int = 0, **fields: Any) -> Order:
        lines = [line_draft(self.sku, quantity)] if quantity else []
        if other:
            lines.append(line_draft(self.other, other))
        [taken] = intake.take(
            [order_draft(*lines, **fields)], channel=self.channel, actor=SYSTEM, source="webhook"
        )
        return Order.objects.get(pk=taken.order_id)

    def planned(self, quantity: int = 2, **fields: Any) -> HandOff:
        order = self.order(quantity, **fields)
        routing_service.route(order.pk, actor=SYSTEM)
        handoff.plan(self.account.pk, actor=SYSTEM)
        return HandOff.objects.get(shipment__order=order)

    def handed(self, quantity: int = 2, **fields: Any) -> HandOff:
        given = self.planned(quantity, **fields)
        calls.drain(self.account.pk)
        given.refresh_from_db()
        return given

    def due(self) -> int:
        """Let everything that waits for its time be due, and drain."""
        ThreePLCall.objects.filter(state__in=ThreePLCall.OPEN).update(next_attempt_at=now(), lease_until=None)
        return calls.drain(self.account.pk)

    def tell(self, topic: str, delivery: str = "", **data: Any) -> ThreePLMessage:
        """A message of the 3PL as the hook stores it, booked at once."""
        delivery = delivery or f"d{next(_numbers)}"
        inbox.accept(self.account, delivery, topic, data)
        inbox.drain(self.account.pk)
        return ThreePLMessage.objects.get(account=self.account, delivery_id=delivery)

    def left(self, given: HandOff, units: dict[int, int], number: str = "", **more: Any) -> ThreePLMessage:
        """The 3PL says that units by line left in one parcel."""
        number = number or f"OUT{next(_numbers)}"
        box = {
            "carrier": "UPS", "service": "Ground", "tracking": f"1Z{number}",
            "lines": [{"line": line, "quantity": count} for line, count in units.items()],
        }  # fmt: skip
        data = {"shipped_at": now().isoformat(), "parcels": [box], **more}
        return self.tell("shipment.created", reference=given.reference, shipment_id=number, **data)

    def post(
        self, topic: str, data: dict[str, Any], *, secret: str = "", raw: bytes = b"", delivery: str = "",
        stamp: int = 0,
    ) -> int:  # fmt: skip
        """Knock at the hook with a signed message; the status of the answer, which is kept as `said`."""
        body = raw or json.dumps({"topic": topic, "data": data}).encode()
        target = f"/hooks/3pl/{self.account.hook_key}/"
        secret = secret or self.account.credentials["hook_secret"]
        headers = signing.headers(
            "",
            secret,
            stamp or int(now().timestamp()),
            delivery or f"p{next(_numbers)}",
            "POST",
            target,
            body,
        )
        self.said = Client(headers=headers).post(target, body, content_type="application/json")
        return self.said.status_code

    def level(self, sku: Sku | None = None) -> StockLevel:
        return StockLevel.objects.get(sku=sku or self.sku, warehouse=self.warehouse)

    def there(self) -> list[dict[str, Any]]:
        """Orders in the 3PL's own books."""
        return list(self.client.threepl("midway")["orders"])


def run_tasks() -> int:
    """Work off the outbox and run every queued task here and now; returns how much there was."""
    done = 0
    while True:
        news, rung = outbox.drain(), list(OrmQ.objects.order_by("pk"))
        if not news and not rung:
            return done
        for row in rung:
            task = row.task
            row.delete()
            doorbell.answer(*task["args"])
        done += news + len(rung)


def make_partner(sandbox: SandboxClient, settings: Any, **options: Any) -> Partner:
    shop = sandbox.create_shop(
        "threepl", "midway", name="Midway 3PL", stock={"MUG": 10, "BOWL": 6}, **options
    )
    settings.HOST_MAP = {**settings.HOST_MAP, **sandbox.host_map()}
    warehouse = make_warehouse(
        "OHIO", kind="3pl", region="OH", postal_code="43215", address1="1 Dock", city="Columbus"
    )
    sku = make_sku("MUG", weight_g=380, length_mm=110, width_mm=110, height_mm=105, unit_cost=Decimal(4))
    other = make_sku("BOWL", weight_g=600, length_mm=180, width_mm=180, height_mm=90, unit_cost=Decimal(7))
    add_stock(sku, warehouse, 10)
    add_stock(other, warehouse, 6)
    account = accounts.connect(
        code="midway", name="Midway 3PL", warehouse_id=warehouse.pk, kind="api", base_url=shop["base_url"],
        credentials=shop["credentials"], actor=SYSTEM,
    )  # fmt: skip
    tested = accounts.test(account.pk, actor=SYSTEM)
    assert tested.ok, tested.message
    account.refresh_from_db()
    return Partner(sandbox, account, warehouse, sku, other, make_channel("shop", warehouse))


@pytest.fixture
def partner(db: None, sandbox: SandboxClient, settings: Any) -> Partner:
    return make_partner(sandbox, settings)


@pytest.fixture
def clean(assert_invariants: Callable[[], None]) -> Callable[[], None]:
    return assert_invariants


__all__ = ["Partner", "Shipment", "make_partner", "run_tasks"]
