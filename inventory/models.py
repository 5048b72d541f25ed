"""Stages 2 and 3: what we sell, where it lies, and the ledger that proves every figure.

`StockLevel` is the one true figure per (SKU, warehouse). It changes only through
`inventory.ledger.post_movements()`, which writes the append-only `StockMovement` rows in the same
transaction. The CHECK constraints below are the last word: a bug gives an error, never an oversell.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Upper
from django.utils import timezone

from oms.core.fields import CurrencyField, MoneyAmountField, visible
from oms.core.models import Job


class Product(models.Model):
    """What a shopper sees as one item; its variants are SKUs."""

    title = models.CharField(max_length=255)
    brand = models.CharField(max_length=120, blank=True)
    category = models.CharField(max_length=120, blank=True)
    description = models.TextField(blank=True)
    motif = models.CharField(
        max_length=40, blank=True, help_text="name of the drawn picture shown for the product"
    )
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["title"]

    def __str__(self) -> str:
        return self.title


#: SKUs that are merged, tracked or valued in a way of their own
RULED = Q(merged_into__isnull=False) | Q(lot_tracked=True) | Q(serial_tracked=True) | ~Q(valuation="")


class Sku(models.Model):
    """One stock-keeping unit: the thing that is counted, reserved, bought and sold."""

    class Kind(models.TextChoices):
        STOCK = "stock", "Stocked item"
        KIT = "kit", "Virtual kit (computed from components)"
        PREBUILT = "prebuilt", "Pre-built kit (counted itself)"
        SERVICE = "service", "Service or fee (no stock)"

    class Valuation(models.TextChoices):
        DEFAULT = "", "As set for the business"
        AVERAGE = "average", "Moving average"
        FIFO = "fifo", "First in, first out"

    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="skus")
    code = models.CharField(
        max_length=80, validators=[visible], help_text="shown as typed; unique without regard to case"
    )
    title = models.CharField(max_length=255, blank=True)
    options = models.JSONField(default=dict, blank=True, help_text='e.g. {"Size": "M", "Colour": "Blue"}')
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.STOCK)
    weight_g = models.PositiveIntegerField(
        null=True, blank=True, help_text="grams; empty blocks labels, never 0 kg"
    )
    length_mm = models.PositiveIntegerField(null=True, blank=True)
    width_mm = models.PositiveIntegerField(null=True, blank=True)
    height_mm = models.PositiveIntegerField(null=True, blank=True)
    hs_code = models.CharField("HS code", max_length=14, blank=True)
    origin_country = models.CharField(
        max_length=2, blank=True, help_text="where it was made, ISO 3166 alpha-2"
    )
    customs_description = models.CharField(
        max_length=120, blank=True, help_text="what it is, as customs reads it; empty: its title"
    )
    customs_value = MoneyAmountField(
        null=True, blank=True,
        help_text="value of a unit that was given free of charge, or that came in a kit; empty: the list price",
    )  # fmt: skip
    dangerous_goods = models.CharField(
        max_length=20, blank=True, help_text="UN number, empty when not dangerous"
    )
    unit_cost = MoneyAmountField(default=0, help_text="standard cost, used until a receipt gives an average")
    price = MoneyAmountField(
        default=0, help_text="list price, for display and as customs value of what was given free of charge"
    )
    currency = CurrencyField(default="USD")
    valuation = models.CharField(
        max_length=8, choices=Valuation.choices, blank=True, default="", editable=False,
        help_text="how units that leave are costed; changed by inventory.valuation.set_method()",
    )  # fmt: skip
    low_stock_at = models.PositiveIntegerField(
        null=True, blank=True, help_text="alert at or below so many units; empty: by days of cover"
    )
    lot_tracked = models.BooleanField(default=False, help_text="every receipt names its lot")
    expiry_tracked = models.BooleanField(default=False, help_text="every lot needs an expiry date")
    serial_tracked = models.BooleanField(default=False, help_text="every unit has a serial number of its own")
    shelf_life_days = models.PositiveIntegerField(null=True, blank=True)
    mcf_allowed = models.BooleanField(default=False, help_text="FBA stock may serve orders of other channels")
    abc_class = models.CharField(
        max_length=1, default="C", help_text="A, B or C by value sold; decides how often it is counted"
    )
    is_active = models.BooleanField(default=True)
    merged_into = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="merged_from"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)
    search = models.TextField(
        default="", editable=False,
        help_text="code and titles, a line each, for `selectors.found_by`; triggers write it",
    )  # fmt: skip

    class Meta:
        ordering = ["code"]
        constraints = [
            models.UniqueConstraint(Upper("code"), name="sku_code_unique_ci"),
            models.CheckConstraint(condition=~Q(code=""), name="sku_code_not_empty"),
            models.CheckConstraint(
                condition=Q(customs_value__isnull=True) | Q(customs_value__gt=0),
                name="sku_customs_value_positive",
            ),
        ]
        indexes = [
            models.Index(fields=["code", "id"], name="sku_list_idx"),
            models.Index(fields=["id"], name="sku_ruled_idx", condition=RULED),
        ]

    def __str__(self) -> str:
        return self.code

    def clean(self) -> None:
        """Serial numbers are not given up while units in the house have one. Raises `ValidationError`."""
        if self.pk and not self.serial_tracked:
            units = SerialUnit.State
            held = self.serials.filter(state__in=(units.IN_STOCK, units.MOVING, units.RETURNED)).count()
            if held:
                raise ValidationError(
                    {
                        "serial_tracked": f"{held} units of {self.code} in the house have a serial number; ship or "
                        "write them off before the SKU goes without."
                    }
                )

    @property
    def name(self) -> str:
        return self.title or self.product.title


class SkuAlias(models.Model):
    """Any other code that finds the SKU: barcodes, marketplace ids, old codes. One value, one SKU."""

    class Kind(models.TextChoices):
        GTIN = "gtin", "GTIN / EAN / UPC"
        FNSKU = "fnsku", "FNSKU"
        ASIN = "asin", "ASIN"
        CODE = "code", "Other code"

    sku = models.ForeignKey(Sku, on_delete=models.CASCADE, related_name="aliases")
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.CODE)
    value = models.CharField(max_length=80)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "SKU aliases"
        constraints = [models.UniqueConstraint(Upper("value"), name="sku_alias_unique_ci")]

    def __str__(self) -> str:
        return f"{self.value} → {self.sku_id}"


class KitComponent(models.Model):
    """A kit holds `quantity` of a component; components may be kits themselves, one level deep."""

    kit = models.ForeignKey(Sku, on_delete=models.CASCADE, related_name="components")
    component = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="used_in")
    quantity = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kit", "component"], name="kit_component_once"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="kit_component_quantity_positive"),
            models.CheckConstraint(condition=~Q(kit=F("component")), name="kit_component_not_itself"),
        ]


class SkuPack(models.Model):
    """A unit of measure that holds several eaches: 'case' of 12. Bought by pack, counted by each."""

    sku = models.ForeignKey(Sku, on_delete=models.CASCADE, related_name="packs")
    name = models.CharField(max_length=30, default="case")
    quantity = models.PositiveIntegerField()
    barcode = models.CharField(max_length=80, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["sku", "name"], name="sku_pack_once"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="sku_pack_quantity_positive"),
        ]


class Warehouse(models.Model):
    """A place that holds stock. Each is its own pool; FBA and 3PL pools belong to their operator."""

    class Kind(models.TextChoices):
        OWN = "own", "Own warehouse"
        THREEPL = "3pl", "3PL"
        FBA = "fba", "Amazon FBA"
        WFS = "wfs", "Walmart WFS"
        STORE = "store", "Store"
        DROPSHIP = "dropship", "Drop-ship supplier"
        VIRTUAL = "virtual", "Virtual"

    code = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.OWN)
    company = models.CharField(max_length=120, blank=True)
    address1 = models.CharField(max_length=160, blank=True)
    address2 = models.CharField(max_length=160, blank=True)
    city = models.CharField(max_length=80, blank=True)
    region = models.CharField(max_length=40, blank=True)
    postal_code = models.CharField(max_length=20, blank=True)
    country = models.CharField(max_length=2, default="US")
    phone = models.CharField(max_length=40, blank=True)
    time_zone = models.CharField(max_length=50, default="UTC")
    priority = models.PositiveSmallIntegerField(
        default=100, help_text="lower is preferred when all else is equal"
    )
    capacity_per_day = models.PositiveIntegerField(
        null=True, blank=True, help_text="shipments per day; empty = no limit"
    )
    handling_cost = MoneyAmountField(default=0, help_text="own cost per shipment, used by cost ranking")
    currency = CurrencyField(default="USD")
    is_active = models.BooleanField(default=True)
    expiry_told_on = models.DateField(
        null=True,
        blank=True,
        editable=False,
        help_text="local day up to which expiries were told to listings",
    )

    class Meta:
        ordering = ["priority", "code"]

    def __str__(self) -> str:
        return self.code

    @property
    def counted_by_us(self) -> bool:
        """False where only the operator's snapshots and events may change the pool."""
        return self.kind not in (self.Kind.FBA, self.Kind.WFS)


