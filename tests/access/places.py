"""Two of everything: one near, where the tested person may look, and one far, where not.

A new address with an argument needs one line in `objects()`, under the name of the argument:

    "<namespace>:<argument>": (near, far)          for a screen, `"<namespace>:<url name>:<argument>"` for one screen
    "api:<basename>": (near, far)                  for a resource of the REST interface

`far` is None for what belongs to no warehouse and no channel (products, suppliers, people).
"""

from __future__ import annotations

import datetime as dt
import gzip
from decimal import Decimal
from typing import Any

from django.utils import timezone

from channels.connectors.base import get_connector
from channels.models import ChannelAccount, ChannelEffect, Drift, InboxMessage, Listing, OversellIncident
from fulfillment import routing_service
from fulfillment.models import (
    CarrierAccount,
    CustomsTerms,
    HandOff,
    InboundNotice,
    RoutingDecision,
    RoutingPolicy,
    Shipment,
    ThreePLAccount,
    ThreePLFile,
    ThreePLMessage,
)
from inventory import evidence, reservations
from inventory.models import (
    AdjustmentRequest,
    Bin,
    CountTask,
    Lot,
    Reservation,
    RingFence,
    SerialUnit,
    Sku,
    StockBatch,
    StockDifference,
    StockLevel,
    StockMovement,
    Transfer,
    TransferLine,
    Warehouse,
)
from oms.control.models import (
    ExportFile,
    ImportFile,
    ScheduledExport,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
)
from oms.core import exceptions_inbox, tokens
from oms.core.access import can
from oms.core.actor import SYSTEM, actor_of
from oms.core.models import Job, SavedView, User
from oms.orders.drafts import ContactDraft
from oms.orders.intake import take
from oms.orders.models import FxRate, Order, Promise
from procurement.models import PurchaseOrder, PurchaseOrderLine, ReorderSuggestion, Supplier
from returns.models import Rma, RmaLine
from tests.factories import T0, add_stock, line_draft, make_channel, make_sku, make_warehouse, order_draft

NEAR, FAR = "NEARBY", "FARAWAY"
SHOP, FARSHOP = "nearshop", "farshop"
#: a near channel whose fields are mapped by a person
MAPPED = "nearmap"
#: no page of somebody limited to NEARBY and nearshop shows any of these
FAR_WORDS = ("FARAWAY", "farshop", "Farname", "FS-4711")
#: an amount that only those see who may see costs
COST = Decimal("77.31")
#: the buyer of both orders; masked for those who may not see personal data
BUYER_WORDS = ("Zebulon", "zeb@example.org", "1 Secret St")

Pair = tuple[Any, Any]


