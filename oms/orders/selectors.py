"""Reading orders: who may see which, the queue's views, search, counts that stay cheap at a million orders."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.cache import cache
from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Case, CharField, Exists, F, OuterRef, Prefetch, Q, QuerySet, Value, When
from django.db.models.functions import Coalesce
from django.http import QueryDict

from inventory.models import Warehouse
from inventory.selectors import resolve_codes
from oms.core.access import Scope, can, scope_of
from oms.core.clock import now
from oms.core.errors import NotFound
from oms.orders import states
from oms.orders.models import Allocation, Hold, Order, OrderLine, SalesChannel

State = Order.State

#: tabs count up to this many rows, then say "1,000+"
COUNT_CAP = 1000
#: orders that match a filter which must be read to be counted, row by row; then a page says "200+"
READ_CAP = 200
COUNT_SECONDS = 30
#: so many orders that a search or a tag finds are gathered and sorted; more are met along the list
FEW = 2000


def visible(principal: Any, permission: str = "orders.view") -> QuerySet[Order]:
    """The orders a user or token may see: of its channels, and for warehouse staff those served there."""
    return within(scope_of(principal, permission))


def within(scope: Scope) -> QuerySet[Order]:
    """The orders inside a scope."""
    orders = Order.objects.filter(scope.q(channel="channel__code"))
    if scope.warehouses is not None:
        here = Allocation.objects.filter(
            line__order=OuterRef("pk"), reservation__warehouse__code__in=scope.warehouses
        )
        orders = orders.filter(Exists(here))
    return orders


def get_visible(principal: Any, order_id: int, permission: str = "orders.view") -> Order:
    """One order with its channel; `NotFound` when it does not exist or may not be seen."""
    order = visible(principal, permission).select_related("channel").filter(pk=order_id).first()
    if order is None:
        raise NotFound("order: there is no such order.", field="order")
    return order


# --- views --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class View:
    """A named part of the queue. `order` is its keyset order."""

    key: str
    label: str
    order: tuple[str, ...] = ("-placed_at", "-id")

    def where(self, at: dt.datetime) -> Q:
        live = Q(state__in=states.LIVE)
        match self.key:
            case "to_route":
                return Q(state=State.OPEN, holds_open=0, is_test=False, fulfilled_by="us")
            case "to_ship":
                return Q(state__in=(State.ROUTED, State.PART_SHIPPED), holds_open=0, fulfilled_by="us")
            case "late":
                return Q(state__in=_MOVING, ship_by__lt=at, fulfilled_by="us")
            case "on_hold":
                return live & Q(holds_open__gt=0)
            case "backorder":
                return live & Q(short_units__gt=0)
            case "unmapped":
                return live & Q(unmapped_lines__gt=0)
            case _:
                return Q()


_MOVING = (State.OPEN, State.ROUTED, State.PART_SHIPPED)
_BY_DEADLINE = ("ship_by", "id")

VIEWS: Mapping[str, View] = {
    view.key: view
    for view in (
        View("all", "All"),
        View("to_route", "To route", _BY_DEADLINE),
        View("to_ship", "To ship", _BY_DEADLINE),
        View("late", "Late", _BY_DEADLINE),
        View("on_hold", "On hold"),
        View("backorder", "Backorder"),
        View("unmapped", "Unknown SKU"),
    )
}

SORTS: Mapping[str, tuple[str, ...]] = {
    "-placed": ("-placed_at", "-id"),
    "placed": ("placed_at", "id"),
    "ship_by": ("ship_by", "id"),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """What the URL of the queue says."""

    view: str = "all"
    q: str = ""
    channel: str = ""
    warehouse: str = ""
    state: str = ""
    tag: str = ""
    due: str = ""  # today, tomorrow, none
    health: str = ""  # a bucket of HEALTH: exactly the orders that its count has
    sort: str = ""

    @property
    def count_cap(self) -> int:
        """How far matching orders are counted: to 10,000 where an index alone does it, else to READ_CAP."""
        read = self.q or self.warehouse or self.tag or self.health or (self.channel and self.state)
        return READ_CAP if read else 10_000


def chosen(query: QueryDict) -> Filter:
    """The filters that an address of the queue names."""
    return Filter(
        view=query.get("view", "all"), q=query.get("q", ""), channel=query.get("channel", ""),
        warehouse=query.get("warehouse", ""), state=query.get("state", ""), tag=query.get("tag", ""),
        due=query.get("due", ""), health=query.get("health", ""), sort=query.get("sort", ""),
    )  # fmt: skip


def queue(
    orders: QuerySet[Order], chosen: Filter, *, at: dt.datetime | None = None
) -> tuple[QuerySet[Order], tuple[str, ...]]:
    """Filtered orders and their keyset order. Unknown values of the URL filter nothing."""
    moment = at or now()
    view = VIEWS.get(chosen.view, VIEWS["all"])
    found = orders.filter(view.where(moment))
    if chosen.channel:
        found = found.filter(channel__code=chosen.channel)
    if chosen.state in State.values:
        found = found.filter(state=chosen.state)
    if chosen.warehouse:
        found = found.filter(
            Exists(
                Allocation.objects.filter(
                    line__order=OuterRef("pk"), reservation__warehouse__code=chosen.warehouse
                )
            )
        )
    if chosen.tag:
        found = found.filter(tagged(chosen.tag))
    if chosen.health in dict(HEALTH):
        found = live_of_ours(found).annotate(health=health_case(moment)).filter(health=chosen.health)
    if chosen.due == "none":
        found = found.filter(ship_by__isnull=True, state__in=_MOVING)
    elif chosen.due in ("today", "tomorrow"):
        from oms.orders.demand import day_bounds

        days = 0 if chosen.due == "today" else 1
        end = day_bounds((moment + dt.timedelta(days=days)).date())[1]
        found = found.filter(ship_by__lt=end, state__in=_MOVING)
    order = SORTS.get(chosen.sort, view.order)
    if chosen.q:
        found, few = _search(found, chosen.q)
        if few:  # no index has this expression: the database cannot read a million orders through for a few
            column = order[0].lstrip("-")
            found = found.annotate(place=Coalesce(column, column))
            order = (order[0].replace(column, "place"), *order[1:])
    return found, order


def tagged(tag: str) -> Q:
    """Orders carrying a tag, on both databases."""
    if connection.vendor == "postgresql":
        carried = Q(tags__contains=[tag])
        few = carried & ~Q(tags=[])  # the index leaves orders without tags out
        # a common tag is met along the list at once; gathering all of its orders would take long
        return few if Order.objects.filter(few).order_by()[: FEW + 1].count() <= FEW else carried
    import json

    return Q(tags__icontains=json.dumps(tag, ensure_ascii=True)) | Q(
        tags__icontains=json.dumps(tag, ensure_ascii=False)
    )


def search(orders: QuerySet[Order], text: str) -> QuerySet[Order]:
    """Orders by our number, the channel's number, a SKU or alias, or part of the buyer's short name.

    An exact number wins; two letters are looked up at the beginning of a word, three and more anywhere in the name.
    """
    return _search(orders, text)[0]


def _search(orders: QuerySet[Order], text: str) -> tuple[QuerySet[Order], bool]:
    """The orders found, and whether they are few for certain."""
    text = text.strip()[:80]
    if not text:
        return orders, False
    if (pk := number_to_id(text)) is not None and orders.filter(pk=pk).exists():
        return orders.filter(pk=pk), True
    # the channel's id is unique within a channel, and so is its index
    channels = list(SalesChannel.objects.order_by().values_list("pk", flat=True))
    numbers = Q(external_number__in=[text, f"#{text}"]) | Q(channel__in=channels, external_id=text)
    exact = list(orders.filter(numbers).order_by().values_list("pk", flat=True)[:FEW])
    if exact:
        return orders.filter(pk__in=exact), True
    if sku := resolve_codes([text]).get(text):
        lines = OrderLine.objects.filter(sku=sku)
        ids = list(lines.order_by().values_list("order", flat=True)[: FEW + 1])
        if len(ids) <= FEW:
            return orders.filter(pk__in=ids), True
        return orders.filter(Exists(lines.filter(order=OuterRef("pk")))), False
    if len(text) < 3:
        by_name = Q(ship_name__istartswith=text) | Q(ship_name__icontains=f" {text}")
        return orders.filter(Q(external_number__istartswith=text) | by_name), False
    return orders.filter(Q(external_number__icontains=text) | Q(ship_name__icontains=text)), False


_NUMBER = re.compile(r"([A-Za-z0-9]{1,4})-(\d{5,18})\Z")


def number_to_id(text: str) -> int | None:
    """The id behind a number such as SH-10041, if such an order exists."""
    match = _NUMBER.match(text.strip())
    if match is None:
        return None
    pk = int(match[2]) - Order.NUMBER_BASE
    known = (
        Order.objects.filter(pk=pk, channel__prefix__iexact=match[1]).exists() if 0 < pk < 2**63 else False
    )
    return pk if known else None


@dataclass(frozen=True, slots=True)
class Counts:
    """What a page of the queue counts: rows per view and rows that match, each up to its cap + 1, and the newest id."""

    views: dict[str, int]
    matching: int = 0
    newest: int = 0


def page_counts(scope: Scope, matching: QuerySet[Order], *, cap: int = 10_000, tabs: bool = True) -> Counts:
    """Everything that a page of the queue counts, in one statement; without `tabs` only what it lists.

    Rows per view are kept for some seconds per scope.
    """
    where = repr([None if codes is None else sorted(codes) for codes in (scope.channels, scope.warehouses)])
    key = f"orders:counts:{hashlib.sha256(where.encode()).hexdigest()[:32]}"
    kept: dict[str, int] | None = {}
    if tabs:
        kept = cache.get(key)
    moment = now()
    figures: dict[str, tuple[str, QuerySet[Order, Any]]] = {}
    if kept is None:
        for view in VIEWS.values():
            if view.key != "all":
                rows = within(scope).filter(view.where(moment)).order_by().values_list(Value(1))
                figures[view.key] = "COUNT(*)", rows[: COUNT_CAP + 1]
    figures["matching"] = "COUNT(*)", matching.order_by().values_list(Value(1))[: cap + 1]
    figures["newest"] = "MAX(id)", within(scope).order_by("-id").values_list("id")[:1]
    found = _together(figures)
    if kept is None:
        kept = {name: found[name] for name in figures if name in VIEWS}
        cache.set(key, kept, COUNT_SECONDS)
    return Counts(dict(kept), found.get("matching", 0), found.get("newest", 0))


def _together(figures: Mapping[str, tuple[str, QuerySet[Order, Any]]]) -> dict[str, int]:
    """Figures over rows, each an aggregate and its rows, in one statement; no rows give 0."""
    parts: list[str] = []
    parameters: list[Any] = []
    for name, (aggregate, rows) in figures.items():
        try:
            sql, values = rows.query.sql_with_params()
        except EmptyResultSet:  # a scope without any channel or warehouse
            parts.append("0")
            continue
        parts.append(f"(SELECT {aggregate} FROM ({sql}) AS {connection.ops.quote_name(name)})")  # noqa: S608 - built by the ORM
        parameters += values
    if not parts:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(parts)}", parameters)
        row = cursor.fetchone()
    return {name: value or 0 for name, value in zip(figures, row, strict=True)}


def capped_count(orders: QuerySet[Order], cap: int = 10_000) -> int:
    """Rows up to `cap` + 1: above it a screen says "10,000+"."""
    return orders.order_by()[: cap + 1].count()


def for_list(orders: QuerySet[Order]) -> QuerySet[Order]:
    """With lines and where their units are, in a fixed number of queries."""
    return orders.select_related("channel").prefetch_related(
        Prefetch("lines", OrderLine.objects.select_related("sku").order_by("id")),
        Prefetch(
            "lines__allocations",
            Allocation.objects.select_related("reservation__warehouse").order_by("id"),
        ),
    )


def for_api(orders: QuerySet[Order]) -> QuerySet[Order]:
    """With channel and lines; of a line's SKU only its code, as `sku_code`. Where the units are: `row_facts`.

    A page of 100 orders has one object per channel and none per SKU.
    """
    lines = OrderLine.objects.annotate(sku_code=F("sku__code")).order_by("id")
    return orders.prefetch_related("channel", Prefetch("lines", lines))


@dataclass(slots=True)
class RowFacts:
    """What a row of the queue says of its lines: those not wholly cancelled, their units, where units are or were."""

    lines: int = 0
    units: int = 0
    codes: set[str] = field(default_factory=set)


def row_facts(orders: Collection[Order]) -> dict[int, RowFacts]:
    """The facts of each order by id, in one query without an object per line."""
    found = {order.pk: RowFacts() for order in orders}
    held = "allocations__reservation__"
    rows = OrderLine.objects.filter(order__in=list(found)).values_list(
        "order", "pk", "quantity", "cancelled", f"{held}quantity", f"{held}consumed", f"{held}warehouse__code"
    )
    seen = set()
    for order, line, quantity, cancelled, kept, consumed, code in rows.order_by():
        facts = found[order]
        if kept or consumed:
            facts.codes.add(code)
        if line not in seen and quantity > cancelled:
            facts.lines += 1
            facts.units += quantity - cancelled
        seen.add(line)
    return found


def places_of(scope: Scope) -> dict[str, list[tuple[str, str]]]:
    """What the filters of the queue offer: code and name of channels and warehouses inside a scope. One query."""
    sources = (
        ("channels", SalesChannel.objects.filter(scope.q(channel="code"))),
        ("warehouses", Warehouse.objects.filter(scope.q(warehouse="code"), is_active=True)),
    )
    channels, warehouses = (
        rows.order_by().annotate(offer=Value(kind)).values_list("offer", "code", "name")
        for kind, rows in sources
    )
    found: dict[str, list[tuple[str, str]]] = {kind: [] for kind, _ in sources}
    for kind, code, name in channels.union(warehouses, all=True):
        found[kind].append((code, name))
    return {kind: sorted(places, key=lambda place: place[1].casefold()) for kind, places in found.items()}


# --- health -------------------------------------------------------------------------------------

#: every live order is in exactly one bucket: the first whose condition it meets
HEALTH: tuple[tuple[str, str], ...] = (
    ("on_hold", "On hold"),
    ("unmapped", "Unknown SKU"),
    ("late", "Late"),
    ("backorder", "Backorder"),
    ("pending", "Waiting for payment"),
    ("to_route", "To route"),
    ("ready", "Ready to ship"),
)


def health_case(at: dt.datetime) -> Case:
    """SQL expression that names the health bucket of a live order."""
    conditions = {
        "on_hold": Q(holds_open__gt=0),
        "unmapped": Q(unmapped_lines__gt=0),
        "late": Q(ship_by__lt=at) & ~Q(state=State.PENDING),
        "backorder": Q(short_units__gt=0),
        "pending": Q(state=State.PENDING),
        "to_route": Q(state=State.OPEN),
    }
    return Case(
        *(When(conditions[key], then=Value(key)) for key, _ in HEALTH if key in conditions),
        default=Value("ready"),
        output_field=CharField(),
    )


def live_of_ours(orders: QuerySet[Order]) -> QuerySet[Order]:
    """Orders with work left for us; those that a channel ships, and test orders, count nowhere."""
    return orders.filter(state__in=states.LIVE, fulfilled_by=Order.FulfilledBy.US, is_test=False)


def health_counts(scope: Scope, *, at: dt.datetime | None = None) -> dict[str, int]:
    """Live orders of ours per health bucket; the values sum to all of them."""
    from django.db.models import Count

    rows = (
        live_of_ours(within(scope))
        .annotate(health=health_case(at or now()))
        .values_list("health")
        .annotate(n=Count("id"))
        .order_by()
    )
    found = dict(rows)
    return {key: found.get(key, 0) for key, _ in HEALTH}


# --- one order ----------------------------------------------------------------------------------


def open_holds(order: Order) -> QuerySet[Hold]:
    return Hold.objects.filter(order=order, released_at__isnull=True).select_related("line")


def contact_for(order: Order, principal: Any) -> dict[str, Any]:
    """The buyer's data as this principal may see it: whole with the right to personal data, else masked."""
    contact = getattr(order, "contact", None)
    data: dict[str, Any] = (
        dict(contact.data or {}) if contact is not None and contact.erased_at is None else {}
    )
    if can(principal, "pii.view", channel_code=order.channel.code):
        return data
    return mask_contact(data, order)


def told_before(order: Order, principal: Any) -> dict[str, Any]:
    """What the channel told before a person changed the address; empty without the right to personal data."""
    contact = getattr(order, "contact", None)
    if contact is None or contact.erased_at is not None or not contact.told:
        return {}
    return dict(contact.told) if can(principal, "pii.view", channel_code=order.channel.code) else {}


MASK = "•••"


def mask_contact(data: Mapping[str, Any], order: Order) -> dict[str, Any]:
    """Short name, city, region and country stay; street, e-mail, phone and note are hidden."""
    shown: dict[str, Any] = {name: MASK for name, value in data.items() if value}
    if data:
        shown |= {
            "name": order.ship_name,
            "city": order.ship_city,
            "region": order.ship_region,
            "country": order.ship_country,
            "postal_code": order.ship_postal[:3] + MASK if order.ship_postal else "",
            "residential": order.residential,
        }
    return shown