class WarehouseHours(models.Model):
    """Working day of a warehouse: orders before `cut_off` (local time) leave the same day."""

    warehouse = models.ForeignKey(Warehouse, on_delete=models.CASCADE, related_name="hours")
    weekday = models.PositiveSmallIntegerField(help_text="0 = Monday … 6 = Sunday")
    cut_off = models.TimeField(help_text="local time; an order at exactly this time leaves the next open day")

    class Meta:
        ordering = ["weekday"]
        verbose_name_plural = "warehouse hours"
        constraints = [
            models.UniqueConstraint(fields=["warehouse", "weekday"], name="warehouse_hours_once"),
            models.CheckConstraint(condition=Q(weekday__lte=6), name="warehouse_hours_weekday"),
        ]


class WarehouseClosure(models.Model):
    """Holiday or temporary closure, whole local days, both ends included."""

    warehouse = models.ForeignKey(Warehouse, on_delete=models.CASCADE, related_name="closures")
    first_day = models.DateField()
    last_day = models.DateField()
    reason = models.CharField(max_length=120)

    class Meta:
        ordering = ["first_day"]
        constraints = [
            models.CheckConstraint(condition=Q(last_day__gte=F("first_day")), name="warehouse_closure_order"),
        ]


class Bin(models.Model):
    """A place inside a warehouse; pick lists follow `pick_sequence`."""

    class Kind(models.TextChoices):
        PICK = "pick", "Pick face"
        BULK = "bulk", "Bulk"
        DOCK = "dock", "Receiving dock"
        QUARANTINE = "quarantine", "Quarantine"

    warehouse = models.ForeignKey(Warehouse, on_delete=models.CASCADE, related_name="bins")
    code = models.CharField(max_length=30)
    zone = models.CharField(max_length=30, blank=True)
    pick_sequence = models.PositiveIntegerField(default=0)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.PICK)
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["warehouse", "pick_sequence", "code"]
        constraints = [models.UniqueConstraint(fields=["warehouse", "code"], name="bin_code_once")]

    def __str__(self) -> str:
        return self.code


