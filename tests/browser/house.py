"""A small house with something on every screen: stock, orders in several states, a return, purchases, trouble."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import Client

from channels.models import ChannelAccount, ChannelEffect, Drift, InboxMessage, Listing, StockPush
from fulfillment import labels, shipping
from fulfillment.models import HandOff, LabelPurchase, Shipment, ThreePLFile
from fulfillment.threepl import accounts, inbox
from inventory import counts, fences, lots, operations, putaway, transfers
from inventory.ledger import Movement, post_movements
from inventory.models import AdjustmentRequest, Lot
from oms.control.models import ImportFile, WebhookDelivery, WebhookEndpoint, WebhookEvent
from oms.core import business, jobs, tokens
from oms.core.actor import SYSTEM, Actor
from oms.core.clock import now
from oms.core.exceptions_inbox import raise_item
from oms.core.models import User
from oms.orders import bulk, services
from oms.orders.models import Hold
from procurement import purchase_orders
from procurement.models import ReorderSuggestion, Supplier, SupplierOffer
from returns import rma
from tests.factories import add_stock, make_kit, make_sku, make_user, make_warehouse
from tests.fulfillment.conftest import World


def furnish(world: World, owner: User) -> None:
    """Rows for every screen, through the product's services where there are some."""
    person = Actor("user", owner.username, owner.pk)
    _orders(world)
    _channel(world)
    _purchasing(world)
    _threepl(world)
    _stock_work(world)
    for number in range(3):
        raise_item(
            "no_route", f"k{number}", f"SH-{number} has no route", "No warehouse has it.", severity=number + 1
        )
    make_kit("SET-2", {world.sku: 2})
    add_stock(world.sku, world.east, 5)  # the backorder has taken the rest
    moved = transfers.request_transfer(
        source_id=world.east.pk, destination_id=world.west.pk, lines={world.sku.pk: 2}, actor=person
    )
    transfers.ship_transfer(moved.pk, actor=person)
    AdjustmentRequest.objects.create(
        sku=world.sku, warehouse=world.east, quantity=-3, reason="damage", author=make_user("ada")
    )
    tokens.issue(owner, "ERP", ["orders:read"], actor=person)
    hook = WebhookEndpoint.objects.create(
        url="https://erp.example/in", events=["order.shipped"], secret="whsec_x", created_by="user:owner"
    )
    event = WebhookEvent.objects.create(
        uid="evt_1", type="order.shipped", subject="order:1", occurred_at=now(), data={"id": 1}
    )
    WebhookDelivery.objects.create(endpoint=hook, event=event, subject=event.subject)
    job = bulk.start("tag", [1, 2], {"tag": "gift"}, actor=person)
    jobs.run_job(job.pk, budget=5)
    client = Client()
    client.force_login(owner)
    text = "sku,warehouse,quantity,mode\nMUG,EAST,30,set\nMUG,EAST,12 pcs,set\n"
    client.post("/imports/", {"kind": "stock", "file": SimpleUploadedFile("stock.csv", text.encode())})
    file = ImportFile.objects.get()
    assert file.job is not None
    jobs.run_job(file.job.pk, budget=5)


def _stock_work(world: World) -> None:
    """Bins with a dock, a lot that expires soon, a blocked one, counts in two states, a ring-fence."""
    for code, kind, sequence in (("DOCK", "dock", 0), ("A-01", "pick", 10), ("B-01", "bulk", 20)):
        putaway.save_bin(
            warehouse_id=world.east.pk,
            code=code,
            kind=kind,
            pick_sequence=sequence,
            zone=code[0],
            actor=SYSTEM,
        )
    soap = make_sku("SOAP", lot_tracked=True)
    shelf = world.east.bins.get(code="A-01")
    today = now().date()
    with transaction.atomic():
        for number, (code, days) in enumerate((("L-1", 12), ("L-2", 400))):
            lot = Lot.objects.create(
                sku=soap, code=code, expires_on=today + dt.timedelta(days=days), source="GR-1"
            )
            post_movements(
                [
                    Movement(
                        soap.pk, world.east.pk, "on_hand", 6, "receipt", key=f"soap:{number}", bin_id=shelf.pk,
                        lot_id=lot.pk,
                    )
                ],
                actor=SYSTEM,
            )  # fmt: skip
    lots.set_blocked(lot.pk, True, reason="smells", actor=SYSTEM)
    counts.ask(soap.pk, world.east.pk, cause="manual", actor=SYSTEM)
    off = counts.ask(world.sku.pk, world.west.pk, cause="rule", actor=SYSTEM)
    counts.submit(off.pk, 3, actor=SYSTEM)
    fences.create(
        sku_id=soap.pk, channel_code=world.channel.code, quantity=2, ends_at=now() + dt.timedelta(days=3),
        actor=SYSTEM,
    )  # fmt: skip