def objects(user: User, sku: Sku) -> dict[str, Pair]:
    """Argument → (near, far). See the head of this file."""
    near, far = _place(NEAR, SHOP, "NS", sku), _place(FAR, FARSHOP, "FS", sku)
    both = {name: (near[name], far[name]) for name in near}
    supplier = Supplier.objects.get(code="KILN")
    token, _ = tokens.issue(User.objects.create_user("mia"), "scanner", ["stock:read"], actor=SYSTEM)
    mine = Job.objects.create(kind="import", title="mine", created_by=str(actor_of(user)))
    others = Job.objects.create(kind="import", title="not mine", created_by="user:somebody")
    file = ImportFile.objects.create(
        kind="stock", profile="stock", name="f.csv", sha256="0", size=1, created_by="x"
    )
    transfers = _transfers(sku)
    lot = Lot.objects.create(sku=sku, code="L1")
    routing_service.publish([{"name": "Gift", "then": {"tags": ["gift"]}}], actor=SYSTEM)
    webhook = WebhookEndpoint.objects.create(
        url="https://hooks.example.org/", events=["order.created"], secret="whsec_x", created_by="x"
    )
    event = WebhookEvent.objects.create(uid="msg_1", type="order.created", subject="order:1", occurred_at=T0)
    WebhookDelivery.objects.create(endpoint=webhook, event=event, subject=event.subject)
    my_file, their_file = _export(user), _export(token.user)
    return {
        # screens
        # who runs the house sees all jobs
        "control:job_id": (mine.pk, None if can(user, "settings.manage") else others.pk),
        "control:file_id": (file.pk, None),
        "control:kind": ("stock", None),
        # a figure that everybody with reports may see, and one of its parts
        "control:key": ("cycle", None),
        "control:part": ("shipped", None),
        "control:user_id": (token.user_id, None),
        "control:token_id": (token.pk, None),
        "control:webhook_id": (webhook.pk, None),
        "control:delivery_id": (webhook.deliveries.get().pk, None),
        "orders:number": both["number"],
        "inventory:pk": transfers,
        "inventory:code": (sku.code, None),
        "inventory:task_id": both["count"],
        "inventory:bin_id": both["bin"],
        "inventory:unit_id": both["serial"],
        "inventory:file_id": both["proof"],
        "inventory:kind": ("request", None),
        "inventory:evidence-files:pk": both["asked"],
        "inventory:sku_id": (sku.pk, None),
        "fulfillment:lot_id": (lot.pk, None),
        "procurement:pk": both["purchase"],
        "procurement:code": (supplier.code, None),
        "procurement:sku_id": (sku.pk, None),
        "control:code": (NEAR, None),
        "control:account_id": (
            CarrierAccount.objects.create(code="c", name="C", connector="table_rate").pk,
            None,
        ),
        "control:terms_id": (CustomsTerms.objects.create(destination="CA").pk, None),
        "control:rate_id": (FxRate.objects.create(currency="EUR", day=dt.date(2020, 1, 1), rate=1).pk, None),
        "control:export_id": (
            my_file.export_id,
            None if can(user, "settings.manage") else their_file.export_id,
        ),
        "control:export_file_id": (my_file.pk, None if can(user, "settings.manage") else their_file.pk),
        "control:view_id": (_view(user), _view(token.user)),
        "fulfillment:pk": both["shipment"],
        "fulfillment:order_id": both["order"],
        "fulfillment:index": (0, None),
        "fulfillment:kind": ("pdf", None),
        "threepl:code": both["threepl"],
        "threepl:pk": both["hand_off"],
        "threepl:message:pk": both["threepl_message"],
        "threepl:file_id": both["threepl_file"],
        "inventory:difference:pk": both["difference"],
        "inventory:evidence:pk": both["difference"],
        "returns:pk": both["rma"],
        "returns:order_id": both["order"],
        "channels:code": (SHOP, FARSHOP),
        "channels:pk": both["listing"],
        "channels:file_id": (1, 1),
        "channels:heal:pk": both["drift"],
        "channels:accept:pk": both["drift"],
        "channels:effect:pk": both["effect"],
        "channels:oversell:pk": both["oversell"],
        "channels:message:pk": both["message"],
        "channels:order_id": both["order"],
        "channels:sku_id": (sku.pk, None),
        # resources of the REST interface
        "api:product": (sku.product_id, None),
        "api:sku": (sku.pk, None),
        "api:warehouse": (NEAR, FAR),
        "api:stock": both["level"],
        "api:count": both["count"],
        "api:transfer": transfers,
        "api:lot": (lot.pk, None),
        "api:adjustment": both["asked"],
        "api:stock-batch": both["batch"],
        "api:evidence": both["proof"],
        "api:ring-fence": both["fence"],
        "api:movement": both["movement"],
        "api:reservation": both["held"],
        "api:supplier": (supplier.pk, None),
        "api:purchase-order": both["purchase"],
        "api:promise": both["promise"],
        "api:order": both["order"],
        "api:order-part": both["order"],
        "api:shipment": both["shipment"],
        "api:return": both["rma"],
        "api:routing-policy": (RoutingPolicy.objects.get(is_active=True).pk, None),
        "api:routing-decision": both["decision"],
        "api:reorder-suggestion": both["suggestion"],
        "api:user": (token.user_id, None),
        "api:token": (token.pk, None),
        "api:difference": both["difference"],
        "api:hand-off": both["hand_off"],
        "api:inbound-notice": both["inbound"],
        "api:channel": (SHOP, FARSHOP),
        "api:listing": both["listing"],
        "api:drift": both["drift"],
        "api:channel-mapping": (_mapped(MAPPED), _mapped("farmap")),
        "api:kpi": ("cycle", None),
        "api:exception": both["trouble"],
        "api:import": (file.pk, None),
        "api:channel-message": both["message"],
        "api:webhook": (webhook.pk, None),
        "api:webhook-delivery": (webhook.deliveries.get().pk, None),
    }