class Lot(models.Model):
    """A batch of a SKU with one expiry date and one origin, traceable from supplier to order."""

    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="lots")
    code = models.CharField(max_length=60)
    expires_on = models.DateField(null=True, blank=True)
    source = models.CharField(
        max_length=120, blank=True, help_text="reference of the receipt that brought it in"
    )
    is_blocked = models.BooleanField(default=False, help_text="recalled or suspect: nothing of it is sold")
    note = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["sku", "code"], name="lot_code_once")]

    def __str__(self) -> str:
        return self.code


class BalanceGuard(RuntimeError):
    """Somebody tried to change a balance without a ledger row: post movements instead."""


#: what only `inventory.ledger` may change
BALANCES = frozenset(
    {"on_hand", "reserved", "damaged", "quarantine", "inspection", "in_transit", "average_cost"}
)


class StockLevelQuerySet(models.QuerySet["StockLevel"]):
    """Refuses every write to a balance: the ledger changes them by its own guarded UPDATE."""

    def update(self, **values: Any) -> int:
        _refuse(values)
        return super().update(**values)

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_update(self, objs: Any, fields: Any, batch_size: int | None = None) -> int:
        _refuse(fields)
        return super().bulk_update(objs, fields, batch_size)

    def bulk_create(self, objs: Any, *args: Any, **kwargs: Any) -> list[Any]:
        rows = list(objs)
        for row in rows:
            _refuse(row.own_balances())
        return super().bulk_create(rows, *args, **kwargs)


def _refuse(fields: Iterable[str]) -> None:
    touched = sorted(BALANCES & set(fields))
    if touched:
        raise BalanceGuard(
            f"{', '.join(touched)}: balances change only through inventory.ledger.post_movements()."
        )


