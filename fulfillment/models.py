"""Stage 5: which warehouse ships, in which parcels, with which label, bought exactly once."""

from __future__ import annotations

import uuid

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from fulfillment.carriers.base import CONNECTORS, NAMES
from inventory.models import Lot, SerialUnit, Sku, Transfer, Warehouse
from oms.core.clock import now
from oms.core.fields import CurrencyField, EncryptedJSONField, EncryptedTextField, MoneyAmountField
from oms.orders.models import Allocation, Order, OrderLine
from procurement.models import PurchaseOrder, Receipt


class RoutingPolicy(models.Model):
    """An immutable version of the whole routing rule set; publishing writes a new one."""

    version = models.PositiveIntegerField(unique=True)
    rules = models.JSONField(
        default=list, help_text="ordered rules: name, when, then (see fulfillment/routing/model.py)"
    )
    note = models.CharField(max_length=255, blank=True)
    published_by = models.CharField(max_length=120)
    published_at = models.DateTimeField(default=timezone.now)
    is_active = models.BooleanField(default=False)

    class Meta:
        ordering = ["-version"]
        verbose_name_plural = "routing policies"
        constraints = [
            models.UniqueConstraint(
                fields=["is_active"], condition=Q(is_active=True), name="routing_policy_one_active"
            ),
        ]


class RoutingDraft(models.Model):
    """The rules under work before they are published: at most one, seen by everybody who may change rules."""

    ONLY = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=ONLY)
    base = models.PositiveIntegerField(default=0, help_text="version in force that it changes; 0 = none was")
    rules = models.JSONField(default=list)
    before = models.JSONField(
        null=True, blank=True, help_text="the rules before the last change, to take it back"
    )
    changed_by = models.CharField(max_length=120)
    changed_at = models.DateTimeField(default=timezone.now)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="routing_draft_only_one")]

    def __str__(self) -> str:
        return "Draft of the routing rules"


class RoutingDecision(models.Model):
    """Why this warehouse: winner, every loser, the data seen and the rule version; can be replayed."""

    id = models.BigAutoField(primary_key=True)
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="routing_decisions")
    policy_version = models.PositiveIntegerField()
    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=120)
    outcome = models.CharField(max_length=20, help_text="routed, partly, held, no_route, manual")
    summary = models.CharField(max_length=400)
    trace = models.JSONField()

    class Meta:
        ordering = ["-id"]


class PackageType(models.Model):
    name = models.CharField(max_length=60, unique=True)
    length_mm = models.PositiveIntegerField()
    width_mm = models.PositiveIntegerField()
    height_mm = models.PositiveIntegerField()
    tare_g = models.PositiveIntegerField(default=0)
    max_weight_g = models.PositiveIntegerField(null=True, blank=True)
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["length_mm", "width_mm", "height_mm"]

    def __str__(self) -> str:
        return self.name


class CarrierAccount(models.Model):
    """A contract with a carrier (or our own table-rate carrier), usable from the named warehouses."""

    code = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    connector = models.CharField(max_length=30, help_text="table_rate: your own price list")
    credentials = EncryptedJSONField(default=dict, blank=True)
    config = models.JSONField(default=dict, blank=True)
    currency = CurrencyField(default="USD")
    warehouses = models.ManyToManyField(Warehouse, blank=True, related_name="carrier_accounts")
    preference = models.PositiveSmallIntegerField(default=100, help_text="breaks ties; lower is preferred")
    test_mode = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["preference", "code"]

    def __str__(self) -> str:
        return self.name

    @property
    def labels_from(self) -> str:
        return NAMES.get(self.connector, self.connector)

    @property
    def is_asked(self) -> bool:
        """Whether it can be asked at all; others only keep labels that a 3PL, a channel or a person bought."""
        return self.connector in CONNECTORS

    def clean(self) -> None:
        if self.is_active and not self.is_asked:
            raise ValidationError(
                {
                    "connector": f"'{self.connector}' is no carrier; choose one of {', '.join(sorted(CONNECTORS))}."
                }
            )


