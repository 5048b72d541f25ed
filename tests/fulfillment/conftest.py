"""An order ready to be shipped, and a carrier whose answers the test decides."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from fulfillment import packing, picking, rates, routing_service
from fulfillment.carriers import base
from fulfillment.models import CarrierAccount, PackageType, Shipment
from inventory.models import Sku, Warehouse
from oms.core.actor import SYSTEM, Actor
from oms.core.clock import now
from oms.orders import intake
from oms.orders.models import Order, SalesChannel
from tests.factories import add_stock, line_draft, make_channel, make_sku, make_warehouse, order_draft

PICKER = Actor("user", "finn")


@dataclass
class PlayedCarrier(base.CarrierConnector):
    """Keeps its own ledger of purchases; `plan` says what the caller sees of the next ones."""

    plan: list[str] = field(default_factory=list)
    bought: dict[str, base.Bought] = field(default_factory=dict)  # by reference
    calls: int = 0
    voided: list[str] = field(default_factory=list)
    rates: tuple[base.Rate, ...] = ()
    resolvable: bool = True

    def quote(self, request: base.QuoteRequest) -> base.QuoteResult:
        return base.QuoteResult(self.rates)

    def buy(self, request: base.BuyRequest, *, key: str) -> base.BuyOutcome:
        self.calls += 1
        what = self.plan.pop(0) if self.plan else "ok"
        if what == "reject":
            return base.Rejected(
                base.Problem(base.ProblemKind.INVALID_REQUEST, "postal code does not match the city")
            )
        label = base.Bought(
            f"1Z{self.calls:09d}",
            f"ref-{self.calls}",
            Decimal("6.10"),
            "USD",
            {"pdf": b"%PDF-1.4 x", "zpl": b"^XA^XZ"},
        )
        if what != "lost":
            self.bought[request.reference] = label
        if what in ("timeout", "lost"):
            return base.Unknown(base.Problem(base.ProblemKind.TIMEOUT, "no answer"))
        if what == "die":
            raise KeyboardInterrupt  # the worker is killed after the carrier booked it
        return label

    def resolve(self, *, key: str, reference: str) -> base.ResolveOutcome:
        if not self.resolvable:
            return base.Unsupported()
        return self.bought.get(reference) or base.NotFoundAtCarrier()

    def void(self, *, tracking_number: str, carrier_ref: str) -> base.Problem | None:
        self.voided.append(tracking_number)
        return None


def rate(service: str, amount: str, days: int | None, currency: str = "USD") -> base.Rate:
    arrives = now().date() + dt.timedelta(days=days) if days is not None else None
    return base.Rate(service, service.title(), Decimal(amount), currency, days, arrives)


@dataclass
class World:
    sku: Sku
    east: Warehouse
    west: Warehouse
    channel: SalesChannel

    def order(self, quantity: int = 2, **fields: Any) -> Order:
        taken = intake.take(
            [order_draft(line_draft(self.sku, quantity), **fields)],
            channel=self.channel,
            actor=SYSTEM,
            source="webhook",
        )
        assert taken[0].outcome == "created", taken
        return Order.objects.get(pk=taken[0].order_id)

    def routed(self, quantity: int = 2, **fields: Any) -> Shipment:
        order = self.order(quantity, **fields)
        routing_service.route(order.pk, actor=SYSTEM)
        return Shipment.objects.get(order=order)

    def packed(self, quantity: int = 2, **fields: Any) -> Shipment:
        shipment = self.routed(quantity, **fields)
        picking.pick_all(shipment.pk, actor=PICKER)
        packing.pack(shipment.pk, actor=PICKER)
        rates.shop(shipment.pk)
        shipment.refresh_from_db()
        return shipment


@pytest.fixture
def world(db: None) -> World:
    east = make_warehouse(
        "EAST", region="NJ", postal_code="07114", address1="200 Port Street", city="Newark", priority=1
    )
    west = make_warehouse(
        "WEST", region="NV", postal_code="89502", address1="81 Vista", city="Reno", priority=2
    )
    sku = make_sku("MUG", weight_g=380, length_mm=110, width_mm=110, height_mm=105)
    add_stock(sku, east, 10)
    add_stock(sku, west, 10)
    PackageType.objects.create(name="Small", length_mm=260, width_mm=240, height_mm=150, tare_g=120)
    return World(sku, east, west, make_channel("shop", east, west))


@pytest.fixture
def carrier(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedCarrier]:
    played = PlayedCarrier()
    played.rates = (rate("ground", "6.10", 3), rate("express", "19.00", 1))
    monkeypatch.setitem(base.CONNECTORS, "played", "tests.fulfillment.conftest:connect")
    global _played
    _played = played
    CarrierAccount.objects.create(code="played", name="Played", connector="played")
    yield played


_played: PlayedCarrier | None = None


def connect(account: Any) -> PlayedCarrier:
    assert _played is not None
    return _played