class StockLevel(models.Model):
    """The counted truth of one SKU in one warehouse. `available` is computed, never stored.

    `on_hand` and `reserved` stay out of every index and the table keeps free space per page
    (fillfactor 50, migration 0002), so that PostgreSQL updates a hot row in place.
    """

    # no index of its own: `stock_level_once` begins with it
    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="levels", db_index=False)
    warehouse = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="levels")
    on_hand = models.IntegerField(default=0, help_text="physically there, whatever its state")
    reserved = models.IntegerField(default=0, help_text="promised to orders")
    damaged = models.IntegerField(default=0)
    quarantine = models.IntegerField(default=0)
    inspection = models.IntegerField(default=0)
    unavailable = models.GeneratedField(
        expression=F("damaged") + F("quarantine") + F("inspection"),
        output_field=models.IntegerField(),
        db_persist=True,
    )
    in_transit = models.IntegerField(default=0, help_text="on its way to this warehouse from another of ours")
    safety = models.PositiveIntegerField(default=0, help_text="never published to any channel")
    average_cost = MoneyAmountField(default=0, help_text="moving average landed cost per unit, SKU currency")
    bin = models.ForeignKey(Bin, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    snapshot_at = models.DateTimeField(
        null=True, blank=True, help_text="time of the operator's newest snapshot"
    )
    counted_at = models.DateTimeField(null=True, blank=True, help_text="time of the newest whole count")

    objects = StockLevelQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["sku", "warehouse"], name="stock_level_once"),
            models.CheckConstraint(condition=Q(reserved__gte=0), name="stock_reserved_not_negative"),
            models.CheckConstraint(
                condition=Q(damaged__gte=0, quarantine__gte=0, inspection__gte=0),
                name="stock_unavailable_not_negative",
            ),
            models.CheckConstraint(condition=Q(in_transit__gte=0), name="stock_in_transit_not_negative"),
            models.CheckConstraint(
                condition=Q(on_hand__gte=F("reserved") + F("damaged") + F("quarantine") + F("inspection")),
                name="stock_promised_within_on_hand",
            ),
        ]
        # of columns that orders do not touch: an update of `on_hand` or `reserved` stays in place
        indexes = [
            models.Index(
                fields=["sku"],
                condition=Q(damaged__gt=0) | Q(quarantine__gt=0) | Q(inspection__gt=0),
                name="stock_unfit_idx",
            ),
            models.Index(fields=["sku"], condition=Q(in_transit__gt=0), name="stock_transit_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.sku_id}@{self.warehouse_id}"

    def own_balances(self) -> list[str]:
        """Names of balances that are not zero on this object."""
        return [name for name in sorted(BALANCES) if getattr(self, name)]

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A new level starts at zero; of a stored one only the settings (safety, bin) can be saved."""
        if self._state.adding:
            _refuse(self.own_balances())
        else:
            named = kwargs.get("update_fields")
            _refuse(BALANCES if named is None else named)
        super().save(*args, **kwargs)

    @property
    def available(self) -> int:
        """Units that may be promised now: on hand − reserved − unavailable."""
        return self.on_hand - self.reserved - self.damaged - self.quarantine - self.inspection


class BinStock(models.Model):
    """Where inside the warehouse units lie and of which lot they are; `bin` empty = not in a bin.

    A warehouse with a receiving dock works with bins: there the rows of a level sum to `on_hand`. Elsewhere rows
    exist only for lots and named bins, and the rest of `on_hand` lies nowhere in particular.
    """

    warehouse = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="bin_stock")
    bin = models.ForeignKey(Bin, on_delete=models.PROTECT, null=True, blank=True, related_name="stock")
    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="bin_stock")
    lot = models.ForeignKey(Lot, on_delete=models.PROTECT, null=True, blank=True, related_name="bin_stock")
    quantity = models.IntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "sku", "warehouse", Coalesce("bin", 0), Coalesce("lot", 0), name="bin_stock_place_once"
            ),
            models.CheckConstraint(condition=Q(quantity__gte=0), name="bin_stock_not_negative"),
        ]


class StockMovement(models.Model):
    """One signed change of one bucket of one level. Append-only: triggers refuse UPDATE and DELETE."""

    class Bucket(models.TextChoices):
        ON_HAND = "on_hand", "On hand"
        RESERVED = "reserved", "Reserved"
        DAMAGED = "damaged", "Damaged"
        QUARANTINE = "quarantine", "Quarantine"
        INSPECTION = "inspection", "Inspection"
        IN_TRANSIT = "in_transit", "In transit"

    class Kind(models.TextChoices):
        OPENING = "opening", "Opening balance"
        RECEIPT = "receipt", "Purchase receipt"
        RESERVE = "reserve", "Reserved"
        RELEASE = "release", "Reservation released"
        SHIP = "ship", "Shipped"
        RETURN = "return", "Customer return received"
        DISPOSITION = "disposition", "Return disposition"
        ADJUST = "adjust", "Adjustment"
        COUNT = "count", "Count"
        TRANSFER_OUT = "transfer_out", "Transfer out"
        TRANSFER_IN = "transfer_in", "Transfer in"
        STATE = "state", "Change of state"
        SNAPSHOT = "snapshot", "Operator's snapshot"
        FOUND = "found", "Found stock"
        WRITE_OFF = "write_off", "Write-off"
        CORRECTION = "correction", "Correction"
        BUILD = "build", "Kit built or broken"
        MERGE = "merge", "SKU merge"

    id = models.BigAutoField(primary_key=True)
    # each index is paid by every movement: only those that are asked, see migration 0018
    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="movements", db_index=False)
    warehouse = models.ForeignKey(
        Warehouse, on_delete=models.PROTECT, related_name="movements", db_index=False
    )
    bucket = models.CharField(max_length=10, choices=Bucket.choices)
    quantity = models.IntegerField(help_text="signed change of the bucket, in eaches")
    balance = models.IntegerField(help_text="the bucket after this movement")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    reason = models.CharField(max_length=60, blank=True)
    reference = models.CharField(
        max_length=80, blank=True, help_text="what caused it: SH-10041, PO-77, RMA-55 …"
    )
    actor = models.CharField(max_length=120)
    note = models.CharField(max_length=255, blank=True)
    lot = models.ForeignKey(
        Lot, on_delete=models.PROTECT, null=True, blank=True, related_name="movements", db_index=False
    )
    bin = models.ForeignKey(
        Bin, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    unit_cost = MoneyAmountField(null=True, blank=True, help_text="landed cost per unit at this moment")
    average_cost = MoneyAmountField(
        null=True, blank=True, help_text="moving average of the level after this movement"
    )
    stock_value = MoneyAmountField(
        max_digits=18,
        null=True,
        blank=True,
        help_text="value of the level's units on hand after this movement",
    )
    occurred_at = models.DateTimeField(help_text="when it happened in the world")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    key = models.CharField(max_length=120, unique=True, help_text="idempotency key: the same key posts once")

    class Meta:
        ordering = ["-id"]
        constraints = [models.CheckConstraint(condition=~Q(quantity=0), name="movement_not_zero")]
        indexes = [
            models.Index(fields=["sku", "created_at"], name="movement_sku_time_idx"),
            models.Index(fields=["reference"], name="movement_reference_idx"),
            models.Index(fields=["created_at"], name="movement_created_idx"),
            models.Index(fields=["lot"], condition=Q(lot__isnull=False), name="movement_lot_idx"),
            models.Index(fields=["bin"], condition=Q(bin__isnull=False), name="movement_bin_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity:+d} {self.bucket} {self.kind}"


class BinMovement(models.Model):
    """One signed change of one bin's stock of one lot: what a movement took from where, or a move between bins.

    Append-only. It answers in which order a lot ended and what lay in a bin at any moment.
    """

    id = models.BigAutoField(primary_key=True)
    movement = models.ForeignKey(
        StockMovement, on_delete=models.PROTECT, null=True, blank=True, related_name="places"
    )
    warehouse = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="+")
    bin = models.ForeignKey(Bin, on_delete=models.PROTECT, null=True, blank=True, related_name="movements")
    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="+")
    lot = models.ForeignKey(Lot, on_delete=models.PROTECT, null=True, blank=True, related_name="places")
    quantity = models.IntegerField(help_text="signed change, in eaches")
    reason = models.CharField(max_length=60, blank=True)
    actor = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-id"]
        constraints = [models.CheckConstraint(condition=~Q(quantity=0), name="bin_movement_not_zero")]
        indexes = [
            models.Index(fields=["sku", "warehouse", "id"], name="bin_movement_level_idx"),
            models.Index(fields=["bin", "-id"], condition=Q(bin__isnull=False), name="bin_movement_bin_idx"),
            models.Index(fields=["lot", "id"], condition=Q(lot__isnull=False), name="bin_movement_lot_idx"),
        ]


class SerialUnit(models.Model):
    """One unit with a number of its own, from the dock to the buyer."""

    class State(models.TextChoices):
        IN_STOCK = "in_stock", "In stock"
        MOVING = "moving", "Between warehouses"
        SHIPPED = "shipped", "Shipped"
        RETURNED = "returned", "Came back"
        GONE = "gone", "Written off"

    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="serials")
    serial = models.CharField(max_length=60)
    state = models.CharField(max_length=10, choices=State.choices, default=State.IN_STOCK)
    warehouse = models.ForeignKey(
        Warehouse, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    lot = models.ForeignKey(Lot, on_delete=models.PROTECT, null=True, blank=True, related_name="serials")
    source = models.CharField(max_length=80, blank=True, help_text="receipt that brought it in")
    reference = models.CharField(max_length=80, blank=True, help_text="shipment or return that moved it last")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint("sku", Upper("serial"), name="serial_once_per_sku"),
            models.CheckConstraint(
                condition=~Q(state="in_stock") | Q(warehouse__isnull=False), name="serial_in_stock_somewhere"
            ),
        ]
        indexes = [models.Index(fields=["reference"], name="serial_reference_idx")]

    def __str__(self) -> str:
        return self.serial


class SerialEvent(models.Model):
    """One step on the way of a numbered unit, from the dock to the buyer and back. Append-only."""

    id = models.BigAutoField(primary_key=True)
    unit = models.ForeignKey(SerialUnit, on_delete=models.PROTECT, related_name="events")
    state = models.CharField(max_length=10, choices=SerialUnit.State.choices, help_text="after this step")
    words = models.CharField(max_length=120, help_text="what happened: received, shipped, scrapped …")
    warehouse = models.ForeignKey(
        Warehouse, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    reference = models.CharField(max_length=80, blank=True, help_text="receipt, shipment, transfer or return")
    note = models.CharField(max_length=255, blank=True)
    actor = models.CharField(max_length=120)
    at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-id"]


class StockCheckpoint(models.Model):
    """Balance of a level's bucket at a moment, so that as-of questions replay little; on hand with its value."""

    sku = models.ForeignKey(Sku, on_delete=models.CASCADE, related_name="+")
    warehouse = models.ForeignKey(Warehouse, on_delete=models.CASCADE, related_name="+")
    bucket = models.CharField(max_length=10, choices=StockMovement.Bucket.choices)
    at = models.DateTimeField()
    balance = models.IntegerField()
    average_cost = MoneyAmountField(null=True, blank=True)
    stock_value = MoneyAmountField(max_digits=18, null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["at", "sku", "warehouse", "bucket"], name="stock_checkpoint_unique"
            ),
        ]


class CostLayer(models.Model):
    """What is left of one arrival, oldest first, for SKUs valued first in, first out.

    Per level the layers hold `on_hand` units together, and their values are the value of the stock. The value is
    kept, not a price per unit, so that no part of a cent is lost when units leave one by one.
    """

    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="+")
    warehouse = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="+")
    remaining = models.PositiveIntegerField()
    value = MoneyAmountField(max_digits=18, help_text="of the remaining units, SKU currency")
    reference = models.CharField(max_length=80, blank=True, help_text="what brought the units: PO-77")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        indexes = [
            models.Index(
                fields=["sku", "warehouse", "id"], condition=Q(remaining__gt=0), name="cost_layer_left_idx"
            )
        ]
        constraints = [
            models.CheckConstraint(condition=Q(value__gte=0), name="cost_layer_value_not_negative"),
        ]