class CarrierService(models.Model):
    """A service of an account; for the table-rate carrier it also carries the rating rules."""

    account = models.ForeignKey(CarrierAccount, on_delete=models.CASCADE, related_name="services")
    code = models.SlugField(max_length=40)
    name = models.CharField(max_length=80)
    rules = models.JSONField(
        default=dict,
        blank=True,
        help_text="divisor, rounding, limits, transit days … (see carriers/table_rate/rating.py)",
    )
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["account", "code"]
        constraints = [models.UniqueConstraint(fields=["account", "code"], name="carrier_service_once")]

    def __str__(self) -> str:
        return self.name


class RateCard(models.Model):
    """Prices of a service from one origin group, valid between dates: zone × weight breaks."""

    service = models.ForeignKey(CarrierService, on_delete=models.CASCADE, related_name="cards")
    origin_group = models.CharField(max_length=40, blank=True, help_text="warehouse code, or empty for all")
    currency = CurrencyField(default="USD")
    valid_from = models.DateField()
    valid_to = models.DateField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(valid_to__isnull=True) | Q(valid_to__gte=F("valid_from")), name="rate_card_dates"
            ),
        ]


class RateBreak(models.Model):
    """Price up to and including `up_to_g`; above the last break `per_extra_kg` applies, or no rate."""

    card = models.ForeignKey(RateCard, on_delete=models.CASCADE, related_name="breaks")
    zone = models.CharField(max_length=12)
    up_to_g = models.PositiveIntegerField()
    price = MoneyAmountField()
    per_extra_kg = MoneyAmountField(null=True, blank=True)

    class Meta:
        ordering = ["zone", "up_to_g"]
        constraints = [models.UniqueConstraint(fields=["card", "zone", "up_to_g"], name="rate_break_once")]


class Surcharge(models.Model):
    """Residential, delivery area, oversize, fuel …; applied in `position` order under its conditions."""

    service = models.ForeignKey(CarrierService, on_delete=models.CASCADE, related_name="surcharges")
    code = models.SlugField(max_length=40)
    name = models.CharField(max_length=80)
    position = models.PositiveSmallIntegerField(default=10)
    amount = MoneyAmountField(null=True, blank=True)
    percent = models.DecimalField(max_digits=7, decimal_places=4, null=True, blank=True)
    applies_to = models.JSONField(default=list, blank=True, help_text="components a percentage is taken of")
    conditions = models.JSONField(default=dict, blank=True)
    valid_from = models.DateField()
    valid_to = models.DateField(null=True, blank=True)

    class Meta:
        ordering = ["position", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(amount__isnull=False, percent__isnull=True)
                | Q(amount__isnull=True, percent__isnull=False),
                name="surcharge_amount_or_percent",
            ),
        ]


class ZoneOverride(models.Model):
    """Exact zone chart rows that overrule the distance formula."""

    account = models.ForeignKey(CarrierAccount, on_delete=models.CASCADE, related_name="zone_overrides")
    origin_prefix = models.CharField(max_length=10)
    country = models.CharField(max_length=2, default="US")
    destination_prefix = models.CharField(max_length=10, blank=True)
    zone = models.CharField(max_length=12)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "origin_prefix", "country", "destination_prefix"],
                name="zone_override_once",
            ),
        ]


