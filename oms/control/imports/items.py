"""What a profile makes of a file's rows: things to write, and problems to show."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from decimal import Decimal

from oms.orders.drafts import OrderDraft


@dataclass(frozen=True)
class Problem:
    """A row that needs eyes. `error`: left out; `note`: taken, but worth knowing."""

    row: int
    column: str
    message: str
    level: str = "error"
    raw: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NewSku:
    """A product code of the file that the catalogue does not know."""

    code: str
    title: str
    price: Decimal
    currency: str


@dataclass(frozen=True)
class OrderItem:
    row: int
    draft: OrderDraft
    skus: tuple[NewSku, ...] = ()


@dataclass(frozen=True)
class CreditLine:
    row: int
    code: str
    title: str
    quantity: int


@dataclass(frozen=True)
class CreditItem:
    """Goods credited without a link to their order: they arrive as an unannounced return, in quarantine."""

    row: int
    number: str
    lines: tuple[CreditLine, ...]


@dataclass(frozen=True)
class AdjustItem:
    """A stock correction: signed eaches of one SKU."""

    row: int
    key: str
    code: str
    title: str
    quantity: int
    reason: str


@dataclass(frozen=True)
class PurchaseLine:
    row: int
    code: str
    quantity: int
    unit_cost: Decimal


@dataclass(frozen=True)
class PurchaseItem:
    row: int
    number: str
    supplier: str
    warehouse: str
    currency: str
    ordered_on: dt.date | None
    expected_on: dt.date | None
    note: str
    freight: Decimal
    duty: Decimal
    lines: tuple[PurchaseLine, ...]


Item = OrderItem | CreditItem | AdjustItem | PurchaseItem | Problem