class CostEntry(models.Model):
    """A change of value without a movement: late landed cost, or another way of valuing. Append-only."""

    class Kind(models.TextChoices):
        LATE_COST = "late_cost", "Late landed cost"
        METHOD = "method", "Valuation changed"
        UNDONE = "undone", "File undone"

    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="+")
    warehouse = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    amount = MoneyAmountField(max_digits=18, help_text="put on the units in stock, signed")
    variance = MoneyAmountField(
        max_digits=18, default=0, help_text="of units sold before: cost of goods sold"
    )
    average_cost = MoneyAmountField(help_text="of the level after it")
    stock_value = MoneyAmountField(max_digits=18, help_text="of the level after it")
    reference = models.CharField(max_length=80, blank=True)
    actor = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "cost entries"
        indexes = [models.Index(fields=["sku", "created_at"], name="cost_entry_sku_time_idx")]


class Reservation(models.Model):
    """A promise of stock to somebody named by `reference`. Stock knows nothing of orders.

    `quantity` is what is still held; `consumed` and `released` say where the rest went.
    Invariant S3: per level the sum of open quantities equals `StockLevel.reserved`.
    """

    class State(models.TextChoices):
        OPEN = "open", "Open"
        CONSUMED = "consumed", "Consumed"
        RELEASED = "released", "Released"

    id = models.BigAutoField(primary_key=True)
    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="reservations")
    warehouse = models.ForeignKey(
        Warehouse, on_delete=models.PROTECT, related_name="reservations", db_index=False
    )
    quantity = models.IntegerField(help_text="units still held")
    consumed = models.IntegerField(default=0)
    released = models.IntegerField(default=0)
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    reference = models.CharField(
        max_length=80, help_text="who it is for, as text: order line, checkout, campaign"
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="a checkout's hold ends by itself")
    promise_at = models.DateTimeField(
        null=True, blank=True, help_text="promised date; the latest loses first"
    )
    firm = models.BooleanField(
        default=False, help_text="packed or labelled: never taken away when stock shrinks"
    )
    channel_code = models.CharField(
        max_length=40, blank=True, help_text="its sales use up that channel's fences"
    )
    min_shelf_days = models.PositiveSmallIntegerField(
        default=0, help_text="days of life a unit must have left to serve it"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(quantity__gte=0, consumed__gte=0, released__gte=0),
                name="reservation_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(state="open", quantity__gt=0) | (~Q(state="open") & Q(quantity=0)),
                name="reservation_open_holds_something",
            ),
        ]
        indexes = [
            models.Index(fields=["sku", "warehouse"], condition=Q(state="open"), name="reservation_open_idx"),
            models.Index(fields=["reference"], name="reservation_reference_idx"),
            models.Index(fields=["expires_at"], condition=Q(state="open"), name="reservation_expiry_idx"),
            models.Index(
                fields=["sku", "channel_code", "created_at"],
                condition=~Q(channel_code=""),
                name="reservation_fence_idx",
            ),
        ]