class Shipment(models.Model):
    """What one warehouse sends for one order."""

    class State(models.TextChoices):
        READY = "ready", "Ready to pick"
        PICKING = "picking", "Being picked"
        PACKED = "packed", "Packed"
        LABELLED = "labelled", "Label bought"
        SHIPPED = "shipped", "Shipped"
        DELIVERED = "delivered", "Delivered"
        CANCELLED = "cancelled", "Cancelled"

    id = models.BigAutoField(primary_key=True)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="shipments")
    warehouse = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="shipments")
    state = models.CharField(max_length=10, choices=State.choices, default=State.READY)
    carrier_account = models.ForeignKey(
        CarrierAccount, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    service_code = models.CharField(max_length=40, blank=True)
    ship_by = models.DateTimeField(null=True, blank=True)
    picked_at = models.DateTimeField(null=True, blank=True)
    packed_at = models.DateTimeField(null=True, blank=True)
    shipped_at = models.DateTimeField(null=True, blank=True)
    shipped_evidence = models.CharField(
        max_length=12, blank=True, help_text="scan, manifest or handover: what shipped_at rests on"
    )
    delivered_at = models.DateTimeField(null=True, blank=True)
    claimed_by = models.CharField(max_length=120, blank=True, help_text="who is picking or packing it")
    claimed_at = models.DateTimeField(null=True, blank=True)
    wrong_scans = models.PositiveIntegerField(default=0, help_text="prevented errors")
    created_at = models.DateTimeField(default=timezone.now)
    version = models.PositiveIntegerField(default=1)
    updated_at = models.DateTimeField(
        default=timezone.now, editable=False, help_text="last change; the database keeps it"
    )

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["warehouse", "ship_by", "id"],
                condition=Q(state__in=["ready", "picking", "packed", "labelled"]),
                name="shipment_work_idx",
            ),
            models.Index(fields=["state", "-id"], name="shipment_state_idx"),
            models.Index(fields=["updated_at", "id"], name="shipment_updated_idx"),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def number(self) -> str:
        return f"S-{self.pk}"

    @property
    def is_late(self) -> bool:
        """Still in the house after the moment by which it had to leave."""
        waits = self.state in ("ready", "picking", "packed", "labelled")
        return waits and self.ship_by is not None and self.ship_by < now()


class ShipmentLine(models.Model):
    """Units of one allocation in this shipment, counted in the reservation's SKU (components for kits)."""

    shipment = models.ForeignKey(Shipment, on_delete=models.CASCADE, related_name="lines")
    order_line = models.ForeignKey(OrderLine, on_delete=models.PROTECT, related_name="shipment_lines")
    allocation = models.ForeignKey(Allocation, on_delete=models.PROTECT, related_name="shipment_lines")
    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="+")
    quantity = models.PositiveIntegerField()
    picked = models.PositiveIntegerField(default=0)
    packed = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["shipment", "allocation"], name="shipment_allocation_once"),
            models.CheckConstraint(
                condition=Q(quantity__gte=F("picked")) & Q(quantity__gte=F("packed")),
                name="shipment_line_within",
            ),
        ]


class CustomsTerms(models.Model):
    """On which terms parcels cross into a destination, and the numbers that its customs want to read."""

    class Incoterm(models.TextChoices):
        DAP = "DAP", "DAP: the buyer pays duty and tax"
        DDP = "DDP", "DDP: we pay duty and tax"

    destination = models.CharField(
        max_length=2, blank=True, unique=True, help_text="ISO 3166 alpha-2, EU, or empty: everywhere else"
    )
    incoterm = models.CharField(max_length=3, choices=Incoterm.choices, default=Incoterm.DAP)
    eori = models.CharField(max_length=17, blank=True, help_text="of the exporter or importer")
    ioss = models.CharField(max_length=12, blank=True, help_text="import one-stop shop, EU, up to 150 EUR")
    tax_id = models.CharField(max_length=30, blank=True, help_text="VAT, GST, VOEC … registered there")

    class Meta:
        ordering = ["destination"]
        verbose_name_plural = "customs terms"
        constraints = [
            models.CheckConstraint(condition=Q(incoterm__in=["DAP", "DDP"]), name="customs_terms_known"),
        ]

    def __str__(self) -> str:
        return f"Customs terms, {self.place}"

    @property
    def place(self) -> str:
        """The destination in words."""
        return {"": "everywhere else", "EU": "the EU"}.get(self.destination, self.destination)


