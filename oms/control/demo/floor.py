"""The demo's warehouse floor: bins and zones, lots with dates, serial numbers, and work that waits for people."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import Decimal

from inventory import counts, fences, lots, operations, putaway, transfers
from inventory.ledger import Movement, post_movements
from inventory.locking import stock_transaction
from inventory.models import (
    Bin,
    BinStock,
    CountTask,
    Product,
    Sku,
    SkuPack,
    StockLevel,
    StockMovement,
    Warehouse,
)
from oms.control.demo.catalogue import SUPPLIERS, Item
from oms.core.actor import Actor
from oms.core.clock import business_day, now

ZONES = {"Kitchen": "K", "Apparel": "A"}
OTHER = "H"
SHELVES = 12
#: code of the lot after the SKU's, days until it expires, share of the units
LOTS = (("A", 20, 0.2), ("B", 140, 0.3), ("C", 420, 0.5))
#: SKUs whose last delivery still lies on the dock
ON_DOCK = 6


def name_cases(catalogue: Sequence[Item], skus: Mapping[str, Sku]) -> None:
    """The case in which the first supplier of a category delivers, with its barcode."""
    cases: dict[str, int] = {}
    for *_, categories, _moq, case in SUPPLIERS:
        for category in categories:
            cases.setdefault(category, case)
    SkuPack.objects.bulk_create(
        SkuPack(
            sku=skus[item.code], name="case", quantity=cases[item.category], barcode=_case_code(item.gtin)
        )
        for item in catalogue
        if not item.parts and cases.get(item.category, 1) > 1
    )


def _case_code(gtin: str) -> str:
    """The GTIN-14 of a case that holds units of an EAN-13: packaging indicator 1."""
    digits = f"1{gtin[:12]}"
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(digits))
    return digits + str(-total % 10)


def furnish(
    catalogue: Sequence[Item], skus: Mapping[str, Sku], places: Mapping[str, Warehouse], *, actor: Actor
) -> None:
    """Bins in EAST with everything put away but the last delivery, and one of each kind of open work."""
    east = places["EAST"]
    shelves = _bins(east, actor)
    _put_away(catalogue, skus, east, shelves, actor)
    _lots([item for item in catalogue if item.code.startswith("CND-")][:3], skus, east, shelves, actor)
    _serials(east, shelves[OTHER, 0], actor)
    _work(catalogue, skus, places, actor)


def _bins(east: Warehouse, actor: Actor) -> dict[tuple[str, int], Bin]:
    made = {}
    for rank, zone in enumerate((*ZONES.values(), OTHER)):
        for number in range(SHELVES):
            code = f"{zone}-{number // 4 + 1:02d}-{number % 4 + 1}"
            made[zone, number] = putaway.save_bin(
                warehouse_id=east.pk, code=code, zone=zone, pick_sequence=(rank * SHELVES + number + 1) * 10,
                actor=actor,
            )  # fmt: skip
    for code, kind in (("DOCK", Bin.Kind.DOCK), ("BULK-1", Bin.Kind.BULK), ("QUAR", Bin.Kind.QUARANTINE)):
        made[code, 0] = putaway.save_bin(
            warehouse_id=east.pk, code=code, zone=code[:4], kind=kind, pick_sequence=9000, actor=actor
        )
    return made


def _put_away(
    catalogue: Sequence[Item],
    skus: Mapping[str, Sku],
    east: Warehouse,
    shelves: Mapping[tuple[str, int], Bin],
    actor: Actor,
) -> None:
    dock = shelves["DOCK", 0]
    on_dock = dict(BinStock.objects.filter(bin=dock, quantity__gt=0).values_list("sku_id", "quantity"))
    for number, item in enumerate(catalogue):
        units = on_dock.get(skus[item.code].pk, 0)
        if not units or number < ON_DOCK:
            continue
        shelf = shelves[ZONES.get(item.category, OTHER), number % SHELVES]
        putaway.move(
            sku_id=skus[item.code].pk, source_id=dock.pk, target_id=shelf.pk, quantity=units, actor=actor,
            reason="put away",
        )  # fmt: skip


def _lots(
    candles: Sequence[Item],
    skus: Mapping[str, Sku],
    east: Warehouse,
    shelves: Mapping[tuple[str, int], Bin],
    actor: Actor,
) -> None:
    """Free units of some candles get the lots that are printed on them: a correction out and in, at no cost."""
    chosen = [skus[item.code] for item in candles]
    Sku.objects.filter(pk__in=[sku.pk for sku in chosen]).update(
        lot_tracked=True, expiry_tracked=True, shelf_life_days=540
    )
    today = business_day()
    for sku in chosen:
        sku.refresh_from_db()
        level = StockLevel.objects.filter(sku=sku, warehouse=east).first()
        free = level.available if level else 0
        named = []
        for letter, days, share in LOTS:
            units = int(free * share)
            if units:
                lot = lots.lot_for(
                    sku, f"{sku.code[-3:]}{letter}", expires_on=today + dt.timedelta(days=days)
                )
                assert lot is not None
                named.append((units, lot.pk, shelves[OTHER, days % SHELVES].pk))
        if not named:
            continue
        # all leave before the first comes back, so that only units without a lot are taken
        changes = [(-sum(units for units, _, _ in named), None, None), *named]
        with stock_transaction():
            post_movements(
                [
                    Movement(
                        sku.pk, east.pk, "on_hand", units, StockMovement.Kind.CORRECTION,
                        f"demo:lot:{sku.code}:{number}", reason="lot named", lot_id=lot_id, bin_id=bin_id,
                    )
                    for number, (units, lot_id, bin_id) in enumerate(changes)
                ],
                actor=actor,
            )  # fmt: skip


def _serials(east: Warehouse, shelf: Bin, actor: Actor) -> None:
    """A lamp of which every piece has a number."""
    product = Product.objects.create(
        title="Brass ship's lamp", brand="Harbour & Pine", category="Home", motif="lamp"
    )
    lamp = Sku.objects.create(
        product=product, code="LAMP-BRASS", title="Brass ship's lamp, numbered", serial_tracked=True, weight_g=2400,
        length_mm=220, width_mm=220, height_mm=340, hs_code="940520", origin_country="PT", unit_cost=Decimal("64.00"),
        price=Decimal("149.00"), currency="USD",
    )  # fmt: skip
    goods = operations.PurchasedGoods(
        lamp.pk, east.pk, 6, Decimal("64.00"), "demo:lamp", bin_id=shelf.pk,
        serials=tuple(f"HPL-{number:05d}" for number in range(1201, 1207)),
    )  # fmt: skip
    operations.receive_purchase([goods], reference="opening", actor=actor)


def _work(
    catalogue: Sequence[Item], skus: Mapping[str, Sku], places: Mapping[str, Warehouse], actor: Actor
) -> None:
    """Counts that are due, units kept for a channel, and a transfer of which something never came."""
    east, west = places["EAST"], places["WEST"]
    free = {
        level.sku_id: level.available - level.safety for level in StockLevel.objects.filter(warehouse=east)
    }
    stocked = [skus[item.code] for item in catalogue if not item.parts and not skus[item.code].lot_tracked]
    today = business_day()
    for days, sku in enumerate(stocked[ON_DOCK : ON_DOCK + 3]):
        counts.ask(
            sku.pk, east.pk, cause=CountTask.Cause.MANUAL, actor=actor, due=today - dt.timedelta(days=days)
        )
    rich = sorted(stocked, key=lambda sku: (-free.get(sku.pk, 0), sku.pk))[:3]
    kept, *sent = [sku for sku in rich if free.get(sku.pk, 0) >= 8]
    fences.create(
        sku_id=kept.pk, channel_code="amazon-us", quantity=5, ends_at=now() + dt.timedelta(days=14),
        note="Holiday deal", actor=actor,
    )  # fmt: skip
    if sent:
        moved = transfers.request_transfer(
            source_id=east.pk, destination_id=west.pk, lines={sku.pk: 4 for sku in sent}, actor=actor,
            expected_on=today - dt.timedelta(days=1), note="West runs low",
        )  # fmt: skip
        transfers.ship_transfer(moved.pk, actor=actor)
        transfers.receive_transfer(moved.pk, {sku.pk: 3 for sku in sent}, actor=actor, key="demo")
