"""What every played platform has in common: a catalogue, stock per location, orders and what became of them.

All state is dataclasses of plain values so that a snapshot is JSON. Money is a decimal text, times are seconds since
1970, quantities are integers. A buyer's sale lowers the shop's own stock first, as on the real platforms; a sale that
the listed stock cannot carry is lost and counted.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from channels.sandbox.http import Answer
    from channels.sandbox.world import World

VOLATILE = {"volatile": True}  # dataclass fields that a snapshot leaves out


class SandboxError(Exception):
    """A request to the control API that cannot be done; the text says why and what to send instead."""


@dataclass
class Location:
    id: str
    name: str
    address1: str = "1 Dock Road"
    city: str = "Reno"
    province_code: str = "NV"
    zip: str = "89502"
    country_code: str = "US"
    active: bool = True


@dataclass
class Stock:
    available: int = 0
    committed: int = 0  # sold, not yet fulfilled
    updated_at: float = 0.0


@dataclass
class Item:
    number: int
    sku: str
    title: str
    price: str
    created_at: float
    updated_at: float
    barcode: str = ""
    vendor: str = "House brand"
    product_type: str = "PRODUCT"
    weight_g: int = 500
    tracked: bool = True
    requires_shipping: bool = True
    bundle: bool = False
    stock: dict[str, Stock] = field(default_factory=dict)  # by location id
    physical: dict[str, int] = field(default_factory=dict)  # real units that one sale of this item takes
    asin: str = ""
    fnsku: str = ""
    fba: dict[str, int] | None = None  # the channel's own warehouse, when the channel ships this item
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Line:
    id: str
    sku: str
    title: str
    quantity: int
    price: str
    tax: str = "0.00"  # of the whole line
    discount: str = "0.00"  # of the whole line
    fulfilled: int = 0
    cancelled: int = 0  # taken off before it was fulfilled
    refunded: int = 0  # taken off after that, or refunded without restock
    cancel_request: str = ""
    cancel_reason: str = ""

    @property
    def current(self) -> int:
        return self.quantity - self.cancelled - self.refunded

    @property
    def open(self) -> int:
        return self.quantity - self.cancelled - self.fulfilled


@dataclass
class Assignment:
    """The part of an order that one location has to fulfil."""

    id: str
    location_id: str
    total: dict[str, int]  # by line id
    remaining: dict[str, int]
    updated_at: float = 0.0
    cancelled: bool = False
    hold: str = ""

    @property
    def is_open(self) -> bool:
        return not self.cancelled and any(self.remaining.values())


@dataclass
class Fulfilment:
    id: str
    at: float
    updated_at: float
    location_id: str
    lines: dict[str, int]  # units by line id
    assignments: list[str]
    carrier: str = ""
    tracking: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    service: str = ""
    reference: str = ""  # the seller's own package number, where the platform has one
    ship_time: float = 0.0
    status: str = "SUCCESS"
    notified: bool = False


@dataclass
class RefundLine:
    line_id: str
    quantity: int
    restock: str
    location_id: str = ""
    amount: str = "0.00"


@dataclass
class Refund:
    id: str
    at: float
    lines: list[RefundLine]
    amount: str
    shipping: str = "0.00"
    note: str = ""
    reason: str = ""


@dataclass
class ReturnLine:
    id: str
    line_id: str
    fulfilment_id: str
    quantity: int
    reason: str = "UNKNOWN"
    note: str = ""


@dataclass
class Return:
    id: str
    name: str
    at: float
    lines: list[ReturnLine]
    status: str = "OPEN"
    closed_at: float = 0.0


@dataclass
class Order:
    id: str
    number: int
    name: str
    created_at: float
    updated_at: float
    currency: str
    lines: list[Line]
    address: dict[str, str] = field(default_factory=dict)
    email: str = ""
    phone: str = ""
    payment: str = "paid"  # paid, pending, authorized, expired, voided
    test: bool = False
    note: str = ""
    tags: list[str] = field(default_factory=list)
    risk: str = "low"  # low, medium, high
    shipping_title: str = "Standard"
    shipping_price: str = "0.00"
    service_level: str = "STANDARD"
    prime: bool = False
    business: bool = False
    fulfilled_by: str = "merchant"  # or "channel": the platform ships it from its own warehouse
    ship_by: float = 0.0
    deliver_by: float = 0.0
    cancelled_at: float = 0.0
    cancel_reason: str = ""
    closed_at: float = 0.0
    delivered_at: float = 0.0
    edited: bool = False
    assignments: list[Assignment] = field(default_factory=list)
    fulfilments: list[Fulfilment] = field(default_factory=list)
    refunds: list[Refund] = field(default_factory=list)
    returns: list[Return] = field(default_factory=list)

    def line(self, line_id: str) -> Line:
        for line in self.lines:
            if line.id == line_id:
                return line
        raise KeyError(line_id)

    @property
    def refunded_amount(self) -> Decimal:
        return sum((Decimal(refund.amount) for refund in self.refunds), Decimal(0))

    @property
    def goods(self) -> Decimal:
        return sum(
            (Decimal(line.price) * line.quantity - Decimal(line.discount) for line in self.lines), Decimal(0)
        )

    @property
    def tax(self) -> Decimal:
        return sum((Decimal(line.tax) for line in self.lines), Decimal(0))

    @property
    def total(self) -> Decimal:
        return self.goods + self.tax + Decimal(self.shipping_price)


@dataclass
class Faults:
    """What goes wrong, as shares of requests from 0 to 1 and as milliseconds. All zero: a perfect day."""

    latency_ms: int = 0
    jitter_ms: int = 0
    error_500_rate: float = 0.0  # nothing happened, answer 500
    throttle_rate: float = 0.0  # nothing happened, the platform's own throttling answer
    timeout_rate: float = 0.0  # it happened, but the answer never comes
    drop_rate: float = 0.0  # nothing happened and no answer comes
    hang_ms: int = 0  # how long an unanswered connection stays open before it is closed
    outage_until: float = 0.0  # 503 for everything until then
    only: list[str] = field(default_factory=list)  # operations the rates apply to; empty = all
    webhook_loss_rate: float = 0.0
    webhook_duplicate_rate: float = 0.0
    webhook_delay_ms: int = 0
    webhook_shuffle_ms: int = 0  # each message waits a random part of this: late and out of order


@dataclass
class Planned:
    """One fault on purpose, for the next calls of one operation.

    Kinds: `timeout` (it happens, no answer), `drop` (nothing happens, no answer), `error_500` (nothing happens),
    `error_500_after` (it happens, answer 500), `throttle`, `user_error` (the platform's refusal `code`).
    """

    kind: str
    operation: str = ""  # empty = any
    times: int = 1
    code: str = ""


PLANNED_KINDS = ("timeout", "drop", "error_500", "error_500_after", "throttle", "user_error")


@dataclass(slots=True)
class LogEntry:
    number: int
    at: float
    operation: str
    method: str
    target: str
    status: int
    fault: str
    milliseconds: float
    request: bytes
    answer: bytes


@dataclass
class Shop:
    """One store or seller account. Subclasses play a platform and announce changes in its own way."""

    id: str
    kind: str
    name: str
    currency: str
    created_at: float
    seed: int = 1
    credentials: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    locations: dict[str, Location] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)  # by SKU
    orders: dict[str, Order] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    planned: list[Planned] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)  # requests by operation
    owners: dict[str, str] = field(
        default_factory=dict
    )  # order id by the id of its part, package, refund, return
    sold: dict[str, int] = field(default_factory=dict)  # real units the merchant has to ship, by real SKU
    world: World = field(default=None, repr=False, metadata=VOLATILE)  # type: ignore[assignment]
    numbers: dict[int, Item] = field(default_factory=dict, repr=False, metadata=VOLATILE)  # items by number
    log: deque[LogEntry] = field(default_factory=lambda: deque(maxlen=5000), repr=False, metadata=VOLATILE)
    dice: random.Random = field(default_factory=random.Random, repr=False, metadata=VOLATILE)
    forced: str = field(default="", metadata=VOLATILE)  # refusal code planned for the call in hand

    def open_shop(self, world: World) -> None:
        """Bind the shop to its world; the dice are seeded so that a run can be repeated."""
        self.world = world
        self.dice = random.Random(f"{self.seed}:{self.id}")
        self.numbers = {item.number: item for item in self.items.values()}

    # --- to be played by the platform --------------------------------------------------------------
    @property
    def hosts(self) -> list[str]:
        raise NotImplementedError

    def new_order_identity(self) -> tuple[str, int, str]:
        """(id, number, name) of the next order."""
        raise NotImplementedError

    def announce(self, event: str, order: Order, **facts: Any) -> None:
        """Tell subscribers of an event: created, paid, updated, edited, cancelled, fulfilled, refunded, return."""
        raise NotImplementedError

    def announce_stock(self, item: Item, location_id: str) -> None:
        raise NotImplementedError

    def throttled(self, operation: str) -> Answer:
        raise NotImplementedError

    def failure(self, status: int) -> Answer:
        raise NotImplementedError

    def expire_tokens(self) -> int:
        """Make every access token invalid now; returns how many there were."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """What a client needs to connect."""
        raise NotImplementedError

    # --- catalogue ---------------------------------------------------------------------------------
    def add_item(self, spec: dict[str, Any]) -> Item:
        """Add one catalogue entry: {sku, title, price, stock: int | {location: int}, physical, fba, …}."""
        sku = spec.get("sku")
        if not isinstance(sku, str) or not sku:
            raise SandboxError("Each catalogue entry needs a sku (text).")
        if sku in self.items:
            raise SandboxError(f"The SKU {sku} is already in the catalogue of {self.id}.")
        now = self.world.now()
        number = self.world.serial("item")
        item = Item(
            number=number,
            sku=sku,
            title=str(spec.get("title") or sku),
            price=money_text(spec.get("price", "10.00")),
            created_at=now,
            updated_at=now,
            barcode=str(spec.get("barcode", "")),
            vendor=str(spec.get("vendor", "House brand")),
            product_type=str(spec.get("product_type", "PRODUCT")),
            weight_g=int(spec.get("weight_g", 500)),
            tracked=bool(spec.get("tracked", True)),
            requires_shipping=bool(spec.get("requires_shipping", True)),
            bundle=bool(spec.get("bundle", False)),
            physical={str(k): int(v) for k, v in (spec.get("physical") or {sku: 1}).items()},
            asin=str(spec.get("asin") or f"B0{number:08d}"),
            fnsku=str(spec.get("fnsku") or f"X{number:09d}"),
        )
        if spec.get("fba") is not None:
            item.fba = {"fulfillable": int(spec["fba"])}
        else:
            asked = spec.get("stock", 0)
            if not isinstance(asked, dict):
                asked = {next(iter(self.locations)): asked}
            for place, quantity in asked.items():
                item.stock[self.location_id(str(place))] = Stock(int(quantity), 0, now)
        self.items[sku] = self.numbers[number] = item
        return item

    def location_id(self, text: str) -> str:
        """The id of a location given by id or name. Raises SandboxError."""
        if text in self.locations:
            return text
        for location in self.locations.values():
            if location.name == text:
                return location.id
        raise SandboxError(
            f"{self.id} has no location {text}; it has {', '.join(one.name for one in self.locations.values())}."
        )

    def item(self, sku: str) -> Item:
        if sku not in self.items:
            raise SandboxError(f"{self.id} has no SKU {sku}.")
        return self.items[sku]

    def set_stock(self, sku: str, quantity: int, location: str = "") -> None:
        """A person edits the figure on the channel itself."""
        item = self.item(sku)
        now = self.world.now()
        if item.fba is not None:
            item.fba["fulfillable"] = quantity
            item.updated_at = now
            self.announce_stock(item, "")
            return
        where = self.location_id(location) if location else next(iter(item.stock), next(iter(self.locations)))
        stock = item.stock.setdefault(where, Stock())
        stock.available, stock.updated_at = quantity, now
        self.announce_stock(item, where)

    def order(self, order_id: str) -> Order:
        found = self.orders.get(order_id)
        if found is None:
            found = next(
                (o for o in self.orders.values() if o.name == order_id or str(o.number) == order_id), None
            )
        if found is None:
            raise SandboxError(f"{self.id} has no order {order_id}.")
        return found

    def count(self, what: str, by: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + by

    # --- buying ------------------------------------------------------------------------------------
    def place(self, spec: dict[str, Any]) -> Order | str:
        """A buyer checks out. Returns the order, or the reason (text) why the sale was lost.

        `spec`: lines [{sku, quantity, price?, tax?, discount?}], address, email, phone, payment, risk, prime, business,
        test, note, tags, shipping_title, shipping_price, service_level, ship_by_hours, force (sell beyond the listed
        stock).
        """
        asked = spec.get("lines")
        if not isinstance(asked, list) or not asked:
            raise SandboxError("An order needs lines: [{sku, quantity}].")
        wanted: dict[str, int] = {}
        for entry in asked:
            quantity = entry.get("quantity", 1)
            if not isinstance(quantity, int) or quantity < 1:
                raise SandboxError(f"The quantity of {entry.get('sku')} must be a whole number above 0.")
            self.item(entry.get("sku", ""))
            wanted[entry["sku"]] = wanted.get(entry["sku"], 0) + quantity
        ours = [sku for sku in wanted if self.items[sku].fba is None]
        if ours and len(ours) != len(wanted):
            raise SandboxError(
                "One order cannot hold items shipped by the channel and items shipped by the merchant."
            )
        by_channel = not ours
        plan = self._plan(wanted, bool(spec.get("force")))
        if plan is None:
            self.count("lost_sales")
            self.count("lost_units", sum(wanted.values()))
            return "not enough listed stock"
        return self._book(spec, asked, wanted, plan, by_channel)

    def _plan(self, wanted: dict[str, int], force: bool) -> dict[str, dict[str, int]] | None:
        """Units by location and SKU: one location for all if there is one, else split; None when stock is short."""
        if any(self.items[sku].fba is not None for sku in wanted):
            short = [s for s, q in wanted.items() if (self.items[s].fba or {}).get("fulfillable", 0) < q]
            return {"": dict(wanted)} if force or not short else None
        places = [location.id for location in self.locations.values() if location.active]

        def has(place: str, sku: str) -> int:
            item = self.items[sku]
            if not item.tracked:
                return wanted[sku]
            return max(0, item.stock[place].available) if place in item.stock else 0

        for place in places:
            if all(has(place, sku) >= quantity for sku, quantity in wanted.items()):
                return {place: dict(wanted)}
        plan: dict[str, dict[str, int]] = {}
        for sku, quantity in wanted.items():
            for place in places:
                take = min(quantity, has(place, sku))
                if take:
                    plan.setdefault(place, {})[sku] = take
                    quantity -= take
            if quantity and not force:
                return None
            if quantity:
                share = plan.setdefault(places[0], {})
                share[sku] = share.get(sku, 0) + quantity
        return plan

    def _book(
        self,
        spec: dict[str, Any],
        asked: list[dict[str, Any]],
        wanted: dict[str, int],
        plan: dict[str, dict[str, int]],
        by_channel: bool,
    ) -> Order:
        now = self.world.now()
        identity, number, name = self.new_order_identity()
        lines = [
            Line(
                id=str(self.world.serial("line")),
                sku=entry["sku"],
                title=self.items[entry["sku"]].title,
                quantity=entry.get("quantity", 1),
                price=money_text(entry.get("price", self.items[entry["sku"]].price)),
                tax=money_text(entry.get("tax", "0.00")),
                discount=money_text(entry.get("discount", "0.00")),
            )
            for entry in asked
        ]
        order = Order(
            id=identity,
            number=number,
            name=name,
            created_at=now,
            updated_at=now,
            currency=str(spec.get("currency", self.currency)),
            lines=lines,
            address={str(k): str(v) for k, v in (spec.get("address") or {}).items()},
            email=str(spec.get("email", "")),
            phone=str(spec.get("phone", "")),
            payment=str(spec.get("payment", "paid")),
            test=bool(spec.get("test", False)),
            note=str(spec.get("note", "")),
            tags=[str(tag) for tag in spec.get("tags", [])],
            risk=str(spec.get("risk", "low")),
            shipping_title=str(spec.get("shipping_title", "Standard")),
            shipping_price=money_text(spec.get("shipping_price", "0.00")),
            service_level=str(spec.get("service_level", "STANDARD")),
            prime=bool(spec.get("prime", False)),
            business=bool(spec.get("business", False)),
            fulfilled_by="channel" if by_channel else "merchant",
            ship_by=now + 3600 * float(spec.get("ship_by_hours", 48)),
            deliver_by=now + 3600 * float(spec.get("deliver_by_hours", 144)),
        )
        for place, shares in plan.items():
            total: dict[str, int] = {}
            left = dict(shares)
            for line in lines:
                done = sum(assignment.total.get(line.id, 0) for assignment in order.assignments)
                take = min(line.quantity - done, left.get(line.sku, 0))
                if take > 0:
                    total[line.id] = take
                    left[line.sku] -= take
            order.assignments.append(
                Assignment(str(self.world.serial("assignment")), place, total, dict(total), now)
            )
        for place, shares in plan.items():
            for sku, quantity in shares.items():
                item = self.items[sku]
                if by_channel:
                    assert item.fba is not None
                    item.fba["fulfillable"] = item.fba.get("fulfillable", 0) - quantity
                    item.fba["pending_order"] = item.fba.get("pending_order", 0) + quantity
                    item.updated_at = now
                else:
                    stock = item.stock.setdefault(place, Stock())
                    stock.available -= quantity
                    stock.committed += quantity
                    stock.updated_at = now
        self._sold(wanted, by_channel, 1)
        self.orders[order.id] = order
        for assignment in order.assignments:
            self.owners[assignment.id] = order.id
        self.count("orders")
        self.count("units", sum(wanted.values()))
        self.announce("created", order)
        for place, shares in plan.items():
            for sku in shares:
                self.announce_stock(self.items[sku], place)
        return order

    def _sold(self, units: dict[str, int], by_channel: bool, sign: int) -> None:
        if by_channel:
            return
        for sku, quantity in units.items():
            for real, each in self.items[sku].physical.items():
                self.sold[real] = self.sold.get(real, 0) + sign * each * quantity

    # --- what becomes of an order ------------------------------------------------------------------
    def touch(self, order: Order) -> None:
        order.updated_at = self.world.now()

    def pay(self, order: Order) -> None:
        """The money of a pending order arrives."""
        if order.payment == "paid" or order.cancelled_at:
            raise SandboxError(f"Order {order.name} is not waiting for payment.")
        order.payment = "paid"
        self.touch(order)
        self.announce("paid", order)

    def take_off(
        self, order: Order, line: Line, quantity: int, *, restock: bool, only: Assignment | None = None
    ) -> None:
        """Remove units that are not yet fulfilled; `restock` puts them back to the shop's available stock."""
        left = quantity
        for assignment in [only] if only else order.assignments:
            take = min(left, assignment.remaining.get(line.id, 0))
            if not take:
                continue
            assignment.remaining[line.id] -= take
            assignment.updated_at = self.world.now()
            left -= take
            item = self.items[line.sku]
            if item.fba is not None:
                item.fba["pending_order"] = item.fba.get("pending_order", 0) - take
                item.fba["fulfillable"] = item.fba.get("fulfillable", 0) + take
                item.updated_at = self.world.now()
            elif assignment.location_id in item.stock:
                stock = item.stock[assignment.location_id]
                stock.committed -= take
                if restock:
                    stock.available += take
                stock.updated_at = self.world.now()
            self.announce_stock(item, assignment.location_id)
        taken = quantity - left
        line.cancelled += taken
        self._sold({line.sku: taken}, order.fulfilled_by == "channel", -1)

    def cancel(self, order: Order, reason: str, *, restock: bool, by: str) -> None:
        """Cancel everything that is not fulfilled yet."""
        for line in order.lines:
            if line.open:
                line.cancel_reason = reason
                self.take_off(order, line, line.open, restock=restock)
        for assignment in order.assignments:
            assignment.cancelled = True
        order.cancelled_at = self.world.now()
        order.cancel_reason = reason
        self.touch(order)
        self.count(f"cancelled_by_{by}")
        self.announce("cancelled", order)

    def fulfil(self, order: Order, parts: dict[str, dict[str, int]], fulfilment: Fulfilment) -> None:
        """Ship units by assignment id and line id; stock leaves `committed`."""
        for assignment in order.assignments:
            for line_id, quantity in parts.get(assignment.id, {}).items():
                assignment.remaining[line_id] -= quantity
                assignment.updated_at = fulfilment.at
                line = order.line(line_id)
                line.fulfilled += quantity
                item = self.items[line.sku]
                if item.fba is not None:
                    item.fba["pending_order"] = item.fba.get("pending_order", 0) - quantity
                    item.updated_at = fulfilment.at
                elif assignment.location_id in item.stock:
                    stock = item.stock[assignment.location_id]
                    stock.committed -= quantity
                    stock.updated_at = fulfilment.at
        order.fulfilments.append(fulfilment)
        self.owners[fulfilment.id] = order.id
        self.touch(order)
        self.count("fulfilments")
        self.announce("fulfilled", order, fulfilment=fulfilment)

    def add_refund(self, order: Order, refund: Refund) -> None:
        order.refunds.append(refund)
        self.owners[refund.id] = order.id
        self.touch(order)
        self.count("refunds")
        self.announce("refunded", order, refund=refund)

    def request_cancel(self, order: Order, reason: str) -> None:
        """The buyer asks for a cancellation; nothing happens until the merchant agrees."""
        for line in order.lines:
            if line.open:
                line.cancel_request = reason
        self.touch(order)
        self.announce("cancel_requested", order)

    def edit(self, order: Order, changes: list[dict[str, Any]]) -> None:
        """The order is edited on the channel: [{line_id | sku, quantity}]; more units must be in listed stock."""
        for change in changes:
            quantity = int(change["quantity"])
            found = [x for x in order.lines if x.id == change.get("line_id") or x.sku == change.get("sku")]
            if found:
                line = found[0]
                step = quantity - line.current
                if step < 0:
                    self.take_off(order, line, min(-step, line.open), restock=True)
                    continue
            else:
                item = self.item(str(change.get("sku", "")))
                line = Line(str(self.world.serial("line")), item.sku, item.title, 0, item.price)
                step = quantity
            if step > 0:
                plan = self._plan({line.sku: step}, False)
                if plan is None:
                    raise SandboxError(f"Not enough listed stock of {line.sku} to add {step}.")
                if not found:
                    order.lines.append(line)
                line.quantity += step
                for place, shares in plan.items():
                    stock = self.items[line.sku].stock[place]
                    stock.available -= shares[line.sku]
                    stock.committed += shares[line.sku]
                    stock.updated_at = self.world.now()
                    same = [a for a in order.assignments if a.location_id == place and not a.cancelled]
                    if same:
                        for amounts in (same[0].total, same[0].remaining):
                            amounts[line.id] = amounts.get(line.id, 0) + shares[line.sku]
                    else:
                        share = {line.id: shares[line.sku]}
                        number = str(self.world.serial("assignment"))
                        self.owners[number] = order.id
                        order.assignments.append(
                            Assignment(number, place, share, dict(share), self.world.now())
                        )
                    self.announce_stock(self.items[line.sku], place)
                self._sold({line.sku: step}, False, 1)
        order.edited = True
        self.touch(order)
        self.announce("edited", order)

    def deliver(self, order: Order) -> None:
        """The parcels reach the buyer."""
        order.delivered_at = self.world.now()
        self.touch(order)
        self.announce("updated", order)

    def change_address(self, order: Order, address: dict[str, Any]) -> None:
        order.address.update({str(k): str(v) for k, v in address.items()})
        self.touch(order)
        self.announce("updated", order)

    def start_return(
        self, order: Order, lines: list[dict[str, Any]], reason: str, note: str, status: str
    ) -> Return:
        """The buyer sends goods back: [{line_id | sku, quantity}] of fulfilled units."""
        found: list[ReturnLine] = []
        for entry in lines:
            same = [x for x in order.lines if x.id == entry.get("line_id") or x.sku == entry.get("sku")]
            if not same:
                raise SandboxError(
                    f"Order {order.name} has no line {entry.get('line_id') or entry.get('sku')}."
                )
            line, quantity = same[0], int(entry.get("quantity", 1))
            before = sum(x.quantity for r in order.returns for x in r.lines if x.line_id == line.id)
            if quantity < 1 or quantity > line.fulfilled - before:
                raise SandboxError(f"Line {line.id} has {line.fulfilled - before} units that can come back.")
            shipped = next(f for f in order.fulfilments if line.id in f.lines)
            found.append(
                ReturnLine(str(self.world.serial("return_line")), line.id, shipped.id, quantity, reason, note)
            )
        number = str(self.world.serial("return"))
        back = Return(number, f"{order.name}-R{len(order.returns) + 1}", self.world.now(), found, status)
        order.returns.append(back)
        self.owners[back.id] = order.id
        self.touch(order)
        self.announce("return", order, back=back)
        return back

    # --- faults ------------------------------------------------------------------------------------
    def take_planned(self, operation: str) -> Planned | None:
        for planned in self.planned:
            if not planned.operation or planned.operation == operation:
                planned.times -= 1
                if planned.times <= 0:
                    self.planned.remove(planned)
                return planned
        return None

    def roll_fault(self, operation: str) -> str:
        """The fault that strikes this request by its rates, or an empty text."""
        faults = self.faults
        if faults.outage_until > self.world.now():
            return "outage"
        if faults.only and operation not in faults.only:
            return ""
        rates = (
            ("error_500", faults.error_500_rate),
            ("throttle", faults.throttle_rate),
            ("timeout", faults.timeout_rate),
            ("drop", faults.drop_rate),
        )
        if not any(rate for _, rate in rates):
            return ""
        roll = self.dice.random()
        for kind, rate in rates:
            if roll < rate:
                return kind
            roll -= rate
        return ""


def money_text(value: Any) -> str:
    """A decimal text with at least two places. Raises SandboxError on anything that is not an amount."""
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise SandboxError(f'{value!r} is not an amount of money; send a text such as "19.90".') from None
    exponent = amount.as_tuple().exponent
    return str(amount if isinstance(exponent, int) and exponent <= -2 else amount.quantize(Decimal("0.01")))