class CustomsDeclaration(models.Model):
    """What was declared for a shipment when its first label was bought; it stays while a label lives."""

    shipment = models.OneToOneField(Shipment, on_delete=models.CASCADE, related_name="declaration")
    incoterm = models.CharField(max_length=3, choices=CustomsTerms.Incoterm.choices)
    currency = CurrencyField()
    value = MoneyAmountField(help_text="of the goods, sum of the items")
    numbers = models.JSONField(default=dict, help_text="eori, ioss, tax_id, where they apply")
    items = models.JSONField(
        help_text="parcel, sku, description, quantity, unit_value, weight_g, hs_code, origin_country"
    )
    made_by = models.CharField(max_length=120)
    made_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(value__gt=0), name="declaration_value_positive")]


class Pick(models.Model):
    """Units of a line whose lot or serial number was scanned; the rest is drawn by rule when the parcel leaves."""

    line = models.ForeignKey(ShipmentLine, on_delete=models.CASCADE, related_name="picks")
    lot = models.ForeignKey(Lot, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    serial = models.ForeignKey(SerialUnit, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    quantity = models.PositiveIntegerField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(condition=Q(quantity__gt=0), name="pick_not_empty"),
            models.CheckConstraint(
                condition=Q(lot__isnull=False) | Q(serial__isnull=False), name="pick_names_lot_or_serial"
            ),
            models.CheckConstraint(
                condition=Q(serial__isnull=True) | Q(quantity=1), name="pick_serial_is_one"
            ),
            models.UniqueConstraint(fields=["line", "serial"], name="pick_serial_once"),
        ]


class Parcel(models.Model):
    """One box with one label. Weight is grams, lengths millimetres."""

    shipment = models.ForeignKey(Shipment, on_delete=models.CASCADE, related_name="parcels")
    number = models.PositiveSmallIntegerField(default=1)
    package_type = models.ForeignKey(
        PackageType, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    weight_g = models.PositiveIntegerField()
    length_mm = models.PositiveIntegerField()
    width_mm = models.PositiveIntegerField()
    height_mm = models.PositiveIntegerField()
    manifest = models.ForeignKey(
        "Manifest", on_delete=models.SET_NULL, null=True, blank=True, related_name="parcels"
    )

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["shipment", "number"], name="parcel_number_once"),
            models.CheckConstraint(condition=Q(weight_g__gt=0), name="parcel_weight_positive"),
        ]


class ParcelItem(models.Model):
    parcel = models.ForeignKey(Parcel, on_delete=models.CASCADE, related_name="items")
    line = models.ForeignKey(ShipmentLine, on_delete=models.CASCADE, related_name="parcel_items")
    quantity = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["parcel", "line"], name="parcel_item_once"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="parcel_item_positive"),
        ]


class RateQuote(models.Model):
    """One answer of the rate shop for a shipment, kept with the reason it won or lost."""

    shipment = models.ForeignKey(Shipment, on_delete=models.CASCADE, related_name="quotes")
    account = models.ForeignKey(CarrierAccount, on_delete=models.CASCADE, related_name="+")
    service_code = models.CharField(max_length=40)
    service_name = models.CharField(max_length=80)
    amount = MoneyAmountField()
    currency = CurrencyField()
    transit_days = models.PositiveSmallIntegerField(null=True, blank=True)
    arrives_on = models.DateField(null=True, blank=True)
    breakdown = models.JSONField(default=list)
    zone = models.CharField(max_length=12, blank=True)
    is_estimate = models.BooleanField(default=False)
    chosen = models.BooleanField(default=False)
    reason = models.CharField(max_length=200, blank=True)
    quoted_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["amount", "id"]


