"""The customs declaration of a shipment: what is in each parcel, its worth, and what is still missing.

It is read from the books until the first label is bought; from then on what was declared stays as it was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from fulfillment.carriers.base import AddressSpec, CustomsItem
from fulfillment.customs import sharing
from fulfillment.customs.terms import terms_for
from fulfillment.customs.territory import crosses_border
from fulfillment.documents.commercial_invoice import CustomsProblem, customs_problems
from fulfillment.models import CustomsDeclaration, LabelPurchase, Parcel, Shipment, ShipmentLine
from inventory.models import Sku
from oms.core.actor import Actor
from oms.core.errors import UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.money import quantize, split_largest_remainder
from oms.orders import rates
from oms.orders.models import Allocation, Order

KIND = "customs_missing"
#: a shipment in one of these waits for its label
WAITS = (Shipment.State.READY, Shipment.State.PICKING, Shipment.State.PACKED)
#: fields of a problem that a person mends at the SKU, as the SKU calls them
AT_THE_SKU = {
    "hs_code": "hs_code",
    "origin_country": "origin_country",
    "weight_g": "weight_g",
    "unit_value": "customs_value",
}


class CustomsBlocked(UserError):
    """No label before customs data is complete (422); `parts` names each missing field."""

    status = 422
    code = "customs"


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of one parcel; `parcel` is its number, 0 before packing."""

    parcel: int
    item: CustomsItem


@dataclass(frozen=True, slots=True)
class Declaration:
    """`numbers` holds eori, ioss and tax_id where they apply; `problems` is empty when a label may be bought."""

    destination: str
    currency: str
    incoterm: str
    numbers: Mapping[str, str]
    entries: tuple[Entry, ...]
    problems: tuple[CustomsProblem, ...] = ()

    @property
    def value(self) -> Decimal:
        """Of the goods, in `currency`: the sum of what is declared."""
        return sum((entry.item.quantity * entry.item.unit_value for entry in self.entries), Decimal(0))

    def parcel(self, number: int) -> tuple[CustomsItem, ...]:
        return tuple(entry.item for entry in self.entries if entry.parcel == number)


def needed(shipment: Shipment) -> bool:
    """Whether the shipment crosses a customs border. No query beyond the shipment's order and warehouse."""
    start, order = shipment.warehouse, shipment.order
    return crosses_border(
        AddressSpec(country=start.country, region=start.region, postal_code=start.postal_code), _place(order)
    )


def _place(order: Order) -> AddressSpec:
    return AddressSpec(
        country=order.ship_country,
        region=order.ship_region,
        postal_code=order.ship_postal,
        city=order.ship_city,
    )


def read(shipment: Shipment) -> Declaration | None:
    """The declaration as the books say now, with what is missing; None inside one customs territory."""
    if not needed(shipment):
        return None
    order = shipment.order
    lines = list(shipment.lines.select_related("sku__product", "allocation__reservation").order_by("pk"))
    values = _values(order, lines)
    parcels = list(
        Parcel.objects.filter(shipment=shipment, items__isnull=False)
        .distinct()
        .order_by("number")
        .prefetch_related("items")
    )
    entries = list(_entries(order, lines, values, parcels))
    terms = terms_for(
        _place(order),
        sum((entry.item.quantity * entry.item.unit_value for entry in entries), Decimal(0)),
        order.currency,
    )
    found = Declaration(order.ship_country, order.currency, terms.incoterm, terms.numbers, tuple(entries))
    return replace(found, problems=_problems(found, parcels))