class RingFence(models.Model):
    """Units kept for one sales channel (named by its code) until a date; unsold ones return by themselves.

    What the channel has used is computed from its reservations since the start, so a cancelled order gives back.
    """

    sku = models.ForeignKey(Sku, on_delete=models.CASCADE, related_name="ring_fences")
    channel_code = models.CharField(max_length=40)
    quantity = models.PositiveIntegerField()
    starts_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField()
    note = models.CharField(max_length=160, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="ring_fence_period"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="ring_fence_quantity_positive"),
        ]


class Transfer(models.Model):
    """Stock moved between two of our warehouses: requested, shipped, received with differences."""

    class State(models.TextChoices):
        REQUESTED = "requested", "Requested"
        SHIPPED = "shipped", "In transit"
        RECEIVED = "received", "Received"
        CANCELLED = "cancelled", "Cancelled"

    source = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="transfers_out")
    destination = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="transfers_in")
    state = models.CharField(max_length=10, choices=State.choices, default=State.REQUESTED)
    requested_at = models.DateTimeField(default=timezone.now)
    shipped_at = models.DateTimeField(null=True, blank=True)
    received_at = models.DateTimeField(null=True, blank=True)
    expected_on = models.DateField(null=True, blank=True)
    actor = models.CharField(max_length=120)
    note = models.CharField(max_length=255, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=~Q(source=F("destination")), name="transfer_two_places"),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def number(self) -> str:
        return f"TR-{self.pk}"


class TransferLine(models.Model):
    """`shipped = received + lost + returned + still in transit` at every step (invariant S7)."""

    transfer = models.ForeignKey(Transfer, on_delete=models.CASCADE, related_name="lines")
    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="+")
    quantity = models.PositiveIntegerField()
    shipped = models.PositiveIntegerField(default=0)
    received = models.PositiveIntegerField(default=0)
    lost = models.PositiveIntegerField(default=0)
    returned = models.PositiveIntegerField(default=0, help_text="found at the source again")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["transfer", "sku"], name="transfer_sku_once"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="transfer_quantity_positive"),
            models.CheckConstraint(
                condition=Q(shipped__gte=F("received") + F("lost") + F("returned")),
                name="transfer_accounted_within_shipped",
            ),
        ]

    @property
    def open_units(self) -> int:
        """Units still in transit."""
        return self.shipped - self.received - self.lost - self.returned


class LowStock(models.Model):
    """A SKU that is below its limit now: told once when it crossed, forgotten when it recovers."""

    sku = models.OneToOneField(Sku, on_delete=models.CASCADE, related_name="low_stock")
    since = models.DateTimeField(default=timezone.now)
    available = models.IntegerField(help_text="over the pools that we count ourselves")
    out_on = models.DateField(null=True, blank=True, help_text="first day that begins with nothing left")

    class Meta:
        verbose_name_plural = "low stock"


class DemandDay(models.Model):
    """Units demanded per SKU, channel and local day, net of cancels; rolled up from order lines.

    The roll-up is recomputed for whole days, so running it twice gives the same rows.
    """

    sku = models.ForeignKey(Sku, on_delete=models.CASCADE, related_name="demand")
    channel_code = models.CharField(max_length=40)
    day = models.DateField()
    units = models.IntegerField()
    lines = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["sku", "channel_code", "day"], name="demand_day_once")]
        indexes = [models.Index(fields=["day"], name="demand_day_idx")]


class StockDay(models.Model):
    """How a SKU stood at the close of every business day from `first_day` to `last_day`, which were all alike.

    Written by `inventory.kpis.close_days` from the ledger, by the time a movement was posted. Without a warehouse it
    says whether the SKU could be promised anywhere in the pools that we count ourselves; its value is then 0.
    """

    id = models.BigAutoField(primary_key=True)
    sku = models.ForeignKey(Sku, on_delete=models.CASCADE, related_name="stock_days")
    warehouse = models.ForeignKey(Warehouse, on_delete=models.CASCADE, null=True, related_name="stock_days")
    first_day = models.DateField()
    last_day = models.DateField()
    on_hand = models.IntegerField(help_text="at the close, whatever its state")
    unfit = models.IntegerField(help_text="part of on hand that is damaged, in quarantine or in inspection")
    in_transit = models.IntegerField(help_text="on its way to this warehouse from another of ours")
    available = models.IntegerField(help_text="on hand − reserved − unfit at the close")
    unit_cost = MoneyAmountField(default=0, help_text="average landed cost at the close, SKU currency")
    out_minutes = models.PositiveSmallIntegerField(
        help_text="minutes of each day with nothing available; a day counts 1440"
    )
    active = models.BooleanField(default=True, help_text="on sale; other days are no SKU-days")

    class Meta:
        ordering = ["-last_day", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["sku", "warehouse", "first_day"], name="stock_day_once", nulls_distinct=False
            ),
            models.CheckConstraint(condition=Q(last_day__gte=F("first_day")), name="stock_day_order"),
            models.CheckConstraint(condition=Q(out_minutes__lte=1440), name="stock_day_minutes"),
        ]
        indexes = [models.Index(fields=["-last_day", "-id"], name="stock_day_last_idx")]

    @property
    def value(self) -> Decimal:
        """On hand and in transit at cost, of one day."""
        return (self.on_hand + self.in_transit) * self.unit_cost


class AdjustmentReason(models.Model):
    """Why a person may change on hand. Reasons of the software itself need no row."""

    class Direction(models.TextChoices):
        BOTH = "both", "More or fewer"
        IN = "in", "More only"
        OUT = "out", "Fewer only"

    code = models.CharField(max_length=60, unique=True)
    label = models.CharField(max_length=80)
    direction = models.CharField(max_length=4, choices=Direction.choices, default=Direction.BOTH)
    needs_note = models.BooleanField(default=False, help_text="the note says what proves it")
    is_active = models.BooleanField(default=True)
    position = models.PositiveSmallIntegerField(default=100)

    class Meta:
        ordering = ["position", "label"]

    def __str__(self) -> str:
        return self.label


