"""What must always be true of stock; each check is one query and yields its failing rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.db import connection
from django.db.models import F, Q, Sum
from django.db.models.functions import Upper

from inventory import kits
from inventory.locking import BUCKETS
from inventory.models import (
    BinStock,
    KitComponent,
    Reservation,
    Sku,
    SkuAlias,
    StockDifference,
    StockLevel,
    StockMovement,
    Transfer,
    TransferLine,
)
from oms.core.errors import UserError
from oms.core.invariants import invariant


def _rows(sql: str) -> Iterator[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        yield from cursor.fetchall()


@invariant("S1", "Reserved and unfit units are never negative and together never more than on hand.")
def within_on_hand() -> Iterable[str]:
    sql = """
        SELECT sku_id, warehouse_id, on_hand, reserved, damaged + quarantine + inspection, in_transit
        FROM inventory_stocklevel
        WHERE reserved < 0 OR damaged < 0 OR quarantine < 0 OR inspection < 0 OR in_transit < 0
              OR on_hand < reserved + damaged + quarantine + inspection
    """
    for sku, warehouse, on_hand, reserved, unfit, in_transit in _rows(sql):
        yield (
            f"sku {sku} warehouse {warehouse}: on hand {on_hand}, reserved {reserved}, unavailable {unfit}, "
            f"in transit {in_transit}"
        )


@invariant("S2", "Every balance equals the sum of its ledger rows, and the last row states it.")
def balance_is_ledger() -> Iterable[str]:
    columns = ", ".join(f"l.{bucket}" for bucket in BUCKETS)
    sums = ", ".join(
        f"coalesce(sum(m.quantity) FILTER (WHERE m.bucket = '{bucket}'), 0)" for bucket in BUCKETS
    )
    differs = " OR ".join(
        f"l.{bucket} <> coalesce(sum(m.quantity) FILTER (WHERE m.bucket = '{bucket}'), 0)"
        for bucket in BUCKETS
    )
    sql = f"""
        SELECT l.sku_id, l.warehouse_id, {columns}, {sums} FROM inventory_stocklevel l
        LEFT JOIN inventory_stockmovement m ON m.sku_id = l.sku_id AND m.warehouse_id = l.warehouse_id
        GROUP BY l.id, l.sku_id, l.warehouse_id, {columns} HAVING {differs}
    """  # noqa: S608 - column names of ours only
    for sku, warehouse, *figures in _rows(sql):
        half = len(BUCKETS)
        for bucket, balance, total in zip(BUCKETS, figures[:half], figures[half:], strict=True):
            if balance != total:
                yield f"sku {sku} warehouse {warehouse}: {bucket} is {balance}, its movements sum to {total}"
    orphans = """
        SELECT m.sku_id, m.warehouse_id, m.bucket, sum(m.quantity) FROM inventory_stockmovement m
        LEFT JOIN inventory_stocklevel l ON l.sku_id = m.sku_id AND l.warehouse_id = m.warehouse_id
        WHERE l.id IS NULL GROUP BY m.sku_id, m.warehouse_id, m.bucket
    """
    for sku, warehouse, bucket, total in _rows(orphans):
        yield f"sku {sku} warehouse {warehouse}: {total} {bucket} in the ledger, but there is no such level"
    wrong_end = f"""
        SELECT m.sku_id, m.warehouse_id, m.bucket, m.balance,
               CASE m.bucket {" ".join(f"WHEN '{bucket}' THEN l.{bucket}" for bucket in BUCKETS)} END
        FROM inventory_stockmovement m
        JOIN (SELECT max(id) AS id FROM inventory_stockmovement GROUP BY sku_id, warehouse_id, bucket) x ON x.id = m.id
        JOIN inventory_stocklevel l ON l.sku_id = m.sku_id AND l.warehouse_id = m.warehouse_id
        WHERE m.balance <> CASE m.bucket {" ".join(f"WHEN '{bucket}' THEN l.{bucket}" for bucket in BUCKETS)} END
    """  # noqa: S608 - column names of ours only
    for sku, warehouse, bucket, said, balance in _rows(wrong_end):
        yield f"sku {sku} warehouse {warehouse}: the last {bucket} row says {said}, the level {balance}"


@invariant("S3", "Reserved equals the sum of open reservations.")
def reserved_is_promises() -> Iterable[str]:
    sql = """
        SELECT coalesce(l.sku_id, r.sku_id), coalesce(l.warehouse_id, r.warehouse_id),
               coalesce(l.reserved, 0), coalesce(r.held, 0)
        FROM (SELECT sku_id, warehouse_id, sum(quantity) AS held FROM inventory_reservation
              WHERE state = 'open' GROUP BY sku_id, warehouse_id) r
        FULL OUTER JOIN inventory_stocklevel l ON l.sku_id = r.sku_id AND l.warehouse_id = r.warehouse_id
        WHERE coalesce(l.reserved, 0) <> coalesce(r.held, 0)
    """
    for sku, warehouse, reserved, held in _rows(sql):
        yield f"sku {sku} warehouse {warehouse}: reserved {reserved}, open reservations hold {held}"


@invariant("S4", "Available is computed from the buckets and stored nowhere.")
def available_not_stored() -> Iterable[str]:
    for model in (StockLevel, Sku, Reservation):
        names = {field.name for field in model._meta.concrete_fields}
        for name in sorted(names & {"available", "sellable", "ats"}):
            yield f"{model._meta.db_table}.{name} stores what must be computed"


@invariant("S7", "Per transfer: out = in transit + received + lost + found again, and the ledger agrees.")
def transfers_add_up() -> Iterable[str]:
    bad = TransferLine.objects.filter(
        Q(shipped__lt=F("received") + F("lost") + F("returned")) | Q(shipped__gt=F("quantity"))
    )
    for line in bad.select_related("transfer"):
        yield f"{line.transfer.number} sku {line.sku_id}: shipped {line.shipped}, in {line.received}, lost {line.lost}"
    sql = """
        SELECT t.id, l.sku_id, l.shipped, l.received, l.lost, l.returned, w.kind,
               coalesce(sum(m.quantity) FILTER (WHERE m.bucket = 'in_transit'), 0),
               coalesce(sum(m.quantity) FILTER (WHERE m.bucket = 'on_hand'), 0)
        FROM inventory_transferline l JOIN inventory_transfer t ON t.id = l.transfer_id
        JOIN inventory_warehouse w ON w.id = t.destination_id
        LEFT JOIN inventory_stockmovement m ON m.sku_id = l.sku_id AND m.reference = 'TR-' || t.id
        GROUP BY t.id, l.sku_id, l.shipped, l.received, l.lost, l.returned, w.kind
    """
    for number, sku, shipped, received, lost, returned, kind, travelling, on_hand in _rows(sql):
        open_units = shipped - received - lost - returned
        # a marketplace's pool gets its units by its own snapshot, so there the source alone has rows on hand
        arrived = returned + (0 if kind in ("fba", "wfs") else received)
        if travelling != open_units or on_hand != arrived - shipped:
            yield (
                f"TR-{number} sku {sku}: {open_units} should be in transit, the ledger has {travelling}; "
                f"on hand over both warehouses should have changed by {arrived - shipped}, it did by {on_hand}"
            )
    for transfer in Transfer.objects.filter(
        state__in=("requested", "cancelled"), lines__shipped__gt=0
    ).distinct():
        yield f"{transfer.number} is {transfer.state}, but units left"


@invariant("S8", "The ledger refuses UPDATE and DELETE.")
def ledger_is_append_only() -> Iterable[str]:
    if connection.vendor == "postgresql":
        sql = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'inventory_stockmovement'::regclass AND tgenabled <> 'D'"
        wanted = {"inventory_stockmovement_append_only"}
    else:
        sql = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'inventory_stockmovement'"
        wanted = {"inventory_stockmovement_no_update", "inventory_stockmovement_no_delete"}
    for name in sorted(wanted - {row[0] for row in _rows(sql)}):
        yield f"trigger {name} is missing"


@invariant("S9", "Each movement's balance follows from the one before it.")
def running_balances() -> Iterable[str]:
    sql = """
        SELECT id, sku_id, warehouse_id, bucket, balance, expected FROM (
            SELECT id, sku_id, warehouse_id, bucket, balance,
                   sum(quantity) OVER (PARTITION BY sku_id, warehouse_id, bucket ORDER BY id) AS expected
            FROM inventory_stockmovement
        ) x WHERE balance <> expected
    """
    for row, sku, warehouse, bucket, said, expected in _rows(sql):
        yield f"movement {row} (sku {sku} warehouse {warehouse} {bucket}): balance {said}, expected {expected}"


@invariant("S10", "Open reservations hold something; kits and services hold no stock of their own.")
def promises_are_sound() -> Iterable[str]:
    odd = """
        SELECT id, state, quantity FROM inventory_reservation
        WHERE (state = 'open' AND quantity <= 0) OR (state <> 'open' AND quantity <> 0)
    """
    for pk, state, quantity in _rows(odd):
        yield f"reservation {pk}: {state} with quantity {quantity}"
    virtual = """
        SELECT r.id, s.code FROM inventory_reservation r JOIN inventory_sku s ON s.id = r.sku_id
        WHERE r.state = 'open' AND s.kind IN ('kit', 'service')
    """
    for pk, code in _rows(virtual):
        yield f"reservation {pk} promises {code}, which has no stock"
    stocked = """
        SELECT s.code, l.warehouse_id FROM inventory_stocklevel l JOIN inventory_sku s ON s.id = l.sku_id
        WHERE s.kind IN ('kit', 'service') AND (l.on_hand <> 0 OR l.reserved <> 0 OR l.in_transit <> 0)
    """
    for code, warehouse in _rows(stocked):
        yield f"{code} warehouse {warehouse}: a kit or service has stock"


@invariant("S11", "Kits contain no service, never themselves, and are nested at most one level.")
def kits_resolve() -> Iterable[str]:
    for row in KitComponent.objects.filter(Q(quantity__lt=1) | Q(component__kind=Sku.Kind.SERVICE)):
        yield f"kit {row.kit_id}: component {row.component_id} × {row.quantity} is not allowed"
    nested = KitComponent.objects.filter(kit__kind=Sku.Kind.KIT, component__kind=Sku.Kind.KIT)
    for kit_id in nested.values_list("kit_id", flat=True).order_by("kit_id").distinct():
        try:
            kits.flatten([kit_id])
        except UserError as error:
            yield error.message
            continue
        if kits.depth(kit_id) > kits.MAX_DEPTH:
            yield f"kit {kit_id} is nested deeper than one level"


@invariant("S12", "One code or alias finds one SKU.")
def codes_are_unique() -> Iterable[str]:
    folded = SkuAlias.objects.annotate(fold=Upper("value"))
    codes = dict(
        Sku.objects.annotate(fold=Upper("code"))
        .filter(fold__in=folded.values("fold"))
        .values_list("fold", "pk")
    )
    for alias in folded.filter(fold__in=list(codes)):
        if codes[alias.fold] != alias.sku_id:
            yield f"'{alias.value}' is the code of sku {codes[alias.fold]} and an alias of sku {alias.sku_id}"
    for sku in Sku.objects.filter(merged_into__merged_into__isnull=False):
        yield f"{sku} was merged into a SKU that was merged itself"


@invariant("S13", "Bins and lots never hold more than is on hand; with a dock they hold exactly that.")
def bins_sum_to_on_hand() -> Iterable[str]:
    sql = """
        SELECT coalesce(l.sku_id, b.sku_id), coalesce(l.warehouse_id, b.warehouse_id),
               coalesce(l.on_hand, 0), coalesce(b.units, 0)
        FROM (SELECT sku_id, warehouse_id, sum(quantity) AS units FROM inventory_binstock
              GROUP BY sku_id, warehouse_id) b
        FULL OUTER JOIN inventory_stocklevel l ON l.sku_id = b.sku_id AND l.warehouse_id = b.warehouse_id
        WHERE coalesce(b.units, 0) > coalesce(l.on_hand, 0)
           OR (coalesce(b.units, 0) <> coalesce(l.on_hand, 0) AND EXISTS (
                SELECT 1 FROM inventory_bin d
                WHERE d.warehouse_id = l.warehouse_id AND d.kind = 'dock' AND d.is_active))
    """
    for sku, warehouse, on_hand, units in _rows(sql):
        yield f"sku {sku} warehouse {warehouse}: bins hold {units}, on hand {on_hand}"
    for row in BinStock.objects.exclude(bin__isnull=True).exclude(bin__warehouse=F("warehouse"))[:50]:
        yield f"bin stock {row.pk} names warehouse {row.warehouse_id}, its bin belongs to another"
    for row in BinStock.objects.exclude(lot__isnull=True).exclude(lot__sku=F("sku"))[:50]:
        yield f"bin stock {row.pk} of sku {row.sku_id} names a lot of another SKU"


@invariant("S15", "What lies in a bin is the sum of its own record.")
def bin_stock_is_recorded() -> Iterable[str]:
    sql = """
        SELECT coalesce(s.sku_id, m.sku_id), coalesce(s.warehouse_id, m.warehouse_id),
               coalesce(s.bin, m.bin), coalesce(s.lot, m.lot), coalesce(s.quantity, 0), coalesce(m.units, 0)
        FROM (SELECT sku_id, warehouse_id, coalesce(bin_id, 0) AS bin, coalesce(lot_id, 0) AS lot, quantity
              FROM inventory_binstock) s
        FULL OUTER JOIN
             (SELECT sku_id, warehouse_id, coalesce(bin_id, 0) AS bin, coalesce(lot_id, 0) AS lot,
                     sum(quantity) AS units
              FROM inventory_binmovement GROUP BY 1, 2, 3, 4) m
          ON m.sku_id = s.sku_id AND m.warehouse_id = s.warehouse_id AND m.bin = s.bin AND m.lot = s.lot
        WHERE coalesce(s.quantity, 0) <> coalesce(m.units, 0)
    """
    for sku, warehouse, bin_id, lot, quantity, units in _rows(sql):
        yield f"sku {sku} warehouse {warehouse} bin {bin_id} lot {lot}: holds {quantity}, recorded {units}"


@invariant("S16", "Serial numbers in stock are never more than the units on hand.")
def serials_within_on_hand() -> Iterable[str]:
    sql = """
        SELECT u.sku_id, u.warehouse_id, u.units, coalesce(l.on_hand, 0)
        FROM (SELECT sku_id, warehouse_id, count(*) AS units FROM inventory_serialunit
              WHERE state = 'in_stock' GROUP BY sku_id, warehouse_id) u
        LEFT JOIN inventory_stocklevel l ON l.sku_id = u.sku_id AND l.warehouse_id = u.warehouse_id
        WHERE u.units > coalesce(l.on_hand, 0)
    """
    for sku, warehouse, units, on_hand in _rows(sql):
        yield f"sku {sku} warehouse {warehouse}: {units} serial numbers in stock, {on_hand} on hand"


@invariant(
    "S14", "Costs are never negative; layers hold exactly what is on hand, and their value is the level's."
)
def costs_are_sane() -> Iterable[str]:
    for sku, warehouse, average in _rows(
        "SELECT sku_id, warehouse_id, average_cost FROM inventory_stocklevel WHERE average_cost < 0"
    ):
        yield f"sku {sku} warehouse {warehouse}: average cost {average}"
    layered = """
        SELECT l.sku_id, l.warehouse_id, l.on_hand, x.units
        FROM (SELECT sku_id, warehouse_id, sum(remaining) AS units FROM inventory_costlayer
              GROUP BY sku_id, warehouse_id) x
        JOIN inventory_stocklevel l ON l.sku_id = x.sku_id AND l.warehouse_id = x.warehouse_id
        WHERE l.on_hand <> x.units
    """
    for sku, warehouse, on_hand, units in _rows(layered):
        yield f"sku {sku} warehouse {warehouse}: on hand {on_hand}, its cost layers hold {units}"


@invariant(
    "S15", "An accepted difference has moved exactly its gap, once; FBA and WFS pools change by figures only."
)
def pools_follow_their_operators() -> Iterable[str]:
    accepted = StockDifference.objects.filter(outcome="accepted", approval__isnull=True)
    moved: dict[str, int] = dict(
        StockMovement.objects.filter(bucket="on_hand", reference__startswith="DF-")
        .values_list("reference")
        .annotate(units=Sum("quantity"))
    )
    for row in accepted.exclude(theirs=F("ours")):
        if moved.get(row.number, 0) != row.gap:
            yield f"{row.number} was accepted with a gap of {row.gap}, the ledger moved {moved.get(row.number, 0)}"
    foreign = StockMovement.objects.filter(
        warehouse__kind__in=("fba", "wfs"), bucket__in=("on_hand", "damaged", "inspection")
    ).exclude(kind__in=("snapshot", "ship", "opening", "merge"))
    for movement in foreign[:50]:
        yield f"movement {movement.pk}: {movement.kind} in pool {movement.warehouse_id} of an operator"