class LabelPurchase(models.Model):
    """Money leaves here, so the row is committed before the carrier is called.

    requested → purchased | rejected | unknown; unknown is reconciled or decided by a person,
    never bought again blindly. At most one live purchase per parcel.
    """

    class State(models.TextChoices):
        REQUESTED = "requested", "Requested"
        PURCHASED = "purchased", "Purchased"
        REJECTED = "rejected", "Rejected by the carrier"
        UNKNOWN = "unknown", "Outcome unknown"
        VOID_PENDING = "void_pending", "Void asked for"
        VOID = "void", "Void"
        NOT_BOUGHT = "not_bought", "Not bought"

    LIVE = ("requested", "unknown", "purchased", "void_pending")

    parcel = models.ForeignKey(Parcel, on_delete=models.PROTECT, related_name="purchases")
    attempt = models.PositiveSmallIntegerField(default=1)
    key = models.UUIDField(
        default=uuid.uuid4, unique=True, help_text="uuid5(parcel, attempt): sent to carriers that honour keys"
    )
    account = models.ForeignKey(CarrierAccount, on_delete=models.PROTECT, related_name="purchases")
    service_code = models.CharField(max_length=40)
    reference = models.CharField(max_length=30, help_text="our reference in a carrier-visible field")
    state = models.CharField(max_length=12, choices=State.choices, default=State.REQUESTED)
    carrier_ref = models.CharField(max_length=80, blank=True)
    tracking_number = models.CharField(max_length=80, blank=True)
    quoted = MoneyAmountField(null=True, blank=True)
    cost = MoneyAmountField(null=True, blank=True)
    currency = CurrencyField(default="USD")
    error = models.CharField(max_length=400, blank=True)
    warning = models.CharField(max_length=400, blank=True)
    resolve_attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    requested_by = models.CharField(max_length=120)
    requested_at = models.DateTimeField(default=timezone.now)
    answered_at = models.DateTimeField(null=True, blank=True)
    voided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["parcel", "attempt"], name="label_attempt_once"),
            models.UniqueConstraint(
                fields=["parcel"],
                condition=Q(state__in=["requested", "unknown", "purchased", "void_pending"]),
                name="label_one_live_per_parcel",
            ),
            models.UniqueConstraint(
                fields=["account", "tracking_number"],
                condition=~Q(tracking_number=""),
                name="label_tracking_once",
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                condition=Q(state__in=["requested", "unknown", "void_pending"]),
                name="label_unsettled_idx",
            ),
        ]


class LabelDocument(models.Model):
    class Format(models.TextChoices):
        PDF = "pdf", "PDF 4x6"
        ZPL = "zpl", "ZPL"
        PNG = "png", "PNG"

    purchase = models.ForeignKey(LabelPurchase, on_delete=models.CASCADE, related_name="documents")
    format = models.CharField(max_length=4, choices=Format.choices)
    sha256 = models.CharField(max_length=64)
    content = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["purchase", "format"], name="label_document_once")]


class TrackingEvent(models.Model):
    """A carrier's scan. Status never goes back from delivered."""

    purchase = models.ForeignKey(LabelPurchase, on_delete=models.CASCADE, related_name="events")
    status = models.CharField(max_length=24)
    code = models.CharField(max_length=40, blank=True)
    text = models.CharField(max_length=255, blank=True)
    place = models.CharField(max_length=120, blank=True)
    at = models.DateTimeField()
    received_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["at", "id"]
        constraints = [
            models.UniqueConstraint(fields=["purchase", "status", "code", "at"], name="tracking_event_once"),
        ]


class Manifest(models.Model):
    """End-of-day list of parcels handed to one carrier at one warehouse."""

    account = models.ForeignKey(CarrierAccount, on_delete=models.PROTECT, related_name="manifests")
    warehouse = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="manifests")
    day = models.DateField()
    closed_at = models.DateTimeField(default=timezone.now)
    carrier_ref = models.CharField(max_length=80, blank=True)
    actor = models.CharField(max_length=120)

    class Meta:
        ordering = ["-id"]

    @property
    def number(self) -> str:
        return f"MF-{self.pk}"


class RoutingQueue(models.Model):
    """Orders that wait for the router. A failing one backs off and never stops the others."""

    order = models.OneToOneField(Order, on_delete=models.CASCADE, primary_key=True, related_name="+")
    queued_at = models.DateTimeField(default=timezone.now)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=timezone.now, db_index=True)
    error = models.CharField(max_length=400, blank=True)