class AdjustmentLimit(models.Model):
    """Value up to which people of a role adjust alone, business currency; other roles have the common limit."""

    role = models.CharField(max_length=20, unique=True)
    amount = MoneyAmountField()

    class Meta:
        ordering = ["role"]
        constraints = [
            models.CheckConstraint(condition=Q(amount__gte=0), name="adjustment_limit_not_negative"),
        ]


class AdjustmentRequest(models.Model):
    """An adjustment above its author's limit: no stock effect until a second person approves it."""

    class State(models.TextChoices):
        PENDING = "pending", "Waiting for approval"
        APPROVED = "approved", "Approved"
        REFUSED = "refused", "Refused"
        WITHDRAWN = "withdrawn", "Withdrawn by its author"

    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="+")
    warehouse = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="+")
    bucket = models.CharField(max_length=10, choices=StockMovement.Bucket.choices, default="on_hand")
    quantity = models.IntegerField()
    reason = models.CharField(max_length=60)
    note = models.CharField(max_length=255, blank=True)
    kind = models.CharField(max_length=12, choices=StockMovement.Kind.choices, default="adjust")
    lot = models.ForeignKey(Lot, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    bin = models.ForeignKey(Bin, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    unit_cost = MoneyAmountField(null=True, blank=True)
    serials = models.JSONField(
        default=list, blank=True, help_text="numbers of the units, where they have any"
    )
    key = models.CharField(max_length=120, blank=True, help_text="the same key asks once")
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("author")),
                name="adjustment_two_people",
            ),
            models.UniqueConstraint(fields=["key"], condition=~Q(key=""), name="adjustment_asked_once"),
        ]


class StockBatch(models.Model):
    """Many adjustments asked for at once, above their author's limit: nothing of it happens until a second person
    has seen the totals and the first rows and approves; then its job does it.
    """

    class State(models.TextChoices):
        PENDING = "pending", "Waiting for approval"
        APPROVED = "approved", "Approved"
        REFUSED = "refused", "Refused"
        WITHDRAWN = "withdrawn", "Withdrawn by its author"

    kind = models.CharField(max_length=30, help_text="who runs it")
    title = models.CharField(max_length=160)
    params = models.JSONField(default=dict)
    rows = models.PositiveIntegerField(help_text="rows that change something")
    units_in = models.PositiveBigIntegerField()
    units_out = models.PositiveBigIntegerField()
    value = MoneyAmountField(help_text="cost × |difference| of all rows, business currency")
    limit = MoneyAmountField(help_text="its author's, when it was asked for")
    shown = models.JSONField(default=list, help_text="first rows: SKU, warehouse, before, after")
    places = models.JSONField(default=list, help_text="codes of its warehouses")
    url = models.CharField(max_length=200, blank=True, help_text="where all of its rows are seen")
    key = models.CharField(max_length=120, unique=True, help_text="the same key asks once")
    actor = models.CharField(max_length=120, help_text="who asked, as the ledger will name them")
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    job = models.ForeignKey(Job, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "stock batches"
        constraints = [
            models.CheckConstraint(
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("author")),
                name="stock_batch_two_people",
            ),
        ]
        indexes = [
            models.Index(fields=["created_at"], condition=Q(state="pending"), name="stock_batch_waits")
        ]

    def __str__(self) -> str:
        return self.title


class PoolPolicy(models.Model):
    """How far the figures of a pool's operator go without a person. Without a row nothing is accepted by itself."""

    warehouse = models.OneToOneField(Warehouse, on_delete=models.CASCADE, related_name="pool_policy")
    accept_units = models.PositiveIntegerField(
        default=0, help_text="a gap of up to so many units is booked by itself"
    )
    accept_percent = models.DecimalField(
        max_digits=5, decimal_places=2, default=0, help_text="or up to this share of our figure, in percent"
    )
    grace_minutes = models.PositiveIntegerField(
        default=240, help_text="how long shipments on their way may explain a gap"
    )
    max_age_hours = models.PositiveIntegerField(
        default=26, help_text="a pool without a newer snapshot is told as silent"
    )

    class Meta:
        verbose_name_plural = "pool policies"
        constraints = [
            models.CheckConstraint(
                condition=Q(accept_percent__gte=0, accept_percent__lte=100), name="pool_policy_percent"
            ),
        ]