def _values(order: Order, wanted: Sequence[ShipmentLine]) -> dict[int, Decimal]:
    """What the units of each wanted shipment line cost the buyer, in the order's currency."""
    sold, goods = {}, []
    parts: dict[int, dict[int, int]] = defaultdict(dict)
    skus: dict[int, Sku] = {}
    rows = Allocation.objects.filter(line__order=order).select_related("reservation__sku").order_by("pk")
    for row in rows:
        parts[row.line_id][row.reservation.sku_id] = row.per_unit
        skus[row.reservation.sku_id] = row.reservation.sku
    for line in order.lines.all():
        held = parts[line.pk]
        weights = _weights([skus[pk] for pk in held])
        sold[line.pk] = sharing.Sold(
            line.unit_price * line.quantity - line.discount,
            line.quantity,
            {pk: (per, weights[pk]) for pk, per in held.items()},
        )
    live = (
        ShipmentLine.objects.filter(order_line__order=order)
        .exclude(shipment__state=Shipment.State.CANCELLED)
        .order_by("pk")
        .values_list("pk", "order_line", "allocation__reservation__sku", "quantity")
    )
    goods = [sharing.Goods(pk, line, sku, units) for pk, line, sku, units in live]
    shares = sharing.share(order.subtotal - order.discount, sold, goods, order.currency)
    return {line.pk: shares[line.pk] for line in wanted}


def _weights(skus: Sequence[Sku]) -> dict[int, Fraction]:
    """What the components of a kit weigh against each other: by value where all have one, else by cost, else alike."""
    if len({sku.currency for sku in skus}) == 1:
        for of in (lambda sku: sku.customs_value or sku.price, lambda sku: sku.unit_cost):
            if all(of(sku) > 0 for sku in skus):
                return {sku.pk: Fraction(of(sku)) for sku in skus}
    return {sku.pk: Fraction(1) for sku in skus}


def _entries(
    order: Order, lines: Sequence[ShipmentLine], values: Mapping[int, Decimal], parcels: Sequence[Parcel]
) -> Iterable[Entry]:
    """Per parcel and SKU; equal units of several order lines are one entry."""
    inside: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for parcel in parcels:
        for item in parcel.items.all():
            inside[item.line_id].append((parcel.number, item.quantity))
    found: dict[tuple[int, int, Decimal], int] = defaultdict(int)
    skus = {line.sku_id: line.sku for line in lines}
    for line in lines:
        places = inside.get(line.pk) or [(0, line.quantity)]
        shares = split_largest_remainder(values[line.pk], [units for _, units in places], order.currency)
        for (parcel_number, units), value in zip(places, shares, strict=True):
            for count, each in _unit_values(line.sku, value, units, order.currency):
                found[parcel_number, line.sku_id, each] += count
    for (parcel_number, sku_id, each), count in sorted(found.items()):
        sku = skus[sku_id]
        yield Entry(
            parcel_number,
            CustomsItem(
                sku=sku.code,
                description=sku.customs_description or sku.name,
                quantity=count,
                unit_value=each,
                currency=order.currency,
                weight_g=sku.weight_g or 0,
                hs_code=sku.hs_code,
                origin_country=sku.origin_country,
            ),
        )


def _unit_values(sku: Sku, value: Decimal, units: int, currency: str) -> list[tuple[int, Decimal]]:
    """Unit values that sum to `value`; what cost the buyer nothing is declared at its own worth, 0 if unknown."""
    shares = sharing.per_unit(value, units, currency)
    if shares[0][1] > 0:
        return shares
    own = rates.converted(sku.customs_value or sku.price, sku.currency, currency)
    return [(units, quantize(own or Decimal(0), currency))]


def _problems(found: Declaration, parcels: Sequence[Parcel]) -> tuple[CustomsProblem, ...]:
    """Each once, in the order of the parcels."""
    problems: dict[CustomsProblem, None] = {}
    weights: dict[int, int | None] = {one.number: one.weight_g for one in parcels}
    for number, weight in (weights or {0: None}).items():
        items = found.parcel(number)
        value = sum((item.quantity * item.unit_value for item in items), Decimal(0))
        told = customs_problems(items, parcel_weight_g=weight, declared_value=value, currency=found.currency)
        problems |= dict.fromkeys(told)
    return tuple(problems)