class ThreePLAccount(models.Model):
    """A contract with a 3PL that runs one of our warehouses: how orders go out and how its news comes in.

    Amazon is one too, where its Multi-Channel Fulfillment ships orders of other channels from our FBA pool.
    """

    class Kind(models.TextChoices):
        API = "api", "Signed API"
        CSV = "csv", "CSV files"
        MCF = "mcf", "Amazon Multi-Channel Fulfillment"

    class State(models.TextChoices):
        SETUP = "setup", "Being set up"
        CONNECTED = "connected", "Connected"
        PAUSED = "paused", "Paused"
        REFUSED = "refused", "Credentials refused"

    code = models.SlugField(max_length=30, unique=True)
    name = models.CharField(max_length=80)
    warehouse = models.OneToOneField(Warehouse, on_delete=models.PROTECT, related_name="threepl")
    kind = models.CharField(max_length=3, choices=Kind.choices, default=Kind.API)
    base_url = models.URLField(
        max_length=200, blank=True, help_text="https address of their API, without a final slash"
    )
    credentials = EncryptedJSONField(
        default=dict, blank=True, help_text="key, secret (ours to them), hook_secret, hook_secret_old"
    )
    hook_key = models.CharField(max_length=40, unique=True, help_text="part of the address where they knock")
    options = models.JSONField(
        default=dict, blank=True, help_text="of the kind: comment and neutral (channel codes) for MCF"
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.SETUP)
    state_reason = models.CharField(max_length=255, blank=True)
    ack_minutes = models.PositiveIntegerField(
        default=60, help_text="no acknowledgement after this many minutes is told"
    )
    snapshot_minutes = models.PositiveIntegerField(
        default=60, help_text="their figures are read this often; 0 = they send them"
    )
    tested_at = models.DateTimeField(null=True, blank=True)
    last_snapshot_at = models.DateTimeField(null=True, blank=True, help_text="time of their newest figures")
    next_snapshot_at = models.DateTimeField(null=True, blank=True)
    last_message_at = models.DateTimeField(null=True, blank=True)
    files_written = models.PositiveIntegerField(default=0, help_text="files to them so far; numbers them")

    class Meta:
        ordering = ["code"]
        verbose_name = "3PL account"

    def __str__(self) -> str:
        return self.name


class ThreePLFile(models.Model):
    """A file that went to or came from a 3PL. The same bytes are taken once."""

    class Direction(models.TextChoices):
        OUT = "out", "To the 3PL"
        IN = "in", "From the 3PL"

    account = models.ForeignKey(ThreePLAccount, on_delete=models.PROTECT, related_name="files")
    direction = models.CharField(max_length=3, choices=Direction.choices)
    kind = models.CharField(
        max_length=12,
        blank=True,
        help_text="orders, inbound; acks, shipments, charges, receipts, snapshot, adjustments",
    )
    name = models.CharField(max_length=160)
    sha256 = models.CharField(max_length=64)
    content = EncryptedTextField(default="", blank=True, help_text="order files hold addresses")
    rows = models.PositiveIntegerField(default=0)
    accepted = models.BooleanField(default=True)
    problems = models.JSONField(default=list, blank=True, help_text="[row, column, sentence]")
    actor = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "direction", "sha256"],
                condition=Q(accepted=True),
                name="threepl_file_once",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class HandOff(models.Model):
    """A shipment given to a 3PL, once: our reference and theirs."""

    class State(models.TextChoices):
        PLANNED = "planned", "To be sent"
        SENT = "sent", "Sent"
        IN_DOUBT = "in_doubt", "Answer lost"
        CONFIRMED = "confirmed", "Received there"
        ACKNOWLEDGED = "acknowledged", "Acknowledged"
        SHIPPED = "shipped", "Shipped"
        CANCELLED = "cancelled", "Cancelled"
        REFUSED = "refused", "Refused"

    account = models.ForeignKey(ThreePLAccount, on_delete=models.PROTECT, related_name="hand_offs")
    shipment = models.OneToOneField(Shipment, on_delete=models.PROTECT, related_name="hand_off")
    reference = models.CharField(max_length=30, unique=True, help_text="ours; they keep it once")
    external_id = models.CharField(max_length=80, blank=True, help_text="their number of the order")
    state = models.CharField(max_length=12, choices=State.choices, default=State.PLANNED)
    error = models.CharField(max_length=400, blank=True)
    file = models.ForeignKey(
        ThreePLFile, on_delete=models.PROTECT, null=True, blank=True, related_name="hand_offs"
    )
    planned_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)
    confirmed_at = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "external_id"],
                condition=~Q(external_id=""),
                name="hand_off_external_once",
            ),
        ]
        indexes = [models.Index(fields=["account", "state", "-id"], name="hand_off_state_idx")]

    def __str__(self) -> str:
        return self.reference