class StockDifference(models.Model):
    """An operator's figure that is not ours: both sides, the time of each, and what became of it."""

    class State(models.TextChoices):
        WATCHING = "watching", "Explained, waiting"
        OPEN = "open", "Open"
        DISPUTED = "disputed", "Disputed with the operator"
        CLOSED = "closed", "Closed"

    class Cause(models.TextChoices):
        LATE_SHIPMENT = "late_shipment", "Shipment reported late"
        UNSHOWN_SHIPMENT = "unshown_shipment", "Shipment not in their figures yet"
        ADJUSTMENT = "adjustment", "Unreported adjustment"
        COUNT = "count", "Count"
        STATE = "state", "Damaged or not"
        UNKNOWN = "unknown", "Unknown"

    class Outcome(models.TextChoices):
        AGREED = "agreed", "A later snapshot agreed"
        ACCEPTED = "accepted", "Theirs accepted"
        OBSOLETE = "obsolete", "Overtaken by the operator's newer figure"

    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="differences")
    warehouse = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="differences")
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    theirs = models.PositiveIntegerField(help_text="on hand as the operator says, unfit units included")
    theirs_unfit = models.PositiveIntegerField(default=0)
    ours = models.IntegerField(help_text="on hand by our ledger at the time of their snapshot")
    ours_unfit = models.IntegerField(default=0)
    taken_at = models.DateTimeField(help_text="time of their figure")
    book_at = models.DateTimeField(null=True, blank=True, help_text="time of our newest movement")
    cause = models.CharField(max_length=16, choices=Cause.choices, default=Cause.UNKNOWN)
    reason = models.CharField(max_length=255, blank=True)
    value = MoneyAmountField(default=0, help_text="the gap at average cost, in the SKU's currency")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    note = models.CharField(max_length=400, blank=True)
    approval = models.ForeignKey(
        AdjustmentRequest, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    version = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField(default=timezone.now)
    gap_at = models.DateTimeField(default=timezone.now, help_text="since when the gap is this big")
    disputed_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.CharField(max_length=120, blank=True)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["sku", "warehouse"], condition=Q(closed_at__isnull=True), name="difference_open_once"
            ),
            models.CheckConstraint(
                condition=Q(state="closed", closed_at__isnull=False)
                | (~Q(state="closed") & Q(closed_at__isnull=True)),
                name="difference_closed_has_time",
            ),
        ]
        indexes = [models.Index(fields=["state", "-value"], name="difference_state_idx")]

    def __str__(self) -> str:
        return self.number

    @property
    def number(self) -> str:
        return f"DF-{self.pk}"

    @property
    def gap(self) -> int:
        """Units that the operator has more (less, when negative) than our books of that time."""
        return self.theirs - self.ours


class CountTask(models.Model):
    """Somebody has to count one SKU, in one bin or in the whole warehouse.

    `expected` is what the books said at the very moment of counting, so units that move before the difference is
    posted stay moved: `posted = counted - expected`.
    """

    class Cause(models.TextChoices):
        RULE = "rule", "Due by its class"
        ZERO = "zero", "Is it really empty?"
        SHORT_PICK = "short_pick", "A picker missed some"
        MANUAL = "manual", "Asked for"

    class State(models.TextChoices):
        OPEN = "open", "To count"
        COUNTED = "counted", "Difference to review"
        WAITING = "waiting", "Waits for approval"
        DONE = "done", "Done"
        CANCELLED = "cancelled", "Cancelled"

    warehouse = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="counts")
    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="counts")
    bin = models.ForeignKey(Bin, on_delete=models.PROTECT, null=True, blank=True, related_name="counts")
    cause = models.CharField(max_length=10, choices=Cause.choices, default=Cause.MANUAL)
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    is_blind = models.BooleanField(default=True, help_text="the counter never learns what the books say")
    due_on = models.DateField()
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=120)
    note = models.CharField(max_length=255, blank=True)
    expected = models.IntegerField(null=True, blank=True, help_text="the books at the moment of counting")
    counted = models.PositiveIntegerField(null=True, blank=True)
    counted_at = models.DateTimeField(null=True, blank=True)
    counted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    request = models.OneToOneField(
        AdjustmentRequest, on_delete=models.PROTECT, null=True, blank=True, related_name="count"
    )
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["due_on", "id"]
        constraints = [
            models.UniqueConstraint(
                "sku", "warehouse", Coalesce("bin", 0), condition=Q(state="open"), name="count_open_once"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["open", "cancelled"])
                | Q(counted__isnull=False, expected__isnull=False, counted_at__isnull=False),
                name="count_has_figures",
            ),
        ]
        indexes = [models.Index(fields=["warehouse", "state", "due_on"], name="count_queue_idx")]

    def __str__(self) -> str:
        return f"C-{self.pk}"

    @property
    def variance(self) -> int | None:
        """Counted minus expected; None before it is counted."""
        return None if self.counted is None or self.expected is None else self.counted - self.expected


class Evidence(models.Model):
    """A photo or PDF that shows why stock was changed: of a movement, a count, or what waits for a second person.

    Append-only: what somebody approved by stays as it was.
    """

    class Kind(models.TextChoices):
        JPEG = "jpeg", "Photo (JPEG)"
        PNG = "png", "Picture (PNG)"
        WEBP = "webp", "Photo (WebP)"
        PDF = "pdf", "PDF"

    id = models.BigAutoField(primary_key=True)
    movement = models.ForeignKey(
        StockMovement, on_delete=models.PROTECT, null=True, blank=True, related_name="evidence"
    )
    request = models.ForeignKey(
        AdjustmentRequest, on_delete=models.PROTECT, null=True, blank=True, related_name="evidence"
    )
    count = models.ForeignKey(
        CountTask, on_delete=models.PROTECT, null=True, blank=True, related_name="evidence"
    )
    kind = models.CharField(max_length=4, choices=Kind.choices, help_text="read from its bytes")
    name = models.CharField(max_length=80)
    size = models.PositiveIntegerField(help_text="bytes")
    sha256 = models.CharField(max_length=64)
    content = models.BinaryField()
    actor = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "evidence"
        constraints = [
            models.CheckConstraint(
                condition=Q(movement__isnull=False, request__isnull=True, count__isnull=True)
                | Q(movement__isnull=True, request__isnull=False, count__isnull=True)
                | Q(movement__isnull=True, request__isnull=True, count__isnull=False),
                name="evidence_of_one_thing",
            ),
            *(
                models.UniqueConstraint(
                    fields=[name, "sha256"],
                    condition=Q(**{f"{name}__isnull": False}),
                    name=f"evidence_once_{name}",
                )
                for name in ("movement", "request", "count")
            ),
        ]

    def __str__(self) -> str:
        return self.name