def require_complete(shipment: Shipment, found: Declaration | None) -> None:
    """Raises `CustomsBlocked` with a sentence per missing fact, each naming its SKU and field."""
    if found is None or not found.problems:
        return
    codes = list(shipment.lines.order_by("pk").values_list("sku__code", flat=True))
    parts = []
    for problem in found.problems:
        place = f"lines.{codes.index(problem.sku)}." if problem.sku in codes else ""
        parts.append((f"{place}{AT_THE_SKU.get(problem.field, problem.field)}", problem.message))
    raise CustomsBlocked(
        f"customs: {shipment.number} crosses a border, to {found.destination}. "
        + " ".join(problem.message for problem in found.problems),
        field=parts[0][0],
        parts=parts,
    )


# --- what was declared ------------------------------------------------------------------------------


def kept(shipment: Shipment) -> Declaration | None:
    """What was declared when the labels were bought; None without a living label."""
    row = CustomsDeclaration.objects.filter(shipment=shipment).first()
    if row is None or not _has_label(shipment):
        return None
    entries = [Entry(one["parcel"], _item(one, row.currency)) for one in row.items]
    return Declaration(shipment.order.ship_country, row.currency, row.incoterm, row.numbers, tuple(entries))


def _has_label(shipment: Shipment) -> bool:
    return LabelPurchase.objects.filter(parcel__shipment=shipment, state__in=LabelPurchase.LIVE).exists()


def _item(one: Mapping[str, Any], currency: str) -> CustomsItem:
    fields = {name: value for name, value in one.items() if name != "parcel"}
    return CustomsItem(**fields | {"unit_value": Decimal(one["unit_value"]), "currency": currency})


def current(shipment: Shipment) -> Declaration | None:
    """What was declared, else what would be declared now; None inside one customs territory."""
    return (kept(shipment) or read(shipment)) if needed(shipment) else None


def declare(shipment: Shipment, *, actor: Actor) -> None:
    """Write down what is declared with the first label of a locked shipment. Inside atomic only.

    Raises `CustomsBlocked` while something is missing.
    """
    if not needed(shipment) or kept(shipment) is not None:
        return
    found = read(shipment)
    require_complete(shipment, found)
    assert found is not None  # it is needed
    items = [
        {"parcel": entry.parcel} | asdict(entry.item) | {"unit_value": str(entry.item.unit_value)}
        for entry in found.entries
    ]
    for item in items:
        del item["currency"]
    CustomsDeclaration.objects.update_or_create(
        shipment=shipment,
        defaults={
            "incoterm": found.incoterm, "currency": found.currency, "value": found.value,
            "numbers": dict(found.numbers), "items": items, "made_by": str(actor),
        },
    )  # fmt: skip
    close_item(f"customs:{shipment.pk}", "declared", actor=actor)


# --- the inbox --------------------------------------------------------------------------------------


def tell(shipment_id: int, error: CustomsBlocked) -> None:
    """Put what blocks the label before a person, once per shipment."""
    shipment = Shipment.objects.select_related("order__channel", "warehouse").get(pk=shipment_id)
    raise_item(
        KIND,
        f"customs:{shipment_id}",
        f"{shipment.number}: customs data is missing",
        detail=" ".join(message for _, message in error.parts),
        url=f"/shipments/{shipment_id}/",
        warehouse_code=shipment.warehouse.code,
        channel_code=shipment.order.channel.code,
        due_at=shipment.ship_by,
    )


def recheck(shipment_id: int) -> bool:
    """Close the shipment's item when nothing is missing any more, or no label of ours is. True when it is gone."""
    shipment = Shipment.objects.select_related("order__channel", "warehouse").filter(pk=shipment_id).first()
    waits = shipment is not None and shipment.state in WAITS
    found = read(shipment) if shipment is not None and waits else None
    if found is not None and found.problems:
        return False
    close_item(f"customs:{shipment_id}", "complete" if waits else "no label is missing")
    return True
