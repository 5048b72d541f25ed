"""What the top floor reads: the state of the house now, the exceptions by cause, and where a word leads."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.core.cache import cache
from django.db.models import Count, F, Max, Min, Q, QuerySet, Sum
from django.db.models.functions import TruncDate
from django.urls import NoReverseMatch, reverse

from channels.kpis import sync_latency
from channels.models import Drift, Listing
from fulfillment.models import LabelPurchase, Shipment
from inventory.models import Sku, SkuAlias, StockLevel
from inventory.selectors import found_by
from oms.core import beat
from oms.core.access import can, scope_of
from oms.core.clock import business_day, business_zone, now
from oms.core.exceptions_inbox import open_items, visible_to
from oms.core.models import Doorbell, ExceptionItem, Heartbeat, Job, OutboxEvent
from oms.orders.models import Order
from oms.orders.selectors import HEALTH, health_counts, live_of_ours, within
from procurement import states as purchase_states
from procurement.models import PurchaseOrder, ReorderSuggestion, Supplier
from returns.models import Rma

CACHE_SECONDS = 30


def address(name: str, *args: Any) -> str:
    """The address of a screen, empty when this installation has none of that name."""
    try:
        return reverse(name, args=args)
    except NoReverseMatch:
        return ""


# --- Today --------------------------------------------------------------------------------------


def live_orders(principal: Any) -> QuerySet[Order]:
    """Orders with work left for us that the person may see."""
    return live_of_ours(within(scope_of(principal, "orders.view")))


@dataclass(frozen=True)
class Bucket:
    key: str
    label: str
    count: int
    tone: str
    query: str  # of the order list


_TONES = {
    "late": "bad", "on_hold": "warn", "unmapped": "warn", "backorder": "warn", "pending": "muted", "to_route": "info",
    "ready": "ok",
}  # fmt: skip


def health(principal: Any, at: dt.datetime | None = None) -> list[Bucket]:
    """Live orders divided into buckets whose counts add up to the total, by the first cause that fits.

    Each leads to exactly the orders that it counts.
    """
    counts = health_counts(scope_of(principal, "orders.view"), at=at)
    base = address("orders:list")
    return [Bucket(key, label, counts[key], _TONES[key], f"{base}?health={key}") for key, label in HEALTH]


@dataclass(frozen=True)
class Figures:
    """The line "now". None = not for this person, or nothing measured yet."""

    orders_today: int | None = None
    orders_change: float | None = None  # share against the same time a week ago
    orders_before: int | None = None  # at the same time a week ago
    due_today: int | None = None
    late: int | None = None
    sync_p95: float | None = None  # seconds, commit to acknowledgement, last hour
    sync_count: int | None = None
    stockouts: int | None = None
    reorder: int | None = None
    late_purchases: int | None = None
    returns_waiting: int | None = None
    drift: int | None = None

    @property
    def change_text(self) -> str:
        """`+8 % on the same time last week`."""
        if self.orders_change is None:
            return "none at this time last week"
        if self.orders_before is not None and self.orders_before < 10 and self.orders_change > 1:
            return f"{self.orders_before} at this time last week"  # a share of so few says nothing
        return f"{self.orders_change * 100:+.0f} % on this time last week".replace("-", "−")


def figures(principal: Any, at: dt.datetime | None = None) -> Figures:
    """Counted anew each time, except the stock-outs (30 s)."""
    at = at or now()
    found: dict[str, Any] = {}
    zone = business_zone()
    midnight = dt.datetime.combine(business_day(at), dt.time(0), zone)
    if can(principal, "orders.view"):
        scope = scope_of(principal, "orders.view")
        orders = Order.objects.filter(scope.q(channel="channel__code"), is_test=False)
        week = dt.timedelta(days=7)
        today = orders.filter(placed_at__gte=midnight, placed_at__lte=at).count()
        before = orders.filter(placed_at__gte=midnight - week, placed_at__lte=at - week).count()
        live = live_orders(principal).exclude(state=Order.State.PENDING)
        found |= {
            "orders_today": today,
            "orders_change": (today - before) / before if before else None,
            "orders_before": before,
            "due_today": live.filter(ship_by__lt=midnight + dt.timedelta(days=1)).count(),
            "late": live.filter(ship_by__lt=at).count(),
        }
    if can(principal, "channels.view"):
        scope = scope_of(principal, "channels.view")
        codes = None if scope.channels is None else sorted(scope.channels)
        sync = sync_latency(window=dt.timedelta(hours=1), channels=codes)
        drifts = Drift.objects.filter(
            scope.q(channel="listing__account__sales_channel__code"), closed_at__isnull=True
        )
        found |= {
            "sync_p95": None if sync.p95 is None else sync.p95 / 1000,
            "sync_count": sync.count,
            "drift": drifts.count(),
        }
    if can(principal, "stock.view"):
        found["stockouts"] = _stockouts(principal)
    if can(principal, "purchasing.view"):
        scope = scope_of(principal, "purchasing.view")
        open_suggestions = ReorderSuggestion.objects.filter(
            scope.q(warehouse="warehouse__code"), state="open"
        )
        found["reorder"] = open_suggestions.values("sku").distinct().count()
        found["late_purchases"] = PurchaseOrder.objects.filter(
            scope.q(warehouse="warehouse__code"),
            state__in=purchase_states.INCOMING,
            expected_on__lt=business_day(at),
        ).count()
    if can(principal, "returns.view"):
        scope = scope_of(principal, "returns.view")
        arrived = Rma.objects.filter(
            scope.q(warehouse="warehouse__code"), state__in=[Rma.State.RECEIVED, Rma.State.PART_RECEIVED]
        )
        found["returns_waiting"] = arrived.count()
    return Figures(**found)


def orders_by_day(
    principal: Any, days: int = 14, at: dt.datetime | None = None
) -> tuple[list[str], list[int]]:
    """Labels and orders placed per business day, today last; kept for 30 s per scope."""
    scope = scope_of(principal, "orders.view")
    key = f"control.by_day.{days}.{hash((scope.channels, business_day(at or now())))}"
    kept: tuple[list[str], list[int]] | None = cache.get(key)
    if kept is None:
        last = business_day(at or now())
        first = last - dt.timedelta(days=days - 1)
        begin = dt.datetime.combine(first, dt.time(0), business_zone())
        counted = dict(
            Order.objects.filter(scope.q(channel="channel__code"), is_test=False, placed_at__gte=begin)
            .order_by()
            .annotate(day=TruncDate("placed_at", tzinfo=business_zone()))
            .values_list("day")
            .annotate(n=Count("pk"))
        )
        every = [first + dt.timedelta(days=step) for step in range(days)]
        kept = [f"{day:%-d %b}" for day in every], [counted.get(day, 0) for day in every]
        cache.set(key, kept, CACHE_SECONDS)
    return kept


def _stockouts(principal: Any) -> int:
    """SKUs that we keep and none is available of anywhere the person may look."""
    scope = scope_of(principal, "stock.view")
    places = "all" if scope.warehouses is None else ",".join(sorted(scope.warehouses))
    key = f"control.stockouts.{hash(places)}"
    count = cache.get(key)
    if count is None:
        count = (
            StockLevel.objects.filter(scope.q(warehouse="warehouse__code"), sku__is_active=True)
            .order_by()
            .values("sku")
            .annotate(left=Sum(F("on_hand") - F("reserved") - F("unavailable")))
            .filter(left__lte=0)
            .count()
        )
        cache.set(key, count, CACHE_SECONDS)
    return int(count)


# --- exceptions ---------------------------------------------------------------------------------

#: how a kind of exception is called on screens; every kind that is raised has its words here
KINDS: dict[str, str] = {
    "adjustment_approval": "Adjustment waits for a second person",
    "channel_auth": "Channel must be authorised again",
    "channel_file": "Partner's file not taken whole",
    "channel_folder": "Partner's folder unusable",
    "channel_quiet": "Channel has gone quiet",
    "channel_silent": "Orders come without notifications",
    "channel_unfetched": "Files nobody fetches",
    "connection_down": "A system does not answer",
    "count_difference": "Count differs from the books",
    "count_needed": "Shelf must be counted",
    "credentials_refused": "Credentials refused",
    "customs_missing": "Customs data missing",
    "drift": "Channel shows another quantity",
    "edited_after_shipping": "Channel changed what is shipped",
    "effect_in_doubt": "Nobody knows whether the channel heard it",
    "effect_rejected": "Channel refuses what it was told",
    "engine_failed": "Dispatcher engine failed",
    "export_failed": "Scheduled file not written",
    "fx_missing": "Exchange rate missing",
    "inbox_dead": "Channel message cannot be read",
    "invariant": "A rule of the books is broken",
    "job_failed": "Background job failed",
    "label_cost": "Label cost differs from the quote",
    "label_failed": "Label not bought",
    "listing_unmapped": "Listings without a SKU",
    "low_stock": "Running low",
    "no_route": "No route found",
    "order_refused": "Channel order not taken",
    "outbox_dead": "Event gave up",
    "oversell": "Sold twice",
    "oversell_unread": "Black box cannot be written",
    "pool_unmapped": "Unknown SKUs in an outside pool",
    "promise_lost": "Promised date lost",
    "pull_endless": "Channel's list has no end",
    "pull_refused": "Channel's orders cannot be read",
    "purchase_late": "Purchase order overdue",
    "push_dead": "Channel refuses a quantity",
    "refund_by_hand": "Refund to be paid by hand",
    "repack": "Parcel must be packed again",
    "return_refused": "Channel's return not opened",
    "return_wrong_serial": "Another unit came back",
    "routing_failed": "Routing failed",
    "shipped_elsewhere": "Shipped outside of our books",
    "snapshot_difference": "Outside pool differs",
    "subscriptions": "Channel notifications not set up",
    "threepl_auth": "3PL refuses our credentials",
    "threepl_excess": "3PL sent too much",
    "threepl_file": "3PL file not taken",
    "threepl_in_doubt": "Nobody knows whether the 3PL has the order",
    "threepl_inbound": "3PL receipt or notice differs",
    "threepl_message": "3PL message cannot be booked",
    "threepl_no_ack": "3PL has not acknowledged",
    "threepl_refused": "3PL refuses an order",
    "threepl_silent": "3PL shows no figures",
    "threepl_too_late": "3PL ships what was cancelled",
    "threepl_twice": "3PL has an order twice",
    "transfer_difference": "Transfer arrived different",
    "transfer_late": "Transfer late",
    "unmapped_sku": "SKU not mapped",
    "void_failed": "Label not voided",
    "webhook_disabled": "Webhook endpoint switched off",
    "worker_silent": "No worker runs tasks",
}


def kind_label(kind: str) -> str:
    """A kind in words; one that an older version left in the inbox shows its own name."""
    return KINDS.get(kind) or kind.replace("_", " ").capitalize()


def visible_exceptions(principal: Any) -> QuerySet[ExceptionItem]:
    """Every item, open or not, that the person may see; nothing without the right."""
    return ExceptionItem.objects.filter(visible_to(principal))


@dataclass(frozen=True)
class Cause:
    kind: str
    label: str
    count: int
    severity: int
    oldest: dt.datetime
    due: dt.datetime | None
    money: Decimal | None
    examples: tuple[ExceptionItem, ...]


def causes(principal: Any, owner: int | None = None) -> list[Cause]:
    """Open items grouped by cause, the dearest wait first: severity, then deadline, then money, then age."""
    items = open_items().filter(pk__in=visible_exceptions(principal).values("pk"))
    if owner is not None:
        items = items.filter(owner_id=owner)
    rows = list(
        items.order_by()
        .values("kind")
        .annotate(
            n=Count("pk"), worst=Min("severity"), oldest=Min("first_at"), due=Min("due_at"), sum=Sum("money")
        )
    )
    far = dt.datetime.max.replace(tzinfo=dt.UTC)
    rows.sort(key=lambda row: (row["worst"], row["due"] or far, -(row["sum"] or 0), row["oldest"]))
    return [
        Cause(
            row["kind"], kind_label(row["kind"]), row["n"], row["worst"], row["oldest"], row["due"], row["sum"],
            tuple(items.filter(kind=row["kind"]).order_by("severity", "due_at", "first_at")[:1]),
        )
        for row in rows
    ]  # fmt: skip


# --- search -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hit:
    label: str
    kind: str
    url: str
    icon: str
    note: str = ""
    exact: bool = False


_NUMBER = re.compile(r"(?P<prefix>[A-Za-z]{1,4})-?(?P<number>\d{1,15})")
EACH = 5


def search(principal: Any, text: str) -> list[Hit]:
    """Where a number or code leads; exact finds first. Only objects the person may open."""
    text = text.strip()[:80]
    if len(text) < 2:
        return []
    hits: list[Hit] = []
    for find in _FINDERS:
        hits += find(principal, text)
    seen: set[str] = set()
    unique = [hit for hit in hits if hit.url and not (hit.url in seen or seen.add(hit.url))]  # type: ignore[func-returns-value]
    return sorted(unique, key=lambda hit: not hit.exact)[:20]


def _order_hit(order: Order, exact: bool) -> Hit:
    url = address("orders:detail", order.number)
    note = f"{order.channel.name} {order.external_number} · {order.get_state_display()}"
    return Hit(order.number, "Order", url, "receipt-text", note, exact)


def _orders(principal: Any, text: str) -> list[Hit]:
    if not can(principal, "orders.view"):
        return []
    scope = scope_of(principal, "orders.view")
    orders = Order.objects.filter(scope.q(channel="channel__code")).select_related("channel")
    found: list[Hit] = []
    match = _NUMBER.fullmatch(text)
    if match and int(match["number"]) > Order.NUMBER_BASE:
        pk = int(match["number"]) - Order.NUMBER_BASE
        found += [_order_hit(o, True) for o in orders.filter(pk=pk, channel__prefix__iexact=match["prefix"])]
    found += [
        _order_hit(o, True) for o in orders.filter(Q(external_number=text) | Q(external_id=text))[:EACH]
    ]
    bare = text.lstrip("#")
    found += [_order_hit(o, False) for o in orders.filter(external_number__startswith=bare)[:EACH]]
    if bare != text:
        found += [_order_hit(o, True) for o in orders.filter(external_number=bare)[:EACH]]
    return found


def _sku_hit(sku: Sku, exact: bool, alias: str = "") -> Hit:
    url = address("inventory:sku", sku.code)
    title = getattr(sku, "title", "") or ""
    return Hit(sku.code, "SKU", url, "package", f"{alias} · {title}" if alias else title, exact)


def _skus(principal: Any, text: str) -> list[Hit]:
    if not can(principal, "stock.view"):
        return []
    found = [_sku_hit(sku, True) for sku in Sku.objects.filter(code__iexact=text)[:1]]
    aliases = SkuAlias.objects.filter(value__iexact=text).select_related("sku")[:1]
    found += [_sku_hit(alias.sku, True, alias.value) for alias in aliases]
    near = Sku.objects.filter(found_by(text)).order_by("code")[:EACH]
    return found + [_sku_hit(sku, False) for sku in near]


def _shipments(principal: Any, text: str) -> list[Hit]:
    if not can(principal, "shipping.view"):
        return []
    scope = scope_of(principal, "shipping.view")
    shipments = Shipment.objects.filter(scope.q(warehouse="warehouse__code", channel="order__channel__code"))
    where = Q(pk__in=LabelPurchase.objects.filter(tracking_number__iexact=text).values("parcel__shipment"))
    match = _NUMBER.fullmatch(text)
    if match and match["prefix"].upper() == "S":
        where |= Q(pk=int(match["number"]))
    return [
        Hit(
            shipment.number, "Shipment",
            address("fulfillment:shipment", shipment.pk),
            "truck", f"{shipment.order.number} · {shipment.get_state_display()}", True,
        )
        for shipment in shipments.filter(where).select_related("order__channel")[:EACH]
    ]  # fmt: skip


def _numbered(right: str, prefix: str, model: Any, kind: str, icon: str, name: str,
              extra: Callable[[str], Q]) -> Callable[[Any, str], list[Hit]]:  # fmt: skip
    """A finder for objects called PREFIX-<id>, and whatever else names them."""

    def find(principal: Any, text: str) -> list[Hit]:
        if not can(principal, right):
            return []
        where = extra(text)
        match = _NUMBER.fullmatch(text)
        if match and match["prefix"].upper() == prefix:
            where |= Q(pk=int(match["number"]))
        scope = scope_of(principal, right)
        return [
            Hit(
                str(one), kind, address(name, one.pk),
                icon, one.get_state_display(), True,
            )
            for one in model.objects.filter(scope.q(warehouse="warehouse__code")).filter(where)[:EACH]
        ]  # fmt: skip

    return find


def _suppliers(principal: Any, text: str) -> list[Hit]:
    if not can(principal, "purchasing.view"):
        return []
    found = Supplier.objects.filter(Q(code__iexact=text) | Q(name__icontains=text))[:EACH]
    return [
        Hit(
            one.name, "Supplier",
            address("procurement:supplier", one.code),
            "factory", one.code, one.code.lower() == text.lower(),
        )
        for one in found
    ]  # fmt: skip


_FINDERS: tuple[Callable[[Any, str], list[Hit]], ...] = (
    _orders,
    _skus,
    _shipments,
    _numbered("returns.view", "RMA", Rma, "Return", "undo-2", "returns:detail",
              lambda text: Q(tracking_number__iexact=text) | Q(external_id=text)),
    _numbered("purchasing.view", "PO", PurchaseOrder, "Purchase order", "clipboard-list",
              "procurement:order", lambda text: Q(external_number__iexact=text)),
    _suppliers,
)  # fmt: skip


# --- health of the house ------------------------------------------------------------------------


@dataclass(frozen=True)
class Process:
    name: str
    label: str
    at: dt.datetime | None
    silent: bool
    info: dict[str, Any]


def _worker_label(name: str) -> str:
    """`worker:vm:31023:0` (host, process, restarts) → "Worker on vm, process 31023"."""
    kind, _, rest = name.partition(":")
    host, _, rest = rest.partition(":")
    pid = rest.partition(":")[0]
    return f"Worker on {host}, process {pid}" if kind == "worker" and pid else name


def processes() -> list[Process]:
    """Signs of life; the two that must live stand first even when they never did."""
    known = {heart.name: heart for heart in Heartbeat.objects.order_by("name")}
    labels = {beat.WORKER: "Task worker", beat.DISPATCHER: "Dispatcher"}
    names = [*labels, *(name for name in known if name not in labels)]
    at = now()
    found = []
    for name in names:
        heart = known.get(name)
        silent = heart is None or at - heart.at > beat.SILENT_AFTER
        found.append(
            Process(
                name,
                labels.get(name) or _worker_label(name),
                heart.at if heart else None,
                silent,
                heart.info if heart else {},
            )
        )
    return found


@dataclass(frozen=True)
class Queues:
    tasks: int
    oldest_task: dt.datetime | None
    events: int
    oldest_event: dt.datetime | None
    dead_events: int
    jobs_open: int
    stale_listings: int
    oldest_stale: dt.datetime | None


def queues() -> Queues:
    """How much waits, and since when."""
    bells = Doorbell.objects.aggregate(n=Count("pk"), oldest=Min("rung_at"))
    events = OutboxEvent.objects.filter(dead=False).aggregate(n=Count("pk"), oldest=Min("created_at"))
    stale = Listing.objects.filter(acked_version__lt=F("version")).aggregate(
        n=Count("pk"), oldest=Min("stale_since")
    )
    return Queues(
        tasks=bells["n"],
        oldest_task=bells["oldest"],
        events=events["n"],
        oldest_event=events["oldest"],
        dead_events=OutboxEvent.objects.filter(dead=True).count(),
        jobs_open=Job.objects.filter(state__in=[Job.State.QUEUED, Job.State.RUNNING]).count(),
        stale_listings=stale["n"],
        oldest_stale=stale["oldest"],
    )


def latest_job_change() -> str:
    """A version text for live regions of the job list."""
    row = Job.objects.aggregate(n=Count("pk"), last=Max("pk"), done=Sum("position"), end=Max("finished_at"))
    return f"{row['n']}.{row['last']}.{row['done']}.{row['end']}"
