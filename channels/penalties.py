"""What it costs to cancel a buyer's order, per channel: the table behind the cheapest remedy.

Marketplaces publish limits, not prices, so `cost` is an estimate in the business currency of what one seller-caused
cancellation does to the account, and `limit` is the published share of cancelled orders. Both change, and copies of
the pages contradict each other: correct them here with the date.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Penalty:
    """`limit` in percent of orders; empty where the platform states none."""

    cost: Decimal
    limit: Decimal | None
    name: str
    valid_from: dt.date
    source: str


CANCEL: dict[str, Penalty] = {
    "amazon": Penalty(
        Decimal(25), Decimal("2.5"), "pre-fulfilment cancel rate over 7 days", dt.date(2026, 1, 1), "cajari.com"
    ),
    "ebay": Penalty(
        Decimal(20), Decimal(2), "transaction defect rate; each seller cancellation is a defect", dt.date(2026, 1, 1),
        "ocsnext.ebay.ph",
    ),
    "walmart": Penalty(
        Decimal(20), Decimal(2), "cancellation rate", dt.date(2026, 1, 1), "marketplacelearn.walmart.com"
    ),
    "tiktok": Penalty(
        Decimal(15), Decimal("2.5"), "seller-fault cancellation rate", dt.date(2026, 1, 1), "seller-us.tiktok.com"
    ),
}  # fmt: skip
#: an own shop: no penalty, one disappointed buyer
OWN_SHOP = Penalty(Decimal(5), None, "no limit: the buyer's patience", dt.date(2026, 1, 1), "estimate")


def of(connector: str) -> Penalty:
    return CANCEL.get(connector, OWN_SHOP)
