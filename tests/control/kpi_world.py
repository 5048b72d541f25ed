"""A random history of a small brand, written straight to the tables: what every figure is counted from."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass, field
from decimal import Decimal

from django.db import transaction

from channels.models import ChannelAccount, InboxMessage, Listing, StockPush
from fulfillment.models import Shipment
from inventory.ledger import Movement, post_movements
from inventory.models import Sku, Warehouse
from oms.core import clock
from oms.core.actor import SYSTEM
from oms.core.figures import midnight
from oms.orders.models import Hold, Order, OrderLine, SalesChannel
from returns.models import Disposition, ReturnReason, ReturnReceipt, Rma, RmaLine
from tests.factories import make_channel, make_sku, make_warehouse

HOUR = dt.timedelta(hours=1)


@dataclass
class World:
    """Two warehouses, two channels, three SKUs."""

    east: Warehouse
    west: Warehouse
    shop: SalesChannel
    amazon: SalesChannel
    skus: list[Sku]
    dice: random.Random
    numbers: int = 0
    reasons: dict[str, ReturnReason] = field(default_factory=dict)
    listings: list[Listing] = field(default_factory=list)

    def order(
        self,
        placed: dt.datetime,
        shipped: dt.datetime | None = None,
        *,
        channel: SalesChannel | None = None,
        warehouse: Warehouse | None = None,
        units: int = 1,
        short: int = 0,
        price: str = "10.00",
        lines: int = 1,
        **fields: object,
    ) -> Order:
        """One order of `lines` equal lines; shipped at once from one warehouse when a time is given."""
        self.numbers += 1
        state = Order.State.SHIPPED if shipped else Order.State.OPEN
        order = Order.objects.create(
            channel=channel or self.shop,
            external_id=f"K{self.numbers}",
            placed_at=placed,
            imported_at=placed + dt.timedelta(minutes=1),
            channel_updated_at=placed,
            shipped_at=shipped,
            **{"state": state, "currency": "USD", **fields},
        )
        for number in range(lines):
            OrderLine.objects.create(
                order=order,
                external_id=str(number),
                sku=self.skus[(order.pk + number) % len(self.skus)],
                quantity=units,
                shipped=units if shipped else 0,
                short_at_entry=short,
                unit_price=Decimal(price),
            )
        if shipped:
            Shipment.objects.create(
                order=order,
                warehouse=warehouse or self.east,
                state=Shipment.State.SHIPPED,
                created_at=placed + dt.timedelta(minutes=2),
                picked_at=shipped - dt.timedelta(minutes=30),
                packed_at=shipped - dt.timedelta(minutes=20),
                shipped_at=shipped,
                wrong_scans=order.pk % 3 == 0,
            )
        return order

    def come_back(
        self,
        order: Order,
        at: dt.datetime,
        *,
        units: int = 1,
        reason: str = "changed_mind",
        condition: str = "",
    ) -> Rma:
        """Units of the first line arrive."""
        if reason not in self.reasons:
            self.reasons[reason] = ReturnReason.objects.create(
                code=reason, name=reason, our_fault=reason == "wrong_item"
            )
        line = order.lines.order_by("pk").first()
        assert line is not None and line.sku is not None
        rma = Rma.objects.create(
            order=order, warehouse=self.east, state=Rma.State.RECEIVED, received_at=at, created_by="test"
        )
        entry = RmaLine.objects.create(
            rma=rma,
            order_line=line,
            sku=line.sku,
            quantity=units,
            received=units,
            reason=self.reasons[reason],
        )
        ReturnReceipt.objects.create(
            line=entry, quantity=units, key=f"back:{entry.pk}", received_at=at, actor="test"
        )
        if condition:
            Disposition.objects.create(
                line=entry, quantity=units, condition=condition, outcome="scrap", key=f"out:{entry.pk}", inspector="t",
                inspected_at=at,
            )  # fmt: skip
        return rma

    def move(self, at: dt.datetime, quantity: int, *, kind: str = "", bucket: str = "on_hand", sku: int = 0,
             warehouse: Warehouse | None = None, cost: str | None = None, reason: str = "") -> None:  # fmt: skip
        """One ledger row, posted at that moment."""
        self.numbers += 1
        kind = kind or ("receipt" if quantity > 0 else "ship")
        with clock.telling(at), transaction.atomic():
            post_movements(
                [
                    Movement(
                        self.skus[sku].pk, (warehouse or self.east).pk, bucket, quantity, kind, f"k:{self.numbers}",
                        reason=reason, unit_cost=None if cost is None else Decimal(cost),
                    )
                ],
                actor=SYSTEM,
            )  # fmt: skip

    def push(self, at: dt.datetime, took_ms: int, listing: int = 0) -> StockPush:
        return StockPush.objects.create(
            listing=self.listings[listing],
            version=1,
            quantity=1,
            state=StockPush.State.ACKED,
            changed_at=at - dt.timedelta(milliseconds=took_ms),
            sent_at=at,
            answered_at=at,
            latency_ms=took_ms,
        )


def build(seed: int = 1) -> World:
    east, west = make_warehouse("EAST"), make_warehouse("WEST")
    shop, amazon = make_channel("shop", east, west), make_channel("amazon", east)
    skus = [make_sku(code, unit_cost=Decimal("4.00")) for code in ("MUG", "BOWL", "CUP")]
    world = World(east, west, shop, amazon, skus, random.Random(seed))
    for channel in (shop, amazon):
        account = ChannelAccount.objects.create(
            sales_channel=channel, connector="shopify", state=ChannelAccount.State.CONNECTED
        )
        world.listings.append(Listing.objects.create(account=account, external_id="1", sku=skus[0]))
    return world


def scatter(world: World, first: dt.date, last: dt.date, orders: int) -> None:
    """A random history between two business days: orders, returns, holds, pushes and stock that comes and goes."""
    dice = world.dice
    start = midnight(first)
    span = (midnight(last) - start).total_seconds()
    for sku in range(len(world.skus)):
        for place in (world.east, world.west):
            world.move(start + sku * HOUR, 40, sku=sku, warehouse=place, cost=f"{4 + sku}.25")
    moments = sorted(start + dt.timedelta(seconds=dice.random() * span) for _ in range(orders))
    left = {(sku, place.pk): 40 for sku in range(len(world.skus)) for place in (world.east, world.west)}
    for placed in moments:
        channel = dice.choice([world.shop, world.amazon])
        place = dice.choice([world.east, world.west])
        shipped = placed + dt.timedelta(minutes=dice.randint(20, 6000)) if dice.random() < 0.85 else None
        order = world.order(
            placed,
            shipped,
            channel=channel,
            warehouse=place,
            units=dice.randint(1, 3),
            lines=dice.randint(1, 2),
            short=dice.choice([0, 0, 0, 1]),
            price=dice.choice(["3.33", "10.00", "19.95"]),
            is_test=dice.random() < 0.05,
            kind=dice.choice(["sale"] * 9 + ["replacement"]),
            ship_by=placed + 30 * HOUR,
            delivered_at=shipped + 50 * HOUR if shipped and dice.random() < 0.5 else None,
        )
        if shipped and dice.random() < 0.3:
            back = shipped + dt.timedelta(days=dice.choice([3, 20, 90]))
            world.come_back(
                order,
                back,
                reason=dice.choice(["changed_mind", "wrong_item", "rto"]),
                condition=dice.choice(["", "damaged", "wrong_item", "new"]),
            )
        if dice.random() < 0.2:
            Hold.objects.create(
                order=order, reason=dice.choice(["payment", "address"]), placed_by="t", placed_at=placed,
                released_at=placed + HOUR,
            )  # fmt: skip
        sku = dice.randrange(len(world.skus))
        if left[sku, place.pk] > 0:
            many = min(left[sku, place.pk], dice.randint(1, 6))
            left[sku, place.pk] -= many
            world.move(placed, -many, sku=sku, warehouse=place)
        elif dice.random() < 0.4:
            left[sku, place.pk] += 30
            world.move(placed, 30, sku=sku, warehouse=place, cost="5.10")
        world.push(placed, dice.randint(50, 12_000), listing=dice.randrange(2))
        InboxMessage.objects.create(
            account=world.listings[0].account, delivery_id=f"d{order.pk}", topic="orders", received_at=placed,
            event_at=placed - dt.timedelta(seconds=dice.randint(0, 9)),
        )  # fmt: skip