class HandOffLine(models.Model):
    """Units of one shipment line as they were told, and what became of them there."""

    hand_off = models.ForeignKey(HandOff, on_delete=models.CASCADE, related_name="lines")
    number = models.PositiveSmallIntegerField(help_text="the line's name in their messages")
    allocation = models.ForeignKey(Allocation, on_delete=models.PROTECT, related_name="+")
    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="+")
    quantity = models.PositiveIntegerField()
    shipped = models.PositiveIntegerField(default=0)
    cancelling = models.PositiveIntegerField(default=0, help_text="cancellation asked for, no answer yet")
    cancelled = models.PositiveIntegerField(default=0)
    kept = models.PositiveIntegerField(default=0, help_text="cancellation refused: it is on its way")
    excess = models.PositiveIntegerField(default=0, help_text="shipped although nothing was left to ship")

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["hand_off", "number"], name="hand_off_line_once"),
            models.CheckConstraint(
                condition=Q(quantity__gte=F("shipped") + F("cancelled")), name="hand_off_line_within"
            ),
        ]

    @property
    def open(self) -> int:
        """Units that the 3PL still has to send as far as we know."""
        return self.quantity - self.shipped - self.cancelled


class HandOffParcel(models.Model):
    """A shipment notice of the 3PL that was booked, once per their number."""

    hand_off = models.ForeignKey(HandOff, on_delete=models.CASCADE, related_name="parcels")
    external_id = models.CharField(max_length=80)
    shipment = models.ForeignKey(Shipment, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    left_at = models.DateTimeField()
    booked_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["hand_off", "external_id"], name="hand_off_parcel_once")
        ]


class ShipmentCharge(models.Model):
    """What a 3PL charges for a shipment beside its label: pick and pack, material, a correction; once per number."""

    shipment = models.ForeignKey(Shipment, on_delete=models.PROTECT, related_name="charges")
    account = models.ForeignKey(ThreePLAccount, on_delete=models.PROTECT, related_name="charges")
    external_id = models.CharField(max_length=60, help_text="their number of the charge")
    kind = models.CharField(max_length=40, help_text="in their words: pick and pack, packaging …")
    amount = MoneyAmountField(help_text="negative for a credit")
    currency = CurrencyField()
    charged_at = models.DateTimeField()
    booked_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "external_id"], name="shipment_charge_once"),
        ]


class InboundNotice(models.Model):
    """Goods that a 3PL is told to expect: one purchase order or one transfer, under its own number."""

    class State(models.TextChoices):
        PLANNED = "planned", "To be told"
        TOLD = "told", "Told"
        RECEIVING = "receiving", "Partly received"
        DONE = "done", "Received"
        WITHDRAWN = "withdrawn", "Withdrawn"
        REFUSED = "refused", "Refused"

    LIVE = ("planned", "told", "receiving", "refused")

    account = models.ForeignKey(ThreePLAccount, on_delete=models.PROTECT, related_name="inbound")
    reference = models.CharField(max_length=30, help_text="PO-7 or TR-3; they keep it")
    purchase_order = models.ForeignKey(
        PurchaseOrder, on_delete=models.PROTECT, null=True, blank=True, related_name="inbound_notices"
    )
    transfer = models.ForeignKey(
        Transfer, on_delete=models.PROTECT, null=True, blank=True, related_name="inbound_notices"
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.PLANNED)
    version = models.PositiveIntegerField(default=0, help_text="counts what they were told")
    digest = models.CharField(max_length=64, blank=True, help_text="of the newest body")
    error = models.CharField(max_length=400, blank=True)
    planned_at = models.DateTimeField(default=timezone.now)
    told_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "reference"], name="inbound_notice_once"),
            models.CheckConstraint(
                condition=Q(purchase_order__isnull=False, transfer__isnull=True)
                | Q(purchase_order__isnull=True, transfer__isnull=False),
                name="inbound_notice_of_one_thing",
            ),
        ]
        indexes = [models.Index(fields=["account", "state", "-id"], name="inbound_notice_state_idx")]

    def __str__(self) -> str:
        return self.reference