def _orders(world: World) -> None:
    sent = world.packed(2)
    labels.buy(sent.pk, actor=SYSTEM)
    shipping.ship(sent.pk, actor=SYSTEM)
    line = sent.order.lines.get()
    back = rma.open_rma(
        order_id=sent.order_id, items=[rma.ReturnItem(line.pk, 2)], warehouse_id=world.east.pk, actor=SYSTEM
    )
    rma.receive(back.pk, {back.lines.get().pk: 1}, actor=SYSTEM, key="r")
    world.routed(1)
    world.packed(1)
    assert LabelPurchase.objects.exists()
    held = world.order(1)
    services.place_hold(held.pk, Hold.Reason.FRAUD, actor=SYSTEM, note="two cards")
    services.set_tags(held.pk, ["gift", "vip"], actor=SYSTEM)
    world.order(40)  # a backorder


def _threepl(world: World) -> None:
    """A 3PL that reads files: one order handed over, one message that needs a person, one figure that differs."""
    ohio = make_warehouse("OHIO", kind="3pl", name="Midway, Ohio", address1="1 Dock", city="Columbus")
    add_stock(world.sku, ohio, 9)
    account = accounts.connect(
        code="midway", name="Midway 3PL", warehouse_id=ohio.pk, kind="csv", actor=SYSTEM
    )
    accounts.test(account.pk, actor=SYSTEM)
    shipment = Shipment.objects.create(order=world.order(1), warehouse=ohio, state="picking")
    HandOff.objects.create(account=account, shipment=shipment, reference=shipment.number, state="in_doubt")
    inbox.accept(account, "d1", "order.status", {"reference": "S-404", "status": "accepted"})
    inbox.drain(account.pk)
    operations.apply_pool_snapshot(
        warehouse_id=ohio.pk,
        figures=[operations.PoolFigure(world.sku.pk, 5)],
        taken_at=now(),
        actor=SYSTEM,
        key="s",
    )
    ThreePLFile.objects.create(
        account=account, direction="in", kind="acks", name="acks.csv", sha256="1", accepted=False, actor="x",
        problems=[[2, "reference", "reference: unknown"]],
    )  # fmt: skip


def _channel(world: World) -> None:
    account = ChannelAccount.objects.create(
        sales_channel=world.channel, connector="shopify", config={"shop": "acme.myshopify.com"}, state="connected",
        credentials={"access_token": "x"},
    )  # fmt: skip
    good = Listing.objects.create(
        account=account, external_id="1", location_id="9", external_sku="MUG", title="Blue mug", sku=world.sku,
        version=2, acked_version=2, acked_quantity=4, acked_at=now(),
    )  # fmt: skip
    StockPush.objects.create(
        listing=good, version=2, quantity=4, state="acked", changed_at=now(), sent_at=now(), answered_at=now(),
        latency_ms=820,
    )  # fmt: skip
    Listing.objects.create(
        account=account, external_id="2", external_sku="BAD", sku=world.sku, version=1, stale_since=now(), attempts=5,
        dead=True, last_error="INVALID_LOCATION: gone",
    )  # fmt: skip
    Listing.objects.create(account=account, external_id="3", external_sku="WHAT", title="Mug of mystery")
    Drift.objects.create(listing=good, ours=4, theirs=9, cause="edited", evidence={"why": "raised there"})
    InboxMessage.objects.create(
        account=account, delivery_id="d", topic="orders/create", state="dead", error="no such field"
    )
    ChannelEffect.objects.create(
        account=account, order=world.channel.orders.earliest("pk"), kind="ship", reference="S-1", key="ship:1:1",
        state="in_doubt", error="no answer",
    )  # fmt: skip


def _purchasing(world: World) -> None:
    kiln = Supplier.objects.create(code="KILN", name="Kiln", lead_time_days=14, email="kiln@example.com")
    offer: dict[str, Any] = {"supplier": kiln, "sku": world.sku, "price": Decimal("3.10"), "currency": "USD"}
    SupplierOffer.objects.create(**offer)
    lines = [purchase_orders.LineSpec(world.sku.pk, 24, Decimal("3.10"))]
    for sent in (False, True):
        made = purchase_orders.create(
            supplier_id=kiln.pk, warehouse_id=world.east.pk, lines=lines, actor=SYSTEM
        )
        if sent:
            purchase_orders.approve(made.pk, actor=SYSTEM)
            purchase_orders.send(made.pk, actor=SYSTEM)
    add_stock(make_sku("CAP"), world.east, 1)
    ReorderSuggestion.objects.create(
        sku=world.sku, warehouse=world.east, offer=kiln.offers.get(), need=19, quantity=24, reorder_point=10,
        position=7, reason="Position 7 ≤ reorder point 10: order 24.", trace={"velocity": 0.51},
    )  # fmt: skip
    business.put("company_name", "Harbour & Pine")
