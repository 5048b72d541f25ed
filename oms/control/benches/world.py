"""The small world that benchmarks run in: warehouses, SKUs with stock, a channel, and orders for it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal

from django.db import transaction

from inventory.ledger import Movement, post_movements
from inventory.models import Product, Sku, Warehouse
from oms.core.actor import Actor
from oms.core.clock import now
from oms.orders.drafts import ContactDraft, LineDraft, OrderDraft
from oms.orders.models import ChannelWarehouse, SalesChannel

ACTOR = Actor("task", "bench")


def warehouses(count: int) -> list[Warehouse]:
    return [
        Warehouse.objects.create(code=f"WH{number}", name=f"Warehouse {number}", country="US")
        for number in range(1, count + 1)
    ]


def skus(count: int, units: int, places: Sequence[Warehouse]) -> list[Sku]:
    """SKUs with `units` eaches each in every place, booked through the ledger."""
    products = Product.objects.bulk_create(Product(title=f"Product {number}") for number in range(count))
    made = Sku.objects.bulk_create(
        Sku(product=product, code=f"BENCH-{number:05}") for number, product in enumerate(products)
    )
    opening = [
        Movement(
            sku.pk,
            place.pk,
            "on_hand",
            units,
            "opening",
            key=f"bench:{sku.pk}:{place.pk}",
            unit_cost=Decimal("4.00"),
        )
        for sku in made
        for place in places
    ]
    for start in range(0, len(opening), 500):
        with transaction.atomic():
            post_movements(opening[start : start + 500], actor=ACTOR)
    return made


def channel(code: str, places: Sequence[Warehouse]) -> SalesChannel:
    """A channel without an account, served from `places` in this order."""
    made = SalesChannel.objects.create(
        code=code, name=code.title(), kind=SalesChannel.Kind.MANUAL, prefix="BE"
    )
    for rank, place in enumerate(places, 1):
        ChannelWarehouse.objects.create(channel=made, warehouse=place, rank=rank)
    return made


def order(number: str, lines: Sequence[tuple[Sku, int]]) -> OrderDraft:
    """A paid order with a buyer, an address, and a tax and a shipping amount, as channels send it."""
    at = now() - dt.timedelta(seconds=2)
    tax = Decimal("1.60") * len(lines)
    return OrderDraft(
        external_id=number,
        external_number=f"#{number}",
        placed_at=at,
        channel_updated_at=at,
        currency="USD",
        shipping=Decimal("4.95"),
        tax=tax,
        lines=tuple(
            LineDraft(
                external_id=f"{number}-{position}", quantity=quantity, external_sku=sku.code, sku_id=sku.pk,
                title=sku.code.title(), unit_price=Decimal("20.00"), tax=Decimal("1.60"),
            )
            for position, (sku, quantity) in enumerate(lines, 1)
        ),
        contact=ContactDraft(
            name="Ana Maria Ruiz", email=f"buyer-{number}@example.com", phone="+1 555 0100", address1="1 Main St",
            city="Austin", region="TX", postal_code="78701", country="US",
        ),
    )  # fmt: skip
