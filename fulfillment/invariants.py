"""What must hold on the fulfillment floor."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Coalesce

from fulfillment import states
from fulfillment.models import HandOffLine, HandOffParcel, LabelPurchase, Shipment, ShipmentLine
from inventory.models import StockMovement
from oms.core.invariants import invariant


@invariant(
    "F1", "At most one live label purchase per parcel; tracking numbers are unique per carrier account"
)
def one_live_label() -> Iterator[str]:
    twice = (
        LabelPurchase.objects.filter(state__in=LabelPurchase.LIVE)
        .values("parcel")
        .annotate(n=Count("pk"))
        .filter(n__gt=1)
    )
    for row in twice:
        yield f"parcel {row['parcel']} has {row['n']} live label purchases"
    same = (
        LabelPurchase.objects.exclude(tracking_number="")
        .values("account", "tracking_number")
        .annotate(n=Count("pk"))
        .filter(n__gt=1)
    )
    for entry in same:
        yield f"tracking number {entry['tracking_number']} is on {entry['n']} labels"


@invariant(
    "F2",
    "Every shipped unit has exactly one ledger row of on hand, and shipments never hold more than was allocated",
)
def shipped_once() -> Iterator[str]:
    gone = {
        row["shipment"]: row["units"]
        for row in ShipmentLine.objects.filter(
            shipment__state__in=[Shipment.State.SHIPPED, Shipment.State.DELIVERED]
        )
        .values("shipment")
        .annotate(units=Sum("quantity"))
    }
    posted: dict[str, int] = dict(
        StockMovement.objects.filter(
            kind=StockMovement.Kind.SHIP, bucket="on_hand", reference__startswith="S-"
        )
        .values_list("reference")
        .annotate(units=Sum("quantity"))
    )
    for shipment_id, units in gone.items():
        moved = -posted.pop(f"S-{shipment_id}", 0)
        if moved != units:
            yield f"S-{shipment_id} shipped {units} units, the ledger moved {moved}"
    for reference, units in posted.items():
        yield f"the ledger shipped {-units} units for {reference}, which is not a shipped shipment"
    over = (
        ShipmentLine.objects.filter(shipment__state__in=states.OPEN)
        .values("allocation", "allocation__reservation__quantity")
        .annotate(units=Sum("quantity"))
        .filter(units__gt=F("allocation__reservation__quantity"))
        .exclude(shipment__state__in=[Shipment.State.PACKED, Shipment.State.LABELLED])
    )
    for row in over:
        held = row["allocation__reservation__quantity"]
        yield f"allocation {row['allocation']} holds {held}, open shipments take {row['units']}"


@invariant("F5", "Parcels of a packed shipment hold exactly its units")
def parcels_add_up() -> Iterator[str]:
    wrong = (
        ShipmentLine.objects.filter(
            shipment__state__in=[Shipment.State.PACKED, Shipment.State.LABELLED, Shipment.State.SHIPPED]
        )
        .annotate(boxed=Coalesce(Sum("parcel_items__quantity"), 0))
        .filter(~Q(boxed=F("quantity")))
    )
    for line in wrong:
        yield f"shipment line {line.pk}: {line.quantity} units, {line.boxed} in parcels"


@invariant(
    "F6",
    "A hand-off leaves with a notice only, its units are counted once, and what left was booked or told as too much",
)
def hand_offs_add_up() -> Iterator[str]:
    gone = Shipment.objects.filter(
        state__in=[Shipment.State.SHIPPED, Shipment.State.DELIVERED], hand_off__isnull=False
    )
    for shipment in gone.exclude(
        pk__in=HandOffParcel.objects.filter(shipment__isnull=False).values("shipment")
    ):
        yield f"{shipment.number} was handed over and left without a notice of the 3PL"
    units: dict[int, int] = {}
    for hand_off, quantity in HandOffParcel.objects.filter(shipment__isnull=False).values_list(
        "hand_off", "shipment__lines__quantity"
    ):
        units[hand_off] = units.get(hand_off, 0) + (quantity or 0)
    told = (
        HandOffLine.objects.values("hand_off__reference", "hand_off")
        .annotate(left=Sum("shipped"), over=Sum("excess"))
        .order_by("hand_off")
    )
    for row in told:
        left = units.pop(row["hand_off"], 0)
        if left > row["left"] or left + row["over"] < row["left"]:
            yield (
                f"{row['hand_off__reference']}: {row['left']} units told as sent, {left} booked, "
                f"{row['over']} too much"
            )
