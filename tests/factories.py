"""Small builders of real rows through the product's own services; every argument has a sensible default."""

from __future__ import annotations

import datetime as dt
import itertools
from decimal import Decimal
from typing import Any

from django.db import transaction

from inventory.kits import set_components
from inventory.ledger import Movement, post_movements
from inventory.models import Product, Sku, Warehouse
from oms.core.actor import SYSTEM
from oms.core.models import Membership, MembershipScope, User
from oms.orders.drafts import ContactDraft, LineDraft, OrderDraft
from oms.orders.models import ChannelWarehouse, SalesChannel

_numbers = itertools.count(1)

T0 = dt.datetime(2026, 11, 2, 14, 0, tzinfo=dt.UTC)


def make_warehouse(code: str = "", **fields: Any) -> Warehouse:
    code = code or f"WH{next(_numbers)}"
    return Warehouse.objects.create(code=code, name=fields.pop("name", code.title()), **fields)


def make_sku(code: str = "", **fields: Any) -> Sku:
    code = code or f"SKU-{next(_numbers)}"
    product = fields.pop("product", None) or Product.objects.create(title=code.title())
    return Sku.objects.create(product=product, code=code, **fields)


def make_kit(code: str, components: dict[Sku, int]) -> Sku:
    kit = make_sku(code, kind=Sku.Kind.KIT)
    set_components(kit.pk, {sku.pk: quantity for sku, quantity in components.items()}, actor=SYSTEM)
    return kit


def add_stock(sku: Sku, warehouse: Warehouse, quantity: int, *, unit_cost: Decimal | None = None) -> None:
    with transaction.atomic():
        post_movements(
            [
                Movement(
                    sku.pk,
                    warehouse.pk,
                    "on_hand",
                    quantity,
                    "opening",
                    key=f"test:{next(_numbers)}",
                    unit_cost=unit_cost,
                )
            ],
            actor=SYSTEM,
        )


def make_channel(code: str = "", *warehouses: Warehouse, **fields: Any) -> SalesChannel:
    """A sales channel that sees and is served from `warehouses`, in this order."""
    code = code or f"channel-{next(_numbers)}"
    fields = {"name": code.title(), "kind": SalesChannel.Kind.SHOPIFY, "prefix": "SH", **fields}
    channel = SalesChannel.objects.create(code=code, **fields)
    for rank, warehouse in enumerate(warehouses, 1):
        ChannelWarehouse.objects.create(channel=channel, warehouse=warehouse, rank=rank)
    return channel


def line_draft(sku: Sku | str, quantity: int = 1, external_id: str = "", **fields: Any) -> LineDraft:
    """A line for a SKU, or for a code that the channel sends."""
    code = sku if isinstance(sku, str) else sku.code
    fields = {"unit_price": Decimal("10.00"), **fields}
    if not isinstance(sku, str):
        fields.setdefault("sku_id", sku.pk)
    return LineDraft(external_id=external_id or f"L-{code}", quantity=quantity, external_sku=code, **fields)


def order_draft(*lines: LineDraft, external_id: str = "", **fields: Any) -> OrderDraft:
    fields = {
        "placed_at": T0,
        "channel_updated_at": T0,
        "currency": "USD",
        "contact": ContactDraft(
            name="Ana Maria Ruiz", email="ana@example.com", phone="+1 555 0100", address1="1 Main St", city="Austin",
            region="TX", postal_code="78701", country="US",
        ),
        **fields,
    }  # fmt: skip
    return OrderDraft(external_id=external_id or f"E-{next(_numbers)}", lines=tuple(lines), **fields)


def make_user(
    name: str = "", role: str = "owner", *, warehouses: tuple[str, ...] = (), channels: tuple[str, ...] = ()
) -> User:
    """A user with one role, limited to the named warehouses and channels."""
    user = User.objects.create_user(name or f"user{next(_numbers)}", password="correct horse battery")
    membership = Membership.objects.create(user=user, role=role)
    for kind, codes in (("warehouse", warehouses), ("channel", channels)):
        for code in codes:
            MembershipScope.objects.create(membership=membership, kind=kind, code=code)
    return user
