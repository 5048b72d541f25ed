"""Packing: picked units go into parcels with a real weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction

from fulfillment.models import LabelPurchase, PackageType, Parcel, ParcelItem, Shipment
from fulfillment.shipments import locked, not_handed_off, set_state, why_not_shippable
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import Conflict, UserError, about
from oms.core.exceptions_inbox import close_item
from oms.core.words import some
from oms.orders import timeline


@dataclass(frozen=True)
class Box:
    """One parcel: `items` maps shipment line id → units; weight in grams over all, measured or computed."""

    items: dict[int, int]
    package_type_id: int | None = None
    weight_g: int | None = None
    length_mm: int | None = None
    width_mm: int | None = None
    height_mm: int | None = None


def whole_in_one(shipment: Shipment) -> Box:
    """Everything in the smallest package type that takes the volume and weight."""
    lines = list(shipment.lines.select_related("sku"))
    volume = sum(
        line.quantity * (line.sku.length_mm or 0) * (line.sku.width_mm or 0) * (line.sku.height_mm or 0)
        for line in lines
    )
    weight = sum(line.quantity * (line.sku.weight_g or 0) for line in lines)
    longest = max(
        (max(line.sku.length_mm or 0, line.sku.width_mm or 0, line.sku.height_mm or 0) for line in lines),
        default=0,
    )
    fitting = [
        box
        for box in PackageType.objects.filter(is_active=True)
        if box.length_mm * box.width_mm * box.height_mm >= volume
        and max(box.length_mm, box.width_mm, box.height_mm) >= longest
        and (box.max_weight_g is None or box.max_weight_g >= weight + box.tare_g)
    ]
    fitting.sort(key=lambda box: (box.length_mm * box.width_mm * box.height_mm, box.pk))
    return Box({line.pk: line.quantity for line in lines}, fitting[0].pk if fitting else None)


def pack(shipment_id: int, boxes: Sequence[Box] | None = None, *, actor: Actor) -> Shipment:
    """Close the parcels of a fully picked shipment. Without `boxes` everything goes into one.

    The units over all parcels equal the shipment's; a SKU without weight is an error that names it, never 0 kg.
    Packing again replaces the parcels until a label is bought. Raises `UserError`, `Conflict`.
    """
    with transaction.atomic():
        shipment = locked(shipment_id)
        not_handed_off(shipment)
        blocked = why_not_shippable(shipment.order)
        if blocked:
            raise Conflict(blocked, field="order")
        if shipment.state not in (Shipment.State.PICKING, Shipment.State.PACKED):
            raise Conflict(
                f"{shipment.number} is {shipment.get_state_display().lower()}: pick it before packing.",
                field="state",
            )
        lines = {line.pk: line for line in shipment.lines.select_related("sku")}
        unpicked = [line for line in lines.values() if line.picked < line.quantity]
        if unpicked:
            named = ", ".join(f"{line.quantity - line.picked} × {line.sku}" for line in unpicked)
            raise Conflict(f"{shipment.number} is not picked completely: {named} missing.", field="lines")
        if LabelPurchase.objects.filter(parcel__shipment=shipment, state__in=LabelPurchase.LIVE).exists():
            raise Conflict(f"{shipment.number} has a label: void it before packing anew.", field="label")
        boxes = boxes or [whole_in_one(shipment)]
        packed: dict[int, int] = dict.fromkeys(lines, 0)
        for place, box in enumerate(boxes):
            with about(place):
                for line_id, units in box.items.items():
                    if line_id not in lines or units < 1:
                        raise UserError(
                            "items: a parcel holds at least one unit of lines of this shipment.",
                            field="items",
                        )
                    packed[line_id] += units
        wrong = [lines[pk] for pk, units in packed.items() if units != lines[pk].quantity]
        if wrong:
            raise UserError(
                f"items: the parcels must hold all units once; wrong for {', '.join(str(line.sku) for line in wrong)}.",
                field="boxes",
            )
        # a parcel whose label was voided stays as history, without content; see `live_parcels`
        ParcelItem.objects.filter(parcel__shipment=shipment).delete()
        shipment.parcels.filter(purchases__isnull=True).delete()
        first = (shipment.parcels.order_by("-number").values_list("number", flat=True).first() or 0) + 1
        for number, box in enumerate(boxes, start=first):
            with about(number - first):
                _parcel(shipment, number, box, lines)
        for line in lines.values():
            line.packed = line.quantity
            line.save(update_fields=["packed"])
        if shipment.state == Shipment.State.PICKING:
            set_state(shipment, Shipment.State.PACKED, packed_at=now())
        close_item(f"repack:{shipment.pk}", "packed again")
        timeline.add(
            shipment.order_id,
            "pack",
            f"{shipment.number} packed in {some(len(boxes), 'parcel')}",
            actor=actor,
        )
    return shipment


def live_parcels(shipment: Shipment) -> list[Parcel]:
    """The parcels that hold something now, in order."""
    return list(shipment.parcels.filter(items__isnull=False).distinct().order_by("number"))


def _parcel(shipment: Shipment, number: int, box: Box, lines: dict) -> Parcel:
    kind = PackageType.objects.filter(pk=box.package_type_id).first() if box.package_type_id else None
    weight = box.weight_g
    if weight is None:
        weight = kind.tare_g if kind else 0
        for line_id, units in box.items.items():
            sku = lines[line_id].sku
            if not sku.weight_g:
                raise UserError(
                    f"weight: {sku} has no weight; weigh the parcel or enter the SKU's weight.",
                    field="weight_g",
                )
            weight += units * sku.weight_g
    if weight < 1:
        raise UserError("weight: must be at least 1 gram.", field="weight_g")
    sizes = [
        box.length_mm or (kind.length_mm if kind else 0),
        box.width_mm or (kind.width_mm if kind else 0),
        box.height_mm or (kind.height_mm if kind else 0),
    ]
    if not all(sizes):
        skus = [lines[line_id].sku for line_id in box.items]
        sizes = [
            max((getattr(sku, name) or 0) for sku in skus) for name in ("length_mm", "width_mm", "height_mm")
        ]
        if not all(sizes):
            raise UserError(
                "box: choose a box or enter its length, width and height in millimetres.",
                field="package_type",
            )
    parcel = Parcel.objects.create(
        shipment=shipment,
        number=number,
        package_type=kind,
        weight_g=weight,
        length_mm=sizes[0],
        width_mm=sizes[1],
        height_mm=sizes[2],
    )
    ParcelItem.objects.bulk_create(
        ParcelItem(parcel=parcel, line_id=line_id, quantity=units) for line_id, units in box.items.items()
    )
    return parcel
