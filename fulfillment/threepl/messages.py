"""What a 3PL may tell us, read strictly: every problem is a sentence that names the field. Pure."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from oms.core.errors import UserError

T = TypeVar("T")
MAX_QUANTITY = 1_000_000
MAX_LINES = 2000
MAX_LEVELS = 100_000
#: control characters and marks that turn text around
_HOSTILE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


@dataclass(frozen=True)
class Status:
    """accepted, refused, cancelled (units or, without lines, everything), too_late (a cancellation refused)."""

    reference: str
    status: str
    external_id: str = ""
    reason: str = ""
    cancel_key: str = ""


@dataclass(frozen=True)
class Item:
    """Units by our line number, or by SKU code where the 3PL names none."""

    quantity: int
    sku: str = ""
    line: int | None = None


@dataclass(frozen=True)
class Box:
    items: tuple[Item, ...]
    carrier: str = ""
    service: str = ""
    tracking: str = ""
    weight_g: int | None = None
    cost: Decimal | None = None
    currency: str = ""


@dataclass(frozen=True)
class Shipped:
    reference: str
    external_id: str
    left_at: dt.datetime
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Adjusted:
    external_id: str
    sku: str
    quantity: int
    reason: str
    at: dt.datetime


@dataclass(frozen=True)
class Figure:
    sku: str
    on_hand: int
    damaged: int = 0


@dataclass(frozen=True)
class Snapshot:
    external_id: str
    taken_at: dt.datetime
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Charged:
    """What they charge for an order beside the label; negative for a credit. `shipment_id` where it is one of many."""

    reference: str
    external_id: str
    kind: str
    amount: Decimal
    currency: str
    at: dt.datetime
    shipment_id: str = ""


@dataclass(frozen=True)
class ReceivedLine:
    """Units of one line of an expected delivery that arrived, by state."""

    good: int
    damaged: int = 0
    quarantine: int = 0
    sku: str = ""
    line: int | None = None
    lot: str = ""
    expires_on: dt.date | None = None

    @property
    def units(self) -> int:
        return self.good + self.damaged + self.quarantine

    def with_units(self, good: int, damaged: int, quarantine: int) -> ReceivedLine:
        return replace(self, good=good, damaged=damaged, quarantine=quarantine)


@dataclass(frozen=True)
class Received:
    """Goods that arrived there; `complete` when they expect nothing more of it."""

    reference: str
    external_id: str
    received_at: dt.datetime
    lines: tuple[ReceivedLine, ...]
    complete: bool = False


Message = Status | Shipped | Adjusted | Snapshot | Charged | Received
STATUSES = ("accepted", "refused", "cancelled", "too_late")
TOPICS = (
    "order.status", "shipment.created", "shipment.charged", "inbound.received", "inventory.adjusted",
    "inventory.snapshot",
)  # fmt: skip


class Misread(UserError):
    """What is wrong inside a list: `path` leads from the message to it (`parcels.0.lines.1.quantity`)."""

    def __init__(self, message: str, *, field: str, path: str) -> None:
        super().__init__(message, field=field)
        self.path = path


def path_of(error: UserError) -> str:
    """Where in the message the problem is."""
    return error.path if isinstance(error, Misread) else error.field


def clean(value: Any, field: str, *, limit: int = 80, required: bool = True) -> str:
    """Text without control characters. Raises `UserError`."""
    if value is None:
        value = ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(f"{field}: must be text.", field=field)
    text = _HOSTILE.sub("", str(value)).strip()
    if required and not text:
        raise UserError(f"{field}: is missing.", field=field)
    if len(text) > limit:
        raise UserError(f"{field}: has {len(text)} characters; at most {limit} are allowed.", field=field)
    return text


def whole(value: Any, field: str, *, low: int, high: int = MAX_QUANTITY) -> int:
    """A whole number, given as one or as its digits. Raises `UserError`."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,9}", value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{field}: '{str(value)[:40]}' is not a whole number.", field=field)
    if not low <= value <= high:
        raise UserError(f"{field}: {value} is not between {low} and {high}.", field=field)
    return value


