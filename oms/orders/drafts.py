"""An order as every channel means it: the mappers' output and the only input of `intake.take()`.

No channel words are left here. Money is Decimal in the order's currency, times are aware. Lines carry
what the channel said; what we did with it (reserved, shipped, short) lives on the stored line.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

ZERO = Decimal(0)

#: pending = not paid, never ship, stock is held by policy; open = ours to ship; the rest are facts
Status = Literal["pending", "open", "shipped", "delivered", "cancelled"]

#: the tag of an order whose label its channel supplies begins so: one that we bought would not be scanned there
LABEL_FROM = "label from "


def label_supplier(tags: Iterable[str]) -> str:
    """The channel that supplies the label of an order, by the order's tags; empty where we buy it."""
    found = (tag.removeprefix(LABEL_FROM) for tag in tags if tag.startswith(LABEL_FROM))
    return next(found, "")


@dataclass(frozen=True, slots=True)
class ChargeDraft:
    """A tax, shipping, discount or channel-fee line as the channel states it, order currency."""

    kind: Literal["tax", "shipping", "discount", "channel_fee"]
    amount: Decimal
    title: str = ""


@dataclass(frozen=True, slots=True)
class LineDraft:
    """One line. `quantity` counts what was ordered, `cancelled` and `shipped` are parts of it.

    `sku_id` is given where the channel's listing is mapped; else `external_sku` is looked up among SKU codes and
    aliases. One sold unit holds `pack_size` of the SKU. `discount` and `tax` are for the whole line, `unit_price`
    for one sold unit.
    """

    external_id: str
    quantity: int
    external_sku: str = ""
    sku_id: int | None = None
    title: str = ""
    listing_ref: str = ""
    pack_size: int = 1
    kind: Literal["product", "service"] = "product"
    unit_price: Decimal = ZERO
    discount: Decimal = ZERO
    tax: Decimal = ZERO
    cancelled: int = 0
    shipped: int = 0
    charges: tuple[ChargeDraft, ...] = ()


@dataclass(frozen=True, slots=True)
class ContactDraft:
    """The buyer and the address to ship to. Stored encrypted, erased by the channel's policy."""

    name: str = ""
    company: str = ""
    email: str = ""
    phone: str = ""
    address1: str = ""
    address2: str = ""
    address3: str = ""
    city: str = ""
    region: str = ""
    postal_code: str = ""
    country: str = ""
    note: str = ""
    residential: bool = True


@dataclass(frozen=True, slots=True)
class OrderDraft:
    """One order in one version (`channel_updated_at`); an older version never overwrites a newer one.

    `contact` None means "not told" (Amazon before payment) and keeps what is stored. `subtotal` None
    means the sum of the lines. `tax_included` says that unit prices and shipping contain the tax.
    """

    external_id: str
    placed_at: dt.datetime
    channel_updated_at: dt.datetime
    currency: str
    lines: tuple[LineDraft, ...]
    external_number: str = ""
    status: Status = "open"
    payment_state: str = "paid"
    kind: Literal["sale", "replacement", "exchange", "wholesale"] = "sale"
    fulfilled_by: Literal["us", "channel"] = "us"
    is_test: bool = False
    ship_by: dt.datetime | None = None
    deliver_by: dt.datetime | None = None
    service_level: str = ""
    risk: Literal["low", "medium", "high"] = "low"
    buyer_cancel_requested: bool = False
    cancel_reason: str = ""
    contact: ContactDraft | None = None
    subtotal: Decimal | None = None
    discount: Decimal = ZERO
    shipping: Decimal = ZERO
    tax: Decimal = ZERO
    total: Decimal | None = None
    tax_included: bool = False
    charges: tuple[ChargeDraft, ...] = ()
    tags: tuple[str, ...] = ()