def _mapped(code: str) -> str:
    """A channel of files, whose columns a person maps."""
    config = get_connector("files").check_config({"folder": code})
    ChannelAccount.objects.create(sales_channel=make_channel(code), connector="files", config=config)
    return code


def _export(user: User) -> ExportFile:
    """A finished file of somebody's schedule."""
    view = SavedView.objects.create(owner=user, screen="orders:list", name="Nightly", query="")
    schedule = ScheduledExport.objects.create(
        view=view, owner=user, every="daily", at=dt.time(7), next_run_at=T0 + dt.timedelta(days=9000)
    )
    return ExportFile.objects.create(
        export=schedule, due_at=T0, state="done", content=gzip.compress(b"order\r\n")
    )


def _view(owner: User) -> int:
    """A view that its owner keeps private."""
    return SavedView.objects.create(screen="orders:list", name="mine", query="view=late", owner=owner).pk


def build() -> Sku:
    """What does not belong to a place."""
    Supplier.objects.create(code="KILN", name="Kiln", currency="USD", lead_time_days=7)
    return make_sku("MUG", weight_g=300)


def _place(place: str, shop: str, prefix: str, sku: Sku) -> dict[str, Any]:
    """One of everything in one warehouse and on one channel."""
    warehouse = make_warehouse(place, name="Farname" if place == FAR else "Nearname")
    add_stock(sku, warehouse, 40, unit_cost=COST)
    channel = make_channel(shop, warehouse, prefix=prefix, name="Farname" if place == FAR else "Nearname")
    account = ChannelAccount.objects.create(sales_channel=channel, connector="shopify", state="connected")
    draft = order_draft(
        line_draft(sku, 2),
        external_id="4711",
        external_number=f"{prefix}-4711",
        contact=ContactDraft(name="Zebulon Pike", email="zeb@example.org", address1="1 Secret St", city="Austin",
                             region="TX", postal_code="78701", country="US"),
    )  # fmt: skip
    take([draft], channel=channel, actor=SYSTEM, source="test")
    order = Order.objects.get(channel=channel)
    shipment = Shipment.objects.create(order=order, warehouse=warehouse)
    account_3pl = ThreePLAccount.objects.create(
        code=place.lower(), name=f"3PL {place}", warehouse=warehouse, kind="csv", hook_key=place
    )
    hand_off = HandOff.objects.create(account=account_3pl, shipment=shipment, reference=shipment.number)
    rma = Rma.objects.create(order=order, warehouse=warehouse, state="approved", created_by="x")
    RmaLine.objects.create(rma=rma, order_line=order.lines.get(), sku=sku, quantity=1)
    purchase = PurchaseOrder.objects.create(
        supplier=Supplier.objects.get(code="KILN"), warehouse=warehouse, created_by="x"
    )
    PurchaseOrderLine.objects.create(order=purchase, number=1, sku=sku, quantity=5, unit_price=COST)
    listing = Listing.objects.create(account=account, external_id="L1", external_sku=f"{prefix}-MUG", sku=sku)
    drift = Drift.objects.create(listing=listing, ours=1, theirs=2, cause="edited")
    oversell = OversellIncident.objects.create(
        line=order.lines.get(),
        order=order,
        sku=sku,
        listing=listing,
        units=1,
        hop="intake",
        why="booked late",
    )
    message = InboxMessage.objects.create(
        account=account, delivery_id=f"d-{place}", topic="orders", state="dead"
    )
    effect = ChannelEffect.objects.create(
        account=account, order=order, kind="ship", reference=f"S-{shipment.pk}", key=f"ship:{place}"
    )
    held = reservations.reserve(
        [reservations.ReserveLine(f"hold:{place}", sku.pk, 1, (warehouse.pk,))], actor=SYSTEM
    )
    author = User.objects.create_user(f"author{prefix}")
    asked = AdjustmentRequest.objects.create(
        sku=sku, warehouse=warehouse, quantity=1, reason=place, author=author
    )
    batch = StockBatch.objects.create(
        kind="stock.bulk", title=place, rows=1, units_in=1, units_out=0, value=1, limit=0, key=place, actor="x",
        places=[place], author=author,
        params={"action": "add", "ids": [sku.pk], "warehouse": warehouse.pk, "params": {"units": 1}, "key": place,
                "user": author.pk},
    )  # fmt: skip
    [proof] = evidence.attach(asked, [("p.jpg", b"\xff\xd8\xff" + place.encode())], actor=SYSTEM)
    trouble = exceptions_inbox.raise_item(
        "test", f"test:{place}", f"Trouble at {place}", warehouse_code=place, channel_code=shop
    )
    decision = RoutingDecision.objects.create(
        order=order, policy_version=0, actor="x", outcome="routed", summary=place, trace={}
    )
    suggestion = ReorderSuggestion.objects.create(
        sku=sku, warehouse=warehouse, need=5, quantity=5, reorder_point=9, position=4, reason=place
    )
    return {
        "order": order.pk,
        "decision": decision.pk,
        "suggestion": suggestion.pk,
        "trouble": trouble.pk,
        "number": order.number,
        "shipment": shipment.pk,
        "threepl": account_3pl.code,
        "hand_off": hand_off.pk,
        "threepl_message": ThreePLMessage.objects.create(
            account=account_3pl, delivery_id=place, topic="order.status", reference=place, state="dead"
        ).pk,
        "threepl_file": ThreePLFile.objects.create(
            account=account_3pl,
            direction="out",
            kind="orders",
            name=f"{place}.csv",
            sha256=place,
            actor="x",
            content="Zebulon,1 Secret St",
        ).pk,
        "difference": StockDifference.objects.create(
            sku=sku,
            warehouse=warehouse,
            theirs=30,
            ours=40,
            taken_at=timezone.now(),
            value=COST,
            reason=place,
        ).pk,
        "inbound": InboundNotice.objects.create(
            account=account_3pl, reference=purchase.number, purchase_order=purchase
        ).pk,
        "rma": rma.pk,
        "purchase": purchase.pk,
        "promise": Promise.objects.create(line=order.lines.get(), purchase=purchase).pk,
        "listing": listing.pk,
        "drift": drift.pk,
        "oversell": oversell.pk,
        "message": message.pk,
        "effect": effect.pk,
        "level": StockLevel.objects.get(sku=sku, warehouse=warehouse).pk,
        "movement": StockMovement.objects.filter(sku=sku, warehouse=warehouse).earliest("pk").pk,
        "fence": RingFence.objects.create(
            sku=sku, channel_code=shop, quantity=1, ends_at=timezone.now() + dt.timedelta(days=1)
        ).pk,
        "count": CountTask.objects.create(sku=sku, warehouse=warehouse, due_on=T0.date(), created_by="x").pk,
        "bin": Bin.objects.create(warehouse=warehouse, code=f"{prefix}-A1").pk,
        "asked": asked.pk,
        "batch": batch.pk,
        "proof": proof.pk,
        "serial": SerialUnit.objects.create(sku=sku, serial=f"{place}-1", warehouse=warehouse).pk,
        "held": str(Reservation.objects.get(pk=held[0].parts[0].reservation_id).uid),
    }


def _transfers(sku: Sku) -> Pair:
    """One that leaves the near warehouse for another, one between two far ones."""
    near = Warehouse.objects.get(code=NEAR)
    spare, far = make_warehouse("NEARBY2"), Warehouse.objects.get(code=FAR)
    made = []
    for source, destination in ((near, spare), (far, make_warehouse("FARAWAY2"))):
        transfer = Transfer.objects.create(
            source=source, destination=destination, actor="x", requested_at=timezone.now()
        )
        TransferLine.objects.create(transfer=transfer, sku=sku, quantity=1)
        made.append(transfer.pk)
    return made[0], made[1]