def moment(value: Any, field: str, at: dt.datetime) -> dt.datetime:
    """A time with its zone, at most five minutes ahead of `at`. Raises `UserError`."""
    try:
        found = dt.datetime.fromisoformat(clean(value, field, limit=40).replace("Z", "+00:00"))
    except ValueError:
        raise UserError(
            f"{field}: '{str(value)[:40]}' is not a time like 2026-11-20T14:05:00+00:00.", field=field
        ) from None
    if found.tzinfo is None:
        raise UserError(f"{field}: the time needs its zone, like +00:00.", field=field)
    if found > at + dt.timedelta(minutes=5):
        raise UserError(f"{field}: {found.isoformat()} is in the future.", field=field)
    return min(found, at)


def day(value: Any, field: str) -> dt.date | None:
    """A date like 2027-03-31, None when empty. Raises `UserError`."""
    text = clean(value, field, limit=10, required=False)
    try:
        return dt.date.fromisoformat(text) if text else None
    except ValueError:
        raise UserError(f"{field}: '{text}' is not a date like 2027-03-31.", field=field) from None


def amount(value: Any, field: str, *, low: int = 0) -> Decimal:
    """Money with at most four decimals, as a number or its digits. Raises `UserError`."""
    text = clean(value, field, limit=20)
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite() or not re.fullmatch(r"-?[0-9]{1,7}(\.[0-9]{1,4})?", text):
        raise UserError(f"{field}: '{text}' is not an amount like 12.50.", field=field)
    if found < low:
        raise UserError(f"{field}: {text} is below {low}.", field=field)
    return found


def currency(value: Any, field: str) -> str:
    """A code of three letters. Raises `UserError`."""
    code = clean(value, field, limit=3).upper()
    if not re.fullmatch("[A-Z]{3}", code):
        raise UserError(f"{field}: '{code}' is not a currency like USD.", field=field)
    return code


def _yes(value: Any, field: str) -> bool:
    if isinstance(value, bool):
        return value
    text = clean(value, field, limit=5, required=False).lower()
    if text not in ("", "0", "1", "no", "yes", "false", "true"):
        raise UserError(f"{field}: '{text}' is neither yes nor no.", field=field)
    return text in ("1", "yes", "true")


def _rows(value: Any, field: str, limit: int) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
        raise UserError(f"{field}: must be a list with at least one entry.", field=field)
    if len(value) > limit:
        raise UserError(f"{field}: has {len(value)} entries; at most {limit} are allowed.", field=field)
    return value