class InboundReceipt(models.Model):
    """A receipt of the 3PL that was booked, once per its number; `problems` is what did not fit our books."""

    notice = models.ForeignKey(InboundNotice, on_delete=models.CASCADE, related_name="receipts")
    external_id = models.CharField(max_length=60)
    receipt = models.ForeignKey(Receipt, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    units = models.PositiveIntegerField(default=0, help_text="booked")
    problems = models.CharField(max_length=600, blank=True)
    received_at = models.DateTimeField()
    booked_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["notice", "external_id"], name="inbound_receipt_once")]


class ThreePLCall(models.Model):
    """What a 3PL must be told exactly once: planned → sent → confirmed, or in doubt until it is found there."""

    class Kind(models.TextChoices):
        ORDER = "order", "Order"
        CANCEL = "cancel", "Cancellation"
        RECOUNT = "recount", "Request to count again"
        INBOUND = "inbound", "Goods to expect"
        WITHDRAW = "withdraw", "Goods that do not come"

    class State(models.TextChoices):
        PLANNED = "planned", "Planned"
        SENT = "sent", "Sent"
        IN_DOUBT = "in_doubt", "In doubt"
        CONFIRMED = "confirmed", "Confirmed"
        REJECTED = "rejected", "Rejected"

    OPEN = ("planned", "sent", "in_doubt")

    account = models.ForeignKey(ThreePLAccount, on_delete=models.PROTECT, related_name="calls")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    key = models.CharField(
        max_length=80, unique=True, help_text="one call per key, ever; sent as their key too"
    )
    hand_off = models.ForeignKey(
        HandOff, on_delete=models.CASCADE, null=True, blank=True, related_name="calls"
    )
    notice = models.ForeignKey(
        InboundNotice, on_delete=models.CASCADE, null=True, blank=True, related_name="calls"
    )
    payload = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PLANNED)
    attempts = models.PositiveSmallIntegerField(default=0)
    looks = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    lease_until = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=400, blank=True)
    planned_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)
    confirmed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["hand_off"], condition=Q(kind="order"), name="threepl_one_order_call"
            ),
        ]
        indexes = [
            models.Index(
                fields=["account", "next_attempt_at"],
                condition=Q(state__in=["planned", "sent", "in_doubt"]),
                name="threepl_call_due_idx",
            ),
        ]


class ThreePLMessage(models.Model):
    """What a 3PL told us, stored before anything else happens; unique per delivery."""

    class State(models.TextChoices):
        RECEIVED = "received", "Received"
        DONE = "done", "Booked"
        IGNORED = "ignored", "Nothing to book"
        DEAD = "dead", "Needs a person"

    id = models.BigAutoField(primary_key=True)
    account = models.ForeignKey(ThreePLAccount, on_delete=models.CASCADE, related_name="messages")
    delivery_id = models.CharField(max_length=100)
    topic = models.CharField(max_length=40)
    reference = models.CharField(max_length=80, blank=True)
    body = models.JSONField(default=dict)
    state = models.CharField(max_length=8, choices=State.choices, default=State.RECEIVED)
    attempts = models.PositiveSmallIntegerField(default=0)
    error = models.CharField(max_length=400, blank=True)
    received_at = models.DateTimeField(default=timezone.now)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "delivery_id"], name="threepl_delivery_once")
        ]
        indexes = [
            models.Index(
                fields=["account", "next_attempt_at"],
                condition=Q(state="received"),
                name="threepl_message_due_idx",
            ),
        ]