def _each(value: Any, field: str, limit: int, make: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
    for number, row in enumerate(_rows(value, field, limit)):
        try:
            made = make(row)
        except UserError as error:
            raise Misread(
                error.message, field=error.field, path=f"{field}.{number}.{path_of(error)}"
            ) from None
        yield made


def read(topic: str, body: Mapping[str, Any], at: dt.datetime) -> Message:
    """A message as the books take it. Raises `UserError`."""
    if topic == "order.status":
        status = clean(body.get("status"), "status", limit=20)
        if status not in STATUSES:
            raise UserError(f"status: '{status}' is unknown; use {', '.join(STATUSES)}.", field="status")
        return Status(
            clean(body.get("reference"), "reference"),
            status,
            clean(body.get("order_id"), "order_id", required=False),
            clean(body.get("reason"), "reason", limit=200, required=False),
            clean(body.get("cancel_key"), "cancel_key", required=False),
        )
    if topic == "shipment.created":
        return Shipped(
            clean(body.get("reference"), "reference"),
            clean(body.get("shipment_id"), "shipment_id"),
            moment(body.get("shipped_at"), "shipped_at", at),
            tuple(_each(body.get("parcels"), "parcels", 100, _box)),
        )
    if topic == "shipment.charged":
        return Charged(
            clean(body.get("reference"), "reference"),
            clean(body.get("charge_id"), "charge_id", limit=60),
            clean(body.get("kind"), "kind", limit=40),
            amount(body.get("amount"), "amount", low=-MAX_QUANTITY),
            currency(body.get("currency"), "currency"),
            moment(body.get("charged_at"), "charged_at", at),
            clean(body.get("shipment_id"), "shipment_id", required=False),
        )
    if topic == "inbound.received":
        return Received(
            clean(body.get("reference"), "reference"),
            clean(body.get("receipt_id"), "receipt_id", limit=60),
            moment(body.get("received_at"), "received_at", at),
            tuple(_each(body.get("lines"), "lines", MAX_LINES, _received)),
            _yes(body.get("complete"), "complete"),
        )
    if topic == "inventory.adjusted":
        quantity = whole(body.get("quantity"), "quantity", low=-MAX_QUANTITY)
        if not quantity:
            raise UserError("quantity: an adjustment changes at least one unit.", field="quantity")
        return Adjusted(
            clean(body.get("adjustment_id"), "adjustment_id", limit=60),
            clean(body.get("sku"), "sku"),
            quantity,
            clean(body.get("reason"), "reason", limit=50),
            moment(body.get("adjusted_at"), "adjusted_at", at),
        )
    if topic == "inventory.snapshot":
        return Snapshot(
            clean(body.get("snapshot_id"), "snapshot_id", limit=60),
            moment(body.get("taken_at"), "taken_at", at),
            _figures(body.get("levels")),
        )
    raise UserError(f"topic: '{topic[:40]}' is unknown; use {', '.join(TOPICS)}.", field="topic")


def _item(row: Mapping[str, Any]) -> Item:
    line = row.get("line")
    number = None if line in (None, "") else whole(line, "line", low=1, high=32_000)
    quantity = whole(row.get("quantity"), "quantity", low=1)
    return Item(quantity, clean(row.get("sku"), "sku", required=number is None), number)


def _box(row: Mapping[str, Any]) -> Box:
    items = tuple(_each(row.get("lines"), "lines", MAX_LINES, _item))
    weight, cost = row.get("weight_g"), row.get("cost")
    priced = cost not in (None, "")
    return Box(
        items,
        clean(row.get("carrier"), "carrier", required=False),
        clean(row.get("service"), "service", limit=40, required=False),
        clean(row.get("tracking"), "tracking", required=False),
        None if weight in (None, "") else whole(weight, "weight_g", low=1, high=10_000_000),
        amount(cost, "cost") if priced else None,
        currency(row.get("currency"), "currency") if priced else "",
    )


def _received(row: Mapping[str, Any]) -> ReceivedLine:
    line = row.get("line")
    number = None if line in (None, "") else whole(line, "line", low=1, high=32_000)
    good, damaged, quarantine = (
        whole(row.get(name) or 0, name, low=0) for name in ("good", "damaged", "quarantine")
    )
    found = ReceivedLine(
        good,
        damaged,
        quarantine,
        clean(row.get("sku"), "sku", required=number is None),
        number,
        clean(row.get("lot"), "lot", limit=60, required=False),
        day(row.get("expires_on"), "expires_on"),
    )
    if not found.units:
        raise UserError("good: a line of a receipt has at least one unit.", field="good")
    return found


def _figures(rows: Any) -> tuple[Figure, ...]:
    found: dict[str, Figure] = {}

    def one(row: Mapping[str, Any]) -> Figure:
        figure = Figure(
            clean(row.get("sku"), "sku"),
            whole(row.get("on_hand"), "on_hand", low=0, high=1_000_000_000),
            whole(row.get("damaged") or 0, "damaged", low=0, high=1_000_000_000),
        )
        if figure.damaged > figure.on_hand:
            raise UserError(
                f"damaged: {figure.sku} has {figure.damaged} damaged of {figure.on_hand} on hand.",
                field="damaged",
            )
        if figure.sku.upper() in found:
            raise UserError(f"sku: {figure.sku} is named twice in one snapshot.", field="sku")
        found[figure.sku.upper()] = figure
        return figure

    return tuple(_each(rows, "levels", MAX_LEVELS, one))
